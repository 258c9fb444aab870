"""Two groups of runs over their seeds: what is luck is called luck, and what is not is not."""

import json
import shutil
import sys

import jsonschema
import numpy as np
import pytest
from conftest import ROOT, Project

from saigen.analysis.advice import advice
from saigen.analysis.compare import compare
from saigen.analysis.compare_text import weighed_text
from saigen.analysis.interval import (
    Spread,
    answer,
    half_width,
    of_examples,
    of_seeds,
    student_t,
)
from saigen.analysis.run import open_run
from saigen.analysis.schemas import schema
from saigen.config.schema import Comparison
from saigen.data.predictions import predictions_csv, read_predictions
from saigen.errors import Refusal

TERMS = Comparison(
    metric="accuracy", mode="max", margin=0.02, seeds=5, confidence=0.95,
    interval_covers="seeds_and_examples",
)  # fmt: skip
SHORT = ("trainer.max_steps=60", "comparison.seeds=3", "trainer.batch_size=16")
SLOW = "optimizer.lr=0.0001"


# the interval


@pytest.mark.parametrize(
    ("confidence", "freedom", "expected"),
    [(0.95, 1, 12.7062), (0.95, 4, 2.7764), (0.9, 10, 1.8125), (0.99, 30, 2.75), (0.95, 1e6, 1.96)],
)
def test_quantiles_are_those_of_the_tables(confidence, freedom, expected):
    assert student_t(confidence, freedom) == pytest.approx(expected, abs=1e-4)


def test_the_jackknife_of_a_mean_is_its_textbook_variance():
    values = np.random.default_rng(1).normal(size=80)
    found = of_examples(lambda rows: float(values[rows].mean()), 80)
    assert found.variance == pytest.approx(values.var(ddof=1) / 80)
    assert found.freedom == 79


def test_examples_of_one_origin_that_stand_together_count_as_one():
    values = np.repeat(np.random.default_rng(2).normal(size=100), 10)
    found = of_examples(lambda rows: float(values[rows].mean()), 1000)
    assert found.variance == pytest.approx(values[::10].var(ddof=1) / 100)


def test_luck_that_both_groups_share_cancels_in_pairs():
    luck = np.random.default_rng(3).normal(size=6)
    a, b = luck.tolist(), (luck + 0.1 + np.array([0.01, -0.01] * 3)).tolist()
    paired, apart = (half_width(0.95, of_seeds(a, b, paired=p)) for p in (True, False))
    assert paired < 0.02 < 0.5 < apart


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_what_covers_more_is_never_narrower(seeds):
    luck = of_seeds([0.9, 0.5] * seeds, [0.8, 0.6] * seeds, paired=True)
    assert half_width(0.95, luck) < half_width(0.95, luck, [Spread(1e-5, 99)])
    assert half_width(0.95, [Spread(1.0, 1)]) < half_width(
        0.95, [Spread(1.0, 1)], [Spread(0.5, 99)]
    )


def simulated(seeds: int, examples: int, draws: np.random.Generator) -> tuple[float, ...]:
    """A difference of 0 in a population of seeds and examples; what each interval says of it.

    Scores are sums of what a seed, an example and both together do, each group for itself.
    """
    scores, fixed = [], []
    for _ in "AB":
        of_seed, of_example = draws.normal(0, 0.01, seeds), draws.normal(0, 0.3, examples)
        both = draws.normal(0, 0.1, (seeds, examples))
        scores.append(of_seed[:, None] + of_example + both)
        fixed.append(of_example.mean())
    a, b = scores
    difference = float(b.mean() - a.mean())
    luck = of_seeds(a.mean(1).tolist(), b.mean(1).tolist(), paired=False)
    column = b.mean(0) - a.mean(0)
    more = of_examples(lambda rows: float(column[rows].mean()), examples)
    return difference, fixed[1] - fixed[0], half_width(0.95, luck), half_width(0.95, luck, [more])


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(4)
    told = np.array([simulated(5, 300, draws) for _ in range(400)])
    difference, on_these, seeds, both = told.T
    assert 0.93 < (abs(difference - on_these) <= seeds).mean() < 0.98  # for these examples
    assert 0.94 < (abs(difference) <= both).mean() < 0.99  # for any examples
    # whoever asks about other examples must not take the interval over seeds
    assert (abs(difference) <= seeds).mean() < 0.7


@pytest.mark.parametrize(
    ("difference", "half", "mode", "expected"),
    [
        (0.010, 0.005, "max", "equivalent"),  # real, and too small to matter
        (-0.010, 0.005, "max", "equivalent"),
        (0.015, 0.005, "max", "better"),  # on the edge: not within the margin
        (0.030, 0.020, "max", "better"),
        (-0.030, 0.020, "max", "worse"),
        (0.030, 0.020, "min", "worse"),
        (-0.030, 0.020, "min", "better"),
        (0.030, 0.030, "max", "inconclusive"),
        (0.000, 0.020, "max", "inconclusive"),
        (0.0, 0.0, "max", "equivalent"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(difference, half, mode, expected):
    assert answer(difference, half, TERMS.model_copy(update={"mode": mode})) == expected


def test_an_open_question_says_how_many_seeds_would_decide_it():
    seeds = of_seeds([0.90, 0.94, 0.92], [0.93, 0.97, 0.96], paired=False)
    told = advice(0.0333, seeds, [], 288, TERMS)
    wanted = int(told.split()[1])
    assert told.startswith(f"about {wanted} seeds in each group would decide")
    for count, decided in ((wanted - 1, False), (wanted, True)):
        more = [Spread(s.variance * 3 / count, count - 1) for s in seeds]
        half = half_width(0.95, more)
        assert (answer(0.0333, half, TERMS) != "inconclusive") is decided


def test_where_the_examples_are_too_few_no_number_of_seeds_is_promised():
    seeds = of_seeds([0.98, 0.99, 0.97], [0.985, 0.991, 0.98], paired=True)
    told = advice(0.005, seeds, [Spread(0.0001, 99)], 288, TERMS)
    assert told == (
        "no number of seeds would decide: 288 test examples alone leave +-0.02; "
        "504 such examples might"
    )


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_predictions_are_read_back_to_the_bit(kind):
    draws = np.random.default_rng(5)
    written = {
        "label": draws.integers(-(2**63), 2**63 - 1, 40),
        "probability": draws.random((40, 3)).astype(kind),
        "log_scale": np.exp(draws.normal(0, 20, 40)).astype(kind),
        "box_2": draws.normal(size=40).astype(kind),  # a name that looks like a part of one
    }
    found = read_predictions(predictions_csv([f"r{n}" for n in range(40)], written), kind)
    assert list(found) == list(written)
    for name, array in written.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


# groups of real runs


@pytest.fixture(scope="module")
def made(lab):
    """Two recipes with three seeds each; the second learns too slowly."""
    for seed in (0, 1, 2):
        lab.train((*SHORT, f"randomness.seed={seed}"))
        lab.train((*SHORT, SLOW, f"randomness.seed={seed}"))
    return lab.project


@pytest.fixture
def copied(made, tmp_path):
    """A copy of its runs that a test may change."""
    for name in ("runs", "src", "conf", "pyproject.toml"):
        source = made.root / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    return Project(tmp_path)


def weigh(project, a: str = "last~1", b: str = "last"):
    return compare(open_run(a, project.root), open_run(b, project.root))


def edit(copied, change, lr: float | None = None) -> None:
    """Change the records of all runs, or of those with one learning rate."""
    for path in copied.root.glob("runs/*/record.json"):
        record = json.loads(path.read_text())
        own = record["recipe"]["layers"]["config"]["values"]["optimizer"]["lr"]
        if lr is None or own == lr:
            change(record)
        path.write_text(json.dumps(record))


def terms(**changed):
    return lambda record: record["metadata"]["config"]["comparison"].update(changed)


def test_a_difference_that_is_real_is_called_so_in_both_directions(made, monkeypatch):
    monkeypatch.chdir(made.root)
    found = weigh(made)
    assert found.verdict == "worse"
    assert found.differences == ["config optimizer.lr (0.003 -> 0.0001)"]
    assert (found.a.seeds, found.b.seeds, found.paired, found.examples) == (3, 3, True, 288)
    records = [open_run(name, made.root).record for name in (*found.a.runs, *found.b.runs)]
    values = np.array([r["outcome"]["metrics"]["accuracy"] for r in records]).reshape(2, 3)
    assert found.difference == pytest.approx(values[1].mean() - values[0].mean())
    gains = values[1] - values[0]
    by_hand = 4.302653 * gains.std(ddof=1) / np.sqrt(3)
    assert found.half_widths["seeds"] == pytest.approx(by_hand, rel=1e-6)
    assert found.half_widths["seeds_and_examples"] > found.half_widths["seeds"]
    back = weigh(made, "last", "last~1")
    assert (back.verdict, back.difference) == ("better", -found.difference)
    assert back.half_widths == found.half_widths


def test_the_verb_answers_with_text_with_json_and_with_its_exit_code(made):
    done = made.run(sys.executable, "-m", "saigen", "compare", "last~1", "last")
    assert done.returncode == 1, done.stderr
    for words in (
        "over 3 seeds",
        "differ in     config optimizer.lr (0.003 -> 0.0001)",
        "(paired by seed)",
        "95 % interval",
        ": other seeds, these 288 examples",
        ": other seeds, 288 other examples like these",
        "margin        0.02, as agreed in the records before their first step",
        "verdict       B is worse, and not by luck",
    ):
        assert words in done.stdout
    document = json.loads(made.saigen("compare", "last", "last~1", "--json"))
    jsonschema.validate(document, schema("compare-1"))
    assert (document["schema"], document["verdict"]) == ("saigen-compare-1", "better")


def test_the_margin_is_the_one_in_the_records_not_the_one_in_conf(copied, monkeypatch):
    monkeypatch.chdir(copied.root)
    edit(copied, terms(margin=0.99))
    found = weigh(copied)
    assert found.verdict == "equivalent"
    told = weighed_text(found)
    assert "verdict       equivalent: they differ by less than the margin, and not by luck" in told


def test_the_verdict_is_about_what_the_interval_was_to_cover(copied, monkeypatch):
    monkeypatch.chdir(copied.root)
    before = weigh(copied)
    seeds, both = (abs(before.difference) + half for half in before.half_widths.values())
    edit(copied, terms(margin=(seeds + both) / 2))
    assert weigh(copied).verdict != "equivalent"
    edit(copied, terms(interval_covers="seeds"))
    found = weigh(copied)
    assert found.verdict == "equivalent"
    assert list(found.half_widths) == ["seeds"]


def test_another_callable_stands_for_all_its_arguments(copied, monkeypatch):
    monkeypatch.chdir(copied.root)

    def change(record):
        own = record["recipe"]["layers"]["config"]
        own["values"]["optimizer"] |= {"_target_": "torch.optim.SGD", "momentum": 0.9}

    edit(copied, change, lr=0.0001)
    assert weigh(copied).differences == [
        "config optimizer._target_ (torch.optim.AdamW -> torch.optim.SGD)"
    ]


def test_what_seeds_and_examples_leave_open_is_inconclusive_with_exit_code_3(copied):
    def change(record):
        values = record["recipe"]["layers"]["config"]["values"]
        shares = [0.90, 0.94, 0.92] if values["optimizer"]["lr"] == 0.003 else [0.93, 0.91, 0.96]
        record["outcome"]["metrics"]["accuracy"] = shares[values["randomness"]["seed"]]
        terms(interval_covers="seeds", margin=0.001)(record)

    edit(copied, change)
    done = copied.run(sys.executable, "-m", "saigen", "compare", "last~1", "last")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "inconclusive: about " in done.stdout
    assert "it holds for these 288 test examples, and says nothing of others" in done.stdout


def test_what_the_interval_does_not_cover_is_said(made, lab, copied, monkeypatch):
    monkeypatch.chdir(copied.root)

    def held(record):
        record["recipe"]["layers"]["randomness"]["seeds"]["order"] = 7
        terms(seeds=2)(record)

    edit(copied, held)
    found = weigh(copied)
    assert found.notes == [
        note
        for name in "AB"
        for note in (
            f"order: one seed in all runs of {name}, so its luck is not covered",
            f"{name} has 3 seeds where 2 were planned: whoever adds runs until the answer "
            "pleases gets one that pleases",
        )
    ]


def test_runs_that_do_not_belong_are_named_and_a_recipe_made_twice_counts_once(copied, monkeypatch):
    monkeypatch.chdir(copied.root)
    before = weigh(copied)
    changes = {
        "again": lambda record: None,
        "torn": lambda record: record.update(complete=False),
        "moved": lambda r: r["recipe"]["layers"]["environment"].update(digest="0" * 64),
    }
    source = copied.root / "runs" / before.b.runs[0]
    for name, change in changes.items():
        shutil.copytree(source, source.with_name(name))
        record = json.loads((source / "record.json").read_text()) | {"run": name}
        change(record)
        (source.with_name(name) / "record.json").write_text(json.dumps(record))
    found = weigh(copied, before.a.runs[0], before.b.runs[-1])
    assert set(found.b.runs) == {*before.b.runs, "again"}
    assert sorted(found.b.left_out) == ["moved: other environment", "torn: not complete"]
    assert "  left out: torn: not complete" in weighed_text(found)
    assert found.model_copy(update={"b": before.b}) == before


# refusals


def refused(copied, a: str = "last~1", b: str = "last") -> str:
    with pytest.raises(Refusal) as caught:
        weigh(copied, a, b)
    return str(caught.value)


def test_one_group_and_itself_is_refused(made):
    told = refused(made, "last", "last~2")
    assert "refused: these two groups of runs cannot be compared" in told
    assert "got:      one recipe with other seeds, which is one group" in told


def test_other_evaluation_data_is_refused(copied):
    def change(record):
        record["recipe"]["layers"]["data"]["prepared"]["test/ids.txt"] = "0" * 64

    edit(copied, change, lr=0.0001)
    assert "got:      other records were tested on" in refused(copied)


def test_too_few_seeds_are_refused_with_the_command_that_makes_the_others(copied):
    edit(copied, terms(seeds=5))
    told = refused(copied)
    assert "refused: group A is too small to tell luck from a difference" in told
    assert "expected: 5 seeds, as metadata.config.comparison.seeds of the records says" in told
    layout = "hardware.processes=1 hardware.loader_workers=0 hardware.process_timeout_seconds=300"
    overrides = f"{' '.join(SHORT)} {layout}"
    assert told.endswith(f"fix:      saigen train --multirun {overrides} randomness.seed=3,4")


def test_a_margin_that_was_changed_between_the_runs_is_refused(copied):
    edit(copied, terms(margin=0.001), lr=0.003)
    told = refused(copied)
    assert "not made under the same terms, so nothing was agreed beforehand" in told
    assert "'margin': 0.02" in told.partition("got:")[0]
    assert "'margin': 0.001" in told.partition("got:")[2]


def test_runs_from_before_there_were_terms_are_refused(copied):
    edit(copied, lambda record: record["metadata"]["config"].pop("comparison"), lr=0.003)
    assert "got:      nothing: the run is older than the key" in refused(copied)


def test_a_metric_that_was_not_measured_is_refused(copied):
    edit(copied, terms(metric="recall"))
    told = refused(copied)
    assert "refused: the metric 'recall' was not measured" in told
    assert "expected: one of accuracy, log_loss" in told


def test_lost_predictions_are_refused_by_name(copied, monkeypatch):
    monkeypatch.chdir(copied.root)
    min(copied.root.glob("runs/*/predictions.csv")).unlink()
    told = refused(copied)
    assert "a part of a run is not here" in told
    assert "predictions.csv" in told


def test_altered_predictions_are_refused_although_they_give_the_same_metric(copied, monkeypatch):
    monkeypatch.chdir(copied.root)
    path = min(copied.root.glob("runs/*/predictions.csv"))
    text = path.read_text()
    path.write_text(text.replace("digit-", "other-", 1))
    assert path.read_text() != text
    told = refused(copied)  # which check meets it first hangs on how the runs are called
    assert path.parent.name in told
    assert "one that its record names" in told or "a part of a run is not here" in told


def test_lost_evaluation_arrays_are_refused_by_name(copied, monkeypatch):
    monkeypatch.chdir(copied.root)
    shutil.rmtree(copied.root / "runs/.kept")
    assert "prepared/test/" in refused(copied)


def test_a_record_that_its_predictions_do_not_give_is_refused(copied, monkeypatch):
    monkeypatch.chdir(copied.root)
    edit(copied, lambda r: r["outcome"]["metrics"].update(accuracy=0.5), lr=0.003)
    told = refused(copied)
    assert "a run's predictions no longer give the metric of its record" in told
    assert "expected: 0.5" in told


# the whole way, as a person goes it


@pytest.mark.slow
def test_what_the_refusal_says_makes_the_comparison_possible(prepared_project):
    project = prepared_project
    for model in ((), ("model.hidden=64",)):
        project.saigen("train", "debug=two_steps", "comparison.seeds=2", *model)
    pair = [row["run"] for row in json.loads(project.saigen("runs", "--json"))["runs"]]
    for letter in "AB":
        told = project.refused("compare", *pair)
        assert f"group {letter} is too small" in told
        command = told.partition("fix:")[2].split()
        assert command[:3] == ["saigen", "train", "--multirun"]
        project.saigen(*command[1:])
    done = project.run(sys.executable, "-m", "saigen", "compare", *pair)
    assert "over 2 seeds" in done.stdout, done.stderr
    assert "differ in     config model.hidden (128 -> 64)" in done.stdout


def test_the_published_schema_is_todays():
    assert json.loads((ROOT / "docs/schemas/compare-1.json").read_text()) == schema("compare-1")
