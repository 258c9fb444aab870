"""Run the tests of the project here, and those of the instrument on the example they bring.

    python tests/run.py [pytest's arguments]

In the template itself the project is the example, and one run of pytest has all. After
`saigen init` the project may be anything: tests/project holds for whatever src/project and conf/
are, and the others run in .saigen/instrument, a copy of this folder with tests/example over it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "tests/example"
COPY = ROOT / ".saigen/instrument"
_REPLACED = ("src/project/", "conf/", "data/", ".dvc/", "tests/example/", "tests/project/",
             "dvc.lock", "params.yaml", "prepare_sources.json", "results/",
             "run_sources.json")  # fmt: skip
_STAYS = {".git", ".saigen", "data"}  # in the copy, from one time to the next
NONE_FOUND = 5  # pytest's exit code where no test was asked for


def main(arguments: list[str]) -> int:
    """Run both; the exit code of the first that failed."""
    if not EXAMPLE.is_dir():
        return _pytest(ROOT, arguments)
    paths = [a for a in arguments if a.startswith("tests/") and Path(a.partition("::")[0]).exists()]
    others = [a for a in arguments if a not in paths]
    mine = [path for path in paths if Path(path).resolve().is_relative_to(ROOT / "tests/project")]
    codes = []
    if mine or not paths:
        print("== tests of the project", flush=True)
        codes.append(_pytest(ROOT, [*others, *(mine or ["tests/project"])]))
    if rest := [path for path in paths if path not in mine] or [] if paths else ["tests"]:
        print("== tests of the instrument, on its example", flush=True)
        lay_out()
        codes.append(_pytest(COPY, [*others, *rest]))
    codes = [code for code in codes if code != NONE_FOUND] or codes
    return next(filter(None, codes), 0)


def lay_out() -> None:
    """Bring the copy up to date."""
    COPY.mkdir(parents=True, exist_ok=True)
    for path in COPY.iterdir():
        if path.name not in _STAYS:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in _files():
        if not name.startswith(_REPLACED):
            _copy(ROOT / name, COPY / name)
    for path in EXAMPLE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            _copy(path, COPY / path.relative_to(EXAMPLE))
    manual = (ROOT / "docs/saigen.md").read_text(
        encoding="utf-8"
    )  # as it was when it was README.md
    manual = re.sub(r"\]\((?!https?:|#|\.\./)", "](docs/", manual).replace("](../", "](")
    (COPY / "README.md").write_text(manual, encoding="utf-8")
    _copy(ROOT / ".dvc/.gitignore", COPY / ".dvc/.gitignore")
    (COPY / "conf/local").mkdir(exist_ok=True)
    (COPY / "conf/local/.gitkeep").touch()
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=COPY, check=False)


def _files() -> list[str]:
    """The files of the project that git has or would take; without git all but what is made."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 0:
        return [n for n in os.fsdecode(done.stdout).split("\0") if n and (ROOT / n).is_file()]
    made = {"runs", "prepared", "model", "results", "__pycache__", ".venv", ".saigen"}
    names = (p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file())
    return [str(name) for name in names if not made & set(name.parts)]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _pytest(folder: Path, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
