"""A project takes a newer instrument from the template, and keeps what is its own."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, copy_project

from saigen.errors import Refusal
from saigen.starting import init
from saigen.starting.update import update

WHO = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", *WHO, *command], cwd=root, check=True, capture_output=True)
    return done.stdout.decode().strip()


def save(root: Path, message: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-qm", message)
    return git(root, "rev-parse", "HEAD")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """The template, as far as an update reads it, with one commit."""
    root = copy_project(tmp_path / "template").root
    shutil.rmtree(root / "data")
    for name in ("LICENSE", "Makefile", "README.md"):
        shutil.copyfile(ROOT / name, root / name)
    pyproject = root / "pyproject.toml"
    lines = [n for n in pyproject.read_text().splitlines()
             if not n.startswith(("template = ", "version = "))]  # fmt: skip
    lines.insert(lines.index("[project]") + 2, 'version = "0.1.0"')
    pyproject.write_text("\n".join(lines) + "\n")
    git(root, "init", "-q", "-b", "main", ".")
    save(root, "first")
    return root


@pytest.fixture
def mine(template: Path, tmp_path: Path) -> Path:
    """A project that began from it, with edits of its own."""
    root = tmp_path / "mine"
    git(tmp_path, "clone", "-q", str(template), str(root))
    init.init(root, {"name": "cars", "hardware": "cuda"}, str)
    edit(root / "src/project/task.py", '"""What', '"""Mine: what')
    edit(root / "pyproject.toml", 'version = "0.1.0"', 'version = "7"')
    edit(root / "docker/settle.sh", "#!", "#! ")
    save(root, "begin")
    return root


def newer(template: Path) -> str:
    """The template's next commit: files edited, added and removed, in every kind of place."""
    edit(template / "src/saigen/errors.py", '"""Refuse', '"""Newer: refuse')
    (template / "src/saigen/new.py").write_text('"""New."""\n')
    (template / "src/saigen/new.py").chmod(0o755)
    (template / "docker/check-base.sh").unlink()
    edit(template / "Makefile", "clean: ##", "newer: ## a new target\n\ttrue\n\nclean: ##")
    edit(template / "pyproject.toml", '"tqdm>=4.66"', '"tqdm>=4.67"')
    edit(template / "src/project/task.py", '"""What', '"""The example: what')
    edit(template / "conf/optimizer/sgd.yaml", "lr: 0.05 ", "lr: 0.06 ")
    return save(template, "newer")


def test_the_template_s_files_come_and_the_project_s_stay(template, mine):
    commit, said = newer(template), []
    assert update(mine, None, None, said.append) is True
    assert (mine / "src/saigen/errors.py").read_text().startswith('"""Newer: ')
    assert (mine / "src/saigen/new.py").stat().st_mode & 0o111
    assert not (mine / "docker/check-base.sh").exists()
    makefile = (mine / "Makefile").read_text()
    assert "export VARIANT ?= cuda" in makefile
    assert "newer: ## a new target" in makefile
    settings = tomllib.loads((mine / "pyproject.toml").read_text())
    assert (settings["project"]["name"], settings["project"]["version"]) == ("cars", "7")
    assert "tqdm>=4.67" in settings["project"]["dependencies"]
    assert settings["tool"]["saigen"]["template"] == {"source": str(template), "commit": commit}
    assert (mine / "src/project/task.py").read_text().startswith('"""Mine: ')
    assert (mine / "docker/settle.sh").read_text().startswith("#! ")
    assert "lr: 0.05 " in (mine / "conf/optimizer/sgd.yaml").read_text()
    kept = mine / "tests/example"
    assert (kept / "src/project/task.py").read_text().startswith('"""The example: ')
    assert "lr: 0.06 " in (kept / "conf/optimizer/sgd.yaml").read_text()
    assert "merged with your edits: 2 files" in said[0]
    assert "conf/optimizer/sgd.yaml" in said[1]
    save(mine, "updated")
    assert update(mine, None, None, said.append) is True
    assert git(mine, "status", "--short") == ""
    assert "nothing to update" in said


def test_where_both_edited_one_line_the_template_s_file_lies_beside_it(template, mine):
    edit(template / "docker/settle.sh", "#!", "#!!")
    save(template, "clash")
    said = []
    assert update(mine, None, None, said.append) is False
    assert (mine / "docker/settle.sh").read_text().startswith("#! ")
    assert (mine / "docker/settle.sh.update").read_text().startswith("#!!")
    assert "merge by hand" in said[0]


def test_an_older_commit_of_the_template_may_be_named(template, mine):
    first = git(template, "rev-parse", "HEAD")
    newer(template)
    said = []
    assert update(mine, None, first[:12], said.append) is True
    assert "nothing to update" in said


def test_an_update_that_cannot_be_is_refused_and_changes_nothing(template, mine, tmp_path):
    def refused(*arguments: str | None) -> str:
        before = git(mine, "status", "--short")
        with pytest.raises(Refusal) as caught:
            update(mine, *arguments, str)
        assert git(mine, "status", "--short") == before
        return str(caught.value)

    assert "cannot be fetched" in refused(str(tmp_path / "nowhere"), None)
    assert "no such commit" in refused(None, "v9")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q", ".")
    (other / "a").touch()
    save(other, "other")
    assert "does not have the commit that this project began from" in refused(str(other), None)
    edit(mine / "Makefile", "cuda", "cpu")
    assert "an update could not be taken back" in refused(None, None)
    git(mine, "checkout", "-q", "Makefile")
    edit(mine / "pyproject.toml", "template = {", "# template = {")
    save(mine, "unnamed")
    assert "which template it began from" in refused(None, None)
