"""Run: what a training loop calls, so that its bits survive kills, workers and processes.

The loop itself is the project's (`src/project/train.py`). It builds, names what is kept, and walks
over `Run.steps`; between two steps the run takes the trace, validates, saves and stops.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saigen.config.callables import function
from saigen.config.schema import Call, Config
from saigen.data.contract import refuse_nonfinite
from saigen.data.epochs import Epochs
from saigen.data.loader import Loader, to_device
from saigen.data.prepared import Prepared
from saigen.digest import digest_bytes
from saigen.interruption import InterruptedAtCheckpoint, stop_noted
from saigen.streams import Streams
from saigen.training import misuse
from saigen.training.build import build_dataset, build_reader, build_task, built
from saigen.training.checkpoint import refuse_unheld, taking_up
from saigen.training.evaluation import Evaluation
from saigen.training.fingerprint import Fingerprint
from saigen.training.hidden_state import draws_in_reading, hidden_in_reading
from saigen.training.kept import Kept
from saigen.training.leaks import GlobalsWatch
from saigen.training.loss_scale import LossScale
from saigen.training.model_state import (
    exported,
    materialize,
    placed,
    refuse_unfit_modules,
    weights_bytes,
)
from saigen.training.optimizer import Rates, build_optimizer, guard_step, step_without_frozen
from saigen.training.overlapped import OverlappedReduction
from saigen.training.processes import Group
from saigen.training.progress import Progress
from saigen.training.reduction import Reduction
from saigen.training.run_files import RunFiles
from saigen.training.sanity import sanity_check
from saigen.training.schedule import refuse_schedule
from saigen.training.selection import Selection, refuse_nan, refuse_unmeasured
from saigen.training.state import PutBack
from saigen.training.step import Batches, Step
from saigen.training.step_totals import StepTotals, finite
from saigen.training.untrained import unused_parameters


@dataclass(frozen=True)
class Trained:
    """What a training run leaves behind."""

    tensors: dict[str, torch.Tensor]
    initial_weights: str  # SHA-256 of the weights before step 0
    step: int  # after how many steps the kept weights stood
    trace: dict[str, Any]
    metadata: dict[str, Any]


class Run:
    """One training run, as one of the processes of a group.

    A loop calls `build`, `optimizer` and `scheduler` as often as it likes, then `keep` once, then
    walks over `steps`.
    """

    def __init__(
        self,
        config: Config,
        prepared: Prepared,
        folder: Path | None,
        group: Group,
        *,
        recipe: str,
        say: Callable[[str], None],
    ) -> None:
        """Read what is trained on. `folder` is where rank 0 writes; None on the other ranks."""
        self.config, self.folder, self._recipe = config, folder, recipe
        self._group, self._say = group, say if group.writes else lambda _: None
        self.device = torch.device(config.hardware.device)
        self.streams = Streams(config.randomness.streams)
        self.task = build_task(config, self.streams)
        arrays = prepared.arrays("train")
        self._dataset = build_dataset(config, self.streams, "train_dataset", arrays)
        self._epochs = Epochs(config, self.streams, len(self._dataset), arrays)
        self._validation = self._evaluation("validation", prepared)
        self._evaluation("test", prepared)  # refused now if ever, and not after the last step
        trainer = config.trainer
        self.steps_per_epoch = self._epochs.steps
        self.total_steps = trainer.max_epochs * self.steps_per_epoch
        if trainer.max_steps is not None:
            self.total_steps = min(self.total_steps, trainer.max_steps)
        self._rates: list[tuple[Rates, Callable[[int, int], Any]]] = []
        self._selection = Selection(trainer)
        self._kept: Kept | None = None
        self._batches: Batches | None = None
        self._built: list[Call] = []
        self.model: torch.nn.Module | None = None  # that of config.model, once it is built
        self.done, self._stop, self._interrupted = 0, False, False
        self._put_back = PutBack()
        self._measured: float | None = None  # by the validation of this step
        self._save_now = False

    # -- Before the first step -----------------------------------------------------------------

    def build(self, call: Call) -> Any:
        """Build what a section of the config names, with the `init` stream set immediately before.

        A module comes on the run's device, its lazy parts with shapes.
        """
        times, self._built = sum(call is one for one in self._built), [*self._built, call]
        made = built(call, self.config, self.streams, times)
        if not isinstance(made, torch.nn.Module):
            return made
        refuse_unfit_modules(made)
        module = placed(made, self.device)
        materialize(module, lambda: self._validation.outputs(module), self.streams)
        if call is self.config.model and not times:
            self.model = module
        return module

    def optimizer(self, call: Call, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Build an optimizer on a module's trainable parameters, in groups by the config's rules.

        Raises Refusal if it cannot be built on them, or not be stepped.
        """
        return build_optimizer(call, model)

    def scheduler(self, call: Call, optimizer: torch.optim.Optimizer) -> None:
        """Set the rates of every group before each step, by a function of step and total steps.

        Raises Refusal if a group has no learning rate, or the function gives no finite number.
        """
        multiplier = function(call)
        refuse_schedule(multiplier, self.total_steps, call.target)
        self._rates.append((Rates(optimizer), multiplier))

    def keep(self, **parts: Any) -> None:
        """Name what a checkpoint holds, the trace sees and a resumed run gets back to the bit.

        Modules, optimizers, and whatever has `state_dict` and `load_state_dict`. Modules whose
        parameters an optimizer holds move into flat memory here. Where an interrupted run is
        continued, everything stands as it stood when this returns.
        """
        if self._kept is not None:
            raise misuse.kept_twice()
        config, group = self.config, self._group
        trainer, tracking = config.trainer, config.tracking
        scale = LossScale(trainer.grad_scaler) if trainer.grad_scaler else None
        if scale:
            parts = {"grad_scaler": scale, **parts}
        self._kept = kept = Kept(parts, config, self._selection, world=group.world)
        flat = kept.flat
        self._initial_weights = digest_bytes(weights_bytes(exported(flat.model)))
        for optimizer in kept.optimizers:
            guard_step(optimizer, lambda: self.done == self._first, scale)
            step_without_frozen(optimizer, lambda: self.done)
        reduced = Reduction if config.reproducibility.reduction == "tree" else OverlappedReduction
        self._reduction = reduced(flat, group, trainer.microbatches)
        self._totals = StepTotals(flat.scalars, trainer.loss_components)
        if config.hardware.compile:
            for module in kept.trained:
                module.compile()

        self._continue(kept)
        self._weights = Fingerprint(flat.weights, salt=flat.salt)
        reader = build_reader(config, self._dataset)
        loader = Loader(
            reader,
            self.streams,
            repeats=self._epochs.repeats,
            workers=config.hardware.loader_workers,
            pinned=self.device.type == "cuda",
            timeout_seconds=config.hardware.process_timeout_seconds,
        )
        mixed = trainer.precision != "float32"
        precision = getattr(torch, trainer.precision)
        # entering a disabled autocast costs 4 us
        autocast = torch.autocast(self.device.type, precision) if mixed else nullcontext()
        position = next(self._epochs.batches(range(1)))
        first = self._epochs.microbatch(position, 0)
        if draws_in_reading(loader.__getitem__, first):
            loader.seed_batches()
        if config.data.collate and not reader.collated:
            raise misuse.not_collated(reader.method)
        if self.done == 0:
            self._try_out(kept, loader, autocast)
        self._watch = GlobalsWatch(locate=tracking.leak_watch == "locate")
        self._batches = batches = Batches(loader, self._epochs, self._reduction.mine, self.device)
        batches.begin(range(self.done, self.total_steps))
        self._step = Step(
            batches=batches,
            kept=kept,
            reduction=self._reduction,
            totals=self._totals,
            watch=self._watch,
            streams=self.streams,
            autocast=autocast,
            scale=scale,
        )
        self._progress = Progress(
            first=self._first,
            total=self.total_steps,
            every_seconds=tracking.progress_every_seconds,
            shown=group.writes,
        )
        self._started = time.monotonic()

    def _continue(self, kept: Kept) -> None:
        """Go on from the newest checkpoint, if there is one; open what is written to."""
        self._files = self.folder and RunFiles(self.folder, self._recipe, self.config, self._say)
        found = self._group.share(self._files.newest if self._files else None)
        self.done = self._first = found.step if found else 0
        if found:
            with taking_up(found, self.folder):
                kept.restore(found.tensors, found.values)
            self._say(f"continuing after step {self.done}")
        if self._files:
            self._files.begin(kept, self._totals)

    def _try_out(self, kept: Kept, loader: Loader, autocast: AbstractContextManager[Any]) -> None:
        """Look at what the project gives before the first step; raises Refusal, or says it."""
        kept.export()  # what no checkpoint could hold is said at once
        rows = np.arange(self._epochs.batch_size // self._epochs.microbatches)
        rows %= len(self._dataset)
        position = 0, rows, rows
        batch = loader[position]
        kept.warnings += hidden_in_reading(loader.__getitem__, position, batch, self._dataset)
        metrics, warnings = sanity_check(
            self._published(),
            to_device(batch, self.device),
            self._validation,
            self.streams,
            autocast,
            put_back=self._put_back,
            components=self.config.trainer.loss_components,
        )
        kept.warnings += warnings
        refuse_unmeasured(metrics, self.config)
        for text in kept.warnings:
            self._say(f"warning: {text}")

    # -- Step by step --------------------------------------------------------------------------

    def steps(self) -> Iterator[Step]:
        """The steps that are left, one after another; between two of them the run is looked after.

        Raises Refusal if nothing is kept yet.
        """
        kept = self._kept_by("run.steps()")
        self._stop = self._selection.should_stop()
        trainer = self.config.trainer
        interval = trainer.validate_every_steps
        if trainer.validate_every_epochs is not None:
            interval = self.steps_per_epoch * trainer.validate_every_epochs
        assert interval
        step, rates, total = self._step, self._rates, self.total_steps
        with stop_noted() as stop_request:
            step.stop_request = stop_request
            thaws = {self.done, *kept.thawed_at.values()} if kept.thawed_at else ()
            while self.done < total and not self._stop:
                if self.done in thaws:
                    kept.thaw(self.done)
                for rate, multiplier in rates:
                    rate.set(multiplier(self.done, total))
                after = self.done + 1
                step.begin(self.done, validates=after == total or after % interval == 0)
                yield step
                self._end_step()

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """Metrics of a model on the validation split, the same on every process.

        Raises Refusal before `keep`.
        """
        self._kept_by("run.evaluate(...)")
        self._watch.check()
        with self._put_back.behind(model):
            metrics: dict[str, float] = self._group.share(self._validation.measure(model)[1])
        self._watch.arm()
        if self.config.trainer.nonfinite_metrics == "refuse":
            refuse_nonfinite(metrics, f"validation after step {self.done + 1}")
        return metrics

    def offer(self, model: torch.nn.Module, metrics: Mapping[str, float]) -> bool:
        """Offer a model as the one that is published; returns whether it is the best so far.

        A copy of its weights is kept if it is, or always by `trainer.keep_weights=last`; the run
        stops early by `trainer.monitor` alone. Raises Refusal before `keep`, Failure on weights
        that are NaN.
        """
        self._kept_by("run.offer(...)")
        refuse_nan(model, self.done)
        better = self._selection.offer(self.done + 1, metrics, exported(model))
        value = metrics[self.config.trainer.monitor]
        self._progress.metric(self.config.trainer.monitor, value)
        self._stop |= self._selection.should_stop()
        self._measured, self._save_now = value, better
        return better

    def _end_step(self) -> None:
        """What follows a step: a row of the trace, and what only some steps need."""
        kept = self._kept_by("run.steps()")
        step, totals, files = self.done, self._totals, self._files
        assert self._batches is not None
        self._step.end()
        indices = self._batches.take_indices()
        if files:
            files.trace(step, indices)
        self.done = done = step + 1
        if step == self._first:  # and what no step may do
            self._check(kept)
            if unused := self._step.unused() if not step else ():
                kept.warnings.append(unused_parameters(unused))
                self._say(f"warning: {kept.warnings[-1]}")
            refuse_unheld(kept.export()[1])

        tracking, at_end = self.config.tracking, done == self.total_steps
        value, self._measured = self._measured, None
        offered, self._save_now = self._save_now, False
        save = at_end or offered or done % tracking.checkpoint_every_steps == 0
        look = self._step.validates or save or done % tracking.history_every_steps == 0
        if not (look or self._progress.due() or totals.asked_to_stop):
            return
        mean = totals.loss
        if look or totals.asked_to_stop:  # alike on each process, as `due` is not
            finite(mean, step)
        if files and (look or totals.asked_to_stop):
            rate = kept.learning_rate()
            epoch = step // self.steps_per_epoch
            files.history.add(done, epoch, rate, mean, metric=value, components=totals.components)
        if self._progress.due() or at_end:
            self._progress.show(done, mean)
        self._interrupted = totals.asked_to_stop and not at_end
        self._stop |= self._interrupted
        if save or self._stop:
            self._save(kept, done)

    def _save(self, kept: Kept, done: int) -> None:
        self._check(kept)
        held_here = str(self._weights.read(signs=True))
        self._group.refuse_unless_same("weights", {f"step {done}": held_here})
        if self._files:
            self._files.save(done, kept)

    def _check(self, kept: Kept) -> None:
        """Refuse what a step must not do to model and optimizer; waits for the device."""
        kept.flat.check()
        self._reduction.check()
        for rate, _ in self._rates:
            rate.check()

    # -- After the last one --------------------------------------------------------------------

    def close(self) -> None:
        """Let go of what reads ahead, however the run ended."""
        if self._batches:
            self._batches.close()

    def finish(self) -> Trained:
        """Close what is written. Raises InterruptedAtCheckpoint after a signal to stop, Failure
        where the loop left steps undone or offered no model.
        """
        kept = self._kept_by("the end of the training loop")
        if self._files:
            self._files.close()
        self._progress.close()
        warnings = kept.warnings
        late = [*self._watch.warnings(), *self._totals.warnings(), *self._put_back.warnings()]
        late = [text for text in late if text not in warnings]
        for text in late:
            self._say(f"warning: {text}")
        if self._interrupted:
            raise InterruptedAtCheckpoint(self.done)
        if self.done < self.total_steps and not self._stop:
            raise misuse.ended_early(self.config.trainer.loop, self.done, self.total_steps)
        self._selection.refuse_without_weights()
        return Trained(
            tensors=self._selection.tensors,
            initial_weights=self._initial_weights,
            step=self._selection.published,
            trace=self._files.traced() if self._files else {},
            metadata={
                "processes": self._group.world,
                "steps": self.done - self._first,
                "draws_outside_streams": dict(self._watch.counts),
                "first_draw_outside_streams": self._watch.first,
                "warnings": [*warnings, *late],
                "seconds": time.monotonic() - self._started,
            },
        )

    def loss_again(self) -> tuple[torch.Tensor, Any]:
        """The loss of the last microbatch once more, to see where an error comes from.

        By the task alone: what a loop of one's own does besides is not repeated.
        """
        batch = self._step.last
        assert batch is not None
        with self._step.autocast:
            return self.task.loss(self.task.forward(self._published(), batch), batch)

    def _kept_by(self, where: str) -> Kept:
        if self._kept is None:
            raise misuse.nothing_kept(where)
        return self._kept

    def _published(self) -> torch.nn.Module:
        if self.model is None:
            raise misuse.no_model(self.config.trainer.loop)
        return self.model

    def _evaluation(self, purpose: str, prepared: Prepared) -> Evaluation:
        arrays = prepared.arrays(purpose)
        return Evaluation(self.config, self.task, self.streams, purpose, arrays)
