"""How data/sums.csv was taken: from a rule and a salt, run once, then frozen like any snapshot.

    python -m project.sums && dvc add data && dvc push

Nothing in the pipeline imports this file. The rule draws no random number: it sorts by a hash,
so that any Python of any version writes the same bytes.
"""

import csv
import datetime
import hashlib
import io
import itertools
from pathlib import Path

from saigen.digest import digest_bytes
from saigen.files import write_json, write_whole

FOLDER = Path("data")
SALT = "saigen-sums-1"
LARGEST = 99  # it says what the frozen snapshot holds
ROWS = 4000  # it says what the frozen snapshot holds


def rows() -> list[tuple[str, str, str]]:
    """Return ROWS records (id, question, answer), such as ("sum-0000", "17+58", "75").

    Two numbers stand together once, in one order: otherwise 58+17 in training would tell what
    17+58 in evaluation is.
    """
    pairs = itertools.combinations_with_replacement(range(LARGEST + 1), 2)
    chosen = sorted(pairs, key=_place)[:ROWS]
    asked = [(b, a) if _place((a, b))[-1] % 2 else (a, b) for a, b in chosen]
    return [(f"sum-{index:04d}", f"{a}+{b}", str(a + b)) for index, (a, b) in enumerate(asked)]


def content() -> bytes:
    """Return the bytes of the snapshot: CSV with the columns id, question, answer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "question", "answer"])
    writer.writerows(rows())
    return text.getvalue().encode()


def take() -> None:
    """Write data/sums.csv and data/sums_provenance.json."""
    table = content()
    write_whole(FOLDER / "sums.csv", table)
    write_json(
        FOLDER / "sums_provenance.json",
        {
            "name": "sums",
            "file": "sums.csv",
            "sha256": digest_bytes(table),
            "rows": ROWS,
            "taken_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "source": f"made by `python -m project.sums`, salt {SALT!r}; free of any rights",
            "conditions": f"{ROWS} of the 5050 unordered pairs of the numbers 0..{LARGEST}, those "
            "whose SHA-256 of salt and pair comes first",
            "processing": "each pair in one of its two orders, by a bit of the same hash",
        },
    )


def _place(pair: tuple[int, int]) -> bytes:
    return hashlib.sha256(f"{SALT}\0{pair[0]}+{pair[1]}".encode()).digest()


if __name__ == "__main__":
    take()
