"""grid_sample, affine_grid, imrotate: torch's, SciPy's and NNlib's numbers; gradients in pictures, places, angles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx

few = settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def sampled(x, grid, **options):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    options = {"align_corners": False, **options}
    return torch.nn.functional.grid_sample(x.movedim(-1, 1), grid, **options).movedim(1, -1)


def same_samples(x, grid, *every):
    same_as_torch(
        lambda x, grid: tuple(fx.grid_sample(x, grid, **options) for options in every),
        lambda x, grid: tuple(sampled(x, grid, **options) for options in every),
        x,
        grid,
    )


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@few
@given(size=st.tuples(st.integers(1, 4), st.integers(2, 5)), out=st.tuples(st.integers(1, 4), st.integers(2, 3)))
def test_grid_sample_is_torchs(padding_mode, size, out, x64):
    random = np.random.default_rng(0)
    x, grid = random.normal(size=(2, *size, 2)), random.normal(size=(2, *out, 2)) * 2
    align_corners = sum(size) % 2 == 0
    options = {"padding_mode": padding_mode, "align_corners": align_corners}
    same_samples(x, grid, options, {**options, "mode": "nearest"})
    options["align_corners"] = not align_corners
    for mode in ("bilinear", "nearest"):
        expected = sampled(*map(pytest.importorskip("torch").tensor, (x, grid)), mode=mode, **options)
        found = jax.jit(lambda x, grid, mode=mode: fx.grid_sample(x, grid, mode=mode, **options))(x, grid)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_grid_sample_of_volumes_is_torchs(x64):
    random = np.random.default_rng(0)
    x, grid = random.normal(size=(2, 2, 3, 4, 2)), random.normal(size=(2, 3, 2, 2, 3))
    same_samples(x, grid, {"align_corners": True}, {"padding_mode": "reflection", "mode": "nearest"})


@pytest.mark.parametrize("options", [{}, {"padding_mode": "border", "align_corners": True}])
def test_points_on_the_border_and_far_outside_are_torchs(options, x64):
    """Where cells begin and end, gradients have jumps; torch's side of each jump is ours."""
    x = np.random.default_rng(0).normal(size=(1, 3, 5, 1))
    ends = np.array([-1e6, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 1e6])
    same_samples(x, np.stack(np.meshgrid(ends, ends), -1)[None], options)


def test_second_derivatives(x64):
    random = np.random.default_rng(0)
    at = random.normal(size=(1, 3, 4, 1)), random.uniform(-0.9, 0.9, size=(1, 3, 2))
    way = tuple(random.normal(size=a.shape) for a in at)
    slope = jax.jit(jax.grad(lambda at: (fx.grid_sample(*at) ** 3).sum()))
    found = jax.jit(lambda at, way: jax.jvp(slope, (at,), (way,))[1])(at, way)
    ahead, behind = (slope(jax.tree.map(lambda a, d: a + h * d, at, way)) for h in (1e-6, -1e-6))
    for second, high, low in zip(found, ahead, behind, strict=True):
        np.testing.assert_allclose(second, (high - low) / 2e-6, rtol=1e-6, atol=1e-6)


def test_the_gradients_of_a_rotation(x64):
    random = np.random.default_rng(0)
    at = random.normal(size=(2, 4, 3, 1)), np.array([0.4, -2.0])
    way = tuple(random.normal(size=a.shape) for a in at)
    value = jax.jit(jax.value_and_grad(lambda at: (fx.imrotate(*at, value=0.5) ** 3).sum()))
    slope = sum((g * d).sum() for g, d in zip(value(at)[1], way, strict=True))
    ahead, behind = (value(jax.tree.map(lambda a, d: a + h * d, at, way))[0] for h in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-6)


def test_grid_of_any_rank_and_points_that_are_not_known():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    grid = np.random.default_rng(1).uniform(-1, 1, size=(2, 6, 2)).astype(np.float32)
    several = [grid, grid.reshape(2, 3, 2, 1, 2), grid[:, 0]]
    expected, high, low = jax.jit(lambda several: [fx.grid_sample(x, grid) for grid in several])(several)
    assert expected.shape == (2, 6, 2) and low.shape == (2, 2)
    np.testing.assert_allclose(high.reshape(2, 6, 2), expected, rtol=1e-6)
    np.testing.assert_allclose(low, expected[:, 0], rtol=1e-6)
    grid[0, 0] = np.nan
    grid[0, 1] = np.inf
    for found in jax.jit(lambda grid: [fx.grid_sample(x, grid, mode=mode) for mode in ("bilinear", "nearest")])(grid):
        assert jnp.isnan(found[0, 0]).all() and not found[0, 1].any() and jnp.isfinite(found[0, 1:]).all()
    assert not fx.grid_sample(np.ones(x.shape, int), grid, mode="nearest")[0, :2].any()


@pytest.mark.parametrize(("size", "align_corners"), [((3, 4), True), ((1, 2), False), ((2, 1, 3), False)])
def test_affine_grid_is_torchs(size, align_corners, x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    dims = len(size)
    same_as_torch(
        lambda theta: fx.affine_grid(theta, size, align_corners=align_corners),
        lambda theta: torch.nn.functional.affine_grid(theta, (2, 3, *size), align_corners=align_corners),
        np.random.default_rng(0).normal(size=(2, dims, dims + 1)),
    )


def test_quarter_turns_are_exact():
    for size in (3, 4):
        x = np.random.default_rng(0).normal(size=(2, size, size, 2)).astype(np.float32)
        for mode in ("bilinear", "nearest"):
            rotate = jax.jit(lambda x, angle, mode=mode: fx.imrotate(x, angle, mode=mode))
            for turns in range(-1, 3):
                np.testing.assert_allclose(rotate(x, turns * np.pi / 2), np.rot90(x, -turns, (1, 2)), atol=1e-5)


@pytest.mark.parametrize("value", [0, 2.5])
def test_imrotate_is_scipys(value, x64):
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is the outside reference")
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 2))
    degrees = np.array([33.0, -142.0])
    rotate = jax.jit(lambda angle: fx.imrotate(x, angle, value=value))
    found = rotate(np.deg2rad(degrees))
    for picture, turned, angle in zip(x, found, degrees, strict=True):
        expected = ndimage.rotate(picture, -angle, order=1, reshape=False, cval=value)
        np.testing.assert_allclose(turned, expected, atol=1e-12)
    np.testing.assert_allclose(rotate(np.deg2rad(33.0))[0], found[0], atol=1e-12)


def test_imrotate_has_the_examples_of_nnlib():
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 1, 1] = 1
    turned = np.zeros((4, 4))
    turned[1, 3] = 1
    about = jax.jit(lambda center: fx.imrotate(x, np.pi / 2, center=center)[0, :, :, 0])
    np.testing.assert_allclose(about((2, 2)), turned, atol=1e-6)
    np.testing.assert_allclose(about((1, 1)), x[0, :, :, 0], atol=1e-6)
    y = np.zeros((1, 3, 3, 1), np.float32)
    y[0, 0, 1] = 1
    modes = ("bilinear", "nearest")
    mixed, taken = jax.jit(lambda: [fx.imrotate(y, np.pi / 4, mode=m)[0, :, :, 0] for m in modes])()
    np.testing.assert_allclose(mixed, [[0, 0.207107, 0], [0, 0, 0.207107], [0, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(taken, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_dtypes():
    x = np.arange(18).reshape(1, 3, 3, 2)
    grid = np.random.default_rng(0).uniform(-1, 1, size=(1, 5, 2)).astype(np.float32)

    def both(x, **options):
        turned = fx.imrotate(x, 0.3, value=1, mode=options.get("mode", "bilinear"))
        return fx.grid_sample(x, grid, **options), turned

    kinds = (jnp.float16, jnp.bfloat16, jnp.complex64)
    exact, *found = jax.jit(lambda every: [both(x) for x in every])([x, *(jnp.asarray(x, kind) for kind in kinds)])
    assert {y.dtype for y in exact} == {jnp.dtype(jnp.float32)}
    for kind, pair in zip(kinds, found, strict=True):
        for y, reference in zip(pair, exact, strict=True):
            assert y.dtype == kind
            np.testing.assert_allclose(np.asarray(y, complex), reference, rtol=1e-2)
    for kind in (jnp.uint8, jnp.int32):
        whole = jax.eval_shape(lambda x: both(x, mode="nearest"), jax.ShapeDtypeStruct(x.shape, kind))
        assert all(y.dtype == kind for y in whole)
    assert fx.affine_grid(jnp.zeros((2, 2, 3), jnp.bfloat16), (3, 3)).dtype == jnp.bfloat16
    assert fx.grid_sample(jnp.zeros((0, 3, 3, 2)), jnp.zeros((0, 5, 2))).shape == (0, 5, 2)


x, grid = jnp.ones((2, 3, 4, 1)), jnp.ones((2, 3, 4, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fx.grid_sample(x, grid, mode="bilinaer"),
            fx.ArgumentError,
            "grid_sample: expected mode to be \"bilinear\" or \"nearest\", got 'bilinaer'. Did you mean 'bilinear'?",
        ),
        (
            lambda: fx.grid_sample(x, grid, padding_mode="reflect"),
            fx.ArgumentError,
            'grid_sample: expected padding_mode to be "zeros", "border" or "reflection", got \'reflect\'. '
            "Did you mean 'reflection'?",
        ),
        (
            lambda: fx.grid_sample(x[0], grid),
            fx.ShapeError,
            "grid_sample: expected input (batch, height, width, channels) or (batch, depth, height, width, channels), "
            "got (3, 4, 1). A single picture has a batch axis too: x[None].",
        ),
        (
            lambda: fx.grid_sample(x, grid[..., :1]),
            fx.ShapeError,
            "grid_sample: expected a grid (2, ..., 2), a point (x, y) for each cell of the result, got (2, 3, 4, 1) "
            "for input (2, 3, 4, 1). fx.affine_grid makes one.",
        ),
        (lambda: fx.grid_sample(x, grid[:1]), fx.ShapeError, "grid_sample: expected a grid (2, ..., 2), a point"),
        (
            lambda: fx.grid_sample(x[:, :0], grid),
            fx.ShapeError,
            "grid_sample: expected a picture of at least one cell, got (2, 0, 4, 1).",
        ),
        (
            lambda: fx.grid_sample(x, grid * 1j),
            fx.DTypeError,
            "grid_sample: expected a real grid, got dtype complex64. Take its real part.",
        ),
        (
            lambda: fx.affine_grid(jnp.ones((2, 2, 3)), (3,)),
            fx.ArgumentError,
            "affine_grid: expected size to be 2 or 3 positive whole numbers such as (28, 28), got (3,).",
        ),
        (
            lambda: fx.affine_grid(jnp.ones((2, 2, 3)), (3, 3, 3)),
            fx.ShapeError,
            "affine_grid: expected theta (batch, 3, 4) for spatial axes (3, 3, 3), got (2, 2, 3).",
        ),
        (
            lambda: fx.imrotate(x, 0.1, mode="cubic"),
            fx.ArgumentError,
            'imrotate: expected mode to be "bilinear" or "nearest", got \'cubic\'.',
        ),
        (lambda: fx.imrotate(x[0], 0.1), fx.ShapeError, "imrotate: expected input (batch, height, width, channels)"),
        (
            lambda: fx.imrotate(x, jnp.ones(3)),
            fx.ShapeError,
            "imrotate: expected one angle, or 2 for 2 pictures, got shape (3,).",
        ),
        (
            lambda: fx.imrotate(x, 0.1, center=1),
            fx.ArgumentError,
            "imrotate: expected center to be a pair (row, column), got 1.",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(message)
