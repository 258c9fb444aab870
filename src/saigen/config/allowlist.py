"""What a config may call: modules that pyproject.toml names, and nothing reached through them.

The text of a `_target_` is checked before anything is imported, and the object that it leads to
once more: `torch.nn.modules.os.system` begins with an allowed name and ends in another module.
"""

import importlib
import re
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from saigen.config.keys import nearest
from saigen.errors import Refusal

PYPROJECT = "pyproject.toml"
# what a module does when it is started it may do when one of its functions is called
_PROGRAM = re.compile(r"^if __name__ ==", re.MULTILINE)
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@cache
def allowed_modules(root: Path) -> tuple[str, ...]:
    """The list `[tool.saigen] allow` of the project: modules, each with all that it contains.

    Raises Refusal if there is none.
    """
    where = root / PYPROJECT
    try:
        settings = tomllib.loads(where.read_text(encoding="utf-8"))
        allowed = settings["tool"]["saigen"]["allow"]
        assert isinstance(allowed, list)
        assert all(isinstance(name, str) and name for name in allowed)
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, AssertionError) as error:
        raise Refusal(
            "the project does not say what a config may call",
            where=f"tool.saigen.allow ({where})",
            expected="a list of module names",
            got=f"{type(error).__name__}: {error}",
            fix='write [tool.saigen] and allow = ["project", "torch.nn", "torch.optim"]',
        ) from error
    return tuple(allowed)


def refuse_text(target: Any, allowed: tuple[str, ...], where: str) -> None:
    """Raise Refusal unless the text of a `_target_` may be looked at. Imports nothing."""
    if not isinstance(target, str) or not _PATH.fullmatch(target):
        raise _refusal(target, allowed, where, "it is not the dotted name of a callable")
    if private := [part for part in target.split(".") if part.startswith("_")]:
        raise _refusal(target, allowed, where, f"{private[0]!r} is private")
    if not _within(target.rpartition(".")[0], allowed):
        raise _refusal(target, allowed, where, "the project does not allow this module")


def refuse_home(target: str, home: str, allowed: tuple[str, ...], where: str) -> None:
    """Raise Refusal unless the module that defines the target's object is allowed as well."""
    if not _within(home, allowed):
        raise _refusal(target, allowed, where, f"it is defined in {home}, which is not allowed")


def resolve(target: str, allowed: tuple[str, ...], where: str) -> Callable[..., Any]:
    """Import what a `_target_` names: a class or function of a module, never of an object.

    Raises Refusal before the import if the text is not allowed, and after it if the object
    comes from elsewhere or is no callable.
    """
    refuse_text(target, allowed, where)
    *path, name = target.split(".")
    holder = _module(path, target, allowed, where)
    if not hasattr(holder, name):
        refusal = _refusal(target, allowed, where, f"{'.'.join(path)} has no {name!r}")
        if near := nearest(name, [n for n in vars(holder) if not n.startswith("_")]):
            refusal.fix = f"write {'.'.join(path)}.{near}"
        raise refusal
    found = getattr(holder, name)
    home = getattr(found, "__module__", None)
    # an object that can be called, such as a `functools.partial`, has no name of its own
    if not callable(found) or not isinstance(home, str) or not hasattr(found, "__qualname__"):
        raise _refusal(target, allowed, where, f"{name!r} is no class or function")
    refuse_home(target, home, allowed, where)
    if _PROGRAM.search(_source(home)):
        raise _refusal(target, allowed, where, f"{home} is a program that a person starts")
    return found  # type: ignore[no-any-return]


def _source(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return Path(file).read_text(encoding="utf-8") if file.endswith(".py") else ""


def _module(path: list[str], target: str, allowed: tuple[str, ...], where: str) -> ModuleType:
    name = ".".join(path)
    # `torch.nn.modules.os` is an attribute that happens to be a module: not importable by name
    try:
        return sys.modules[name] if name in sys.modules else importlib.import_module(name)
    except Exception as error:
        reason = f"importing {name} raises {type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError):
            itself = error.name is None or f"{name}.".startswith(f"{error.name}.")
            there_is = "there is no module" if itself else f"{name} needs"
            reason = f"{there_is} {error.name!r}"
        raise _refusal(target, allowed, where, reason) from error


def _within(module: str, allowed: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{name}.") for name in allowed)


def _refusal(target: Any, allowed: tuple[str, ...], where: str, reason: str) -> Refusal:
    return Refusal(
        f"{target!r} cannot be called from a config: {reason}",
        where=where,
        expected=f"a class or function defined in {', '.join(allowed)}",
        got=repr(target),
        fix="name one of those, or wrap it in a function in src/project; what may be called "
        f"is listed in {PYPROJECT}, [tool.saigen] allow",
    )
