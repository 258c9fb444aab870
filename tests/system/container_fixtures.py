"""One engine, one base image, one image of the project for all tests of the container."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from base_image import Registry, serve_base
from built_image import CALLER, PLANTED, ROOT, Built, build_flags, clone_working_tree
from docker_engine import Engine, NoEngine, start_engine


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """A folder that CALLER may enter, for everything that these tests write."""
    folder = Path(tempfile.mkdtemp(prefix="saigen-system-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def engine(workshop: Path) -> Iterator[Engine]:
    """A running Docker engine; skips, aloud, where none can run."""
    try:
        running = start_engine(workshop / "engine")
    except NoEngine as reason:
        pytest.skip(f"NOT CHECKED, no engine can run here: {reason}")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def base(engine: Engine, workshop: Path) -> Iterator[str]:
    """The stand-in for the public base image: `127.0.0.1:port/name@sha256:...`."""
    try:
        registry = Registry(workshop / "registry")
    except (NoEngine, FileNotFoundError) as reason:
        pytest.skip(f"NOT CHECKED, no registry can run here: {reason}")
    try:
        yield serve_base(engine, registry, ROOT / ".saigen/system")
    except NoEngine as reason:
        pytest.skip(f"NOT CHECKED, no base image can be made here: {reason}")
    finally:
        registry.stop()


@pytest.fixture(scope="session")
def built(engine: Engine, base: str, workshop: Path) -> Built:
    """The image, built from a clone by an ordinary user with secrets all around."""
    clone = workshop / "clone"
    clone_working_tree(clone)
    (clone / ".env").write_text(f"TRACKER_API_KEY={PLANTED}\n")
    home = workshop / "home"
    home.mkdir()
    for path in (clone, home):
        subprocess.run(["chown", "-R", ":".join(map(str, CALLER)), str(path)], check=True)
    kept = ("PATH", "DOCKER", "DOCKER_HOST")
    environment = {name: engine.environment[name] for name in kept if name in engine.environment}
    environment |= {n: text for n, text in os.environ.items() if n.startswith(("PIP_", "SSL_"))}
    environment |= {
        "HOME": str(home),
        "AWS_SECRET_ACCESS_KEY": PLANTED,
        "PIP_TRUSTED_HOST": f"{PLANTED}.invalid",  # as a password in a mirror's address would
        "SAIGEN_BUILD_FLAGS": build_flags(base),
    }
    image = Built(engine, base, clone, environment, "")
    image.log = image.make("image")
    return image


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what was not checked: a skipped test must not look like a passed one."""
    skipped = terminalreporter.stats.get("skipped", [])
    missed = [report for report in skipped if "NOT CHECKED" in str(report.longrepr)]
    if missed:
        terminalreporter.section("NOT CHECKED: the container", sep="!", red=True, bold=True)
        for report in missed:
            terminalreporter.write_line(f"{report.nodeid}: {report.longrepr[2]}")
