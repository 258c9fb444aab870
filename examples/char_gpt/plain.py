"""The newest run's first 20 steps again in plain PyTorch: python examples/char_gpt/plain.py."""

import csv
from pathlib import Path

import torch
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from saigen.config.compose import read_composed, with_fitted
from saigen.data.epochs import Epochs
from saigen.data.prepared import variant
from saigen.streams import Streams
from saigen.training.build import build_model
from saigen.training.schedule import cosine

STEPS = 20


def main() -> None:
    """Print the largest difference of a loss."""
    run = max(Path("runs").glob("*/history.csv"), key=lambda path: path.stat().st_mtime_ns).parent
    config = read_composed(run / "config.yaml").config
    prepared = variant(config, Path(), print)
    arrays, streams = prepared.arrays("train"), Streams(config.randomness.streams)
    epochs = Epochs(config, streams, len(arrays["inputs"]), arrays)
    rows = [samples for _, _, samples in epochs.batches(range(STEPS))]

    model = build_model(with_fitted(config, prepared.arrays("fitted"), Path()), streams)
    flat = [p for p in model.parameters() if p.ndim < 2]
    others = [p for p in model.parameters() if p.ndim >= 2]
    stated = config.optimizer.arguments
    groups = [
        {"params": others, "weight_decay": stated["weight_decay"]},
        {"params": flat, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=stated["lr"], betas=tuple(stated["betas"]), eps=stated["eps"]
    )
    total = config.trainer.max_epochs * epochs.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine(step, total, **config.scheduler.arguments)
    )
    losses = []
    for samples in rows:
        x, y = (torch.from_numpy(arrays[name][samples]) for name in ("inputs", "targets"))
        loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), config.trainer.max_grad_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    with (run / "history.csv").open() as file:
        ours = [float(row["loss"]) for row in csv.DictReader(file)][:STEPS]
    print(max(abs(a - b) for a, b in zip(losses, ours, strict=True)))


if __name__ == "__main__":
    main()
