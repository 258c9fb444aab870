"""Training loops of other shapes than the shipped one; the tests put them into a project.

A project copies what it needs of them into src/project/train.py.
"""

import torch
from torch import nn
from torch.nn import functional

from project.task import Classification
from saigen import Config, Run


class Gan(nn.Module):
    """Draws digits, and tells drawn ones from real ones."""

    def __init__(self, *, noise: int, width: int) -> None:
        super().__init__()
        self.noise = noise
        self.generator = nn.Sequential(nn.Linear(noise, width), nn.ReLU(), nn.Linear(width, 64))
        self.discriminator = nn.Sequential(
            nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 1)
        )


class Telling(Classification):
    """Whether a digit is real."""

    def forward(self, model: Gan, batch):
        return model.discriminator(batch["inputs"].flatten(1))

    def loss(self, outputs, batch):
        ones = torch.ones_like(outputs)
        return functional.binary_cross_entropy_with_logits(outputs, ones, reduction="sum"), len(
            ones
        )

    def predictions(self, outputs):
        return {"real": outputs[:, 0].float()}

    def metrics(self, predictions, targets):
        share = float((predictions["real"] > 0).mean())
        return {"accuracy": share, "log_loss": float(predictions["real"].mean())}


def gan(config: Config, run: Run) -> None:
    """Two optimizers and two backward phases in each step."""
    model = run.build(config.model)
    critic = run.optimizer(config.optimizer, model.discriminator)
    maker = run.optimizer(config.optimizer, model.generator)
    run.scheduler(config.scheduler, critic)
    run.scheduler(config.scheduler, maker)
    run.keep(model=model, critic=critic, maker=maker)
    score = functional.binary_cross_entropy_with_logits

    for step in run.steps():
        for batch in step.microbatches(model.discriminator, max_grad_norm=1.0):
            real = model.discriminator(batch["inputs"].flatten(1))
            fake = model.generator(torch.randn(len(real), model.noise)).detach()
            loss = score(real, torch.ones_like(real), reduction="sum")
            loss = loss + score(model.discriminator(fake), torch.zeros_like(real), reduction="sum")
            step.backward(loss, len(real))
        critic.step()
        for batch in step.microbatches(model.generator, max_grad_norm=None):
            count = len(batch["inputs"])
            fake = model.discriminator(model.generator(torch.randn(count, model.noise)))
            step.backward(score(fake, torch.ones_like(fake), reduction="sum"), count)
        maker.step()
        if step.validates:
            run.offer(model, run.evaluate(model))


def plateau(config: Config, run: Run) -> None:
    """A schedule with a state of its own, fed by validation."""
    task, model = run.task, run.build(config.model)
    optimizer = run.optimizer(config.optimizer, model)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=0, threshold=0.5
    )
    run.keep(model=model, optimizer=optimizer, scheduler=scheduler)

    for step in run.steps():
        for batch in step.microbatches(model, max_grad_norm=config.trainer.max_grad_norm):
            step.backward(*task.loss(task.forward(model, batch), batch))
        optimizer.step()
        if step.validates:
            metrics = run.evaluate(model)
            scheduler.step(metrics["accuracy"])
            run.offer(model, metrics)


def by_epoch(config: Config, run: Run) -> None:
    """A schedule of torch, one step an epoch."""
    task, model = run.task, run.build(config.model)
    optimizer = run.optimizer(config.optimizer, model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    run.keep(model=model, optimizer=optimizer, scheduler=scheduler)

    for step in run.steps():
        for batch in step.microbatches(model, max_grad_norm=None):
            step.backward(*task.loss(task.forward(model, batch), batch))
        optimizer.step()
        if (step.number + 1) % run.steps_per_epoch == 0:
            scheduler.step()
        if step.validates:
            run.offer(model, run.evaluate(model))


def averaged(config: Config, run: Run) -> None:
    """A moving average of the weights, which is what is evaluated and published."""
    task, model = run.task, run.build(config.model)
    optimizer = run.optimizer(config.optimizer, model)
    run.scheduler(config.scheduler, optimizer)
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average)
    run.keep(model=model, optimizer=optimizer, ema=ema)

    for step in run.steps():
        for batch in step.microbatches(model, max_grad_norm=config.trainer.max_grad_norm):
            step.backward(*task.loss(task.forward(model, batch), batch))
        optimizer.step()
        ema.update_parameters(model)
        if step.validates:
            run.offer(ema.module, run.evaluate(ema.module))


def by_closure(config: Config, run: Run) -> None:
    """An optimizer that asks for the loss as often as it likes."""
    task, model = run.task, run.build(config.model)
    optimizer = run.optimizer(config.optimizer, model)
    run.scheduler(config.scheduler, optimizer)
    run.keep(model=model, optimizer=optimizer)

    for step in run.steps():

        def closure():
            for batch in step.microbatches(model, max_grad_norm=None):  # noqa: B023
                step.backward(*task.loss(task.forward(model, batch), batch))  # noqa: B023
            return step.loss  # noqa: B023

        optimizer.step(closure)
        if step.validates:
            run.offer(model, run.evaluate(model))


def counting(config: Config, run: Run) -> None:
    """An object of the loop's own, and a running loss that the learning rate follows."""
    task, model = run.task, run.build(config.model)
    optimizer = run.optimizer(config.optimizer, model)
    patience = Patience()
    run.keep(model=model, optimizer=optimizer, patience=patience)

    for step in run.steps():
        for batch in step.microbatches(model, max_grad_norm=None):
            loss, count = task.loss(task.forward(model, batch), batch)
            step.backward(loss, count)
        patience.see(float(step.loss))
        optimizer.param_groups[0]["lr"] = 0.01 / patience.bad
        optimizer.step()
        if step.validates:
            run.offer(model, run.evaluate(model))


class Patience:
    """Counts steps that were worse than the running mean."""

    def __init__(self) -> None:
        self.mean, self.bad = 2.0, 1

    def see(self, loss: float) -> None:
        self.bad += loss > self.mean
        self.mean = 0.9 * self.mean + 0.1 * loss

    def state_dict(self):
        return {"mean": self.mean, "bad": self.bad}

    def load_state_dict(self, state):
        self.mean, self.bad = state["mean"], state["bad"]
