"""What a clone brings, and what it does not."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MADE = ("dvc.lock", "params.yaml", "results", "runs", "prepared", "model", "data")


def test_the_repository_ships_nothing_that_a_run_makes():
    """A params.yaml that conf/ has left behind would be taken for an edit by hand."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--", *MADE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert listed.stdout == ""
