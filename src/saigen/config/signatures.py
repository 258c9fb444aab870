"""What a callable takes: its parameters, their defaults and types, without importing it twice.

Reading a signature of torch takes its import, two seconds. So it is kept in
`.saigen/cache/signatures.json`, under digests of the files that made it: of the modules on the
way and of the classes it inherits from, and of a whole package that lies in this project. An
upgraded library or an edited class is read again; nothing has to be told.
"""

import contextlib
import functools
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from saigen.config.allowlist import allowed_modules, refuse_home, refuse_text, resolve
from saigen.config.parameter_types import Type, type_of
from saigen.digest import digest_file, digest_tree
from saigen.errors import Refusal
from saigen.files import write_whole

CACHE = Path(".saigen/cache/signatures.json")


@dataclass(frozen=True)
class Parameter:
    """One parameter; `kind` in inspect's words. `shown` is its default, empty if it has none, and
    `default` YAML that gives it, None if none can.
    """

    name: str
    kind: str
    default: str | None
    shown: str
    type: Type


@dataclass(frozen=True)
class Signature:
    """What a target takes, where it is defined, and which files that was read from."""

    target: str
    home: str
    parameters: tuple[Parameter, ...]
    files: dict[str, str]

    def named(self) -> dict[str, Parameter]:
        """The parameters that YAML can state by name."""
        kinds = ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")
        return {p.name: p for p in self.parameters if p.kind in kinds}

    def of_kind(self, kind: str) -> list[Parameter]:
        """The parameters of one of inspect's kinds, such as VAR_KEYWORD."""
        return [p for p in self.parameters if p.kind == kind]


@dataclass(frozen=True)
class _Kept:
    python: str
    signatures: dict[str, Signature]


def signatures(targets: list[tuple[str, str]], root: Path) -> dict[str, Signature]:
    """The signature of each (key, target), from the cache if nothing changed; by target.

    Raises Refusal if one is not allowed (before any import), missing, or cannot be inspected.
    """
    allowed = allowed_modules(root)
    for key, target in targets:
        refuse_text(target, allowed, key)
    kept = _load(root)
    found: dict[str, Signature] = {}
    digest = functools.cache(_digest)
    for key, target in targets:
        signature = found.get(target) or kept.get(target)
        files = signature.files if signature else {}
        if signature is None or not files or any(digest(Path(f)) != d for f, d in files.items()):
            signature = _inspect(target, allowed, key, root)
        refuse_home(target, signature.home, allowed, key)
        found[target] = signature
    if any(kept.get(target) != signature for target, signature in found.items()):
        _save({**kept, **found}, root)
    return found


def _inspect(target: str, allowed: tuple[str, ...], where: str, root: Path) -> Signature:
    called = resolve(target, allowed, where)
    try:
        parameters = () if _takes_nothing(called) else _parameters(called)
    except (ValueError, TypeError) as error:
        raise Refusal(
            f"{target} does not say which parameters it takes",
            where=where,
            expected="a callable whose signature Python can read, so that none stays hidden",
            got=str(error),
            fix=f"write a function in src/project that calls {target} and names each parameter",
        ) from error
    return Signature(target, called.__module__, parameters, _files(target, called, root))


def _takes_nothing(called: Callable[..., Any]) -> bool:
    """A torch module without an `__init__`: the inherited one says `*args` and refuses any."""
    init = getattr(called, "__init__", None)
    home = (getattr(init, "__module__", None), getattr(init, "__qualname__", None))
    return isinstance(called, type) and home == ("torch.nn.modules.module", "Module.__init__")


def _parameters(called: Callable[..., Any]) -> tuple[Parameter, ...]:
    source = called.__init__ if isinstance(called, type) else called  # type: ignore[misc]
    scope = getattr(inspect.unwrap(source), "__globals__", {})
    found = []
    for name, p in inspect.signature(called).parameters.items():
        shown = "" if p.default is p.empty else repr(p.default)
        default = _as_yaml(p.default) if shown else None
        found.append(Parameter(name, p.kind.name, default, shown, type_of(p.annotation, scope)))
    return tuple(found)


def _as_yaml(value: Any) -> str | None:
    """A default as one would paste it into YAML; None where YAML has no word for it."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return None
    # YAML reads 1e-08 as a number only with a dot, and OmegaConf writes it so
    digits, exponent, power = text.partition("e")
    bare = isinstance(value, float) and exponent and "." not in digits
    return f"{digits}.0e{power}" if bare else text


def _files(target: str, called: Callable[..., Any], root: Path) -> dict[str, str]:
    """Digests of all files that could change this signature, by path."""
    classes = called.__mro__ if isinstance(called, type) else ()
    parts = target.split(".")[:-1]
    names = {".".join(parts[: end + 1]) for end in range(len(parts))}
    names |= {called.__module__, *(kind.__module__ for kind in classes)}
    files = {getattr(sys.modules.get(name), "__file__", None) for name in names}
    paths = {_package(Path(file), root) for file in files if file}
    return {str(path): digest for path in sorted(paths) if (digest := _digest(path))}


def _package(path: Path, root: Path) -> Path:
    """The top folder of the package that a file of this project belongs to; a library's file."""
    folder = path.parent
    if not folder.is_relative_to(root.resolve()) or "site-packages" in folder.parts:
        return path
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _digest(path: Path) -> str:
    """The digest of a file, or of a folder's Python files; empty if there is neither."""
    if path.is_dir():
        files = sorted(path.rglob("[!.]*.py"))  # not an editor's .#name.py
        return digest_tree({str(file.relative_to(path)): digest_file(file) for file in files})
    return digest_file(path) if path.is_file() else ""


def _load(root: Path) -> dict[str, Signature]:
    """What was kept; nothing if there is no cache, or it is torn, or of another Python."""
    try:
        kept = TypeAdapter(_Kept).validate_json((root / CACHE).read_bytes())
    except (OSError, ValidationError):
        return {}
    return kept.signatures if kept.python == sys.version else {}


def _save(found: dict[str, Signature], root: Path) -> None:
    """Keep what was found. A folder that cannot be written only costs time."""
    with contextlib.suppress(OSError):
        (root / CACHE).parent.mkdir(parents=True, exist_ok=True)
        write_whole(root / CACHE, TypeAdapter(_Kept).dump_json(_Kept(sys.version, found)))
