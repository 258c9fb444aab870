"""The image is really built and really trains: as anybody, without root, without a network."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from built_image import CALLER, PLANTED, Built, clone_working_tree

pytest_plugins = ("container_fixtures",)
pytestmark = [pytest.mark.system, pytest.mark.timeout(2700)]


def test_a_base_with_another_digest_is_not_built_on(built: Built) -> None:
    name, _, digest = built.base.partition("@sha256:")
    wrong = f"{name}@sha256:{'0' * 64}"
    flags = built.environment["SAIGEN_BUILD_FLAGS"].replace(built.base, wrong)
    environment = built.environment | {"SAIGEN_BUILD_FLAGS": flags}
    log = Built(built.engine, wrong, built.clone, environment, "").make("image", check=False)
    assert "0" * 64 in log
    assert "not found" in log, log[-2000:]
    assert digest not in log


def test_check_base_tells_a_pinned_tag_from_a_moved_one(built: Built) -> None:
    pinned = built.base.replace("@", ":1@")
    assert "as pinned" in built.call("docker/check-base.sh", pinned)
    moved = pinned[:-64] + "0" * 64
    assert "moved" in built.call("docker/check-base.sh", moved, check=False)


def test_the_image_says_what_it_was_made_from_and_runs_as_no_root(built: Built) -> None:
    shown = built.engine.docker("image", "inspect", "saigen:cpu").stdout
    config = json.loads(shown)[0]["Config"]
    commit = built.call("git", "rev-parse", "HEAD").strip()
    lock = built.call("sha256sum", "docker/lock-cpu.txt").split()[0]
    assert config["User"] == ":".join(map(str, CALLER))
    assert config["Labels"]["org.opencontainers.image.revision"].startswith(commit)
    assert config["Labels"]["saigen.lock.sha256"] == lock


def test_training_as_anybody_without_root_file_system_or_network(built: Built) -> None:
    log = built.make("in-container", "T=train", flags="--network=none")
    record = finished_record(built.clone)
    assert record["circumstances"]["machine"]["container"]["id"].startswith("sha256:"), log
    owners = {
        (path.lstat().st_uid, path.lstat().st_gid)
        for path in built.clone.rglob("*")
        if ".git/" not in str(path)
    }
    assert owners == {CALLER}


def test_the_container_trains_what_the_host_trains(built: Built, tmp_path: Path) -> None:
    if not (built.clone / "runs").exists():
        built.make("in-container", "T=train", flags="--network=none")
    clone_working_tree(tmp_path / "host")
    done = subprocess.run(
        ["make", "train"], cwd=tmp_path / "host", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    inside, outside = finished_record(built.clone), finished_record(tmp_path / "host")
    print(f"container {inside['outcome']['digest']}\nhost      {outside['outcome']['digest']}")
    assert inside["outcome"]["digest"] == outside["outcome"]["digest"]


def test_the_tests_pass_in_the_container(built: Built) -> None:
    built.make("in-container", "T=test", flags="--network=none", timeout=2400)


def test_compose_runs_a_service_as_the_caller(built: Built, workshop: Path) -> None:
    override = workshop / "no-network.yaml"
    override.write_text("services: {shell: {network_mode: none}}\n")
    files = ["-f", "docker/compose.yaml", "-f", str(override)]
    uid, gid = CALLER
    said = built.call(
        "env", f"UID={uid}", f"GID={gid}", built.environment["DOCKER"], "compose", *files,
        "run", "--rm", "-T", "shell", "sh", "-c", "id -u; id -g; touch from-compose; touch /x",
        check=False,
    )  # fmt: skip
    assert f"{uid}\n{gid}\n" in said
    assert "Read-only file system" in said
    written = (built.clone / "from-compose").stat()
    assert (written.st_uid, written.st_gid) == CALLER


def test_a_container_ends_at_once_when_it_is_told_to(built: Built) -> None:
    docker = built.engine.docker
    docker("run", "--detach", "--name", "sleeper", "--network=none", "saigen:cpu", "sleep", "600")
    start = time.monotonic()
    docker("stop", "--time", "60", "sleeper")
    assert time.monotonic() - start < 20
    docker("rm", "sleeper")


def test_the_gpus_health_is_told_beside_the_commands_own_output(built: Built) -> None:
    words = ("run", "--rm", "--network=none", "--env", "VARIANT=cuda", "saigen:cpu", "echo", "{}")
    done = built.engine.docker(*words)
    assert done.stdout == "{}\n"
    assert "GPU: " in done.stderr


def test_two_builds_have_one_digest_and_no_secret_is_in_them(
    built: Built, workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = []
    for number, flags in enumerate(([], ["--no-cache"])):
        archive = workshop / f"build-{number}.tar"
        archive.touch()
        os.chown(archive, *CALLER)
        words = ["env", "SAIGEN_COMPRESSION=uncompressed", "docker/image.sh", "export"]
        log = built.call(*words, str(archive), *flags)
        assert PLANTED not in log
        index = subprocess.run(
            ["tar", "-xOf", archive, "index.json"], capture_output=True, check=True
        )
        digests.append(json.loads(index.stdout)["manifests"][0]["digest"])
        assert not holds(archive, PLANTED.encode())
        assert holds(
            archive, b"org.opencontainers.image.revision"
        )  # the search finds what is there
        archive.unlink()
    with capsys.disabled():
        print(f"\n  first build   {digests[0]}\n  without cache {digests[1]}")
    assert digests[0] == digests[1]


def test_no_secret_reaches_the_log_of_the_build_or_what_a_run_leaves(built: Built) -> None:
    assert PLANTED not in built.log
    left = [path for path in built.clone.rglob("*") if path.is_file() and path.name != ".env"]
    # pip's settings for the build are the one place, readable by the caller alone
    secret = built.clone / ".saigen/build-cpu/pip.conf"
    assert secret.stat().st_mode & 0o077 == 0
    assert [path for path in left if holds(path, PLANTED.encode())] == [secret]


def finished_record(clone: Path) -> dict[str, Any]:
    """The record of the one complete run in a clone."""
    records = [json.loads(path.read_text()) for path in clone.glob("runs/*/record.json")]
    assert [record["complete"] for record in records] == [True]
    return records[0]


def holds(path: Path, needle: bytes) -> bool:
    """Whether a file holds some bytes, read in blocks of 16 MiB that overlap."""
    tail = b""
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            if needle in tail + block:
                return True
            tail = block[-len(needle) :]
    return False
