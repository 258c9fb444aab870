"""What the flat model promises: the same model, in one run of memory."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saigen.errors import Refusal
from saigen.training.flat import FlatModel
from saigen.training.layout import LINE
from saigen.training.model_state import exported, load_exported
from saigen.training.processes import Group
from saigen.training.reduction import Reduction
from saigen.training.state import (
    PutBack,
    export_model,
    export_optimizer,
    import_model,
    import_optimizer,
)


class Tied(nn.Module):
    """Every difficulty at once: tied, frozen, odd-sized, channels last, buffers of all kinds."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.conv = nn.Conv2d(2, 3, 3, padding=1).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(3)
        self.frozen = nn.Linear(15, 5)
        self.frozen.requires_grad_(False)
        self.out = nn.Linear(5, 11, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("mask", torch.tensor([0.0, float("-inf"), float("nan")]))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("cache", torch.ones(3), persistent=False)

    def forward(self, tokens):
        x = self.embed(tokens)[:, None].repeat(1, 2, 1, 1)  # (B, 2, T, 5)
        x = self.norm(self.conv(x)).permute(0, 2, 1, 3).flatten(2)  # (B, T, 15)
        return self.out(F.gelu(self.frozen(x)))


def tied():
    torch.manual_seed(3)
    return Tied()


def flatten(model, multiple=LINE, microbatches=1):
    return FlatModel(model, scalars=2, multiple=multiple, microbatches=microbatches)


def train(model, optimizer, zero, steps=5):
    torch.manual_seed(0)
    losses = []
    for _ in range(steps):
        tokens = torch.randint(0, 11, (4, 6))
        zero()
        loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def adamw(held, fused=True):
    return torch.optim.AdamW(held.values(), lr=1e-2, weight_decay=0.1, fused=fused)


def state_bits(tensors):
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in tensors.items()}


def train_plain_and_flat(*, one_tensor, fused):
    plain, model = tied(), tied()
    own = {n: p for n, p in plain.named_parameters() if p.requires_grad}
    optimizer = adamw(own, fused=fused)
    expected = train(plain, optimizer, lambda: optimizer.zero_grad(set_to_none=False))
    flat = flatten(model)
    got = train(model, adamw(flat.held(one_tensor=one_tensor), fused=fused), flat.grad_buffer.zero_)
    flat.check()
    return plain, expected, model, got


@pytest.mark.parametrize(("one_tensor", "fused"), [(False, True), (False, False), (True, False)])
def test_flat_training_equals_plain_training_bit_for_bit(one_tensor, fused):
    plain, expected, model, got = train_plain_and_flat(one_tensor=one_tensor, fused=fused)
    assert got == expected
    assert state_bits(model.state_dict()) == state_bits(plain.state_dict())


def test_one_fused_tensor_differs_from_many_by_rounding_alone():
    # torch's fused CPU kernels round a tensor's last few elements (scalar code) in another way
    # than the rest (vector code), and one tensor has fewer ends than many.
    _, expected, _, got = train_plain_and_flat(one_tensor=True, fused=True)
    assert got[0] == expected[0]
    assert got == pytest.approx(expected, rel=1e-5)


def test_moving_in_changes_no_value_form_or_sharing():
    plain, model = tied(), tied()
    flat = flatten(model)
    assert state_bits(model.state_dict()) == state_bits(plain.state_dict())
    assert model.out.weight is model.embed.weight
    assert model.conv.weight.stride() == plain.conv.weight.stride() != (18, 9, 3, 1)
    assert list(exported(model)) == [n for n in plain.state_dict() if n != "out.weight"]
    flat.check()


def test_every_tensor_starts_on_a_cache_line_and_padding_stays_zero():
    model = tied()
    flat = flatten(model, multiple=LINE * 7)
    train(model, adamw(flat.held(one_tensor=True)), flat.grad_buffer.zero_)
    used = torch.zeros(flat.layout.size, dtype=torch.bool)
    for span in flat.layout.spans:
        assert (flat.values.data_ptr() + span.start) % LINE == 0
        used[span.start : span.start + span.of(flat.grad_buffer).nbytes] = True
    assert used.sum() < flat.layout.size
    assert flat.layout.size % (LINE * 7) == 0
    for arena in (flat.values, flat.grad_buffer):
        assert not arena[~used[: len(arena)]].any()


def test_blocks_hold_every_trainable_weight_and_every_gradient():
    model = tied()
    flat = flatten(model)
    train(model, adamw(flat.held(one_tensor=True)), flat.grad_buffer.zero_, steps=1)
    own = [p for p in model.parameters() if p.requires_grad]
    (weights,), (gradients,) = flat.weights, flat.gradients
    assert weights.double().sum() == pytest.approx(sum(p.double().sum().item() for p in own))
    total = sum(p.grad.double().abs().sum().item() for p in own)
    assert gradients.double().abs().sum().item() == pytest.approx(total)
    weights.zero_()
    assert not any(p.any() for p in own)


def test_layout_depends_on_the_model_alone():
    assert flatten(tied()).layout == flatten(tied()).layout


def test_mixed_types_get_a_block_and_a_parameter_each():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).bfloat16(), nn.Linear(3, 3))
    flat = flatten(model)
    assert [w.dtype for w in flat.weights] == [torch.float32, torch.bfloat16]
    assert list(flat.held(one_tensor=True)) == ["all.float32", "all.bfloat16"]


def test_saved_tensors_come_back_to_the_bit():
    model = tied()
    flat = flatten(model)
    train(model, adamw(flat.held(one_tensor=True)), flat.grad_buffer.zero_)
    saved = {n: t.clone() for n, t in exported(model).items()}
    flat.values.zero_()
    load_exported(model, saved)
    assert state_bits(exported(model)) == state_bits(saved)
    flat.check()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        lambda p: torch.optim.NAdam(p, lr=0.01),
        lambda p: torch.optim.SGD(p, lr=0.01),
    ],
)
@pytest.mark.parametrize("one_tensor", [True, False])
def test_an_optimizer_continues_from_exported_state_as_if_never_stopped(make, one_tensor):
    def begin():
        model = tied()
        flat = flatten(model)
        held = flat.held(one_tensor=one_tensor)
        return model, flat, held, make(list(held.values()))

    model, flat, held, optimizer = begin()
    train(model, optimizer, flat.grad_buffer.zero_)
    saved = copy.deepcopy(export_model(model, "model"))
    tensors, form = export_optimizer(optimizer, held, flat.grad_buffer, "optimizer")
    tensors, form = copy.deepcopy(tensors), json.loads(json.dumps(form))
    again, flat_again, held_again, optimizer_again = begin()
    import_model(again, *saved)
    import_optimizer(optimizer_again, held_again, tensors, form)
    expected = train(model, optimizer, flat.grad_buffer.zero_)
    assert train(again, optimizer_again, flat_again.grad_buffer.zero_) == expected
    assert state_bits(exported(again)) == state_bits(exported(model))


class Stateful(nn.Module):
    """State of every kind, which each forward pass may change."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))
        self.both = self.weight
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("sum", torch.zeros(1))
        self.register_buffer("rows", torch.zeros(0, 2))
        self.register_buffer("nan", torch.tensor([float("nan"), -0.0]))
        self.register_buffer("turned", torch.zeros(2, dtype=torch.complex128))
        self.register_buffer("flags", torch.tensor([True]))
        self.register_buffer("wide", torch.zeros(1).expand(4))
        self.register_buffer("last", torch.zeros(1, 2, 3, 3).to(memory_format=torch.channels_last))
        self.register_buffer("later", None)
        self.register_buffer("cache", torch.ones(2), persistent=False)
        self.kept = {"count": 0, "tensor": torch.zeros(2)}

    def get_extra_state(self):
        return self.kept

    def set_extra_state(self, state):
        self.kept = state


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda m: m.weight.mul_(2), "weight"),
        (lambda m: m.weight.data.mul_(2), "weight"),
        (lambda m: m.frozen.add_(1), "frozen"),
        (lambda m: m.sum.add_(1), "sum"),
        (lambda m: setattr(m, "sum", m.sum + 1), "sum"),
        (lambda m: setattr(m, "sum", m.sum.double()), "sum"),
        (lambda m: setattr(m, "sum", None), "sum"),
        (lambda m: setattr(m, "later", torch.ones(1)), "later"),
        (lambda m: m.rows.resize_(3, 2).zero_(), "rows"),
        (lambda m: setattr(m, "rows", torch.zeros(0, 3)), "rows"),
        (lambda m: m.nan.copy_(torch.tensor([float("nan"), 0.0])), "nan"),
        (lambda m: m.turned.add_(1j), "turned"),
        (lambda m: m.flags.logical_not_(), "flags"),
        (lambda m: setattr(m, "wide", m.wide + 1), "wide"),
        (lambda m: m.last.add_(1), "last"),
        (lambda m: setattr(m, "last", m.last.contiguous()), "last"),
        (lambda m: m.cache.mul_(2), "cache"),
        (lambda m: m.kept.update(count=1), "_extra_state"),
        (lambda m: m.kept["tensor"].add_(1), "tensor"),
    ],
)
def test_what_an_evaluation_changes_of_the_state_is_put_back_and_said(change, name):
    model, put_back = Stateful(), PutBack()
    tensors, forms = copy.deepcopy(export_model(model, "model"))
    with put_back.behind(model), torch.no_grad():
        change(model)
    found, found_forms = export_model(model, "model")
    assert found_forms == forms
    assert state_bits(found) == state_bits(tensors)
    assert model.both is model.weight
    [text] = put_back.warnings()
    assert text.startswith(f"evaluation changes the model's state ({name!r})")
    assert put_back.warnings() == []


def test_an_evaluation_that_changes_nothing_leaves_every_tensor_where_it_is():
    model, put_back = Stateful(), PutBack()
    tensors = [*model.parameters(), *model.buffers()]
    with put_back.behind(model):
        model.register_buffer("made_once", torch.ones(3), persistent=False)
    now = [*model.parameters(), *model.buffers()]
    assert all(one is other for one, other in zip(tensors, now, strict=False))
    assert put_back.warnings() == []


def leave_by_zero_grad(model):
    model.zero_grad(set_to_none=True)


def leave_by_replacing_a_parameter(model):
    model.conv.weight = nn.Parameter(model.conv.weight.detach().clone())


@pytest.mark.parametrize(
    ("leave", "name"),
    [
        (leave_by_zero_grad, "'embed.weight'"),
        (leave_by_replacing_a_parameter, "'conv.weight'"),
    ],
)
def test_a_tensor_that_left_the_flat_memory_is_named(leave, name):
    model = tied()
    flat = flatten(model)
    flat.check()
    leave(model)
    with pytest.raises(Refusal) as caught:
        flat.check()
    assert "left the flat memory" in str(caught.value)
    assert f"where:    model, {name}" in str(caught.value)


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(Refusal, match="the model has nothing to train"):
        flatten(nn.ReLU())


# ---------------------------------------------------------------------------------- buffers


def steps_of(model, microbatches, act):
    """One step in which `act` is what each microbatch does to the model."""
    flat = flatten(model, microbatches=microbatches)
    reduction = Reduction(flat, Group(0, 1), microbatches)
    reduction.begin_step()
    for microbatch in reduction.mine:
        act(microbatch)
        reduction.end_microbatch(microbatch)
    reduction.end_step()
    return reduction


def test_unchanged_buffers_stay_what_they_were_to_the_bit():
    model = tied()
    before = model.mask.numpy().tobytes()
    steps_of(model, 3, lambda _: None).check()
    assert model.mask.numpy().tobytes() == before


def test_norms_become_the_mean_of_what_the_microbatches_made_of_them():
    model, alone = tied().train(), []
    start = {n: b.clone() for n, b in model.named_buffers()}

    def act(_):
        assert torch.equal(model.norm.running_mean, start["norm.running_mean"])
        model(torch.randint(0, 11, (4, 6)))
        alone.append(model.norm.running_mean.clone())

    steps_of(model, 4, act).check()
    assert torch.allclose(model.norm.running_mean, torch.stack(alone).mean(0))
    assert not torch.equal(model.norm.running_mean, start["norm.running_mean"])
    assert model.norm.num_batches_tracked == 1
    assert model.flags.tolist() == [True, False]


class Counting(nn.Module):
    """Buffers of every rule; the last says nothing."""

    def __init__(self):
        super().__init__()
        self.microbatch_reduction = {"low": "min", "high": "max", "seen": "sum", "average": "mean"}
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("low", torch.tensor(float("inf")))
        self.register_buffer("high", torch.tensor([1e8]))
        self.register_buffer("seen", torch.tensor(5))
        self.register_buffer("average", torch.tensor([1.0], dtype=torch.float64))
        self.register_buffer("last", torch.tensor(1e8), persistent=False)

    def see(self, microbatch, last):
        self.low = torch.minimum(self.low, torch.tensor(3.0 - microbatch))
        self.high = torch.maximum(self.high, torch.tensor([1e9 * microbatch]))
        self.seen += 8
        self.average.mul_(0.5).add_(microbatch)
        self.last = last


def test_buffers_of_several_microbatches_follow_the_rule_that_the_module_states():
    model = Counting()
    steps_of(model, 3, lambda m: model.see(m, torch.tensor(1.0))).check()
    assert (model.low, model.high, model.seen) == (1.0, 2e9, 29)
    assert model.average == 1.5
    assert model.last == 1.0


def test_a_buffer_on_which_microbatches_disagree_is_refused_by_name():
    model = Counting()
    buffers = steps_of(model, 3, lambda m: model.see(m, torch.tensor(float(m))))
    with pytest.raises(Refusal, match="disagree on a buffer") as caught:
        buffers.check()
    assert "where:    model, 'last'" in str(caught.value)
    assert "set trainer.microbatches=1" in str(caught.value)
    assert "`microbatch_reduction = {'last': 'mean'}`" in str(caught.value)


def test_a_buffer_that_changes_its_form_within_a_step_is_refused_by_name():
    model = Counting()
    with pytest.raises(Refusal, match="a buffer changed its form") as caught:
        steps_of(model, 2, lambda m: model.see(m, torch.ones(3)))
    assert "(3, torch.float32)" in str(caught.value)


@pytest.mark.parametrize(("key", "rule"), [("low", "last"), ("seen", "mean")])
def test_a_rule_that_a_buffer_cannot_have_is_refused(key, rule):
    model = Counting()
    model.microbatch_reduction = {key: rule}
    with pytest.raises(Refusal, match="there is no such rule for a buffer") as caught:
        flatten(model, microbatches=2)
    assert repr(rule) in str(caught.value)
    flatten(model, microbatches=1)
