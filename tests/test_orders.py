"""Orders of `data.order` are functions of (key, epoch, position); what is none is refused."""

import numpy as np
import pytest

from saigen.data import orders
from saigen.data.order import sample_index
from saigen.errors import Refusal
from saigen.streams import Streams

N = 1000
LABELS = np.repeat([3, 5, 9], [900, 90, 10])
ARRAYS = {
    "label": LABELS,
    "weight": np.where(LABELS == 9, 3.0, np.where(LABELS == 5, 1.0, 0.0)),
    "length": np.arange(N) * 7 % 101,
    "pair": np.zeros((N, 2)),
    "text": np.array(["a"] * N),
}
KEYS = [Streams({"order": 0}).key("order", epoch) for epoch in range(3)]
MADE = {
    "Permuted": {},
    "Sequential": {},
    "Contiguous": {"batch_size": 32},
    "Bucketed": {"by": "length", "batch_size": 32, "bucket_batches": 5},
    "Weighted": {"by": "weight"},
    "Balanced": {"by": "label"},
    "Repeated": {"repeats_each": 3},
}


def made(name, **changed):
    return getattr(orders, name)(samples=N, arrays=ARRAYS, **{**MADE[name], **changed})


def whole(order, epoch=0):
    return order(KEYS[epoch], epoch, np.arange(len(order)))


@pytest.mark.parametrize("name", MADE)
def test_a_sample_hangs_on_key_and_position_alone(name):
    order = made(name)
    found = whole(order)
    assert orders.check_ordering(order, N) == len(found)
    scattered = np.random.default_rng(1).integers(0, len(order), 300)
    for asked in (scattered, scattered[::-1], scattered[:1], scattered[:0]):
        again = made(name)  # nothing is remembered of what was asked before
        assert np.array_equal(again(KEYS[0], 0, asked), found[asked])
    assert found.min() >= 0
    assert found.max() < N


@pytest.mark.parametrize("name", ["Permuted", "Sequential", "Contiguous", "Bucketed"])
def test_no_sample_stands_twice_where_the_order_says_so(name):
    order = made(name)
    assert not order.repeats
    assert len(set(whole(order).tolist())) == len(order)


@pytest.mark.parametrize("name", ["Permuted", "Bucketed", "Weighted", "Balanced", "Repeated"])
def test_epochs_and_seeds_differ(name):
    order = made(name)
    assert len({whole(order, epoch).tobytes() for epoch in range(3)}) == 3


def test_the_default_is_the_permutation_that_it_always_was():
    assert np.array_equal(whole(made("Permuted")), sample_index(KEYS[0], N, np.arange(N)))


def test_rows_of_contiguous_windows_go_on_where_they_ended():
    order = made("Contiguous")
    batches = whole(order).reshape(-1, 32)
    assert len(order) == 992
    assert (np.diff(batches, axis=0) == 1).all()
    assert np.array_equal(batches[0], np.arange(32) * 31)


def test_a_batch_of_a_bucketed_order_holds_like_lengths():
    batches = ARRAYS["length"][whole(made("Bucketed"))][: 31 * 32].reshape(31, 32)
    permuted = ARRAYS["length"][whole(made("Permuted"))][: 31 * 32].reshape(31, 32)
    spread = lambda rows: float(np.ptp(rows, axis=1).mean())  # noqa: E731
    assert spread(batches) < spread(permuted) / 3
    assert len({rows.min() for rows in batches[:5]}) == 5


def test_weights_are_the_frequencies_of_a_weighted_order():
    drawn = LABELS[np.concatenate([whole(made("Weighted"), epoch) for epoch in range(3)])]
    # 10 samples of weight 3 among 90 of weight 1: a quarter, give or take four deviations
    assert abs((drawn == 9).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(drawn))
    assert not (drawn == 3).any()


def test_classes_are_equally_frequent_and_their_samples_too():
    drawn = whole(made("Balanced"))
    labels = LABELS[drawn]
    assert {tuple(sorted(labels[at : at + 3])) for at in range(0, 999, 3)} == {(3, 5, 9)}
    assert len({tuple(labels[at : at + 3]) for at in range(0, 999, 3)}) == 6
    _, counts = np.unique(drawn[labels == 9], return_counts=True)
    assert counts.max() - counts.min() <= 1


def test_repetitions_stand_in_a_row():
    drawn = whole(made("Repeated"))[:999].reshape(-1, 3)
    assert (drawn == drawn[:, :1]).all()
    assert len(set(drawn[:, 0].tolist())) == len(drawn)


def test_uniform_numbers_are_uniform_and_a_place_is_its_own():
    found = orders.uniform(KEYS[0], np.arange(100_000))
    assert abs(found.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02
    assert found.min() >= 0
    assert found.max() < 1
    # golden: these are the format
    assert orders.uniform(7, np.array([0, 1, 10**12])).tolist() == GOLDEN


GOLDEN = [0.7215081806049702, 0.266645678882962, 0.1513412280716112]


@pytest.mark.parametrize("name", ["Weighted", "Balanced", "Bucketed"])
@pytest.mark.parametrize("by", ["nothing", "pair", "text"])
def test_an_array_that_gives_no_order_is_refused_by_name(name, by):
    with pytest.raises(Refusal, match=f"the array '{by}' gives no {name.lower()} order") as raised:
        made(name, by=by)
    assert raised.value.where == "data.order.by"


@pytest.mark.parametrize("weights", [np.zeros(N), np.full(N, -1.0), np.full(N, np.nan)])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(Refusal, match="gives no weighted order"):
        orders.Weighted(samples=N, arrays={"w": weights}, by="w")


class Counting:
    """An order with a state."""

    def __init__(self):
        self.asked = 0

    def __call__(self, key, epoch, positions):
        self.asked += 1
        return (positions + self.asked) % N


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Counting(), r"a function of \(key, epoch, position\)"),
        (lambda key, epoch, positions: np.sort(positions)[::-1] * 0 + len(positions), "a function"),
        (lambda key, epoch, positions: positions + 1, "samples from 0 to 999"),
        (lambda key, epoch, positions: positions - 1, "samples from 0 to 999"),
        (lambda key, epoch, positions: positions[:-1], "as many samples as there are positions"),
        (lambda key, epoch, positions: positions.tolist(), "as many samples as there are"),
        (lambda key, epoch, positions: positions / 2, "samples as whole numbers"),
        (type("Empty", (), {"__len__": lambda _: 0, "__call__": lambda *_: 0})(), "at least one"),
    ],
)
def test_what_is_no_order_is_refused_by_line(order, expected):
    with pytest.raises(Refusal, match="does not say which sample stands where") as raised:
        orders.check_ordering(order, N)
    assert expected.replace("\\", "") in raised.value.expected
    assert "data.order: tests/test_orders.py" in raised.value.where or "Empty" in raised.value.where
