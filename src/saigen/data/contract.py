"""What a project's task and dataset have to give: said where they give something else."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from saigen.data.predictions import columns_of
from saigen.errors import Failure, Refusal
from saigen.project_code import place_of


class Task(Protocol):
    """What `project/task.py` provides."""

    def forward(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Any:
        """The model's outputs for a batch."""

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> tuple[Any, ...]:
        """A sum over the batch, and over how many terms; the loss is the quotient of the sums.

        Sums that `trainer.loss_components` names may come third, in a mapping.
        """

    def predictions(self, outputs: Any) -> dict[str, torch.Tensor]:
        """Tensors of one row a sample."""

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """Numbers over a whole split."""


_METHODS = {
    "forward": "forward(model, batch)",
    "loss": "loss(outputs, batch)",
    "predictions": "predictions(outputs)",
    "metrics": "metrics(predictions, targets)",
}


def broken(what: str, method: Any, expected: str, got: str) -> Refusal:
    """A method that gives something else than its contract says."""
    fix = f"change the method so that it gives {expected}"
    return Refusal(what, where=place_of(method), expected=expected, got=got, fix=fix)


def described(value: Any) -> str:
    """A value in a few words: its type, and the shape or length that it has."""
    name = type(value).__name__
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{name} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list):
        return f"{name} of {len(value)}: {', '.join(type(part).__name__ for part in value[:4])}"
    if isinstance(value, Mapping):
        return f"{name} of {len(value)}: {', '.join(map(str, value))}"
    return f"{name} {str(value)[:60]}".rstrip()


def some_of(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(map(repr, names[:4])) + ", ..." * (len(names) > 4)


def check_task(task: Any) -> None:
    """Raise Refusal if the task lacks one of its four methods."""
    if lacking := [name for name in _METHODS if not callable(getattr(task, name, None))]:
        raise Refusal(
            f"the task has no method {', '.join(lacking)}",
            where=f"task: {place_of(type(task))}",
            expected=", ".join(_METHODS.values()),
            got=f"no {', '.join(lacking)}",
            fix=f"write {_METHODS[lacking[0]]}, as src/project/task.py has it",
        )


def check_dataset(dataset: Any, key: str) -> None:
    """Raise Refusal if a dataset does not tell its length, or cannot be read by index."""
    readers = [name for name in ("__getitems__", "__getitem__") if hasattr(dataset, name)]
    if hasattr(dataset, "__len__") and readers and len(dataset):
        return
    expected = "__len__ of at least 1, and __getitems__(indices) or __getitem__(index)"
    got = "no __len__" if not hasattr(dataset, "__len__") else "no sample" if readers else "neither"
    raise Refusal(
        "the dataset cannot be read by index",
        where=f"{key}: {place_of(type(dataset))}",
        expected=expected,
        got=got,
        fix="write these methods, as src/project/data.py has them: which sample stands at which "
        "step is a function of the seed, so a stream of samples cannot be trained on",
    )


def check_loss(result: Any, task: Task) -> None:
    """Raise Refusal if `loss` did not give a sum that has gradients, and a count."""
    expected = (
        "a sum over the batch (a tensor of one number), and over how many terms it is; sums by the "
        "names of trainer.loss_components may follow"
    )

    def refuse(what: str, got: str) -> Refusal:
        return broken(what, task.loss, expected, got)

    if not isinstance(result, tuple | list) or len(result) not in (2, 3):
        raise refuse("the loss comes without its count", described(result))
    loss, count, *components = result
    if components and not isinstance(components[0], Mapping):
        raise refuse("the components of the loss have no names", described(components[0]))
    found: Mapping[str, Any] = components[0] if components else {}
    for name, part in found.items():
        if not isinstance(part, torch.Tensor) or part.numel() != 1:
            raise refuse(
                "a component of the loss is not one number", f"{name!r}: {described(part)}"
            )
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        raise refuse("the loss is not one number", described(loss))
    if not loss.requires_grad:
        raise refuse("the loss has no gradient", f"{described(loss)} without requires_grad")
    if isinstance(count, torch.Tensor | np.ndarray | np.generic) and math.prod(count.shape) == 1:
        count = count.item()
    if isinstance(count, bool) or not isinstance(count, int | float) or not count >= 0:
        raise refuse("the loss's count is not a number from 0 up", described(count))


def rows_of(found: Any, rows: int, kept: int, task: Task) -> dict[str, np.ndarray]:
    """The first `kept` rows of each prediction for a batch of `rows`.

    Types that NumPy lacks, such as bfloat16, become float32, which holds each of their values.
    Raises Refusal if it is not a row of real numbers for each sample.
    """
    expected = f"a mapping of names to tensors of real numbers, one row a sample ({rows})"
    named = isinstance(found, Mapping) and all(isinstance(n, str) and n for n in found)
    if not named or not found:
        raise broken("the predictions have no names", task.predictions, expected, described(found))
    kept_rows = {}
    for name, value in found.items():
        array = value.detach() if isinstance(value, torch.Tensor) else value
        if isinstance(array, torch.Tensor) and array.layout == torch.strided and array.ndim:
            small = array.is_floating_point() and array.dtype not in _IN_NUMPY
            array = (array.float() if small else array)[:kept].cpu().numpy()
        if (
            not isinstance(array, np.ndarray)
            or array.dtype.kind not in "biuf"
            or np.shape(value)[:1] != (rows,)
        ):
            what = f"the prediction {name!r} is not a row of real numbers for each sample"
            raise broken(what, task.predictions, expected, described(value))
        kept_rows[name] = array[:kept]
    return kept_rows


def refuse_columns(found: Mapping[str, np.ndarray], task: Task) -> None:
    """Raise Refusal if two columns of predictions.csv would have one name."""
    columns = Counter(
        c for name, array in found.items() for c in columns_of(name, array)
    ) + Counter(["id"])
    if twice := [name for name, times in columns.items() if times > 1]:
        raise broken(
            "two columns of the predictions would have one name",
            task.predictions,
            "predictions whose columns have names of their own; `id` is the name of the row",
            f"{twice[0]!r} twice, from the predictions {', '.join(found)}",
        )


_IN_NUMPY = (torch.float16, torch.float32, torch.float64)


def metrics_of(found: Any, task: Task) -> dict[str, float]:
    """Every metric as a float. Raises Refusal if one has no name or is not one real number."""
    expected = "a mapping of names to numbers: {'accuracy': 0.9}"
    if not isinstance(found, Mapping) or not found:
        raise broken("the metrics have no names", task.metrics, expected, described(found))
    floats = {}
    for name, value in found.items():
        number = _float(value)
        if number is None or not isinstance(name, str) or not name:
            what = f"the metric {name!r} is not one number with a name"
            raise broken(what, task.metrics, expected, f"{name!r}: {described(value)}")
        floats[str(name)] = number
    return floats


def _float(value: Any) -> float | None:
    """One real number as a float, whoever made it; None if it is something else."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().item() if value.ndim == 0 else None
    elif isinstance(value, np.ndarray | np.generic):
        value = value.item() if np.ndim(value) == 0 else None
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def refuse_nonfinite(metrics: Mapping[str, float], where: str) -> None:
    """Raise Failure if a metric is NaN or infinite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise Failure(
                f"the metric {name} is {'NaN' if math.isnan(value) else value}",
                where=where,
                expected="finite numbers (trainer.nonfinite_metrics: refuse)",
                got=str(value),
                fix="mend the metric; or trainer.nonfinite_metrics=record, which keeps it as it is",
            )
