"""Run files: checkpoints, history and trace of a run, as rank 0 writes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from saigen.config.schema import Config
from saigen.training.checkpoint import Checkpoints, State
from saigen.training.history import NAME, History
from saigen.training.kept import Kept
from saigen.training.state_trace import StateTrace
from saigen.training.step_totals import StepTotals
from saigen.training.trace import Trace


class RunFiles:
    """What lies in a run folder while the run is trained; `newest` is the checkpoint to go on from.

    Raises Refusal if that is another run's.
    """

    def __init__(
        self, folder: Path, recipe: str, config: Config, say: Callable[[str], None]
    ) -> None:
        self._folder, self._tracking = folder, config.tracking
        self._trainer = config.trainer
        number = self._tracking.checkpoints_kept
        self._checkpoints = Checkpoints(folder, recipe, kept=number, say=say)
        self.newest = self._checkpoints.newest()

    def begin(self, kept: Kept, totals: StepTotals) -> None:
        """Open history and trace, cut to what stood there at the newest checkpoint.

        Raises Failure if the rows before it are others than then.
        """
        found = self.newest or State(0, {}, {}, {})
        self.history = History(
            self._folder,
            monitor=self._trainer.monitor,
            components=self._trainer.loss_components,
            resumed_at=found.step,
            expected=found.rows.get(NAME),
        )
        self._trace = Trace(
            self._folder,
            kept.flat,
            totals,
            StateTrace(kept.optimizers, kept.others, kept.flat.values.device),
            flush_steps=self._tracking.trace_flush_steps,
            resumed_at=found.step,
            expected=found.rows,
            in_depth=self._tracking.trace_depth == "tensor",
        )
        self.newest = None  # its tensors are where they belong

    def trace(self, step: int, indices: np.ndarray) -> None:
        """Take the trace's row of a step, over samples (B,)."""
        self._trace.add(step, indices)

    def save(self, done: int, kept: Kept) -> None:
        """Write a checkpoint after `done` steps, and the rows before it."""
        self.history.flush()
        self._trace.flush()
        rows = self._trace.digests | {NAME: self.history.digest}
        self._checkpoints.save(done, *kept.export(), rows=rows, first=self._trace.sync)

    def close(self) -> None:
        """Wait until the last checkpoint is on disk. Raises Failure if it could not be written."""
        self._checkpoints.close()
        self.history.close()

    def traced(self) -> dict[str, Any]:
        """Close the trace; its part of the outcome."""
        return self._trace.close()
