"""What the stage `compose` does on every road of DVC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conf_project import ROOT

from saigen.config.compose import compose
from saigen.config.keys import leaves
from saigen.config.schema import METADATA
from saigen.config.signatures import CACHE

DVC = str(Path(sys.executable).parent / "dvc")
PIPELINE = """
stages:
  compose:
    cmd: python -m saigen compose --stage
    deps: [conf]
    outs:
      - params.yaml: {cache: false, persist: true}
  model:
    cmd: python -c "import shutil; shutil.copy('params.yaml', 'model.yaml')"
    params: [model, optimizer]
    outs:
      - model.yaml: {cache: false}
"""


class Pipeline:
    """A DVC project whose stages are the real `compose` and one that reads two groups."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, code: int = 0, **env: str) -> str:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.root),
            "PYTHONPATH": str(ROOT / "src"),
            "DVC_NO_ANALYTICS": "1",
            **{
                f"GIT_{who}_{what}": "a@b"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
            **env,
        }
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def repro(self, code: int = 0) -> str:
        return self.run(DVC, "repro", code=code)

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "x")

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @property
    def params(self) -> str:
        return (self.root / "params.yaml").read_text()

    def composes(self, *overrides: str) -> str:
        return compose(overrides, self.root / "conf").yaml


@pytest.fixture(scope="module")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which everything was run once and committed."""
    root = tmp_path_factory.mktemp("pipeline") / "project"
    pipeline = Pipeline(root)
    ignored = shutil.ignore_patterns("local")
    shutil.copytree(ROOT / "conf", root / "conf", ignore=ignored)
    shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
    if (ROOT / CACHE).is_file():
        (root / CACHE).parent.mkdir(parents=True)
        shutil.copyfile(ROOT / CACHE, root / CACHE)
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / ".gitignore").write_text("/.saigen/\n/conf/local/*\n")
    pipeline.run("git", "init", "-q")
    pipeline.run(DVC, "init", "-q")
    shutil.copyfile(ROOT / ".dvc/config", root / ".dvc/config")
    pipeline.repro()
    pipeline.commit()
    return root


@pytest.fixture
def pipeline(_template: Path, tmp_path: Path) -> Iterator[Pipeline]:
    shutil.copytree(_template, tmp_path / "project", symlinks=True)
    return Pipeline(tmp_path / "project")


def test_an_edit_of_a_used_value_reruns_what_reads_it_and_nothing_else_does(
    pipeline: Pipeline,
) -> None:
    assert pipeline.params == pipeline.composes()
    assert "Running stage" not in pipeline.repro()
    pipeline.edit("conf/model/cnn.yaml", "channels: 16", "channels: 32")
    told = pipeline.repro()
    assert "Running stage 'compose'" in told
    assert "Running stage 'model'" not in told
    pipeline.edit("conf/trainer/default.yaml", "max_epochs: 40", "max_epochs: 41")
    told = pipeline.repro()
    assert "Running stage 'model'" not in told
    assert "max_epochs: 41" in pipeline.params
    pipeline.edit("conf/optimizer/adamw.yaml", "lr: 0.003", "lr: 0.004")
    told = pipeline.repro()
    assert "Running stage 'model'" in told
    assert "lr: 0.004" in (pipeline.root / "model.yaml").read_text()


def test_the_stages_read_every_value_that_can_move_a_bit() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    named = {key for stage in stages.values() for key in stage.get("params", ())}
    values = compose((), ROOT / "conf").values
    unread = [
        key
        for key, _ in leaves(values)
        if not any(f"{key}.".startswith(f"{name}.") for name in (*named, *METADATA))
    ]
    assert unread == []
    idle = [
        (name, circumstance)
        for name in named
        for circumstance in METADATA
        if f"{circumstance}.".startswith(f"{name}.")
    ]
    assert idle == [], "a circumstance would train again"


EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf/experiment").glob("[!.]*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_which_files_a_run_imports_is_asked_again_where_another_target_is_named(experiment):
    """Else an edit of a file that was imported before would find the stage done, in DVC's cache."""
    named = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["sources"]["params"]
    values = compose((f"experiment={experiment}",), ROOT / "conf").values
    keys = [key for key, _ in leaves(values) if key.endswith("._target_")] + ["trainer.loop"]
    unread = [k for k in keys if not any(f"{k}.".startswith(f"{name}.") for name in named)]
    assert len(keys) > 5
    assert unread == []


@pytest.mark.parametrize(
    "verb", [("train", "--stage"), ("compose", "--stage"), ("compose", "--write")]
)
def test_overrides_that_a_stage_would_ignore_are_refused(pipeline: Pipeline, verb: str) -> None:
    told = pipeline.run(sys.executable, "-m", "saigen", *verb, "model=cnn", code=2)
    assert "refused: overrides go into params.yaml by experiments only" in told
    assert "fix:      dvc exp run -S model=cnn" in told


@pytest.mark.slow
def test_a_file_edited_by_hand_is_refused_and_the_message_says_where_to_edit(
    pipeline: Pipeline,
) -> None:
    pipeline.edit("params.yaml", "lr: 0.003", "lr: 0.5")
    told = pipeline.repro(code=255)
    assert "params.yaml was edited by hand: optimizer.lr" in told
    assert "expected: 0.003, conf/optimizer/adamw.yaml:2" in told
    assert "or run `dvc exp run -S optimizer.lr=0.5`" in told
    assert "lr: 0.003" in (pipeline.root / "model.yaml").read_text()
    told = pipeline.run(sys.executable, "-m", "saigen", "train", "--stage", code=2)
    assert "params.yaml was edited by hand: optimizer.lr" in told
    pipeline.run(sys.executable, "-m", "saigen", "compose", "--write")
    assert pipeline.params == pipeline.composes()
    assert "Running stage" not in pipeline.repro()


@pytest.mark.slow
def test_a_file_that_is_no_config_at_all_is_refused(pipeline: Pipeline) -> None:
    for text in ("", "a: [", "optimizer: 3\n"):
        (pipeline.root / "params.yaml").write_text(text)
        assert "refused: params.yaml was edited by hand" in pipeline.run(
            sys.executable, "-m", "saigen", "compose", "--stage", code=2
        )


def test_a_stage_never_runs_on_a_config_older_than_conf(pipeline: Pipeline) -> None:
    pipeline.edit("conf/optimizer/adamw.yaml", "lr: 0.003", "lr: 0.004")
    told = pipeline.run(sys.executable, "-m", "saigen", "train", "--stage", code=2)
    assert "refused: params.yaml is older than conf/" in told
    assert "expected: 0.004, as conf/ composes now" in told
    assert "fix:      run `dvc repro`" in told


@pytest.mark.slow
def test_an_experiment_composes_what_we_compose_and_repro_does_not_revert_it(
    pipeline: Pipeline,
) -> None:
    asked = ("model=cnn", "optimizer.lr=0.01")
    told = pipeline.run(DVC, "exp", "run", *(part for text in asked for part in ("-S", text)))
    assert "overrides in force: model=cnn optimizer.lr=0.01" in told
    assert pipeline.params == pipeline.composes(*asked)
    assert "Running stage" not in pipeline.repro()
    pipeline.edit("conf/model/mlp.yaml", "hidden: 128", "hidden: 64")
    told = pipeline.repro()
    assert "overrides in force since the last experiment: model=cnn optimizer.lr=0.01" in told
    assert "Running stage 'model'" not in told
    assert pipeline.params == pipeline.composes(*asked)
    pipeline.edit("conf/model/cnn.yaml", "channels: 16", "channels: 32")
    assert "Running stage 'model'" in pipeline.repro()
    assert pipeline.params == pipeline.composes(*asked)


@pytest.mark.slow
def test_an_edit_below_an_override_is_used_and_the_override_dropped_aloud(
    pipeline: Pipeline,
) -> None:
    pipeline.run(DVC, "exp", "run", "-S", "model=cnn", "-S", "optimizer.lr=0.01")
    pipeline.edit("conf/optimizer/adamw.yaml", "lr: 0.003", "lr: 0.004")
    told = pipeline.repro()
    assert "DROPPED: optimizer.lr=0.01, because conf/ was edited there: 0.003 -> 0.004" in told
    assert pipeline.params == pipeline.composes("model=cnn")
    pipeline.edit("conf/config.yaml", "- model: mlp", "- model: cnn")
    told = pipeline.repro()
    assert "DROPPED: model=cnn, because conf/ was edited there: mlp -> cnn" in told
    assert pipeline.params == pipeline.composes()


@pytest.mark.slow
def test_an_experiment_after_another_says_which_overrides_it_does_not_have(
    pipeline: Pipeline,
) -> None:
    pipeline.run(DVC, "exp", "run", "-S", "model=cnn")
    told = pipeline.run(DVC, "exp", "run", "-S", "optimizer.lr=0.01")
    assert "DROPPED from the last composition: model=cnn" in told
    assert pipeline.params == pipeline.composes("optimizer.lr=0.01")
    told = pipeline.run(DVC, "exp", "run")
    assert "DROPPED from the last composition: optimizer.lr=0.01" in told
    assert "overrides in force: none" in told
    assert pipeline.params == pipeline.composes()


@pytest.mark.slow
def test_a_refused_experiment_leaves_the_workspace_as_it_was(pipeline: Pipeline) -> None:
    before = pipeline.params
    told = pipeline.run(DVC, "exp", "run", "-S", "optimizer.lr=fast", code=255)
    assert "refused: optimizer.lr is of the wrong kind for torch.optim.AdamW" in told
    assert pipeline.params == before
    assert "Running stage" not in pipeline.repro()


@pytest.mark.slow
def test_a_resolver_is_refused_although_dvc_resolves_it(pipeline: Pipeline) -> None:
    pipeline.edit("conf/data/digits.yaml", "name: digits", "name: ${oc.env:HOME}")
    for road in (("repro",), ("exp", "run"), ("exp", "run", "-S", "model=cnn")):
        told = pipeline.run(DVC, *road, code=255)
        assert "refused: data.name asks the resolver 'oc.env' for its value" in told
        assert "conf/data/digits.yaml:1" in told


@pytest.mark.slow
def test_in_another_clone_an_applied_experiment_goes_on(pipeline: Pipeline) -> None:
    pipeline.run(DVC, "exp", "run", "-S", "experiment=cnn_augmented", "-S", "optimizer.lr=0.01")
    pipeline.commit()
    shutil.rmtree(pipeline.root / ".saigen/cache/composed")
    assert "Running stage" not in pipeline.repro()
    pipeline.edit("conf/optimizer/adamw.yaml", "lr: 0.003", "lr: 0.004")
    told = pipeline.repro()
    assert "CHANGED: optimizer.lr: 0.01 -> 0.004" in told
    assert "CHANGED: model.batch_norm: true -> nothing" in told
    assert pipeline.params == pipeline.composes()


@pytest.mark.slow
def test_what_this_machine_alone_changes_is_composed_and_said(pipeline: Pipeline) -> None:
    local = pipeline.root / "conf/local/default.yaml"
    local.parent.mkdir()
    local.write_text(
        "# @package _global_\nhardware:\n  loader_workers: 3  # this machine has four\n"
    )
    assert "Running stage 'compose'" in pipeline.repro()
    assert "loader_workers: 3" in pipeline.params
    found = compose(("model=cnn",), pipeline.root / "conf")
    assert found.overrides == ("model=cnn", "hardware.loader_workers=3")
    told = pipeline.run(DVC, "exp", "run", "-S", "model=cnn")
    assert "overrides in force: model=cnn hardware.loader_workers=3" in told
    local.unlink()
    told = pipeline.repro()
    assert "overrides in force since the last experiment: model=cnn\n" in told
    assert "loader_workers: 0" in pipeline.params


def test_local_config_that_changes_nothing_is_not_mentioned(pipeline: Pipeline) -> None:
    local = pipeline.root / "conf/local/default.yaml"
    local.parent.mkdir()
    local.write_text("# @package _global_\nhardware:\n  loader_workers: 0  # as everywhere\n")
    found = compose(("model=cnn",), pipeline.root / "conf")
    assert found.overrides == ("model=cnn",)
    assert found.yaml == pipeline.composes("model=cnn")
