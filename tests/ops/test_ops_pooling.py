"""Pooling: torch's numbers and gradients, ties and NaN included; derivatives of any order; precision; refusals."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx

torch = pytest.importorskip("torch", reason="torch is the outside reference")
F = torch.nn.functional

several = settings(
    max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MAX = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
MEAN = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
NORM = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)
ADAPTIVE_MAX = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
ADAPTIVE_MEAN = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


def channels_first(function):
    """A function of torch's, on arrays in our layout."""
    return lambda x: function(x.movedim(-1, 1)).movedim(1, -1)


def padded(x, pairs, value=0.0):
    return F.pad(x, [n for pair in reversed(pairs) for n in pair], value=value)


def values(shape, ties, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(-1, 2, shape).astype(float) if ties else random.normal(size=shape)


@st.composite
def windows(draw, dilated=False):
    """An input shape, and a kernel, stride, padding and dilation that fit it, all per axis."""
    dims = draw(st.integers(1, 3))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * dims))
    stride = draw(st.one_of(st.just(kernel), st.tuples(*[st.integers(1, 3)] * dims)))
    dilation = draw(st.tuples(*[st.integers(1, 2)] * dims)) if dilated else (1,) * dims
    padding = tuple(draw(st.tuples(*[st.integers(0, k // 2)] * 2)) for k in kernel)
    sizes = [draw(st.integers((k - 1) * d + 1, (k - 1) * d + 4)) for k, d in zip(kernel, dilation, strict=True)]
    return (2, *sizes, 2), kernel, stride, padding, dilation


@several
@given(windows(dilated=True), st.booleans())
def test_max_pool_is_torchs(x64, window, ties):
    shape, kernel, stride, padding, dilation = window
    same_as_torch(
        lambda x: fx.max_pool(x, kernel, stride=stride, padding=padding, dilation=dilation),
        channels_first(
            lambda x: MAX[len(kernel) - 1](padded(x, padding, -math.inf), kernel, stride, dilation=dilation)
        ),
        values(shape, ties),
    )


@several
@given(windows(), st.booleans())
def test_mean_pool_is_torchs(x64, window, count_padding):
    shape, kernel, stride, padding, _ = window
    pool = MEAN[len(kernel) - 1]

    def theirs(x):
        inside = torch.ones_like(x)
        inside = padded(inside, padding, float(count_padding))
        return pool(padded(x, padding), kernel, stride) / pool(inside, kernel, stride)

    same_as_torch(
        lambda x: fx.mean_pool(x, kernel, stride=stride, padding=padding, count_padding=count_padding),
        channels_first(theirs),
        values(shape, False),
    )


@pytest.mark.parametrize("count_padding", [True, False])
def test_mean_pool_counts_padding_as_torch_does(count_padding, x64):
    same_as_torch(
        lambda x: fx.mean_pool(x, (3, 2), stride=2, padding=1, count_padding=count_padding),
        channels_first(lambda x: F.avg_pool2d(x, (3, 2), 2, 1, count_include_pad=count_padding)),
        values((2, 5, 6, 3), False),
    )


@several
@given(windows(), st.sampled_from([0.5, 1, 1.5, 2, 2.0, 3, 4]))
def test_lp_pool_is_torchs(x64, window, p):
    shape, kernel, stride, padding, _ = window
    d = len(kernel) - 1
    cells, step = (kernel, stride) if d else (kernel[0], stride[0])
    same_as_torch(
        lambda x: fx.lp_pool(x, kernel, p, stride=stride, padding=padding),
        channels_first(lambda x: NORM[d](padded(x, padding).abs(), p, cells, step)),
        values(shape, False),
    )


@several
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.data(), st.booleans())
def test_adaptive_pools_are_torchs(x64, sizes, data, ties):
    out = tuple(data.draw(st.integers(1, n)) for n in sizes)
    d = len(sizes) - 1
    same_as_torch(
        lambda x: (fx.adaptive_max_pool(x, out), fx.adaptive_mean_pool(x, out)),
        lambda x: (
            channels_first(lambda x: ADAPTIVE_MAX[d](x, out))(x),
            channels_first(lambda x: ADAPTIVE_MEAN[d](x, out))(x),
        ),
        values((2, *sizes, 2), ties),
    )


@pytest.mark.parametrize("shape", [(2, 100, 2), (1, 9, 5, 3), (2, 2, 3, 4, 1)])
def test_global_pools_are_torchs(shape, x64):
    d = len(shape) - 3
    same_as_torch(
        lambda x: (fx.global_max_pool(x), fx.global_mean_pool(x)),
        lambda x: (
            channels_first(lambda x: ADAPTIVE_MAX[d](x, 1))(x),
            channels_first(lambda x: ADAPTIVE_MEAN[d](x, 1))(x),
        ),
        values(shape, True),
    )


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(13, 1, 1), (9, 4, 3), (21, 21, 1), (64, 7, 1)])
def test_long_windows_are_torchs(kernel, stride, dilation, x64):
    """Longer than what is compared or added cell by cell."""
    same_as_torch(
        lambda x: (
            fx.max_pool(x, kernel, stride=stride, dilation=dilation, padding=4),
            fx.mean_pool(x, kernel, stride=stride, padding=4),
        ),
        lambda x: (
            channels_first(lambda x: F.max_pool1d(x, kernel, stride, 4, dilation))(x),
            channels_first(lambda x: F.avg_pool1d(x, kernel, stride, 4))(x),
        ),
        values((2, 90, 2), True),
    )


@pytest.mark.parametrize("stride", [1, 1000])
def test_long_windows_are_not_unrolled(stride):
    x = jax.ShapeDtypeStruct((1, 3000, 1), jnp.float32)
    program = jax.make_jaxpr(jax.grad(lambda x: fx.max_pool(x, 1000, stride=stride).sum()))(x)
    assert len(str(program).splitlines()) < 500


def test_same_padding_puts_the_odd_cell_on_the_high_side(x64):
    same_as_torch(
        lambda x: fx.max_pool(x, (2, 3), stride=(1, 2), padding="same"),
        channels_first(lambda x: F.max_pool2d(padded(x, ((0, 1), (0, 1)), -math.inf), (2, 3), (1, 2))),
        values((2, 5, 6, 1), False),
    )


def test_windows_that_fill_no_kernel_are_left_out_and_one_number_stands_for_all_axes():
    x = jnp.arange(30.0).reshape(1, 5, 6, 1)
    np.testing.assert_array_equal(fx.max_pool(x, 2), fx.max_pool(x, (2, 2), stride=[2, 2], padding=((0, 0), (0, 0))))
    assert fx.max_pool(x, 2).ravel().tolist() == [7, 9, 11, 19, 21, 23]
    assert fx.max_pool(x, 2, stride=3).ravel().tolist() == [7, 10, 25, 28]


# Derivatives

POOLS = {
    "max": (lambda x: fx.max_pool(x, 2, stride=1), lambda x: F.max_pool2d(x, 2, 1)),
    "disjoint max": (lambda x: fx.max_pool(x, 2), lambda x: F.max_pool2d(x, 2)),
    "mean": (lambda x: fx.mean_pool(x, 2, stride=1, padding=1), lambda x: F.avg_pool2d(x, 2, 1, 1)),
    "norm 3": (lambda x: fx.lp_pool(x, 2, 3, stride=1), lambda x: F.lp_pool2d(x.abs(), 3, 2, 1)),
    "adaptive max": (lambda x: fx.adaptive_max_pool(x, 2), lambda x: F.adaptive_max_pool2d(x, 2)),
    "global max": (fx.global_max_pool, lambda x: F.adaptive_max_pool2d(x, 1)),
}


@pytest.mark.parametrize("name", POOLS)
def test_second_derivatives_and_forward_mode_are_torchs(name, x64):
    ours, theirs = POOLS[name]
    x, way = values((1, 3, 4, 1), False), values((1, 3, 4, 1), False, seed=1)

    def f(x):
        return jnp.sin(ours(x)).sum()

    @jax.jit
    def derivatives(x, way):
        forward = jax.jvp(jax.grad(f), (x,), (way,))  # gradient, and its derivative
        reverse = jax.grad(lambda x: (jax.grad(f)(x) * way).sum())(x)
        return *forward, reverse, jax.jvp(f, (x,), (way,))[1]

    t, v = torch.tensor(x, requires_grad=True), torch.tensor(way)
    (gradient,) = torch.autograd.grad(channels_first(theirs)(t).sin().sum(), t, create_graph=True)
    (second,) = torch.autograd.grad((gradient * v).sum(), t)
    expected = gradient.detach(), second, second, (gradient * v).sum().detach()
    for found, reference in zip(derivatives(x, way), expected, strict=True):
        np.testing.assert_allclose(found, reference, rtol=1e-10, atol=1e-12)


def test_the_norm_of_zeros_has_no_gradient():
    powers = (0.5, 1, 1.5, 2, 3)

    @jax.jit
    def compute(x):
        norms = [lambda x, p=p: fx.lp_pool(x, 2, p).sum() for p in powers]
        return [(norm(x), jax.grad(norm)(x), jax.hessian(norm)(x)) for norm in norms]

    for norm, gradient, hessian in compute(jnp.zeros((1, 2, 1))):
        assert norm == 0 and not gradient.any() and not hessian.any()
    for norm, gradient, hessian in compute(jnp.array([[[2.0], [0.0]]])):
        np.testing.assert_allclose(norm, 2.0, rtol=1e-6)
        np.testing.assert_allclose(gradient.ravel(), [1.0, 0.0], rtol=1e-6)
        assert jnp.isfinite(hessian).all()


# Values of every kind


def test_nan_and_infinity():
    x = np.arange(20.0, dtype=np.float32).reshape(1, 4, 5, 1)
    x[0, 1, 1], x[0, 3, 4], x[0, 0, 3:] = math.nan, math.inf, -math.inf
    for kernel, stride in ((2, 1), (2, 2), (3, 1)):
        expected = channels_first(lambda t, k=kernel, s=stride: F.max_pool2d(t, k, s))(torch.tensor(x))
        np.testing.assert_array_equal(fx.max_pool(x, kernel, stride=stride), expected)
        assert np.isnan(fx.lp_pool(x, kernel, stride=stride)).sum() == np.isnan(expected.numpy()).sum()
    assert np.isnan(fx.global_max_pool(x)).all()
    first = x[..., :3, :]
    np.testing.assert_array_equal(
        fx.adaptive_max_pool(first, 2), channels_first(lambda t: F.adaptive_max_pool2d(t, 2))(torch.tensor(first))
    )
    # An infinite value stays in its own window.
    y = fx.adaptive_mean_pool(jnp.array([math.inf, 1.0, 2.0, 3.0, 4.0]).reshape(1, 5, 1), 2)
    assert y.ravel().tolist() == [math.inf, 3.0]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_added_up_in_float32(dtype):
    x = jnp.asarray(values((2, 6, 6, 2), False), dtype)
    wide = x.astype(jnp.float32)
    pools = (
        lambda x: fx.max_pool(x, 3, stride=2, padding=1),
        lambda x: fx.mean_pool(x, 3, padding="same", count_padding=False),
        lambda x: fx.lp_pool(x, 2, 3),
        lambda x: fx.adaptive_max_pool(x, 4),
        lambda x: fx.adaptive_mean_pool(x, 4),
        fx.global_max_pool,
        fx.global_mean_pool,
    )
    for half, full in jax.jit(lambda *xs: [[pool(x) for x in xs] for pool in pools])(x, wide):
        assert half.dtype == dtype
        np.testing.assert_array_equal(half, full.astype(dtype))
    large = jnp.full((1, 4, 1), 60000.0, jnp.float16)
    assert fx.mean_pool(large, 4).item() == fx.global_mean_pool(large).item() == large[0, 0, 0]
    assert fx.lp_pool(jnp.full((1, 2, 1), 300.0, jnp.float16), 2).item() == pytest.approx(300 * 2**0.5, rel=1e-3)


def test_integers_and_booleans():
    x = np.array([[-7, -5, 127, 3, -128]], np.int8).reshape(1, 5, 1)
    for dtype in (np.int8, np.int32, np.uint8):
        y = fx.max_pool(x.astype(dtype), 2, stride=1, padding=1)
        assert y.dtype == dtype
        cells = x.astype(dtype).ravel().tolist()
        assert y.ravel().tolist() == [cells[0], *map(max, itertools.pairwise(cells)), cells[-1]]
    assert fx.global_max_pool(x).dtype == fx.adaptive_max_pool(x, 2).dtype == np.int8
    assert fx.max_pool(x > 0, 2).ravel().tolist() == [False, True]
    mean = fx.mean_pool(x, 5)
    assert mean.dtype == fx.adaptive_mean_pool(x, 2).dtype == fx.global_mean_pool(x).dtype == jnp.float32
    assert mean.item() == fx.global_mean_pool(x).item() == -2.0
    assert fx.lp_pool(x, 5, 1).item() == 270.0


def test_an_empty_batch_gives_no_rows():
    x = jnp.zeros((0, 6, 6, 2))
    for y in (
        fx.max_pool(x, 3, padding=1),
        fx.mean_pool(x, 3, stride=2),
        fx.lp_pool(x, 3),
        fx.adaptive_mean_pool(x, 4),
    ):
        assert y.shape[0] == 0 and y.shape[-1] == 2
    assert fx.adaptive_max_pool(x, 4).shape == (0, 4, 4, 2)
    assert fx.global_max_pool(x).shape == fx.global_mean_pool(x).shape == (0, 1, 1, 2)


def test_complex_means():
    x = jnp.array([1 + 2j, 3 - 2j]).reshape(1, 2, 1)
    assert fx.mean_pool(x, 2).item() == fx.adaptive_mean_pool(x, 1).item() == fx.global_mean_pool(x).item() == 2
    for pool in (lambda x: fx.max_pool(x, 2), lambda x: fx.lp_pool(x, 2), fx.global_max_pool):
        with pytest.raises(fx.DTypeError, match=r"expected real input, got dtype complex64\. Pool jnp\.abs\(x\)"):
            pool(x)


# Refusals


@pytest.mark.parametrize(
    ("pool", "shape", "message"),
    [
        (
            lambda x: fx.max_pool(x, 5),
            (2, 4, 4, 1),
            r"of at least \(5, 5\) cells, the reach of the kernel, got \(4, 4\)",
        ),
        (lambda x: fx.max_pool(x, 3, dilation=2), (2, 4, 1), r"of at least \(5,\) cells, the reach of the kernel"),
        (lambda x: fx.max_pool(x, 2), (0, 0, 1), "the reach of the kernel"),
        (lambda x: fx.max_pool(x, 2, stride=0), (2, 4, 1), "max_pool: expected stride of whole numbers of at least 1"),
        (lambda x: fx.mean_pool(x, 0), (2, 4, 1), "mean_pool: expected kernel of whole numbers of at least 1, got 0"),
        (lambda x: fx.mean_pool(x, 2, padding=-1), (2, 4, 1), "mean_pool: expected padding .* at least 0, got -1"),
        (lambda x: fx.lp_pool(x, 2, padding="valid"), (2, 4, 1), 'lp_pool: expected padding to be numbers or "same"'),
        (
            lambda x: fx.max_pool(x, (2, 2), padding=2),
            (2, 4, 4, 1),
            r"expected every window to reach into the input, got an input \(2, 4, 4, 1\) with a padding of 2 under a "
            r"kernel of \(2, 2\)\. Pad by half the kernel at most\.",
        ),
        (lambda x: fx.mean_pool(x, 1, stride=1, padding=((0, 1),)), (2, 4, 1), "expected every window to reach"),
        (lambda x: fx.max_pool(x, 2, dilation=3, padding=(1,)), (2, 1, 1), "of at least"),
        (lambda x: fx.max_pool(x, 2, dilation=3, padding="same"), (2, 1, 1), "expected every window to reach"),
        (lambda x: fx.max_pool(x, (2, 2)), (28, 28, 3), r"expected input \(batch, height, width, channels\)"),
        (lambda x: fx.max_pool(x, 2, stride=(1, 1)), (2, 28, 3), r"expected input \(batch, height, width, channels\)"),
        (
            lambda x: fx.max_pool(x, (2,)),
            (2, 4, 4, 1),
            r"expected input \(batch, length, channels\), got \(2, 4, 4, 1\)",
        ),
        (lambda x: fx.max_pool(x, (2, 2), stride=(1,)), (2, 4, 4, 1), "max_pool: expected stride to be a number or 2"),
        (
            lambda x: fx.max_pool(x, 2),
            (4, 4),
            r"with 1 to 3 spatial axes, got \(4, 4\)\. Add the batch axis, x\[None\]",
        ),
        (lambda x: fx.max_pool(x, 2), (1, 2, 2, 2, 2, 1), "with 1 to 3 spatial axes"),
        (lambda x: fx.lp_pool(x, 2, 0), (2, 4, 1), "lp_pool: expected a power p > 0, got 0"),
        (lambda x: fx.lp_pool(x, 2, math.inf), (2, 4, 1), r"got inf. For infinity, take the largest of jnp.abs\(x\)"),
        (
            lambda x: fx.adaptive_max_pool(x, 7),
            (2, 5, 8, 1),
            r"expected spatial axes of at least \(7, 7\) cells, one for each output, got \(2, 5, 8, 1\)\. Use",
        ),
        (lambda x: fx.adaptive_mean_pool(x, 0), (2, 5, 1), "adaptive_mean_pool: expected output_size .* at least 1"),
        (lambda x: fx.adaptive_mean_pool(x, (2, 2)), (2, 5, 1), r"expected input \(batch, height, width, channels\)"),
        (fx.global_max_pool, (2, 3), "with 1 to 3 spatial axes"),
        (fx.global_mean_pool, (2, 3, 0, 1), r"of at least one cell, got \(2, 3, 0, 1\)\. Leave empty"),
    ],
)
def test_refusals(pool, shape, message):
    with pytest.raises(fx.FluxionError, match=message):
        pool(jnp.zeros(shape))
