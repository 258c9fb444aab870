"""Which weights are kept, and when to stop: decided by one validation metric."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from saigen.config.schema import Config, Trainer
from saigen.documents import Count, Document, Name, conform
from saigen.errors import Failure, Refusal


class _Values(Document):
    step: Count
    value: Name  # a float's text, which names its bits
    since: Count
    published: Count


class Selection:
    """Keeps a copy of the weights that are published: of the best validation, or of the last.

    Of equal values the earliest wins, so that the choice is a function of the values alone.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.step = 0  # after how many steps the best value was measured; 0: none yet
        self.value = math.nan
        self.since = 0  # validations without improvement
        self.published = 0  # after how many steps the weights below were offered; 0: none yet
        self.tensors: dict[str, torch.Tensor] = {}

    def offer(
        self, step: int, metrics: Mapping[str, float], tensors: Mapping[str, torch.Tensor]
    ) -> bool:
        """Look at a validation after `step` steps; returns whether it is the best so far.

        What is not finite is never the best.
        """
        value = metrics[self._trainer.monitor]
        sign = 1 if self._trainer.monitor_mode == "max" else -1
        better = math.isfinite(value) and not (self.step and sign * value <= sign * self.value)
        if better:
            self.step, self.value, self.since = step, value, 0
        else:
            self.since += 1
        if better or self._trainer.keep_weights == "last":
            self.published = step
            self.tensors = {key: tensor.detach().clone() for key, tensor in tensors.items()}
        return better

    def refuse_without_weights(self) -> None:
        """Raise Failure if no model was offered, or the best of several that measured nothing."""
        if not (self.step or self.since):
            raise Failure(
                "the training loop offered no model",
                where=self._trainer.loop,
                expected="run.offer(model, run.evaluate(model)) where step.validates",
                got="no call of it",
                fix="offer the model that is to be published",
            )
        if not self.published:
            raise Failure(
                f"no validation gave a finite {self._trainer.monitor}: there are no best weights",
                where="trainer.monitor",
                expected="one finite value at least",
                got="NaN or infinity each time",
                fix="mend the metric, monitor another one, or set trainer.keep_weights=last",
            )

    def should_stop(self) -> bool:
        """Whether the metric has reached its value, or there were as many validations without
        improvement as the config allows.
        """
        patience, goal = self._trainer.stop_after_validations, self._trainer.stop_at_value
        sign = 1 if self._trainer.monitor_mode == "max" else -1
        if goal is not None and self.step and sign * self.value >= sign * goal:
            return True
        return patience is not None and self.since >= patience

    def values(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the tensors."""
        return {
            "step": self.step,
            "value": repr(self.value),
            "since": self.since,
            "published": self.published,
        }

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Take up where a checkpoint stood."""
        conform(values, _Values)
        self.step, self.since = values["step"], values["since"]
        self.value, self.published = float(values["value"]), values["published"]
        self.tensors = dict(tensors)


def refuse_nan(model: torch.nn.Module, step: int) -> None:
    """Raise Failure if a step left NaN in a trainable weight, whatever its loss and the metrics."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and bool(weight.isnan().any()):
            raise Failure(
                f"the weights are NaN after step {step}",
                where=f"model, {name!r}",
                expected="weights that are numbers",
                got="NaN, by a gradient of this step or of one before it",
                fix="look for what has no derivative where it is used, such as the root of zero, "
                "or lower optimizer.lr",
            )


def refuse_unmeasured(metrics: Mapping[str, float], config: Config) -> None:
    """Raise Refusal if a metric that decides something, now or when runs are compared, is not among
    the task's.
    """
    named = (("trainer.monitor", config.trainer.monitor, "picks the weights"),
             ("comparison.metric", config.comparison.metric, "is to be compared"))  # fmt: skip
    for key, name, role in named:
        if name not in metrics:
            raise Refusal(
                f"the metric that {role} is not measured",
                where=key,
                expected=f"one of {', '.join(sorted(metrics))}",
                got=name,
                fix=f"set {key}={min(metrics)}, or have the task measure {name}",
            )
