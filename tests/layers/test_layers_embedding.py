"""Embedding and EmbeddingBag: torch's numbers and gradients, and no clamped or wrapped index."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.ops.checks import checking
from fluxion.tree.model import with_trainables

torch = pytest.importorskip("torch", reason="torch is the outside reference")
F = torch.nn.functional

IDS = np.array([[1, 2, 0, 5], [4, 4, 3, 2]])


randomized = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # to shrink a failure would compile for minutes
)
size = st.integers(1, 5)


@randomized
@given(size, size, st.lists(size, max_size=2), st.data())
def test_embedding_is_torchs(x64, vocabulary, features, shape, data):
    """Indices and one-hot rows of them; with and without a row that gets no gradient."""
    padding = data.draw(st.integers(0, vocabulary - 1))
    layers = {index: fx.Embedding(vocabulary, features, padding_index=index) for index in (None, padding)}
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    ids = random.integers(0, vocabulary, shape)

    def ours(ids, weight, again):
        hot = jax.nn.one_hot(ids, vocabulary)
        return [
            with_trainables(layers[index], [w])(x) ** 2
            for index, w in ((None, weight), (padding, again))
            for x in (ids, hot)
        ]

    def theirs(ids, weight, again):
        each = F.embedding(ids, weight) ** 2, F.embedding(ids, again, padding_idx=padding) ** 2
        return each[0], each[0], each[1], each[1]

    weights = random.normal(size=(2, vocabulary, features))
    same_as_torch(ours, theirs, ids, *weights)


def test_the_padding_row_stays_zero():
    layer = fx.Embedding(6, 3, padding_index=2, init=fx.ones)
    assert layer.weight[2].tolist() == [0, 0, 0] and float(layer.weight.sum()) == 15
    for x in (IDS, jax.nn.one_hot(IDS, 6)):
        grad = jax.grad(lambda m, x=x: m(x).sum())(layer).weight
        assert not grad[2].any() and float(grad.sum()) == 3 * 6


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int64, np.uint64])
def test_integers_of_any_width(dtype):
    layer = fx.Embedding(300, 2)  # more rows than 8 bits count
    np.testing.assert_array_equal(layer(np.array([0, 100], dtype)), layer.weight[jnp.array([0, 100])])
    np.testing.assert_array_equal(jax.jit(layer)(np.array([0, 100], dtype)), layer.weight[jnp.array([0, 100])])


def test_shapes_of_indices():
    layer = fx.Embedding(6, 3)
    assert layer(2).shape == (3,)
    assert layer(np.int64(2)).shape == (3,)
    assert layer(jnp.zeros((2, 0), int)).shape == (2, 0, 3)
    assert layer(jnp.zeros((2, 3, 4), int)).shape == (2, 3, 4, 3)


@pytest.mark.parametrize("kind", [bool, np.float32, np.float64])
def test_one_hot_rows(kind):
    layer = fx.Embedding(6, 3)
    np.testing.assert_allclose(layer(np.eye(6)[IDS].astype(kind)), layer(IDS), rtol=1e-6)
    assert layer(np.eye(6)[1].astype(kind)).shape == (3,)


def test_floats_that_are_no_one_hot_rows():
    for x in (np.array([1.0, 2.0]), np.float32(1), np.array([True])):
        with pytest.raises(
            fx.DTypeError, match=r"model Embedding.* expected integer indices, or one-hot rows \(..., 6\)"
        ):
            fx.Embedding(6, 3)(x)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([[0, 1], [6, 2]]), r"index 6 at position \(1, 0\) is outside \[0, 6\)"),
        (np.array([0, -1]), r"index -1 at position \(1,\) is outside"),
        (jnp.array([7]), r"index 7 at position \(0,\)"),
        (np.array([2**32]), r"index 4294967296 at position"),  # 0 in 32 bits
        (np.array([2**64 - 1], np.uint64), "index 18446744073709551615"),
        (-1, r"index -1 at position \(\)"),
    ],
)
def test_out_of_range_raises_where_values_are_known(ids, message):
    model = fx.Chain(fx.Embedding(6, 3), fx.Dense(3, 2))
    with pytest.raises(fx.DataError, match=r"^model.layers\[0\] Embedding\(6, 3\): " + message):
        model(ids)
    with checking(False):
        bad = np.asarray(ids).astype(object).ravel()
        bad = np.array([not 0 <= int(i) < 6 for i in bad])
        assert (np.isnan(model(ids)).all(-1).ravel() == bad).all()


def test_out_of_range_is_nan_where_values_are_not_known():
    layer = fx.Embedding(6, 3)
    ids = jnp.array([0, 6, -1, -6, 2**31 - 1, -(2**31), 5])
    for run in (jax.jit(layer), lambda x: jax.jit(jax.vmap(layer))(x)):
        y = run(ids)
        np.testing.assert_array_equal(np.isnan(y).all(-1), [False, True, True, True, True, True, False])
        assert not np.isnan(y[jnp.array([0, 6])]).any()
    assert bool(np.isnan(jax.jit(lambda m, i: m(i).sum())(layer, ids)))
    for dtype in (np.int8, np.uint8):  # 200 and -56 must not be taken for one another
        assert np.isnan(jax.jit(fx.Embedding(150, 1))(jnp.asarray(np.array([200]).astype(dtype)))).all()


@randomized
@given(
    size,
    size,
    st.sampled_from(["mean", "sum", "max"]),
    st.integers(1, 3),
    st.lists(st.integers(0, 4), min_size=2, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_embedding_bag_is_torchs(x64, vocabulary, features, reduction, length, lengths, seed):
    """Bags of one length, and of several, empty ones included, with equal indices among them."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, vocabulary, (2, length))
    data, offsets = random.integers(0, vocabulary, sum(lengths)), np.cumsum([0, *lengths[:-1]])
    layer = fx.EmbeddingBag(vocabulary, features, reduction)

    def ours(ids, data, offsets, weight):
        filled = with_trainables(layer, [weight])
        return filled(ids) ** 2, filled((data, offsets)) ** 2

    def theirs(ids, data, offsets, weight):
        bags = functools.partial(F.embedding_bag, mode=reduction)
        return bags(ids, weight) ** 2, bags(data, weight, offsets) ** 2

    same_as_torch(ours, theirs, ids, data, offsets, random.normal(size=(vocabulary, features)))


def test_forms_of_bags():
    layer = fx.EmbeddingBag(6, 3, "sum")
    expected = layer(np.array([[1, 2], [0, 5]]))
    np.testing.assert_allclose(layer([[1, 2], [0, 5]]), expected, rtol=1e-6)
    np.testing.assert_allclose(layer((np.array([1, 2, 0, 5]), np.array([0, 2]))), expected, rtol=1e-6)
    np.testing.assert_allclose(layer(np.eye(6, dtype=np.float32)[np.array([[1, 2], [0, 5]])]), expected, rtol=1e-6)
    np.testing.assert_allclose(layer(np.array([1, 2])), expected[0], rtol=1e-6)
    np.testing.assert_allclose(layer([np.array([1, 2]), [], [3]])[1], 0)
    for name in ("mean", "sum", "max"):
        np.testing.assert_array_equal(fx.EmbeddingBag(6, 3, name)(np.zeros((2, 0), int)), np.zeros((2, 3)))
    middle = fx.EmbeddingBag(6, 3, jnp.median)
    np.testing.assert_allclose(middle(np.array([[1, 2, 3]])), np.median(middle.weight[1:4], 0)[None], rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (3, fx.ShapeError, r"expected bags \(..., length\), got int.* of shape \(\). Use Embedding"),
        (np.eye(6)[0], fx.ShapeError, r"expected bags \(..., length\), got float"),
        (np.array([[1, 6]]), fx.DataError, r"index 6 at position \(0, 1\) is outside \[0, 6\)"),
        ((np.array([1, 6]), np.array([0])), fx.DataError, r"index 6 at position \(1,\)"),
        ((np.array([1, 2]), np.array([1])), fx.DataError, r"expected offsets that begin with 0, .* got \[1\]"),
        ((np.array([1, 2]), np.array([0, 3])), fx.DataError, r".* at most 2, the length of the data, got \[0, 3\]"),
        ((np.array([1, 2]), np.array([0, 2, 1])), fx.DataError, r".* never decrease .* got \[0, 2, 1\]"),
        ((np.array([1, 2]), np.array([], int)), fx.DTypeError, "expected at least one integer offset"),
        ((np.array([1.0]), np.array([0])), fx.ShapeError, r"expected integer data \(n,\) and offsets"),
        ((np.array([1]),), fx.ShapeError, r"expected a pair \(data, offsets\), got a tuple of 1"),
        ([1, 2], fx.ShapeError, "expected a list of bags, each a list of indices"),
    ],
)
def test_embedding_bag_refuses(x, error, message):
    with pytest.raises(error, match=r"^model EmbeddingBag\(6, 3\): " + message):
        fx.EmbeddingBag(6, 3)(x)


def test_bad_offsets_are_nan_where_values_are_not_known():
    layer = jax.jit(fx.EmbeddingBag(6, 3))
    for offsets in ([1], [0, 3], [0, 2, 1]):
        assert np.isnan(layer((np.array([1, 2]), np.array(offsets)))).all()
    assert not np.isnan(layer((np.array([1, 2]), np.array([0, 1])))).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.Embedding(0, 3), "Embedding: expected a positive whole number for vocabulary, got 0."),
        (lambda: fx.Embedding(6, 3, padding_index=6), "Embedding: expected a padding_index between 0 and 5, got 6."),
        (lambda: fx.Embedding(6, 3, padding_index=-1), "between 0 and 5, got -1."),
        (lambda: fx.EmbeddingBag(6, 3, "men"), "EmbeddingBag: expected a reduction .* got 'men'. Did you mean 'mean'?"),
        (lambda: fx.EmbeddingBag(6, 3, 3), "EmbeddingBag: expected a reduction .* got 3."),
    ],
)
def test_constructors_refuse(make, message):
    with pytest.raises(fx.ArgumentError, match=message):
        make()


def test_a_function_has_no_bags_of_different_lengths():
    with pytest.raises(
        fx.ArgumentError, match='expected a reduction "mean", "sum" or "max" for bags of different lengths'
    ):
        fx.EmbeddingBag(6, 3, jnp.median)([[1], [2, 3]])
