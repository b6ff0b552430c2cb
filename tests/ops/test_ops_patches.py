"""unfold, fold, pixel_shuffle, pixel_unshuffle: torch's numbers and gradients; each other's transpose or inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx

few = settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@few
@given(
    size=st.tuples(st.integers(5, 7), st.integers(5, 6)),
    kernel=pairs,
    stride=pairs,
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_unfold_and_fold_are_torchs(size, kernel, stride, dilation, padding, x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    channels, cells = 2, kernel[0] * kernel[1]
    x = np.random.default_rng(0).normal(size=(2, *size, channels))
    windows = jax.eval_shape(lambda x: fx.unfold(x, kernel, **options), x).shape
    patches = np.random.default_rng(1).normal(size=windows)

    def theirs(x, patches):
        columns = torch.nn.functional.unfold(x.movedim(-1, 1), kernel, **options)
        rows = columns.reshape(2, channels, cells, *windows[1:3]).movedim((3, 4, 2), (1, 2, 3))
        flat = patches.movedim((3, 4), (2, 1)).reshape(2, channels * cells, -1)
        return rows, torch.nn.functional.fold(flat, size, kernel, **options).movedim(1, -1)

    same_as_torch(
        lambda x, patches: (fx.unfold(x, kernel, **options), fx.fold(patches, size, kernel, **options)),
        theirs,
        x,
        patches,
    )


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((2, 7, 3), (3,), {"padding": "same", "stride": 2}),
        ((2, 6, 5, 3), (2, 3), {"padding": ((0, 1), (2, 0)), "dilation": (1, 2)}),
        ((1, 4, 3, 4, 2), (2, 2, 3), {"padding": 1, "stride": (1, 2, 1)}),
    ],
)
def test_a_convolution_in_one_line(shape, kernel, options, x64):
    random = np.random.default_rng(0)
    x, weight = random.normal(size=shape), random.normal(size=(*kernel, shape[-1], 4))

    @jax.jit
    def both(x, weight):
        patches = fx.unfold(x, kernel, **options)
        other = jnp.cos(jnp.arange(patches.size)).reshape(patches.shape)
        # The transpose: <unfold(x), p> = <x, fold(p)>
        products = (patches * other).sum(), (x * fx.fold(other, shape[1:-1], kernel, **options)).sum()
        found = jnp.tensordot(patches, weight.reshape(-1, *weight.shape[-2:]), 2)
        return (found, fx.conv(x, weight, **options)), products

    for found, expected in both(x, weight):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_fold_divided_by_the_number_of_windows_is_the_mean(x64):
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))

    @jax.jit
    def back(x):
        return fx.fold(fx.unfold(x, (3, 3)), (6, 6), (3, 3))

    np.testing.assert_allclose(back(x) / back(np.ones(x.shape)), x, rtol=1e-12)
    # Any order of derivatives, forward as well.
    slope = jax.grad(lambda x: (back(x) ** 3).sum())
    twice = jax.jit(lambda x: jax.jvp(slope, (x,), (jnp.ones(x.shape),))[1])(x)
    np.testing.assert_allclose(twice, back(6 * back(x) * back(np.ones(x.shape))), rtol=1e-10)


@pytest.mark.parametrize(("factor", "spatial", "channels"), [(2, (2, 3), 3), (3, (1, 2), 2)])
def test_pixel_shuffle_is_torchs(factor, spatial, channels):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    x = np.random.default_rng(0).normal(size=(2, *spatial, channels * factor**2)).astype(np.float32)
    expected = torch.pixel_shuffle(torch.tensor(x).movedim(-1, 1), factor).movedim(1, -1)
    y = fx.pixel_shuffle(x, factor)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(fx.pixel_unshuffle(y, factor), x)


@pytest.mark.parametrize("dims", [1, 3])
def test_pixel_shuffle_of_other_ranks(dims):
    """Cell `s * r + i` of channel `c` is channel `c * r**dims + i` of cell `s`, as the formula says."""
    r, spatial = 2, (2, 3, 2)[:dims]
    x = np.random.default_rng(0).integers(0, 100, size=(2, *spatial, 3 * r**dims))
    y = np.zeros((2, *(n * r for n in spatial), 3), int)
    for place in np.ndindex(*y.shape[1:]):
        *cell, c = place
        within = np.ravel_multi_index([p % r for p in cell], (r,) * dims)
        y[(slice(None), *place)] = x[(slice(None), *(p // r for p in cell), c * r**dims + within)]
    np.testing.assert_array_equal(fx.pixel_shuffle(x, r), y)
    np.testing.assert_array_equal(fx.pixel_unshuffle(y, r), x)
    gradient = jax.grad(lambda x: (fx.pixel_shuffle(x, r) * y).sum())(x.astype(np.float32))
    np.testing.assert_array_equal(gradient, x)


def test_dtypes():
    for dtype in (jnp.int32, jnp.uint8, jnp.float16, jnp.bfloat16, jnp.complex64):
        like = jax.ShapeDtypeStruct((1, 4, 2), dtype)
        patches = jax.eval_shape(lambda x: fx.unfold(x, (2,)), like)
        assert patches.dtype == jax.eval_shape(lambda x: fx.pixel_shuffle(x, 2), like).dtype == dtype
        folded = jax.eval_shape(lambda p: fx.fold(p, (4,), (2,)), patches)
        assert folded.dtype == (dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32)
    assert fx.fold(fx.unfold(np.arange(4).reshape(1, 4, 1), (2,)), (4,), (2,)).ravel().tolist() == [0, 2, 4, 3]
    assert fx.unfold(jnp.zeros((0, 4, 2)), (2,)).shape == (0, 3, 2, 2)
    assert fx.fold(jnp.zeros((0, 3, 2, 2)), (4,), (2,)).shape == (0, 4, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: fx.unfold(x, 3),
            fx.ArgumentError,
            "unfold: expected a kernel of one size per spatial axis, got 3. Use (3,) for sequences, (3, 3) for images.",
        ),
        (
            lambda x: fx.unfold(x[0], (2, 2)),
            fx.ShapeError,
            r"expected input (batch, height, width, channels), got (4, 5, 6). Add a batch axis: x[None]",
        ),
        (lambda x: fx.unfold(x, (5, 5)), fx.ShapeError, "expected spatial axes of at least (5, 5) cells"),
        (lambda x: fx.unfold(x, (2, 2), stride=0), fx.ArgumentError, "unfold: expected stride of whole numbers"),
        (
            lambda x: fx.fold(x, (4, 5), (2, 2)),
            fx.ShapeError,
            "fold: expected patches (batch, 3, 4, 4, channels), as unfold gives for spatial axes (4, 5), got "
            "(1, 4, 5, 6). Give both the same kernel, stride, padding and dilation.",
        ),
        (
            lambda x: fx.fold(fx.unfold(x, (2, 2)), (5, 5), (2, 2)),
            fx.ShapeError,
            "fold: expected patches (batch, 4, 4, 4, channels)",
        ),
        (
            lambda x: fx.fold(x, 4, (2, 2)),
            fx.ArgumentError,
            "fold: expected spatial_size to be 2 sizes, as many as the kernel (2, 2) has, got 4.",
        ),
        (
            lambda x: fx.pixel_shuffle(x, 2),
            fx.ShapeError,
            "expected channels divisible by 4, 2 for each of 2 spatial axes, got (1, 4, 5, 6). "
            "Let the layer before give 4 times the channels that are wanted.",
        ),
        (
            lambda x: fx.pixel_unshuffle(x, 2),
            fx.ShapeError,
            "pixel_unshuffle: expected spatial axes divisible by 2, got (1, 4, 5, 6). Pad or crop the input.",
        ),
        (
            lambda x: fx.pixel_shuffle(x[0, 0], 2),
            fx.ShapeError,
            "expected input (batch, *spatial, channels) with 1 to 3 spatial axes, got (5, 6). "
            "Reshape it; a single example has a batch axis too: x[None].",
        ),
        (lambda x: fx.pixel_shuffle(x, 1.5), fx.ArgumentError, "pixel_shuffle: expected factor of whole numbers"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error) as caught:
        call(jnp.ones((1, 4, 5, 6)))
    assert str(caught.value).startswith(message)
