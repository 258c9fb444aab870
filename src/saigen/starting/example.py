"""The example: what the instrument's own tests need of it is kept below tests/, the rest goes.

A project changes src/project and conf/ as it likes. The tests of the instrument run on the example
all the same: `tests/run.py` lays tests/example over a copy of the project.
"""

import filecmp
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from saigen.errors import Refusal
from saigen.files import replacing, write_whole

KEPT = Path("tests/example")
MANUAL = Path("docs/saigen.md")  # where the template's README goes
CONFIG, PYPROJECT = Path("conf/config.yaml"), Path("pyproject.toml")
_WHOLE = ("conf", "src/project", ".dvc/config", ".dvc/snapshots", "data.dvc", "dvc.yaml")
# What is the example's alone: an instrument without these trains whatever else there is.
SOURCE = ("completion.py", "data.py", "models/cnn.py", "models/mlp.py", "models/transformer.py",
          "prepare.py", "snapshot.py", "sums.py", "task.py", "text.py")  # fmt: skip
CONFIGS = ("data/digits.yaml", "data/digits_shifted.yaml", "data/sums.yaml",
           "experiment/cnn_augmented.yaml", "experiment/mlp_sgd.yaml",
           "experiment/transformer_text.yaml", "model/cnn.yaml", "model/mlp.yaml",
           "model/transformer.yaml", "prepare/characters.yaml", "prepare/standardize.yaml",
           "task/classification.yaml", "task/completion.yaml")  # fmt: skip
FILES = (*(f"src/project/{name}" for name in SOURCE), *(f"conf/{name}" for name in CONFIGS))
PICKED = ("data", "prepare", "task", "model")  # groups without an option that is not the example's
# What the pipeline made of it. The runs stay.
_MADE = ("dvc.lock", "params.yaml", "prepare_sources.json", "run_sources.json", "prepared", "model",
         "results")  # fmt: skip


def keep(root: Path, source: Path | None = None) -> bool:
    """Copy the example (of `source`, else of this project) to tests/example, and the template's
    README to docs/. Without `source` this is done once; returns whether it was done.
    """
    start = source or root
    if not source and (root / KEPT).is_dir():
        return False
    (root / KEPT).parent.mkdir(exist_ok=True)
    with replacing(root / KEPT) as new:
        for name in _WHOLE:
            if (start / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "local")
                shutil.copytree(start / name, new / name, ignore=ignored)
            elif (start / name).is_file():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(start / name, new / name)
    text = (start / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\((?!https?:|#|docs/)", "](../", text).replace("](docs/", "](")
    write_whole(root / MANUAL, text.encode())
    return True


def template_line(source: str, commit: str) -> str:
    """The line of pyproject.toml that says which template a project began from, and its commit."""
    texts = (json.dumps(text, ensure_ascii=False) for text in (source, commit))
    return "template = {{ source = {}, commit = {} }}".format(*texts)


def files_here(root: Path) -> list[str]:
    """The files of the example that still stand in the project as they were."""
    kept = root / KEPT if (root / KEPT).is_dir() else root
    return [name for name in FILES if _same(kept / name, root / name)]


def remove(root: Path, say: Callable[[str], None]) -> None:
    """Take the example away: its source, its configs, its data, and what was made of them.

    What was edited stays, and is named: it may be the project's own by now.
    """
    keep(root)
    gone = files_here(root)
    stays = [name for name in FILES if (root / name).is_file() and name not in gone]
    if not gone:
        say("the example is gone already" + _stays(stays))
        return
    _refuse_needed(root, stays)
    shipped = _same(root / KEPT / "data.dvc", root / "data.dvc")
    snapshots = [str(path.relative_to(root / KEPT)) for path in _files(root / KEPT / ".dvc")]
    data = [name for name in _data_files(root / KEPT) if (root / name).is_file()]
    edited = [name for name in data if not _is_kept(root, name)]
    data = [name for name in data if name not in edited]
    stays += edited
    for name in (*gone, *data, *[n for n in snapshots if n != ".dvc/config"]):
        (root / name).unlink(missing_ok=True)
    for name in ("data.dvc", *_MADE) if shipped else ():
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for folder in (root / "data", *sorted((root / ".dvc/snapshots").rglob("*"), reverse=True)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    pick(root, {group: "???" for group in PICKED if not list((root / "conf" / group).glob("*"))})
    text = (root / CONFIG).read_text(encoding="utf-8")
    text = text.replace("# mlp | cnn | transformer", "# the network").replace(
        ", e.g. experiment=cnn_augmented", ""
    )
    write_whole(root / CONFIG, text.encode())
    say(
        f"removed {len(gone)} files of the example, and its data; the tests of the instrument keep "
        f"them in {KEPT}{_stays(stays)}\n"
        "next: saigen init-data FILE, or write conf/{data,prepare,task,model}/NAME.yaml and pick "
        f"them in {CONFIG}"
    )


def pick(root: Path, options: dict[str, str]) -> None:
    """Write which option of each group conf/config.yaml picks."""
    text = (root / CONFIG).read_text(encoding="utf-8")
    for group, option in options.items():
        text = picking(text, group, option)
    write_whole(root / CONFIG, text.encode())


def picking(text: str, group: str, option: str) -> str:
    """The text of conf/config.yaml with another option of a group, its comment where it was."""
    found = re.search(rf"^(  - {group}: )(\S+)( *)", text, re.MULTILINE)
    if not found:
        raise Refusal(
            f"the config picks no option of {group}",
            where=f"defaults ({CONFIG})",
            expected=f"a line `  - {group}: NAME`",
            got="none",
            fix=f"add `  - {group}: {option}` to the defaults",
        )
    width = max(len(found[2] + found[3]) - len(option), 1) if found[3] else 0
    return text[: found.start()] + found[1] + option + " " * width + text[found.end() :]


def _refuse_needed(root: Path, stays: list[str]) -> None:
    """A file that stays may import one that would go."""
    for name in stays:
        text = (root / name).read_text(encoding="utf-8", errors="replace")
        modules = (n.removesuffix(".py").replace("/", ".") for n in SOURCE)
        if used := [m for m in modules if f"project.{m}" in text and f"{m}.py" not in name]:
            raise Refusal(
                "a file of yours uses a part of the example",
                where=name,
                expected="nothing of the example in what stays",
                got=f"project.{used[0]}",
                fix=f"move src/project/{used[0].replace('.', '/')}.py to another name and point "
                f"{name} there, or remove {name}",
            )


def _stays(names: list[str]) -> str:
    return f"\nleft, for they were edited: {', '.join(names)}" if names else ""


def _data_files(kept: Path) -> Iterator[str]:
    for name in CONFIGS:
        if name.startswith("data/"):
            values = yaml.safe_load((kept / "conf" / name).read_text(encoding="utf-8"))
            yield from (values["snapshot"], values["provenance"])


def _is_kept(root: Path, name: str) -> bool:
    """Whether the snapshots that stay below tests/ hold what a file of data/ holds."""
    digest = hashlib.md5((root / name).read_bytes(), usedforsecurity=False).hexdigest()
    return (root / KEPT / ".dvc/snapshots/files/md5" / digest[:2] / digest[2:]).is_file()


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
