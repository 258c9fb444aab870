"""A run is a function of its recipe: kills, loader workers and processes leave no mark."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from conftest import TIMEOUT
from lab import ENDLESS, SHORT, STEPS, wait_for

MODELS = {
    "mlp": (),
    "cnn": ("model=cnn", "model.channels=4"),
    "cnn_augmented": ("experiment=cnn_augmented", "model.channels=4"),
    "transformer": ("experiment=transformer_text", "model.width=32", "model.hidden=64"),
}


@pytest.fixture(scope="module")
def expected():
    """The outcome of each model in one process, uninterrupted; made once."""
    made: dict[str, str] = {}

    def of(lab, model: str) -> str:
        if model not in made:
            made[model] = lab.train((*SHORT, *MODELS[model]))["outcome"]["digest"]
        return made[model]

    return of


@pytest.fixture
def lab_of(request):
    """The lab in which a model's data is prepared."""
    return lambda model: request.getfixturevalue("text_lab" if model == "transformer" else "lab")


QUICK_LAYOUTS = [(2, 0, False), (3, 1, True)]
LAYOUTS = [(p, w, k) for p in (1, 2, 3, 4, 8) for w in (0, 1, 4) for k in (False, True)]


def rest():
    """All layouts for the first model; for the others half of them, in which each number of
    processes meets each of workers, and each of both meets a kill and none.
    """
    for model in MODELS:
        for number, layout in enumerate(LAYOUTS):
            half = (number // 2 + number) % 2 == 0  # one of each two that differ in the kill alone
            if layout not in QUICK_LAYOUTS and (model == "mlp" or half):
                yield (model, *layout)


def check(lab_of, expected, model, processes, workers, killed):
    lab, overrides = lab_of(model), (*SHORT, *MODELS[model])
    digest = expected(lab, model)
    if killed:
        layout = {"processes": processes, "workers": workers}
        done = 0
        while not done:  # else the kill came too late
            # step 12 is written after the first of the checkpoints, which are 5 steps apart
            after, rank = random.randint(12, STEPS - 12), random.randrange(processes)
            lab.interrupt(overrides, after=after, rank=rank, **layout)
            done = lab.steps()
    record = lab.train(overrides, processes=processes, workers=workers)
    assert record["outcome"]["digest"] == digest
    training = record["metadata"]["training"]
    assert training["processes"] == processes
    assert (training["steps"] < STEPS) is killed


@pytest.mark.parametrize("model", ["mlp", "cnn_augmented", "transformer"])
@pytest.mark.parametrize(("processes", "workers", "killed"), QUICK_LAYOUTS)
def test_processes_workers_and_kills_leave_no_mark(
    lab_of, expected, model, processes, workers, killed
):
    check(lab_of, expected, model, processes, workers, killed)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "processes", "workers", "killed"), list(rest()))
def test_the_whole_matrix_leaves_no_mark(lab_of, expected, model, processes, workers, killed):
    check(lab_of, expected, model, processes, workers, killed)


def survive(lab, expected, model, kills, rng):
    """Kill a run so often in a row, each time at a random step or in its start or end."""
    overrides = (*SHORT, *MODELS[model])
    digest = expected(lab, model)
    while kills:
        processes, done = rng.choice((1, 2, 3, 4)), min(lab.steps(), STEPS)
        after = rng.choice((done, rng.randint(done, STEPS)))
        attempt = lab.interrupt(
            overrides,
            after=after,
            seconds=rng.uniform(0, 0.02 if after > done else 0.8),
            rank=rng.randrange(processes),
            processes=processes,
            workers=rng.choice((0, 0, 1)),
        )
        kills -= -signal.SIGKILL in attempt.codes()  # else it came too late
    record = lab.train(overrides, processes=rng.choice((1, 2, 3)))
    assert record["outcome"]["digest"] == digest


def test_two_kills_in_a_row_and_other_processes_leave_no_mark(lab, expected):
    survive(lab, expected, "mlp", 2, random.Random(1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_one_hundred_kills_at_random_moments_leave_no_mark(lab, expected, seed):
    """Ten for each seed, up to four in a row."""
    for kills in (1, 2, 3, 4):
        survive(lab, expected, "mlp", kills, random.Random(10 * seed + kills))


@pytest.mark.parametrize("lacking", ["evaluation", "training"])
@pytest.mark.parametrize("weights", ["best", "last"])
def test_a_run_killed_behind_its_last_step_is_finished_by_several_processes(lab, lacking, weights):
    """Killed in the evaluation, or before it was recorded that the training is done."""
    overrides = (*SHORT, f"trainer.keep_weights={weights}")
    record = lab.train(overrides)
    expected = record["outcome"]
    path = lab.project.root / "runs" / record["run"] / "record.json"
    lost = dict.fromkeys(("digest", "metrics", "predictions"))
    if lacking == "training":
        lost |= dict.fromkeys(("weights", "trace"))
        shutil.rmtree(path.parent / "model")
    path.write_text(json.dumps(record | {"complete": False, "outcome": expected | lost}))
    lab.train(overrides, processes=3)
    after = json.loads(path.read_text())
    assert after["complete"] is True
    assert after["outcome"] == expected
    if lacking == "training":
        assert after["metadata"]["training"]["steps"] == 0


def test_sigterm_leaves_a_checkpoint_and_its_own_exit_code(lab, expected):
    overrides = (*SHORT, *ENDLESS, "tracking.checkpoint_every_steps=100000")
    attempt = lab.start(overrides, processes=2)
    runs = lab.project.root / "runs"
    wait_for(lambda: "step 1/" in attempt.log())
    attempt.kill(signal.SIGTERM, rank=1)
    assert attempt.codes() == [143, 143]
    assert "stopped at a checkpoint after step" in attempt.log()
    newest = max(runs.glob("*/checkpoints/step-*"), key=lambda path: path.stat().st_mtime)
    assert (newest / "checkpoint.json").is_file()


def test_more_processes_than_microbatches_are_refused(lab):
    attempt = lab.start((*SHORT, "trainer.microbatches=2"), processes=3)
    assert attempt.codes() == [2, 2, 2]
    assert "there are more processes than microbatches to share" in attempt.log()
    assert "at most trainer.microbatches=2" in attempt.log()


def test_a_dead_process_ends_the_run_and_is_named(prepared_project, tmp_path):
    """Through the launcher, as a person starts it; then it goes on with other processes."""
    import subprocess
    import sys

    overrides = (*SHORT, *ENDLESS)
    log = tmp_path / "log"
    command = [sys.executable, "-m", "saigen", "train", *overrides, "hardware.processes=3"]
    environment = os.environ | {"PYTHONPATH": str(prepared_project.root / "src")}
    with log.open("w") as file:
        launcher = subprocess.Popen(
            command, cwd=prepared_project.root, env=environment, stdout=file, stderr=file
        )
    wait_for(lambda: "step 1/" in log.read_text())
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(children) == 3
    os.kill(int(children[1]), signal.SIGKILL)
    assert launcher.wait(timeout=TIMEOUT) == 1
    text = log.read_text()
    assert "process 1 of 3 was ended by SIGKILL; ending the others" in text
    assert "failed: another process of this run is gone" in text
    assert "continues from the newest checkpoint" in text
    assert all(not Path(f"/proc/{child}").exists() for child in children)
