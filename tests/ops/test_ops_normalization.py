"""moments, standardize, norms_along: numpy's numbers; refusals. The rest is held to torch with its layers."""

import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.ops.normalization import group_norm, layer_norm, moments, norms_along, rms_norm, standardize, weight_norm


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


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_norms_are_numpys(axis, x64):
    real, imaginary = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    for v in (real, real + 1j * imaginary):
        others = tuple({0, 1, 2} - {axis % 3}) if axis is not None else None
        expected = np.sqrt((np.abs(v) ** 2).sum(others))
        np.testing.assert_allclose(norms_along(jnp.asarray(v), axis), expected, rtol=1e-12)
        normalized = weight_norm(jnp.asarray(v), jnp.ones_like(expected), axis)
        np.testing.assert_allclose(norms_along(normalized, axis), np.ones_like(expected), rtol=1e-12)


def test_refusals():
    with pytest.raises(fx.ShapeError, match=r"layer_norm: expected at least 3 axes, got shape \(2, 4\)"):
        layer_norm(jnp.ones((2, 4)), 3)
    with pytest.raises(fx.ShapeError, match=r"rms_norm: expected at least 0 axes, got shape \(2, 4\)"):
        rms_norm(jnp.ones((2, 4)), 0)
    with pytest.raises(fx.ShapeError, match=r"group_norm: expected channels that divide into 3 groups, got .*\(2, 4\)"):
        group_norm(jnp.ones((2, 4)), 3)
    with pytest.raises(fx.DTypeError, match="expected real input, got dtype complex64"):
        moments(jnp.ones(3) * 1j, 0)
