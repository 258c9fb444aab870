"""An environment made from the lock as users make it, and tampered with: named at the start."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile
from base64 import urlsafe_b64encode

import pytest
from conftest import Project, copy_project

pytestmark = pytest.mark.slow

TRAIN = ("train", "debug=two_steps")


class Installed:
    """A copy of the project with an environment of its own."""

    def __init__(self, project: Project) -> None:
        self.project, self.python = project, project.root / ".venv/bin/python"
        self.packages = next((project.root / ".venv/lib").glob("python3*/site-packages"))

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.project.run(str(self.python), "-m", "saigen", *arguments)

    def refusal(self, *arguments: str) -> str:
        done = self.start(*arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.startswith("refused: the environment is not the one that is locked")
        assert "fix:      rm -rf .venv && make .venv" in done.stderr
        return next(line for line in done.stderr.splitlines() if line.startswith("  got:"))

    def uv(self, *arguments: str) -> None:
        fetched = next(self.project.root.glob(".saigen/uv-*/uv"), None)
        command = [str(fetched or shutil.which("uv")), "pip", *arguments]
        done = self.project.run(*command, "--quiet", "--python", str(self.python))
        assert done.returncode == 0, done.stderr

    def install(self, name: str, version: str) -> None:
        """Install another version of a distribution, from a wheel made for it."""
        wheel = self.project.root / f"{name}-{version}-py3-none-any.whl"
        information = f"{name}-{version}.dist-info"
        files = {
            f"{name}/__init__.py": f"__version__ = {version!r}\n",
            f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
        }
        listed = [f"{path},{_sha256(text)},{len(text)}\n" for path, text in files.items()]
        files[f"{information}/RECORD"] = "".join(listed) + f"{information}/RECORD,,\n"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        self.uv("install", "--no-index", "--no-deps", str(wheel))


def _sha256(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def installed(tmp_path_factory, _prepared_once) -> Installed:
    if os.environ.get("SAIGEN_ENVIRONMENT") == "container":
        pytest.skip("NOT CHECKED: in the image, the image is the environment")
    project = copy_project(tmp_path_factory.mktemp("drift") / "project")
    shutil.copytree(_prepared_once, project.root / "prepared")
    made = project.run("bash", "docker/install.sh", env=dict(os.environ))
    assert made.returncode == 0, made.stderr
    return Installed(project)


def test_each_way_to_drift_is_refused_at_the_start_by_name_and_mended_as_said(installed):
    assert installed.start(*TRAIN).returncode == 0

    # a file of a library that every start loads, and whose version stays what it was
    file = installed.packages / "torch/functional.py"
    file.write_text(file.read_text() + "# edited\n")
    expected = "torch 2.13.0+cpu: torch/functional.py is not the file that was installed"
    assert expected in installed.refusal(*TRAIN)
    assert expected in installed.refusal("prepare")

    warned = installed.start(*TRAIN, "reproducibility.environment_drift=warn")
    assert warned.returncode == 0, warned.stderr
    assert (
        f"warning: the environment is not the one that is locked, which is recorded: {expected}"
        in (warned.stderr)
    )
    record = json.loads(installed.start("show", "--json").stdout)
    assert record["metadata"]["drift"] == [expected]
    layer = record["recipe"]["layers"]["environment"]
    assert layer["replaced"] == {
        "torch/functional.py": hashlib.sha256(file.read_bytes()).hexdigest()
    }

    installed.install("tqdm", "999.0")
    assert "tqdm is 999.0 instead of" in installed.refusal(*TRAIN)
    installed.install("idna", "0.1")
    assert "idna is 0.1 instead of" in installed.refusal(*TRAIN)
    installed.uv("uninstall", "zc-lockfile")
    assert re.search(r"zc-lockfile \S+ is not installed", installed.refusal(*TRAIN))
    installed.install("surplus", "1.0")
    assert "surplus 1.0 is not in the lock" in installed.refusal(*TRAIN)
    # one without which not even the config can be read
    installed.uv("uninstall", "pydantic")
    told = installed.refusal(*TRAIN)
    for name in ("pydantic", "zc-lockfile", "idna", "tqdm", "surplus", "torch/functional.py"):
        assert name in told

    # the mend that every refusal named
    shutil.rmtree(installed.project.root / ".venv")
    made = installed.project.run("bash", "docker/install.sh", env=dict(os.environ))
    assert made.returncode == 0, made.stderr
    assert installed.start(*TRAIN, "model=cnn").returncode == 0
