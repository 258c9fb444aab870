"""What a training loop may do wrong with a run and its steps: the refusals."""

from typing import Any

from saigen.errors import Failure, Refusal
from saigen.project_code import place_of


def kept_twice() -> Refusal:
    """Two calls of `run.keep`."""
    return Refusal(
        "the training loop says twice what is kept",
        where="run.keep(...)",
        expected="one call, with every part by its name",
        got="another call",
        fix="join the calls into one: run.keep(model=model, optimizer=optimizer)",
    )


def nothing_kept(where: str) -> Refusal:
    """A call that comes before `run.keep`."""
    return Refusal(
        "the training loop does not say what is kept",
        where=where,
        expected="run.keep(model=model, optimizer=optimizer) before it",
        got="nothing kept",
        fix="call run.keep once, when everything is built",
    )


def no_model(loop: str) -> Refusal:
    """A loop that builds other parts than the config's model."""
    return Refusal(
        "the training loop does not build the model that is published",
        where=loop,
        expected="run.build(config.model), which evaluation and prediction build too",
        got="other parts only",
        fix="build it, as a module that holds the others if there are several",
    )


def ended_early(loop: str, done: int, total: int) -> Failure:
    """A loop that leaves `run.steps()` before they end."""
    return Failure(
        "the training loop ended before its steps did",
        where=f"{loop}, after step {done}",
        expected=f"{total} steps",
        got=str(done),
        fix="walk over all of run.steps(); trainer.max_steps makes a run shorter",
    )


def backward_outside(step: int) -> Refusal:
    """A `step.backward` that belongs to no microbatch."""
    return Refusal(
        "step.backward was called outside of a microbatch, or twice in one",
        where=f"step {step}",
        expected="one call for each microbatch that step.microbatches gives",
        got="another call",
        fix="add the losses and call step.backward once; or walk over "
        "step.microbatches a second time",
    )


def step_unended(step: int) -> Refusal:
    """A body of a step that leaves a microbatch without its backward pass."""
    return Refusal(
        "a step ended before all its microbatches did",
        where=f"step {step}",
        expected="a walk over all of step.microbatches(...), each ended by step.backward",
        got="a microbatch without its backward pass",
        fix="do not leave that loop early, and call step.backward(loss, count) in it",
    )


def other_components(found: list[str], expected: list[str], where: str) -> Refusal:
    """A loss that names other components than the config."""
    return Refusal(
        "the loss has other components than the config names",
        where=where,
        expected=f"trainer.loss_components: {expected}",
        got=f"{found}",
        fix=f"set trainer.loss_components to {found}"
        if found
        else "have `loss` of the task give "
        "a mapping of these names to sums besides, and the loop hand it to step.backward",
    )


def not_collated(method: Any) -> Refusal:
    """A collate function that no batch goes through."""
    return Refusal(
        "data.collate is used for nothing",
        where=f"data.train_dataset: {place_of(method)}",
        expected="a list of samples, or one sample at a time, to make a batch of",
        got="a whole batch",
        fix="set data.collate=null, or have the dataset give a list of samples",
    )
