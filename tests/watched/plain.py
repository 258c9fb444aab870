"""A training as somebody writes it: its own loop, its own arguments, no project around it."""

import argparse
import csv
from pathlib import Path

import torch
from network import network

import saigen


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--order", type=int, default=1)
    parser.add_argument("--dropout", type=int, default=2)
    parser.add_argument("--tell", choices=("all", "loss", "nothing"), default="all")
    parser.add_argument("--fault", default="none")
    return parser.parse_args()


def main():
    given = arguments()
    with Path("train.csv").open(newline="") as file:
        rows = torch.tensor([[float(cell) for cell in row] for row in csv.reader(file)])
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=given.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3)
    order = torch.Generator().manual_seed(given.order)
    torch.manual_seed(given.dropout)
    with saigen.watch(
        model, optimizer, recipe={"dropout": given.dropout}, data=["train.csv"], scheduler=scheduler
    ) as run:
        for _ in range(2):
            for places in torch.randperm(len(rows), generator=order).split(4):
                inputs, targets = rows[places, :3], rows[places, 3:]
                loss = (model(inputs) - targets).pow(2).mean()
                if given.tell != "nothing":
                    run.log(loss=loss, samples=places if given.tell == "all" else None)
                optimizer.zero_grad()
                loss.backward()
                if given.fault == "error":
                    raise ValueError("the loop has a fault")
                optimizer.step()
                scheduler.step()
        run.measured(last=loss.item())


if __name__ == "__main__":
    main()
