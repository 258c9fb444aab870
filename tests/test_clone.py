"""What a clone brings, and what it does not."""

import subprocess
import sys
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


def test_the_command_starts_in_a_folder_with_a_blank_and_an_umlaut(tmp_path):
    """The first line of a script takes neither, and Python reads a path file in the locale."""
    text = (ROOT / "docker/install.sh").read_text(encoding="utf-8")
    folder = tmp_path / "ein Ördner" / "bin"
    folder.mkdir(parents=True)
    command, python = folder / "saigen", folder / "python"
    command.write_text(text.partition("<<'EOF'\n")[2].partition("EOF\n")[0])
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for file in (command, python):
        file.chmod(0o755)
    done = subprocess.run(
        [command, "--help"],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "os.path.relpath" in text
