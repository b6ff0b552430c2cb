import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.sampled_from([None, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_windows_by_definition(count, length, horizon, step, features):
    series = np.random.default_rng(count).normal(size=(count,) if features is None else (count, features))
    if count < length + horizon:
        with pytest.raises(fx.DataError, match=f"at least {length + horizon} values .* got {count}"):
            fx.timeseries_windows(series, length, horizon=horizon, step=step)
        return
    x, y = fx.timeseries_windows(series, length, horizon=horizon, step=step)
    starts = [i for i in range(0, count, step) if i + length + horizon <= count]
    expected = np.stack([series[i : i + length] for i in starts])
    np.testing.assert_array_equal(x, expected if features else expected[..., None])
    np.testing.assert_array_equal(y, np.stack([series[i + length : i + length + horizon] for i in starts]))
    assert np.shares_memory(x, series) and np.shares_memory(y, series)
    assert not x.flags.writeable and not y.flags.writeable


def test_no_future_in_the_past():
    time = np.arange(50)
    x, y = fx.timeseries_windows(time, 7, horizon=3, step=2)
    assert (x.max((1, 2)) < y.min(1)).all() and (y[:, 0] - x[:, -1, 0] == 1).all()


def test_targets():
    table = pl.DataFrame({"a": np.arange(6.0), "b": np.arange(6.0) * 10, "c": np.arange(6.0) * 100})
    x, y = fx.timeseries_windows(table, 4, target="b")
    assert x.shape == (2, 4, 3) and y.tolist() == [[40], [50]]
    _, y = fx.timeseries_windows(table, 4, target=["c", "a"])
    assert y.tolist() == [[[400, 4]], [[500, 5]]]
    _, y = fx.timeseries_windows(table.to_numpy(), 4, target=2)
    assert y.tolist() == [[400], [500]]
    x, y = fx.timeseries_windows(table["b"], 4, horizon=2)
    assert x.shape == (1, 4, 1) and y.tolist() == [[40, 50]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fx.timeseries_windows(np.zeros(5), 0), fx.ArgumentError, "length: expected .* of at least 1"),
        (lambda: fx.timeseries_windows(np.zeros(5), 2, horizon=0), fx.ArgumentError, "horizon"),
        (lambda: fx.timeseries_windows(np.zeros((5, 2, 2)), 2), fx.ShapeError, r"\(T,\) or \(T, features\)"),
        (lambda: fx.timeseries_windows(list("abcde"), 2), fx.DTypeError, "expected numbers"),
        (lambda: fx.timeseries_windows(np.zeros((5, 2)), 2, target=2), fx.ArgumentError, "between 0 and 1"),
        (lambda: fx.timeseries_windows(np.zeros((5, 2)), 2, target="a"), fx.ArgumentError, "in an array, got 'a'"),
        (lambda: fx.timeseries_windows(pl.DataFrame({"ab": [1, 2, 3]}), 1, target="a"), fx.DataError, "mean 'ab'"),
    ],
)  # fmt: skip
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
