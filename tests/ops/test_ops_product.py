"""The product with a weight, by the native kernels and by XLA: NumPy in float64, and every derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion import native
from fluxion.ops import product as product_module
from fluxion.ops.product import product

sizes = st.sampled_from([1, 2, 3, 5, 8, 16, 17, 33, 64, 70])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(ours, wide):
    np.testing.assert_allclose(np.asarray(ours), wide, rtol=0, atol=2e-6 * max(1, np.abs(wide).max()) * 10)


def is_native(f, *args):
    return "fluxion" in str(jax.make_jaxpr(lambda *args: f(*args))(*args))  # a new function: nothing is kept of it


@settings(max_examples=5, deadline=None, derandomize=True)
@given(rows=sizes, features=sizes, outputs=sizes)
def test_the_product_and_both_gradients(rows, features, outputs):
    x, w, g = normal(rows, features), normal(features, outputs, seed=1), normal(rows, outputs, seed=2)
    y, back = jax.vjp(product, x, w)
    dx, dw = back(g)
    x, w, g = (np.asarray(a, np.float64) for a in (x, w, g))
    close(y, x @ w)
    close(dx, g @ w.T)
    close(dw, x.T @ g)


@pytest.mark.skipif(not native.available(), reason=native.status())
def test_the_kernels_are_used_where_they_fit_and_only_there(monkeypatch):
    x, w = normal(6, 5), normal(5, 4)
    assert is_native(product, x, w)
    assert is_native(product, normal(2, 3, 5), w)
    assert not is_native(product, x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
    assert not is_native(product, jnp.zeros((0, 5)), w)
    assert not is_native(product, x[0], w)
    monkeypatch.setattr(product_module, "MOST", 119)
    assert not is_native(product, x, w)
    monkeypatch.setattr(product_module, "MOST", 120)
    assert is_native(product, x, w)
    monkeypatch.setenv("FLUXION_NATIVE", "off")
    assert not is_native(product, x, w)


def test_more_axes_are_more_rows():
    x, w = normal(2, 3, 4, 5), normal(5, 6)
    close(product(x, w), np.asarray(x, np.float64) @ np.asarray(w, np.float64))
    assert product(x[0, 0, 0], w).shape == (6,)
    assert product(jnp.zeros((0, 3, 5)), w).shape == (0, 3, 6)


def test_derivatives_of_any_order_and_direction():
    x, w = normal(7, 5), normal(5, 4, seed=1)

    def by(times):
        return lambda x, w: jnp.sum(jnp.tanh(times(jnp.tanh(times(x, w)), w.T)) ** 2)

    ours, plain = by(product), by(lambda x, w: x @ w)
    for derivative in (
        lambda f: jax.grad(f, (0, 1)),
        lambda f: lambda x, w: jax.jvp(f, (x, w), (w[:1].repeat(7, 0) @ w.T, w)),
        lambda f: jax.hessian(f, 1),
        lambda f: lambda x, w: jax.jvp(jax.grad(f), (x, w), (x, w))[1],
        lambda f: jax.grad(lambda x, w: jnp.sum(jax.grad(f, 1)(x, w) ** 2), (0, 1)),
    ):
        for a, b in zip(*(jax.tree.leaves(jax.jit(derivative(f))(x, w)) for f in (ours, plain)), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)])
def test_vmap(axes):
    x = normal(*((3, 6, 5) if axes[0] == 0 else (6, 3, 5) if axes[0] == 1 else (6, 5)))
    w = normal(*((3, 5, 4) if axes[1] == 0 else (5, 4, 3) if axes[1] == 2 else (5, 4)), seed=1)

    def loss(times):
        return lambda x, w: jnp.sum(times(x, w) ** 3)

    ours, plain = (jax.vmap(jax.grad(loss(times), (0, 1)), axes)(x, w) for times in (product, lambda x, w: x @ w))
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_values_that_are_not_finite_pass_through():
    x, w = normal(20, 33), normal(33, 20)
    x = x.at[3, 4].set(jnp.nan).at[17, 0].set(jnp.inf)
    expected = np.asarray(x, np.float64) @ np.asarray(w, np.float64)
    y = np.asarray(product(x, w))
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    dw = jax.grad(lambda w: jnp.sum(product(x, w)))(w)
    assert np.isnan(dw[4]).all() and not np.isfinite(dw[0]).any() and np.isfinite(dw[5]).all()


def test_other_precisions(x64):
    x, w = np.random.default_rng(0).normal(size=(2, 9, 7))[0], np.random.default_rng(1).normal(size=(7, 5))
    np.testing.assert_allclose(product(jnp.asarray(x), jnp.asarray(w)), x @ w, rtol=1e-12)
    half = product(jnp.asarray(x, jnp.bfloat16), jnp.asarray(w, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


def test_dense_is_torchs_linear():
    torch = pytest.importorskip("torch")
    x, w, b = normal(4, 3, 5), normal(5, 2, seed=1), normal(2, seed=2)
    expected = torch.nn.functional.linear(*(torch.tensor(np.array(a)) for a in (x, w.T, b))).relu()
    close(fx.dense(x, w, bias=b, activation=fx.relu), expected.numpy())
    close(fx.dense(x, fx.Param(w), bias=fx.Param(b), activation=fx.relu), expected.numpy())
    assert fx.dense(jnp.arange(5), w).dtype == jnp.float32


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 5), (3, 2), None), r"expected arrays \(..., in\) and \(in, out\), got \(4, 5\) and \(3, 2\)"),
        (((4, 5), (5,), None), r"got \(4, 5\) and \(5,\)"),
        (((4, 5), (5, 2), (1,)), r"expected a bias \(2,\), a number per output, got \(1,\)"),
    ],
)
def test_what_dense_refuses(shapes, message):
    x, w, b = (None if shape is None else jnp.ones(shape) for shape in shapes)
    with pytest.raises(fx.ShapeError, match=message):
        fx.dense(x, w, bias=b)
