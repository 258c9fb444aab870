"""What goes into an image is one thing for each variant: lock, base and build arguments agree."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
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
    os.utime(tmp_path / "begun", (15 * 10**8, 15 * 10**8))  # before now on every clock
    (tmp_path / "written").touch()
    settled(tmp_path, tmp_path / "begun")
    times = {path.name: path.stat().st_mtime for path in tmp_path.iterdir()}
    assert (times["brought"], times["written"]) == (10**9, 0)
    assert times["begun"] > 10**9


def taken(name: str) -> bool:
    """Whether .dockerignore lets a file into the context: the last pattern that matches decides."""
    taken = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#"):
            words = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
            kinds = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
            rule = "".join(kinds.get(word, re.escape(word)) for word in words)
            if re.fullmatch(f"{rule}(?:/.*)?", name):
                taken = line.startswith("!")
    return taken


def test_what_git_tracks_may_enter_the_context_of_a_build():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("a copy without git")
    made = ("results/", "params.yaml")
    names = [name for name in listed.stdout.splitlines() if not name.startswith(made)]
    assert [name for name in names if not taken(name)] == []


@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "src/.env", "src/project/kaggle.json", "conf/local/mine.yaml", "id_rsa",
     "src/id_ed25519", "docker/pip.conf", "docker/certificate.pem", "conf/model/.env.prod",
     "conf/secrets.yaml", "conf/my_secret.yaml", "notes.txt", "notebook.ipynb", "src/a.ipynb",
     ".git/config", ".dvc/config.local", ".dvc/tmp/x", ".dvc/cache/files/md5/00/1", ".saigen/x.py",
     ".saigen/build-cpu/pip.conf", ".venv/lib/x.py", "runs/a/record.json", "model/a.safetensors",
     "data/digits.csv", "prepared/manifest.json", "mine/server.key", "docs/credentials.json",
     "src/credentials.py", "src/service-account.json", "docs/service_account.json", "wandb/r.json",
     "tests/.netrc", "src/__pycache__/a.py"],
)  # fmt: skip
def test_nothing_else_enters_it_wherever_it_lies(name):
    assert not taken(name)


@pytest.fixture
def pip_settings(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docker"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    import pip_settings

    return pip_settings


PASSWORD = "x".join(("hunter", "2y"))
INDEX = f"https://me:{PASSWORD}@mirror.invalid/simple"


def test_no_address_of_pips_settings_becomes_a_flag(pip_settings, monkeypatch):
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "PROXY"):
        monkeypatch.setenv(f"PIP_{name}", INDEX)
    lines = pip_settings.for_uv(pip_settings.read_settings())
    flags = [line for line in lines if line.startswith("UV_FLAGS=")]
    assert flags == ["UV_FLAGS=(--index-strategy unsafe-best-match)"]
    for name in ("export UV_DEFAULT_INDEX", "UV_EXTRA_INDEXES", "export UV_FIND_LINKS"):
        assert f"{name}={INDEX}" in lines


def test_no_program_of_the_installation_is_given_an_address_to_show(project: Project, tmp_path):
    """A uv that notes its command line, as `ps` shows it, and then cannot fetch anything."""
    if not shutil.which(sys.executable):
        pytest.skip("an interpreter that this user may not see")
    uv = project.root / "bin/uv"
    uv.parent.mkdir()
    version = re.search(r"^uv==(\S+)", (ROOT / "docker/lock-uv.txt").read_text(), re.M)[1]
    uv.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || {{ echo "uv {version}"; exit 0; }}\n'
        'tr "\\0" " " <"/proc/$$/cmdline" >>shown; env >>given\n[ "$1" = venv ]\n'
    )
    uv.chmod(0o755)
    environment = {
        "PATH": f"{uv.parent}:{os.environ['PATH']}", "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": INDEX, "PIP_EXTRA_INDEX_URL": INDEX,
        "PIP_FIND_LINKS": INDEX, "SAIGEN_ENVIRONMENT": "host", "SAIGEN_PYTHON": sys.executable,
    }  # fmt: skip
    done = project.run("docker/install.sh", env=environment)
    assert done.returncode == 2, done.stderr
    assert "the locked packages could not be installed" in done.stderr
    assert "pip sync" in (project.root / "shown").read_text()
    assert PASSWORD in (project.root / "given").read_text()
    assert PASSWORD not in (project.root / "shown").read_text()
    assert PASSWORD not in done.stdout + done.stderr


def test_a_python_that_was_named_and_does_not_run_is_refused(project: Project, tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    (tmp_path / "python").chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "SAIGEN_ENVIRONMENT": "host",
        "SAIGEN_PYTHON": str(tmp_path / "python"),
    }  # fmt: skip
    done = project.run("docker/install.sh", env=environment)
    assert done.returncode == 2
    assert "refused: no Python 3.11 was found" in done.stderr
    assert f"got:      {tmp_path}/python is broken" in done.stderr
    assert "or set SAIGEN_PYTHON to an interpreter" in done.stderr


def test_a_pip_conf_that_cannot_be_read_is_refused_without_its_lines(tmp_path):
    (tmp_path / "pip.conf").write_text(f"{INDEX}\n")
    command = [sys.executable, str(ROOT / "docker/pip_settings.py")]
    environment = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "in line 1" in done.stderr
    assert PASSWORD not in done.stderr


def test_the_pip_conf_of_a_build_is_private_from_its_first_byte(
    tmp_path, monkeypatch, pip_settings
):
    import build_inputs

    seen = []
    real = os.fdopen
    monkeypatch.setattr(
        build_inputs.os,
        "fdopen",
        lambda fd, *a: (seen.append(os.fstat(fd).st_mode), real(fd, *a))[1],
    )
    (tmp_path / "pip.conf").write_text("of before, for everybody")
    (tmp_path / "pip.conf").chmod(0o644)
    build_inputs.write_private(tmp_path / "pip.conf", INDEX)
    assert [mode & 0o777 for mode in seen] == [0o600]
    assert (tmp_path / "pip.conf").read_text() == INDEX


def told_by_run(project: Project, **environment: str) -> list[str]:
    """The words that docker is given to run a command in the image."""
    client = project.root / "tell"
    client.write_text(TELL)
    client.chmod(0o755)
    if not (project.root / ".git").exists():
        assert project.run("git", "init", "-q").returncode == 0
    names = {"DOCKER": "./tell", "VARIANT": "cpu", **environment}
    done = project.run("docker/image.sh", "run", "make", "train", env=names)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_container_has_no_network_limits_and_a_git_that_it_cannot_write(project: Project):
    told = told_by_run(project)
    following = dict(pairwise(told))
    assert following["--network"] == "none"
    assert following["--pids-limit"] == "4096"
    assert re.fullmatch(r"\d+k", following["--memory"])
    assert f"{project.root}/.git:/workspace/.git:ro" in told


def test_what_a_container_may_do_is_widened_by_name(project: Project):
    told = told_by_run(
        project, SAIGEN_NETWORK="host", SAIGEN_PIDS="9", SAIGEN_MEMORY="1g", SAIGEN_GIT="rw"
    )
    following = dict(pairwise(told))
    assert following["--network"] == "host"
    assert following["--pids-limit"] == "9"
    assert following["--memory"] == "1g"
    assert f"{project.root}/.git:/workspace/.git:rw" in told
    assert told_by_run(project, SAIGEN_RUN_FLAGS="--network=bridge").count("--network") == 0


def test_compose_starts_a_container_as_narrow_as_make_does():
    service = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]["train"]
    assert service["network_mode"] == "${SAIGEN_NETWORK:-none}"
    assert "../.git:/workspace/.git:${SAIGEN_GIT:-ro}" in service["volumes"]
    assert {"pids_limit", "mem_limit"} <= service.keys()


def test_a_pull_request_is_not_run_with_privileges():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    for job in jobs.values():
        privileged = "privileged" in str(job["container"])
        assert privileged == (job.get("if") == "github.event_name == 'push'")


def test_an_image_with_a_secret_in_a_tracked_file_is_refused_by_line(project: Project):
    client = project.root / "tell"
    client.write_text(TELL)
    client.chmod(0o755)
    planted = project.root / "src/project/task.py"
    planted.write_text(planted.read_text() + "KEY = '" + "ghp_" + "a1B2c3D4" * 5 + "'\n")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "x")):
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        assert project.run("git", *who, *command).returncode == 0
    done = project.run("docker/image.sh", "build", env={"DOCKER": "./tell", "GIT_DIR": "/x"})
    assert done.returncode == 2
    line = len(planted.read_text().splitlines())
    assert f"src/project/task.py:{line} (GitHub token)" in done.stderr
    assert "a1B2c3D4" not in done.stderr


def test_what_an_image_holds_is_listed_from_its_lock_and_packages(tmp_path):
    command = [sys.executable, "docker/sbom.py", "cpu", f"sha256:{'1' * 64}", "2" * 40]
    written = []
    for folder in ("a", "b"):
        subprocess.run(
            [*command, str(tmp_path / folder)], cwd=ROOT, check=True, capture_output=True,
            input=b"git 1:2.39.5-0+deb12u2 amd64\n",
        )  # fmt: skip
        written.append({path.name: path.read_text() for path in (tmp_path / folder).iterdir()})
    assert written[0] == written[1]
    sbom = json.loads(written[0]["sbom-cpu.cdx.json"])
    packages = {part["name"]: part for part in sbom["components"]}
    assert packages.keys() == lock("cpu").keys() | {"git"}
    assert packages["git"]["purl"] == "pkg:deb/git@1%3A2.39.5-0%2Bdeb12u2?arch=amd64"
    assert all(packages[name]["hashes"] for name in lock("cpu"))
    provenance = json.loads(written[0]["provenance-cpu.json"])
    assert provenance["subject"] == [{"name": "saigen:cpu", "digest": {"sha256": "1" * 64}}]
    materials = provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"uri": "git", "digest": {"gitCommit": "2" * 40}} in materials


@pytest.mark.parametrize("words", [("ARGS=",), ("ARGS=optimizer.lr=0.1 'a=\"b\"'",)])
def test_every_line_of_make_train_is_one_that_the_shell_can_read(words):
    command = ["make", "-n", "train", "SAIGEN_ENVIRONMENT=container", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    read = ["bash", "-n", "-c", done.stdout]
    assert subprocess.run(read, capture_output=True, text=True, check=False).stderr == ""


ESCAPES = "\x1b]0;taken\x07\x9b2J\u202e"


@pytest.mark.parametrize(
    "command",
    [
        ["bash", "-c", f'. docker/uv.sh; refuse "{ESCAPES}" b c "{ESCAPES}" e'],
        ["docker/check-base.sh", f"127.0.0.1:1/x{ESCAPES}:1@sha256:{'0' * 64}"],
        ["sh", "docker/entrypoint.sh", "true"],
        [sys.executable, "-EsB", "docker/pip_settings.py"],
        [sys.executable, "-EsB", "docker/fetch_uv.py", "docker/lock-uv.txt", "/nowhere/uv"],
        ["docker/install.sh"],
    ],
    ids=["refuse", "check-base", "entrypoint", "pip_settings", "fetch_uv", "install"],
)
def test_no_script_of_the_container_hands_a_command_to_the_terminal(tmp_path, command):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho 'GPU{ESCAPES}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    variables = {
        "HOME": f"/dev/null/{ESCAPES}", "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "VARIANT": f"cuda{ESCAPES}" if "install" in command[0] else "cuda", "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"/nowhere{ESCAPES} http://127.0.0.1:1/{ESCAPES}/", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, check=False)
    told = done.stderr.decode(errors="replace")
    if "check-base" in command[0]:
        told += done.stdout.decode(errors="replace")
    assert told.strip()
    assert not [sign for sign in told if not sign.isprintable() and sign not in "\n\t"]
