"""Padding: the numbers of torch and numpy, first and second derivatives, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx

MODES = ("constant", "reflect", "symmetric", "edge", "circular")


@st.composite
def paddings(draw):
    """An input shape, and for each spatial axis a pair that every mode can take."""
    size = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    pairs = tuple((draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1))) for n in size)
    return (draw(st.integers(1, 2)), *size, draw(st.integers(1, 2))), pairs


@given(paddings())
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pad_is_torchs_and_numpys(x64, drawn):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    shape, pairs = drawn
    x = np.random.default_rng(0).normal(size=shape)
    values = {"constant": 0.5}
    widths = tuple(p for pair in reversed(pairs) for p in pair)

    # A gradient as output, whose gradient is compared as well: second derivatives.
    def ours(x):
        def total(x):
            padded = tuple(fx.pad(x, pairs, mode, value=values.get(mode, 0)) for mode in MODES)
            return sum(jnp.sin(y).sum() * i for i, y in enumerate(padded, 1)), padded

        slope, padded = jax.grad(total, has_aux=True)(x)
        return *padded, slope

    def theirs(x):
        def padded(mode):
            if mode == "symmetric":  # torch has none: each axis mirrored and joined
                return symmetric(torch, x, pairs)
            name = {"edge": "replicate"}.get(mode, mode)
            y = torch.nn.functional.pad(x.movedim(-1, 1), widths, name, values.get(mode))
            return y.movedim(1, -1)

        every = tuple(map(padded, MODES))
        total = sum(y.sin().sum() * i for i, y in enumerate(every, 1))
        return *every, *torch.autograd.grad(total, x, create_graph=True)

    same_as_torch(ours, theirs, x)
    expected = np.pad(x, ((0, 0), *pairs, (0, 0)), "symmetric")
    np.testing.assert_array_equal(fx.pad(x, pairs, "symmetric"), expected)


def symmetric(torch, x, pairs):
    for axis, (low, high) in enumerate(pairs, 1):
        mirrored = x.flip(axis)
        n = x.shape[axis]
        x = torch.cat([mirrored.narrow(axis, n - low, low), x, mirrored.narrow(axis, 0, high)], axis)
    return x


def test_the_most_each_mode_can_take():
    x = jnp.arange(3.0)[None, :, None]
    assert fx.pad(x, 2, "reflect")[0, :, 0].tolist() == [2, 1, 0, 1, 2, 1, 0]
    assert fx.pad(x, 3, "symmetric")[0, :, 0].tolist() == [2, 1, 0, 0, 1, 2, 2, 1, 0]
    assert fx.pad(x, 3, "circular")[0, :, 0].tolist() == [0, 1, 2] * 3
    assert fx.pad(x, 5, "edge")[0, :, 0].tolist() == [0] * 5 + [0, 1, 2] + [2] * 5
    assert fx.pad(x[:, :0], 1)[0, :, 0].tolist() == [0, 0]


@pytest.mark.parametrize("mode", MODES)
def test_empty_batch_and_dtypes(mode):
    assert fx.pad(jnp.ones((0, 3, 3, 2)), ((1, 2), (0, 1)), mode).shape == (0, 6, 4, 2)
    for dtype in (bool, jnp.uint8, jnp.int32, jnp.bfloat16, jnp.float32):
        padded = jax.eval_shape(lambda dtype=dtype: fx.pad(jnp.ones((1, 3, 2), dtype), 1, mode))
        assert padded.dtype == dtype


def test_constants():
    x = jnp.ones((1, 1, 1), jnp.uint8)
    assert fx.pad(x, 1, value=255)[0, :, 0].tolist() == [255, 1, 255]
    assert np.isneginf(fx.pad(x.astype(jnp.bfloat16), 1, value=-np.inf)[0, 0, 0])
    assert fx.pad(x * 1j, 1, value=2).dtype == jnp.complex64
    for value in (256, -1, 0.5, np.nan, np.inf):
        with pytest.raises(fx.DTypeError, match=r"a value that uint8 can hold, got .*\. Convert the input first\."):
            fx.pad(x, 1, value=value)


X = np.ones((2, 3, 5, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.pad(X, 1, "reflct"), "pad: expected a mode out of .*, got 'reflct'. Did you mean 'reflect'?"),
        (lambda: fx.pad(X, 1, "replicate"), '"edge", "circular", got \'replicate\''),
        (lambda: fx.pad(X, 1, "edge", value=1), 'expected a value with mode "constant" only, got 1 with "edge"'),
        (lambda: fx.pad(X, -1), "pad: expected padding of whole numbers of at least 0, got -1."),
        (lambda: fx.pad(X, "same"), "pad: expected padding to be numbers, got 'same'."),
        (lambda: fx.pad(X, ()), r"pad: expected padding for at least one axis, got \(\)."),
        (lambda: fx.pad(X, ((1, 2, 3), 1)), "expected padding of whole numbers"),
        (
            lambda: fx.pad(X, (3, 0), "reflect"),
            r'expected at most 2 cells of "reflect" padding on a side of an axis of 3, got 3 for an input of shape',
        ),
        (lambda: fx.pad(X, ((0, 0), (0, 6)), "circular"), 'at most 5 cells of "circular" padding .* axis of 5, got 6'),
        (lambda: fx.pad(X, (4, 0), "symmetric"), 'at most 3 cells of "symmetric" padding'),
        (lambda: fx.pad(X[:, :0], 1, "edge"), 'at most 0 cells of "edge" padding on a side of an axis of 0, got 1'),
        (lambda: fx.pad(X, (1, 1, 1)), r"expected input \(batch, depth, height, width, channels\), got \(2, 3, 5, 1\)"),
        (lambda: fx.pad(X[0, 0], 1), r"expected input \(batch, length, channels\), got \(5, 1\). Add a batch axis"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(fx.FluxionError, match=message):
        make()
