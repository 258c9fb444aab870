"""Step: one update's share of the data, microbatch by microbatch, and the sum of its gradients."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from saigen.data.epochs import Batch as EpochBatch
from saigen.data.epochs import Epochs
from saigen.data.loader import Batch, Loader, Position, to_device
from saigen.interruption import StopRequest
from saigen.streams import Streams
from saigen.training import misuse
from saigen.training.clipping import Clipping
from saigen.training.kept import Kept
from saigen.training.leaks import GlobalsWatch
from saigen.training.loss_scale import LossScale, scaled
from saigen.training.overlapped import OverlappedReduction
from saigen.training.reduction import Reduction
from saigen.training.step_totals import StepTotals
from saigen.training.untrained import leaves


class Batches:
    """This process's microbatches of each step, in the order that is a function of the seed."""

    def __init__(self, loader: Loader, epochs: Epochs, mine: range, device: torch.device) -> None:
        self.sets_globals, self.mine = loader.sets_globals, mine
        self._loader, self._epochs, self._device = loader, epochs, device
        self._drawn: deque[EpochBatch] = deque()  # handed out and not yet trained on
        self._ahead: Iterator[Batch] = iter(())

    def begin(self, steps: range) -> None:
        """Begin to read the microbatches of these steps."""
        self._ahead = self._loader.batches(self._positions(steps))

    def next(self) -> Batch:
        """The next microbatch, tensors of B rows by name, on the device."""
        return to_device(next(self._ahead), self._device)

    def close(self) -> None:
        """Let the loader's workers go, which would else be waited for when the process ends."""
        if hasattr(self._ahead, "close"):
            self._ahead.close()
        self._ahead = iter(())

    def again(self, microbatch: int) -> Batch:
        """A microbatch of this step, read once more."""
        position = self._epochs.microbatch(self._drawn[0], microbatch)
        return to_device(self._loader[position], self._device)

    def take_indices(self) -> np.ndarray:
        """The samples of the whole step, (B,) int64; the step is over with that."""
        return self._drawn.popleft()[2]

    def _positions(self, steps: range) -> Iterator[Position]:
        """Loader workers let this run ahead."""
        for batch in self._epochs.batches(steps):
            self._drawn.append(batch)
            for microbatch in self.mine:
                yield self._epochs.microbatch(batch, microbatch)


class Step:
    """One step of a run: its number, its microbatches, and whether a validation is due at its end.

    One object serves all steps of a run.
    """

    number: int  # from 0
    validates: bool
    stop_request: StopRequest

    def __init__(
        self,
        *,
        batches: Batches,
        kept: Kept,
        reduction: Reduction | OverlappedReduction,
        totals: StepTotals,
        watch: GlobalsWatch,
        streams: Streams,
        autocast: AbstractContextManager[Any],
        scale: LossScale | None,
    ) -> None:
        self._batches, self._kept, self._reduction = batches, kept, reduction
        self._totals, self._watch, self._streams = totals, watch, streams
        self.autocast, self._scale = autocast, scale
        self._used: set[int] | None = set()  # by the losses of the first step
        self._mixed = isinstance(autocast, torch.autocast)
        self._no_grad = torch.no_grad()
        self._clippings: dict[Any, Clipping] = {}
        self._first_totals: torch.Tensor | None = None
        self._open: int | None = None  # the microbatch whose loss is awaited
        self._walking = False
        self._modules: list[tuple[torch.nn.Module, ...]] = []
        self.last: Batch | None = None

    def begin(self, number: int, *, validates: bool) -> None:
        """Become the step of this number."""
        self.number, self.validates = number, validates
        self._modules.clear()
        self._first_totals = None

    def microbatches(
        self,
        *modules: torch.nn.Module,
        max_grad_norm: float | None,
    ) -> Iterator[Batch]:
        """This process's microbatches, each to be ended by `backward`; tensors of B rows by name.

        Behind the last one the gradients of `modules` are the mean over all processes' microbatches
        and no longer than `max_grad_norm`. A second call in one step gives the same rows again: for
        the same modules with the same draws (a closure), for others with draws of their own (the
        other half of a GAN). Gradients of the call before are gone then.
        """
        again = bool(self._modules)
        if modules not in self._modules:
            self._modules.append(modules)
        phase = self._modules.index(modules)
        clipping = self._clipping(modules, max_grad_norm)
        if again and self._first_totals is None:
            self._first_totals = self._totals.totals()
        batches, reduction, watch = self._batches, self._reduction, self._watch
        mixed = self._mixed
        self._walking = True
        reduction.begin_step()
        for microbatch in batches.mine:
            if batches.sets_globals:  # reading a sample sets the global generators
                watch.check()
            batch = self.last = batches.again(microbatch) if again else batches.next()
            watch.check()
            indices = (microbatch, phase) if phase else (microbatch,)
            self._streams.set_globals("dropout", self.number, *indices)
            reduction.begin_microbatch(microbatch)
            self._open = microbatch
            if mixed:
                with self.autocast:
                    yield batch
            else:  # to enter a context that does nothing costs, too
                yield batch
            if self._waiting():
                raise misuse.step_unended(self.number)
            reduction.end_microbatch(microbatch)
        self._walking = False
        watch.arm()
        reduction.end_step()
        with self._no_grad:
            self._totals.settle(self.number)
            if self._scale is not None:
                self._scale.look(clipping.gradients)
            clipping.mean_and_clip(scaled(self._totals.terms, self._scale))

    def backward(
        self,
        loss: torch.Tensor,
        count: int | torch.Tensor,
        components: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Add a microbatch's gradients to the step's sum.

        `loss` is a sum, (), and `count` is over how many terms: the step's loss is the quotient of
        their sums over all microbatches. `components` are sums over the same terms, by the names of
        `trainer.loss_components`: nothing is differentiated, their means stand in history.csv.
        """
        microbatch, self._open = self._open, None
        if microbatch is None:
            raise misuse.backward_outside(self.number)
        if self._used is not None:
            self._used.update(map(id, leaves(loss)))
        whole = loss if self._scale is None else loss * self._scale.scale
        if self._mixed:  # torch wants no autocast around a backward pass
            with torch.autocast(loss.device.type, enabled=False):
                whole.backward()  # type: ignore[no-untyped-call]
        else:
            whole.backward()  # type: ignore[no-untyped-call]
        self._totals.put(loss, count, components, asked_to_stop=self.stop_request.asked)

    @property
    def loss(self) -> torch.Tensor:
        """The mean loss of the microbatches that were walked over last, () float64."""
        return self._totals.loss_there

    def end(self) -> None:
        """Say if the body of the step left something out; the totals are those of its first walk.

        Raises Refusal.
        """
        if not self._modules or self._walking:
            raise misuse.step_unended(self.number)
        if self._first_totals is not None:
            self._totals.put_totals(self._first_totals)
        if self._scale is not None:
            self._scale.update()

    def unused(self) -> list[str]:
        """The trained parameters that no loss depended on until now; asked once."""
        used, self._used = self._used or set(), None
        named = self._kept.flat.model.named_parameters()
        return [name for name, p in named if p.requires_grad and id(p) not in used]

    def _waiting(self) -> bool:
        return self._open is not None

    def _clipping(self, modules: tuple[torch.nn.Module, ...], longest: float | None) -> Clipping:
        key = (modules, longest)
        if key not in self._clippings:
            self._clippings[key] = Clipping(self._kept.gradients_of(modules), longest)
        return self._clippings[key]
