"""history.csv: the learning curve, for people and plots. The trace is what is compared."""

import csv
from pathlib import Path


class History:
    """Appends rows of step, epoch, learning rate, loss and, after a validation, its metric.

    `step` counts the steps done. On resume, rows beyond the checkpoint are cut off.
    """

    def __init__(self, folder: Path, *, monitor: str, resumed_at: int) -> None:
        path = folder / "history.csv"
        self._columns = ["step", "epoch", "learning_rate", "loss", f"validation_{monitor}"]
        kept: list[list[str]] = []
        if resumed_at and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                kept = list(csv.reader(file))[1:]
            kept = [row for row in kept if int(row[0]) <= resumed_at]
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerows([self._columns, *kept])

    def add(self, step: int, epoch: int, rate: float, loss: float, metric: float | None) -> None:
        """Write one row; floats in the shortest text that names their bits."""
        self._writer.writerow([step, epoch, rate, loss, "" if metric is None else metric])

    def flush(self) -> None:
        """Let readers see what was added."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
