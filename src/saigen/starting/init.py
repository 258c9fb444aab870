"""`saigen init`: a clone of the template becomes a project with a name of its own.

What was answered stands where it is used and nowhere else (pyproject.toml, conf/config.yaml,
Makefile, LICENSE, .dvc/config), so the same answers again change nothing.
"""

import configparser
import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from saigen import git_dvc
from saigen.errors import Refusal, refuse_secrets
from saigen.files import write_whole
from saigen.printing import one_line
from saigen.starting import example, history, licences

PYPROJECT, MAKEFILE, LICENSE = example.PYPROJECT, Path("Makefile"), Path("LICENSE")
_OF_INSTRUMENT = Path("src/saigen/LICENSE")
_TEMPLATE = re.compile(r"^# Saigen \(")  # the first line of the template's README
_MADE = "<!-- made by `saigen init`; remove this line to keep what you write here -->"


def _plain(text: str) -> str:
    if text != one_line(text):
        raise ValueError("one line of visible text")
    return text.strip()


Line = Annotated[str, Field(max_length=300), AfterValidator(_plain)]


class Answers(BaseModel):
    """What a project is asked for once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")]
    description: Line
    author: Line
    license: Literal["MIT", "BSD-3-Clause", "Apache-2.0", "LicenseRef-Proprietary"]
    reproducibility: Literal["exact", "portable", "statistical"]
    hardware: Literal["cpu", "cuda"]
    remote: Line


QUESTIONS = {
    "name": "project name (letters, digits, . _ -)",
    "description": "what it is, in one line",
    "author": "author (Name <mail>)",
    "license": f"licence ({', '.join(licences.CHOICES)})",
    "reproducibility": "reproducibility (exact, portable, statistical)",
    "hardware": "hardware (cpu, cuda)",
    "remote": "DVC remote for data and models (s3://..., a folder; empty: none yet)",
}


def init(
    root: Path,
    given: Mapping[str, str],
    say: Callable[[str], None],
    *,
    fresh: bool = False,
    template: tuple[str, str] | None = None,
) -> None:
    """Make the project what the answers say; those not given are asked, or stay as they are.

    Raises Refusal before anything is changed.
    """
    before = current(root)
    answers = _answers(before, given)
    refuse_secrets({"remote": answers.remote}, lambda key: f"--{key}", "the answers")
    if fresh:
        history.refuse_unless_own(root)
    if example.keep(root):
        say(f"kept the example for the instrument's tests in {example.KEPT}")
        _note_template(root, *(template or history.origin(root)))
    changed = []
    if answers.remote and answers.remote != before["remote"]:
        _add_remote(root, answers.remote)
        changed.append(".dvc/config")
    changed += [str(p) for p, text in _texts(root, answers).items() if _write(root, p, text)]
    say(f"{answers.name}: " + (f"wrote {', '.join(changed)}" if changed else "nothing to change"))
    if fresh:
        say(history.begin(root, answers.name))
    say("next: make train; make test; saigen init-data FILE for data of your own (docs/start.md)")


def personal(root: Path, name: str, content: bytes) -> bytes:
    """The template's version of a file, with what the project's own says of itself."""
    if name not in (str(PYPROJECT), str(MAKEFILE)):
        return content
    values: dict[str, Any] = {**current(root)}
    answers, text = Answers.model_construct(**values), content.decode()
    if name == str(MAKEFILE):
        return _makefile(text, answers.hardware).encode()
    mine = _read(root, PYPROJECT)
    version, template = (_line(mine, key) for key in ("version", "template"))
    text = text.replace(_line(text, "version"), version, 1)
    text = text.replace("[tool.saigen]\n", f"[tool.saigen]\n{template}", 1)
    return _pyproject(text, answers).encode()


def current(root: Path) -> dict[str, str]:
    """The answers as the project's files have them; the template's own name is none."""
    project = _project(root)
    author = (project.get("authors") or [{}])[0]
    mail = f" <{author['email']}>" if author.get("email") else ""
    named = _named(root)
    return {
        "name": project["name"] if named else "",
        "description": project["description"] if named else "",
        "author": f"{author.get('name', '')}{mail}".strip(),
        "license": project.get("license", licences.APACHE),
        "reproducibility": _picked(root, "reproducibility"),
        "hardware": _picked(root, "hardware"),
        "remote": remote(root, "team"),
    }


def _answers(before: Mapping[str, str], given: Mapping[str, str]) -> Answers:
    values = {**before, **given}
    if sys.stdin.isatty() and not given:
        for key, question in QUESTIONS.items():
            values[key] = input(f"{question} [{before[key]}]: ").strip() or before[key]
    try:
        return Answers.model_validate(values)
    except ValidationError as error:
        mistake = error.errors()[0]
        key = str(mistake["loc"][0])
        raise Refusal(
            "the project has no name yet" if not values["name"] else f"this is no {key}",
            where=f"--{key}",
            expected=QUESTIONS[key],
            got=repr(values[key]),
            fix=f"give one, as in: make init ARGS='--{key} {_SUCH[key]}'",
        ) from error


_SUCH = {
    "name": "cars", "description": '"Miles per gallon of cars"', "author": '"Ada <a@example.org>"',
    "license": "MIT", "reproducibility": "exact", "hardware": "cpu", "remote": "../store",
}  # fmt: skip


def _texts(root: Path, answers: Answers) -> dict[Path, str]:
    """What each file says that an answer stands in. The licence of the instrument comes first."""
    texts = {PYPROJECT: _pyproject(_read(root, PYPROJECT), answers)}
    texts[MAKEFILE] = _makefile(_read(root, MAKEFILE), answers.hardware)
    config = _read(root, example.CONFIG)
    for group in ("reproducibility", "hardware"):
        config = example.picking(config, group, getattr(answers, group))
    texts[example.CONFIG] = config
    return _licence(root, answers) | texts | _readme(root, answers)


def _licence(root: Path, answers: Answers) -> dict[Path, str]:
    apache = _OF_INSTRUMENT if (root / _OF_INSTRUMENT).is_file() else LICENSE
    held = _read(root, LICENSE)
    if "Apache License" not in held[:200] and "Copyright (c)" not in held[:200]:
        return {}  # one of their own
    year = int((re.search(r"Copyright \(c\) (\d{4}) ", held) or [0, datetime.now(UTC).year])[1])
    author = answers.author or f"the authors of {answers.name}"
    text = licences.text(answers.license, year=year, author=author, apache=root / apache)
    return {_OF_INSTRUMENT: _read(root, apache), LICENSE: text}


def _readme(root: Path, answers: Answers) -> dict[Path, str]:
    path = Path("README.md")
    held = _read(root, path)
    if not _TEMPLATE.match(held) and _MADE not in held:
        return {}
    about = f"{answers.description}\n\n" if answers.description else ""
    return {
        path: f"""# {answers.name}
{_MADE}

{about}You need git, make, and Python 3.11 or [uv](https://docs.astral.sh/uv/).

    make train       # a trained model and its record, from nothing
    make test        # the project's tests, and those of the instrument
    make verify      # try to break the claims
    make help        # the rest

- `conf/`: every hyperparameter. `src/project/`: preparation, data, model, task, training loop.
- `src/saigen/`: the instrument, which an update replaces. How it works: [{example.MANUAL}](\
{example.MANUAL}); data of your own, the tests, an update: [docs/start.md](docs/start.md).

Licence: {answers.license} (LICENSE); `src/saigen` and what else came with the template: Apache-2.0
(`{_OF_INSTRUMENT}`).
"""
    }


def _line(text: str, key: str) -> str:
    """The first line of a TOML text that sets a key, with its end; empty without one."""
    found = re.search(rf"^{key} = .*\n", text, re.MULTILINE)
    return found[0] if found else ""


def _makefile(text: str, hardware: str) -> str:
    return re.sub(r"^(export VARIANT \?= )\w+$", rf"\g<1>{hardware}", text, flags=re.M)


def _pyproject(text: str, answers: Answers) -> str:
    """The text of pyproject.toml with the answers in its table [project]."""
    start = text.index("[project]")
    end = text.index("\n[", start)
    table = text[start:end]
    found = re.fullmatch(r"(.*?)\s*<([^<>]+)>", answers.author)
    author = {"name": found[1], "email": found[2]} if found else {"name": answers.author}
    pairs = ", ".join(f"{key} = {_toml(value)}" for key, value in author.items() if value)
    table = re.sub(r"^authors = .*\n", "", table, flags=re.M)
    rows = {"name": answers.name, "description": answers.description, "license": answers.license}
    for key, value in rows.items():
        line = f"{key} = {_toml(value)}".replace("\\", r"\\")
        table = re.sub(rf"^{key} = .*$", line, table, count=1, flags=re.M)
    if pairs:
        table = table.replace("\nlicense = ", f"\nauthors = [{{ {pairs} }}]\nlicense = ", 1)
    return text[:start] + table + text[end:]


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _note_template(root: Path, source: str, commit: str) -> None:
    """Write into pyproject.toml which template, and which commit of it, this began from."""
    text = _read(root, PYPROJECT)
    if "\ntemplate = {" in text:
        return
    line = example.template_line(history.without_password(source), commit)
    write_whole(
        root / PYPROJECT, text.replace("[tool.saigen]\n", f"[tool.saigen]\n{line}\n", 1).encode()
    )


def _named(root: Path) -> bool:
    return bool(_project(root)["name"] != "saigen")


def _project(root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(_read(root, PYPROJECT))["project"]
    return project


def _picked(root: Path, group: str) -> str:
    found = re.search(rf"^  - {group}: (\w+)", _read(root, example.CONFIG), re.M)
    return found[1] if found else ""


def remote(root: Path, name: str) -> str:
    """The address of one of DVC's remotes, as .dvc/config has it; empty without it."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(root / ".dvc/config", encoding="utf-8")
    return config.get(f"'remote \"{name}\"'", "url", fallback="")


def _add_remote(root: Path, url: str) -> None:
    done = git_dvc.dvc(root, "remote", "add", "--force", "--default", "team", url)
    if done.returncode:
        raise Refusal(
            "DVC does not take this remote",
            where="--remote",
            expected=QUESTIONS["remote"],
            got=done.stderr.decode(errors="replace").strip()[-300:],
            fix="`dvc remote add --default team URL` says what it expects",
        )


def _read(root: Path, path: Path) -> str:
    try:
        return (root / path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise Refusal(
            "this is no clone of the template",
            where=str(path),
            expected="the file, as the template has it",
            got="no such file",
            fix=f"`git checkout -- {path}`, then start the same command again",
        ) from error


def _write(root: Path, path: Path, text: str) -> bool:
    if (root / path).is_file() and (root / path).read_text(encoding="utf-8") == text:
        return False
    write_whole(root / path, text.encode())
    return True
