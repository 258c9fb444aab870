"""The same in Lightning: `lr order dropout`."""

import csv
import sys
from pathlib import Path

import pytorch_lightning as lightning
import torch
from network import network
from torch.utils.data import DataLoader, TensorDataset

import saigen


class Module(lightning.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.save_hyperparameters()
        self.network = network()

    def training_step(self, batch, _):
        inputs, targets = batch
        return (self.network(inputs) - targets).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


lr, order, dropout = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Path("train.csv").open(newline="") as file:
    rows = torch.tensor([[float(cell) for cell in row] for row in csv.reader(file)])
lightning.seed_everything(0)
module = Module(lr)
lightning.seed_everything(dropout)
loader = DataLoader(
    TensorDataset(rows[:, :3], rows[:, 3:]), batch_size=4, shuffle=True,
    generator=torch.Generator().manual_seed(order),
)  # fmt: skip
watching = saigen.lightning_callback(
    recipe={"order": order, "dropout": dropout}, data=["train.csv"]
)
lightning.Trainer(
    max_epochs=2, accelerator="cpu", callbacks=[watching], logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
).fit(module, loader)  # fmt: skip
