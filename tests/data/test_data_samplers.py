import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx


def test_weighted_draws_follow_the_weights():
    weights = np.array([0.0, 1.0, 2.0, 5.0])
    sampler = fx.WeightedSampler(weights, count=8000)
    counts = np.bincount(sampler.order(3, 0), minlength=4)
    expected = weights[1:] / weights.sum() * 8000
    chi_square = ((counts[1:] - expected) ** 2 / expected).sum()
    assert counts[0] == 0 and chi_square < 13.8  # 2 degrees of freedom, p = 0.001
    assert (sampler.order(3, 0) == sampler.order(3, 0)).all()
    assert (sampler.order(3, 0) != sampler.order(3, 1)).any() and (sampler.order(3, 0) != sampler.order(4, 0)).any()
    once = fx.WeightedSampler(weights, count=3, replace=False)
    assert sorted(once.order(0, 0).tolist()) == [1, 2, 3]


def test_weighted_draws_without_repetition_follow_what_is_left():
    weights = np.array([1.0, 2.0, 7.0]) / 10
    sampler = fx.WeightedSampler(weights, count=2, replace=False)
    draws = [tuple(sampler.order(0, epoch).tolist()) for epoch in range(2000)]
    for i, j in [(2, 1), (1, 2), (2, 0)]:
        expected = weights[i] * weights[j] / (1 - weights[i])
        assert abs(draws.count((i, j)) / 2000 - expected) < 3.5 * np.sqrt(expected * (1 - expected) / 2000)


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), count=st.integers(1, 60), epoch=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_balanced_draws_are_even_over_classes_and_within_them(sizes, count, epoch):
    labels = np.repeat(np.arange(len(sizes)), sizes)[::-1]
    order = fx.BalancedSampler(labels, count=count).order(1, epoch)
    assert len(order) == count
    per_class = np.bincount(labels[order], minlength=len(sizes))
    assert per_class.max() - per_class.min() <= 1
    uses = np.bincount(order, minlength=len(labels))
    for k in range(len(sizes)):
        assert np.ptp(uses[labels == k]) <= 1


def test_balanced_draws_are_in_random_order():
    order = fx.BalancedSampler(["a"] * 90 + ["b"] * 10).order(0, 0)
    first = (order[:50] >= 90).sum()
    assert (
        14 <= first <= 36
    )  # 25 expected, three standard deviations of the hypergeometric distribution: 10.6 around it
    thinned = {tuple(sorted(set(fx.BalancedSampler([0] * 90 + [1] * 10).order(0, e).tolist()))) for e in range(3)}
    assert len(thinned) == 3  # other observations of the common class in each epoch


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=80),
    size=st.integers(1, 9),
    pool=st.integers(1, 20),
    epoch=st.integers(0, 2),
)
@settings(max_examples=30, deadline=None)
def test_batches_by_length_hold_every_observation_once(lengths, size, pool, epoch):
    batches = fx.LengthSampler(lengths, size, pool=pool).order(7, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1) and len(batches) == -(-len(lengths) // size)


def test_batches_by_length_are_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 1000, 640)
    loader = fx.DataLoader(lengths, sampler=fx.LengthSampler(lengths, 32), seed=0)
    padding = lambda batches: sum(len(b) * b.max() - b.sum() for b in batches) / lengths.sum()
    random = fx.DataLoader(lengths, batch_size=32, shuffle=True, seed=0)
    assert padding(list(loader)) < 0.06 < 0.8 < padding(list(random))
    assert len(loader) == 20 and loader.count == 640
    means = [b.mean() for b in loader]
    assert means != sorted(means)  # short and long batches come mixed
    assert loader.indices(0).shape == (640,) and repr(loader).endswith("seed=0)  # 640 observations in 20 batches")
    sorted_fully = fx.LengthSampler([3, 1, 2, 4], 2)
    assert sorted(sorted(np.array([3, 1, 2, 4])[b].tolist()) for b in sorted_fully.order(0, 0)) == [[1, 2], [3, 4]]


class Own:
    def __init__(self, *orders):
        self.orders = orders

    def order(self, seed, epoch):
        return self.orders[min(epoch, len(self.orders) - 1)]


def test_a_sampler_of_ones_own():
    x = np.arange(5) * 10
    loader = fx.DataLoader(x, batch_size=2, sampler=Own([4, 4, 1]), seed=0)
    assert [b.tolist() for b in loader] == [[40, 40], [10]] and len(loader) == 2 and loader.count == 3
    batches = fx.DataLoader((x, list("abcde")), sampler=Own([[0, 1, 2], [4]]), seed=0)
    assert [(b.tolist(), s) for b, s in batches] == [([0, 10, 20], ["a", "b", "c"]), ([40], ["e"])]
    assert [b.tolist() for b, _ in batches.batches(0, 1)] == [[40]]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fx.WeightedSampler([[1.0]]), fx.ShapeError, r"one weight per observation, got shape \(1, 1\)"),
        (lambda: fx.WeightedSampler([1, -1]), fx.DataError, "at least 0, got -1.0 at index 1"),
        (lambda: fx.WeightedSampler([1, np.nan]), fx.DataError, "got nan at index 1"),
        (lambda: fx.WeightedSampler([0, 0]), fx.DataError, "a weight above 0, got none"),
        (lambda: fx.WeightedSampler([0, 1], count=2, replace=False), fx.ArgumentError, "at most 1 draws"),
        (lambda: fx.WeightedSampler([1], count=0), fx.ArgumentError, "count: expected"),
        (lambda: fx.BalancedSampler([0.0, np.nan]), fx.DataError, "got NaN at index 1"),
        (lambda: fx.BalancedSampler([[0, 1]]), fx.ShapeError, "BalancedSampler: expected labels to hold one label"),
        (lambda: fx.BalancedSampler([]), fx.ShapeError, "BalancedSampler: expected labels"),
        (lambda: fx.LengthSampler([], 2), fx.DataError, "at least one length"),
        (lambda: fx.LengthSampler(["a"], 2), fx.DTypeError, "lengths as numbers"),
        (lambda: fx.LengthSampler([[1]], 2), fx.ShapeError, "one length per observation"),
        (lambda: fx.LengthSampler([1], 0), fx.ArgumentError, "batch_size"),
        (lambda: loaded(shuffle=True), fx.ArgumentError, "either shuffle or a sampler"),
        (
            lambda: fx.DataLoader(np.ones(3), sampler=[0, 1]),
            fx.DTypeError,
            r"a method order\(seed, epoch\), got \[0, 1",
        ),
        (
            lambda: loaded(Own([[0], [1]]), batch_size=2),
            fx.ArgumentError,
            "Own makes the batches. Leave out batch_size",
        ),
        (lambda: loaded(Own([3])), fx.DataError, "Own.order: expected indices between 0 and 2, got 3"),
        (lambda: loaded(Own([-1])), fx.DataError, "got -1"),
        (lambda: loaded(Own([0.5])), fx.DTypeError, r"got float64\(1,\)"),
        (lambda: loaded(Own([])), fx.DTypeError, "expected indices or a list"),
        (lambda: loaded(Own(np.zeros(0, int))), fx.DataError, "at least one index for epoch 0"),
        (
            lambda: list(loaded(Own([0, 1], [0])).batches(1)),
            fx.DataError,
            "expected 2 observations, as in epoch 0, got 1",
        ),
        (lambda: list(loaded(Own([[0], [1]], [[0]])).batches(1)), fx.DataError, "expected 2 batches, as in epoch 0"),
        (lambda: fx.oversample(np.ones(3)), fx.ArgumentError, "oversample: expected labels, or data as a tuple"),
        (lambda: fx.oversample(np.ones(3), [0, 1]), fx.ShapeError, "oversample: expected labels to hold one label"),
        (lambda: fx.undersample((np.ones(3), np.ones(3)), fraction=0), fx.ArgumentError, "a fraction above 0"),
        (lambda: fx.undersample((np.ones(3), np.ones(3)), fraction="a"), fx.DTypeError, "fraction as a number"),
        (lambda: fx.oversample((np.ones(3), np.ones(3)), seed=-1), fx.ArgumentError, "oversample: seed"),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def loaded(sampler=None, **options):
    sampler = sampler or fx.BalancedSampler([0, 1, 1])
    return fx.DataLoader(np.ones(3), sampler=sampler, seed=0, **options)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    fraction=st.sampled_from([0.3, 0.5, 1.0]),
    shuffle=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_resampled_classes_have_the_numbers_of_mlutils(sizes, fraction, shuffle):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    n = len(labels)
    x, y = fx.oversample((np.arange(n), labels), fraction=fraction, shuffle=shuffle, seed=2)
    wanted = round(fraction * max(sizes))
    np.testing.assert_array_equal(np.bincount(y), np.maximum(sizes, wanted))
    np.testing.assert_array_equal(labels[x], y)
    uses = np.bincount(x, minlength=n)
    assert uses.min() >= 1 and all(np.ptp(uses[labels == k]) <= 1 for k in range(len(sizes)))
    if not shuffle:
        assert x[:n].tolist() == list(range(n)) and (np.diff(y[n:]) >= 0).all()  # the rest at the end, by class
    x, y = fx.undersample((np.arange(n), labels), fraction=fraction, shuffle=shuffle, seed=2)
    np.testing.assert_array_equal(np.bincount(y), np.minimum(sizes, int(min(sizes) / fraction)))
    np.testing.assert_array_equal(labels[x], y)
    assert len(set(x.tolist())) == len(x) and (shuffle or (np.diff(x) > 0).all())


def test_resampled_data_keep_their_container():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2, 3], "kind": ["x", "y", "y"]})
    table, kinds = fx.oversample(frame, frame["kind"], seed=0)
    assert isinstance(table, polars.DataFrame) and table["kind"].to_list() == kinds.to_list()
    assert sorted(table["kind"].to_list()) == ["x", "x", "y", "y"]
    data, labels = fx.undersample({"v": np.arange(3)}, [0, 1, 1], seed=0)
    assert set(data) == {"v"} and sorted(labels) == [0, 1]
    first = fx.oversample((np.arange(9), np.arange(9) > 1), seed=1)[0]
    assert first.tolist() == fx.oversample((np.arange(9), np.arange(9) > 1), seed=1)[0].tolist()
    assert first.tolist() != fx.oversample((np.arange(9), np.arange(9) > 1), seed=2)[0].tolist()
