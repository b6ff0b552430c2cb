"""moments, standardize, layer_norm: numpy's and torch's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.ops.normalization import layer_norm, moments, standardize


@pytest.mark.parametrize("axis", [0, -1, (0, 2), (0, 1, 2)])
def test_moments_are_numpys(axis, x64):
    x = np.random.default_rng(0).normal(size=(3, 4, 5)) + 7
    mean, var = moments(jnp.asarray(x), axis)
    np.testing.assert_allclose(mean, x.mean(axis, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(var, x.var(axis, keepdims=True), rtol=1e-12)


def test_moments_are_wide():
    mean, var = moments(jnp.full((10, 2), 60_000, jnp.float16), 0)
    assert mean.dtype == var.dtype == jnp.float32
    assert mean.tolist() == [[60_000.0] * 2] and not var.any()


def test_standardize_aligns_with_the_last_axes():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    y = standardize(x, jnp.ones(4), jnp.full(4, 4.0), jnp.arange(4.0), jnp.ones((3, 4)), eps=0)
    np.testing.assert_allclose(y, (np.asarray(x) - 1) / 2 * np.arange(4) + 1, rtol=1e-6)


def test_layer_norm_second_derivatives_are_torchs(x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    x, v = np.random.default_rng(0).normal(size=(2, 3, 4))

    def f(x):
        return (layer_norm(x) ** 3).sum()

    ours = jax.jvp(jax.grad(f), (jnp.asarray(x),), (jnp.asarray(v),))[1]
    theirs = torch.autograd.functional.hvp(
        lambda x: (torch.nn.functional.layer_norm(x, (4,)) ** 3).sum(), torch.tensor(x), torch.tensor(v)
    )[1]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_constant_rows_are_zero_with_finite_gradients():
    x = jnp.full((2, 4), 3.0)
    assert not layer_norm(x).any()
    assert bool(jnp.isfinite(jax.grad(lambda x: (layer_norm(x) ** 2).sum())(x)).all())


def test_refusals():
    with pytest.raises(fx.ShapeError, match=r"layer_norm: expected at least 3 axes, got shape \(2, 4\)"):
        layer_norm(jnp.ones((2, 4)), 3)
    with pytest.raises(fx.DTypeError, match="expected real input, got dtype complex64"):
        moments(jnp.ones(3) * 1j, 0)
