"""The environment of a run: the one at hand if it is the same, else made from the run's lock."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from saigen.analysis.run import Run
from saigen.digest import digest_file
from saigen.environment.machine import LOCKS, installed_packages
from saigen.errors import Refusal

_ASK = (
    "import json, platform; from saigen.environment.machine import installed_packages; "
    "print(json.dumps({'python': platform.python_version()} | installed_packages()))"
)


def interpreter(run: Run, project: Path, say: Callable[[str], None], *, install: bool) -> str:
    """The Python to make a run again with, in the worktree that has the run's lock.

    With `install` false it is always the one at hand. Raises Refusal, naming the packages, if the
    run's environment is another one and cannot be made.
    """
    layer = run.layer("environment")
    wanted: dict[str, str] = {"python": layer["python"], **layer["packages"]}
    found = _differences(wanted, {"python": platform.python_version()} | installed_packages())
    if not found:
        say("environment: as recorded")
        return sys.executable
    if not install:
        say(f"environment: {found}; training in this one all the same")
        return sys.executable
    say(f"environment: {found}; making the run's own from its lock")
    variant = "cpu" if "+cpu" in wanted.get("torch", "") else "cuda"
    lock = project / LOCKS[variant]
    recorded = layer["lock"].get(variant)
    if recorded is None or not lock.is_file() or digest_file(lock) != recorded:
        raise _refusal(found, f"no {LOCKS[variant]} with sha256 {recorded}")
    python = project / ".venv/bin/python"
    made = subprocess.run(
        ["bash", "docker/install.sh"],
        cwd=project, check=False, capture_output=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "VARIANT": variant, "SAIGEN_ENVIRONMENT": "host",
             "SAIGEN_PYTHON_VERSION": layer["python"]},
    )  # fmt: skip
    if made.returncode or not python.is_file():
        output = made.stderr.decode(errors="replace").strip()
        raise _refusal(found, (output.partition("refused: ")[2] or output[-400:])[:400])
    environment = os.environ | {"PYTHONPATH": str(project / "src")}
    asked = subprocess.run([python, "-c", _ASK], check=True, capture_output=True, env=environment)
    if left := _differences(wanted, json.loads(asked.stdout)):
        raise _refusal(found, f"its lock gives another one: {left}")
    return str(python)


def _differences(there: dict[str, str], here: dict[str, str]) -> str:
    """What is not as recorded, in words; empty if all is."""
    found = [
        f"{name} {there.get(name, 'missing')} -> {here.get(name, 'missing')}"
        for name in ("python", *sorted((there.keys() | here.keys()) - {"python"}))
        if there.get(name) != here.get(name)
    ]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(found[:5]) + more


def _refusal(found: str, why: str) -> Refusal:
    return Refusal(
        "the environment of the run cannot be made any more",
        where=f"{found} (recorded -> here)",
        expected="the packages of the run, from the lock of its commit",
        got=why,
        fix="`saigen rerun --here` trains in the environment at hand, and the diff names the rest",
    )
