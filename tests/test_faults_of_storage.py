"""Disks fill up, files tear, folders vanish: nothing whole is lost, and nothing wrong goes on."""

import json
import os
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from lab import ENDLESS, SHORT, wait_for

from saigen.files import write_whole

# Long enough to be met in the middle, with a checkpoint every few steps.
LONG = (*SHORT, "trainer.max_steps=400", "trainer.max_epochs=100", "trainer.microbatches=1")

_ALLOWED = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
needs_mount = pytest.mark.skipif(
    not (_ALLOWED and int(_ALLOWED[1], 16) >> 21 & 1),  # CAP_SYS_ADMIN
    reason="NOT CHECKED: nobody but root may mount a small tmpfs",
)


@pytest.fixture
def fresh(lab):
    """The lab without runs."""
    shutil.rmtree(lab.project.root / "runs", ignore_errors=True)
    yield lab
    shutil.rmtree(lab.project.root / "runs", ignore_errors=True)


@pytest.fixture(scope="module")
def expected(lab):
    digest = lab.train(LONG)["outcome"]["digest"]
    shutil.rmtree(lab.project.root / "runs")
    return digest


@pytest.fixture
def small_disk(fresh):
    """`runs/` on a file system of its own."""
    runs = fresh.project.root / "runs"
    runs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(runs)], check=True)
    yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", runs], check=True)
    subprocess.run(["umount", "-l", str(runs)], check=True)


def interrupted(lab):
    """A run that was killed after some checkpoints; returns them, the newest last."""
    checkpoints = lab.project.root.glob
    wanted = "runs/*/checkpoints/step-*/checkpoint.json"
    lab.kill(LONG, lambda: len(list(checkpoints(wanted))) >= 2)
    return sorted(checkpoints("runs/*/checkpoints/step-*"))


@needs_mount
def test_a_full_disk_is_said_and_the_run_continues_once_there_is_room(fresh, expected, small_disk):
    attempt = fresh.start(LONG)
    assert attempt.codes() == [1]
    assert "could not be written" in attempt.log() or "read or written" in attempt.log()
    assert "No space left on device" in attempt.log()
    assert "fix:" in attempt.log()
    small_disk("size=50m")
    assert fresh.train(LONG)["outcome"]["digest"] == expected


@needs_mount
def test_a_read_only_folder_is_said_before_anything_is_trained(fresh, expected, small_disk):
    small_disk("ro")
    attempt = fresh.start(LONG)
    assert attempt.codes() == [1]
    assert "Read-only file system" in attempt.log()
    assert "step 1/" not in attempt.log()
    small_disk("rw,size=50m")
    assert fresh.train(LONG)["outcome"]["digest"] == expected


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no values", "no tensors"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(fresh, expected, damage):
    *_, before, newest = interrupted(fresh)
    tensors, values = newest / "state.safetensors", newest / "checkpoint.json"
    if damage == "truncated":
        os.truncate(tensors, tensors.stat().st_size // 2)
    elif damage == "flipped":
        content = bytearray(tensors.read_bytes())
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        tensors.write_bytes(bytes(content))
    elif damage == "no values":
        values.unlink()
    else:
        tensors.unlink()
    attempt = fresh.start(LONG)
    assert attempt.codes() == [0], attempt.log()
    assert f"{newest.name} is not whole" in attempt.log()
    assert f"continuing after step {int(before.name.removeprefix('step-'))}" in attempt.log()
    assert fresh.newest()["outcome"]["digest"] == expected


def test_a_clock_that_was_set_back_changes_nothing(fresh, expected):
    folder = interrupted(fresh)[-1].parent.parent
    future = time.time() + 10**8
    for path in folder.rglob("*"):
        os.utime(path, (future, future))
    record = json.loads((folder / "record.json").read_text())
    record["metadata"]["started_at"] = "2099-01-01T00:00:00.000000+00:00"
    (folder / "record.json").write_text(json.dumps(record))
    attempt = fresh.start(LONG)
    assert attempt.codes() == [0], attempt.log()
    assert "continuing after step" in attempt.log()
    assert fresh.newest()["outcome"]["digest"] == expected


def test_runs_deleted_under_a_run_ends_it_and_the_next_start_begins_anew(fresh, expected):
    attempt = fresh.start((*LONG, *ENDLESS))
    wait_for(lambda: list(fresh.project.root.glob("runs/*/checkpoints/step-*")))
    fresh.project.root.joinpath("runs").rename(fresh.project.root / "gone")
    shutil.rmtree(fresh.project.root / "gone")
    assert attempt.codes() == [1]
    assert "No such file or directory" in attempt.log()
    assert not list(fresh.project.root.glob("runs/*/record.json"))
    assert fresh.train(LONG)["outcome"]["digest"] == expected


def test_a_place_that_is_gone_stays_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "gone/checkpoints/file", b"late")
    assert not list(tmp_path.iterdir())
    write_whole(tmp_path / "checkpoints/file", b"in time")
    assert (tmp_path / "checkpoints/file").read_bytes() == b"in time"
