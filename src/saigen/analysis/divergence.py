"""Where two runs part: the first step whose trace differs, and of that step the first thing."""

import numpy as np
from pydantic import Field

from saigen.analysis.difference import Phase
from saigen.analysis.run import Run
from saigen.documents import Document
from saigen.errors import Refusal
from saigen.training.trace_file import first_difference, read_tensors, read_trace

# The columns of a row in causal order, and what each is the first sign of.
_COLUMNS: tuple[tuple[str, Phase, str], ...] = (
    ("samples", "samples", "the sample ids"),
    ("loss", "forward", "the forward pass (loss {0:.9g} and {1:.9g})"),
    ("gradients", "gradients", "the gradients (the loss is equal)"),
    ("weights", "weights", "the weights after the update (the gradients are equal)"),
    ("optimizer", "weights", "the optimizer's state (the weights are equal)"),
)


class Divergence(Document):
    """Where two runs part for the first time."""

    phase: Phase | None = Field(description="the first thing in causal order; null: nowhere")
    step: int | None = Field(description="counted from 0; null: before or after all steps")
    steps: int = Field(description="steps whose traces could be compared")
    words: str


def divergence(a: Run, b: Run) -> Divergence:
    """The first difference in causal order: initial weights, step by step, kept weights,
    evaluation.
    """
    left, right = a.outcome, b.outcome
    if left["weights"].get("initial") != right["weights"].get("initial"):
        words = "the runs part before step 0, in the initial weights"
        return Divergence(phase="initial weights", step=None, steps=0, words=words)
    try:
        rows = [read_trace(run.folder) for run in (a, b)]
    except Refusal:
        rows = []
    if rows and (step := first_difference(*rows)) is not None:
        return _at(step, a, b, *rows)
    steps = len(rows[0]) if rows else 0
    before = f"all {steps} steps are equal, and " if rows else ""
    phase: Phase | None = None
    words = "the runs do not part"
    if left["weights"].get("sha256") != right["weights"].get("sha256"):
        phase = "selection" if rows else None
        words = before + "other weights were kept"
    elif left["predictions"] != right["predictions"] or left["metrics"] != right["metrics"]:
        phase = "evaluation"
        words = before + "the weights are equal: the runs part in evaluation"
    elif left["trace"] != right["trace"] and not rows:
        words = "the traces differ, and one of them is not here or of an older schema"
    return Divergence(phase=phase, step=None, steps=steps, words=words)


def _at(step: int, a: Run, b: Run, left: np.ndarray, right: np.ndarray) -> Divergence:
    if step >= min(len(left), len(right)):
        words = f"equal as long as both train: {len(left)} and {len(right)} steps"
        return Divergence(phase="selection", step=step, steps=step, words=words)
    one, other = left[step], right[step]
    for column, phase, words in _COLUMNS:
        if one[column].tobytes() != other[column].tobytes():
            losses = words.format(float(one["loss"]), float(other["loss"]))
            text = f"the runs part at step {step}, in {losses}{_in_depth(a, b, step, phase)}"
            return Divergence(phase=phase, step=step, steps=step, words=text)
    return Divergence(phase=None, step=step, steps=step, words=f"the runs part at step {step}")


def _in_depth(a: Run, b: Run, step: int, phase: Phase) -> str:
    """The first tensor that differs, where both runs were traced in depth. A backward pass comes
    to the last parameter first; an update changes all that it changes at once.
    """
    if phase not in ("gradients", "weights"):
        return ""
    (names, left), (others, right) = read_tensors(a.folder), read_tensors(b.folder)
    pairs = [rows["tensors"][rows["step"] == step] for rows in (left, right)]
    if names != others or not all(map(len, pairs)):
        return ""
    differ = (pairs[0][-1] != pairs[1][-1])[:, 0 if phase == "gradients" else 1]
    found = [name for name, differs in zip(names, differ, strict=True) if differs]
    first = found[-1:] if phase == "gradients" else found[:1]
    return "".join(f"; first in {f}, in {len(found)} of {len(names)} tensors" for f in first)
