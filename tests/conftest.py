"""A copy of the project to work in, and the verbs as a person starts them."""

import fcntl
import filecmp
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zygote import Zygote

ROOT = Path(__file__).parent.parent
# after `saigen init` the tests beside tests/project run in a copy of their own (tests/run.py)
HAS_OWN_EXAMPLE = (ROOT / "tests/example").is_dir()
collect_ignore = [
    str(path)
    for path in Path(__file__).parent.iterdir()
    if HAS_OWN_EXAMPLE and path.name != "project"
]
TIMEOUT = 800  # s, for what hangs: below pytest's own, far above what takes long anywhere
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

# The files of tests that take longest, the first of all first.
LONGEST = (
    "test_pipeline", "test_survival", "test_ends", "test_project", "test_faults_of_storage",
    "test_verify", "test_zoo", "test_contract", "test_compare", "test_refusals", "test_evaluation",
    "test_variants", "test_portable", "test_stage", "test_canary",
)  # fmt: skip

# The switches that must be set before torch is imported, for tests that train in this process;
# tests of starting again run in processes of their own.
SWITCHES = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "GOMP_SPINCOUNT": "1000",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
os.environ.update(SWITCHES)
# What a verb gets of this process's variables, and no more: where things are.
INHERITED = ("HOME", "TMPDIR")


def environment(source: Path) -> dict[str, str]:
    """The variables of a verb that is started with this source."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,  # what the user has configured is not what is tested
        "GIT_CONFIG_NOSYSTEM": "1",
    }


@functools.cache
def warm() -> Zygote:
    """The interpreter of this test process from which verbs are forked."""
    return Zygote(environment(ROOT / "src") | SWITCHES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: in `make test` each is one test process's, and none of them
    shall have a long one left when the others are done.
    """
    project = ROOT / "tests/project"
    if HAS_OWN_EXAMPLE and any(not item.path.is_relative_to(project) for item in items):
        raise pytest.UsageError("these tests bring their own example: make test ARGS=tests/FILE.py")
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else 99)


def pytest_unconfigure() -> None:
    """End the warm interpreter, if a test needed it."""
    if warm.cache_info().currsize:
        warm().close()


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
        self,
        *command: str,
        env: dict[str, str] | None = None,
        cold: bool = False,
        timeout: float = TIMEOUT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here, with this copy's source and this interpreter.

        A verb is forked from an interpreter that has imported torch, which saves two starts (the
        second sets the switches), unless `cold`, or it is given variables, or the instrument is
        not the shipped one: what acts at the start is tested from the start.
        """
        verb = command[:3] == (sys.executable, "-m", "saigen")
        if verb and not (env or cold) and self._as_shipped():
            return self._forked(command)
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment(self.root / "src") | (env or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def _as_shipped(self) -> bool:
        if {path.name for path in (self.root / "src").iterdir()} != {"project", "saigen"}:
            return False  # what else lies there may shadow a library
        files, shipped = (
            {path.relative_to(root): path for path in (root / "src/saigen").rglob("*.py")}
            for root in (self.root, ROOT)
        )
        same = files.keys() == shipped.keys()
        return same and all(filecmp.cmp(path, shipped[name]) for name, path in files.items())

    def _forked(self, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        from lab import Attempt

        with tempfile.TemporaryDirectory(prefix="saigen-test-") as folder:
            log, errors = Path(folder, "output"), Path(folder, "errors")
            argv = list(command[3:])
            attempt = Attempt({warm().start(argv, self.root, {}, log, errors=errors): log})
            (code,) = attempt.codes()
            said = (path.read_bytes().decode() for path in (log, errors))
            return subprocess.CompletedProcess(command, code, *said)

    def saigen(self, *arguments: str, env: dict[str, str] | None = None, cold: bool = False) -> str:
        """Run a verb that must succeed; returns what it printed."""
        done = self.run(sys.executable, "-m", "saigen", *arguments, env=env, cold=cold)
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
        if not source.exists():
            continue  # a project of one's own, without data yet
        if source.is_dir():
            shutil.copytree(
                source, target / name, ignore=shutil.ignore_patterns("__pycache__", "default.yaml~")
            )
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    return Project(target)


@pytest.fixture(scope="session", autouse=True)
def _no_compiler() -> None:
    """Optimizers that step in this process do not import it (4 s), as in a training."""
    from saigen.environment.optimizer_step import leave_the_compiler_out

    leave_the_compiler_out()


@pytest.fixture(scope="session", autouse=True)
def _snapshot_is_here() -> None:
    """Bring the snapshot once, whichever of the test processes comes first."""
    with (ROOT / ".dvc/config").open() as config:
        fcntl.flock(config, fcntl.LOCK_EX)
        if not (ROOT / "data").is_dir() and (ROOT / "data.dvc").is_file():
            from saigen.analysis.remotes import pull

            pull(ROOT, "data.dvc", "the snapshot could not be brought")


def _prepared(tmp_path_factory: pytest.TempPathFactory, name: str, *overrides: str) -> Path:
    """The shipped data, prepared once for all of the test processes."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"prepared-{name}"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            copy_project(place / "project").saigen("prepare", *overrides)
            (place / "done").touch()
    return place / "project/prepared"


@pytest.fixture(scope="session")
def _prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _prepared(tmp_path_factory, "digits")


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
def lab(tmp_path_factory: pytest.TempPathFactory, _prepared_once: Path) -> Any:
    """A prepared project in which runs are started, killed and started again."""
    return _lab(tmp_path_factory, _prepared_once)


@pytest.fixture(scope="module")
def text_lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same with the text of the sums prepared."""
    prepared = _prepared(tmp_path_factory, "text", "experiment=transformer_text")
    return _lab(tmp_path_factory, prepared)


def _lab(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Any:
    from lab import Lab

    project = copy_project(tmp_path_factory.mktemp("lab") / "project")
    shutil.copytree(prepared, project.root / "prepared")
    return Lab(project, warm())
