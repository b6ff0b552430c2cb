"""The loop whose weight gradient is one product, beside the plain loop that JAX differentiates by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxion.ops.recurrent import gru_gates, gru_step, gru_sums, lstm_gates, lstm_step, unroll, unroll_product


def plain_lstm_step(total, c):
    i, f, g, o = jnp.split(total, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def lstm(projected, state, weight, keep=None, reverse=False):
    gates = lambda total, _, state: lstm_gates(total, state[1])
    return unroll_product(gates, projected, state, weight, None, keep, reverse=reverse)


def plain_lstm(projected, state, weight, keep=None, reverse=False):
    def step(x, state):
        h, c = plain_lstm_step(x + state[0] @ weight, state[1])
        return h, (h, c)

    return unroll(step, projected, state, keep, reverse=reverse)


def gru(projected, state, weight, bias, keep):
    added, candidate = gru_sums(projected, bias)
    return unroll_product(lambda t, n, s: (gru_gates(t, n, *s),), added, (state,), weight, candidate, keep)


def plain_gru(projected, state, weight, bias, keep):
    def step(x, h):
        h = gru_step(x, h, weight, bias)
        return h, h

    out, last = unroll(step, projected, state, keep)
    return out, (last,)


def normal(*shape, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def every_derivative(f, *arrays):
    """Outputs, the change along a direction, the gradient, and its change along that direction."""

    def loss(*arrays):
        return sum((jnp.cos(y) * y).sum() for y in jax.tree.leaves(f(*arrays)))

    way = [normal(*a.shape, seed=i + 7, dtype=a.dtype) for i, a in enumerate(arrays)]
    gradient = jax.grad(loss, tuple(range(len(arrays))))
    return jax.jvp(f, arrays, tuple(way)), gradient(*arrays), jax.jvp(gradient, arrays, tuple(way))[1]


def same(found, expected, tolerance=1e-12):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("time", "reverse", "masked"), [(4, False, True), (3, True, True), (1, True, False), (0, True, True)]
)
def test_lstm_is_the_plain_loop_in_every_derivative(time, reverse, masked, x64):
    keep = jnp.asarray(np.random.default_rng(3).random((time, 2)) < 0.6) if masked else None
    arrays = normal(time, 2, 12), normal(2, 3, seed=1), normal(2, 3, seed=2), normal(3, 12, seed=3)

    def run(loop):
        def f(projected, h, c, weight):
            return loop(projected, (h, c), weight, keep, reverse)

        return jax.jit(lambda *arrays: every_derivative(f, *arrays))(*arrays)

    same(run(lstm), run(plain_lstm))


def test_gru_is_the_plain_loop_in_every_derivative(x64):
    keep = jnp.array([[True, True], [False, True], [True, False]])
    arrays = normal(3, 2, 9), normal(2, 3, seed=1), normal(3, 9, seed=2), normal(3, seed=3)

    def run(loop):
        return jax.jit(lambda *arrays: every_derivative(lambda *a: loop(*a, keep), *arrays))(*arrays)

    same(run(gru), run(plain_gru))


def test_vmap_over_weights_and_half_precision(x64):
    weights, projected, zero = normal(2, 3, 12), normal(4, 12, seed=1), jnp.zeros(3)

    def loss(loop, weight, dtype=np.float64):
        arrays = projected.astype(dtype), (zero.astype(dtype),) * 2, weight.astype(dtype)
        return loop(*arrays)[0].astype(np.float64).sum()

    found = jax.vmap(jax.grad(lambda w: loss(lstm, w)))(weights)
    same(found, jnp.stack([jax.grad(lambda w: loss(plain_lstm, w))(w) for w in weights]))
    half = jax.grad(lambda w: loss(lstm, w, jnp.bfloat16))(weights[0])
    np.testing.assert_allclose(half, found[0], rtol=0.1, atol=0.05)


def test_nan_passes_and_steps_are_those_of_the_loop(x64):
    projected, weight = normal(3, 1, 12).at[1].set(np.nan), normal(3, 12, seed=1)
    state = jnp.zeros((1, 3)), jnp.zeros((1, 3))
    out, _ = lstm(projected, state, weight)
    assert np.isnan(out).all(axis=(1, 2)).tolist() == [False, True, True]
    np.testing.assert_allclose(lstm_step(projected[0], state, weight)[0], out[0], rtol=1e-12)
    assert np.isnan(jax.grad(lambda w: lstm(projected, state, w)[0].sum())(weight)).all()
