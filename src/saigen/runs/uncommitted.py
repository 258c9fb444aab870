"""What git did not have when a run began: named in the record, and kept as far as a run reads it.

Kept in `uncommitted/` is a patch of tracked files (`code.patch`), which was applied to the commit
in memory when it was made, and files that commit and patch do not give (`untracked/`): of src/,
conf/, the pointers of data, pyproject.toml and the locks. Everything else is named with its digest.
What holds a secret, is named like a key, or is a link out of the project is only named.
"""

import stat
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from saigen import git_dvc
from saigen.digest import digest_bytes, digest_file
from saigen.documents import is_inside
from saigen.files import write_whole
from saigen.printing import one_line
from saigen.secret_scan import named_like_a_key, redact, scan, scan_bytes

UNCOMMITTED = "uncommitted"  # folder of a run
_READ = ("src/*", "conf/*", "*.dvc", "dvc.yaml", "pyproject.toml", "docker/lock-*.txt")
_OWN = (
    ".dvc/",
    "dvc.lock",
    "params.yaml",
    "prepare_sources.json",
    "run_sources.json",
    "results/",
)  # what the pipeline itself writes
_PRIVATE = "conf/local/"  # this machine's own
_KEPT_BYTES = 1 << 20
_KEY = "named like a key"
_OUTSIDE = "a link out of the project"


def state(root: Path, among: Collection[str] | None = None) -> dict[str, Any]:
    """Commit, branch, and by name with digest what is not committed: changed, untracked, links
    (name: target). An empty digest: the file is gone. What is never looked into is in `left_out`.
    `among`: of untracked files these alone.

    Outside a git repository, or without git, all is None or empty.
    """
    commit = git_dvc.head(root)
    found: dict[str, Any] = {"commit": commit, "branch": None, "changed": {}, "untracked": {}}
    found |= {"links": {}, "left_out": {}}
    if commit is None:
        return found
    found["branch"] = git_dvc.branch(root)
    untracked = [n for n in git_dvc.untracked(root) if among is None or n in among]
    for kind, names in (("changed", git_dvc.changed(root)), ("untracked", untracked)):
        for name in sorted(name for name in names if not name.startswith(_OWN)):
            path = root / name
            if not is_inside(name):
                found["left_out"][one_line(name)[:500]] = "a name that no record holds"
            elif named_like_a_key(name):
                found["left_out"][name] = _KEY
            elif path.is_symlink():
                if _leads_out(root, path):
                    found["left_out"][name] = _OUTSIDE
                else:
                    found["links"][name] = str(path.readlink())
            elif path.is_file():
                try:
                    found[kind][name] = digest_file(path)
                except OSError:
                    found["left_out"][name] = "not readable"
            elif kind == "changed" and not path.exists():
                found[kind][name] = ""
    return found


def keep(root: Path, folder: Path, found: dict[str, Any], code: Iterable[str]) -> dict[str, Any]:
    """Keep it in a run's folder; returns what the record says: `found` with the patch's digest, and
    with every file that was left out and why.

    `code`: the files of the code layer. Raises Refusal if the patch cannot be applied again.
    """
    left_out: dict[str, str] = dict(found["left_out"])
    if found["commit"] is None:
        return {**found, "patch_sha256": None}
    kept_in = folder / UNCOMMITTED
    code = [name for name in code if name not in left_out]
    names = [n for n in {**found["changed"], **found["links"]} if _is_read(n) and n not in left_out]
    patch, names = _clean_patch(root, names, left_out)
    there = {name: root / name for name in code if not (root / name).is_symlink()}
    whole = git_dvc.differing_after(root, there, patch)
    whole += [n for n in found["untracked"] if _is_read(n) and n not in whole]
    if patch:
        modes = [(root / name).stat().st_mode for name in names if (root / name).is_file()]
        write_whole(kept_in / "code.patch", patch, mode=_common(modes))
    for name in whole:
        if name in left_out:
            continue
        if objection := _objection(root, name, code):
            left_out[name] = objection
            continue
        copy, path = kept_in / "untracked" / name, root / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_whole(copy, path.read_bytes(), mode=path.stat().st_mode & 0o777)
    return {**found, "patch_sha256": digest_bytes(patch) if patch else None, "left_out": left_out}


def left_out_line(found: Mapping[str, Any]) -> str:
    """One line on what was left out; empty if nothing was."""
    parts = [f"{redact(name)}: {why}" for name, why in sorted(found["left_out"].items())]
    more = f"; and {len(parts) - 8} more" if len(parts) > 8 else ""
    return f"note: not kept with this run: {'; '.join(parts[:8])}{more}" if parts else ""


def _is_read(name: str) -> bool:
    """Whether a run may read a file, so that it is kept whole."""
    return not name.startswith(_PRIVATE) and any(fnmatch(name, pattern) for pattern in _READ)


def _clean_patch(root: Path, names: list[str], left_out: dict[str, str]) -> tuple[bytes, list[str]]:
    """The patch of these files without those in which it would hold a secret, and their names."""
    patch = git_dvc.patch(root, names)
    if b"\nGIT binary patch\n" not in patch and not scan_bytes(patch):
        return patch, names
    clean = []
    for name in names:
        why = _secrets_in(root, name, git_dvc.patch(root, [name]))
        if why:
            left_out[name] = why
        else:
            clean.append(name)
    return git_dvc.patch(root, clean), clean


def _secrets_in(root: Path, name: str, patch: bytes) -> str:
    """What secret the patch of one file would hold; empty if none."""
    path = root / name
    now = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    if b"\nGIT binary patch\n" in patch:
        before = git_dvc.committed(root, "HEAD", name) or b""
        held = scan_bytes(now) or scan_bytes(before)
    else:
        lines = patch.decode(errors="replace").splitlines()
        held = scan("\n".join(line[1:] for line in lines if line[:1] in ("+", "-", " ")))
    if not held:
        return ""
    where = scan_bytes(now)
    return f"line {where[0]}" if where else f"a removed line ({held[0].form})"


def _objection(root: Path, name: str, code: Iterable[str]) -> str:
    """Why a file is not kept whole; empty if it is."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        return _OUTSIDE
    if path.stat().st_size > _KEPT_BYTES and name not in code:
        return "larger than 1 MiB"
    found = scan_bytes(path.read_bytes())
    return f"line {found[0]}" if found else ""


def _leads_out(root: Path, link: Path) -> bool:
    absolute = link.readlink().is_absolute()
    return absolute or not link.resolve().is_relative_to(root.resolve())


def _common(modes: Iterable[int]) -> int:
    """The rights that all of these files grant."""
    granted = 0o666
    for mode in modes:
        granted &= stat.S_IMODE(mode)
    return granted | stat.S_IRUSR | stat.S_IWUSR
