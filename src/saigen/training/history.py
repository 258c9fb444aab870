"""history.csv: the learning curve, for people and plots. The trace is what is compared."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from saigen.files import write_whole
from saigen.training.trace_file import refuse_altered

NAME = "history.csv"


class History:
    """Appends rows of step, epoch, learning rate, loss, after a validation its metric, and the
    named components of the loss.

    `step` counts the steps done. On resume, rows beyond the checkpoint are cut off, and the others
    must be those that stood there when it was made (`expected`: their digest).
    """

    def __init__(
        self,
        folder: Path,
        *,
        monitor: str,
        components: Sequence[str],
        resumed_at: int,
        expected: str | None,
    ) -> None:
        path = folder / NAME
        more = "".join(f",loss_{name}" for name in components)
        rows = [f"step,epoch,learning_rate,loss,validation_{monitor}{more}\n"]
        if resumed_at and path.is_file():
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            rows = text.splitlines(keepends=True)
            rows = [row for n, row in enumerate(rows) if n == 0 or 0 <= _step(row) <= resumed_at]
        content = "".join(rows).encode(errors="surrogateescape")
        self._digest = hashlib.sha256(content)
        if resumed_at:
            refuse_altered(path, None, expected, self.digest)
        write_whole(path, content)
        self._file = path.open("a", encoding="utf-8")
        self.flush, self.close = self._file.flush, self._file.close

    @property
    def digest(self) -> str:
        """SHA-256 of all rows so far."""
        return self._digest.hexdigest()

    def add(
        self,
        step: int,
        epoch: int,
        rate: float,
        loss: float,
        *,
        metric: float | None,
        components: Sequence[float],
    ) -> None:
        """Write one row; floats in the shortest text that names their bits."""
        last = "" if metric is None else metric
        row = f"{step},{epoch},{rate},{loss},{last}{''.join(f',{c}' for c in components)}\n"
        self._digest.update(row.encode())
        self._file.write(row)


def _step(row: str) -> int:
    """How many steps were done at a row; -1 if it is torn."""
    head = row.partition(",")[0]
    return int(head) if row.endswith("\n") and head.isdigit() else -1
