"""One interpreter that has imported torch, from which the bench forks its verbs, and the score."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Project, copy_project, warm
from lab import Attempt
from zygote import Zygote

from faults.score import scored


class Forked(Project):
    """A copy of the project whose verbs are forked. One whose instrument is patched says so."""

    def __init__(self, root: Path, zygote: Zygote, *, patched: bool = False) -> None:
        super().__init__(root)
        self._zygote, self._count = zygote, 0
        self.patched = patched

    def start(self, argv: list[str], log: Path, *, env=None, plan=None) -> int:
        """Start a verb, or a plan of perturbed.py; its pid."""
        given = {"PYTHONPATH": str(self.root / "src"), **(env or {})}
        return self._zygote.start(argv, self.root, given, log, plan=plan, anew=self.patched)

    def verb(self, *argv: str, env=None, plan=None) -> tuple[int, str]:
        """Run a verb, or a plan; its exit code and what it printed."""
        self._count += 1
        log = self.root.parent / f"log-{self._count}"
        (code,) = Attempt({self.start(list(argv), log, env=env, plan=plan): log}).codes()
        return code, log.read_text()

    def saigen(self, *argv: str, env=None) -> str:
        """Run a verb that must succeed; returns what it printed."""
        code, said = self.verb(*argv, env=env)
        assert code == 0, said
        return said

    def patch(self, file: str, old: str, new: str) -> None:
        """Replace a text that must be there."""
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} has changed"
        path.write_text(text.replace(old, new, 1))
        self.patched |= file.startswith("src/saigen/")

    def diff(self, a: str = "last~1", b: str = "last", code: int = 1) -> dict:
        """The document of `saigen diff`."""
        got, said = self.verb("diff", "--json", a, b)
        assert got == code, said
        return json.loads(said)


@pytest.fixture(scope="session")
def zygote():
    return warm()


@pytest.fixture
def forked(zygote, tmp_path, _prepared_once):
    """Makes copies of the project, prepared, or of a project with its runs."""

    def make(name: str = "project", like: Path | None = None) -> Forked:
        root = tmp_path / name / "project"
        if like is None:
            copy_project(root)
            shutil.copytree(_prepared_once, root / "prepared")
        else:
            shutil.copytree(like, root, symlinks=True)
        return Forked(root, zygote)

    return make


@pytest.fixture
def score(request):
    with scored(request.node) as score:
        yield score
