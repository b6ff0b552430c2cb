from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.data.arrays import getobs, numobs


class Pair(NamedTuple):
    x: object
    y: object


def test_batch_stacks_like_numpy():
    rows = [np.arange(3.0) + i for i in range(4)]
    np.testing.assert_array_equal(fx.batch(rows), np.stack(rows))
    assert fx.batch([1, 2]).dtype == np.asarray([1, 2]).dtype
    assert isinstance(fx.batch([jnp.ones(2), np.ones(2)]), jax.Array)
    np.testing.assert_array_equal(fx.batch([[1, 2], [3, 4]]), [[1, 2], [3, 4]])


def test_batch_keeps_the_container():
    pair = fx.batch([Pair(np.ones(2), i) for i in range(3)])
    assert type(pair) is Pair and pair.x.shape == (3, 2) and pair.y.tolist() == [0, 1, 2]
    nested = fx.batch([{"a": (1, np.zeros(2)), "b": "u"}, {"b": "v", "a": (2, np.ones(2))}])
    assert nested["a"][0].tolist() == [1, 2] and nested["a"][1].shape == (2, 2) and nested["b"] == ["u", "v"]
    arrays = fx.batch([[np.ones(1), np.zeros(2)]] * 3)
    assert type(arrays) is list and [a.shape for a in arrays] == [(3, 1), (3, 2)]
    assert fx.batch([(1,), (2,)])[0].tolist() == [1, 2]


@given(st.lists(st.lists(st.floats(allow_nan=False), min_size=2, max_size=2), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_unbatch_undoes_batch(rows):
    items = [{"x": np.array(row), "y": (i,)} for i, row in enumerate(rows)]
    back = fx.unbatch(fx.batch(items))
    assert len(back) == len(items)
    for one, two in zip(items, back, strict=True):
        np.testing.assert_array_equal(one["x"], two["x"])
        assert one["y"] == two["y"]


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([], fx.DataError, "expected at least one observation"),
        ([np.ones(2), np.ones(3)], fx.ShapeError, r"got \(2,\) in observation 0 and \(3,\) in observation 1"),
        ([(1, np.ones(2)), (1, np.ones(3))], fx.ShapeError, r"\(2,\) in observation 0\[1\] and \(3,\)"),
        ([(1, 2), (1,)], fx.ShapeError, "got a tuple of 2 in observation 0 and a tuple of 1 in observation 1"),
        ([{"a": 1}, {"b": 1}], fx.ShapeError, r"a dict of \['a'\] in observation 0 and a dict of \['b'\]"),
        ([{"a": None}], fx.DTypeError, r"got None of type NoneType in observation 0\['a'\]"),
        ([[1, [2, 3]]], fx.DTypeError, "expected numbers or arrays"),
        ([object()], fx.DTypeError, "give `collate` a function"),
    ],
)
def test_batch_refuses(items, error, message):
    with pytest.raises(error, match=message):
        fx.batch(items)


def test_numobs_and_getobs():
    data = {"x": np.arange(6).reshape(3, 2), "y": (jnp.arange(3), ["a", "b", "c"])}
    assert numobs(data) == 3
    taken = getobs(data, np.array([2, 0]))
    assert taken["x"].tolist() == [[4, 5], [0, 1]] and taken["y"][1] == ["c", "a"]
    assert isinstance(taken["y"][0], jax.Array) and taken["y"][0].tolist() == [2, 0]
    sliced = getobs(data, slice(1, 3))
    assert sliced["y"][0].tolist() == [1, 2] and sliced["y"][1] == ["b", "c"]
    assert np.shares_memory(sliced["x"], data["x"])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((np.ones(3), np.ones(4)), fx.ShapeError, r"got 3 in data\[0\] and 4 in data\[1\]"),
        ({"x": np.ones(3), "y": [1]}, fx.ShapeError, r"got 3 in data\['x'\] and 1 in data\['y'\]"),
        (Pair(np.ones(3), np.ones(4)), fx.ShapeError, r"data\.x and 4 in data\.y"),
        ([np.ones(3), np.ones(4)], fx.ShapeError, "stack a list of observations with fx.batch"),
        ("text", fx.DTypeError, "got 'text' of type str"),
        (3, fx.DTypeError, "got 3 of type int"),
        (None, fx.DTypeError, "got None"),
        (np.float32(1), fx.DTypeError, "float32"),
        (np.array(1.0), fx.DTypeError, "got a scalar array"),
        ((np.ones(3), 1), fx.DTypeError, r"numobs\[1\]: expected an array"),
        ((i for i in range(3)), fx.DTypeError, "Make a list of it first"),
        ({1, 2}, fx.DTypeError, "of type set"),
        ((), fx.DataError, "got an empty tuple"),
        ({}, fx.DataError, "got an empty dict"),
    ],
)
def test_numobs_refuses(data, error, message):
    with pytest.raises(error, match=message):
        numobs(data)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_normalize_is_the_closed_form(axis, kind):
    x = np.random.default_rng(0).normal(3, 2, (4, 3, 5)).astype(np.float32)
    expected = (x - x.mean(axis, keepdims=True)) / (x.std(axis, keepdims=True) + 1e-2)
    y = fx.normalize(kind(x), axis=axis, eps=1e-2)
    assert isinstance(y, jax.Array) == (kind is jnp.asarray) and y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=1e-6)


def test_normalize_of_integers_constants_and_long_columns():
    assert fx.normalize(np.array([1, 3])).dtype == np.float32
    np.testing.assert_allclose(fx.normalize(np.array([True, False])), [1, -1], rtol=1e-4)
    np.testing.assert_array_equal(fx.normalize(np.full((3, 2), 7.0)), 0)
    assert np.isnan(fx.normalize(np.array([1.0, np.nan]))).all()
    long = np.tile(np.array([10000.0, 10001.0], np.float32), 200_000)
    np.testing.assert_allclose(fx.normalize(long, eps=0.0)[:2], [-1, 1], rtol=1e-3)
    np.testing.assert_allclose(np.std(fx.normalize(np.arange(5) * 1j, eps=0.0)), 1, rtol=1e-6)


def test_normalize_has_a_gradient():
    # Adding a constant does not change the result: the gradient along the ones is zero.
    g = jax.grad(lambda x: (fx.normalize(x) * jnp.arange(4.0)).sum())(jnp.array([1.0, 5.0, 2.0, 0.0]))
    np.testing.assert_allclose(g.sum(), 0, atol=1e-6)


def test_normalize_refuses():
    with pytest.raises(fx.ArgumentError, match="expected an axis between -2 and 1, got 2"):
        fx.normalize(np.ones((2, 2)), axis=2)
    with pytest.raises(fx.ShapeError, match=r"got an array of shape \(0, 2\)"):
        fx.normalize(np.ones((0, 2)))
    with pytest.raises(fx.DTypeError, match="expected an array of numbers"):
        fx.normalize(np.array(["a"]))
