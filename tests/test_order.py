"""What the order promises: for every n a permutation, well mixed, at constant memory."""

import tracemalloc

import numpy as np
import pytest

from saigen.data import order
from saigen.data.order import Order, sample_index
from saigen.data.orders import Permuted
from saigen.streams import Streams

KEY = 0x0123456789ABCDEF_FEDCBA9876543210
AROUND_POWERS = [2**bits + off for bits in range(13, 41) for off in (-2, -1, 0, 1, 2)]


def permuted(streams, n, epoch):
    return Order(streams, Permuted(samples=n, arrays={}), n, epoch)


def keys(count):
    rng = np.random.default_rng(20)
    return [int.from_bytes(rng.bytes(16), "little") for _ in range(count)]


def test_every_n_up_to_5000_is_a_bijection():
    for n in range(1, 5001):
        seen = np.zeros(n, bool)
        seen[sample_index(KEY, n, np.arange(n))] = True
        assert seen.all(), n


@pytest.mark.parametrize("n", [65536, 65537, 262145, 1048577])
def test_sizes_where_a_known_implementation_fails_are_bijections(n):
    # grain's index_shuffle is none at 65537, 262145 and 1048577
    assert np.array_equal(np.sort(sample_index(KEY, n, np.arange(n))), np.arange(n))


def test_sizes_around_every_power_of_two_up_to_2_to_the_40_are_bijections_where_sampled():
    rng = np.random.default_rng(0)
    for n in [*AROUND_POWERS, 10**12, order.MAXIMUM]:
        ends = np.array([0, 1, n // 2, n - 2, n - 1])
        positions = np.unique(np.concatenate([ends, rng.integers(0, n, 2000)]))
        samples = sample_index(KEY, n, positions)
        assert 0 <= samples.min() <= samples.max() < n
        assert np.unique(samples).size == positions.size


def most_repeated(steps):
    return int(np.unique(steps, return_counts=True)[1].max())


@pytest.mark.parametrize("n", [4096, 4095, 2049, 10**6])
def test_steps_between_neighbours_repeat_no_more_than_chance_allows(n):
    # 4,095 steps of a random permutation of 4,096 repeat 5 to 8 times at most. A round function
    # that is linear repeats hundreds of times (774 in a published one).
    sampled = np.arange(min(n, 4096))
    for key in keys(10):
        samples = sample_index(key, n, sampled)
        assert most_repeated(np.diff(samples) % n) <= 10
        assert most_repeated(samples[1:] ^ samples[:-1]) <= 12


@pytest.mark.parametrize("distance", [1, 2, 64, 1024, 2048])
def test_positions_a_power_of_two_apart_are_as_unrelated_as_neighbours(distance):
    for key in keys(10):
        samples = sample_index(key, 4096, np.arange(4096))
        assert most_repeated((samples - np.roll(samples, distance)) % 4096) <= 10
        assert most_repeated(samples ^ np.roll(samples, distance)) <= 24  # pairs count twice


def chi_square_z(counts, expected):
    """Standardized chi-square: about normal for many cells."""
    degrees = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - degrees) / np.sqrt(2 * degrees)


@pytest.mark.parametrize("n", [64, 100, 129])
def test_every_sample_is_equally_likely_at_every_position(n):
    counts = np.zeros((n, n))
    for key in keys(2000):
        counts[np.arange(n), sample_index(key, n, np.arange(n))] += 1
    assert abs(chi_square_z(counts, 2000 / n)) < 5


@pytest.mark.parametrize("bits", range(12, 62))
def test_the_first_positions_fall_evenly_over_data_of_every_size(bits):
    n = 2**bits - 1
    counts = np.zeros(64)
    for key in keys(8):
        cells = (sample_index(key, n, np.arange(1024)) * 1.0 / n * 64).astype(int)
        counts += np.bincount(cells, minlength=64)
    assert abs(chi_square_z(counts, 8 * 1024 / 64)) < 5


def test_pairs_of_neighbours_fall_evenly_over_the_square():
    n, cells = 10**6, 100
    counts = np.zeros((cells, cells))
    for key in keys(3):
        samples = sample_index(key, n, np.arange(n)) // (n // cells)
        np.add.at(counts, (samples[:-1], samples[1:]), 1)
    assert abs(chi_square_z(counts, counts.sum() / cells**2)) < 5


def test_all_permutations_of_four_are_equally_frequent():
    found = [tuple(sample_index(key, 4, np.arange(4))) for key in keys(1200)]
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert counts.size == 24
    assert chi_square_z(counts, 50) < 5


def test_an_index_is_the_same_whatever_it_is_asked_together_with():
    n = 3 * order._BLOCK + 17
    whole = sample_index(KEY, n, np.arange(n))
    scattered = np.random.default_rng(1).integers(0, n, 1000)
    assert np.array_equal(sample_index(KEY, n, scattered), whole[scattered])
    assert sample_index(KEY, n, np.array([n - 1])) == whole[-1]


def test_ranges_of_an_epoch_are_slices_of_its_permutation():
    streams = Streams({"order": 0})
    n = 2 * order._BLOCK + 5
    epoch = permuted(streams, n, 3)
    whole = sample_index(streams.key("order", 3), n, np.arange(n))
    cuts = [0, 1, 32, order._BLOCK - 1, order._BLOCK + 7, n - 3, n]
    for start in reversed(cuts):  # any range, in any order, over the edges of blocks
        for stop in cuts:
            if start <= stop:
                assert np.array_equal(epoch.indices(start, stop), whole[start:stop])


def test_what_a_caller_does_to_a_batch_of_indices_does_not_change_the_order():
    epoch = permuted(Streams({"order": 0}), 100, 0)
    first = epoch.indices(0, 10)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(epoch.indices(0, 10), kept)


def test_seeds_and_epochs_share_no_permutation():
    seen = {
        permuted(Streams({"order": seed}), 1000, epoch).indices(0, 1000).tobytes()
        for seed in range(5)
        for epoch in range(10)
    }
    assert len(seen) == 50


def test_the_order_of_a_key_never_changes():
    # Golden: these values are the format. A change here changes every run there ever was.
    assert sample_index(KEY, 10, np.arange(10)).tolist() == [0, 7, 8, 1, 3, 9, 4, 5, 2, 6]
    assert sample_index(KEY, 10**12, np.arange(3)).tolist() == [
        449172508003,
        57431868331,
        322293580294,
    ]


def test_a_trillion_samples_take_no_memory():
    epoch = permuted(Streams({"order": 0}), 10**12, 0)
    tracemalloc.start()
    for start in (0, 10**6, 10**12 - 32):
        assert epoch.indices(start, start + 32).size == 32
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_positions_outside_the_epoch_are_an_error():
    epoch = permuted(Streams({"order": 0}), 10, 0)
    for start, stop in ((-1, 2), (3, 2), (5, 11)):
        with pytest.raises(AssertionError):
            epoch.indices(start, stop)
    for position in (-1, 10):
        with pytest.raises(AssertionError):
            sample_index(KEY, 10, np.array([5, position]))


@pytest.mark.parametrize("n", [0, -1, 2**62 + 1])
def test_a_number_of_samples_that_cannot_be_ordered_is_an_error(n):
    with pytest.raises(AssertionError):
        sample_index(KEY, n, np.arange(0))
