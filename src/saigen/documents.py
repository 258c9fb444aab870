"""Nothing let in: what is read from disk is bounded, plain and of its schema, or refused in a line.

A record, a model folder, a config or a results folder may come from anybody. Names in it are
validated types, so that none leaves its folder or turns into an option; a document is UTF-8 and
JSON, of bounded size and depth, each key once; a file is a regular one, reached through no link.
"""

import json
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from saigen.errors import Refusal
from saigen.files import is_regular
from saigen.printing import HIDDEN, one_line

DOCUMENT_BYTES = 16 << 20  # of one document
DEPTH = 48  # of mappings and lists in each other
VALUES = 50_000  # of one document, keys included
_PATH_CHARACTERS = 1024
# What is read whole, and so held twice while it is made into tensors.
MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
_INTEGER = 2**64  # no whole number is further from zero


def _plain(text: str) -> str:
    if found := HIDDEN.search(text):
        raise ValueError(f"it holds the control character U+{ord(found[0]):04X}")
    return text


def _inside(path: str) -> str:
    parts = _plain(path).split("/")
    if "\\" in path or re.match("[A-Za-z]:", path) or {"", ".", ".."} & set(parts):
        raise ValueError("not the path of a file inside a folder: no '..', no '\\', not absolute")
    if any(part.lower() == ".git" or len(part.encode()) > 255 for part in parts):
        raise ValueError("a part of the path is .git, or longer than 255 bytes")
    return path


def is_inside(path: str) -> bool:
    """Whether a path may stand in a document as the name of a file inside a folder."""
    try:
        return bool(_inside(path)) and len(path) <= _PATH_CHARACTERS
    except ValueError:
        return False


def bounded(value: Any) -> Any:
    """The value, if it is as small and shallow as a config. Raises ValueError if not."""
    refuse_unbounded(value, values=10_000, depth=DEPTH - 16)
    return value


Text = Annotated[str, Field(max_length=1 << 16)]
Line = Annotated[Text, AfterValidator(_plain)]  # what may stand in an environment
Name = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_plain)]
RelativePath = Annotated[
    str, Field(min_length=1, max_length=_PATH_CHARACTERS), AfterValidator(_inside)
]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
GitCommit = Annotated[str, Field(pattern="^[0-9a-f]{7,64}$")]
RunId = Annotated[str, Field(pattern="^[0-9A-Za-z][0-9A-Za-z_.-]{0,99}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Tree = Annotated[dict[str, Any], AfterValidator(bounded)]  # of values that nobody looks into


class Document(BaseModel):
    """What is written or answered, and published in docs/schemas/: frozen, no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def json_text(self) -> str:
        """The document as a verb gives it under `--json`; the first key names the schema."""
        return self.model_dump_json(indent=2, by_alias=True)


class Open(Document):
    """A part that may hold more than what is read of it."""

    model_config = ConfigDict(extra="allow")


def refuse_unbounded(value: Any, *, values: int = VALUES, depth: int = DEPTH) -> None:
    """Raise ValueError on a value that is too deep, too large, or holds half a character."""
    level, seen = [value], 0
    for _ in range(depth):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                for key in one:
                    _plain(key)
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str):
                one.encode()  # UnicodeEncodeError is a ValueError
        seen += len(inner)
        if seen > values:
            raise ValueError(f"more than {values} values")
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {depth} deep")


def parse_json(content: bytes, **bounds: int) -> Any:
    """The value of a JSON text. Raises ValueError on all that is not plain and bounded JSON."""
    try:
        value = json.loads(
            content.decode(),  # UTF-8, not what json.loads would guess
            object_pairs_hook=_pairs,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_float,
        )
    except RecursionError:
        raise ValueError(f"nested more than {DEPTH} deep") from None
    refuse_unbounded(value, **bounds)
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return found


def _integer(text: str) -> int:
    if len(text) > 21 or abs(found := int(text)) >= _INTEGER:
        raise ValueError(f"the number {text[:24]} is too large")
    return found


def _float(text: str) -> float:
    if not math.isfinite(found := float(text)):
        raise ValueError(f"{text[:24]} is no finite number")
    return found


def read_document(
    path: Path,
    model: Any,
    *,
    name: str,
    expected: str,
    fix: str,
    content: bytes | None = None,
    limit: int = DOCUMENT_BYTES,
    **bounds: int,
) -> Any:
    """The value in a JSON file, plain, once it is what a pydantic model or type says.

    `content`: what was read of it already; `bounds`: other ones of `refuse_unbounded`. Raises
    Refusal, which calls the document `name`, on anything else.
    """
    try:
        value = parse_json(read_bytes(path, limit) if content is None else content, **bounds)
        conform(value, model)
    except (OSError, ValueError) as error:
        raise Refusal(
            f"this is not a readable {name}",
            where=str(path),
            expected=expected,
            got=reason(error),
            fix=fix,
        ) from error
    return value


def conform(value: Any, model: Any) -> None:
    """Raise ValidationError, a ValueError, unless a plain value is what a model or type says.

    What is written is held to it as what is read is.
    """
    if isinstance(model, type) and issubclass(model, BaseModel):
        model.model_validate(value, strict=True)
    else:
        TypeAdapter(model).validate_python(value, strict=True)


def reason(error: Exception) -> str:
    """Why a document could not be read, in a line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        return one_line(f"{key}: {first['msg'].removeprefix('Value error, ')}")[:300]
    if isinstance(error, UnicodeError):
        return "bytes that are not UTF-8"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return one_line(str(error) or type(error).__name__)[:300]


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; OSError or ValueError otherwise.

    Neither a pipe nor a device is opened, so that nothing waits for them.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_size > limit:
            raise ValueError(f"more than {limit} bytes")
        content = file.read(status.st_size + 1)
    if len(content) > status.st_size:
        raise ValueError("it grew while it was read")
    return content


def regular(folder: Path, name: str) -> Path | None:
    """The path of a regular file below a folder; None if there is none.

    Raises Refusal if it is something else, or if a link leads there: it might lead anywhere.
    """
    path = folder
    for part in Path(name).parts:
        path /= part
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not (stat.S_ISDIR(mode) or is_regular(path)):
            raise _irregular(path, mode)
    if stat.S_ISDIR(mode):
        raise _irregular(path, mode)
    return path


def regular_files(folder: Path) -> Iterator[str]:
    """The name of every file below a folder, in order. Raises Refusal as `regular` does."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        mode = path.lstat().st_mode
        if is_regular(path):
            yield str(path.relative_to(folder))
        elif not stat.S_ISDIR(mode):
            raise _irregular(path, mode)


def copy_regular(source: Path, target: Path, skip: Callable[[str], bool] = lambda _: False) -> None:
    """Copy a folder of regular files. Raises Refusal, before it copies anything, if there is
    another kind of file in it.
    """
    names = [name for name in regular_files(source) if not skip(name)]
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def write_inside(folder: Path, name: str, content: bytes) -> None:
    """Write a file below a folder, in place of a link of this name. Raises Refusal if a link leads
    out of the folder on the way.
    """
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise _irregular(path.parent, stat.S_IFLNK)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_bytes(content)


_KINDS = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder"}


def _irregular(path: Path, mode: int) -> Refusal:
    return Refusal(
        "a link or a special file stands where a plain file belongs",
        where=str(path),
        expected="a regular file, reached through no link",
        got=_KINDS.get(stat.S_IFMT(mode), "a device, a pipe or a socket"),
        fix="look where it leads; if that is what you want, put a copy of it in its place "
        '(`cp --remove-destination "$(realpath FILE)" FILE`)',
    )
