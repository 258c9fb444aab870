"""One engine, one base image, one image of the project for all tests of the container.

SAIGEN_KEEP_ENGINE=FOLDER keeps the engine, the base and BuildKit's cache in FOLDER from one run
of the tests to the next, for work on them; end it with `kill $(cat FOLDER/engine/dockerd.pid)`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from base_image import Registry, serve_base
from built_image import CALLER, Built, build_flags, clone_working_tree, give_to, stand_in_arguments
from debian_packages import SERVICES_PATH, NotHere
from docker_engine import Engine, start_engine
from planted_secret import plant

KEEP = os.environ.get("SAIGEN_KEEP_ENGINE", "")


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """A folder that CALLER may enter, for everything that these tests write."""
    os.environ["PATH"] = SERVICES_PATH
    folder = Path(KEEP or tempfile.mkdtemp(prefix="saigen-system-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    yield folder
    if not KEEP:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def engine(workshop: Path) -> Iterator[Engine]:
    """A running Docker engine; skips, aloud, where none can run."""
    try:
        running = start_engine(workshop / "engine", keep=bool(KEEP))
    except NotHere as reason:
        pytest.skip(f"NOT CHECKED, no engine can run here: {reason}")
    yield running
    if not KEEP:
        running.stop()


@pytest.fixture(scope="session")
def base(engine: Engine, workshop: Path) -> Iterator[str]:
    """The stand-in for the public base image: `127.0.0.1:port/name@sha256:...`."""
    try:
        registry = Registry(workshop / "registry")
    except (NotHere, FileNotFoundError) as reason:
        pytest.skip(f"NOT CHECKED, no registry can run here: {reason}")
    try:
        yield serve_base(engine, registry, workshop / "base")
    except NotHere as reason:
        pytest.skip(f"NOT CHECKED, no base image can be made here: {reason}")
    finally:
        registry.stop()


@pytest.fixture(scope="session")
def built(engine: Engine, base: str, workshop: Path) -> Built:
    """The image, built from a clone by an ordinary user with secrets all around."""
    home = workshop / "home"
    shutil.rmtree(home, ignore_errors=True)  # of an earlier run, where it is kept
    home.mkdir()
    clone = clone_working_tree(workshop / "clone")
    environment = plant(clone, home)
    environment |= {name: engine.environment[name] for name in ("DOCKER", "DOCKER_HOST")}
    environment["SAIGEN_BUILD_FLAGS"] = build_flags(stand_in_arguments(base))
    for folder in (clone, home):
        give_to(folder, CALLER)
    image = Built(engine, base, clone, environment, "")
    image.log = image.make("image")
    return image


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what was not checked: a skipped test must not look like a passed one."""
    skipped = terminalreporter.stats.get("skipped", [])
    missed = [report for report in skipped if "NOT CHECKED" in str(report.longrepr)]
    if missed:
        terminalreporter.section("NOT CHECKED", sep="!", red=True, bold=True)
        for report in missed:
            terminalreporter.write_line(f"{report.nodeid}: {report.longrepr[2]}")
