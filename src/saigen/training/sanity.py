"""The sanity check: one microbatch and one validation before the first step, nothing of it kept.

So a task, dataset or model that gives something else than its contract says is refused at once,
and not after an epoch.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

import torch

from saigen.data.contract import Task, check_loss
from saigen.data.loader import Batch
from saigen.project_code import place_of
from saigen.streams import Streams
from saigen.training.evaluation import Evaluation
from saigen.training.flat import VALUES, parts, refuse_other_parts, replaced
from saigen.training.hidden_state import hidden_state
from saigen.training.nondeterminism import explain
from saigen.training.state import PutBack, export_model, import_model
from saigen.training.step_totals import refuse_other_components
from saigen.training.untrained import Untrained


def sanity_check(
    model: torch.nn.Module,
    batch: Batch,
    validation: Evaluation,
    streams: Streams,
    autocast: AbstractContextManager[Any],
    *,
    put_back: PutBack,
    components: Sequence[str],
) -> tuple[dict[str, float], list[str]]:
    """The metrics of the untrained model, and what should be said of this task and model.

    On a copy of the model; one that cannot be copied gets its state back. No stream of training
    is touched. Raises Refusal where a contract is broken.
    """
    task, kept, began = validation.task, None, parts(model)
    try:
        tried = _copy(model)
    except Exception:
        tried, kept = model, copy.deepcopy(export_model(model, "model"))

    own = dict(tried.named_parameters())
    untrained = Untrained(tried, task)

    def loss_of(rows: Batch) -> Any:
        streams.set_globals("evaluation")
        with autocast:
            return task.loss(task.forward(tried, rows), rows)

    try:
        result = loss_of(batch)
        check_loss(result, task)
        refuse_other_components(dict(*result[2:]), components, place_of(task.loss))
    except RuntimeError as error:
        explain(error, tried, partial(loss_of, batch))
        raise
    refuse_other_parts(tried, began)
    for name, parameter in tried.named_parameters():
        if parameter is not own[name]:
            raise replaced(name, *VALUES)
    warnings = untrained.warnings(result[0])
    del result  # and the graph with it
    warnings += hidden_state(tried, task, loss_of, batch, is_copy=kept is None)
    warnings += _mean(loss_of, batch, task)
    with put_back.behind(tried):
        _, metrics = validation.measure(tried)
    warnings += validation.warnings(tried) + put_back.warnings()
    refuse_other_parts(tried, began)
    if kept is not None:
        import_model(model, *kept)
    return metrics, warnings


def _copy(model: torch.nn.Module) -> torch.nn.Module:
    """A copy with the hooks of its parameters, which torch leaves out; methods are the copy's."""
    memo: dict[int, Any] = {}
    copied = copy.deepcopy(model, memo)
    for mine, its in zip(model.parameters(), copied.parameters(), strict=True):
        for hook in (mine._backward_hooks or {}).values():
            its.register_hook(copy.deepcopy(hook, memo))  # type: ignore[no-untyped-call]
    return copied


def _mean(loss_of: Callable[[Batch], Any], batch: Batch, task: Task) -> list[str]:
    """Whether the loss seems to be a mean already: the same for the same rows twice, though its
    count is double.
    """
    with suppress(Exception), torch.no_grad():  # rows that cannot be halved, a fixed batch size
        half = min(map(len, batch.values())) // 2
        rows = {name: tensor[:half] for name, tensor in batch.items()}
        once, count, *_ = loss_of(rows)
        twice, double, *_ = loss_of({name: torch.cat([part, part]) for name, part in rows.items()})
        # a sum would be twice as large, draws in the model or not
        if once and double == 2 * count and abs(twice - once) < 0.1 * abs(once):
            return [
                f"the loss seems to be a mean, and is divided by its count once more "
                f"({place_of(task.loss)}): give the sum, reduction='sum'"
            ]
    return []
