"""Files that one command writes and another reads are of the run that they are taken for."""

import json
import shutil
import sys

import pytest
from lab import Lab

from saigen import publishing

SHORT = ("debug=two_steps",)


@pytest.fixture(scope="module")
def two(lab) -> tuple[Lab, dict, dict]:
    """A lab, and the records of two runs in it that differ in their learning rate."""
    return lab, lab.train(SHORT), lab.train((*SHORT, "optimizer.lr=0.01"))


@pytest.fixture
def spoiled(two):
    """A model folder to spoil, beside the folder of another run."""
    lab, a, b = two
    model = lab.project.root / "spoiled"
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(lab.project.root / "runs" / a["run"] / "model", model)
    return lab.project, model, lab.project.root / "runs" / b["run"] / "model"


def signed_again(model) -> None:
    from saigen.digest import digest_file

    manifest = json.loads((model / "manifest.json").read_text())
    manifest["files"] = {name: digest_file(model / name) for name in manifest["files"]}
    (model / "manifest.json").write_text(json.dumps(manifest))


def test_predictions_by_an_edited_source_are_said_and_a_measurement_blames_it(two):
    lab, a, _ = two
    project, model = lab.project, f"runs/{a['run']}/model"
    predict = (sys.executable, "-m", "saigen", "predict", model, "data/digits.csv")
    as_trained = project.run(*predict)
    assert as_trained.stderr == ""
    network = project.root / "src/project/models/mlp.py"
    text = network.read_text()
    try:
        network.write_text(text.replace("nn.GELU()", "nn.ReLU()"))
        edited = project.run(*predict)
        measured = project.refused("evaluate", a["run"], code=1)
    finally:
        network.write_text(text)
    assert edited.stdout != as_trained.stdout
    assert edited.stderr == (
        "edited since this model was trained, so others may come out: src/project/models/mlp.py\n"
    )
    assert f"`saigen rerun {a['run']}` takes the run's own source" in measured
    assert "edited since: src/project/models/mlp.py" in measured


BROKEN = """
from project.task import Classification


class Broken(Classification):
    def metrics(self, predictions, targets):
        assert len(targets["targets"]) != 288
        return super().metrics(predictions, targets)
"""


def test_a_run_is_not_completed_by_an_edited_source(two):
    lab, *_ = two
    project = lab.project
    task = project.root / "src/project/broken.py"
    task.write_text(BROKEN)
    try:
        project.refused("train", *SHORT, "task._target_=project.broken.Broken", code=1)
        run = lab.newest()["run"]
        task.write_text(BROKEN.replace("288", "289"))
        text = project.refused("evaluate", run)
        assert "the source was edited since this run was trained" in text
        assert "where:    src/project/broken.py" in text
        assert not lab.newest()["complete"]
    finally:
        task.unlink()


def test_a_file_in_a_model_that_its_manifest_does_not_name_is_refused_by_name(spoiled):
    project, model, _ = spoiled
    shutil.copyfile(model / "fitted/mean.npy", model / "fitted/more.npy")
    text = project.refused("predict", "spoiled", "data/digits.csv")
    assert "a file of the model is not what was trained" in text
    assert "spoiled/fitted/more.npy" in text
    assert "no file that spoiled/manifest.json does not name" in text


@pytest.mark.parametrize("part", ["config.json", "recipe.json", "fitted/mean.npy"])
def test_a_part_of_another_model_is_refused_even_where_the_manifest_names_it(spoiled, part):
    project, model, other = spoiled
    if part == "fitted/mean.npy":
        shutil.copyfile(model / "fitted/scale.npy", model / part)
    else:
        shutil.copyfile(other / part, model / part)
    signed_again(model)
    text = project.refused("predict", "spoiled", "data/digits.csv")
    assert "the parts of this model were not made by one run" in text
    assert f"where:    spoiled/{part}" in text


def test_the_model_of_another_run_in_a_run_folder_is_refused_by_name(two):
    lab, a, b = two
    runs = lab.project.root / "runs"
    own, other = (runs / record["run"] / "model" for record in (a, b))
    shutil.move(own, own.with_name("own"))
    shutil.copytree(other, own)
    try:
        text = lab.project.refused("evaluate", a["run"])
        assert "the model in the folder of a run was made by another run" in text
        assert f"recipe {b['recipe']['digest'][:12]}" in text
    finally:
        shutil.rmtree(own)
        shutil.move(own.with_name("own"), own)
    assert "the same metrics" in lab.project.saigen("evaluate", a["run"])


@pytest.mark.parametrize("name", ["trace.bin", "predictions.csv"])
def test_diff_refuses_a_file_that_is_not_the_one_of_the_record(two, name):
    lab, a, b = two
    path = lab.project.root / "runs" / a["run"] / name
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"1" + content[-8:])
    try:
        text = lab.project.refused("diff", a["run"], b["run"])
        assert "a file of a run is not the one that its record names" in text
        assert f"runs/{a['run']}/{name}" in text
    finally:
        path.write_bytes(content)


def test_audit_names_a_file_that_no_record_names_and_a_proof_of_another_run(two):
    lab, a, b = two
    root = lab.project.root
    publishing.publish_results(root / "runs" / a["run"], root)
    proof = {"layers": {n: e["digest"] for n, e in b["recipe"]["layers"].items()},
             "config": b["recipe"]["layers"]["config"]["values"]}  # fmt: skip
    (root / "results/verify.json").write_text(json.dumps(proof))
    (root / "results/metrics.json").write_text("{}")
    planted = root / "runs" / a["run"] / "planted.txt"
    planted.write_text("x")
    done = lab.project.run(sys.executable, "-m", "saigen", "audit")
    assert f"runs/{a['run']}/planted.txt: the record does not name it" in done.stdout
    assert "results/verify.json: of another recipe than the record beside it" in done.stdout
    assert "results/metrics.json: not the metrics of the record beside it" in done.stdout
    planted.unlink()
    # what was proven of another run does not outlive the publication, and of this one it does
    publishing.publish_results(root / "runs" / a["run"], root)
    assert not (root / "results/verify.json").exists()
    (root / "results/verify.json").write_text(json.dumps(proof))
    (root / "results/verify.svg").write_text("green")
    publishing.publish_results(root / "runs" / b["run"], root)
    assert (root / "results/verify.json").exists()
    publishing.publish_results(root / "runs" / a["run"], root)
    assert not (root / "results/verify.svg").exists()
    assert "intact" in lab.project.saigen("audit")


@pytest.mark.slow
def test_verify_without_overrides_verifies_the_published_run_and_says_which(two):
    lab, _, b = two
    root = lab.project.root
    publishing.publish_results(root / "runs" / b["run"], root)
    verify = (sys.executable, "-m", "saigen", "verify", "--only", "rerun")
    done = lab.project.run(*verify)
    assert done.returncode == 0, done.stderr
    assert f"verifying {b['run']}, which results/ shows:" in done.stderr
    assert "optimizer.lr=0.01" in done.stderr
    assert f"written into the record of {b['run']}" in done.stderr
    (root / "src/project/task.py").write_text(
        (root / "src/project/task.py").read_text() + "# edited\n"
    )
    done = lab.project.run(*verify)
    assert f"not the recipe of {b['run']} any more: code changed since" in done.stderr
    assert "written into" not in done.stderr
