"""Activations against torch's numbers and finite differences, at the kinks, at extremes, in every dtype."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.transform.modes import gradient_mode

torch = pytest.importorskip("torch", reason="torch is the outside reference")
F = torch.nn.functional

# Each with torch's own function, or the formula written in torch.
REFERENCE = {
    fx.tanh: torch.tanh,
    fx.sigmoid: torch.sigmoid,
    fx.logsigmoid: F.logsigmoid,
    fx.softsign: F.softsign,
    fx.hardsigmoid: lambda x: F.relu6(x + 3) / 6,  # torch's own has a slope rounded to float32
    fx.hardtanh: F.hardtanh,
    fx.relu: F.relu,
    fx.relu6: F.relu6,
    fx.leakyrelu: F.leaky_relu,
    fx.rrelu: F.rrelu,
    fx.trelu: lambda x: F.threshold(x, 1.0, 0.0),
    fx.elu: F.elu,
    fx.celu: F.celu,
    fx.selu: F.selu,
    fx.softplus: lambda x: torch.logaddexp(x, torch.zeros_like(x)),  # torch's own is x above its threshold
    fx.gelu: lambda x: F.gelu(x, approximate="tanh"),
    fx.swish: F.silu,
    fx.hardswish: F.hardswish,
    fx.mish: lambda x: x * torch.tanh(torch.logaddexp(x, torch.zeros_like(x))),
    fx.logcosh: lambda x: x + torch.logaddexp(-2 * x, torch.zeros_like(x)) - np.log(2),
    fx.lisht: lambda x: x * torch.tanh(x),
    fx.tanhshrink: F.tanhshrink,
    fx.softshrink: F.softshrink,
    fx.identity: lambda x: x,
}
ELEMENTWISE = sorted(REFERENCE, key=lambda f: f.__name__)
WHOLE = {fx.relu, fx.relu6, fx.hardtanh, fx.trelu, fx.identity}
by_name = pytest.mark.parametrize("f", ELEMENTWISE, ids=lambda f: f.__name__)

# Kinks of all of them, and smooth places between.
POINTS = np.array([-30, -6.5, -3, -2.2, -1, -0.5, -0.3, -1e-3, 0, 1e-3, 0.3, 0.5, 1, 1.7, 3, 4.4, 6, 6.5, 30.0])


def values_and_slopes(f, x):
    y, dy = jax.jit(lambda x: (f(x), jax.grad(lambda x: jnp.sum(f(x)))(x)))(x)
    return np.asarray(y), np.asarray(dy)


def torch_values_and_slopes(f, x):
    x = torch.tensor(np.asarray(x), requires_grad=True)
    y = f(x)
    y.sum().backward()
    return y.detach().numpy(), x.grad.numpy()


@functools.cache
def in_float64():
    """Everything the float64 tests compare, of all functions, compiled at once."""
    smooth = jnp.asarray([-4.1, -2.3, -0.7, -0.2, 0.1, 0.8, 2.6, 5.2])  # no kink is near

    def of_one(f):
        first, second = jax.vmap(jax.grad(f)), jax.vmap(jax.grad(jax.grad(f)))
        points = jnp.asarray(POINTS)
        return {
            "value": f(points),
            "slope": first(points),
            "first": (first(smooth), (f(smooth + 1e-5) - f(smooth - 1e-5)) / 2e-5),
            "second": (second(smooth), (first(smooth + 1e-5) - first(smooth - 1e-5)) / 2e-5),
            "second at 0": (second(jnp.zeros(1)), (first(jnp.array([1e-5])) - first(jnp.array([-1e-5]))) / 2e-5),
        }

    return jax.jit(lambda: {f.__name__: of_one(f) for f in ELEMENTWISE})()


@by_name
def test_equals_torch(f, x64):
    value, slope = torch_values_and_slopes(REFERENCE[f], POINTS)
    np.testing.assert_allclose(in_float64()[f.__name__]["value"], value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(in_float64()[f.__name__]["slope"], slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: fx.gelu(x, approximate=False), F.gelu),
        (lambda x: fx.leakyrelu(x, 0.2), lambda x: F.leaky_relu(x, 0.2)),
        (lambda x: fx.elu(x, 1.5), lambda x: F.elu(x, 1.5)),
        (lambda x: fx.celu(x, 1.5), lambda x: F.celu(x, 1.5)),
        (lambda x: fx.softshrink(x, 1.0), lambda x: F.softshrink(x, 1.0)),
        (lambda x: fx.trelu(x, 0.3), lambda x: F.threshold(x, 0.3, 0.0)),
        (lambda x: fx.rrelu(x, 0.25, 0.75), lambda x: F.rrelu(x, 0.25, 0.75)),
        (lambda x: fx.softmax(x) ** 2, lambda x: F.softmax(x, -1) ** 2),
        (lambda x: fx.softmax(x, axis=0) ** 2, lambda x: F.softmax(x, 0) ** 2),
        (lambda x: fx.logsoftmax(x) ** 2, lambda x: F.log_softmax(x, -1) ** 2),
        (lambda x: fx.logsoftmax(x, axis=1) ** 2, lambda x: F.log_softmax(x, 1) ** 2),
        (fx.glu, F.glu),
        (lambda x: fx.glu(x, axis=0), lambda x: F.glu(x, 0)),
    ],
)
def test_options_and_axes_equal_torch(ours, theirs, x64):
    x = jnp.asarray(np.random.default_rng(1).normal(0, 2, (2, 3, 4)))
    (y, dy), (z, dz) = values_and_slopes(ours, x), torch_values_and_slopes(theirs, x)
    np.testing.assert_allclose(y, z, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dy, dz, rtol=1e-12, atol=1e-12)


@by_name
def test_derivatives_are_finite_differences(f, x64):
    found = in_float64()[f.__name__]
    np.testing.assert_allclose(*found["first"], atol=1e-8)
    np.testing.assert_allclose(*found["second"], atol=1e-8)
    if f in {fx.softplus, fx.gelu, fx.swish, fx.mish, fx.logcosh, fx.lisht, fx.tanh, fx.sigmoid}:
        np.testing.assert_allclose(*found["second at 0"], atol=1e-8)


EXTREMES = np.array([-1e4, -300, -100, -20, 0, 20, 100, 300, 1e4])
DTYPES = (jnp.float16, jnp.bfloat16, jnp.float32)


@functools.cache
def at_extremes():
    """Value, first and second derivative of all functions in all dtypes, compiled at once; and the value at NaN."""

    def of_one(f, x):
        first = jax.grad(lambda x: jnp.sum(f(x).astype(jnp.float32)))
        return f(x), first(x), jax.grad(lambda x: jnp.sum(first(x).astype(jnp.float32)))(x), f(x * jnp.nan)

    xs = [jnp.asarray(EXTREMES, dtype) for dtype in DTYPES]
    return jax.jit(lambda *xs: {f.__name__: [of_one(f, x) for x in xs] for f in ELEMENTWISE})(*xs)


@by_name
def test_every_dtype_is_kept_and_extremes_are_finite(f):
    wide = torch_values_and_slopes(REFERENCE[f], EXTREMES)
    for dtype, results in zip(DTYPES, at_extremes()[f.__name__], strict=True):
        assert [r.dtype for r in results] == [dtype] * 4
        y, dy, ddy, nan = (np.asarray(r, np.float64) for r in results)
        assert np.isfinite(y).all() and np.isfinite(dy).all() and np.isfinite(ddy).all()
        assert np.isnan(nan).all()
        rounding = 4 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(y, wide[0], rtol=rounding, atol=1e-6)
        np.testing.assert_allclose(dy, wide[1], rtol=rounding, atol=2e-4)


@by_name
def test_shapes_whole_numbers_and_names(f):
    whole = jax.eval_shape(f, jnp.arange(-2, 3))
    assert whole.dtype == (jnp.int32 if f in WHOLE else jnp.float32)
    assert jax.eval_shape(f, jnp.ones((2, 0, 3))).shape == (2, 0, 3)
    assert getattr(fx, f.__name__) is f


def test_small_values_keep_their_digits():
    x = jnp.float32(1e-4)
    np.testing.assert_allclose(fx.logcosh(x), 5e-9, rtol=1e-6)
    np.testing.assert_allclose(fx.elu(-x), np.expm1(-1e-4), rtol=1e-6)
    np.testing.assert_allclose(fx.softplus(jnp.float32(-30)), np.exp(-30.0), rtol=1e-5)
    np.testing.assert_allclose(fx.logcosh(jnp.float32(-1e4)), 1e4 - np.log(2), rtol=1e-7)
    # in half precision gelu does not lose its negative tail to 1 - 1
    exact = F.gelu(torch.tensor(-3.0, dtype=torch.float64), approximate="tanh").item()
    np.testing.assert_allclose(float(fx.gelu(jnp.bfloat16(-3))), exact, rtol=0.05)


def test_softmax_at_extremes():
    x = jnp.array([[1e4, 0, -1e4], [0, 0, 0], [-jnp.inf, 0, 0]])
    np.testing.assert_allclose(fx.softmax(x), [[1, 0, 0], [1 / 3] * 3, [0, 0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(fx.logsoftmax(x)[0], [0, -1e4, -2e4])
    for f in (fx.softmax, fx.logsoftmax):
        for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
            slope = jax.jit(jax.grad(lambda x: (f(x) ** 2).mean().astype(jnp.float32)))(x[:2].astype(dtype))
            assert slope.dtype == f(x.astype(dtype)).dtype == dtype
            assert np.isfinite(np.asarray(slope, np.float32)).all()
        assert np.isnan(f(jnp.array([jnp.nan, 0.0]))).all()
        assert f(jnp.arange(3)).dtype == jnp.float32


def test_rrelu_draws_slopes_in_training_only():
    x = jnp.linspace(-2, 2, 4001)
    assert (fx.rrelu(x) == fx.rrelu(x)).all()
    with gradient_mode(True), fx.randomness(jax.random.key(3)):
        y, again = fx.rrelu(x, 0.2, 0.6), fx.rrelu(x, 0.2, 0.6)
    with gradient_mode(True), fx.randomness(jax.random.key(3)):
        np.testing.assert_array_equal(y, fx.rrelu(x, 0.2, 0.6))
    negative = x < 0
    slopes = (y / x)[negative]
    assert (y[x >= 0] == x[x >= 0]).all() and not (y == again).all()
    assert slopes.min() >= 0.2 and slopes.max() <= 0.6
    np.testing.assert_allclose([slopes.mean(), slopes.std()], [0.4, 0.4 / 12**0.5], atol=0.01)


def test_mistakes_are_named():
    with pytest.raises(fx.ShapeError, match=r"softmax: expected an array, got the number 3\.0\."):
        fx.softmax(3.0)
    with pytest.raises(
        fx.ShapeError, match=r"logsoftmax: expected an axis of an array of shape \(2, 3\), got axis=2\."
    ):
        fx.logsoftmax(jnp.ones((2, 3)), axis=2)
    with pytest.raises(fx.ShapeError, match=r"glu: expected an even size along axis -1, got shape \(2, 3\)\."):
        fx.glu(jnp.ones((2, 3)))
    with pytest.raises(fx.ArgumentError, match=r"rrelu: expected low <= high, got low=1 and high=0\."):
        fx.rrelu(1.0, 1, 0)
    with pytest.raises(fx.ArgumentError, match=r"celu: expected alpha > 0, got 0\."):
        fx.celu(1.0, 0)
