"""The environment of a run: the one at hand if it is the same, else made from the run's lock."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from saigen.digest import digest_file
from saigen.judgement.run import Run
from saigen.recipe.environment import LOCKS, installed_packages
from saigen.refusal import Refusal

_ASK = (
    "import json, platform; from saigen.recipe.environment import installed_packages; "
    "print(json.dumps([platform.python_version(), installed_packages()]))"
)


def interpreter(run: Run, project: Path, say: Callable[[str], None], *, install: bool) -> str:
    """The Python to make a run again with, in the worktree that has the run's lock.

    With `install` false it is always the one at hand. Raises Refusal, naming the packages, if the
    run's environment is another one and cannot be made.
    """
    found = _differences(run, platform.python_version(), installed_packages())
    if not found:
        say("environment: as recorded")
        return sys.executable
    if not install:
        say(f"environment: {_shown(found)}; training in this one all the same")
        _allow_drift(project)
        return sys.executable
    say(f"environment: {_shown(found)}; making the run's own from its lock")
    variant = "cpu" if "+cpu" in run.layer("environment")["packages"].get("torch", "") else "cuda"
    lock = project / LOCKS[variant]
    recorded = run.layer("environment")["lock"].get(variant)
    if recorded is None or not lock.is_file() or digest_file(lock) != recorded:
        raise _refusal(found, f"no {LOCKS[variant]} with sha256 {recorded}")
    python = project / ".venv/bin/python"
    made = subprocess.run(
        ["bash", "docker/install.sh"],
        cwd=project, check=False, capture_output=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "VARIANT": variant, "SAIGEN_ENVIRONMENT": "host",
             "SAIGEN_PYTHON_VERSION": run.layer("environment")["python"]},
    )  # fmt: skip
    if made.returncode or not python.is_file():
        said = made.stderr.decode(errors="replace").strip()
        raise _refusal(found, (said.partition("refused: ")[2] or said[-400:])[:400])
    environment = os.environ | {"PYTHONPATH": str(project / "src")}
    asked = subprocess.run(
        [python, "-c", _ASK], check=True, capture_output=True, env=environment
    )  # fmt: skip
    if left := _differences(run, *json.loads(asked.stdout)):
        raise _refusal(found, f"its lock gives another one: {_shown(left)}")
    return str(python)


def _allow_drift(project: Path) -> None:
    """Let the run's config take an environment that is not locked; an older one asks nothing."""
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "environment_drift" in values["agreement"]:
        values["agreement"]["environment_drift"] = "warn"
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _differences(run: Run, python: str, packages: dict[str, str]) -> list[str]:
    """What is not as recorded, in words."""
    recorded: dict[str, Any] = run.layer("environment")
    pairs = {"python": (recorded["python"], python)} | {
        name: (recorded["packages"].get(name), packages.get(name))
        for name in sorted(recorded["packages"].keys() | packages.keys())
    }
    return [
        f"{name} {there or 'missing'} -> {here or 'missing'}"
        for name, (there, here) in pairs.items()
        if there != here
    ]


def _shown(found: list[str]) -> str:
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"{', '.join(found[:5])}{more}"


def _refusal(found: list[str], why: str) -> Refusal:
    return Refusal(
        "the environment of the run cannot be made any more",
        where=f"{_shown(found)} (recorded -> here)",
        expected="the packages of the run, from the lock of its commit",
        got=why,
        fix="`saigen rerun --here` trains in the environment at hand, and the diff names the rest",
    )
