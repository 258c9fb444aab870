"""The training loop: yours to change. What it calls is described in docs/loop.md."""

from saigen import Config, Run


def train(config: Config, run: Run) -> None:
    """Train one model with one optimizer, and offer it at each validation."""
    task, trainer = run.task, config.trainer
    model = run.build(config.model)
    optimizer = run.optimizer(config.optimizer, model)
    run.scheduler(config.scheduler, optimizer)
    run.keep(model=model, optimizer=optimizer)

    for step in run.steps():
        for batch in step.microbatches(model, max_grad_norm=trainer.max_grad_norm):
            outputs = task.forward(model, batch)
            step.backward(*task.loss(outputs, batch))  # a sum, and over how many terms
        optimizer.step()
        if step.validates:
            run.offer(model, run.evaluate(model))
