"""The same in transformers' Trainer: `lr order dropout`."""

import csv
import sys
from pathlib import Path

import torch
import transformers
from network import network
from torch import nn
from transformers import Trainer, TrainingArguments

import saigen


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, inputs, labels):
        outputs = self.network(inputs)
        return {"loss": (outputs - labels).pow(2).mean(), "logits": outputs}


lr, order, dropout = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Path("train.csv").open(newline="") as file:
    rows = torch.tensor([[float(cell) for cell in row] for row in csv.reader(file)])
transformers.set_seed(0)
model = Model()
Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out", num_train_epochs=2, per_device_train_batch_size=4, learning_rate=lr,
        seed=dropout, data_seed=order, report_to=[], save_strategy="no", use_cpu=True,
        disable_tqdm=True,
    ),
    train_dataset=[{"inputs": row[:3], "labels": row[3:]} for row in rows],
    callbacks=[saigen.transformers_callback(data=["train.csv"])],
).train()  # fmt: skip
