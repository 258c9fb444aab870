"""The same for loops that belong to a framework: callbacks for Lightning and for transformers.

Each is made by a function, so that nothing of a framework is imported before it is wanted.
"""

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import torch

from saigen.errors import Refusal
from saigen.watching.watch import Watch

# Of transformers' arguments: where things are written and shown, which is no part of a training.
_AROUND = ("_dir", "hub_", "log", "push_to", "report_to", "run_name", "tokens", "disable_tqdm")
_TRAINER = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val",
            "gradient_clip_algorithm", "precision")  # fmt: skip


def lightning_callback(
    *,
    recipe: Any = None,
    data: Iterable[str | os.PathLike[str]] = (),
    runs: str | os.PathLike[str] | None = None,
) -> Any:
    """A callback for Lightning's Trainer that watches each `fit`; `recipe`, `data` and `runs` as in
    `saigen.watch`. The module's `hparams` and the trainer's settings are recorded too.
    """
    base = _base(("lightning.pytorch", "pytorch_lightning"), "callbacks.Callback", "Lightning")

    class Watching(base):  # type: ignore[misc,valid-type]
        """Watches a fit."""

        run: Watch | None = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            rates = [one.scheduler for one in trainer.lr_scheduler_configs]
            own = {key: getattr(trainer, key, None) for key in _TRAINER}
            self.run = Watch(
                pl_module, trainer.optimizers, recipe=recipe, data=data, runs=runs,
                scheduler=rates[0] if rates else None,
                trainer=own | {"hparams": dict(pl_module.hparams)},
            )  # fmt: skip
            self.run.__enter__()

        def on_before_backward(self, _trainer: Any, _module: Any, loss: torch.Tensor) -> None:
            if self.run:
                self.run.log(loss=loss)

        def on_train_end(self, _trainer: Any, _module: Any) -> None:
            self._end(None)

        def on_exception(self, _trainer: Any, _module: Any, exception: BaseException) -> None:
            self._end(exception)

        def _end(self, error: BaseException | None) -> None:
            if run := self.run:
                self.run = None
                run.__exit__(error and type(error), error, None)

    return Watching()


def transformers_callback(
    *,
    recipe: Any = None,
    data: Iterable[str | os.PathLike[str]] = (),
    runs: str | os.PathLike[str] | None = None,
) -> Any:
    """A callback for transformers' Trainer that watches each `train`; `recipe`, `data` and `runs`
    as in `saigen.watch`. The training arguments are recorded too. The loss of a step is the one
    that the model returns; where it returns none, the trace holds none.
    """
    base = _base(("transformers",), "TrainerCallback", "transformers")

    class Watching(base):  # type: ignore[misc,valid-type]
        """Watches a training."""

        run: Watch | None = None
        _hook: Any = None

        def on_train_begin(self, args: Any, _state: Any, _control: Any, **parts: Any) -> None:
            self._end(RuntimeError("another training began"))  # of one that ended in an error
            model, optimizer = parts["model"], parts["optimizer"]
            scheduler = parts.get("lr_scheduler")
            arguments = {k: v for k, v in args.to_sanitized_dict().items()
                    if not any(part in k for part in _AROUND)}  # fmt: skip
            self.run = Watch(
                model, optimizer, recipe=recipe, data=data, runs=runs,
                scheduler=getattr(scheduler, "scheduler", scheduler), trainer=arguments,
            )  # fmt: skip
            self.run.__enter__()
            self._hook = model.register_forward_hook(self._heard)

        def _heard(self, module: Any, _: Any, output: Any) -> None:
            loss = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
            if self.run and module.training and isinstance(loss, torch.Tensor):
                self.run.log(loss=loss)

        def on_train_end(self, *_: Any, **_parts: Any) -> None:
            self._end(None)

        def _end(self, error: BaseException | None) -> None:
            if run := self.run:
                self.run = None
                self._hook.remove()
                run.__exit__(error and type(error), error, None)

    return Watching()


def _base(modules: tuple[str, ...], name: str, framework: str) -> Any:
    """A class of a framework; of the module that was imported already, if one was."""
    for module in sorted(modules, key=lambda module: module not in sys.modules):
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != module.partition(".")[0]:
                raise
            continue
        for part in name.split("."):
            found = getattr(found, part)
        return found
    raise Refusal(
        f"{framework} is not installed",
        where="saigen.watching.callbacks",
        expected=f"the package {' or '.join(modules)}",
        got="neither can be imported" if len(modules) > 1 else "it cannot be imported",
        fix=f"`pip install {modules[-1].replace('_', '-')}`, or watch your own loop with "
        "saigen.watch",
    )
