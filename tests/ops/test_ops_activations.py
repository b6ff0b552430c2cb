"""Activations against torch's numbers and two orders of its derivatives, at the kinks, at extremes, in every dtype."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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


KINKS = np.array([-6, -3, -1, -0.5, 0, 0.5, 1, 3, 6])
SMOOTH = {fx.softplus, fx.gelu, fx.swish, fx.mish, fx.logcosh, fx.lisht, fx.tanh, fx.sigmoid}


def torch_derivatives(f, x):
    """Value, first and second derivative, elementwise."""
    x = torch.tensor(np.asarray(x), requires_grad=True)
    y = f(x)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    if not first.requires_grad:
        return y.detach(), first, torch.zeros_like(first)
    (second,) = torch.autograd.grad(first.sum(), x, allow_unused=True)
    return y.detach(), first.detach(), torch.zeros_like(first) if second is None else second


@functools.cache
def in_float64():
    """The same of all functions at as many numbers as `POINTS` are, compiled once."""

    def of_one(f, x):
        first = jax.grad(lambda x: jnp.sum(f(x)))
        return f(x), first(x), jax.grad(lambda x: jnp.sum(first(x)))(x)

    return jax.jit(lambda x: {f.__name__: of_one(f, x) for f in ELEMENTWISE})


@by_name
def test_kinks_and_their_slopes_are_torchs(f, x64):
    value, first, second = torch_derivatives(REFERENCE[f], POINTS)
    found = in_float64()(POINTS)[f.__name__]
    np.testing.assert_allclose(found[0], value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found[1], first, rtol=1e-12, atol=1e-12)
    smooth = np.full(POINTS.shape, True) if f in SMOOTH else ~np.isin(POINTS, KINKS)
    np.testing.assert_allclose(found[2][smooth], second[smooth], rtol=1e-10, atol=1e-10)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-40, 40) | st.floats(-300, 300), min_size=len(POINTS), max_size=len(POINTS)))
def test_two_derivatives_are_torchs_at_any_number(x64, numbers):
    x = np.array(numbers)
    x = np.where(np.abs(x[:, None] - KINKS).min(1) < 1e-6, 0.25, x)
    found = in_float64()(x)
    for f in ELEMENTWISE:
        for ours, theirs in zip(found[f.__name__], torch_derivatives(REFERENCE[f], x), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10, err_msg=f.__name__)


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # to shrink a failure would compile for minutes
)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data())
def test_options_and_axes_are_torchs(x64, shape, data):
    """With the gradient; for those along an axis the second derivative too."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    a, low, high = data.draw(st.floats(0.1, 2)), *sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    even = list(shape)
    even[axis] *= 2
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    pairs = [
        (lambda x: fx.gelu(x, approximate=False), F.gelu),
        (lambda x: fx.leakyrelu(x, a), lambda x: F.leaky_relu(x, a)),
        (lambda x: fx.elu(x, a), lambda x: F.elu(x, a)),
        (lambda x: fx.celu(x, a), lambda x: torch.where(x > 0, x, a * torch.expm1(x / a))),  # torch's rounds 1 / a
        (lambda x: fx.softshrink(x, a), lambda x: F.softshrink(x, a)),
        (lambda x: fx.trelu(x, a), lambda x: F.threshold(x, a, 0.0)),
        (lambda x: fx.rrelu(x, low, high), lambda x: F.rrelu(x, low, high)),
        *((f, lambda x, g=g: g(x, -1)) for f, g in ((fx.softmax, F.softmax), (fx.logsoftmax, F.log_softmax))),
        (lambda x: fx.softmax(x, axis=axis), lambda x: F.softmax(x, axis)),
        (lambda x: fx.logsoftmax(x, axis=axis), lambda x: F.log_softmax(x, axis)),
    ]
    curved = pairs[-2:]

    def ours(x, y):
        slopes = [jax.grad(lambda x, f=f: (f(x) ** 3).sum())(x) for f, _ in curved]
        return [
            *(f(x) for f, _ in pairs),
            fx.glu(y, axis),
            jax.grad(lambda y: (fx.glu(y, axis) ** 2).sum())(y),
            *slopes,
        ]

    def slope(f, x):
        return torch.autograd.grad(f(x).sum(), x, create_graph=True)[0]

    def theirs(x, y):
        slopes = [slope(lambda x, f=f: f(x) ** 3, x) for _, f in curved]
        return [*(f(x) for _, f in pairs), F.glu(y, axis), slope(lambda y: F.glu(y, axis) ** 2, y), *slopes]

    same_as_torch(ours, theirs, random.normal(0, 2, shape), random.normal(0, 2, even))


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
    wide = torch_derivatives(REFERENCE[f], EXTREMES)
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
