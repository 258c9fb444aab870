"""The recipe of a loop that is not ours: what is declared of it, and what can be seen of it."""

import hashlib
import os
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from saigen.digest import digest_file
from saigen.documents import is_inside
from saigen.environment import machine, torch_flags
from saigen.errors import Refusal, refuse_secrets
from saigen.project_code import is_project
from saigen.recipe import Layer
from saigen.source_code import sources_below

_FILES = 10_000  # of declared data, at most
_OWN = ("params", "initial_lr")  # of a parameter group: no settings


def of_data(root: Path, declared: Iterable[str | os.PathLike[str]]) -> tuple[Layer, dict[str, str]]:
    """The declared files, those of a declared folder included, each with its SHA-256; and where
    those lie that are not below the folder in which the script was started.
    """
    files: dict[str, str] = {}
    outside: dict[str, str] = {}
    for given in declared:
        path = Path(os.path.normpath(Path(given).absolute()))
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in found:
            inside = file.is_relative_to(root)
            name = str(file.relative_to(root)) if inside else str(file).lstrip("/")
            if not file.is_file() or not is_inside(name):
                raise _not_data(
                    "it is not there" if not file.exists() else "not a plain file", file
                )
            files[name] = digest_file(file)
            if not inside:
                outside[name] = str(file)
        if len(files) > _FILES:
            raise _not_data(f"more than {_FILES} files", path)
    return Layer("data", {"files": dict(sorted(files.items()))}), outside


def _not_data(got: str, path: Path) -> Refusal:
    return Refusal(
        "declared data cannot be recorded",
        where=f"saigen.watch(data=...): {path}",
        expected=f"files, or folders of files, {_FILES} at most",
        got=got,
        fix="name files that are there; of many, an archive or a list with their digests",
    )


def of_config(
    given: Any,
    optimizers: Sequence[torch.optim.Optimizer],
    scheduler: Any,
    trainer: Mapping[str, Any],
) -> Layer:
    """What was declared, the command line, and what optimizer and scheduler were built with."""
    values = {
        "given": plain(dict(given if isinstance(given, Mapping) else vars(given)), "recipe"),
        "arguments": sys.argv[1:],
        "optimizer": {str(n): _optimizer(one) for n, one in enumerate(optimizers)},
    }
    if scheduler is not None:
        state = {k: v for k, v in scheduler.state_dict().items() if not k.startswith("_")}
        values["scheduler"] = {"class": _name(scheduler), **_settings(state)}
    if trainer:
        values["trainer"] = _settings(trainer)
    refuse_secrets(values, lambda key: f"saigen.watch: {key}", "what is watched")
    return Layer("config", {"values": values})


def _optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its class, and the settings of each group: of one group without the group's number."""
    groups = [
        _settings({k: v for k, v in g.items() if k not in _OWN}) for g in optimizer.param_groups
    ]
    numbered = {f"group_{n}": group for n, group in enumerate(groups)}
    return {"class": _name(optimizer), **(groups[0] if len(groups) == 1 else numbered)}


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of some settings a record has words for; of anything else what it is."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        try:
            found[str(key)] = plain(value, str(key))
        except Refusal:
            found[str(key)] = _name(value)
    return found


def _name(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def plain(value: Any, where: str) -> Any:
    """A value as JSON has it. Raises Refusal, by its key, on one that JSON has no word for."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(part, f"{where}.{n}") for n, part in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted(plain(part, where) for part in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    raise Refusal(
        "a record has no word for this",
        where=f"saigen.watch: {where}",
        expected="numbers, texts, None, and lists and dictionaries of them",
        got=_name(value),
        fix="give the settings that it was made of, or str(...) of it",
    )


def of_code(root: Path) -> Layer:
    """The script and the modules of its folder that it imports, those inside functions included."""
    files = {str(f.relative_to(root)): digest_file(f) for f in loaded(root)}
    script = getattr(sys.modules["__main__"], "__file__", None)
    scripts = [Path(script).resolve()] if script and script.endswith(".py") else []
    files |= sources_below(root, scripts, [root / path for path in module_paths(root)])
    return Layer("code", {"files": dict(sorted(files.items()))})


def module_paths(root: Path) -> list[str]:
    """The folders of the script that Python imports from, below the one it was started in."""
    paths = (Path(path).resolve() for path in sys.path)
    own = [p for p in paths if p.is_relative_to(root) and is_project(str(p / "any.py"))]
    return [str(path.relative_to(root)) for path in dict.fromkeys(own)]


def loaded(root: Path) -> list[Path]:
    """The files of this process's modules that lie below the script's folder and are no library."""
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
        if file and file.endswith(".py") and is_project(file):
            path = Path(file).resolve()
            if path.is_relative_to(root) and path.is_file():
                found.add(path)
    return sorted(found)


def of_environment(root: Path, model: nn.Module) -> Layer:
    """What is installed, and how torch is set, as it is: nothing is changed."""
    device = "cuda" if any(p.is_cuda for p in model.parameters()) else "cpu"
    switches = torch_flags.read_back()
    return machine.capture(root, switches, device, portable=False, replaced={})


def of_randomness() -> Layer:
    """Torch's generator, whose seed is torch's own where the script gives none."""
    seeds = {"torch": torch.initial_seed()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        seeds["cuda"] = torch.cuda.initial_seed()
    seeds = {name: seed % 2**64 for name, seed in seeds.items()}
    state = {"torch": _digest(torch.get_rng_state().numpy().tobytes())}
    return Layer("randomness", {"scheme": "the script's own", "seeds": seeds, "state": state})


def generators() -> dict[str, str]:
    """Where the generators of Python and NumPy stand, which nobody need have seeded."""
    _, keys, *rest = np.random.get_state()
    text = f"{np.asarray(keys).tolist()} {rest}"
    return {"python": _digest(repr(random.getstate()).encode()), "numpy": _digest(text.encode())}


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def of_distribution(processes: int) -> Layer:
    """How many processes made a step together; how, the script knows."""
    return Layer("distribution", {"processes": processes})
