"""Files and folders that appear whole or not at all, and the locks of what is rewritten."""

import contextlib
import ctypes
import errno
import fcntl
import fnmatch
import json
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saigen import git_dvc
from saigen.digest import digest_file
from saigen.errors import Refusal

MANIFEST = "manifest.json"
_MARK = ".saigen-"  # in the names of what takes another's place
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # rename(2), Linux
# What a file system says that cannot exchange two names (NFS, FAT).
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV}


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never half.

    Temporary name in the same folder, fsync, rename, fsync of the folder (POSIX rename(2)). Makes
    the last folder of the path and no other: a place that is gone stays gone (OSError). `mode`: the
    rights it has at most; the umask takes from them.
    """
    path.parent.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask() if mode is None else mode)  # mkstemp makes 0600
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON (sorted keys, two spaces), whole or not at all."""
    write_whole(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file while the context lasts; gives whether it was to be had (without `wait`).

    A record lock (fcntl(2)) falls with the process that holds it, also when children that were
    forked from it live on, which inherit flock(2). Closing any descriptor of the file gives it
    up: a lock file is opened here and nowhere else, and not twice by one process.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        had = True
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            had = False
        yield had
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock file. Asks without locking (F_GETLK, fcntl(2)): a lock
    taken to ask would keep others away.
    """
    try:
        with path.open("rb") as lock:
            question = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
            answer: bytes = fcntl.fcntl(lock, fcntl.F_GETLK, question)
    except OSError:
        return False
    return bool(struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A folder to fill, which takes the target's place in one step when the context ends.

    Until then what stands there stays whole, and after an exception. A kill leaves a hidden folder
    beside the target, which the next replacement in that place removes.
    """
    with beside(target) as new:
        yield new
        if not _exchanged(new, target):
            # `old` is what `end_replacements` brings back after a kill between these two
            target.rename(new.with_name("old"))
            new.rename(target)
        sync_folder(target.parent)


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """An empty folder on the target's file system, gone when the context ends, unless it was moved
    away. What was written into it is on disk when it is moved by `move` or `replacing`.
    """
    end_replacements(target.parent)
    while True:
        workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}{_MARK}", dir=target.parent))
        with locked(workplace / "lock"):
            new = workplace / "new"
            try:
                new.mkdir()
            except FileNotFoundError:  # another process took it for left before it was locked
                continue
            try:
                yield new
            finally:
                _remove(workplace)
            return


def end_replacements(folder: Path) -> None:
    """Remove what killed processes left in a folder of what they were to replace there; end a
    replacement that had begun.
    """
    for left in list(folder.glob(f".*{_MARK}*")):
        target = folder / left.name[1:].rpartition(_MARK)[0]
        if not (left / "lock").is_file():
            continue  # just made, or nearly gone; empty
        with contextlib.suppress(OSError), locked(left / "lock", wait=False) as free:
            if free and not os.path.lexists(target) and (left / "old").is_dir():
                (left / "new").rename(target)
            if free:
                _remove(left)


def move(new: Path, target: Path) -> bool:
    """Move a folder that is whole to a name that is free; false where something stands there."""
    _sync(new)
    try:
        new.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    sync_folder(target.parent)
    return True


def refuse_unless_replaceable(folder: Path) -> None:
    """Raise Refusal unless what stands at a path is nothing, an empty folder, or one of ours: a
    manifest, and no file that it does not name.
    """
    if not os.path.lexists(folder):
        return
    got = ""
    if folder.is_symlink() or not folder.is_dir():
        got = f"a link to {folder.readlink()}" if folder.is_symlink() else "a file"
    elif any(folder.iterdir()):
        got = _stranger(folder)
    if got:
        raise Refusal(
            "what stands there is not ours to replace",
            where=str(folder),
            expected=f"nothing, an empty folder, or only files that its {MANIFEST} names",
            got=got,
            fix=f"name another folder, or move it away: mv {folder} {folder}.mine",
        )


def refuse_other_files(
    folder: Path,
    files: Mapping[str, str],
    manifest: str,
    *,
    what: str,
    fix: str,
    digest: Callable[[Path], str] = digest_file,
) -> None:
    """Raise Refusal unless a folder holds exactly these files, by path and SHA-256 (`digest`),
    beside its manifest. Hidden files (a file browser's, a network drive's) are nobody's, and never
    read.
    """
    there = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.name.startswith(".") and (path.is_symlink() or not path.is_dir())
    }
    for name in sorted(files.keys() | there - {manifest}):
        path, expected = folder / name, f"no file that {folder / manifest} does not name"
        if name in files:
            expected = f"sha256 {files[name]} ({folder / manifest})"
        got = f"sha256 {digest(path)}" if is_regular(path) else "no such file"
        if got == "no such file" and os.path.lexists(path):
            got = "a link, a pipe, a device or a folder"
        if name not in files or got != f"sha256 {files[name]}":
            raise Refusal(what, where=str(path), expected=expected, got=got, fix=fix)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# What file browsers and network drives leave in any folder they see: nobody misses it.
_LITTER = (".DS_Store", "._*", ".directory", ".nfs*", ".fuse_hidden*", "Thumbs.db", "desktop.ini")


def _stranger(folder: Path) -> str:
    """What a folder holds that its manifest does not name; empty if there is nothing."""
    try:
        known = {MANIFEST, *json.loads((folder / MANIFEST).read_bytes())["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return f"a folder without a readable {MANIFEST}"
    for top, folders, files in os.walk(folder):
        for name in (*files, *(n for n in folders if (Path(top) / n).is_symlink())):
            path = Path(top) / name
            inner = str(path.relative_to(folder))
            litter = is_regular(path) and any(fnmatch.fnmatchcase(name, p) for p in _LITTER)
            if inner not in known and not litter:
                return f"{inner}, which {MANIFEST} does not name"
    return ""


def _remove(workplace: Path) -> None:
    """Remove a folder to fill, its lock file last."""
    for name in ("new", "old", ""):
        shutil.rmtree(workplace / name, ignore_errors=True)


def _exchanged(new: Path, target: Path) -> bool:
    """Put a folder in another's place in one step; false where the file system cannot."""
    _sync(new)
    if not os.path.lexists(target):
        new.rename(target)
        return True
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None:
        return False
    names = os.fsencode(new), os.fsencode(target)
    if not exchange(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(target))


def _sync(folder: Path) -> None:
    """Wait until a folder, and all in it, is on disk."""
    for top, _, files in os.walk(folder):
        for path in (Path(top) / name for name in files):
            if path.is_file() and not path.is_symlink():
                sync_folder(path)
        sync_folder(Path(top))


def _umask() -> int:
    """The process's umask; POSIX can only read it by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def is_regular(path: Path) -> bool:
    """Whether a plain file stands at a path: no folder, no device, and no link but DVC's own into
    the cache of the project that this process stands in (`cache.type=symlink`).
    """
    try:
        mode = path.lstat().st_mode
        return stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and _is_cached(path))
    except OSError:
        return False


def _is_cached(link: Path) -> bool:
    target = link.readlink()
    if target.parts[-4:-2] != ("files", "md5"):  # as DVC names what it keeps; asking it costs 0.6 s
        return False
    cache, path = git_dvc.cache(Path.cwd()), (link.parent / target).resolve()
    return cache is not None and path.is_relative_to(cache) and path.is_file()
