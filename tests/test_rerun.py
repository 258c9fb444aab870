"""A run is made again from its record: elsewhere, later, by somebody else."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Project, copy_project

ROOT = Path(__file__).parent.parent


def git(project: Project, *arguments: str) -> None:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = project.run("git", *identity, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A clone with a run from a dirty tree, three commits ago; and a second, fresh clone."""
    base = tmp_path_factory.mktemp("rerun")
    first = copy_project(base / "first clone")
    shutil.copytree(ROOT / ".dvc/snapshots", first.root / ".dvc/snapshots")
    for name in (".gitignore", ".dvc/.gitignore"):
        shutil.copyfile(ROOT / name, first.root / name)
    git(first, "init", "-q", "-b", "main")
    git(first, "add", "-A")
    git(first, "commit", "-qm", "Begin")
    model = first.root / "src/project/models/mlp.py"
    model.write_text(model.read_text().replace("nn.GELU()", "nn.ReLU()"))
    (first.root / "src/project/extra.py").write_text("UNTRACKED = True\n")
    first.saigen("prepare")
    first.saigen("train", "debug=two_steps", "optimizer.lr=0.004")
    git(first, "checkout", "-q", "src")
    (first.root / "src/project/extra.py").unlink()
    for number in range(3):
        (first.root / "NOTES").write_text(str(number))
        conf = first.root / "conf/optimizer/adamw.yaml"
        conf.write_text(conf.read_text().replace("lr: 0.003", f"lr: 0.003{number + 1}"))
        git(first, "add", "-A")
        git(first, "commit", "-qm", f"Go on {number}")
    git(first, "clone", "-q", str(first.root), str(base / "b"))
    return first, Project(base / "b")


def run_of(project: Project) -> Path:
    return next((project.root / "runs").glob("*-1"))


@pytest.mark.slow
def test_a_dirty_run_of_another_clone_three_commits_ago_is_made_again_identically(history):
    first, second = history
    told = second.saigen("rerun", "--trust", str(run_of(first)))
    assert told.startswith("identical: ")
    status = second.run("git", "status", "--porcelain")
    assert status.stdout == ""
    assert json.loads(second.saigen("runs", "--json"))["runs"][0]["config"]["optimizer.lr"] == 0.004
    assert second.saigen("audit").startswith("intact")


def test_a_run_whose_patch_was_not_kept_is_refused_by_name(history, tmp_path):
    first, second = history
    shutil.copytree(run_of(first), tmp_path / "run")
    (tmp_path / "run/uncommitted/code.patch").unlink()
    told = second.refused("rerun", str(tmp_path / "run"))
    assert "its source was not committed, and was not kept" in told
    assert "missing: code.patch" in told


def test_a_run_whose_data_left_the_remote_is_refused_before_training_by_name(history, tmp_path):
    first, second = history
    third = Project(tmp_path / "third")
    git(second, "clone", "-q", str(second.root), str(third.root))
    stored = third.root / ".dvc/snapshots/files/md5/e8/e310c11167f81386259be7a1d54ef8"
    stored.unlink()
    git(third, "add", "-A")
    git(third, "commit", "-qm", "Lose an object")
    record = json.loads((run_of(first) / "record.json").read_text())
    record["metadata"]["git"] |= {
        "commit": third.run("git", "rev-parse", "HEAD").stdout.strip(),
        "patch_sha256": None,
        "untracked": {},
    }
    files = record["recipe"]["layers"]["code"]["files"]
    for name in ("src/project/models/mlp.py", "src/project/extra.py"):
        files.pop(name, None)
    record["metadata"]["other_source"].pop("src/project/extra.py")
    (tmp_path / "record.json").write_text(json.dumps(record))
    told = third.refused("rerun", "--trust", str(tmp_path / "record.json"))
    assert "the data of the run cannot be had any more" in told
    assert "missing: data/digits.csv (md5 e8e310c11167f81386259be7a1d54ef8)" in told
    assert not (third.root / "runs").exists()


def test_a_commit_that_is_not_here_is_refused_by_name(history, tmp_path):
    first, second = history
    shutil.copytree(run_of(first), tmp_path / "run")
    record = json.loads((tmp_path / "run/record.json").read_text())
    record["metadata"]["git"]["commit"] = "1" * 40
    (tmp_path / "run/record.json").write_text(json.dumps(record))
    told = second.refused("rerun", str(tmp_path / "run"))
    assert f"expected: commit {'1' * 40}" in told


def test_restore_puts_a_runs_model_back_byte_for_byte(history):
    first, _ = history
    shutil.rmtree(first.root / "model", ignore_errors=True)
    shutil.copytree(run_of(first) / "model", first.root / "model")
    (first.root / "model/weights.safetensors").write_bytes(b"something else")
    first.saigen("restore", run_of(first).name)
    for name in ("weights.safetensors", "manifest.json", "config.json"):
        assert (first.root / "model" / name).read_bytes() == (
            run_of(first) / "model" / name
        ).read_bytes()


def test_restore_refuses_an_altered_model(history, tmp_path):
    first, second = history
    shutil.copytree(run_of(first), tmp_path / "run")
    weights = tmp_path / "run/model/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "is not what was trained" in second.refused("restore", str(tmp_path / "run"))
    assert not (second.root / "model").exists()
