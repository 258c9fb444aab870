"""Layers that are trained one after another (Hinton, 2022), as in pytorch/examples."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from project.task import Classification
from saigen import Config, Run

Batch = Mapping[str, Tensor]


class Layer(nn.Module):
    """A layer whose goodness is the mean of its squared activations."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Activations (B, outputs); of the input only the direction counts."""
        lengths = inputs.norm(dim=1, keepdim=True)
        activations: Tensor = self.linear(inputs / (lengths + 1e-4)).relu()
        return activations


class Layers(nn.Module):
    """A stack of layers over an image that is marked with a label."""

    def __init__(
        self, *, inputs: int, hidden: int, depth: int, classes: int, threshold: float
    ) -> None:
        super().__init__()
        self.threshold = threshold
        sizes = [inputs + classes, *[hidden] * depth]
        self.classes = classes
        self.layers = nn.ModuleList(map(Layer, sizes, sizes[1:]))

    def marked(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images (B, inputs + classes) with a label beside them."""
        marks = functional.one_hot(labels, self.classes).to(images)
        return torch.cat([images, marks * images.norm(dim=1, keepdim=True)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """The goodness (B, classes) of each label."""
        found = []
        for label in range(self.classes):
            labels = torch.full((len(images),), label, device=images.device)
            activations, goodness = self.marked(images, labels), images.new_zeros(len(images))
            for layer in self.layers:
                activations = layer(activations)
                goodness = goodness + activations.square().mean(dim=1)
            found.append(goodness)
        return torch.stack(found, dim=1)


class Goodness(Classification):
    """The class whose label has the largest goodness."""


def train(config: Config, run: Run) -> None:
    """Walk over a step's rows once for each layer, which has an optimizer and a loss of its own."""
    model = run.build(config.model)
    optimizers = [run.optimizer(config.optimizer, layer) for layer in model.layers]
    for optimizer in optimizers:
        run.scheduler(config.scheduler, optimizer)
    run.keep(model=model, **{f"optimizer{n}": o for n, o in enumerate(optimizers)})

    for step in run.steps():
        for depth, (layer, optimizer) in enumerate(zip(model.layers, optimizers, strict=True)):
            for batch in step.microbatches(layer, max_grad_norm=config.trainer.max_grad_norm):
                labels = batch["targets"]
                others = labels + torch.randint_like(labels, 1, model.classes)
                score = 0.0
                for sign, shown in ((1, labels), (-1, others % model.classes)):
                    inputs = model.marked(batch["inputs"], shown)
                    with torch.no_grad():
                        for below in model.layers[:depth]:
                            inputs = below(inputs)
                    goodness = layer(inputs).square().mean(dim=1)
                    score = score + functional.softplus(sign * (model.threshold - goodness)).sum()
                step.backward(score, 2 * len(labels))
            optimizer.step()
        if step.validates:
            run.offer(model, run.evaluate(model))
