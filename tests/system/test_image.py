"""The image: what it is built from, the same twice, another for another lock, without secrets."""

import json
import os
import re
import subprocess
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from built_image import CALLER, Built, build_flags, stand_in_arguments
from planted_secret import PLANTED, holds

pytest_plugins = ("container_fixtures",)
pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

UPGRADED = "types-tqdm"  # nothing else needs it


def built_from(built: Built, **arguments: str) -> Built:
    """The same caller with other build arguments."""
    flags = build_flags(stand_in_arguments(built.base) | arguments)
    return replace(built, environment=built.environment | {"SAIGEN_BUILD_FLAGS": flags})


def test_a_base_with_another_digest_is_not_built_on(built: Built) -> None:
    name, _, digest = built.base.partition("@sha256:")
    wrong = built_from(built, CPU_BASE=f"{name}@sha256:{'0' * 64}")
    log = wrong.make("image", check=False)
    assert f"{name}@sha256:{'0' * 64}: not found" in log, log[-2000:]
    assert digest not in log


def test_check_base_tells_a_pinned_tag_from_a_moved_one(built: Built) -> None:
    pinned = built.base.replace("@", ":1@")
    assert "as pinned" in built.call("docker/check-base.sh", pinned)
    moved = pinned[:-64] + "0" * 64
    assert "moved" in built.call("docker/check-base.sh", moved, check=False)


def test_the_image_says_what_it_was_made_from_and_runs_as_no_root(built: Built) -> None:
    config = built.inspect()["Config"]
    commit = built.call("git", "rev-parse", "HEAD").strip()
    lock = built.call("sha256sum", "docker/lock-cpu.txt").split()[0]
    assert config["User"] == ":".join(map(str, CALLER))
    assert built.labels()["org.opencontainers.image.revision"].startswith(commit)
    assert built.labels()["saigen.lock.sha256"] == lock


def test_the_cuda_variant_is_built_on_the_cuda_base(built: Built) -> None:
    """Its first stage alone: three gigabytes of wheels are not fetched for a test."""
    cuda = built_from(built, CPU_BASE="no.invalid/base", CUDA_BASE=built.base)
    log = cuda.call("env", "VARIANT=cuda", "docker/image.sh", "build", "--target", "base")
    assert built.base in log
    assert "no.invalid" not in log


def test_two_builds_have_one_digest_and_no_secret_is_in_them(
    built: Built, workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = workshop / "second.tar"
    archive.touch()
    os.chown(archive, *CALLER)
    built.engine.docker("builder", "prune", "--all", "--force")  # uv's cache, too
    words = ["env", "SAIGEN_COMPRESSION=uncompressed", "docker/image.sh", "export"]
    log = built.call(*words, str(archive), "--no-cache")
    first, second = built.inspect(), manifest_of(archive)
    rows = [("image", first["Id"], second["digest"])]
    layers = zip(first["RootFS"]["Layers"], second["layers"], strict=True)
    rows += [(f"layer {number}", *pair) for number, pair in enumerate(layers)]
    with capsys.disabled():
        print("\n  two builds, the second with nothing of the first (layer 0 is the base)")
        for name, a, b in rows:
            print(f"  {name:8} {a} {'both times' if a == b else f'and then {b}'}")
    assert all(a == b for _, a, b in rows)
    for text in (built.log, log):
        assert PLANTED not in text
    assert holds(archive, b"org.opencontainers.image.revision")  # the search finds what is there
    assert not holds(archive, PLANTED.encode())
    archive.unlink()


def test_another_lock_is_refused_in_the_old_image_and_makes_another_image(built: Built) -> None:
    lock, old = built.clone / "docker/lock-cpu.txt", built.labels()
    text = lock.read_text()
    without, removed = re.subn(rf"^{UPGRADED}==.*\n(?: +.*\n)*", "", text, flags=re.M)
    assert removed == 1
    train = ("docker/image.sh", "run", "saigen", "train", "debug=two_steps")
    try:
        lock.write_text(without)
        said = built.call(*train, flags="--network=none", check=False)
        assert re.search(rf"got: +{UPGRADED} \S+ is not in the lock\n +fix: +make image;", said)
        built.make("image")
        assert built.labels()["saigen.lock.sha256"] == sha256(without.encode()).hexdigest()
        built.call(
            "docker/image.sh", "run", "python", "-m", "saigen.environment.lock"
        )  # fits again
    finally:
        lock.write_text(text)
        built.make("image")
    assert built.labels() == old


def manifest_of(archive: Path) -> dict[str, Any]:
    """`digest` of an OCI archive's image, and of its `layers`."""

    def read(name: str) -> dict[str, Any]:
        done = subprocess.run(["tar", "-xOf", archive, name], capture_output=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    digest = read("index.json")["manifests"][0]["digest"]
    layers = read(f"blobs/sha256/{digest.removeprefix('sha256:')}")["layers"]
    return {"digest": digest, "layers": [layer["digest"] for layer in layers]}
