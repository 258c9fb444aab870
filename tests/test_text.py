"""The text task: what is asked, how it is written in tokens, counted and learned."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from project import sums
from project.completion import Completion
from project.models.transformer import Transformer
from project.text import Characters
from saigen.digest import digest_file
from saigen.errors import Refusal

ROOT = Path(__file__).parent.parent
CHOSEN = "experiment=transformer_text"
NOTHING, HOLE = 11, 12


def characters():
    return Characters(alphabet="0123456789+", question_characters=5, answer_characters=3)


def completion(smoothing=0.0):
    return Completion(answer_characters=3, nothing=NOTHING, label_smoothing=smoothing)


def transformer():
    torch.manual_seed(0)
    return Transformer(
        tokens=13,
        characters=8,
        width=16,
        heads=2,
        hidden=32,
        blocks=1,
        dropout=0.0,
        norm_epsilon=1e-5,
    ).eval()


def table(tmp_path, *lines):
    path = tmp_path / "some.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def prepared_text(tmp_path_factory):
    from conftest import copy_project

    project = copy_project(tmp_path_factory.mktemp("text") / "project")
    project.saigen("prepare", CHOSEN)
    return project


def test_the_snapshot_is_what_its_rule_makes_to_the_byte():
    assert (ROOT / "data/sums.csv").read_bytes() == sums.content()
    provenance = json.loads((ROOT / "data/sums_provenance.json").read_text())
    assert digest_file(ROOT / "data/sums.csv") == provenance["sha256"]


def test_two_numbers_are_asked_for_once_in_one_order_and_the_answer_is_their_sum():
    rows = sums.rows()
    asked = [tuple(map(int, question.split("+"))) for _, question, _ in rows]
    assert len({frozenset(pair) for pair in asked}) == len(rows) == sums.ROWS
    assert all(int(answer) == a + b for (a, b), (_, _, answer) in zip(asked, rows, strict=True))
    # both orders occur, about equally often
    assert 0.45 < np.mean([a < b for a, b in asked if a != b]) < 0.55


def test_a_question_is_written_as_its_characters_then_nothing_then_holes(tmp_path):
    steps = characters()
    read = steps.read(table(tmp_path, "id,question,answer", "a,7+85,92", "b,99+99,198"))
    arrays = steps.transform(read, steps.fit(read))
    assert arrays["inputs"].tolist() == [
        [7, 10, 8, 5, NOTHING, HOLE, HOLE, HOLE],
        [9, 9, 10, 9, 9, HOLE, HOLE, HOLE],
    ]
    assert arrays["targets"].tolist() == [[9, 2, NOTHING], [1, 9, 8]]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("line", "column", "got"),
    [
        ("b,7-85,92", "question", "'7-85'"),
        ("b,7+850+1,92", "question", "'7+850+1'"),
        ("b,7+8,", "answer", "''"),
    ],
)
def test_a_text_that_has_no_tokens_is_refused_with_its_row(tmp_path, line, column, got):
    with pytest.raises(Refusal) as refusal:
        characters().read(table(tmp_path, "id,question,answer", "a,1+1,2", line))
    assert refusal.value.where.endswith(f"some.csv:3, the column {column}")
    assert refusal.value.got == got
    assert "of the characters 0123456789+" in refusal.value.expected


def test_a_file_without_questions_is_refused(tmp_path):
    with pytest.raises(Refusal, match="not in the snapshot's format") as refusal:
        characters().read(table(tmp_path, "id,text", "a,1+1"))
    assert refusal.value.got == "no column question"


def test_the_loss_counts_each_character_of_an_answer_and_its_end_once():
    scores = torch.randn(2, 3, 13, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[9, NOTHING, NOTHING], [1, 9, 8]])
    total, terms = completion().loss(scores, {"targets": targets})
    surprise = -scores.log_softmax(dim=2)
    expected = surprise[0, 0, 9] + surprise[0, 1, NOTHING]
    expected += surprise[1, 0, 1] + surprise[1, 1, 9] + surprise[1, 2, 8]
    assert int(terms) == 5
    torch.testing.assert_close(total, expected)


def test_the_loss_of_a_batch_is_the_sum_over_its_microbatches():
    scores = torch.randn(4, 3, 13, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[9, NOTHING, NOTHING], [1, 9, 8], [1, 2, NOTHING], [3, 4, NOTHING]])
    whole, terms = completion(0.1).loss(scores, {"targets": targets})
    parts = [
        completion(0.1).loss(scores[i : i + 2], {"targets": targets[i : i + 2]}) for i in (0, 2)
    ]
    assert int(terms) == sum(int(count) for _, count in parts) == 11
    torch.testing.assert_close(whole, parts[0][0] + parts[1][0])


def test_an_answer_is_right_only_to_its_last_character_and_whatever_stands_behind_its_end():
    wanted = np.array([[9, 2, NOTHING], [1, 9, 8], [5, NOTHING, NOTHING], [7, 5, NOTHING]])
    found = np.array([[9, 2, NOTHING], [1, 9, 7], [5, NOTHING, 3], [7, 5, 5]])
    metrics = completion().metrics({"token": found}, {"targets": wanted})
    assert metrics == {"accuracy": 2 / 4, "character_accuracy": 9 / 11}


@torch.no_grad()
def test_every_answer_place_looks_at_every_character_and_where_it_stands():
    model = transformer()
    question = torch.tensor([[1, 7, 10, 5, 8, HOLE, HOLE, HOLE]])
    before = model(question)[:, -3:]
    for place in range(5):
        changed = question.clone()
        changed[0, place] = 3
        assert (model(changed)[:, -3:] != before).any(dim=2).all()
    swapped = question[:, [1, 0, 2, 3, 4, 5, 6, 7]]
    assert not torch.allclose(model(swapped)[:, -3:], before)


def test_predictions_for_questions_without_answers_equal_the_recorded_ones(prepared_text):
    project = prepared_text
    project.saigen("train", CHOSEN, "trainer.max_steps=20")
    run = next((project.root / "runs").glob("*/record.json")).parent
    ids = set((project.root / "prepared/test/ids.txt").read_text().split())
    head, *rows = (project.root / "data/sums.csv").read_text().splitlines()
    asked = [head, *(row for row in rows if row.split(",")[0] in ids)]
    (project.root / "new.csv").write_text("".join(r.rpartition(",")[0] + "\n" for r in asked))
    project.saigen("predict", str(run / "model"), "new.csv", "--out", "found.csv")
    assert (project.root / "found.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    assert json.loads((run / "record.json").read_text())["complete"] is True


@pytest.mark.slow
def test_the_transformer_learns_to_add_numbers_it_never_saw_together(prepared_text, tmp_path):
    project = prepared_text
    shutil.rmtree(project.root / "runs", ignore_errors=True)
    project.saigen("train", CHOSEN)
    record = json.loads(next((project.root / "runs").glob("*/record.json")).read_text())
    assert record["outcome"]["metrics"]["accuracy"] >= 0.95
