"""The loop: one linear story, from the streams to the weights."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saigen.digest import digest_bytes
from saigen.recipe.callables.callees import function
from saigen.recipe.schema import Config, Trainer
from saigen.refusal import Refusal
from saigen.training.build import build_dataset, build_model, build_task
from saigen.training.checkpoint import Checkpoints, refuse_unheld, taking_up
from saigen.training.clipping import Clipping
from saigen.training.contract import Task, refuse_nonfinite
from saigen.training.evaluation import Evaluation
from saigen.training.fingerprint import Fingerprint
from saigen.training.flat import FlatModel
from saigen.training.history import NAME as CURVE
from saigen.training.history import History
from saigen.training.interruption import InterruptedAtCheckpoint, wish_noted
from saigen.training.leaks import GlobalsWatch
from saigen.training.loading import Loader, Place, to_device
from saigen.training.model_state import exported, materialize, placed, weights_bytes
from saigen.training.nondeterminism import explain
from saigen.training.optimizer import Rates, failed_step, lay_flat
from saigen.training.order import Order
from saigen.training.overlapped import OverlappedReduction
from saigen.training.prepared import Prepared
from saigen.training.processes import Group
from saigen.training.progress import Progress
from saigen.training.reduction import Reduction
from saigen.training.sanity import sanity_check
from saigen.training.schedule import refuse_schedule
from saigen.training.selection import Selection, refuse_unmeasured
from saigen.training.state import PutBack, RunState
from saigen.training.stepping import bare_step
from saigen.training.streams import Streams
from saigen.training.sums import Sums, finite
from saigen.training.trace import Trace


@dataclass(frozen=True)
class Trained:
    """What a training run leaves behind."""

    tensors: dict[str, torch.Tensor]
    initial_weights: str  # SHA-256 of the weights before step 0
    best_step: int  # after how many steps the kept weights stood
    trace: dict[str, Any]
    circumstances: dict[str, Any]


def train(
    config: Config,
    prepared: Prepared,
    folder: Path | None,
    group: Group,
    *,
    recipe: str,
    say: Callable[[str], None],
) -> Trained:
    """Train one model, as one of the processes of `group`.

    Everything that must survive a kill is written below `folder`, by rank 0, in the name of the
    recipe with this digest; other ranks pass None. Raises InterruptedAtCheckpoint after a signal to
    stop, Failure if the loss is no number.
    """
    trainer, tracking, hardware = config.trainer, config.tracking, config.hardware
    device, precision = torch.device(hardware.device), getattr(torch, trainer.precision)

    # -- What is read, in which order -----------------------------------------------------------
    streams = Streams(config.randomness.streams)
    task = build_task(config, streams)
    dataset = build_dataset(config, streams, "train_dataset", prepared.arrays("train"))
    validation = Evaluation(config, task, streams, "validation", prepared.arrays("validation"))
    # only to be refused before the first step, and not after the last
    Evaluation(config, task, streams, "evaluation", prepared.arrays("evaluation"))
    steps_per_epoch = _steps_per_epoch(len(dataset), config)
    total_steps = trainer.max_epochs * steps_per_epoch
    if trainer.max_steps is not None:
        total_steps = min(total_steps, trainer.max_steps)

    # -- The model, from the `init` stream ------------------------------------------------------
    model = placed(build_model(config, streams), device)
    materialize(model, lambda: validation.outputs(model), streams)
    flat, optimizer, held = lay_flat(model, config, world=group.world)
    initial_weights = _digest(model)
    optimizer_step = bare_step(optimizer)
    rates, multiplier = Rates(optimizer), function(config.scheduler)
    refuse_schedule(multiplier, total_steps, config.scheduler.target)
    selection = Selection(trainer)
    state = RunState(flat, optimizer, held, selection)
    sums, clipping = Sums(flat.scalars), Clipping(flat.gradients, trainer.clip_gradient_norm)
    reduced = Reduction if config.agreement.reduction == "tree" else OverlappedReduction
    reduction: Reduction | OverlappedReduction = reduced(flat, group, trainer.microbatches)
    forward: Any = torch.compile(reduction.model) if hardware.compile else reduction.model

    # -- Where it was interrupted ---------------------------------------------------------------
    checkpoints = folder and Checkpoints(folder, recipe, kept=tracking.checkpoints_kept, say=say)
    found = group.share(checkpoints.newest() if checkpoints else None)
    first = found.step if found else 0
    if found:
        with taking_up(found, folder):
            state.restore(found.tensors, found.values)
        if group.writes:
            say(f"continuing after step {first}")
    drawn: deque[np.ndarray] = deque()  # the batches that were handed out, for the trace
    steps = range(first, total_steps)
    places = _places(streams, len(dataset), trainer, steps, mine=reduction.mine, drawn=drawn)
    loader = Loader(
        dataset,
        streams,
        workers=hardware.loader_workers,
        pinned=device.type == "cuda",
        timeout_seconds=hardware.process_timeout_seconds,
    )
    batches = loader.batches(places)
    expected = found.rows if found else {}
    history = folder and History(
        folder, monitor=trainer.monitor, resumed_at=first, expected=expected.get(CURVE)
    )
    weights = Fingerprint(flat.weights, salt=flat.salt)
    trace = folder and Trace(
        folder,
        flat,
        sums,
        flush_steps=tracking.trace_flush_steps,
        resumed_at=first,
        expected=expected,
        in_depth=tracking.trace_depth == "tensor",
    )
    watch = GlobalsWatch(locate=tracking.leak_watch == "locate")
    every = tracking.progress_every_seconds
    progress = Progress(first=first, total=total_steps, every_seconds=every, shown=group.writes)
    started, done, stop, interrupted = time.monotonic(), first, selection.should_stop(), False
    # entering a disabled autocast costs 4 us
    mixed = precision != torch.float32
    autocast = torch.autocast(device.type, precision) if mixed else nullcontext()

    put_back = PutBack()
    if not found:
        state.export()  # what no checkpoint could hold is said at once
        first_rows = np.arange(trainer.batch_examples // trainer.microbatches)
        batch = to_device(loader[0, first_rows], device)
        metrics, said = sanity_check(model, batch, validation, streams, autocast, put_back=put_back)
        state.warned += said
        refuse_unmeasured(metrics, config)
        for text in state.warned if group.writes else ():
            say(f"warning: {text}")

    # -- Step by step ---------------------------------------------------------------------------
    with wish_noted() as wish:
        while done < total_steps and not stop:
            step = done
            reduction.begin_step()
            for microbatch in reduction.mine:
                if not loader.reads_at_once:  # reading a sample sets the global generators
                    watch.check()
                batch = to_device(next(batches), device)
                watch.check()
                streams.set_globals("dropout", step, microbatch)
                try:
                    with reduction.around(microbatch):
                        with autocast:
                            outputs = task.forward(forward, batch)
                            loss, terms = task.loss(outputs, batch)
                        loss.backward()  # type: ignore[no-untyped-call]
                except RuntimeError as error:
                    explain(error, model, partial(_again, task, model, batch, autocast))
                    raise
                sums.put(loss, terms, asked_to_stop=wish.asked)
                reduction.end_microbatch(microbatch)
            watch.arm()
            reduction.end_step()

            with torch.no_grad():
                sums.settle(step)
                clipping.mean_and_clip(sums.terms)
                learning_rate = rates.set(multiplier(step, total_steps))
                try:
                    optimizer_step()
                except Exception as error:
                    raise failed_step(optimizer, error, first=step == first) from error
            if trace:
                trace.add(step, drawn[0], optimizer)
            drawn.popleft()
            done += 1
            if step == first:  # and what no step may do
                _check(flat, reduction, rates)
                refuse_unheld(state.export()[1])

            # -- What only some steps need: a look, a validation, a checkpoint ------------------
            at_end = done == total_steps
            validate = at_end or done % (steps_per_epoch * trainer.validate_every_epochs) == 0
            save = at_end or done % tracking.checkpoint_every_steps == 0
            look = validate or save or done % tracking.history_every_steps == 0
            if not (look or progress.due() or sums.asked_to_stop):
                continue
            mean, value = sums.loss, None
            if look or sums.asked_to_stop:  # alike on each process, as `due` is not
                finite(mean, step)
            if validate:
                watch.check()
                with put_back.behind(model):
                    metrics = group.share(validation.measure(model)[1])  # one's, for all to decide
                watch.arm()
                if trainer.nonfinite_metrics == "refuse":
                    refuse_nonfinite(metrics, f"validation after step {done}")
                save |= selection.offer(done, metrics, exported(model))
                value = metrics[trainer.monitor]
                progress.metric(trainer.monitor, value)
                stop = selection.should_stop()
            if history and (look or sums.asked_to_stop):
                history.add(done, step // steps_per_epoch, learning_rate, mean, value)
            if progress.due() or at_end:
                progress.show(done, mean)
            interrupted = sums.asked_to_stop and not at_end
            stop |= interrupted
            if save or stop:
                _check(flat, reduction, rates)
                held_here = str(weights.read(signs=True))
                group.refuse_unless_same("weights", {f"step {done}": held_here})
            if checkpoints and history and trace and (save or stop):
                history.flush()
                trace.flush()
                rows = trace.digests | {CURVE: history.digest}
                checkpoints.save(done, *state.export(), rows=rows, first=trace.sync)

    # -- What is left behind --------------------------------------------------------------------
    if checkpoints:
        checkpoints.close()
    if history:
        history.close()
    progress.close()
    late = [*watch.said(), *sums.said(), *put_back.said()]
    late = [text for text in late if text not in state.warned]
    for text in late if group.writes else ():
        say(f"warning: {text}")
    if interrupted:
        raise InterruptedAtCheckpoint(done)
    selection.refuse_without_best()
    kept = selection.tensors if trainer.keep_weights == "best" else exported(model)
    return Trained(
        tensors=kept,
        initial_weights=initial_weights,
        best_step=selection.step if trainer.keep_weights == "best" else done,
        trace=trace.close() if trace else {},
        circumstances={
            "processes": group.world,
            "steps": done - first,
            "draws_outside_streams": dict(watch.counts),
            "first_draw_outside_streams": watch.first,
            "warnings": [*state.warned, *late],
            "seconds": time.monotonic() - started,
        },
    )


def _steps_per_epoch(samples: int, config: Config) -> int:
    steps = samples // config.trainer.batch_examples
    if steps == 0:
        raise Refusal(
            "a batch is larger than the data",
            where="trainer.batch_examples",
            expected=f"at most {samples}, the size of the training split",
            got=str(config.trainer.batch_examples),
            fix=f"set trainer.batch_examples={samples} or lower, or prepare more data",
        )
    return steps


def _places(
    streams: Streams,
    samples: int,
    trainer: Trainer,
    steps: range,
    *,
    mine: range,
    drawn: deque[np.ndarray],
) -> Iterator[Place]:
    """The microbatches of this rank, step by step; loader workers let this run ahead.

    Each whole batch, (batch_examples,) int64, is put into `drawn`. What is left of an epoch after
    its last whole batch sits out, other samples in each epoch.
    """
    size = trainer.batch_examples
    part, steps_per_epoch = size // trainer.microbatches, samples // size
    order = Order(streams, samples, 0)
    for step in steps:
        epoch, place = divmod(step, steps_per_epoch)
        if epoch != order.epoch:
            order = Order(streams, samples, epoch)
        batch = order.indices(place * size, (place + 1) * size)
        drawn.append(batch)
        for microbatch in mine:
            yield epoch, batch[microbatch * part : (microbatch + 1) * part]


def _again(task: Task, model: torch.nn.Module, batch: Any, autocast: Any) -> Any:
    """The loss once more, to see where an error comes from."""
    with autocast:
        return task.loss(task.forward(model, batch), batch)


def _check(flat: FlatModel, reduction: Reduction | OverlappedReduction, rates: Rates) -> None:
    """Refuse what a step must not do to model and optimizer; waits for the device."""
    flat.check()
    reduction.check()
    rates.check()


def _digest(model: torch.nn.Module) -> str:
    """SHA-256 of all weights, as safetensors would write them."""
    return digest_bytes(weights_bytes(exported(model)))
