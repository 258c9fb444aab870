"""Optimizers, each with one feature of torch.optim. It becomes project/zoo_optimizers.py."""

import functools
import types

import numpy as np
import torch
from torch.optim import SGD, AdamW, Optimizer


def no_decay_for_vectors(params):
    wide = [p for p in params if p.dim() > 1]
    narrow = [p for p in params if p.dim() <= 1]
    groups = [{"params": wide, "weight_decay": 0.5}, {"params": narrow, "weight_decay": 0.0}]
    return AdamW(groups, lr=0.01, fused=True)


def other_rates(params):
    groups = [{"params": params[:1], "lr": 0.001}, {"params": params[1:]}]
    return SGD(groups, lr=0.05, momentum=0.9)


def last_only(params):
    return SGD(params[-2:], lr=0.05, momentum=0.9)


def rate_in_a_tensor(params):
    return AdamW(params, lr=torch.tensor(0.01), capturable=False, foreach=False)


def sgd_with_momentum(params):
    return SGD(params, lr=0.05, momentum=0.9)


def with_a_hook(params):
    optimizer = SGD(params, lr=0.05)

    @torch.no_grad()
    def shrink(optimizer, arguments, more):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.mul_(0.99)

    optimizer.register_step_post_hook(shrink)
    return optimizer


def with_a_step_of_its_own(params):
    optimizer = SGD(params, lr=0.05)
    inner = optimizer.step

    def step(self):
        inner()
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(0.99)

    optimizer.step = types.MethodType(step, optimizer)
    return optimizer


class Plain(Optimizer):
    """What the others change one thing of."""

    def __init__(self, params, **more):
        super().__init__(params, {"lr": 0.05} | more)

    def scale(self, group, p, state):
        return 1.0

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                scale = self.scale(group, p, self.state[p])
                p.add_(p.grad, alpha=-group["lr"] * scale)


class CountsInGroups(Plain):
    def __init__(self, params):
        super().__init__(params, d=1e-2, k=0, d_best=float("inf"))

    def scale(self, group, p, state):
        group["k"] += 1
        group["d"] = max(group["d"], float(p.grad.abs().sum()) * 1e-3)
        group["d_best"] = min(group["d_best"], group["d"])
        return group["d"] * (1 + 1 / group["k"])


class TensorsInGroups(Plain):
    def __init__(self, params):
        super().__init__(params, d=torch.tensor(0.1, dtype=torch.float64))

    def scale(self, group, p, state):
        group["d"] = group["d"] * 1.01
        return float(group["d"])


class Rebinds(Plain):
    def scale(self, group, p, state):
        state["m"] = state.get("m", torch.zeros_like(p)) * 0.9 + p.grad
        state["n"] = state.get("n", 0) + 1
        return 1 + float(state["m"].sum()) * 1e-3


class OwnAttributes(Plain):
    def __init__(self, params):
        super().__init__(params)
        self.t, self.seen = 0, {"sum": 0.0}

    def scale(self, group, p, state):
        self.t += 1
        self.seen["sum"] += float(p.grad.sum())
        return 1 / self.t + self.seen["sum"] * 1e-3


class Nested(Plain):
    def scale(self, group, p, state):
        history = state.setdefault("history", [])
        history.append((float(p.grad.sum()), p.grad.mean().clone()))
        del history[:-3]
        state["deep"] = {"a": [None, True, "x"], 3: history[-1][1] * 2, (1, "k"): 1 + 2j}
        return 1 + 1e-3 * sum(float(n) + float(t) for n, t in history)


class NumPyState(Plain):
    def scale(self, group, p, state):
        state["last"] = np.append(state.get("last", np.zeros(0)), float(p.grad.sum()))[-3:]
        state["count"] = np.int64(state.get("count", 0) + 1)
        return 1 + float(state["last"].sum()) * 1e-3 / int(state["count"])


class StateByName(Plain):
    def scale(self, group, p, state):
        shared = self.state["all"]
        shared["k"] = shared.get("k", 0) + 1
        return 1 / shared["k"]


class Aliased(Plain):
    def scale(self, group, p, state):
        if "fast" not in state:
            state["fast"] = state["slow"] = torch.zeros_like(p)
            state["weights"] = p.detach()
        state["fast"].add_(p.grad)
        return 1 + float(state["slow"].sum() + state["weights"].sum()) * 1e-3


class Lookahead(Optimizer):
    """An optimizer within an optimizer."""

    def __init__(self, params):
        self.inner = SGD(params, lr=0.05, momentum=0.9)
        super().__init__(self.inner.param_groups, {})
        self.inner.param_groups = self.param_groups
        self.slow = [p.detach().clone() for p in params]
        self.k = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.inner.step()
        self.k += 1
        if self.k % 2 == 0:
            pairs = zip(self.slow, self.param_groups[0]["params"], strict=True)
            for slow, p in pairs:
                slow.add_(p - slow, alpha=0.5)
                p.copy_(slow)


class ScheduleFree(Plain):
    """As in Defazio et al. (2024): z beside the weights, weights of the mean in the group."""

    def __init__(self, params):
        super().__init__(params, k=0, weight_sum=0.0)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] += 1
            group["weight_sum"] += group["lr"] ** 2
            c = group["lr"] ** 2 / group["weight_sum"]
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.detach().clone())
                p.lerp_(z, c)
                z.sub_(p.grad, alpha=group["lr"])
                p.sub_(p.grad, alpha=group["lr"] * (1 - c))


def halved(step):
    """A decorator of the project's own, which must not be left out."""

    @functools.wraps(step)
    def with_half(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.mul_(0.5)
        return step(self, closure)

    return with_half


class Decorated(Plain):
    step = halved(Plain.__dict__["step"])


class Heir(AdamW):
    pass


class Unholdable(Plain):
    def scale(self, group, p, state):
        state["ids"] = {1, 2}
        return 1.0


class UnholdableAttribute(Plain):
    def __init__(self, params):
        super().__init__(params)
        self.what = object()


class MasterWeights(Plain):
    def scale(self, group, p, state):
        self.state[p.detach().clone()]["m"] = 1
        return 1.0


class KeepsGradient(Plain):
    def scale(self, group, p, state):
        state["last"] = p.grad
        return 1.0


class KeepsRows(Plain):
    def scale(self, group, p, state):
        whole = state.setdefault("whole", torch.zeros_like(p))
        state["rows"] = whole.view(-1)[1:]
        return 1.0


class WantsClosure(Plain):
    def step(self, closure=None):
        assert closure is not None, "this optimizer wants a closure"


class NoRate(Optimizer):
    def __init__(self, params):
        super().__init__(params, {"d": 1.0})

    def step(self, closure=None):
        pass


class OwnRate(Plain):
    def scale(self, group, p, state):
        group["lr"] *= 0.99
        return 1.0


class NewGroup(Plain):
    def scale(self, group, p, state):
        if len(self.param_groups) == 1:
            self.add_param_group({"params": [torch.nn.Parameter(torch.zeros(3))]})
        return 1.0


class NotAnOptimizer:
    def __init__(self, params):
        pass


def build(params, *, name):
    """An optimizer by name."""
    return globals()[name](params)
