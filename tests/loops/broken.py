"""Loops that call the run wrongly, each in one way."""

import torch

from saigen import Config, Run


def built(config: Config, run: Run):
    model = run.build(config.model)
    return model, run.optimizer(config.optimizer, model)


def step_of(config: Config, run: Run, body) -> None:
    model, optimizer = built(config, run)
    run.keep(model=model, optimizer=optimizer)
    for step in run.steps():
        body(run, step, model)
        optimizer.step()
        if step.validates:
            run.offer(model, run.evaluate(model))


def walked(run, step, model) -> None:
    for batch in step.microbatches(model, max_grad_norm=None):
        step.backward(*run.task.loss(run.task.forward(model, batch), batch))


def nothing(config: Config, run: Run) -> None:
    pass


def steps_first(config: Config, run: Run) -> None:
    next(run.steps())


def evaluate_first(config: Config, run: Run) -> None:
    run.evaluate(run.build(config.model))


def offer_first(config: Config, run: Run) -> None:
    run.offer(run.build(config.model), {"accuracy": 1.0})


def kept_twice(config: Config, run: Run) -> None:
    model, optimizer = built(config, run)
    run.keep(model=model, optimizer=optimizer)
    run.keep(optimizer=optimizer)


def stateless(config: Config, run: Run) -> None:
    model, optimizer = built(config, run)
    run.keep(model=model, optimizer=optimizer, counter=[0])


def without_optimizer(config: Config, run: Run) -> None:
    run.keep(model=run.build(config.model))


def stranger(config: Config, run: Run) -> None:
    model, optimizer = built(config, run)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    run.keep(model=model, optimizer=optimizer)


def another_model(config: Config, run: Run) -> None:
    model = torch.nn.Linear(64, 10)
    run.keep(model=model, optimizer=run.optimizer(config.optimizer, model))


def no_walk(config: Config, run: Run) -> None:
    step_of(config, run, lambda run, step, model: None)


def no_backward(config: Config, run: Run) -> None:
    step_of(
        config,
        run,
        lambda run, step, model: list(step.microbatches(model, max_grad_norm=None)),
    )


def left_early(config: Config, run: Run) -> None:
    def body(run, step, model) -> None:
        for batch in step.microbatches(model, max_grad_norm=None):
            step.backward(*run.task.loss(run.task.forward(model, batch), batch))
            break

    step_of(config, run, body)


def backward_twice(config: Config, run: Run) -> None:
    def body(run, step, model) -> None:
        for batch in step.microbatches(model, max_grad_norm=None):
            loss, count = run.task.loss(run.task.forward(model, batch), batch)
            step.backward(loss, count)
            step.backward(loss, count)

    step_of(config, run, body)


def untrained(config: Config, run: Run) -> None:
    other = torch.nn.Linear(1, 1)
    step_of(
        config,
        run,
        lambda run, step, model: list(step.microbatches(other, max_grad_norm=None)),
    )


def ended_early(config: Config, run: Run) -> None:
    model, optimizer = built(config, run)
    run.keep(model=model, optimizer=optimizer)
    for step in run.steps():
        walked(run, step, model)
        optimizer.step()
        return


def no_offer(config: Config, run: Run) -> None:
    model, optimizer = built(config, run)
    run.keep(model=model, optimizer=optimizer)
    for step in run.steps():
        walked(run, step, model)
        optimizer.step()
