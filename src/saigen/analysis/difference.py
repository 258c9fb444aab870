"""One difference between two runs: where, what, and what it can do."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from saigen.analysis.run import ABSENT
from saigen.documents import Document
from saigen.runs.listing import leaves

EXPERIMENT: Literal["changes the experiment"] = "changes the experiment"
BITS: Literal["may change bits"] = "may change bits"
NOTHING: Literal["cannot change anything"] = "cannot change anything"
Kind = Literal["changes the experiment", "may change bits", "cannot change anything"]

# Where in a run a difference shows for the first time, in causal order.
Phase = Literal[
    "prepared", "initial weights", "samples", "forward", "gradients", "weights", "selection",
    "evaluation",
]  # fmt: skip
PHASES: tuple[Phase, ...] = Phase.__args__  # type: ignore[attr-defined]
FROM_FORWARD: tuple[Phase, ...] = ("forward", "gradients", "weights", "evaluation")

CONTINUED = "continued at step"


class Difference(Document):
    """One thing that is otherwise in B than in A."""

    layer: str = Field(description="of the recipe, or metadata")
    name: str = Field(description="key, package, rows, file and function, switch")
    a: Any
    b: Any
    kind: Kind
    reason: str = Field(description="why it is of this kind")
    follows: str | None = Field(default=None, description="the difference that it comes from")
    claim: str | None = Field(
        default=None, description="of a circumstance: the claim of `verify` that it must not matter"
    )
    details: list[str] = Field(default_factory=list, description="rows, values, patch lines")
    shows: list[Phase] = Field(
        default_factory=lambda: list(PHASES), description="where in a run it can show first"
    )

    @property
    def counts(self) -> bool:
        """Whether it can be the cause of another outcome."""
        return self.kind != NOTHING and self.follows is None

    @property
    def title(self) -> str:
        """Layer and name."""
        return f"{self.layer} {self.name}"

    @property
    def values(self) -> str:
        """Both values, short enough for a line; of a digest only the head."""
        return " -> ".join(
            text[:12] if len(text) == 64 else text if len(text) <= 60 else text[:57] + "..."
            for text in (str(self.a), str(self.b))
        )


def changed(a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every full key whose value differs between two trees; ABSENT where there is none."""
    left, right = leaves(a), leaves(b)
    for key in left | right:
        if left.get(key, ABSENT) != right.get(key, ABSENT):
            yield key, left.get(key, ABSENT), right.get(key, ABSENT)


def under(key: str, heads: Iterable[str]) -> str:
    """The longest of some heads that a full key is or lies below; empty if there is none."""
    return max((head for head in heads if f"{key}.".startswith(head + ".")), key=len, default="")
