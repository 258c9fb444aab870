"""The whole line, as a person runs it: real DVC, real processes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest


def stages_run(text: str) -> set[str]:
    return {line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project in which `dvc repro` ran once."""
    from conftest import copy_project

    project = copy_project(tmp_path_factory.mktemp("line") / "project")
    project.run("git", "init", "-q")
    done = project.run("dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done.stdout) == {
        "compose", "sources", "prepare", "train", "evaluate",
    }  # fmt: skip
    return project


def test_repro_ends_with_a_good_model_and_a_complete_record(made):
    record = json.loads((made.root / "results/record.json").read_text())
    assert record["complete"] is True
    assert record["outcome"]["metrics"]["accuracy"] >= 0.97
    assert set(record["recipe"]["layers"]) == {
        "data", "config", "code", "environment", "randomness", "distribution",
    }  # fmt: skip
    metrics = json.loads((made.root / "results/metrics.json").read_text())
    assert metrics == record["outcome"]["metrics"]


def test_touching_nothing_runs_nothing_again(made):
    done = made.run("dvc", "repro")
    assert done.returncode == 0
    assert stages_run(done.stdout) == set()
    assert "up to date" in done.stdout


def test_predict_on_the_evaluation_rows_equals_the_recorded_predictions_bit_for_bit(made):
    ids = set((made.root / "prepared/test/ids.txt").read_text().split())
    head, *rows = (made.root / "data/digits.csv").read_text().splitlines(keepends=True)
    chosen = [row for row in rows if row.split(",")[0] in ids]
    # prediction knows no labels
    unlabelled = [",".join([row.split(",")[0], *row.split(",")[2:]]) for row in [head, *chosen]]
    (made.root / "new.csv").write_text("".join(unlabelled))
    made.saigen("predict", "model", "new.csv", "--out", "new_predictions.csv")
    recorded = (made.root / "results/predictions.csv").read_bytes()
    assert (made.root / "new_predictions.csv").read_bytes() == recorded


def test_a_row_is_predicted_alike_whatever_stands_around_it(made):
    head, *rows = (made.root / "data/digits.csv").read_text().splitlines(keepends=True)
    (made.root / "some.csv").write_text("".join([head, *rows[700:703]]))
    (made.root / "all.csv").write_text("".join([head, *rows]))
    some = made.saigen("predict", "model", "some.csv").splitlines()
    everything = made.saigen("predict", "model", "all.csv").splitlines()
    assert len(some) == 4
    assert some[1:] == everything[701:704]


def test_the_record_says_what_was_read_back_and_where_it_ran(made):
    record = json.loads((made.root / "results/record.json").read_text())
    environment = record["recipe"]["layers"]["environment"]
    assert environment["switches"]["deterministic_algorithms"] is True
    assert environment["switches"]["python_hash_seed"] == "0"
    assert environment["switches"]["intra_op_threads"] == 1
    assert environment["switches"]["instruction_set"] in {"DEFAULT", "AVX2", "AVX512"}
    assert environment["packages"]["torch"].startswith("2.13.0")
    assert record["metadata"]["machine"]["container"] == "none"
    assert record["metadata"]["folder"] == str(made.root)
    # no digest may depend on a place or a time
    recipe = json.dumps(record["recipe"])
    assert str(made.root) not in recipe
    assert record["metadata"]["machine"]["kernel"] not in recipe


def test_a_changed_learning_rate_trains_and_evaluates_but_does_not_prepare(made):
    path = made.root / "conf/optimizer/adamw.yaml"
    before = path.read_text()
    path.write_text(before.replace("lr: 0.003", "lr: 0.004"))
    try:
        done = made.run("dvc", "repro")
        assert done.returncode == 0, done.stderr
        assert stages_run(done.stdout) == {"compose", "train", "evaluate"}
    finally:
        path.write_text(before)


@pytest.mark.slow
def test_only_an_edit_of_what_the_preparation_imports_prepares_anew(made):
    data, text = made.root / "src/project/data.py", made.root / "src/project/prepare.py"
    kept = {path: path.read_text() for path in (data, text)}
    made.run("dvc", "repro", "prepare")  # of conf/ as another test put it back
    try:
        for path, stages in ((data, {"sources"}), (text, {"sources", "prepare"})):
            path.write_text(kept[path] + "# edited\n")
            done = made.run("dvc", "repro", "prepare")
            assert done.returncode == 0, done.stderr
            assert stages_run(done.stdout) == stages
    finally:
        for path, content in kept.items():
            path.write_text(content)


def appended(project, name, text) -> None:
    with (project.root / "src" / name).open("a") as file:
        file.write(text)


@pytest.mark.slow
def test_an_edit_retrains_only_if_a_run_imports_what_was_edited(made):
    def repro(target: str) -> set[str]:
        done = made.run("dvc", "repro", target)
        assert done.returncode == 0, done.stdout + done.stderr
        return stages_run(done.stdout)

    src = made.root / "src"
    shutil.copytree(src, made.root.parent / "src")
    repro("evaluate")  # of conf/ as another test put it back
    try:
        for name in ("saigen/analysis/doctor.py", "saigen/analysis/diff.py", "saigen/cli.py",
                     "saigen/runs/audit.py", "project/models/cnn.py"):  # fmt: skip
            appended(made, name, "# a typo mended\n")
        assert repro("evaluate") == {"sources"}
        assert "up to date" in made.run("dvc", "status").stdout

        for name in ("saigen/training/run.py", "project/models/mlp.py"):
            appended(made, name, "# edited\n")
            assert repro("sources") == {"sources"}
            told = made.run("dvc", "status", "train", "evaluate").stdout
            assert told.count("run_sources.json") == 2, told
            made.run("dvc", "commit", "--force", "train", "evaluate")

        (src / "project/half.py").write_text("HALF = 0.5\n")
        appended(made, "project/prepare.py", "from .half import HALF\n")
        assert repro("prepare") == {"sources", "prepare"}
        appended(made, "project/half.py", "HALF = 0.25\n")
        assert repro("prepare") == {"sources", "prepare"}
    finally:
        shutil.rmtree(src)
        shutil.copytree(made.root.parent / "src", src)


@pytest.mark.slow
def test_two_copies_in_different_circumstances_give_the_same_bits(tmp_path, project_at):
    places = (tmp_path / "a", tmp_path / "quite" / "another" / "and" / "longer" / "place")
    metadata = (
        {"TZ": "Asia/Tokyo", "LANG": "C", "HOME": "/nowhere", "PYTHONHASHSEED": "7"},
        {
            "TZ": "America/Lima",
            "LANG": "C.UTF-8",
            "HOME": str(tmp_path),
            "PYTHONHASHSEED": "random",
        },
    )
    masks, records, projects = (0o022, 0o077), [], [project_at(place) for place in places]
    busy = None
    for project, env, mask in zip(projects, metadata, masks, strict=True):
        old = os.umask(mask)
        try:
            project.saigen("prepare", env=env)
            project.saigen("train", "trainer.max_epochs=3", env=env)
        finally:
            os.umask(old)
        record = next((project.root / "runs").glob("*/record.json"))
        records.append((record.parent, json.loads(record.read_text())))
        if busy is None:
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    busy.kill()
    busy.wait()
    (first_folder, first), (second_folder, second) = records
    assert first["recipe"]["digest"] == second["recipe"]["digest"]
    assert first["outcome"]["digest"] == second["outcome"]["digest"]
    weights = "model/weights.safetensors"
    assert (first_folder / weights).read_bytes() == (second_folder / weights).read_bytes()
    assert first["metadata"]["folder"] != second["metadata"]["folder"]


def test_the_same_recipe_again_is_entered_as_made_again(prepared_project):
    once = prepared_project.saigen("train", "debug=two_steps")
    twice = prepared_project.saigen("train", "debug=two_steps")
    assert "made for the first time" in once
    assert "made again, identical (2nd time)" in twice
    assert len(list((prepared_project.root / "runs").glob("*/record.json"))) == 2


def plant_noise(project) -> None:
    """Another outcome each time: the default network multiplies its inputs by chance."""
    path = project.root / "src/project/models/mlp.py"
    forward = "        scores: torch.Tensor = "
    noise = "        import os\n        inputs = inputs * (1 + os.urandom(1)[0])\n"
    path.write_text(path.read_text().replace(forward, noise + forward, 1))


def test_other_bits_where_none_were_promised_are_no_violation(prepared_project):
    plant_noise(prepared_project)
    asked = ("train", "debug=two_steps", "reproducibility=statistical")
    told = [prepared_project.saigen(*asked) for _ in range(2)]
    (first, _) = sorted(
        path.parent.name for path in prepared_project.root.glob("runs/*/record.json")
    )
    said = f"made again, with other bits than {first}, as its reproducibility allows (2nd time)"
    assert said in told[1]
    assert "VIOLATION" not in prepared_project.saigen("runs")
    done = prepared_project.run(sys.executable, "-m", "saigen", "diff", "last~1", "last")
    assert (
        "nothing in the recipe differs; its reproducibility promises a distribution and no bits"
        in (done.stdout)
    )


def test_another_outcome_of_one_recipe_is_a_violation_said_at_once_with_the_diff(prepared_project):
    plant_noise(prepared_project)
    prepared_project.saigen("train", "debug=two_steps")
    command = (sys.executable, "-m", "saigen", "train", "debug=two_steps")
    done = prepared_project.run(*command)
    first, second = sorted(path.parent for path in prepared_project.root.glob("runs/*/record.json"))
    assert done.returncode == 1
    lines = done.stderr[done.stderr.index("VIOLATION") :].splitlines()
    assert lines[0] == f"VIOLATION: the same recipe gave another outcome in {first.name}"
    assert lines[1].startswith(f"A  {first.name}")
    assert lines[2].startswith(f"B  {second.name}")
    layers = ("data", "config", "code", "environment", "randomness", "distribution")
    assert [f"{layer:<14}equal" for layer in layers] == lines[4:10]
    assert "the runs part at step 0, in the forward pass" in done.stderr
    assert lines[-1] == f"next          saigen diff --deep {first.name} {second.name}"

    shutil.rmtree(first)
    shutil.rmtree(second)
    done = prepared_project.run(*command)
    assert done.returncode == 1
    told = f"runs/{second.name} is not here any more, so what differs cannot be told"
    assert done.stderr.splitlines()[-1] == told


def test_a_run_keeps_what_git_does_not_have(prepared_project):
    project = prepared_project
    project.run("git", "init", "-q")
    (project.root / ".gitignore").write_text("/.saigen/\n/runs/\n/prepared/\n/data/\n.env\n")
    project.run("git", "add", "-A")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    assert project.run("git", *author, "commit", "-qm", "all").returncode == 0
    with (project.root / "src/project/data.py").open("a") as file:
        file.write("# not committed\n")
    (project.root / "src/project/new.py").write_text('"""New."""\n')
    hidden = "secret-of-mine"
    (project.root / ".env").write_text(f"TOKEN={hidden}\n")
    project.saigen("train", "debug=two_steps", env={"SECRET_TOKEN": hidden})
    folder = next((project.root / "runs").glob("*/record.json")).parent
    record = json.loads((folder / "record.json").read_text())
    assert "# not committed" in (folder / "uncommitted/code.patch").read_text()
    assert (folder / "uncommitted/untracked/src/project/new.py").is_file()
    assert list(record["metadata"]["git"]["untracked"]) == ["src/project/new.py"]
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert all(b"secret-of-mine" not in path.read_bytes() for path in written)


def test_help_and_runs_answer_without_importing_torch(prepared_project):
    for verb in ("--help", "runs"):
        done = prepared_project.run(sys.executable, "-X", "importtime", "-m", "saigen", verb)
        assert done.returncode == 0
        assert "saigen.cli" in done.stderr
        assert "torch" not in done.stderr
        assert "hydra" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["symlink", "symlink elsewhere", "hardlink"])
def test_every_verb_works_where_dvc_puts_links_in_place_of_the_files_it_keeps(project, kind):
    """`cache.type`: for data that are too large for two copies."""
    trainer = project.root / "conf/trainer/default.yaml"
    trainer.write_text(trainer.read_text().replace("max_steps: null", "max_steps: 2"))
    project.run("git", "init", "-q")
    for command in (
        ("config", "cache.type", kind.split()[0]),
        *([("cache", "dir", "../elsewhere")] if "elsewhere" in kind else []),
        ("commit", "--force", "data.dvc"),
        ("repro",),
        ("checkout", "--relink"),
    ):
        done = project.run("dvc", *command)
        assert done.returncode == 0, done.stdout + done.stderr
    linked = ["data/digits.csv", "prepared/manifest.json", "model/weights.safetensors",
              "results/predictions.csv"]  # fmt: skip
    assert all((project.root / name).is_symlink() == ("symlink" in kind) for name in linked)
    for verb in (
        ("data",),
        ("evaluate", "--stage"),
        ("predict", "model", "data/digits.csv", "--out", "out.csv"),
        ("show", "results"),
        ("diff", "results", "last"),
        ("audit",),
        ("train", "optimizer.lr=0.01"),
        ("restore", "last"),
        ("prepare",),
    ):
        project.saigen(*verb)
    kept = (project.root.parent / "elsewhere", project.root / ".dvc/cache")
    for place in (p for folder in kept for p in folder.glob("files/md5/*/*")):
        content = place.read_bytes()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert digest == f"{place.parent.name}{place.name}".removesuffix(".dir")
