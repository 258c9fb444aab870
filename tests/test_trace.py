"""The fingerprint and the trace."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saigen.refusal import Failure, Refusal
from saigen.training.fingerprint import BLOCK, Fingerprint, fingerprints, odd_multipliers, on_host
from saigen.training.sums import Sums
from saigen.training.trace import Trace
from saigen.training.trace_file import HEADER_BYTES, ROW, first_difference, read_trace


def lanes(tensor, offset=0):
    return Fingerprint(tensor, lanes=2, offset=offset).on_host()


def random_floats(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 511), st.integers(0, 31))
def test_any_single_flipped_bit_changes_the_fingerprint(place, bit):
    tensor = random_floats(512)
    before = lanes(tensor)
    tensor.view(torch.int32)[place] ^= -(2**31) if bit == 31 else 1 << bit
    assert lanes(tensor) != before


def test_order_and_sign_change_the_fingerprint():
    tensor = random_floats(512)
    assert lanes(tensor) != lanes(tensor.flip(0))
    assert lanes(tensor) != lanes(-tensor)
    swapped = tensor.clone()
    swapped[[10, 300]] = tensor[[300, 10]]
    assert lanes(swapped) != lanes(tensor)


def test_an_even_number_of_signs_in_upper_halves_is_seen():
    # 2 * 2^63 = 0 modulo 2^64: what the first lane alone would miss, as -0.0 for 0.0
    tensor = torch.zeros(8)
    flipped = tensor.clone()
    flipped[[1, 3]] = -0.0
    assert lanes(tensor)[0] == lanes(flipped)[0]
    assert lanes(tensor) != lanes(flipped)


def test_zeros_ones_and_sevens_differ():
    seen = {lanes(torch.full((256,), value)) for value in (0.0, 1.0, 7.0)}
    assert len(seen) == 3


def test_shards_add_up_to_the_whole():
    tensor = random_floats(2 * BLOCK * 3 + 64)
    cut = 2 * BLOCK * 2  # float32 elements; a multiple of BLOCK words
    first, second = lanes(tensor[:cut]), lanes(tensor[cut:], offset=cut // 2)
    whole = tuple((a + b) % 2**64 for a, b in zip(first, second, strict=True))
    assert whole == lanes(tensor)


def test_several_tensors_are_not_confused_with_each_other():
    one, other = random_floats(64, 1), random_floats(64, 2)
    forward = on_host(fingerprints([one, other], lanes=2))
    assert forward != on_host(fingerprints([other, one], lanes=2))


def test_the_form_for_devices_gives_the_same_lanes():
    tensor = random_floats(2 * BLOCK + 32)
    host = Fingerprint(tensor, lanes=2, offset=0)
    device = Fingerprint(tensor, lanes=2, offset=0)
    words = tensor.view(torch.int64)
    starts = range(0, len(words), BLOCK)
    device._device_table = torch.from_numpy(odd_multipliers(0, BLOCK))
    device._device_words = [words[start : start + BLOCK] for start in starts]
    halves = words.view(torch.int32)[1::2]
    device._device_halves = [halves[start : start + BLOCK] for start in starts]
    out = torch.empty(2, dtype=torch.int64)
    device.on_device(out)
    assert tuple(value % 2**64 for value in out.tolist()) == host.on_host()


def test_multipliers_are_odd_and_differ():
    numbers = odd_multipliers(0, BLOCK)
    assert (numbers & 1).all()
    assert len(set(numbers.tolist())) == BLOCK


def write(folder, steps, *, resumed_at=0, weights=None, losses=None, flush_steps=4):
    """Trace `steps` further steps of a made-up training."""
    weights = random_floats(64) if weights is None else weights
    gradients = torch.zeros(64)
    sums = Sums(torch.zeros(3, dtype=torch.float64))
    optimizer = torch.optim.SGD([torch.nn.Parameter(weights)], lr=0.1, momentum=0.9)
    trace = Trace(
        folder,
        gradients=[gradients],
        weights=[weights],
        sums=sums,
        flush_steps=flush_steps,
        resumed_at=resumed_at,
    )
    for step in range(resumed_at, resumed_at + steps):
        gradients.fill_(step)
        weights.copy_(random_floats(64, step))
        loss = losses[step] if losses else 1.0 / (step + 1)
        sums.put(torch.tensor(loss), 1, asked_to_stop=False)
        trace.add(step, np.arange(step, step + 8), optimizer)
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


def test_a_loss_that_is_not_a_number_ends_the_run_before_a_checkpoint_can_hold_it(tmp_path):
    with pytest.raises(Failure, match="the loss is not a number any more") as raised:
        write(tmp_path, 4, losses=[1.0, 1.0, float("nan"), 1.0])
    assert "step 2" in str(raised.value)


def test_a_file_that_is_no_trace_is_refused(tmp_path):
    (tmp_path / "trace.bin").write_bytes(struct.pack("<q", 7) * 200)
    with pytest.raises(Refusal, match="this is not a readable trace"):
        read_trace(tmp_path)
