"""Splits: by hash, group, time, class, column, and folds; numbers that were fitted."""

from collections import Counter

import numpy as np
import pytest

from saigen.config.parameter_types import accepts
from saigen.config.schema import Fractions
from saigen.data import splits
from saigen.errors import Refusal

N = 2000
IDS = tuple(f"record-{n}" for n in range(N))
FRACTIONS = Fractions(train=0.7, validation=0.1, test=0.2)
COLUMNS = {
    "patient": np.arange(N) // 10,
    "year": 1990 + np.arange(N) * 7 % 30,
    "label": np.where(np.arange(N) % 50 == 0, "rare", "common"),
    "given": np.array(["learn", "pick", "judge"])[np.arange(N) % 3],
    "pixels": np.zeros((N, 2)),
}
MADE = {
    "by_hash": {},
    "by_group": {"column": "patient"},
    "by_time": {"column": "year"},
    "stratified": {"column": "label"},
    "by_column": {"column": "given", "train": "learn", "validation": "pick", "test": "judge"},
    "k_fold": {"folds": 5, "fold": 2},
}


def made(name, ids=IDS, columns=COLUMNS, **changed):
    arguments = {**MADE[name], **changed}
    found = getattr(splits, name)(
        ids=ids, columns=columns, salt="s", fractions=FRACTIONS, **arguments
    )
    return splits.checked(found, len(ids), name)


@pytest.mark.parametrize("name", MADE)
def test_every_record_stands_in_one_split_whatever_the_order_of_the_table(name):
    names = made(name)
    turned = {column: values[::-1] for column, values in COLUMNS.items()}
    assert np.array_equal(made(name, IDS[::-1], turned), names[::-1])
    assert set(names.tolist()) == set(splits.SPLITS)


@pytest.mark.parametrize("name", ["by_hash", "by_group", "by_time", "stratified"])
def test_the_fractions_are_kept(name):
    share = Counter(made(name).tolist())
    for split, fraction in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(share[split] / N - fraction) < 0.08


def test_the_split_by_hash_is_what_it_always_was():
    # Golden: these values are the format
    assert made("by_hash")[:6].tolist() == GOLDEN


GOLDEN = ["test", "train", "train", "validation", "train", "test"]


def test_a_group_is_never_on_both_sides():
    names = made("by_group").reshape(-1, 10)
    assert (names == names[:, :1]).all()


def test_time_parts_the_splits():
    names, years = made("by_time"), COLUMNS["year"]
    assert years[names == "train"].max() < years[names == "validation"].min()
    assert years[names == "validation"].max() < years[names == "test"].min()


def test_every_class_has_its_share():
    rare = COLUMNS["label"] == "rare"
    assert Counter(made("stratified")[rare].tolist()) == {"train": 28, "validation": 4, "test": 8}


def test_a_column_says_where_a_record_stands():
    names = made("by_column")
    assert set(names[COLUMNS["given"] == "judge"].tolist()) == {"test"}
    two = {"given": np.where(np.arange(N) % 3 == 2, 1, 0)}
    names = made("by_column", columns=two, train=0, validation=None, test=1)
    assert set(names[two["given"] == 1].tolist()) == {"test"}
    rest = names[two["given"] == 0]
    assert abs((rest == "validation").mean() - 1 / 8) < 0.04
    with pytest.raises(Refusal, match="a record stands in no split") as raised:
        made("by_column", validation=None)
    assert raised.value.where == "the column 'given' of the record record-1"


def test_folds_test_each_record_once():
    tested = np.stack([made("k_fold", fold=fold) == "test" for fold in range(5)])
    assert (tested.sum(axis=0) == 1).all()
    with pytest.raises(Refusal, match="there is no such fold") as raised:
        made("k_fold", fold=5)
    assert "prepare.split.fold=0,1,2,3,4" in raised.value.fix


@pytest.mark.parametrize("name", ["by_group", "by_time", "stratified", "by_column"])
@pytest.mark.parametrize("column", ["pixels", "nothing"])
def test_a_column_that_cannot_split_is_refused_by_name(name, column):
    with pytest.raises(Refusal, match=f"the column '{column}' cannot split the records"):
        made(name, column=column)


def test_a_time_that_is_no_number_is_refused():
    years = {"year": np.where(np.arange(N) == 7, np.nan, COLUMNS["year"])}
    with pytest.raises(Refusal, match="the column 'year' cannot split the records"):
        made("by_time", columns=years)


@pytest.mark.parametrize("found", [["train"] * 3, ["train", "test", "dev", "test"], None, 7])
def test_what_is_no_split_is_refused(found):
    with pytest.raises(Refusal, match="does not say where each record stands"):
        splits.checked(found, 4, "prepare.split")


FITTED = '''"""A preparation that fits a number."""

import numpy as np

from project.prepare import Standardize


class Counted(Standardize):
    def fit(self, train):
        found = super().fit(train)
        return found | {"classes": np.array(len(np.unique(train.columns["label"]))),
                        "inputs": np.array([train.columns["pixels"].shape[1]])}
'''
ASKED = (
    "prepare.preparation._target_=project.fitted.Counted", "model.outputs=fitted:classes",
    "model.inputs=fitted:inputs", "model.hidden=fitted:inputs", "trainer.max_epochs=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(lab):
    (lab.project.root / "src/project/fitted.py").write_text(FITTED)
    return lab


def test_a_fitted_number_flows_into_the_model_and_is_recorded(place):
    project = place.project
    project.saigen("train", *ASKED)
    run = place.newest()
    assert run["metadata"]["training"]["fitted"] == {
        "model.outputs": 10,
        "model.inputs": 64,
        "model.hidden": 64,
    }
    assert run["recipe"]["layers"]["config"]["values"]["model"]["outputs"] == "fitted:classes"
    plain = tuple(text.replace("fitted:classes", "10").replace("fitted:inputs", "64")
                  for text in ASKED)  # fmt: skip
    project.saigen("train", *plain)
    assert place.newest()["outcome"]["weights"] == run["outcome"]["weights"]
    model = f"runs/{run['run']}/model"
    assert project.saigen("predict", model, "data/digits.csv").count("\n") == 1798
    assert "the same metrics" in project.saigen("evaluate", run["run"])


@pytest.mark.parametrize(
    ("override", "what", "expected"),
    [
        ("model.dropout=fitted:width", "fitted:width is no number that the preparation", "classes"),
        ("model.dropout=fitted:mean", "fitted:mean is no number", "classes, inputs"),
        ("prepare.preparation.epsilon=fitted:classes", "cannot know what it has not fitted", "a v"),
        ("scheduler.final_fraction=fitted:classes", "final_fraction is out of range", "at most 1"),
        ("data.name=fitted:classes", "data.name", "string"),
        ("model.dropout=fitted:", "model.dropout is of the wrong kind", "float"),
    ],
)
def test_a_number_that_was_not_fitted_is_refused_by_key(place, override, what, expected):
    said = place.project.refused("train", *ASKED, override)
    assert what in said
    assert expected in said
    assert override.partition("=")[0] in said


def test_runs_of_other_splits_are_prepared_for_themselves(place):
    split = ("prepare.split._target_=saigen.data.splits.stratified", "debug=two_steps")
    place.project.saigen("train", *split, "+prepare.split.column=label")
    assert place.newest()["recipe"]["layers"]["data"]["rows"] == {
        "train": 1258, "validation": 270, "test": 269}  # fmt: skip
    said = place.project.refused("train", *split, "+prepare.split.column=age")
    assert "the column 'age' cannot split the records" in said


def test_a_fitted_number_may_stand_in_a_list_of_numbers():
    assert accepts(["list", ["int"]], [1, "fitted:classes"])
    assert not accepts(["list", ["int"]], [1, "fitted:"])
    assert not accepts(["bool"], "fitted:classes")
