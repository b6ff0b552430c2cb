"""upsample_nearest and upsample_linear: torch's cells, numbers and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.ops.upsampling import MOST_PHASES, _linear_matrix, _nearest_cells

few = settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
many = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def interpolated(x, **options):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    return torch.nn.functional.interpolate(x.movedim(-1, 1), **options).movedim(1, -1)


scales = st.one_of(st.integers(1, 12), st.floats(0.3, 4, allow_subnormal=False))


@many
@given(n=st.integers(1, 12), scale=scales, by_size=st.booleans(), align_corners=st.booleans())
def test_the_cells_of_an_axis_are_torchs(n, scale, by_size, align_corners):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    cells = int(n * scale)
    if cells < 1:
        return
    where = {"size": cells} if by_size else {"scale_factor": scale}
    eye = torch.eye(n, dtype=torch.float64)[None]  # its rows, channels to torch, show what each output cell is made of
    expected = torch.nn.functional.interpolate(eye, mode="linear", align_corners=align_corners, **where)[0].T
    if cells != n:
        ours = _linear_matrix(n, cells, None if by_size else scale, align_corners)
        np.testing.assert_allclose(ours, expected, atol=1e-12)
    expected = torch.nn.functional.interpolate(eye, mode="nearest", **where)[0].T.argmax(1).numpy()
    differ = _nearest_cells(n, cells, None if by_size else scale) != expected
    exact = np.arange(cells) * (n / cells if by_size else 1 / scale)
    assert (np.abs(exact - exact.round())[differ] < 1e-5).all()  # torch computes it in single precision


@few
@given(data=st.data(), dims=st.integers(1, 3), by_size=st.booleans(), align_corners=st.booleans())
def test_linear_is_torchs(data, dims, by_size, align_corners, x64):
    some = (
        st.tuples(*[st.integers(1, 6)] * dims) if by_size else st.tuples(*[st.sampled_from([1, 2, 3, 0.6, 1.7])] * dims)
    )
    given_ = data.draw(some)
    x = np.random.default_rng(0).normal(size=(2, *data.draw(st.tuples(*[st.integers(2, 4)] * dims)), 2))
    same_as_torch(
        lambda x: fx.upsample_linear(x, **{"size" if by_size else "scale": given_}, align_corners=align_corners),
        lambda x: interpolated(
            x, **{"size" if by_size else "scale_factor": given_}, mode=MODES[dims], align_corners=align_corners
        ),
        x,
    )


@few
@given(data=st.data(), dims=st.integers(1, 3), by_size=st.booleans())
def test_nearest_is_torchs(data, dims, by_size, x64):
    some = (
        st.tuples(*[st.integers(1, 6)] * dims) if by_size else st.tuples(*[st.sampled_from([1, 2, 3, 0.6, 1.7])] * dims)
    )
    given_ = data.draw(some)
    x = np.random.default_rng(0).normal(size=(2, *data.draw(st.tuples(*[st.integers(2, 4)] * dims)), 2))
    same_as_torch(
        lambda x: fx.upsample_nearest(x, **{"size" if by_size else "scale": given_}),
        lambda x: interpolated(x, **{"size" if by_size else "scale_factor": given_}, mode="nearest"),
        x,
    )


def test_many_copies_take_the_matrix_and_agree(x64):
    """Beyond `MOST_PHASES` another way is taken; both are torch's, and so is a scale that leaves the size."""
    x = np.random.default_rng(0).normal(size=(1, 3, 2))
    scales = (MOST_PHASES, MOST_PHASES + 1, 1.2)
    same_as_torch(
        lambda x: tuple(fx.upsample_linear(x, s) for s in scales),
        lambda x: tuple(interpolated(x, scale_factor=s, mode="linear") for s in scales),
        x,
    )


def test_second_derivatives(x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    x, v = np.random.default_rng(0).normal(size=(2, 1, 3, 2, 2))

    def ours(x):
        return (fx.upsample_linear(x, (2, 1.5)) ** 3).sum() + (fx.upsample_nearest(x, (1.5, 2)) ** 3).sum()

    def theirs(x):
        linear = interpolated(x, scale_factor=(2, 1.5), mode="bilinear")
        return (linear**3).sum() + (interpolated(x, scale_factor=(1.5, 2), mode="nearest") ** 3).sum()

    found = jax.jit(lambda x, v: jax.jvp(jax.grad(ours), (x,), (v,))[1])(x, v)
    expected = torch.autograd.functional.hvp(theirs, torch.tensor(x), torch.tensor(v))[1]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_dtypes():
    x = np.arange(6, dtype=np.int32).reshape(1, 3, 2)
    assert fx.upsample_nearest(x, 2).dtype == jnp.int32
    assert fx.upsample_linear(x, 2).dtype == jnp.float32
    kinds = (jnp.float16, jnp.bfloat16, jnp.complex64)
    several = [x, *(jnp.asarray(x, kind) for kind in kinds)]
    exact, *found = jax.jit(lambda several: [fx.upsample_linear(x, 1.5) for x in several])(several)
    for kind, x, y in zip(kinds, several[1:], found, strict=True):
        assert jax.eval_shape(lambda x: fx.upsample_nearest(x, 1.5), x).dtype == y.dtype == kind
        np.testing.assert_allclose(np.asarray(y, complex), exact, rtol=1e-2)
    # single precision on any device: its products are asked for in full
    np.testing.assert_allclose(fx.upsample_linear(np.full((1, 5, 1), 1 / 3, np.float32), 1.7), 1 / 3, rtol=1e-6)
    assert fx.upsample_linear(jnp.zeros((0, 4, 4, 3)), 2).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("up", [fx.upsample_nearest, fx.upsample_linear])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, fx.ArgumentError, "{}: expected either scale or size, got neither. Give one, such as scale=2."),
        (
            {"scale": 2, "size": (3, 3)},
            fx.ArgumentError,
            "{}: expected either scale or size, got scale=2 and size=(3, 3). Give one, such as scale=2.",
        ),
        ({"scale": 0}, fx.ArgumentError, "{}: expected scale to be positive numbers, got 0."),
        ({"scale": (2, float("nan"))}, fx.ArgumentError, "{}: expected scale to be positive numbers, got (2, nan)."),
        ({"scale": "2"}, fx.ArgumentError, "{}: expected scale to be positive numbers, got '2'."),
        ({"size": 2.5}, fx.ArgumentError, "{}: expected size to be positive whole numbers, got 2.5."),
        (
            {"scale": (2, 2, 2)},
            fx.ShapeError,
            "expected input with 3 spatial axes, one per number of scale=(2, 2, 2), got (1, 3, 4, 2). "
            "Give scale one number, or 2 of them.",
        ),
        (
            {"scale": 0.3},
            fx.ShapeError,
            "expected spatial axes that leave a cell, got (1, 3, 4, 2), of which would be left (0, 1). "
            "Use a larger scale or a larger input.",
        ),
    ],
)
def test_refusals(up, arguments, error, message):
    with pytest.raises(error) as caught:
        up(jnp.ones((1, 3, 4, 2)), **arguments)
    assert str(caught.value) == message.format(up.__name__)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (1, 2, 2, 2, 2, 2)])
def test_rank(shape):
    with pytest.raises(fx.ShapeError, match=r"expected input \(batch, \*spatial, channels\) with 1 to 3 spatial axes"):
        fx.upsample_nearest(jnp.ones(shape), 2)
