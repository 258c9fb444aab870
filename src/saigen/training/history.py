"""history.csv: the learning curve, for people and plots. The trace is what is compared."""

from pathlib import Path

from saigen.files import write_whole


class History:
    """Appends rows of step, epoch, learning rate, loss and, after a validation, its metric.

    `step` counts the steps done. On resume, rows beyond the checkpoint are cut off.
    """

    def __init__(self, folder: Path, *, monitor: str, resumed_at: int) -> None:
        path = folder / "history.csv"
        rows = [f"step,epoch,learning_rate,loss,validation_{monitor}\n"]
        if resumed_at and path.is_file():
            whole = path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
            rows += [row for row in whole if row.endswith("\n") and _step(row) <= resumed_at]
        write_whole(path, "".join(rows).encode())
        self._file = path.open("a", encoding="utf-8")
        self.flush, self.close = self._file.flush, self._file.close

    def add(self, step: int, epoch: int, rate: float, loss: float, metric: float | None) -> None:
        """Write one row; floats in the shortest text that names their bits."""
        last = "" if metric is None else metric
        print(step, epoch, rate, loss, last, sep=",", file=self._file)


def _step(row: str) -> int:
    return int(row.partition(",")[0])
