"""A recipe names the source that a training and an evaluation import, and no other."""

import importlib
import json
import shutil
import sys

import pytest
from conf_project import ROOT

from saigen.config.compose import compose
from saigen.data.prepared import sources_of
from saigen.runs import metadata
from saigen.source_code import all_sources, capture, edited, imported_sources

# the command line, and what it prints with
DOORS = {
    "src/saigen/__main__.py", "src/saigen/cli.py", "src/saigen/command_line.py",
    "src/saigen/analysis/__init__.py", "src/saigen/analysis/verbs.py", "src/saigen/publishing.py",
    "src/saigen/own_source.py", "src/saigen/runs/listing.py", "src/saigen/runs/summary.py",
    "src/saigen/starting/__init__.py",
    "src/saigen/starting/verbs.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def values():
    return compose((), ROOT / "conf").values


@pytest.fixture
def root(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def train(project) -> dict:
    """A run in a process that a person starts: a warm one imported the instrument long before."""
    project.saigen("train", "debug=two_steps", cold=True)
    return json.loads(project.saigen("show", "last", "--json"))


def append(root, name, text="\n# a typo mended\n") -> None:
    with (root / "src" / name).open("a") as file:
        file.write(text)


@pytest.mark.parametrize(
    "name",
    ["analysis/doctor.py", "analysis/diff.py", "analysis/diff_text.py", "analysis/compare.py",
     "analysis/compare_text.py", "analysis/verify.py", "analysis/child.py", "runs/audit.py",
     "runs/listing.py", "runs/summary.py", "config/explain.py", "outputs.py", "sweep.py", "cli.py",
     "__main__.py", "analysis/new.py", "../project/models/cnn.py", "../project/new.py",
     "../other.py", "../project/.ipynb_checkpoints/task-checkpoint.py", "../project/.#task.py"],
)  # fmt: skip
def test_an_edit_of_what_no_training_imports_makes_no_new_recipe(root, values, name):
    before = capture(values, root).digest
    (root / "src/project/.ipynb_checkpoints").mkdir()
    append(root, f"saigen/{name}")
    assert capture(values, root).digest == before


@pytest.mark.parametrize(
    "name",
    ["saigen/__init__.py", "saigen/pipeline.py", "saigen/streams.py", "saigen/files.py",
     "saigen/training/run.py", "saigen/training/step.py", "saigen/training/evaluation.py",
     "saigen/training/schedule.py", "saigen/training/ranks.py", "saigen/data/order.py",
     "saigen/data/preparation.py", "saigen/data/predictions.py", "saigen/config/schema.py",
     "saigen/config/handover.py", "saigen/environment/torch_flags.py", "saigen/runs/record.py",
     "project/task.py", "project/models/mlp.py", "project/train.py", "project/data.py",
     "project/prepare.py"],
)  # fmt: skip
def test_an_edit_of_what_a_run_imports_does(root, values, name):
    before = capture(values, root).digest
    append(root, name)
    assert capture(values, root).digest != before


@pytest.mark.parametrize(
    "statement",
    ["import importlib", "from project.models import *", "exec(open(name).read())",
     "import pkgutil", "__import__(name)"],
)  # fmt: skip
def test_where_a_name_may_be_made_while_it_runs_the_whole_project_counts(root, values, statement):
    append(root, "project/task.py", f"\n{statement}\n")
    before = capture(values, root).digest
    append(root, "project/models/cnn.py")
    assert capture(values, root).digest != before
    within = capture(values, root).digest
    append(root, "saigen/analysis/doctor.py")
    assert capture(values, root).digest == within


def test_a_module_of_the_instrument_that_is_imported_from_now_on_belongs_to_the_layer(root, values):
    name = "src/saigen/analysis/interval.py"
    assert name not in capture(values, root).content["files"]
    for importer, text in (
        ("project/train.py", "\n\ndef f():\n    from saigen.analysis import interval\n"),
        ("project/models/mlp.py", "\nimport_module('saigen.analysis.interval')\n"),
        ("saigen/training/step.py", "\nfrom ..analysis.interval import x\n"),
    ):
        kept = (root / "src" / importer).read_text()
        append(root, importer, text)
        assert name in capture(values, root).content["files"], importer
        (root / "src" / importer).write_text(kept)
    named = {**values, "scheduler": {"of": [{"_target_": "saigen.analysis.interval.f"}]}}
    assert name in capture(named, root).content["files"]
    looped = {**values, "trainer": {**values["trainer"], "loop": "saigen.analysis.interval.f"}}
    assert name in capture(looped, root).content["files"]


@pytest.mark.parametrize(
    "statement",
    ["import project.mine", "from project import mine", "from . import mine",
     "from .mine import *", "from project.mine import X as Y", "import project.mine.deep",
     "def f():\n    from .mine import X", "import_module('project.mine')",
     "import_module('.mine', 'project')", "import_module('.mine', package=__package__)",
     "import_module(name='project.mine')", "__import__('project.mine')"],
)  # fmt: skip
def test_a_module_that_the_preparation_imports_is_a_dependency_of_it(root, statement):
    config = compose((), ROOT / "conf").config.prepare
    append(root, "project/prepare.py", f"\n{statement}\n")
    append(root, "project/helper.py", "X = 1\n")
    package = root / "src/project/mine"
    package.mkdir()
    (package / "__init__.py").write_text("from ..helper import X\n")
    (package / "deep.py").write_text("")
    found = sources_of(config, root)
    assert {"src/project/mine/__init__.py", "src/project/helper.py"} <= found.keys()
    assert ("src/project/mine/deep.py" in found) == ("deep" in statement)
    append(root, "project/helper.py", "X = 2\n")
    assert sources_of(config, root) != found


@pytest.mark.slow
def test_what_a_run_imported_is_in_its_layer_but_for_the_command_line(prepared_project):
    record = train(prepared_project)
    layer = record["recipe"]["layers"]["code"]["files"]
    imported = record["metadata"]["imported"]
    assert "src/saigen/training/run.py" in imported["files"]
    assert set(imported["files"]) - layer.keys() <= DOORS
    assert imported["beyond"] == []
    others = record["metadata"]["other_source"]
    assert {**layer, **others} == all_sources(prepared_project.root)
    assert not layer.keys() & others.keys()


@pytest.mark.slow
def test_what_is_imported_of_the_instrument_unseen_is_recorded_and_compared(prepared_project):
    """By a name that is only made while the program runs, in the loop and when it is evaluated."""
    root = prepared_project.root
    task, names = root / "src/project/task.py", ("advice", "interval")
    text = task.read_text()
    hidden = (
        "        import importlib\n        importlib.import_module('saigen.' + 'analysis.{}')\n"
    )
    for name, line in zip(names, ("        total = ", "        right = "), strict=True):
        text = text.replace(line, hidden.format(name) + line, 1)
    task.write_text(text)
    first = train(prepared_project)
    files = [f"src/saigen/analysis/{name}.py" for name in names]
    assert [n for n in first["metadata"]["imported"]["beyond"] if n in files] == files
    assert not {*files} & first["recipe"]["layers"]["code"]["files"].keys()
    append(root, "saigen/analysis/interval.py", "\nX = 1\n")
    append(root, "saigen/analysis/doctor.py")
    second = train(prepared_project)
    assert first["recipe"]["digest"] == second["recipe"]["digest"]
    told = json.loads(prepared_project.saigen("diff", "last~1", "last", "--json", cold=True))
    found = {d["name"]: d["reason"] for d in told["differences"] if d["layer"] == "code"}
    assert found == {files[1]: "a run imported it"}


def test_no_shipped_config_brings_analysis_or_the_command_line_into_the_layer():
    for experiment in (None, *sorted(path.stem for path in (ROOT / "conf/experiment").glob("*"))):
        asked = (f"experiment={experiment}",) if experiment else ()
        files = capture(compose(asked, ROOT / "conf").values, ROOT).content["files"]
        assert not [n for n in files if n.startswith("src/saigen/analysis/") or n in DOORS]


def test_only_recorded_files_count_as_edited(root, values):
    recorded = capture(values, root).content["files"]
    names = [*all_sources(root), "src/project/new.py"]
    for name in ("saigen/cli.py", "saigen/streams.py", "project/task.py", "project/new.py"):
        append(root, name)
    wanted = ["src/project/task.py", "src/saigen/streams.py"]
    assert edited(root, recorded, names) == wanted


def test_beyond_is_only_what_came_later_and_is_not_in_the_layer():
    layer = imported_sources(ROOT, ["saigen.streams"])
    record = {"recipe": {"layers": {"code": {"files": layer}}},
              "metadata": {"imported": {"beyond": ["src/saigen/x.py"]}}}  # fmt: skip
    names = ["saigen.streams", "saigen.sweep"]
    assert all(map(importlib.import_module, names))
    metadata.note_beyond(record, ROOT, sys.modules.keys() - names)
    wanted = ["src/saigen/sweep.py", "src/saigen/x.py"]
    assert record["metadata"]["imported"]["beyond"] == wanted


@pytest.mark.slow
def test_a_project_whose_source_is_a_link_prepares_and_trains_as_where_it_lies(
    project_at, tmp_path
):
    whole, linked = project_at(tmp_path / "whole"), project_at(tmp_path / "linked")
    (linked.root / "src").rename(tmp_path / "elsewhere")
    (linked.root / "src").symlink_to(tmp_path / "elsewhere")
    for project in (whole, linked):
        project.saigen("prepare")
    assert train(linked)["recipe"] == train(whole)["recipe"]
