"""What a run continues from is its own: checkpoint, trace and history, to the byte."""

import json
import shutil

import pytest
from lab import SHORT, STEPS

from saigen.training.trace_file import HEADER_BYTES, ROW

DEEP = (*SHORT, "tracking.trace_depth=tensor")


def interrupted(lab, overrides):
    """The folder of a run that was killed after its first checkpoints."""
    while True:
        attempt = lab.interrupt(overrides, after=16, rank=0)
        record = lab.newest()
        if not record["complete"]:
            return lab.project.root / "runs" / record["run"]
        assert attempt.codes() == [0]


def refused(lab, overrides, code) -> str:
    attempt = lab.start(overrides)
    assert attempt.codes() == [code], attempt.log()
    assert "Traceback" not in attempt.log()
    return attempt.log()


def checkpoints(run) -> list:
    return sorted(run.glob("checkpoints/step-*"))


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused_by_name_and_its_removal_mends_it(lab):
    other = (*SHORT, "optimizer.lr=0.01")
    stranger = lab.train(other)
    run = interrupted(lab, SHORT)
    own = checkpoints(run)
    last = lab.project.root / "runs" / stranger["run"] / f"checkpoints/step-{STEPS:012d}"
    planted = own[0].with_name(last.name)
    shutil.copytree(last, planted)
    text = refused(lab, SHORT, 2)
    assert "a checkpoint was made by another run" in text
    assert f"where:    {planted.relative_to(lab.project.root)}" in text
    assert f"expected: run {run.name}" in text
    assert f"got:      run {stranger['run']}" in text
    shutil.rmtree(planted)
    shutil.copytree(own[-1], planted)  # own and whole (the kill may have torn older), misnamed
    attempt = lab.start(SHORT)
    assert attempt.codes() == [0]
    assert "is not whole (it holds step" in attempt.log()
    assert lab.newest()["outcome"]["digest"] == lab.train(SHORT)["outcome"]["digest"]


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def flip_trace(run) -> str:
    flip(run / "trace.bin", HEADER_BYTES + 3 * ROW.itemsize + 17)  # inside a loss
    return "trace.bin, row of step 3"


def forge_trace(run) -> str:
    """A row is changed and every link after it made anew."""
    import hashlib

    content = bytearray((run / "trace.bin").read_bytes())
    content[HEADER_BYTES + 3 * ROW.itemsize + 17] ^= 1
    chain, body = b"\0" * 16, ROW.itemsize - 16
    for start in range(HEADER_BYTES, len(content), ROW.itemsize):
        row = bytes(content[start : start + body])
        chain = hashlib.blake2b(chain + row, digest_size=16).digest()
        content[start + body : start + ROW.itemsize] = chain
    (run / "trace.bin").write_bytes(bytes(content))
    return "trace.bin"


def flip_history(run) -> str:
    path = run / "history.csv"
    flip(path, path.read_bytes().index(b"\n", 80) - 3)  # a digit of an early row
    return "history.csv"


def drop_history(run) -> str:
    (run / "history.csv").unlink()
    return "history.csv"


def flip_tensors(run) -> str:
    flip(run / "tensors.bin", 300)
    return "tensors.bin"


@pytest.mark.parametrize(
    "alter", [flip_trace, forge_trace, flip_history, drop_history, flip_tensors]
)
def test_an_altered_row_before_the_checkpoint_is_named_and_starting_anew_mends_it(lab, alter):
    asked = (*DEEP, "tracking.history_every_steps=2")
    run = interrupted(lab, asked)
    place = alter(run)
    text = refused(lab, asked, 1)
    assert "the rows before a checkpoint are not those that the run wrote" in text
    assert f"where:    {run.relative_to(lab.project.root)}/{place}\n" in text
    assert f"fix:      remove {run.relative_to(lab.project.root)} and start again" in text
    shutil.rmtree(run)
    assert lab.train(asked)["complete"]
    lines = (run / "history.csv").read_text().splitlines()
    assert len({line.count(",") for line in lines}) == 1


def test_a_checkpoint_names_its_run_recipe_and_rows(lab):
    record = lab.train(DEEP)
    run = lab.project.root / "runs" / record["run"]
    told = json.loads((checkpoints(run)[-1] / "checkpoint.json").read_text())
    assert (told["run"], told["recipe"]) == (record["run"], record["recipe"]["digest"])
    assert set(told["rows"]) == {"trace.bin", "tensors.bin", "history.csv"}
