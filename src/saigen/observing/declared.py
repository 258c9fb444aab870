"""Declared inputs: what the project reads besides the snapshot, digested into the recipe."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saigen.config.schema import Inputs
from saigen.digest_cache import digest_unless_seen
from saigen.errors import Refusal
from saigen.observing.hook import SYSTEM
from saigen.observing.observed import ABSENT
from saigen.observing.secrets import is_secret

_SHOWN = 6


def declared(inputs: Inputs, root: Path) -> dict[str, dict[str, Any]]:
    """Digests of the files, of the files of each folder, and the variables; empty if there are
    none. Raises Refusal on a path that is not there or leads out, and on a secret.
    """
    found: dict[str, dict[str, Any]] = {
        "files": {name: _digest(name, root, folder=False) for name in inputs.files},
        "folders": {name: _digest(name, root, folder=True) for name in inputs.folders},
        "variables": {name: _variable(name) for name in inputs.variables},
    }
    return {kind: values for kind, values in found.items() if values}


def kept_files(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The digest of each file among declared inputs, by path."""
    folders = found.get("folders", {}).items()
    inside = {f"{name}/{inner}": d for name, files in folders for inner, d in files.items()}
    return {**found.get("files", {}), **inside}


def observed_files(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The digest of each file and module that was observed, by path."""
    read = [e for e in entries if e["kind"] in ("file", "module") and len(e["value"]) == 64]
    return {e["name"]: e["value"] for e in read if not e["name"].startswith(SYSTEM)}


def undeclared(observed: Sequence[dict[str, Any]], inputs: Inputs) -> list[dict[str, Any]]:
    """The observed inputs that a config does not declare."""
    folders = tuple(f"{name.rstrip('/')}/" for name in inputs.folders)

    def is_declared(entry: Mapping[str, Any]) -> bool:
        kind, name = entry["kind"], entry["name"]
        if kind == "variable":
            return name in inputs.variables
        return kind in ("file", "module", "folder") and (
            name in inputs.files or name.startswith(folders)
        )

    return [entry for entry in observed if not is_declared(entry)]


def words(entries: Sequence[Mapping[str, Any]]) -> str:
    """Some of the inputs, in a line."""
    told = [f"{e['kind']} {e['name']}" + (f" ({e['line']})" if e["line"] else "") for e in entries]
    more = len(told) - _SHOWN
    return ", ".join(told[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def refuse_altered(recorded: Mapping[str, Any], found: Mapping[str, Any], run: str) -> None:
    """Raise Refusal where the declared inputs are not those that a run was trained with."""
    if recorded == found:
        return
    names = [
        f"{kind[:-1]} {name}"
        for kind in ("files", "folders", "variables")
        for name in {**recorded.get(kind, {}), **found.get(kind, {})}
        if recorded.get(kind, {}).get(name) != found.get(kind, {}).get(name)
    ]
    raise Refusal(
        "a declared input is not the one that this run was trained with",
        where=", ".join(names),
        expected=f"what the record of {run} names",
        got="another",
        fix=f"bring it back; or `saigen rerun {run}`, which takes what was kept",
    )


def refuse_undeclared(entries: Sequence[Mapping[str, Any]], inputs: Inputs) -> None:
    """Raise Refusal on inputs that nothing declares, where a config does not take them."""
    if entries and inputs.undeclared == "refuse":
        raise Refusal(
            "the project takes in what its recipe does not name",
            where="inputs",
            expected="every input under `inputs`: files, folders or variables",
            got=words(entries),
            fix="declare them in conf/inputs; or inputs.undeclared=warn, which only records them",
        )


def _digest(name: str, root: Path, *, folder: bool) -> Any:
    path = root / name
    outside = Path(name).is_absolute() or ".." in Path(name).parts
    if outside or not (path.is_dir() if folder else path.is_file()):
        raise Refusal(
            "a declared input is not there",
            where=f"inputs.{'folders' if folder else 'files'}: {name}",
            expected=f"a {'folder' if folder else 'file'}, by its path from the project's folder",
            got="a path out of the project" if outside else "no such thing",
            fix="bring it, or take it out of `inputs`",
        )
    if not folder:
        return digest_unless_seen(path, root)
    files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(p.relative_to(path)): digest_unless_seen(p, root) for p in files}


def _variable(name: str) -> str:
    value = os.environ.get(name, ABSENT)
    if is_secret(name, value):
        raise Refusal(
            "a secret cannot be a part of a recipe",
            where=f"inputs.variables: {name}",
            expected="a variable that anybody may read in a record",
            got="one that looks like a secret",
            fix="take it out of `inputs`: what is read of it is recorded under a key of this clone",
        )
    return value
