"""Progress: a bar where a person looks on, the same facts as plain lines in a log."""

import sys
import time

from tqdm import tqdm

from saigen.printing import bare, one_line


class Progress:
    """Loss, metric, rate and time left, renewed every `every_seconds`; on standard error."""

    def __init__(self, *, first: int, total: int, every_seconds: float, shown: bool) -> None:
        self._first, self._total, self._every, self._shown = first, total, every_seconds, shown
        self._started, self._next = time.monotonic(), 0.0
        self._metric = ""
        hidden = not (shown and sys.stderr.isatty())
        self._bar = tqdm(
            total=total, initial=first, unit="step", mininterval=every_seconds, disable=hidden,
            file=bare(sys.stderr),  # a bar goes back to the start of its line
        )  # fmt: skip
        self.close = self._bar.close

    def due(self) -> bool:
        """Whether it is time to be renewed; to be asked at each step, as reading a loss costs."""
        return self._shown and time.monotonic() >= self._next

    def metric(self, name: str, value: float) -> None:
        """Take the newest validation metric along."""
        self._metric = one_line(f" {name} {value:.4f}")

    def show(self, step: int, loss: float) -> None:
        """Renew after `step` steps were done."""
        if not self._shown:
            return
        now = time.monotonic()
        self._next = now + self._every
        if not self._bar.disable:
            self._bar.set_postfix_str(f"loss {loss:.4f}{self._metric}", refresh=False)
            self._bar.update(step - self._bar.n)
            return
        seconds = now - self._started
        rate = (step - self._first) / seconds if seconds > 0 else 0.0
        left = f"{(self._total - step) / rate:.0f} s left" if rate else "..."
        text = f"step {step}/{self._total} loss {loss:.4f}{self._metric} {rate:.0f} steps/s {left}"
        print(text, file=sys.stderr, flush=True)
