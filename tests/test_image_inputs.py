"""What goes into an image is one thing for each variant: lock, base and build arguments agree."""

import hashlib
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Project

ROOT = Path(__file__).parent.parent
TELL = """#!/bin/sh
[ "$2" != build ] || cat >/dev/null # the build context
printf '%s\\n' "$@"
"""


def lock(variant: str) -> dict[str, str]:
    text = (ROOT / f"docker/lock-{variant}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.M))


def test_the_locks_differ_in_what_cuda_needs_and_in_nothing_else():
    cpu, cuda = lock("cpu"), lock("cuda")
    assert cpu.pop("torch") == cuda.pop("torch") + "+cpu"
    assert cpu.items() <= cuda.items()
    added = set(cuda) - set(cpu)
    assert all(re.match(r"cuda-|nvidia-|triton$", name) for name in added), added


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_whatever_a_lock_holds_is_wanted_by_something_in_it(variant):
    text = (ROOT / f"docker/lock-{variant}.txt").read_text()
    wanted_by = set(re.findall(r"^ +# (?:via|  ) +([a-z0-9.-]+)(?: \(.*)?$", text, re.M))
    assert {"saigen", "torch", "dvc"} <= wanted_by
    assert wanted_by <= {*lock(variant), "saigen"}


def test_the_base_image_has_the_cuda_that_the_locked_wheels_are_built_for():
    base = re.search(
        r"^ARG CUDA_BASE=nvidia/cuda:(\d+\.\d+)\.", (ROOT / "Dockerfile").read_text(), re.M
    )
    assert base is not None
    assert lock("cuda")["nvidia-cuda-runtime"].startswith(base[1] + ".")
    assert lock("cuda")["cuda-toolkit"].startswith(base[1] + ".")


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_a_variant_is_built_with_its_own_lock_and_wheels(project: Project, variant):
    client = project.root / "tell"
    client.write_text(TELL)
    client.chmod(0o755)
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "x")):
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        assert project.run("git", *who, *command).returncode == 0
    environment = {"DOCKER": "./tell", "VARIANT": variant, "PIP_FIND_LINKS": str(project.root)}
    done = project.run("docker/image.sh", "build", env=environment)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    digest = hashlib.sha256((ROOT / f"docker/lock-{variant}.txt").read_bytes()).hexdigest()
    assert f"VARIANT={variant}" in told
    assert f"LOCK_SHA256={digest}" in told
    assert f"wheels=.saigen/build-{variant}/wheels" in told
    assert f"id=pip_conf,src=.saigen/build-{variant}/pip.conf" in told
    assert any(f"name=saigen:{variant}," in word for word in told)


def settled(*arguments: Path) -> None:
    subprocess.run([ROOT / "docker/settle.sh", *arguments], check=True)


def test_when_a_commit_was_made_leaves_no_mark_in_its_image(tmp_path):
    """A rule by age would let two builds differ, one within an hour of the commit and one after."""
    now = time.time()
    for number, age in enumerate((-3600, 0, 60, 3590, 3610, 10**6)):
        path = tmp_path / "project" / str(number) / "file"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (now - age, now - age))
    (tmp_path / "project/link").symlink_to("nowhere")
    settled(tmp_path / "project")
    assert {path.lstat().st_mtime for path in (tmp_path / "project").rglob("*")} == {0}


def test_what_a_package_brought_keeps_its_time_and_what_the_build_wrote_does_not(tmp_path):
    (tmp_path / "brought").touch()
    os.utime(tmp_path / "brought", (10**9, 10**9))
    (tmp_path / "begun").touch()
    os.utime(tmp_path / "begun", (time.time() - 1, time.time() - 1))
    (tmp_path / "written").touch()
    settled(tmp_path, tmp_path / "begun")
    times = {path.name: path.stat().st_mtime for path in tmp_path.iterdir()}
    assert (times["brought"], times["written"]) == (10**9, 0)
    assert times["begun"] > 10**9
