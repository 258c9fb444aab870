"""Text to tokens and back to rows: questions with a place left for the answer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from saigen.data.preparation import Arrays, Table
from saigen.data.rows import CsvRows, read_rows


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
        rows = read_rows(path, ["id", "question"])
        columns = {"question": self._tokens(rows, "question", self.question_characters)}
        if "answer" in rows.columns:
            columns["answer"] = self._tokens(rows, "answer", self.answer_characters)
        return Table(ids=tuple(rows.column("id")), columns=columns)

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

    def _tokens(self, rows: CsvRows, column: str, length: int) -> np.ndarray:
        texts = rows.column(column)
        tokens = np.full((len(texts), length), self.nothing)
        for row, text in enumerate(texts):
            if not 0 < len(text) <= length or set(text) - set(self.alphabet):
                refusal = rows.refusal(
                    row, column, f"1 to {length} of the characters {self.alphabet}", text
                )
                refusal.fix += (
                    "; to train on other texts, set prepare.preparation.alphabet and the numbers "
                    "of characters"
                )
                raise refusal
            tokens[row, : len(text)] = [self.alphabet.index(character) for character in text]
        return tokens
