from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx


class Pair(NamedTuple):
    x: object
    y: object


class Squares:
    def __init__(self, count=10):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.read.append(i)
        return i * i


def test_mapobs_is_lazy_and_sees_whole_observations():
    squares = Squares()
    data = fx.mapobs(lambda v: v + 1, squares)
    assert len(data) == 10 and squares.read == [] and data[3] == 10 and data[-1] == 82 and squares.read == [3, 9]
    assert list(data) == [i * i + 1 for i in range(10)]
    pairs = fx.mapobs(lambda p: {"sum": p.x + p.y}, Pair(np.arange(4), [10, 20, 30, 40]))
    batch = next(iter(fx.DataLoader(pairs, batch_size=3)))
    assert batch["sum"].tolist() == [10, 21, 32]
    assert repr(fx.mapobs(len, ["a"])) == "mapobs(len, list)  # 1 observations"
    with pytest.raises(IndexError):
        data[10]
    left, right = fx.splitobs(fx.mapobs(abs, [-1, -2, -3, -4]), 0.5)
    assert list(left) == [1, 2] and list(right) == [3, 4]


def test_filterobs_keeps_the_container():
    polars = pytest.importorskip("polars")
    data = Pair(np.arange(6), jnp.arange(6) * 10)
    kept = fx.filterobs(lambda p: p.x % 2 == 1, data)
    assert isinstance(kept, Pair) and kept.x.tolist() == [1, 3, 5] and kept.y.tolist() == [10, 30, 50]
    assert fx.filterobs(str.isupper, ["a", "B", "C"]) == ["B", "C"]
    lazy = fx.filterobs(lambda v: v > 20, Squares())
    assert len(lazy) == 5 and lazy[0] == 25
    frame = polars.DataFrame({"a": [1, 2, 3]})
    assert fx.filterobs(lambda row: row["a"][0] > 1, frame)["a"].to_list() == [2, 3]
    with pytest.raises(fx.DataError, match="expected some observations to be left, got none of 6"):
        fx.filterobs(lambda p: False, data)


def test_groupby_matches_polars():
    polars = pytest.importorskip("polars")
    kinds = ["b", "a", "b", "c", "a", "b"]
    frame = polars.DataFrame({"kind": kinds, "v": range(6)})
    theirs = {k[0]: g["v"].to_list() for k, g in frame.group_by("kind", maintain_order=True)}
    for ours in (
        fx.groupby(frame["kind"], frame),
        fx.groupby(np.array(kinds), frame),
        fx.groupby(lambda row: row["kind"][0], frame),
    ):
        assert {k: g["v"].to_list() for k, g in ours.items()} == theirs and list(ours) == ["b", "a", "c"]
    groups = fx.groupby(lambda p: p.y > 2, Pair(np.arange(4), jnp.arange(4)))
    assert list(groups) == [False, True] and groups[False].x.tolist() == [0, 1, 2] and isinstance(groups[True], Pair)
    assert list(fx.groupby(lambda v: v % 2, Squares(5))[1]) == [1, 9]


@given(
    count=st.integers(1, 20),
    size=st.integers(1, 20),
    stride=st.integers(1, 5),
    rank=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None)
def test_windows_are_slices(count, size, stride, rank):
    x = np.arange(count * 2 ** (rank - 1)).reshape(count, *[2] * (rank - 1))
    if size > count:
        with pytest.raises(fx.DataError, match=f"at least {size} observations for one window, got {count}"):
            fx.slidingwindow(x, size, stride)
        return
    expected = [x[i : i + size] for i in range(0, count - size + 1, stride)]
    windows = fx.slidingwindow(x, size, stride)
    np.testing.assert_array_equal(windows, np.stack(expected))
    listed = fx.slidingwindow(x.tolist(), size, stride)
    assert len(listed) == len(expected) and list(listed) == [e.tolist() for e in expected]
    lazy = fx.slidingwindow(Squares(count), size, stride)
    np.testing.assert_array_equal(
        np.stack(list(lazy)), np.stack(list(fx.slidingwindow(np.arange(count) ** 2, size, stride)))
    )


def test_windows_take_no_memory_and_make_whole_batches():
    series = Pair(np.arange(1000.0), np.arange(1000) * 2)
    windows = fx.slidingwindow(series, 100)
    assert isinstance(windows, Pair) and np.shares_memory(windows.x, series.x)
    loader = fx.DataLoader(windows, batch_size=64, shuffle=True, seed=0)
    for x, y in loader.batches(0):
        np.testing.assert_array_equal(np.diff(x, axis=1), 1)
        np.testing.assert_array_equal(y, 2 * x)
    assert x.flags.c_contiguous
    on_device = fx.slidingwindow(jnp.arange(7), 3, 2)
    assert isinstance(on_device, jax.Array) and on_device.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    np.testing.assert_array_equal(x[:, 0], loader.indices(0)[-len(x) :])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fx.mapobs(3, [1]), fx.DTypeError, "mapobs: expected a function of an observation, got 3"),
        (lambda: fx.mapobs(abs, 3), fx.DTypeError, "mapobs: expected an array"),
        (lambda: fx.filterobs(None, [1]), fx.DTypeError, "filterobs: expected a function"),
        (lambda: fx.groupby([1], [1, 2]), fx.ShapeError, "a group for each of 2 observations, got 1"),
        (lambda: fx.groupby(lambda v: [v], [1, 2]), fx.DTypeError, "got a list for observation 0"),
        (lambda: fx.slidingwindow([1], 0), fx.ArgumentError, "slidingwindow: size"),
        (lambda: fx.slidingwindow([1], 1, 0), fx.ArgumentError, "slidingwindow: stride"),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@given(count=st.integers(2, 60), k=st.integers(2, 8), gap=st.integers(0, 4), most=st.none() | st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_folds_in_time_have_the_sizes_of_scikit_learn(count, k, gap, most):
    size = count // (k + 1)
    if size == 0 or count - k * size - gap <= 0:
        with pytest.raises(fx.DataError, match=f"for {k} folds with a gap of {gap}, got {count}"):
            fx.timeseries_kfolds(count, k, gap=gap, max_train=most)
        return
    folds = fx.timeseries_kfolds(count, k, gap=gap, max_train=most)
    starts = range(count - k * size, count, size)  # TimeSeriesSplit: n_samples - n_splits * test_size, ...
    assert len(folds) == k
    for (train, held), start in zip(folds, starts, strict=True):
        end = start - gap
        first = end - most if most and most < end else 0
        assert train.tolist() == list(range(first, end)) and held.tolist() == list(range(start, start + size))


def test_folds_in_time_keep_the_container():
    data = Pair(np.arange(10), [*"abcdefghij"])
    (train, held), *_ = fx.timeseries_kfolds(data, 4, gap=1)
    assert isinstance(train, Pair) and train.x.tolist() == [0] and train.y == ["a"]
    assert held.x.tolist() == [2, 3] and held.y == ["c", "d"]
    assert np.shares_memory(train.x, data.x)
    with pytest.raises(fx.ArgumentError, match="timeseries_kfolds: k"):
        fx.timeseries_kfolds(10, 1)
    with pytest.raises(fx.ArgumentError, match="max_train"):
        fx.timeseries_kfolds(10, 2, max_train=0)
