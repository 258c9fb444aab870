"""Text to tokens and back to rows: questions with a place left for the answer."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from saigen.refusal import Refusal
from saigen.training.preparation import Arrays, Table


class Characters:
    """Writes a question as one token a character, and after it holes that the model is to fill.

    A character's token is its place in `alphabet`; the next two tokens say "nothing stands here"
    (after the end of a question or an answer) and "a hole". Nothing is fitted: which characters
    there are is stated, and another one is refused.
    """

    def __init__(self, *, alphabet: str, question_characters: int, answer_characters: int) -> None:
        self.alphabet = alphabet
        self.question_characters = question_characters
        self.answer_characters = answer_characters
        self.nothing = len(alphabet)
        self.hole = len(alphabet) + 1

    def read(self, path: Path) -> Table:
        """Read a file in the snapshot's format; `answer` may be missing (then: prediction)."""
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if missing := sorted({"id", "question"} - set(rows[0] if rows else ())):
            raise Refusal(
                "the file is not in the snapshot's format",
                where=str(path),
                expected="a CSV file with the columns id, question and, to train, answer",
                got=f"no column {', '.join(missing)}" if rows else "no rows",
                fix="write the first line as in data/sums.csv",
            )
        ids = tuple(row["id"] for row in rows)
        places = [f"{path}, {name}" for name in ids]
        questions = [row["question"] for row in rows]
        columns = {"question": self._tokens(questions, self.question_characters, places)}
        if "answer" in rows[0]:
            answers = [row["answer"] for row in rows]
            columns["answer"] = self._tokens(answers, self.answer_characters, places)
        return Table(ids=ids, columns=columns)

    def fit(self, train: Table) -> Arrays:  # noqa: ARG002
        """Learn nothing."""
        return {}

    def transform(self, table: Table, fitted: Mapping[str, np.ndarray]) -> Arrays:  # noqa: ARG002
        """`inputs` (rows, question + answer characters) int64: the question, then holes; where
        the table has answers, `targets` (rows, answer characters) int64.
        """
        question = table.columns["question"]
        holes = np.full((len(question), self.answer_characters), self.hole)
        arrays = {"inputs": np.concatenate([question, holes], axis=1)}
        if "answer" in table.columns:
            arrays["targets"] = table.columns["answer"]
        return arrays

    def _tokens(self, texts: Sequence[str], length: int, places: Sequence[str]) -> np.ndarray:
        tokens = np.full((len(texts), length), self.nothing)
        for row, (text, place) in enumerate(zip(texts, places, strict=True)):
            if not 0 < len(text) <= length or set(text) - set(self.alphabet):
                raise Refusal(
                    "a text cannot be written in tokens",
                    where=place,
                    expected=f"1 to {length} of the characters {self.alphabet}",
                    got=repr(text),
                    fix="mend the row or leave it out; to train on other texts, set "
                    "prepare.preparation.alphabet and the numbers of characters",
                )
            tokens[row, : len(text)] = [self.alphabet.index(character) for character in text]
        return tokens
