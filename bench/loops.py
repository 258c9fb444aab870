"""The loops that bench/peers.py times: Saigen's own, plain PyTorch, Accelerate and Lightning.

All do the same training: the same model, rows, batch size, learning rates, clipping and fused
AdamW, a look at the loss every 10th step, and the validation split measured at the end. Saigen
writes its trace and its checkpoints besides; the others write nothing.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from saigen.config.callables import function, instantiate
from saigen.config.schema import Config
from saigen.data.prepared import Prepared
from saigen.streams import Streams
from saigen.training.build import build_model, build_task
from saigen.training.evaluation import Evaluation
from saigen.training.loop import train
from saigen.training.processes import Group

Pair = tuple[torch.Tensor, torch.Tensor]
LOOK_STEPS = 10


@dataclass(frozen=True)
class Work:
    """What each loop does: `mean_loss(model, inputs, targets)` is the config's task by hand."""

    config: Config
    prepared: Prepared
    mean_loss: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
    folder: Path

    @property
    def steps(self) -> int:
        assert self.config.trainer.max_steps
        return self.config.trainer.max_steps

    @property
    def device(self) -> str:
        return self.config.hardware.device

    def model(self) -> nn.Module:
        made = build_model(self.config, Streams(self.config.randomness.streams))
        return made.to(self.device)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = instantiate(self.config.optimizer, params=model.parameters())
        return made

    def rates(self) -> Callable[[int], float]:
        multiplier = function(self.config.scheduler)
        highest = self.config.optimizer.arguments["lr"]
        return lambda step: highest * multiplier(step, self.steps)

    def dataset(self) -> Any:
        return instantiate(self.config.data.train_dataset, arrays=self.prepared.arrays("train"))

    def rows(self) -> Pair:
        """The training split in the memory of the processor."""
        arrays = self.prepared.arrays("train")
        return torch.tensor(arrays["inputs"]), torch.tensor(arrays["targets"])

    def place(self, pair: Pair) -> Pair:
        return pair[0].to(self.device), pair[1].to(self.device)

    def validate(self, model: nn.Module) -> None:
        streams, arrays = (
            Streams(self.config.randomness.streams),
            self.prepared.arrays("validation"),
        )
        task = build_task(self.config, streams)
        Evaluation(self.config, task, streams, "validation", arrays).measure(model)


@dataclass(frozen=True)
class Time:
    """Of one step: on the clock, and of the processor in all threads of this process."""

    wall: float
    processor: float


class Watch:
    def __init__(self) -> None:
        wait_for_device()
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def per_step(self, steps: int) -> Time:
        wait_for_device()
        wall, processor = time.perf_counter(), time.process_time()
        return Time((wall - self._wall) / steps, (processor - self._processor) / steps)


def wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


class Direct:
    """An epoch of batches, each read at once from tensors where the model is."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, size: int) -> None:
        self.inputs, self.targets, self.size = inputs, targets, size

    def __len__(self) -> int:
        return len(self.inputs) // self.size

    def __iter__(self) -> Iterator[Pair]:
        order = torch.randperm(len(self.inputs), device=self.inputs.device)
        for start in range(0, len(self) * self.size, self.size):
            chosen = order[start : start + self.size]
            yield self.inputs[chosen], self.targets[chosen]


class Rows(torch.utils.data.Dataset[Pair]):
    """The same rows for a DataLoader, which fetches a whole batch at once."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitems__(self, indices: list[int]) -> Pair:
        return self.inputs[indices], self.targets[indices]


def direct(work: Work) -> Direct:
    return Direct(*work.place(work.rows()), work.config.trainer.batch_size)


def loader(work: Work) -> "DataLoader[Pair]":
    size = work.config.trainer.batch_size
    whole: Any = Rows(*work.rows())
    return DataLoader(
        whole, batch_size=size, shuffle=True, drop_last=True, collate_fn=lambda pair: pair
    )


def saigen(work: Work, group: Group) -> Time:
    """From the first batch to the end: trace, checkpoints and their fsync too."""
    folder = Path(tempfile.mkdtemp(dir=work.folder))
    reader = type(work.dataset())
    with first_call(reader, "__getitems__") as watches:
        quiet_train(work, folder if group.writes else None, group)
        taken = watches[0].per_step(work.steps)
    assert not group.writes or list((folder / "checkpoints").glob("step-*"))
    shutil.rmtree(folder)
    return taken


def quiet_train(work: Work, folder: Path | None, group: Group) -> None:
    """Train without the progress that it shows on standard error."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        train(work.config, work.prepared, folder, group, recipe="0" * 64, say=lambda _: None)


@contextmanager
def first_call(owner: type, name: str) -> Iterator[list[Watch]]:
    """Watch from a method's first call on; the original is back before that call goes on."""
    original, watches = getattr(owner, name), list[Watch]()

    def called(*arguments: Any) -> Any:
        watches.append(Watch())
        setattr(owner, name, original)
        return original(*arguments)

    setattr(owner, name, called)
    try:
        yield watches
    finally:
        setattr(owner, name, original)


def plain(work: Work) -> Time:
    """PyTorch as a good engineer writes it for this task."""
    model = work.model()
    optimizer, rate = work.optimizer(model), work.rates()
    batches, parameters = direct(work), list(model.parameters())
    longest, steps, mean_loss = work.config.trainer.max_grad_norm, work.steps, work.mean_loss
    looked, step = [], 0
    watch = Watch()
    while step < steps:
        for inputs, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = mean_loss(model, inputs, targets)
            loss.backward()
            if longest is not None:
                nn.utils.clip_grad_norm_(parameters, longest)
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.step()
            step += 1
            if step % LOOK_STEPS == 0:
                looked.append(loss.item())
            if step == steps:
                break
    work.validate(model)
    return watch.per_step(steps)


def accelerate(work: Work, batches: Callable[[Work], Any]) -> Time:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=work.device == "cpu")
    model = work.model()
    prepared = accelerator.prepare(model, work.optimizer(model), batches(work))
    return _accelerated(work, accelerator, *prepared)


def _accelerated(work: Work, accelerator: Any, model: Any, optimizer: Any, batches: Any) -> Time:
    longest, steps, rate = work.config.trainer.max_grad_norm, work.steps, work.rates()
    parameters, looked, step = list(model.parameters()), [], 0
    watch = Watch()
    while step < steps:
        for inputs, targets in batches:
            loss = work.mean_loss(model, inputs, targets)
            accelerator.backward(loss)
            if longest is not None:
                accelerator.clip_grad_norm_(parameters, longest)
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % LOOK_STEPS == 0:
                looked.append(loss.item())
            if step == steps:
                break
    work.validate(model)
    return watch.per_step(steps)


def lightning(work: Work, batches: Callable[[Work], Any]) -> Time:
    import pytorch_lightning as framework

    rate, watches, taken = work.rates(), list[Watch](), list[Time]()

    class Module(framework.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.looked = work.model(), list[float]()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return work.optimizer(self.model)

        def on_train_start(self) -> None:
            watches.append(Watch())

        def training_step(self, batch: Pair, number: int) -> torch.Tensor:  # noqa: ARG002
            step = self.trainer.global_step
            self.trainer.optimizers[0].param_groups[0]["lr"] = rate(step)
            loss = work.mean_loss(self.model, *batch)
            if (step + 1) % LOOK_STEPS == 0:
                self.looked.append(loss.item())
            return loss

        def on_train_end(self) -> None:
            work.validate(self.model)
            taken.append(watches[0].per_step(work.steps))

    trainer = framework.Trainer(
        accelerator=work.device,
        devices=1,
        max_steps=work.steps,
        gradient_clip_val=work.config.trainer.max_grad_norm,
        barebones=True,
    )
    trainer.fit(Module(), batches(work))
    return taken[0]
