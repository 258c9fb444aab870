"""What is wrong is refused before it is used: what, where, expected, got, and the fix."""

import shutil

import pytest


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_flipped_byte_in_the_snapshot_is_refused_by_name(project):
    flip(project.root / "data/digits.csv")
    text = project.refused("prepare")
    assert "the snapshot is not the one that was taken" in text
    assert "data/digits.csv" in text
    assert "git checkout data.dvc && dvc checkout --force data.dvc" in text
    assert not (project.root / "prepared").exists()


def test_a_flipped_byte_in_the_snapshot_stops_make_train_before_dvc_takes_it_for_new(project):
    before = (project.root / "data.dvc").read_bytes()
    flip(project.root / "data/digits.csv")
    assert "the snapshot is not the one that was taken" in project.refused("data")
    assert (project.root / "data.dvc").read_bytes() == before


def test_a_missing_snapshot_is_named(project):
    (project.root / "data/digits.csv").unlink()
    text = project.refused("prepare")
    assert "a file of the snapshot is missing" in text
    assert "make data" in text


@pytest.mark.parametrize(
    "name", ["train/inputs.npy", "test/targets.npy", "fitted/mean.npy", "train/ids.txt"]
)
def test_a_flipped_byte_in_prepared_is_refused_by_name(prepared_project, name):
    flip(prepared_project.root / "prepared" / name)
    text = prepared_project.refused("train", "debug=two_steps")
    assert "prepared data is not what was prepared" in text
    assert f"prepared/{name}" in text
    assert not (prepared_project.root / "runs").exists()
    assert "fix:      remove prepared and start again" in text
    shutil.rmtree(prepared_project.root / "prepared")
    prepared_project.saigen("train", "debug=two_steps")


def test_a_flipped_byte_in_the_model_is_refused_by_name(prepared_project):
    prepared_project.saigen("train", "debug=two_steps")
    model = next((prepared_project.root / "runs").glob("*/model"))
    for name in ("weights.safetensors", "fitted/scale.npy", "config.json"):
        spoiled = prepared_project.root / "spoiled"
        shutil.rmtree(spoiled, ignore_errors=True)
        shutil.copytree(model, spoiled)
        flip(spoiled / name)
        text = prepared_project.refused("predict", "spoiled", "data/digits.csv")
        assert "a file of the model is not what was trained" in text
        assert f"spoiled/{name}" in text


def test_a_batch_larger_than_the_data_is_refused(prepared_project):
    text = prepared_project.refused("train", "trainer.batch_size=4096")
    assert "a batch is larger than the data" in text
    assert "trainer.batch_size" in text
    assert "at most 1255" in text


def test_nan_in_the_loss_fails_and_leaves_no_complete_record(prepared_project):
    text = prepared_project.refused(
        "train", "optimizer=sgd", "optimizer.lr=1e30", "trainer.max_grad_norm=null", code=1
    )
    assert "loss is NaN at step" in text
    assert "lower optimizer.lr" in text
    assert '"complete": false' in next(prepared_project.root.glob("runs/*/record.json")).read_text()
    assert not list(prepared_project.root.glob("runs/*/model"))


def test_a_yaml_file_that_cannot_be_read_is_named(project):
    (project.root / "conf/model/mlp.yaml").write_text("hidden: [1, 2\n")
    text = project.refused("compose")
    assert "conf/model/mlp.yaml" in text or "mlp.yaml" in text


def test_an_input_without_the_right_columns_is_refused(prepared_project):
    prepared_project.saigen("train", "debug=two_steps")
    model = next((prepared_project.root / "runs").glob("*/model"))
    wrong = prepared_project.root / "wrong.csv"
    wrong.write_text("id,p00\na,1\n")
    text = prepared_project.refused("predict", str(model), str(wrong))
    assert "the file is not in the snapshot's format" in text
    assert "no column p01" in text


def test_an_unknown_run_is_refused_with_the_way_to_list_them(project):
    text = project.refused("show", "abc")
    assert "no run has this name" in text
    assert "make train" in text


def test_repeated_ids_are_refused_by_name(project):
    import json

    from saigen.digest import digest_file

    path = project.root / "data/digits.csv"
    head, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([head, *rows, rows[5]]))
    provenance = project.root / "data/provenance.json"
    told = json.loads(provenance.read_text())
    provenance.write_text(json.dumps(told | {"sha256": digest_file(path)}))
    text = project.refused("prepare")
    assert "two records have the same id" in text
    assert "digit-0005" in text
