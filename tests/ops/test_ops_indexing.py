"""gather and scatter: torch's numbers, two orders of gradients, ties and empty rows; no clamped or dropped index."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.ops.checks import checking

torch = pytest.importorskip("torch", reason="torch is the outside reference")
OPS = {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin", "product": "prod"}
randomized = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # to shrink a failure would compile for minutes
)
size = st.integers(1, 4)


@randomized
@given(st.lists(size, min_size=1, max_size=3), st.lists(size, max_size=2), st.data())
def test_gather_is_torchs(x64, sizes, shape, data):
    depth = data.draw(st.integers(1, len(sizes)))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    places = tuple(random.integers(0, n, shape) for n in sizes[:depth])
    plain = depth == 1 and data.draw(st.booleans())
    same_as_torch(
        lambda x: fx.gather(x, places[0] if plain else places) ** 2,
        lambda x: x[tuple(map(torch.tensor, places))] ** 2,
        random.normal(size=sizes),
    )


@randomized
@given(
    st.lists(size, min_size=1, max_size=2),
    st.lists(st.integers(0, 4), max_size=2),
    st.lists(size, max_size=2),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_scatter_is_torchs(x64, sizes, shape, rest, with_init, seed):
    """All operations, values with ties and zeros, rows that get nothing; with and without a start; squared, twice."""
    random = np.random.default_rng(seed)
    places = tuple(random.integers(0, n, shape) for n in sizes)
    source = random.integers(-2, 3, (*shape, *rest)).astype(float)  # whole numbers, so that some are equal
    starts = random.integers(-2, 3, (*sizes, *rest)).astype(float)

    def ours(x, start):
        indices = places if len(places) > 1 else places[0]
        init = start if with_init else None
        return tuple(fx.scatter(op, x, indices, size=None if with_init else sizes, init=init) ** 2 for op in OPS)

    def theirs(x, start):
        flat = torch.tensor(np.ravel_multi_index(places, sizes).reshape(-1))
        spread = flat.reshape(-1, *[1] * len(rest)).expand(-1, *rest)
        found = []
        for op, reduce in OPS.items():
            into = start.reshape(-1, *rest)
            if op == "mean" or not with_init:  # torch's mean would count the start
                into = torch.full_like(into, 1.0 if op == "product" else 0.0)
            y = into.scatter_reduce(0, spread, x.reshape(-1, *rest), reduce, include_self=with_init and op != "mean")
            y = y.reshape(*sizes, *rest)
            found.append((y + start if op == "mean" and with_init else y) ** 2)
        return tuple(found)

    same_as_torch(ours, theirs, source, starts)


def test_second_derivatives(x64):
    """Zeros among the factors included: torch's own second derivative is the reference."""
    places = np.array([0, 2, 0, 0, 2, 3])
    x = np.array([1.5, 0.0, -2.0, 0.5, 3.0, 0.0])
    reduced = {"sum": "sum", "mean": "mean", "max": "amax", "product": "prod"}

    @jax.jit
    def ours(x):
        return {op: jax.hessian(lambda x: (fx.scatter(op, x, places, size=5) ** 3).sum())(x) for op in reduced}

    def theirs(x, op):
        if op == "product":  # torch's prod of several zeros has no second derivative; the product written out has
            y = torch.stack([x[0] * x[2] * x[3], x[1] * x[4], x[5], torch.tensor(1.0, dtype=x.dtype)])
        else:
            y = torch.zeros(5, dtype=x.dtype).scatter_reduce(
                0, torch.tensor(places), x, reduced[op], include_self=False
            )
        return (y**3).sum()

    found = ours(x)
    for op in reduced:
        expected = torch.autograd.functional.hessian(lambda x: theirs(x, op), torch.tensor(x))
        np.testing.assert_allclose(found[op], expected, rtol=1e-12, atol=1e-12, err_msg=op)


def test_integers_and_half_precision():
    places = np.array([0, 2, 0], np.uint8)
    whole = [np.array([3, 2, 5], dtype) for dtype in (np.int8, np.uint8, np.int32)]
    found = jax.jit(lambda whole: [{op: fx.scatter(op, x, places) for op in OPS} for x in whole])(whole)
    for x, of_each in zip(whole, found, strict=True):
        assert {op: y.tolist() for op, y in of_each.items()} == {
            "sum": [8, 0, 2],
            "mean": [4, 0, 2],
            "max": [5, 0, 2],
            "min": [3, 0, 2],
            "product": [15, 1, 2],
        }
        assert all(y.dtype == (jnp.float32 if op == "mean" else x.dtype) for op, y in of_each.items())
    ones = [jnp.ones(5000, dtype) for dtype in (jnp.float16, jnp.bfloat16)]
    found = jax.jit(
        lambda ones: [
            [fx.scatter(op, x[:n], np.zeros(n, int)) for op, n in zip(OPS, (5000, 2, 2, 2, 2), strict=True)]
            for x in ones
        ]
    )(ones)
    for x, (total, *others) in zip(ones, found, strict=True):
        assert total.tolist() == [float(jnp.asarray(5000, x.dtype))]  # one by one, it would stop at 2048 or 256
        assert all(y.dtype == x.dtype for y in (total, *others))
        assert fx.gather(x, np.array([0, 1])).dtype == fx.scatter("sum", x[:1], np.array([0]), init=0).dtype == x.dtype
    np.testing.assert_allclose(fx.scatter("sum", np.array([1j, 2.0]), np.array([1, 1])), [0, 2 + 1j])
    assert fx.scatter("max", np.array([-1, -2]), np.array([0, 0]), size=2, init=-1.5).tolist() == [-1, -1.5]
    assert fx.scatter("max", np.ones(1), np.array([0]), size=2, init=-np.inf).tolist() == [1, -np.inf]  # as NNlib


def test_empty_arrays():
    none = np.zeros(0, int)

    def of_one(op):
        return (
            fx.scatter(op, np.zeros((0, 2)), none, size=3),
            fx.scatter(op, np.zeros((0, 2)), none),
            fx.scatter(op, np.zeros((4, 0)), np.zeros(4, int)),
            fx.scatter(op, np.float32(3), 1),  # one index, one number
        )

    for op, found in jax.jit(lambda: {each: of_one(each) for each in OPS})().items():
        rows, no_rows, no_columns, number = found
        nothing = 1.0 if op == "product" else 0.0
        assert rows.tolist() == [[nothing] * 2] * 3 and number.tolist() == [nothing, 3.0]
        assert no_rows.shape == (0, 2) and no_columns.shape == (1, 0)
    assert fx.gather(np.ones((3, 2)), np.zeros((2, 0), int)).shape == (2, 0, 2)
    assert fx.gather(np.ones((3, 2)), 1).shape == (2,)


OUT_OF_RANGE = [
    (np.array([0, 3]), r"index 3 at position \(1,\) is outside \[0, 3\). Indices count from 0, never from the end;"),
    (np.array([[-1, 0]]), r"index -1 at position \(0, 0\) is outside \[0, 3\)"),
    (np.array([2**32]), "index 4294967296 at position"),  # 0 in 32 bits
    (np.array([2**64 - 1], np.uint64), "index 18446744073709551615 at position"),
    (jnp.array([7], jnp.uint8), "index 7 at position"),
]


@pytest.mark.parametrize(("indices", "message"), OUT_OF_RANGE)
def test_out_of_range_raises_where_values_are_known(indices, message):
    x = jnp.arange(3.0)
    with pytest.raises(fx.DataError, match=message):
        fx.gather(x, indices)
    with pytest.raises(fx.DataError, match=message):
        fx.scatter("sum", jnp.ones(indices.shape), indices, size=3)
    bad = np.array([not 0 <= int(i) < 3 for i in indices.ravel()]).reshape(indices.shape)
    with checking(False):
        assert (np.isnan(fx.gather(x, indices)) == bad).all()
        assert np.isnan(fx.scatter("max", jnp.ones(indices.shape), indices, size=3)).all()


def test_out_of_range_is_nan_where_values_are_not_known():
    @jax.jit
    def both(indices, other):
        x, whole = jnp.arange(6.0).reshape(3, 2), jnp.arange(3)
        ones = jnp.ones(indices.shape)
        return (
            fx.gather(x, indices),
            fx.gather(x, (indices, other)),
            fx.gather(whole, indices),
            fx.gather(whole.astype(jnp.uint8), indices),
            [fx.scatter(op, ones, indices, size=3) for op in OPS],
            fx.scatter("max", ones.astype(int), (indices, other), size=(3, 2)),
        )

    rows, places, whole, unsigned, collected, grid = both(np.array([2, -1, 3, 2**31 - 1]), np.array([0, 0, 0, 0]))
    bad = [False, True, True, True]
    np.testing.assert_array_equal(np.isnan(rows), np.array([bad] * 2).T)
    np.testing.assert_array_equal(np.isnan(places), bad)
    assert whole.tolist() == [2] + [-(2**31)] * 3 and unsigned.tolist() == [2, 255, 255, 255]
    assert np.isnan(collected).all() and (grid == -(2**31)).all()
    # an index out of range of one axis does not become one of the next row's
    _, places, *_, grid = both(np.array([1, 0, 0, 0]), np.array([1, 2, -1, 1]))
    np.testing.assert_array_equal(np.isnan(places), [False, True, True, False])
    assert (grid == -(2**31)).all()
    *_, collected, grid = both(np.array([0, 0, 2, 2]), np.array([0, 1, 1, 1]))
    np.testing.assert_array_equal(collected, [[2, 0, 2], [1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 1, 1]])
    assert grid.tolist() == [[1, 1], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, i: fx.gather(x, i * 1.0), fx.DTypeError, r"expected integer indices, got float.* of shape \(2,\)"),
        (lambda x, i: fx.gather(x, i == 1), fx.DTypeError, "expected integer indices, got bool"),
        (lambda x, i: fx.gather(x > 0, i), fx.DTypeError, "expected a source of numbers, got dtype bool"),
        (lambda x, i: fx.gather(x, (i, i, i)), fx.ShapeError, r"expected at least 3 axes to pick along, got shape"),
        (lambda x, i: fx.gather(x, (i, i[:1])), fx.ShapeError, r"of one shape, got \[\(2,\), \(1,\)\]"),
        (lambda x, i: fx.gather(x, ()), fx.ShapeError, "expected one integer array, or a tuple"),
        (lambda x, i: fx.gather(x, (i, i + 1)), fx.DataError, r"index 2 at position \(1,\) of indices\[1\] is outside"),
        (
            lambda x, i: fx.scatter("summ", x, i),
            fx.ArgumentError,
            "expected op to be .* got 'summ'. Did you mean 'sum'?",
        ),
        (lambda x, i: fx.scatter(jnp.add, x, i), fx.ArgumentError, "expected op to be .* got <"),
        (lambda x, i: fx.scatter("sum", x[:1], i), fx.ShapeError, r"\(2, '...'\) for indices \(2,\), got \(1, 2\)"),
        (lambda x, i: fx.scatter("sum", x, i, size=1.5), fx.ArgumentError, "expected size to be 1 whole number"),
        (lambda x, i: fx.scatter("sum", x, i, size=(2, 2)), fx.ArgumentError, "expected size to be 1 whole number"),
        (
            lambda x, i: fx.scatter("sum", x, i, init=x[:, :1]),
            fx.ShapeError,
            r"an array \(size, 2\), got shape \(2, 1\)",
        ),
        (lambda x, i: fx.scatter("sum", x, i, init=x, size=3), fx.ShapeError, r"init of shape \(3, 2\), as size says"),
        (lambda x, i: fx.scatter("max", x * 1j, i), fx.DTypeError, "expected real values .* Complex numbers have no"),
        (
            lambda x, i: jax.jit(lambda i: fx.scatter("sum", x, i))(i),
            fx.ArgumentError,
            "expected a size, for the largest",
        ),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones((2, 2), np.float32), np.array([0, 1]))
