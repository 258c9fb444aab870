"""The fingerprint and the trace."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saigen.errors import Failure, Refusal
from saigen.training.fingerprint import BLOCK, Fingerprint, odd_multipliers
from saigen.training.flat import FlatModel
from saigen.training.state_trace import StateTrace
from saigen.training.step_totals import StepTotals
from saigen.training.trace import Trace
from saigen.training.trace_file import HEADER_BYTES, ROW, first_difference, read_trace


def digest(*tensors, signs=False, offset=0):
    return Fingerprint(tensors, offset=offset).read(signs=signs)


def random_floats(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 511), st.integers(0, 31), st.booleans())
def test_any_single_flipped_bit_changes_the_fingerprint(place, bit, signs):
    tensor = random_floats(512)
    before = digest(tensor, signs=signs)
    tensor.view(torch.int32)[place] ^= -(2**31) if bit == 31 else 1 << bit
    assert digest(tensor, signs=signs) != before


@pytest.mark.parametrize("signs", [False, True])
def test_order_and_sign_change_the_fingerprint(signs):
    tensor = random_floats(512)
    assert digest(tensor, signs=signs) != digest(tensor.flip(0), signs=signs)
    assert digest(tensor, signs=signs) != digest(-tensor, signs=signs)
    swapped = tensor.clone()
    swapped[[10, 300]] = tensor[[300, 10]]
    assert digest(swapped, signs=signs) != digest(tensor, signs=signs)


def test_an_even_number_of_signs_in_upper_halves_is_seen():
    # 2 * 2^63 = 0 modulo 2^64: what the plain sum misses, as -0.0 for 0.0
    tensor = torch.zeros(512)
    for seed in range(20):
        places = np.random.default_rng(seed).choice(256, 2 * seed + 2, replace=False)
        flipped = tensor.clone()
        flipped[2 * places + 1] = -0.0
        assert digest(tensor) == digest(flipped)
        assert digest(tensor, signs=True) != digest(flipped, signs=True)


def test_zeros_ones_and_sevens_differ():
    seen = {digest(torch.full((256,), value)) for value in (0.0, 1.0, 7.0)}
    assert len(seen) == 3


@pytest.mark.parametrize("signs", [False, True])
def test_shards_add_up_to_the_whole(signs):
    tensor = random_floats(2 * BLOCK * 3 + 64)
    cut = 2 * BLOCK * 2  # float32 elements; a multiple of BLOCK words
    first = digest(tensor[:cut], signs=signs)
    second = digest(tensor[cut:], signs=signs, offset=cut // 2)
    assert (first + second) % 2**64 == digest(tensor, signs=signs)


def test_several_tensors_are_not_confused_with_each_other():
    one, other = random_floats(64, 1), random_floats(64, 2)
    assert digest(one, other) != digest(other, one)


def test_equal_bits_of_another_form_have_another_fingerprint():
    of = [
        FlatModel(model, scalars=3, multiple=64, microbatches=1)
        for model in (torch.nn.Linear(8, 2, bias=False), torch.nn.Linear(2, 8, bias=False))
    ]
    for flat in of:
        torch.nn.init.ones_(flat.weights[0])
    one, other = (Fingerprint(flat.weights, salt=flat.salt).read(signs=True) for flat in of)
    assert one != other
    assert digest(*of[0].weights) == digest(*of[1].weights)


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("blocks", [0, 1, 2, 5])
def test_the_form_for_devices_gives_the_same_number(monkeypatch, signs, blocks):
    monkeypatch.setattr("saigen.training.fingerprint._AT_ONCE", 2)
    tensor = random_floats(2 * blocks * BLOCK + 32)
    made = Fingerprint([tensor, tensor[:64].clone(), tensor[32:]], salt=2**63 + 5, offset=BLOCK)
    assert (int(made.on_device(signs=signs)) + made.salt) % 2**64 == made.read(signs=signs)


def test_multipliers_are_odd_and_differ():
    numbers = odd_multipliers(0, BLOCK)
    assert (numbers & 1).all()
    assert len(set(numbers.tolist())) == BLOCK


def made_up(flush_steps, folder, resumed_at=0):
    """The weights, gradients and sums of a model, and their trace."""
    flat = FlatModel(torch.nn.Linear(64, 1, bias=False), scalars=3, multiple=64, microbatches=1)
    sums = StepTotals(flat.scalars, [])
    rows = read_trace(folder)[:resumed_at] if (folder / "trace.bin").is_file() else ()
    expected = {"trace.bin": rows[-1]["chain"].tobytes().hex()} if len(rows) else {}
    optimizer = torch.optim.SGD([torch.nn.Parameter(flat.weights[0])], lr=0.1, momentum=0.9)
    state = StateTrace([optimizer], [], torch.device("cpu"))
    trace = Trace(
        folder, flat, sums, state, flush_steps=flush_steps, resumed_at=resumed_at,
        expected=expected, in_depth=False,
    )  # fmt: skip
    return optimizer, flat.gradients[0], sums, trace


def write(folder, steps, *, resumed_at=0, losses=None):
    """Trace `steps` further steps of a made-up training."""
    optimizer, gradients, sums, trace = made_up(4, folder, resumed_at)
    weights = optimizer.param_groups[0]["params"][0].detach()
    for step in range(resumed_at, resumed_at + steps):
        gradients.fill_(step)
        weights.copy_(random_floats(64, step))
        loss = losses[step] if losses else 1.0 / (step + 1)
        sums.put(torch.tensor(loss), 1, None, asked_to_stop=False)
        trace.add(step, np.arange(step, step + 8))
    return trace


def test_equal_trainings_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, 10).close()
    a, b = ((tmp_path / name / "trace.bin").read_bytes() for name in ("a", "b"))
    assert a == b
    assert len(a) == HEADER_BYTES + 10 * ROW.itemsize


def test_rows_can_be_read_while_the_trace_is_written(tmp_path):
    trace = write(tmp_path, 10)
    assert list(read_trace(tmp_path)["step"]) == list(range(8))  # two blocks of four
    trace.close()
    assert list(read_trace(tmp_path)["step"]) == list(range(10))


def test_a_resumed_trace_is_cut_at_the_checkpoint_and_ends_in_the_same_bytes(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "resumed").mkdir()
    write(tmp_path / "whole", 12).close()
    write(tmp_path / "resumed", 9).close()
    write(tmp_path / "resumed", 6, resumed_at=6).close()
    whole, resumed = (tmp_path / n / "trace.bin" for n in ("whole", "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_a_trace_shorter_than_its_checkpoint_is_refused(tmp_path):
    write(tmp_path, 4).close()
    with pytest.raises(Failure, match="the trace is shorter than the checkpoint") as raised:
        write(tmp_path, 1, resumed_at=6)
    assert "at least 6 rows" in str(raised.value)


def test_a_trace_that_is_gone_is_not_begun_in_the_middle(tmp_path):
    write(tmp_path, 4).close()
    (tmp_path / "trace.bin").unlink()
    with pytest.raises(Failure, match="the trace is shorter than the checkpoint") as raised:
        write(tmp_path, 1, resumed_at=4)
    assert "got:      0" in str(raised.value)


@pytest.mark.parametrize("step", [0, 1, 7, 62, 63])
def test_the_first_different_step_is_found(tmp_path, step):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    losses = [1.0] * 64
    write(tmp_path / "a", 64, losses=losses).close()
    losses[step] = 1.0000001
    write(tmp_path / "b", 64, losses=losses).close()
    a, b = read_trace(tmp_path / "a"), read_trace(tmp_path / "b")
    assert first_difference(a, b) == step
    assert first_difference(a, a) is None
    assert first_difference(a, a[:40]) == 40


def test_a_state_that_the_optimizer_replaces_is_still_traced(tmp_path):
    optimizer, _, sums, trace = made_up(1, tmp_path)
    [weights] = optimizer.param_groups[0]["params"]
    sums.put(torch.tensor(1.0), 1, None, asked_to_stop=False)
    for step in range(3):
        optimizer.state[weights]["momentum_buffer"] = random_floats(64, step)
        trace.add(step, np.arange(8))
    trace.close()
    assert len(set(read_trace(tmp_path)["optimizer"].tolist())) == 3


def test_a_loss_that_is_not_a_number_ends_the_run_before_a_checkpoint_can_hold_it(tmp_path):
    with pytest.raises(Failure, match="loss is NaN at step") as raised:
        write(tmp_path, 4, losses=[1.0, 1.0, float("nan"), 1.0])
    assert "step 2" in str(raised.value)


def test_a_file_that_is_no_trace_is_refused(tmp_path):
    (tmp_path / "trace.bin").write_bytes(struct.pack("<q", 7) * 200)
    with pytest.raises(Refusal, match="this is not a readable trace"):
        read_trace(tmp_path)
