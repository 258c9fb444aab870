"""A copy of the project to work in, and the verbs as a person starts them."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
COPIED = (
    ".dvc/config",
    ".dvcignore",
    "conf",
    "data",
    "data.dvc",
    "docker",
    "dvc.yaml",
    "pyproject.toml",
    "src",
)

# The switches that must be set before torch is imported, for tests that train in this process;
# tests of starting again run in processes of their own.
os.environ.update(
    {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "GOMP_SPINCOUNT": "1000",
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
)


def pytest_terminal_summary(terminalreporter) -> None:
    """Tell the score of the fault bench below everything else."""
    from faults.score import summary

    if line := summary(terminalreporter.stats):
        terminalreporter.write_sep("=", line)


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self, *command: str, env: dict[str, str] | None = None, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here, with this copy's source and this interpreter."""
        environment = {
            "HOME": os.environ.get("HOME", "/"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(env or {}),
        }
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def saigen(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run a verb that must succeed; returns what it printed."""
        done = self.run(sys.executable, "-m", "saigen", *arguments, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments: str, code: int = 2) -> str:
        """Run a verb that must be refused; returns the refusal."""
        done = self.run(sys.executable, "-m", "saigen", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        for word in ("where:", "expected:", "got:", "fix:"):
            assert word in done.stderr
        return done.stderr


def copy_project(target: Path) -> Project:
    """Copy what belongs to the project, with its snapshot, and nothing made from it."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, target / name, ignore=shutil.ignore_patterns("__pycache__", "default.yaml~")
            )
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    return Project(target)


@pytest.fixture(scope="session", autouse=True)
def _snapshot_is_here() -> None:
    """Bring the snapshot once, whichever of the test processes comes first."""
    with (ROOT / ".dvc/config").open() as config:
        fcntl.flock(config, fcntl.LOCK_EX)
        if not (ROOT / "data").is_dir():
            command = [Path(sys.executable).parent / "dvc", "pull", "-q", "data.dvc"]
            subprocess.run(command, cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def _prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = copy_project(tmp_path_factory.mktemp("prepared") / "project")
    project.saigen("prepare")
    return project.root / "prepared"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh copy of the project: nothing prepared, nothing trained."""
    return copy_project(tmp_path / "project")


@pytest.fixture
def prepared_project(project: Project, _prepared_once: Path) -> Project:
    """A fresh copy of the project whose data is prepared."""
    shutil.copytree(_prepared_once, project.root / "prepared")
    return project


@pytest.fixture
def project_at() -> Callable[[Path], Project]:
    """Make a copy of the project at a place of the test's choice."""
    return copy_project


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, _prepared_once: Path) -> Iterator[Any]:
    """A prepared project in which runs are started, killed and started again."""
    project = copy_project(tmp_path_factory.mktemp("lab") / "project")
    shutil.copytree(_prepared_once, project.root / "prepared")
    yield from _lab_in(project)


@pytest.fixture(scope="module")
def text_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The same with the text of the sums prepared."""
    project = copy_project(tmp_path_factory.mktemp("lab") / "project")
    project.saigen("prepare", "experiment=transformer_text")
    yield from _lab_in(project)


def _lab_in(project: Project) -> Iterator[Any]:
    from lab import Lab
    from zygote import Zygote

    zygote = Zygote(project.root / "src")
    yield Lab(project, zygote)
    zygote.close()
