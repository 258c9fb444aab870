"""What runs in the image: training, tests and predictions, as anybody, without a network."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from built_image import CALLER, STRANGER, Built, clone_working_tree, give_to, owners
from planted_secret import PLACES, PLANTED, holders, plant

pytest_plugins = ("container_fixtures",)
pytestmark = [pytest.mark.system, pytest.mark.timeout(2700)]

# No network is the default. The secret is in the container's own environment, too.
ALONE = f"--env AWS_SECRET_ACCESS_KEY={PLANTED}"


class Trained(NamedTuple):
    """A clone in which `make train` ran, what it printed, and the record that it left."""

    clone: Path
    log: str
    record: dict[str, Any]


@pytest.fixture(scope="module")
def inside(built: Built) -> Trained:
    """`make train` in the container, as CALLER, with a read-only root and no network."""
    log = built.make("in-container", "T=train", flags=ALONE)
    return Trained(built.clone, log, finished_record(built.clone))


@pytest.fixture(scope="module")
def outside(built: Built, workshop: Path) -> Trained:
    """`make train` of the same files on this machine, with the same secrets around."""
    clone = clone_working_tree(workshop / "host")
    plant(clone, workshop / "home-of-host")
    log = on_host(clone, "make", "train")
    return Trained(clone, log, finished_record(clone))


def test_training_as_anybody_without_root_file_system_or_network(
    built: Built, inside: Trained
) -> None:
    container = inside.record["metadata"]["machine"]["container"]
    assert container == {
        "id": built.inspect()["Id"],
        "digest": " ".join(built.inspect()["RepoDigests"]),
        "commit": built.labels()["org.opencontainers.image.revision"],
        "lock": built.labels()["saigen.lock.sha256"],
    }
    assert owners(built.clone) == {CALLER}


def test_a_user_of_whom_the_image_knows_nothing_trains_the_same(
    built: Built, inside: Trained, workshop: Path
) -> None:
    stranger = replace(built, clone=clone_working_tree(workshop / "stranger"), caller=STRANGER)
    plant(stranger.clone, workshop / "home-of-stranger")  # the same files below src/ and conf/
    give_to(stranger.clone, STRANGER)
    stranger.make("in-container", "T=train", flags=ALONE)
    record = finished_record(stranger.clone)
    assert record["recipe"]["digest"] == inside.record["recipe"]["digest"]
    assert record["outcome"]["digest"] == inside.record["outcome"]["digest"]
    assert owners(stranger.clone) == {STRANGER}


def test_the_container_trains_what_the_host_trains(
    inside: Trained, outside: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outside.record["metadata"]["machine"]["container"] == "none"
    rows = [
        f"  {where}  recipe {each.record['recipe']['digest']}\n"
        f"             outcome {each.record['outcome']['digest']}"
        for where, each in (("container", inside), ("host     ", outside))
    ]
    said = compare(outside, inside)  # names the package, switch or operation that differs
    rows += [f"  {line}" for line in said.splitlines() if line.startswith(("environm", "verdict"))]
    with capsys.disabled():
        print("", *rows, sep="\n")
    assert inside.record["outcome"]["digest"] == outside.record["outcome"]["digest"], said


def test_the_image_that_trained_predicts_what_the_host_predicts(
    built: Built, inside: Trained, outside: Trained
) -> None:
    words = ("predict", "model", "data/digits.csv")
    predicted = built.call("docker/image.sh", "run", "saigen", *words, flags=ALONE)
    assert predicted.count("\n") > 1000
    assert predicted == on_host(outside.clone, ".venv/bin/saigen", *words)


def test_a_run_of_the_container_is_made_again_in_it(built: Built, inside: Trained) -> None:
    said = built.call("docker/image.sh", "run", "saigen", "rerun", flags=ALONE)
    assert "environment: as recorded\n" in said
    assert re.search(r"^identical: \S+ has the outcome of \S+, [0-9a-f]{12}$", said, re.M)
    assert inside.record["outcome"]["digest"][:12] in said


def test_the_tests_pass_in_the_container(
    built: Built, workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tester = replace(built, clone=clone_working_tree(workshop / "tests"))  # without the secrets
    give_to(tester.clone, CALLER)
    log = tester.make("in-container", "T=test", flags=ALONE, timeout=2400)
    summary = re.findall(r"^(?:=+ )?(\d+ passed.*?)(?: =+)?$", log, re.M)
    with capsys.disabled():
        print(f"\n  make test in the container: {summary[-1]}")


def test_compose_runs_a_service_as_the_caller(built: Built, workshop: Path) -> None:
    override = workshop / "no-network.yaml"
    override.write_text("services: {shell: {network_mode: none}}\n")
    files = ["-f", "docker/compose.yaml", "-f", str(override)]
    uid, gid = CALLER
    said = built.call(
        "env", f"UID={uid}", f"GID={gid}", "SAIGEN_IMAGE_ID=its-id", built.environment["DOCKER"],
        "compose", *files, "run", "--rm", "-T", "shell",
        "sh", "-c", "id -u; id -g; echo $SAIGEN_IMAGE_ID; touch from-compose; touch /x",
        check=False,
    )  # fmt: skip
    assert f"{uid}\n{gid}\nits-id\n" in said
    assert "Read-only file system" in said
    written = (built.clone / "from-compose").stat()
    assert (written.st_uid, written.st_gid) == CALLER


def test_a_container_ends_at_once_when_it_is_told_to(built: Built) -> None:
    docker = built.engine.docker
    name = docker("run", "--detach", "--network=none", built.name, "sleep", "600").stdout.strip()
    docker("stop", "--time", "60", name)
    ended = json.loads(docker("inspect", name).stdout)[0]["State"]["ExitCode"]
    assert ended == 128 + signal.SIGTERM  # not by the SIGKILL that follows when time is up
    docker("rm", name)


def test_the_gpus_health_is_told_beside_the_commands_own_output(built: Built) -> None:
    words = ("run", "--rm", "--network=none", "--env", "VARIANT=cuda", built.name, "echo", "{}")
    done = built.engine.docker(*words)
    assert done.stdout == "{}\n"
    assert "GPU: " in done.stderr


def test_no_secret_reaches_what_a_run_leaves_or_a_report(inside: Trained, outside: Trained) -> None:
    page = outside.clone.parent / "report.html"
    text = compare(outside, inside, "--html", str(page))
    for said in (inside.log, outside.log, text, page.read_text()):
        assert said
        assert PLANTED not in said
    for clone in (inside.clone, outside.clone):
        assert (clone / "runs/ledger.jsonl").stat().st_size > 0
        assert (clone / "results/record.json").stat().st_size > 0
    assert holders(outside.clone) == PLACES
    # pip's settings for the build are the one further place, readable by the caller alone
    further = holders(inside.clone) - PLACES
    assert further <= {f".saigen/build-{variant}/pip.conf" for variant in ("cpu", "cuda")}
    assert all((inside.clone / name).stat().st_mode & 0o077 == 0 for name in further)


def finished_record(clone: Path) -> dict[str, Any]:
    """The record of the one complete run in a clone."""
    records = [json.loads(path.read_text()) for path in clone.glob("runs/*/record.json")]
    assert [record["complete"] for record in records] == [True]
    return records[0]


def on_host(clone: Path, *words: str) -> str:
    """Run a command in a clone, outside the container, that must succeed."""
    environment = os.environ | {"AWS_SECRET_ACCESS_KEY": PLANTED}
    for name in ("MAKEFLAGS", "ARGS"):  # what `make test-system` was given is not meant for it
        environment.pop(name, "")
    done = subprocess.run(
        words, cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compare(a: Trained, b: Trained, *flags: str) -> str:
    """What `saigen diff` says of two runs."""
    runs = [str(each.clone / "runs" / each.record["run"]) for each in (a, b)]
    command = [sys.executable, "-m", "saigen", "diff", *runs, *flags]
    done = subprocess.run(command, cwd=a.clone, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout
