"""Seeds and streams, as a run uses them."""

import random

import numpy as np
import pytest
import torch

from saigen.config.compose import compose
from saigen.data.order import Order
from saigen.data.orders import Permuted
from saigen.streams import Streams
from saigen.training.build import build_model


def composed(*overrides):
    return compose(overrides).config


def weights(config):
    return build_model(config, Streams(config.randomness.streams)).state_dict()


def order(config):
    ordering = Permuted(samples=1255, arrays={})
    return Order(Streams(config.randomness.streams), ordering, 1255, 0).indices(0, 1255)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def script(draws_before: int, *, seeded_at_the_top: bool):
    """A script that draws some numbers, then builds the model."""
    config = composed()
    if seeded_at_the_top:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
    for _ in range(draws_before):
        random.random(), np.random.rand(), torch.rand(1)
    if seeded_at_the_top:
        from saigen.config.callables import instantiate

        return instantiate(config.model).state_dict()
    return weights(config)


def test_the_trap_a_seed_at_the_top_gives_other_weights_after_other_draws():
    assert not same(script(1, seeded_at_the_top=True), script(2, seeded_at_the_top=True))


def test_the_cure_the_init_stream_gives_the_same_weights_after_any_draws():
    assert same(script(1, seeded_at_the_top=False), script(2, seeded_at_the_top=False))


def test_zero_is_a_seed():
    zero, again, one = composed("randomness.seed=0"), composed(), composed("randomness.seed=1")
    assert same(weights(zero), weights(again))
    assert not same(weights(zero), weights(one))


def test_changing_the_order_seed_leaves_the_initial_weights():
    base, other = composed(), composed("randomness.streams.order=5")
    assert same(weights(base), weights(other))
    assert (order(base) != order(other)).any()


def test_changing_the_init_seed_leaves_the_order():
    base, other = composed(), composed("randomness.streams.init=5")
    assert not same(weights(base), weights(other))
    assert (order(base) == order(other)).all()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
@pytest.mark.parametrize("workers", [1, 2])
def test_augmentation_does_not_depend_on_loader_workers(tmp_path, workers):
    from saigen.data.loader import Loader, Reader

    class Noisy:
        def __len__(self):
            return 64

        def __getitem__(self, index, generator):
            parts = [generator.random(), np.random.rand(), random.random(), torch.rand(1).item()]
            return {"x": np.array([index, *parts])}

    streams = Streams({"augment": 3})
    rows = lambda start: np.arange(start, start + 4)  # noqa: E731
    places = [(epoch, rows(start), rows(start)) for epoch in (0, 1) for start in (0, 8, 16)]

    def read(count):
        reader = Reader(Noisy(), None, None)
        loader = Loader(
            reader, streams, repeats=False, workers=count, pinned=False, timeout_seconds=60
        )
        return [batch["x"] for batch in loader.batches(iter(places))]

    alone, shared = read(0), read(workers)
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    # another epoch draws other numbers for the same samples, another sample others too
    assert not torch.equal(alone[0][:, 1:], alone[3][:, 1:])
    assert len({value.item() for batch in alone for value in batch[:, 1]}) == 24


def test_iterating_a_loader_draws_nothing_from_the_global_generator():
    from saigen.data.loader import Loader, Reader

    class Plain:
        def __len__(self):
            return 8

        def __getitems__(self, indices):
            return {"x": np.asarray(indices)}

    torch.manual_seed(1)
    before = torch.get_rng_state()
    for workers in (0, 1):
        loader = Loader(
            Reader(Plain(), None, None), Streams({"augment": 0}), repeats=False,
            workers=workers, pinned=False, timeout_seconds=60,
        )  # fmt: skip
        list(loader.batches(iter([(0, np.arange(4), np.arange(4))])))
    assert torch.equal(before, torch.get_rng_state())
