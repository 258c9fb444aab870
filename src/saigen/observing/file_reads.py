"""What the project's own code imports and opens while it runs, beyond what its text says."""

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saigen.config.allowlist import allowed_modules
from saigen.digest import digest_file
from saigen.observing import hook
from saigen.source_code import SOURCE


@contextmanager
def noted(root: Path, known: Collection[str]) -> Iterator[dict[str, str]]:
    """Run the body and note each file of the project that it reads: digest by path from `root`.

    Gives a dict that is full when the body ended. Files that are `known`, that lie in hidden
    folders or belong to the instrument are left out. The project's modules are imported anew in
    the body, so that what was imported before it is noted all the same.
    """
    found: dict[str, str] = {}
    allowed_modules(Path.cwd())  # which opens a file the first time
    base = Path(os.path.abspath(root))  # noqa: PTH100 - links are not followed
    before = _modules(root)
    for name in before:
        del sys.modules[name]
    hook.install()
    opened: set[str] = set()
    hook.readers.append(opened)
    try:
        yield found
    finally:
        hook.readers[:] = [reader for reader in hook.readers if reader is not opened]
        imported = _modules(root)
        if before:
            for name in imported:
                del sys.modules[name]
            sys.modules.update(before)
    read = {Path(path) for path in opened if not path.endswith((".py", ".pyc"))}
    inside = {p.relative_to(base): p for p in read if p.is_relative_to(base)}
    source = (root / SOURCE).resolve()  # which may be a link
    inside |= {SOURCE / p.relative_to(source): p for p in map(_file, imported.values())}
    for part, path in sorted(inside.items()):
        if str(part) not in known and not part.parts[0].startswith(".") and path.is_file():
            found[str(part)] = digest_file(path)


def _modules(root: Path) -> dict[str, Any]:
    """The modules below src/ that are imported, without the instrument's."""
    source = (root / SOURCE).resolve()
    return {
        name: module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in ("saigen", "__main__", "__mp_main__")
        and getattr(module, "__file__", None)
        and _file(module).is_relative_to(source)
    }


def _file(module: Any) -> Path:
    return Path(module.__file__).resolve()
