"""The engine of the system tests: it ends with them, and is missed aloud where none can run."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from built_image import ROOT
from docker_engine import Engine, clear_away, mounts_below, processes_in

pytest_plugins = ("container_fixtures",)
pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

_START = """
import sys, time
from pathlib import Path
from docker_engine import start_engine
print(start_engine(Path(sys.argv[1], "engine")).environment["DOCKER_HOST"], flush=True)
time.sleep(600)
"""


def test_an_engine_ends_with_the_process_that_started_it(engine: Engine, workshop: Path) -> None:
    folder = workshop / "killed"
    command = [sys.executable, "-c", _START, str(folder)]
    try:
        with subprocess.Popen(
            command, cwd=Path(__file__).parent, stdout=subprocess.PIPE
        ) as starter:
            assert starter.stdout is not None
            assert starter.stdout.readline().startswith(b"unix://")
            assert processes_in(folder / "engine")
            starter.kill()
        deadline = time.monotonic() + 30
        while processes_in(folder / "engine") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_in(folder / "engine") == []
        assert mounts_below(folder) == []
    finally:
        clear_away(folder / "engine")


def test_without_an_engine_the_tests_are_skipped_aloud_and_not_passed() -> None:
    """As root in a container without privileges, where many a CI runs."""
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    tests = ("-m", "system", "tests/system/test_image.py", "-k", "says_what_it_was_made_from")
    done = subprocess.run(
        [*powerless, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "! NOT CHECKED !" in done.stdout
    assert "NOT CHECKED, no engine can run here: " in done.stdout
    assert "\n1 skipped, " in done.stdout
    assert "passed" not in done.stdout
