"""The benchmarks run. What they measure, no test says."""

import subprocess
import sys

import pytest
from conftest import ROOT

SMALL = {
    "streams": ("--count", "50"),
    "order": ("--n", "1000"),
    "compose": (),
    "reduction": (),
    "diff": ("--rounds", "7"),
    "observing": ("--rounds", "1", "--steps", "3"),
    "peers": ("--rounds", "7", "--case", "digits", "--steps", "3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs(name):
    command = [sys.executable, str(ROOT / f"bench/{name}.py"), *SMALL[name]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
