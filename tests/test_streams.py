"""What the streams promise: numbers that are a function of (seed, name, indices)."""

import hashlib
import itertools
import os
import pickle
import random
import struct
import sys

import numpy as np
import pytest
import torch

from saigen.streams import Streams
from saigen.training.leaks import GlobalsWatch

STREAMS = Streams({"init": 0, "order": 0, "dropout": 1, "augment": 10**30})


def draws():
    """One draw from each global generator."""
    return random.random(), float(np.random.random()), torch.rand(()).item()


def test_a_key_is_the_digest_of_scheme_seed_name_and_indices():
    text = b'["saigen-streams-1",1,"dropout"]' + (3).to_bytes(8, "little") + bytes(8)
    digest = hashlib.blake2b(text, digest_size=16).digest()
    assert STREAMS.key("dropout", 3, 0) == int.from_bytes(digest, "little")
    assert STREAMS.key("init") == 302416449740243742326091420278661407843


def test_seeds_names_and_indices_never_collide():
    seeds = range(5)
    names = ("init", "order")
    places = [(), *itertools.product(range(10)), *itertools.product(range(10), range(10))]
    keys = {
        Streams(dict.fromkeys(names, seed)).key(name, *place)
        for seed in seeds
        for name in names
        for place in places
    }
    assert len(keys) == len(seeds) * len(names) * len(places)


def test_a_key_does_not_depend_on_the_integer_type_of_its_indices():
    assert STREAMS.key("order", np.int64(7)) == STREAMS.key("order", 7)


def test_zero_is_a_seed_and_so_is_a_number_of_any_size():
    seeds = [0, 1, 2**63, 2**64, 2**64 + 1, 10**40]
    assert len({Streams({"init": seed}).key("init") for seed in seeds}) == len(seeds)


def test_an_unknown_stream_is_an_error():
    with pytest.raises(KeyError, match="drop_out"):
        STREAMS.key("drop_out", 1)


@pytest.mark.parametrize("indices", [(-1,), (2**64,), (0.5,), ("3",), tuple(range(9))])
def test_an_index_that_is_no_place_is_an_error(indices):
    with pytest.raises((struct.error, IndexError)):
        STREAMS.key("order", *indices)


def test_global_generators_are_a_function_of_the_place_and_of_no_history():
    STREAMS.set_globals("dropout", 3, 1)
    first = draws()
    for history in (lambda: None, draws, lambda: random.gauss(0, 1), np.random.standard_normal):
        history()  # an odd number of Gaussians leaves the other half of a pair behind
        STREAMS.set_globals("dropout", 3, 1)
        assert draws() == first
    STREAMS.set_globals("dropout", 3, 1)
    gaussian = np.random.standard_normal(), random.gauss(0, 1)
    STREAMS.set_globals("dropout", 3, 1)
    assert (np.random.standard_normal(), random.gauss(0, 1)) == gaussian


def test_neighbouring_places_share_no_global_draw():
    seen = set()
    for step, microbatch in itertools.product(range(20), range(8)):
        STREAMS.set_globals("dropout", step, microbatch)
        seen.update(draws())
    assert len(seen) == 3 * 20 * 8


def test_private_generators_follow_the_place_too():
    assert STREAMS.numpy("augment", 1, 5).random() == STREAMS.numpy("augment", 1, 5).random()
    assert STREAMS.numpy("augment", 1, 5).random() != STREAMS.numpy("augment", 1, 6).random()


def test_the_numpy_generator_is_philox_under_the_key():
    plain = np.random.Generator(np.random.Philox(key=STREAMS.key("augment", 4)))
    assert np.array_equal(STREAMS.numpy("augment", 4).random(100), plain.random(100))


def test_private_generators_leave_the_global_ones_alone():
    STREAMS.set_globals("dropout", 0)
    first = draws()
    STREAMS.set_globals("dropout", 0)
    STREAMS.numpy("augment", 1).random()
    assert draws() == first


def test_streams_travel_to_a_worker():
    copy = pickle.loads(pickle.dumps(STREAMS))
    assert copy == STREAMS
    assert copy.key("dropout", 1) == STREAMS.key("dropout", 1)


# ---------------------------------------------------------------------------- the leak watch

LEAKS = {
    "random": random.random,
    "numpy.random": np.random.random,
    "torch": lambda: torch.rand(1),
}


@pytest.mark.parametrize("generator", LEAKS)
@pytest.mark.parametrize("draw_count", [1, 2, 623, 624, 625, 1248])
def test_a_draw_outside_a_stream_is_noticed_and_counted(generator, draw_count):
    # 624 words are one turn of the Mersenne Twister: its index stands where it stood.
    watch = GlobalsWatch(locate=False)
    STREAMS.set_globals("dropout", 0)
    for _ in range(2):
        watch.arm()
        for _ in range(draw_count):
            LEAKS[generator]()
        assert watch.check() == (generator,)
    assert watch.counts == {generator: 2}


@pytest.mark.parametrize(
    "reseed", [lambda: random.seed(3), lambda: np.random.seed(3), lambda: torch.manual_seed(3)]
)
def test_setting_a_global_generator_outside_a_stream_is_noticed(reseed):
    watch = GlobalsWatch(locate=False)
    STREAMS.set_globals("dropout", 0)
    watch.arm()
    reseed()
    assert len(watch.check()) == 1


def test_draws_inside_a_stream_are_no_leak():
    watch = GlobalsWatch(locate=False)
    for step in range(3):
        assert watch.check() == ()
        STREAMS.set_globals("dropout", step)
        draws()
        watch.arm()
        STREAMS.numpy("augment", step).random()
    assert not watch.counts


def leak_deep(kind):
    return LEAKS[kind]() if kind != "shuffle" else random.shuffle([1, 2, 3])


@pytest.mark.parametrize(
    ("kind", "generator"),
    [("random", "random"), ("numpy.random", "numpy.random"), ("shuffle", "random")],
)
def test_the_first_draw_outside_a_stream_is_located_by_file_and_line(kind, generator):
    watch = GlobalsWatch(locate=True)
    tracer = sys.gettrace()
    STREAMS.set_globals("dropout", 0)
    watch.arm()
    sum(range(5))
    leak_deep(kind)
    random.random()
    assert generator in watch.check()
    assert sys.gettrace() is tracer
    assert watch.first is not None
    line = leak_deep.__code__.co_firstlineno + 1
    assert watch.first == f"{os.path.relpath(__file__)}:{line} (leak_deep) drew from {generator}"


def test_a_draw_inside_a_library_names_the_line_of_the_project():
    watch = GlobalsWatch(locate=True)
    layer = torch.nn.Dropout(0.5)
    watch.arm()
    layer(torch.ones(8))
    watch.check()
    assert watch.first is not None
    assert watch.first.startswith(f"{os.path.relpath(__file__)}:")
    assert watch.first.endswith("drew from torch")
