"""Small models, each with one feature of torch.nn. It becomes project/zoo_models.py of a project.

All of them take (B, 64) numbers and give 10 scores.
"""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import FakeQuantize, HistogramObserver, MinMaxObserver
from torch.nn.utils import parametrizations, parametrize

from project.task import Classification


class KilledInStep(Classification):
    """The shipped task, ended in the backward pass of a step that ZOO_KILLED_IN says: in the first
    one, or once step 4 is kept.
    """

    def __init__(self, *, label_smoothing):
        super().__init__(label_smoothing=label_smoothing)
        self.passes = 0

    def forward(self, model, batch):
        scores = model(batch["inputs"])
        steps = any(p.grad is not None for p in model.parameters())  # the sanity check's copy: none
        if "ZOO_KILLED_IN" in os.environ and scores.requires_grad and steps:
            scores.register_hook(self.count)
        return scores

    def count(self, gradient):
        self.passes += 1
        if self.passes == int(os.environ["ZOO_KILLED_IN"]):
            while self.passes > 1 and not list(Path("runs").glob("*/checkpoints/step-*4")):
                time.sleep(0.01)  # it is written behind the loop's back
            os.kill(os.getpid(), signal.SIGKILL)


class Centers(KilledInStep):
    """A task with parameters of its own."""

    def __init__(self, *, label_smoothing):
        super().__init__(label_smoothing=label_smoothing)
        self.centers = nn.Embedding(10, 10)

    def loss(self, outputs, batch):
        loss, count = super().loss(outputs, batch)
        return loss + (outputs - self.centers(batch["targets"])).square().sum(), count


class Counting(KilledInStep):
    """A task with a buffer of its own."""

    def __init__(self, *, label_smoothing):
        super().__init__(label_smoothing=label_smoothing)
        self.norm = nn.BatchNorm1d(10, affine=False)

    def loss(self, outputs, batch):
        return super().loss(self.norm(outputs), batch)


class Net(nn.Module):
    """What most of them begin and end with."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 12), nn.Linear(12, 10)

    def between(self, x):
        return x

    def forward(self, x):
        return self.last(self.between(torch.relu(self.first(x))))


# ------------------------------------------------------------------------------- shared, frozen


class Tied(Net):
    def __init__(self):
        super().__init__()
        self.up, self.again = nn.Linear(12, 12), nn.Linear(12, 12)
        self.again.weight = self.up.weight

    def between(self, x):
        return self.again(torch.tanh(self.up(x)))


class TiedToEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 64)
        self.out = nn.Linear(64, 10)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(x + self.embed((x.sum(1).abs() % 10).long()))


class SharedModule(Net):
    def __init__(self):
        super().__init__()
        self.one = self.other = nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12))

    def between(self, x):
        return self.other(torch.tanh(self.one(x)))


class SharedBuffer(Net):
    def __init__(self):
        super().__init__()
        self.norm, self.other = nn.BatchNorm1d(12), nn.BatchNorm1d(12)
        self.other.running_mean = self.norm.running_mean

    def between(self, x):
        return self.other(self.norm(x))


class Frozen(Net):
    def __init__(self):
        super().__init__()
        self.first.requires_grad_(False)


class FrozenHalf(Net):
    def __init__(self):
        super().__init__()
        self.first.weight.requires_grad_(False)
        self.norm = nn.BatchNorm1d(12).requires_grad_(False)

    def between(self, x):
        return self.norm.eval()(x)


class CountsInAttribute(Net):
    """A number that no checkpoint keeps."""

    calls = 0

    def between(self, x):
        if self.training:
            self.calls += 1
        return x * (1 + 0.001 * self.calls)


class KeepsHidden(Net):
    """A state of its own that is no buffer."""

    hidden = None

    def between(self, x):
        if self.training:
            before = 0.0 if self.hidden is None else self.hidden
            self.hidden = x.detach().mean(0)
            x = x + before
        return x


class OwnGenerator(Net):
    def __init__(self):
        super().__init__()
        self.own = torch.Generator().manual_seed(0)

    def between(self, x):
        return x + torch.rand(12, generator=self.own) if self.training else x


class LooksBack(Net):
    """What it keeps moves no number."""

    calls, seen, scale = 0, None, None

    def between(self, x):
        self.calls += 1
        self.seen = x.detach()
        self.scale = torch.ones(12) if self.scale is None else self.scale
        return x * self.scale


class Annealed(KilledInStep):
    """A task that counts."""

    def loss(self, outputs, batch):
        loss, count = super().loss(outputs, batch)
        self.passes += 1
        return loss * min(1.0, self.passes / 100), count


class HiddenLayers(Net):
    """Layers in a list, which torch does not see."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(12, 12)]

    def between(self, x):
        return self.layers[0](x)


class HiddenLeaf(Net):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(12, requires_grad=True)

    def between(self, x):
        return x * self.scale


class Thawed(Net):
    def __init__(self):
        super().__init__()
        self.first.requires_grad_(False)

    def between(self, x):
        self.first.requires_grad_(True)
        return x


class FrozenLater(Net):
    def between(self, x):
        if self.training:
            self.first.requires_grad_(False)
        return x


# ------------------------------------------------------------------------------- forms of tensors


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LazyLinear(12), nn.LazyBatchNorm1d(), nn.Dropout(0.2), nn.LazyLinear(10)
        )

    def forward(self, x):
        return self.layers(x)


class LazyUnreached(Net):
    def __init__(self):
        super().__init__()
        self.nobody = nn.LazyLinear(3)


class Complex(Net):
    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(torch.randn(12, 12, dtype=torch.complex64) * 0.2)

    def between(self, x):
        return (x.to(self.turn.dtype) @ self.turn).abs().float()


class ComplexDouble(Complex):
    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(self.turn.detach().to(torch.complex128))
        self.register_buffer("angle", torch.zeros(3, dtype=torch.complex128))

    def between(self, x):
        if self.training:
            self.angle += 1j
        return super().between(x) + self.angle.imag.sum().float()


class Scalar(Net):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def between(self, x):
        return x * self.scale


class Empty(Net):
    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.empty(0, 5))
        self.other = nn.Parameter(torch.empty(3, 0))
        self.register_buffer("none", torch.empty(0))

    def between(self, x):
        return x + self.nothing.sum() + self.other.sum()


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last)
        self.last = nn.Linear(4 * 2 * 6, 10)
        self.register_buffer("seen", torch.zeros(1, 2, 3, 3).to(memory_format=torch.channels_last))

    def forward(self, x):
        if self.training:
            self.seen += self.conv.weight.detach().mean(0, keepdim=True)
        return self.last(self.conv(x.view(-1, 2, 4, 8)).flatten(1) + self.seen.sum())


class Transposed(Net):
    def __init__(self):
        super().__init__()
        self.turned = nn.Parameter(torch.randn(7, 12).T)
        self.last = nn.Linear(7, 10)

    def between(self, x):
        return x @ self.turned


class Expanded(Net):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(1).expand(12))

    def between(self, x):
        return x * self.bias


class Sliced(Net):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.arange(24.0)[::2])

    def between(self, x):
        return x + self.bias


class Double(Net):
    def __init__(self):
        super().__init__()
        self.double()

    def forward(self, x):
        return super().forward(x.double()).float()


class TwoTypes(Net):
    def __init__(self):
        super().__init__()
        self.last.double()

    def between(self, x):
        return x.double()


class Halves(Net):
    def __init__(self):
        super().__init__()
        self.bfloat16()

    def forward(self, x):
        return super().forward(x.bfloat16()).float()


class SharingMemory(Net):
    def __init__(self):
        super().__init__()
        self.copy = nn.Parameter(self.first.weight.data)


class SharingRows(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("rows", self.first.weight.data[:3])


class OnMeta(Net):
    def __init__(self):
        super().__init__()
        self.far = nn.Linear(3, 3, device="meta")


class SparseWeights(Net):
    def __init__(self):
        super().__init__()
        self.far = nn.Parameter(torch.eye(3).to_sparse())


class Mine(torch.Tensor):
    pass


class OwnKindOfTensor(Net):
    def __init__(self):
        super().__init__()
        self.far = nn.Parameter(torch.zeros(3).as_subclass(Mine))


class NothingToTrain(Net):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Replaced(Net):
    def between(self, x):
        if self.training:
            self.last.weight = nn.Parameter(self.last.weight.detach().clone())
        return x


class GradientsToNone(Net):
    def between(self, x):
        if self.training:
            self.zero_grad(set_to_none=True)
        return x


class LateParameter(Net):
    def between(self, x):
        if not hasattr(self, "late"):
            self.late = nn.Parameter(torch.zeros(12))
        return x + self.late


# ------------------------------------------------------------------------------- parametrizations


class WeightNorm(Net):
    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.first)


class SpectralNorm(Net):
    def __init__(self):
        super().__init__()
        parametrizations.spectral_norm(self.first)


class Orthogonal(Net):
    def __init__(self):
        super().__init__()
        self.turn = parametrizations.orthogonal(nn.Linear(12, 12, bias=False))

    def between(self, x):
        return self.turn(x)


class OldSpectralNorm(Net):
    def __init__(self):
        super().__init__()
        torch.nn.utils.spectral_norm(self.first)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T


class OwnParametrization(Net):
    def __init__(self):
        super().__init__()
        self.turn = nn.Linear(12, 12)
        parametrize.register_parametrization(self.turn, "weight", Symmetric())

    def between(self, x):
        return self.turn(x)


class Pruned(Net):
    def __init__(self):
        super().__init__()
        from torch.nn.utils import prune

        prune.l1_unstructured(self.first, "weight", amount=0.3)


# ------------------------------------------------------------------------------- layers


class Recurrent(nn.Module):
    def __init__(self, kind, **more):
        super().__init__()
        self.cells = kind(8, 6, batch_first=True, **more)
        self.last = nn.LazyLinear(10)

    def forward(self, x):
        self.cells.flatten_parameters()
        return self.last(self.cells(x.view(-1, 8, 8))[0].flatten(1))


class CarriedState(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.last = nn.GRUCell(64, 6), nn.Linear(6, 10)
        self.register_buffer("carried", torch.zeros(6))

    def forward(self, x):
        h = self.cell(x, self.carried.expand(len(x), 6).contiguous())
        if self.training:
            self.carried = h.detach().mean(0)
        return self.last(h)


class Attention(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.block, self.last = make(), nn.Linear(64, 10)

    def forward(self, x):
        y = x.view(-1, 8, 8)
        y = (
            self.block(y, y, y)[0]
            if isinstance(self.block, nn.MultiheadAttention)
            else self.block(y)
        )
        return self.last(y.flatten(1))


class Tokens(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.embed, self.last = make(), nn.Linear(8, 10)

    def forward(self, x):
        tokens = (x.abs() * 3).long().clamp(max=15)
        found = self.embed(tokens)
        return self.last(found if found.dim() == 2 else found.mean(1))


class Lists(Net):
    def __init__(self):
        super().__init__()
        self.listed = nn.ParameterList([torch.ones(12), torch.zeros(12)])
        self.named = nn.ParameterDict({"a": torch.ones(12)})
        self.modules_listed = nn.ModuleList([nn.Linear(12, 12)])
        self.modules_named = nn.ModuleDict({"b": nn.PReLU()})

    def between(self, x):
        x = x * self.listed[0] + self.listed[1] + self.named["a"]
        return self.modules_named["b"](self.modules_listed[0](x))


class Recomputed(Net):
    def between(self, x):
        from torch.utils.checkpoint import checkpoint

        return checkpoint(torch.tanh, x, use_reentrant=False)


class Hooked(Net):
    def __init__(self):
        super().__init__()
        self.first.register_forward_hook(lambda module, args, out: out * 2)
        self.last.weight.register_hook(lambda gradient: gradient * 0.5)


class RenamedInStateDict(Net):
    def __init__(self):
        super().__init__()
        self.register_state_dict_post_hook(self.rename)
        self.register_load_state_dict_pre_hook(self.name_back)

    @staticmethod
    def rename(module, state, prefix, metadata):
        state["begin.weight"] = state.pop("first.weight")

    @staticmethod
    def name_back(module, state, *rest):
        state["first.weight"] = state.pop("begin.weight")


# ------------------------------------------------------------------------------- buffers


class Buffered(Net):
    """One buffer, from a start, by a rule; it takes part in the forward pass."""

    start, persistent = torch.zeros(()), True

    def __init__(self):
        super().__init__()
        start = None if self.start is None else self.start.clone()
        self.register_buffer("seen", start, persistent=self.persistent)

    def next(self, x):
        return self.seen + 1

    def between(self, x):
        if self.training:
            self.seen = self.next(x.detach())
        return x + torch.tanh(self.seen.float()).sum() if self.seen is not None else x


class RunningMinimum(Buffered):
    start = torch.tensor(float("inf"))

    def next(self, x):
        return torch.minimum(self.seen, x.max())


class Assigned(Buffered):
    start = torch.tensor(1e8)

    def next(self, x):
        return x.mean()


class NotPersistent(Buffered):
    persistent = False

    def next(self, x):
        return self.seen * 0.9 + x.mean()


class Grows(Buffered):
    start = torch.zeros(0)

    def next(self, x):
        return torch.cat([self.seen, x.mean()[None]])


class FromNone(Buffered):
    start = None
    persistent = False

    def next(self, x):
        return x.mean(0)


class ToNone(Buffered):
    persistent = False

    def next(self, x):
        return None


class Bools(Buffered):
    start = torch.zeros(12, dtype=torch.bool)

    def next(self, x):
        return self.seen | (x > 1).any(0)


class Changes(Buffered):
    start = torch.zeros(12, dtype=torch.float64)

    def between(self, x):
        if self.training:
            self.seen.mul_(0.5).add_(x.detach().mean(0))
        return x + self.seen.float()


class LateBuffer(Net):
    def between(self, x):
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.linspace(0, 1, 12), persistent=False)
        elif self.training:
            self.late.mul_(0.5)
        return x + self.late


class LatePersistentBuffer(Net):
    def between(self, x):
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.linspace(0, 1, 12))
        return x + self.late


class Minima(Buffered):
    start = torch.full((12,), float("inf"))

    def __init__(self):
        super().__init__()
        self.microbatch_reduction = {"seen": "min"}

    def next(self, x):
        return torch.minimum(self.seen, x.amin(0))


class Undeclared(Buffered):
    def next(self, x):
        return self.seen * 0.9 + x.mean()


class MeanOfWhole(Undeclared):
    start = torch.zeros((), dtype=torch.int64)

    def __init__(self):
        super().__init__()
        self.microbatch_reduction = {"seen": "mean"}


# ------------------------------------------------------------------------------- extra state


class ExtraState(Net):
    def __init__(self):
        super().__init__()
        self.kept = {"count": 0, "scale": 0.25, "names": ["a", ("b", None)], "z": 1 - 2j}
        self.kept["tensor"] = torch.zeros(3, dtype=torch.float64)

    def get_extra_state(self):
        return self.kept

    def set_extra_state(self, state):
        self.kept = state

    def between(self, x):
        if self.training:
            self.kept["count"] += 1
            self.kept["tensor"] = self.kept["tensor"] + x.detach().double().mean()
        return x + self.kept["count"] * 0.01 + self.kept["tensor"].float().sum()


class ExtraStateNobodyCanHold(Net):
    def get_extra_state(self):
        return {"what": {1, 2}}

    def set_extra_state(self, state):
        pass


# ------------------------------------------------------------------------------- observers


class Between(Net):
    def __init__(self, *layers):
        super().__init__()
        self.middle = nn.Sequential(*layers)

    def between(self, x):
        return self.middle(x)


def of(kind, *arguments, **more):
    return lambda: kind(*arguments, **more)


MODELS = {
    "lstm": lambda: Recurrent(nn.LSTM),
    "lstm_projected": lambda: Recurrent(nn.LSTM, proj_size=3, num_layers=2),
    "gru_bidirectional": lambda: Recurrent(nn.GRU, bidirectional=True, bias=False),
    "rnn_dropout": lambda: Recurrent(nn.RNN, num_layers=2, dropout=0.3),
    "multihead": lambda: Attention(of(nn.MultiheadAttention, 8, 2, dropout=0.1, batch_first=True)),
    "encoder_layer": lambda: Attention(of(nn.TransformerEncoderLayer, 8, 2, 16, batch_first=True)),
    "embedding_sparse": lambda: Tokens(of(nn.Embedding, 16, 8, sparse=True)),
    "embedding_max_norm": lambda: Tokens(of(nn.Embedding, 16, 8, max_norm=0.5)),
    "embedding_padding": lambda: Tokens(of(nn.Embedding, 16, 8, padding_idx=0)),
    "embedding_bag": lambda: Tokens(of(nn.EmbeddingBag, 16, 8)),
    "embedding_scaled": lambda: Tokens(of(nn.Embedding, 16, 8, scale_grad_by_freq=True)),
    "batch_norm": lambda: Between(nn.BatchNorm1d(12)),
    "batch_norm_cumulative": lambda: Between(nn.BatchNorm1d(12, momentum=None)),
    "batch_norm_untracked": lambda: Between(nn.BatchNorm1d(12, track_running_stats=False)),
    "norms": lambda: Between(nn.LayerNorm(12), nn.RMSNorm(12), nn.GroupNorm(3, 12)),
    "instance_norm": lambda: Between(
        nn.Unflatten(1, (3, 4)), nn.InstanceNorm1d(3, track_running_stats=True), nn.Flatten()
    ),
    "dropout": lambda: Between(nn.Dropout(0.3), nn.AlphaDropout(0.1), nn.RReLU()),
    "fake_quantize": lambda: Between(FakeQuantize()),
    "minimum_observer": lambda: Between(MinMaxObserver()),
    "histogram_observer": lambda: Between(HistogramObserver()),
    "scripted": lambda: Between(torch.jit.script(nn.Sequential(nn.Linear(12, 12), nn.Tanh()))),
    "traced": lambda: Between(torch.fx.symbolic_trace(nn.Sequential(nn.Linear(12, 12), nn.Tanh()))),
    "jit_traced": lambda: Between(
        torch.jit.trace(nn.Sequential(nn.Linear(12, 12), nn.Tanh()), torch.ones(2, 12))
    ),
    "compiled_part": lambda: Between(torch.compile(nn.Linear(12, 12), backend="eager")),
    "quantized": lambda: Between(
        torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(12, 12)), {nn.Linear})
    ),
    "data_parallel": lambda: Between(nn.DataParallel(nn.Linear(12, 12))),
    "averaged": lambda: Between(torch.optim.swa_utils.AveragedModel(nn.Linear(12, 12))),
    "plain": Net,
}


def build(*, name):
    """A model by name."""
    return MODELS[name]() if name in MODELS else globals()[name]()
