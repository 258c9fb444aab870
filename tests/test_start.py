"""A clone becomes a project: its own name, licence and README; one command ends the example."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import yaml
from conftest import ROOT, Project, copy_project, environment

from saigen.errors import Refusal
from saigen.starting import example, init, licences

FILES = (".dvc/.gitignore", ".gitignore", "LICENSE", "Makefile", "README.md", "tests/run.py")
ANSWERS = {"name": "cars", "description": 'Miles per "gallon" \\ 1', "author": "Ada <a@b.org>",
           "license": "MIT", "reproducibility": "portable", "hardware": "cuda"}  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `git clone` of the template brings, as far as a start reads it."""
    root = copy_project(tmp_path / "clone").root
    for name in FILES:
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    for name in ("docs", ".dvc/snapshots"):
        shutil.copytree(ROOT / name, root / name)
    apache = ROOT / "src/saigen/LICENSE"  # where these tests run in a project
    shutil.copyfile(apache if apache.is_file() else ROOT / "LICENSE", root / "LICENSE")
    (root / "src/saigen/LICENSE").unlink(missing_ok=True)
    text = (root / "pyproject.toml").read_text()
    text = re.sub(r'^name = ".*"', 'name = "saigen"', text, count=1, flags=re.M)
    text = re.sub(r"^(authors|template) = .*\n", "", text, flags=re.M)
    (root / "pyproject.toml").write_text(text)
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    return root


def content(root: Path) -> dict[str, bytes]:
    files = (p for p in root.rglob("*") if p.is_file() and ".git" not in p.parts)
    return {str(p.relative_to(root)): p.read_bytes() for p in files if "tmp" not in p.parts}


def test_answers_stand_in_every_file_that_has_them_and_again_change_nothing(clone):
    said = []
    init.init(clone, ANSWERS, said.append)
    project = tomllib.loads((clone / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["description"]) == ("cars", ANSWERS["description"])
    assert project["authors"] == [{"name": "Ada", "email": "a@b.org"}]
    assert project["license"] == "MIT"
    assert (clone / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 20")
    assert "Apache License" in (clone / "src/saigen/LICENSE").read_text()
    assert (clone / "README.md").read_text().startswith("# cars\n")
    assert (clone / "docs/saigen.md").read_text().startswith("# Saigen (")
    assert "\nexport VARIANT ?= cuda\n" in (clone / "Makefile").read_text()
    picked = (clone / "conf/config.yaml").read_text()
    assert re.search(r"^  - reproducibility: portable +# what", picked, re.M)
    assert re.search(r"^  - hardware: cuda +# device", picked, re.M)
    for name in example.FILES:
        assert (clone / "tests/example" / name).read_bytes() == (ROOT / name).read_bytes()
    before = content(clone)
    init.init(clone, ANSWERS, said.append)
    init.init(clone, {}, said.append)
    assert said[-2] == "cars: nothing to change"
    assert content(clone) == before
    init.init(clone, {"license": "BSD-3-Clause", "hardware": "cpu"}, said.append)
    named = said[-2].removeprefix("cars: wrote ").split(", ")
    assert set(named) == {"LICENSE", "Makefile", "README.md", "conf/config.yaml", "pyproject.toml"}


def test_links_in_the_manual_of_the_template_lead_somewhere(clone):
    init.init(clone, {"name": "cars"}, str)
    text = (clone / "docs/saigen.md").read_text()
    links = [
        link
        for link in re.findall(r"\]\(([^)#]+)", text)
        if "://" not in link and "results" not in link
    ]
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_a_remote_is_dvcs_default_from_then_on(clone):
    said = []
    init.init(clone, {"name": "cars", "remote": "s3://bucket/cars"}, said.append)
    text = (clone / ".dvc/config").read_text()
    assert "remote = team" in text
    assert "url = s3://bucket/cars" in text
    assert ".dvc/config" in said[1]
    init.init(clone, {}, said.append)
    assert said[-2] == "cars: nothing to change"


WRONG = [
    ({}, "the project has no name yet", "--name"),
    ({"name": "a b"}, "this is no name", "--name"),
    ({"name": "-cars"}, "this is no name", "--name"),
    ({"name": "cars", "license": "GPL"}, "this is no license", "--license"),
    ({"name": "cars", "reproducibility": "exactly"}, "this is no repro", "--reproducibility"),
    ({"name": "cars", "hardware": "tpu"}, "this is no hardware", "--hardware"),
    ({"name": "cars", "author": "a\nb"}, "this is no author", "--author"),
    ({"name": "cars", "remote": "https://u:" + "pa55word-of-mine@host/x"}, "a secret", "--remote"),
]


def test_an_answer_that_cannot_be_is_refused_before_anything_is_changed(clone):
    before = content(clone)
    for given, what, where in WRONG:
        with pytest.raises(Refusal) as refused:
            init.init(clone, given, str)
        assert what in str(refused.value)
        assert refused.value.where == where
    assert content(clone) == before


def test_a_readme_and_a_licence_of_ones_own_stay(clone):
    for name in ("README.md", "LICENSE"):
        (clone / name).write_text("Mine.\n")
    init.init(clone, ANSWERS, str)
    assert {(clone / name).read_text() for name in ("README.md", "LICENSE")} == {"Mine.\n"}


def test_a_fresh_history_has_one_commit_and_the_former_one_is_kept(clone, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(clone / ".gitconfig"))
    (clone / ".gitconfig").write_text("[user]\nname = a\nemail = a@example.org\n")
    said = []
    init.init(clone, {"name": "cars"}, said.append, fresh=True)
    log = subprocess.check_output(["git", "log", "--format=%s"], cwd=clone, text=True)
    assert log == "Begin cars from the template\n"
    (kept,) = (clone / ".saigen").glob("history-*.git")
    assert f"the former history lies in .saigen/{kept.name}" in said[-2]
    assert (kept / "HEAD").is_file()


def test_a_worktree_keeps_its_history(clone):
    shutil.rmtree(clone / ".git")
    (clone / ".git").write_text("gitdir: /elsewhere\n")
    with pytest.raises(Refusal, match="belongs to another repository"):
        init.init(clone, {"name": "cars"}, str, fresh=True)


def test_every_licence_has_a_text_that_names_year_and_author(tmp_path):
    (tmp_path / "apache").write_text("Apache License")
    for choice in licences.CHOICES:
        text = licences.text(choice, year=2031, author="Ada {0}", apache=tmp_path / "apache")
        assert choice == licences.APACHE or "Copyright (c) 2031 Ada {0}\n" in text
        assert text.endswith(("\n", "License"))


def test_the_example_is_named_to_the_file():
    """What `saigen remove-example` takes away is a list: a file that it lacks would stay."""
    source = (ROOT / "src/project").rglob("*.py")
    here = {str(path.relative_to(ROOT)) for path in source}
    for group in (*example.PICKED, "experiment"):
        here |= {str(path.relative_to(ROOT)) for path in ROOT.glob(f"conf/{group}/*.yaml")}
    stays = {"src/project/__init__.py", "src/project/models/__init__.py", "src/project/train.py"}
    assert here == {*example.FILES, *stays}


@pytest.fixture
def bare(clone) -> Project:
    """A project without the example."""
    example.remove(clone, str)
    return Project(clone)


def test_the_example_goes_with_all_that_was_made_of_it_and_the_loop_stays(bare):
    left = {str(p.relative_to(bare.root / "src/project"))
            for p in (bare.root / "src/project").rglob("*.py")}  # fmt: skip
    assert left == {"__init__.py", "models/__init__.py", "train.py"}
    assert not (bare.root / "data").exists()
    assert not (bare.root / "data.dvc").exists()
    assert not list((bare.root / ".dvc/snapshots").rglob("*.dir"))
    text = (bare.root / "conf/config.yaml").read_text()
    assert re.findall(r"^  - (\w+): \?\?\? +# ", text, re.M) == list(example.PICKED)
    said = []
    example.remove(bare.root, said.append)
    assert said == ["the example is gone already"]


def test_copier_asks_what_init_asks():
    """`copier copy` is another road to `saigen init`: the same questions, the same choices."""
    asked = yaml.safe_load((ROOT / "copier.yml").read_text())
    (task,) = asked["_tasks"]
    given = {a.partition("=")[0] for a in task["command"] if a.startswith("--")}
    assert given == {*(f"--{key}" for key in init.QUESTIONS), "--source", "--commit"}
    for key in init.QUESTIONS:
        choices = asked[key].get("choices")
        of_init = init.Answers.model_fields[key].annotation
        known = set(get_args(of_init)) if choices else set()
        assert set(choices.values() if isinstance(choices, dict) else choices or ()) == known


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("copier"), reason="NOT CHECKED: copier is not installed")
def test_copier_copy_gives_a_project_with_its_own_name_and_history(clone, tmp_path):
    for name in ("copier.yml", "pyproject.toml"):
        shutil.copyfile(ROOT / name, clone / name)
    author = ("-c", "user.name=a", "-c", "user.email=a@b.org")
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True)
    subprocess.run(["git", *author, "commit", "-qm", "all"], cwd=clone, check=True)
    command = [
        "copier",
        "copy",
        "--quiet",
        "--trust",
        "--defaults",
        "--vcs-ref=HEAD",
        "-dlicense=MIT",
        '-ddescription=Miles per "gallon" $HOME',
        "-dexample=false",
        clone,
        tmp_path / "cars",
    ]
    subprocess.run(command, check=True)
    made = tmp_path / "cars"
    project = tomllib.loads((made / "pyproject.toml").read_text())
    assert project["project"]["name"] == "cars"
    assert project["project"]["description"] == 'Miles per "gallon" $HOME'
    assert project["tool"]["saigen"]["template"]["source"] == str(clone)
    assert not (made / "data.dvc").exists()
    assert (made / ".git").is_dir()


@pytest.mark.parametrize("verb", ["data", "train"])
def test_without_data_every_verb_that_needs_some_names_the_next_step(bare, verb):
    text = bare.refused(verb)
    assert "there is nothing to train yet" in text
    assert "saigen init-data FILE" in text


def test_what_was_edited_of_the_example_stays_and_is_named(clone):
    example.keep(clone)
    task = clone / "src/project/task.py"
    task.write_text(task.read_text() + "# mine now\n")
    (clone / "src/project/mine.py").write_text('"""Mine."""\n')
    (clone / "data/mine.csv").write_text("a\n")
    (clone / "data/digits.csv").write_text("id,label\n1,2\n")
    said = []
    example.remove(clone, said.append)
    assert "left, for they were edited: src/project/task.py, data/digits.csv" in said[0]
    assert task.is_file()
    assert (clone / "src/project/mine.py").is_file()
    assert {p.name for p in (clone / "data").iterdir()} == {"mine.csv", "digits.csv"}


def test_a_part_of_the_example_that_an_edited_file_uses_is_not_taken_away(clone):
    example.keep(clone)
    path = clone / "src/project/task.py"
    path.write_text(path.read_text() + "from project.completion import Completion\n")
    before = content(clone)
    with pytest.raises(Refusal, match="a file of yours uses a part of the example") as refused:
        example.remove(clone, str)
    assert "project.completion" in refused.value.got
    assert content(clone) == before


def test_a_module_that_was_deleted_by_hand_is_no_bare_error(clone):
    """It may be named by an experiment and by nothing that trains."""
    (clone / "src/project/text.py").unlink()
    project = Project(clone)
    project.saigen("prepare")
    said = project.refused("train", "experiment=transformer_text", "debug=two_steps")
    assert "project.text" in said


@pytest.mark.slow
def test_the_tests_of_the_instrument_hold_whatever_the_project_is(tmp_path):
    """Here it is nothing: without the example, and with a config that composes no more."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    example.remove(tmp_path, str)
    (tmp_path / "conf/config.yaml").write_text("nothing: true\n")
    files = ["tests/test_clone.py", "tests/test_every_line.py"]
    run = [sys.executable, "tests/run.py", "-q", "-p", "no:xdist", "-m", "not slow"]
    for asked, says in (([*files, "tests/project"], "== tests of the project"), (files[:1], "")):
        done = subprocess.run([*run, *asked], cwd=tmp_path, capture_output=True, text=True,
                              check=False, env=environment(tmp_path / "src"))  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert says in done.stdout
        assert "== tests of the instrument, on its example" in done.stdout
    bare = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", files[0]]
    done = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True, check=False,
                          env=environment(tmp_path / "src"))  # fmt: skip
    assert "make test ARGS=tests/FILE.py" in done.stderr
