"""Full disks and read-only folders at each stage, and each pair of commands at once."""

import itertools
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from lab import SHORT

from saigen.runs.audit import audit
from saigen.runs.folders import readable
from trust.workshop import COMMANDS, left, read_only, whole_so_far

FULL = (4_096, 20_000, 60_000, 200_000)  # bytes that a file may have


def said(log: str) -> None:
    """A command that could not write says so in the one shape."""
    assert "Traceback" not in log, log
    assert "fix:" in log, log


@pytest.mark.parametrize("name", ["predict"])
def test_a_full_disk_is_said_and_the_command_ends_well_once_there_is_room(workshop, name):
    full(workshop, name, FULL[1])


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_full_at_any_file_leaves_no_mark(workshop, name):
    for size in FULL:
        full(workshop, name, size)


def full(workshop, name: str, size: int) -> None:
    project = workshop.project(COMMANDS[name].state)
    attempt = workshop.start(project, COMMANDS[name].argv, hurt={"file_bytes": size})
    (code,) = attempt.codes()
    assert code in (0, 1), attempt.log()
    if code:
        said(attempt.log())
    workshop.finish(name, project, code)


FOLDERS = (".", "runs", "model", "prepared", "results", ".saigen")


@pytest.mark.parametrize(("name", "folder"), [("evaluate stage", "runs"), ("restore", ".")])
def test_a_folder_without_the_right_to_write_is_said(workshop, name, folder):
    assert read_only_folder(workshop, name, folder) == 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", COMMANDS)
def test_any_read_only_folder_is_said_and_leaves_no_mark(workshop, name):
    for folder in FOLDERS:
        read_only_folder(workshop, name, folder)


def read_only_folder(workshop, name: str, folder: str) -> int | None:
    """The code of a command that may not write into a folder; None where its state has none."""
    project = workshop.project(COMMANDS[name].state)
    if not (project / folder).exists():
        shutil.rmtree(project)
        return None
    read_only(project / folder, on=True)
    attempt = workshop.start(project, COMMANDS[name].argv, hurt={"bound": 1})
    (code,) = attempt.codes()
    read_only(project / folder, on=False)
    assert code in (0, 1), attempt.log()
    if code:
        said(attempt.log())
    workshop.finish(name, project, code)
    return code


TOGETHER = {
    "train": COMMANDS["train"].argv,
    "train stage": ("train", "--stage"),
    "evaluate": ("evaluate", "last"),
    "publish": ("evaluate", "--stage"),
    "predict": COMMANDS["predict"].argv,
    "restore": COMMANDS["restore"].argv,
    "prepare": COMMANDS["prepare"].argv,
    "compose": COMMANDS["compose"].argv,
    "audit": ("audit",),
    "repair": ("audit", "--repair"),
    "runs": ("runs",),
}
PAIRS = list(itertools.combinations_with_replacement(TOGETHER, 2))
# that a second command gives way is no harm, if it says so
GIVES_WAY = ("the run is being trained", "params.yaml is older than conf/")


def together(workshop, first: str, second: str) -> None:
    project = workshop.project("trained")  # the run is not evaluated yet
    attempts = [workshop.start(project, TOGETHER[name]) for name in (first, second)]
    for attempt in attempts:
        (code,) = attempt.codes()
        assert "Traceback" not in attempt.log(), attempt.log()
        assert code == 0 or (code == 2 and any(w in attempt.log() for w in GIVES_WAY)), (
            attempt.log()
        )
    whole_so_far(project)
    found = left(project)
    assert set(found["outcomes"]) <= set(workshop.expected("train")["outcomes"])
    assert found["prepared"] == workshop.expected("train")["prepared"]
    shutil.rmtree(project)


@pytest.mark.parametrize(
    "pair", [("evaluate", "publish"), ("train", "audit"), ("restore", "train stage")], ids="-".join
)
def test_two_commands_at_once_do_no_harm(workshop, pair):
    together(workshop, *pair)


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(pair, id="-".join(pair), marks=suite)
        for pair, suite in zip(PAIRS, itertools.cycle((pytest.mark.slow, pytest.mark.faults)))
    ],
)
def test_any_two_commands_at_once_do_no_harm(workshop, pair):
    together(workshop, *pair)


REMAKING = {
    "rerun": ("rerun", "{run}", "--here"),
    "verify": ("verify", "--only", "rerun", *SHORT, "optimizer.lr=0.01"),
}
REMADE = [
    *itertools.product(REMAKING, ("train", "train stage", "evaluate", "publish", "repair")),
    *itertools.combinations_with_replacement(REMAKING, 2),
]


@pytest.fixture(scope="module")
def committed(workshop) -> tuple[str, str]:
    """A state with git, a run that is trained, and one of another recipe to be made again."""
    project = workshop.project("prepared")
    shutil.copytree(ROOT / ".dvc/snapshots", project / ".dvc/snapshots")
    for name in (".gitignore", ".dvc/.gitignore"):
        shutil.copyfile(ROOT / name, project / name)
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    for command in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "Begin")):
        subprocess.run(["git", *command], cwd=project, check=True)
    for argv in (("train", *SHORT, "optimizer.lr=0.01"), ("train", "--stage")):
        attempt = workshop.start(project, argv)
        assert attempt.codes() == [0], attempt.log()
    (run,) = (path for path, record in readable(project / "runs") if record["complete"])
    return project.name, run.name


@pytest.mark.slow
@pytest.mark.parametrize("pair", REMADE, ids="-".join)
def test_a_run_is_made_again_or_verified_beside_any_command_that_writes(workshop, committed, pair):
    """Real ones, each with trainings of its own in a place of its own."""
    state, run = committed
    project, verbs = workshop.project(state), TOGETHER | REMAKING
    argvs = [[word.replace("{run}", run) for word in verbs[name]] for name in pair]
    attempts = [workshop.start(project, argv) for argv in argvs]
    for attempt in attempts:
        (code,) = attempt.codes()
        assert "Traceback" not in attempt.log(), attempt.log()
        assert code == 0 or (code == 2 and any(w in attempt.log() for w in GIVES_WAY)), (
            attempt.log()
        )
    whole_so_far(project)
    found, outcomes = audit(project / "runs"), {}
    assert found.verdict == "intact", found.findings
    complete = [record for _, record in readable(project / "runs") if record["complete"]]
    for record in complete:
        outcomes.setdefault(record["recipe"]["digest"], set()).add(record["outcome"]["digest"])
    assert all(len(digests) == 1 for digests in outcomes.values())
    assert found.lines >= len(complete) > pair.count("rerun")  # more where claims were entered
    shutil.rmtree(project)


ENTER = """
import sys
from pathlib import Path
from saigen.analysis.rerun import _enter
print(_enter(Path(sys.argv[1]), Path()))
"""


@pytest.mark.slow
def test_a_run_made_again_is_entered_beside_trainings_of_the_same_recipe(workshop):
    """What `rerun` does last, three times at once, while two trainings claim their folders."""
    project, made = workshop.project("trained"), workshop.project("evaluated")
    (folder,) = (path.parent for path in made.glob("runs/*/record.json"))
    command = [sys.executable, "-c", ENTER, str(folder)]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]}
    entering = [
        subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    training = [workshop.start(project, COMMANDS["train"].argv) for _ in range(2)]
    names = {process.communicate()[0].decode().strip() for process in entering}
    for attempt in training:
        assert attempt.codes() == [0], attempt.log()
    found = audit(project / "runs")
    assert found.verdict == "intact", found.findings
    assert len(names) == 3
    assert found.runs == found.lines == 5
