"""Claims: what was proven of a recipe, by which evidence, and where that is written down."""

import html
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saigen.analysis.locate import Location
from saigen.documents import Document
from saigen.errors import Refusal
from saigen.exit_codes import DONE, FAILED, INCONCLUSIVE
from saigen.files import locked, write_whole
from saigen.git_dvc import dvc
from saigen.printing import one_line
from saigen.runs.folders import BADGE, LOCK, RESULTS, RUNS, VERIFICATION, readable
from saigen.runs.ledger import complete
from saigen.runs.record import NAME, read_record, repeats

# not made: the recipe does not promise it; not tried: it does, and the trial did not take place
Result = Literal["held", "broken", "not tried", "not made", "fact"]


class Claim(Document):
    """One claim and how it stood the trial."""

    name: str
    says: str
    result: Result
    why: str = ""
    location: Location | None = Field(default=None, description="the line that breaks it")
    evidence: dict[str, Any] = Field(default_factory=dict)

    def __str__(self) -> str:
        result = self.result.upper() if self.result == "broken" else self.result
        tail = f"; {self.location}" if self.location else ""
        return f"{result:<10}{self.says}" + (f" ({self.why}{tail})" if self.why else "")


class Verification(Document):
    """The document of `saigen verify --json`, and results/verify.json."""

    schema_: Literal["saigen-verify-1"] = Field(
        default="saigen-verify-1", serialization_alias="schema"
    )
    steps: int | None = Field(description="of each training; null: all")
    started_at: str
    finished_at: str
    machine: str
    layers: dict[str, str] = Field(description="digests of the recipe that was tried")
    config: dict[str, Any] = Field(description="its values")
    claims: list[Claim]

    @property
    def exit_code(self) -> int:
        """1 if a claim broke, 3 if one that is made was not tried or none is made, else 0."""
        results = {claim.result for claim in self.claims}
        if "broken" in results:
            return FAILED
        return INCONCLUSIVE if "not tried" in results or results <= {"not made"} else DONE

    def words(self) -> str:
        """The score in a few words."""
        words: dict[Result, str] = {
            "held": "claims held",
            "broken": "BROKEN",
            "not tried": "not tried",
            "not made": "not made by this recipe",
        }
        counts = Counter(claim.result for claim in self.claims)
        parts = (f"{counts[r]} {word}" for r, word in words.items() if counts[r] or r == "held")
        return ", ".join(parts)


def refuse_unknown(known: Iterable[str], only: Sequence[str]) -> None:
    """Raise Refusal if a claim that was asked for is none of those that are known."""
    known = list(known)
    for name in only:
        if name not in known:
            raise Refusal(
                "there is no such claim",
                where="saigen verify --only",
                expected=", ".join(known),
                got=name,
                fix="write one of these",
            )


def scorecard(found: Verification) -> str:
    """A verification, for a person."""
    return "\n".join([*(one_line(claim) for claim in found.claims), "", found.words()])


def publish(
    found: Verification, root: Path, *, whole: bool, say: Callable[[str], None]
) -> list[str]:
    """Write the claims into the record of every run of this very recipe and, where the `whole`
    list was tried and the published run is one of them, results/verify.json and the badge.

    Returns the names of those runs.
    """
    if whole:
        (root / RUNS).mkdir(exist_ok=True)
        with locked(root / RUNS / LOCK):
            if _is_published(found, root):
                write_whole(root / RESULTS / VERIFICATION, found.json_text().encode() + b"\n")
                write_whole(root / RESULTS / BADGE, _badge(found).encode())
            else:
                say(f"{RESULTS}/ shows a run of another recipe, so its badge stays as it is")
    claims = {
        claim.name: {"result": claim.result, "says": claim.says, "why": claim.why,
                     "steps": found.steps, "at": found.finished_at, **claim.evidence}
        for claim in found.claims
    }  # fmt: skip
    entered: list[str] = []
    for folder, seen in readable(root / RUNS):
        if not seen["complete"] or not repeats(
            seen["recipe"]["layers"], found.layers, found.config
        ):
            continue
        with locked(folder / LOCK):
            record = read_record(folder)
            record["claims"] |= claims
            complete(folder, record, event="claims")
        entered.append(folder.name)
        if _shown_again(folder, record, root):
            # the record is an output of DVC's stage `evaluate`, which has nothing to do anew
            dvc(root, "commit", "--quiet", "--force", "evaluate")
    return entered


def _shown_again(folder: Path, record: dict[str, Any], root: Path) -> bool:
    """Write a run's record into results/ if that run is published there; whether it is."""
    published = root / RESULTS / NAME
    with suppress(Refusal), locked(root / RUNS / LOCK):
        shown = read_record(published)
        if (folder.name, record["outcome"]) == (shown["run"], shown["outcome"]):
            write_whole(published, (folder / NAME).read_bytes())
            return True
    return False


def _is_published(found: Verification, root: Path) -> bool:
    """Whether results/ shows a run of the recipe that was tried, or none at all."""
    if not (root / RESULTS / NAME).is_file():
        return True
    layers = read_record(root / RESULTS / NAME)["recipe"]["layers"]
    return repeats(layers, found.layers, found.config)


def _badge(found: Verification) -> str:
    colour = {DONE: "#2e7d32", FAILED: "#c62828"}.get(found.exit_code, "#9f6000")
    text = html.escape(found.words())
    width = 62 + 7 * len(text)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='20' role='img'>"
        f"<title>verify: {text}</title><rect width='{width}' height='20' rx='3' fill='#555'/>"
        f"<rect x='50' width='{width - 50}' height='20' rx='3' fill='{colour}'/>"
        "<g fill='#fff' font-family='sans-serif' font-size='11'>"
        f"<text x='8' y='14'>verify</text><text x='57' y='14'>{text}</text></g></svg>\n"
    )
