"""The network that every watched script trains: dropout, and a state that no gradient moves."""

from torch import nn


def network():
    return nn.Sequential(
        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, 1)
    )
