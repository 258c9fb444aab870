"""How the snapshot in `data/` was taken: run once, by hand, then frozen by `dvc add data`.

    python3 -m venv /tmp/taking && /tmp/taking/bin/pip install scikit-learn
    PYTHONPATH=src /tmp/taking/bin/python -m project.snapshot && dvc add data && dvc push

What it needs stands in an environment of its own: .venv is what the locks say and nothing else.
Nothing in the pipeline imports this file or scikit-learn; it is kept so that the answer to
"where does this data come from?" is a program, not a memory.
"""

import csv
import datetime
import io
from pathlib import Path

from saigen.digest import digest_bytes
from saigen.files import write_json, write_whole

FOLDER = Path("data")
SIDE = 8  # the images of the source are 8 pixels wide and high


def take() -> None:
    """Write data/digits.csv (id, label, 64 grey levels a row) and data/provenance.json."""
    import sklearn  # type: ignore[import-not-found]
    from sklearn.datasets import load_digits  # type: ignore[import-not-found]

    digits = load_digits()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    pixels = [f"p{row}{column}" for row in range(SIDE) for column in range(SIDE)]
    writer.writerow(["id", "label", *pixels])
    for index, (image, label) in enumerate(zip(digits.data, digits.target, strict=True)):
        writer.writerow([f"digit-{index:04d}", int(label), *(int(level) for level in image)])
    content = text.getvalue().encode()
    write_whole(FOLDER / "digits.csv", content)
    write_json(
        FOLDER / "provenance.json",
        {
            "name": "digits",
            "file": "digits.csv",
            "sha256": digest_bytes(content),
            "rows": len(digits.target),
            "taken_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "source": f"scikit-learn {sklearn.__version__}, sklearn.datasets.load_digits(): "
            "the test part of the UCI ML hand-written digits data set (1998), CC BY 4.0",
            "conditions": "all rows, in the order of the package; no row left out",
            "processing": "grey levels 0..16 as integers; id is the row's place in the package",
        },
    )


if __name__ == "__main__":
    take()
