"""What a team keeps outlives a laptop: record in git, the rest in the DVC remote, nothing else.

Clone A trains from a dirty tree and publishes with the ordinary commands; clone B has only what
`git clone` brings, and no run of its own.
"""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, Project, copy_project

pytestmark = pytest.mark.slow
IDENTITY = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")}  # fmt: skip


def do(project: Project, *command: str) -> str:
    done = project.run(*command, env=IDENTITY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edit(project: Project, name: str, old: str, new: str) -> None:
    path = project.root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def a(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The clone that trained, committed and pushed. Its remote is a folder named `team`."""
    base = tmp_path_factory.mktemp("published")
    a = copy_project(base / "a")
    for name in (".gitignore", ".dvc/.gitignore"):
        shutil.copyfile(ROOT / name, a.root / name)
    edit(a, "conf/trainer/default.yaml", "max_epochs: 40 ", "max_epochs: 2 ")
    do(a, "git", "init", "-q", "-b", "main")
    do(a, "dvc", "commit", "-q", "--force", "data.dvc")
    do(a, "dvc", "remote", "add", "--default", "team", str(base / "team"))
    do(a, "git", "add", "-A")
    do(a, "git", "commit", "-qm", "Begin")
    edit(a, "src/project/models/mlp.py", "nn.GELU()", "nn.ReLU()")
    (a.root / "src/project/extra.py").write_text('"""Not in git when the run began."""\n')
    do(a, "dvc", "repro")
    do(a, "git", "add", "-A")
    do(a, "git", "commit", "-qm", "Train")
    do(a, "dvc", "push", "-q")
    return a


def clone(a: Project, target: Path) -> Project:
    do(a, "git", "clone", "-q", str(a.root), str(target))
    return Project(target)


@pytest.fixture
def b(a: Project, tmp_path: Path) -> Project:
    return clone(a, tmp_path / "b")


def published(project: Project) -> dict:
    return json.loads((project.root / "results/record.json").read_text())


def test_git_holds_the_record_and_pointers_and_no_data(a):
    listed = do(a, "git", "ls-files", "results", "model", "prepared", "dvc.lock", "runs").split()
    assert listed == ["dvc.lock", "results/metrics.json", "results/record.json"]


def test_a_fresh_clone_makes_the_run_again_identically_from_the_remotes_alone(a, b):
    told = b.saigen("rerun")
    assert told.startswith("identical: ")
    assert published(a)["run"] in told
    assert b.saigen("audit").splitlines()[-1].startswith("intact")
    assert do(b, "git", "status", "--porcelain") == ""


def test_a_fresh_clone_restores_the_model_from_the_remote(a, b):
    b.saigen("restore")
    for file in (path for path in (a.root / "model").rglob("*") if path.is_file()):
        assert (b.root / file.relative_to(a.root)).read_bytes() == file.read_bytes()


def test_a_fresh_clone_shows_compares_and_audits_what_was_published(a, b):
    do(b, "dvc", "pull", "-q")
    assert do(b, "dvc", "status", "-q") == ""
    assert json.loads(b.saigen("show", "--json")) == published(a)
    assert published(a)["run"] in b.saigen("show", published(a)["run"][:6])
    assert json.loads(b.saigen("audit", "--json"))["verdict"] == "intact"
    run = next((a.root / "runs").glob("*-1"))
    assert "the same outcome" in b.saigen("diff", str(run), "results")


def test_a_fresh_clone_goes_on_from_what_was_published_and_back_to_it(a, b):
    """Nothing runs again until something changes, and then the pipeline does. The model that was
    replaced comes back by the record that git still has.
    """
    do(b, "dvc", "pull", "-q")
    assert "up to date" in do(b, "dvc", "repro")
    edit(b, "conf/trainer/default.yaml", "max_epochs: 2 ", "max_epochs: 1 ")
    assert "Running stage 'evaluate'" in do(b, "dvc", "repro")
    assert b.saigen("audit").splitlines()[-1].startswith("intact")
    (b.root / "old.json").write_text(do(b, "git", "show", "HEAD:results/record.json"))
    assert json.loads(b.saigen("show", "old.json", "--json")) == published(a)
    assert b.saigen("rerun", "old.json").startswith("identical: ")
    b.saigen("restore", "old.json", "--to", "old")
    name = "model/weights.safetensors"
    wanted = (a.root / name).read_bytes()
    assert (b.root / name).read_bytes() != wanted
    assert (b.root / "old/weights.safetensors").read_bytes() == wanted


@pytest.mark.parametrize(
    "name", ["trace.bin", "predictions.csv", "uncommitted/code.patch", "record.json"]
)
def test_one_altered_byte_of_what_was_published_is_named(b, name):
    do(b, "dvc", "pull", "-q")
    path = b.root / "results" / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content.replace(b"1", b"2", 1))
    done = b.run("python", "-m", "saigen", "audit", "--json")
    assert done.returncode == 1
    assert [f["where"] for f in json.loads(done.stdout)["findings"]] == [f"results/{name}"]


@pytest.mark.parametrize(
    ("verb", "lost"),
    [
        ("rerun", "data/digits.csv"),
        ("rerun", "results/uncommitted/code.patch"),
        ("restore", "model/weights.safetensors"),
    ],
)
def test_an_object_that_left_the_remote_is_named_before_anything_is_made(
    a, b, tmp_path, verb, lost
):
    shutil.copytree(a.root.parent / "team", tmp_path / "team")
    do(b, "dvc", "remote", "modify", "--local", "team", "url", str(tmp_path / "team"))
    top, _, inner = lost.rpartition("/")
    (md5,) = [
        line.split()[0]
        for line in do(b, "dvc", "list", ".", top, "--dvc-only", "--show-hash").splitlines()
        if line.split()[1] == inner
    ]
    (tmp_path / f"team/files/md5/{md5[:2]}/{md5[2:]}").unlink()
    told = b.refused(verb)
    assert f"missing: {lost} (md5 {md5})" in told
    assert not (b.root / "runs").exists()
    assert not (b.root / "model").exists()


def test_every_run_after_the_first_published_one_is_made_again(a, b):
    """The commit holds a dvc.lock, with the params.yaml of the run before."""
    edit(b, "conf/trainer/default.yaml", "max_epochs: 2 ", "max_epochs: 1 ")
    do(b, "dvc", "pull", "-q")
    do(b, "dvc", "repro")
    do(b, "git", "add", "-A")
    do(b, "git", "commit", "-qm", "Train again")
    do(b, "dvc", "push", "-q")
    second = clone(b, b.root.parent / "second")
    assert second.saigen("rerun").startswith("identical: ")  # what was published
    assert published(b)["run"] in second.saigen("show")
    # with overrides, over a commit with staged, changed, removed and untracked files
    edit(b, "src/project/task.py", "total, len(outputs)", "2 * total, len(outputs)")
    (b.root / "src/project/staged.py").write_text('"""Staged."""\n')
    do(b, "git", "add", "src/project/staged.py")
    (b.root / "src/project/staged.py").write_text('"""Staged, then changed."""\n')
    (b.root / "src/project/late.py").write_text('"""Untracked."""\n')
    do(b, "git", "rm", "-q", "src/project/extra.py")
    b.saigen("train", "optimizer.lr=0.01", "trainer.max_steps=3", "hardware.loader_workers=1")
    run = b.root / "runs" / json.loads(b.saigen("show", "last", "--json"))["run"]
    told = second.saigen("rerun", str(run), "--trust")
    assert told.startswith("identical: ")
    newest = json.loads(second.saigen("show", "last", "--json"))
    overrides = newest["metadata"]["overrides"]
    assert overrides == json.loads((run / "record.json").read_text())["metadata"]["overrides"]
    assert second.saigen("audit").splitlines()[-1].startswith("intact")
    b.saigen("train", "trainer.max_steps=3")
    done = b.run("python", "-m", "saigen", "diff", "--confirm", "--json", "last~1", "last")
    trials = json.loads(done.stdout)["trials"]
    assert [(t["suspect"], t["result"]) for t in trials] == [("config optimizer.lr", "confirmed")]


def test_a_run_of_another_folder_home_and_user_environment_is_made_again(a, b, tmp_path):
    """As a container's /workspace with a home of its own."""
    there = clone(a, tmp_path / "workspace")
    container = {"HOME": "/nonexistent", "LOGNAME": "nobody", "TMPDIR": "/var/tmp"}
    for verb in (["prepare"], ["train", "trainer.max_steps=3"]):
        do(there, "dvc", "pull", "-q", "data.dvc")
        there.saigen(*verb, env=container)
    (run,) = (there.root / "runs").glob("*-1")
    assert b.saigen("rerun", str(run), "--trust").startswith("identical: ")
