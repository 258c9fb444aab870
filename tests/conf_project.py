"""The part of a project that composing needs: conf/ and the list of what it may call."""

import shutil
from pathlib import Path

import pytest

from saigen.config.compose import Composition, compose
from saigen.config.signatures import CACHE
from saigen.errors import Refusal

ROOT = Path(__file__).parent.parent


class Conf:
    """A copy of conf/ to break. The signatures that the real one needed are already known."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "conf"
        shutil.copytree(ROOT / "conf", self.folder, ignore=shutil.ignore_patterns("local"))
        shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
        if (ROOT / CACHE).is_file():
            (root / CACHE).parent.mkdir(parents=True)
            shutil.copyfile(ROOT / CACHE, root / CACHE)

    def compose(self, *overrides: str) -> Composition:
        return compose(overrides, self.folder)

    def refusal(self, *overrides: str) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.compose(*overrides)
        return caught.value

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.read(name)
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new, 1))
