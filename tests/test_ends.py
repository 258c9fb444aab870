"""How a verb ends: by signals, by Ctrl-C, without shared memory; and the exit code that says so."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TIMEOUT
from lab import ENDLESS, SHORT, wait_for

from saigen import exit_codes
from saigen.analysis.claims import Claim, Verification
from saigen.errors import Refusal
from saigen.interruption import interruption_behind
from saigen.runs.folders import find

LONG = (*SHORT, *ENDLESS)


def started(project, log: Path, *arguments: str, ignoring: str = "") -> "subprocess.Popen[bytes]":
    """A verb in a session of its own; `ignoring`: a signal that it inherits as ignored."""
    command = [sys.executable, "-m", "saigen", *arguments]
    if ignoring:
        command = ["bash", "-c", f"trap '' {ignoring}; exec \"$@\"", "bash", *command]
    environment = os.environ | {"PYTHONPATH": str(project.root / "src")}
    with log.open("w") as file:
        return subprocess.Popen(
            command, cwd=project.root, env=environment, stdout=file, stderr=file,
            start_new_session=True,
            preexec_fn=_answer_signals,  # noqa: PLW1509  no thread was started here
        )  # fmt: skip


def _answer_signals() -> None:
    """In a verb, whatever these tests were started by (nohup, a shell's `&`) had ignored."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGHUP, exit_codes.STOPPED, "stopped at a checkpoint after step"),
        (signal.SIGINT, exit_codes.INTERRUPTED, "interrupted; the same command continues"),
    ],
)
def test_a_signal_to_the_whole_group_ends_a_run_with_loader_workers(
    prepared_project, tmp_path, number, code, said
):
    """As a closed terminal and a scheduler send it: the workers get it, too."""
    log = tmp_path / "log"
    process = started(prepared_project, log, "train", *LONG, "hardware.loader_workers=2")
    wait_for(lambda: "step 1/" in log.read_text())
    os.killpg(process.pid, number)
    assert process.wait(timeout=TIMEOUT) == code, log.read_text()
    assert said in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_two_processes_stop_at_one_checkpoint_at_sighup(prepared_project, tmp_path):
    log = tmp_path / "log"
    process = started(prepared_project, log, "train", *LONG, "hardware.processes=2")
    wait_for(lambda: "step 1/" in log.read_text())
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(timeout=TIMEOUT) == exit_codes.STOPPED, log.read_text()


@pytest.mark.slow
def test_nohup_is_honoured(prepared_project, tmp_path):
    log = tmp_path / "log"
    process = started(prepared_project, log, "train", *LONG, ignoring="HUP")
    wait_for(lambda: "step 1/" in log.read_text())
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=TIMEOUT) == exit_codes.STOPPED


@pytest.mark.slow
def test_a_verify_that_is_stopped_leaves_no_training_behind(
    prepared_project, tmp_path, monkeypatch
):
    log = tmp_path / "log"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    process = started(prepared_project, log, "verify", "--only", "rerun", "--only", "draws")
    wait_for(lambda: list(scratch.glob("saigen-verify-*/*/project/runs/*/record.json")))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=TIMEOUT) == exit_codes.STOPPED
    assert "stopped by SIGTERM" in log.read_text()
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(
    os.getuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0,
    reason="mounting needs root",
)
@pytest.mark.parametrize(  # not even for the queues; not for a batch
    "room", ["4k", "256k"]
)
def test_a_batch_that_finds_no_shared_memory_is_refused(prepared_project, room):
    text = f'mount -t tmpfs -o size={room} tmpfs /dev/shm && exec "$@"'
    command = (sys.executable, "-m", "saigen", "train", "hardware.loader_workers=2")
    command += ("trainer.batch_size=1200",)
    done = prepared_project.run("unshare", "-m", "bash", "-c", text, "bash", *command)
    assert done.returncode == exit_codes.REFUSED, done.stdout + done.stderr
    assert "the loader workers have no shared memory for their batches" in done.stderr
    assert "fix:      hardware.loader_workers=0, or a larger /dev/shm" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_that_gives_nothing_in_time_fails_the_run_by_name(prepared_project):
    path = prepared_project.root / "src/project/data.py"
    text = path.read_text()
    old = "        return {name: array[indices] for name, array in self.arrays.items()}\n"
    assert old in text
    slow = "import time; time.sleep(3 * (torch.utils.data.get_worker_info() is not None))"
    path.write_text(text.replace(old, f"        import torch; {slow}\n{old}"))
    told = prepared_project.refused(
        "train", *SHORT, "hardware.loader_workers=1", "hardware.process_timeout_seconds=1", code=1
    )
    assert "the loader workers give no batch" in told
    assert "DataLoader timed out after 1" in told


@pytest.mark.slow
def test_variables_that_hang_threads_are_unset(prepared_project):
    """Each of the first three hangs a convolution's backward pass, the last ends the process."""
    hanging = {"OMP_DYNAMIC": "true", "OMP_THREAD_LIMIT": "1", "OMP_MAX_ACTIVE_LEVELS": "0",
               "OMP_STACKSIZE": "100G"}  # fmt: skip
    overrides = ("model=cnn", "hardware.intra_op_threads=2", "debug=two_steps")
    prepared_project.saigen("train", *overrides, env=hanging)
    prepared_project.saigen("evaluate", env=hanging)


def verification(*results: str) -> Verification:
    claims = [Claim(name=r, says=r, result=r) for r in results]  # type: ignore[arg-type]
    return Verification(
        steps=1, started_at="", finished_at="", machine="", layers={}, config={}, claims=claims
    )


@pytest.mark.parametrize(
    ("results", "code"),
    [
        (("held", "fact", "not made"), exit_codes.DONE),
        (("fact",), exit_codes.DONE),
        (("not tried",), exit_codes.INCONCLUSIVE),
        (("held", "not tried"), exit_codes.INCONCLUSIVE),
        (("not made",), exit_codes.INCONCLUSIVE),
        ((), exit_codes.INCONCLUSIVE),
        (("held", "not tried", "broken"), exit_codes.FAILED),
    ],
)
def test_verify_is_done_only_if_something_was_tried_and_nothing_left_out(results, code):
    assert verification(*results).exit_code == code


@pytest.fixture
def runs(tmp_path):
    """Three runs: two of one recipe, the other of one that begins alike."""
    for name, moment in (("28836b0000aa-1", "2"), ("28836b0000aa-2", "3"), ("28836c0000bb-2", "1")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        text = f'{{"run": "{name}", "metadata": {{"started_at": "{moment}"}}}}'
        (tmp_path / "runs" / name / "record.json").write_text(text)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("28836b", "28836b0000aa-2"),
        ("28836b-1", "28836b0000aa-1"),
        ("28836b-2", "28836b0000aa-2"),
        ("28836b0000aa-1", "28836b0000aa-1"),
        ("28836c", "28836c0000bb-2"),
        ("last", "28836b0000aa-2"),
        ("last~2", "28836c0000bb-2"),
    ],
)
def test_a_recipes_beginning_is_its_newest_run_and_a_number_picks_one(runs, name, found):
    said = []
    assert find(name, runs, said.append).name == found
    newest = ["28836b: 28836b0000aa-2, the newest of 2 runs of this recipe"]
    assert said == (newest if name == "28836b" else [])


@pytest.mark.parametrize("name", ["28836", "28836-2", "28836b-3", "28836b-", "-2", "", "x"])
def test_what_fits_no_run_or_two_recipes_is_refused(runs, name):
    with pytest.raises(Refusal) as refused:
        find(name, runs)
    if name in ("28836", "28836-2"):
        assert "more than one run has this name" in str(refused.value)
        assert "28836c0000bb-2" in str(refused.value)
        assert "28836b0000aa-2" in str(refused.value)
    else:
        assert "no run has this name" in str(refused.value)


def test_every_exit_code_stands_in_the_documents():
    codes = {v for n, v in vars(exit_codes).items() if n.isupper()}
    for name in ("README.md", "docs/design.md"):
        text = (ROOT / name).read_text()
        (told,) = [p for p in text.split("\n\n") if p.startswith("Exit codes:")]
        assert {int(n) for n in re.findall(r"\b\d+\b", told)} == codes, name


def test_an_interruption_in_the_middle_of_what_makes_another_error_of_it_is_one():
    """Python 3.11 makes a RuntimeError of what comes while a class is made; imports are full of
    classes.
    """

    class Field:
        def __set_name__(self, owner, name):
            raise KeyboardInterrupt

    with pytest.raises((RuntimeError, KeyboardInterrupt)) as raised:
        type("Made", (), {"field": Field()})
    assert isinstance(interruption_behind(raised.value), KeyboardInterrupt)
    assert interruption_behind(ValueError()) is None
