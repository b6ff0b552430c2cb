"""Upsample, PixelShuffle: torch's layers, and what they refuse. The operations have their own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx


def channels_last(layer, x):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    return layer(torch.tensor(x).movedim(-1, 1)).movedim(1, -1)


@pytest.mark.parametrize(
    ("options", "mode", "dims"),
    [
        ({"scale": 2}, "nearest", 2),
        ({"size": (2, 5)}, "nearest", 2),
        ({"scale": 1.5}, "linear", 1),
        ({"scale": (2, 1.5), "align_corners": True}, "bilinear", 2),
        ({"size": 4}, "trilinear", 3),
    ],
)
def test_upsample_is_torchs(options, mode, dims):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    x = np.random.default_rng(0).normal(size=(*(2, 4, 3, 2)[: dims + 1], 2)).astype(np.float32)
    layer = fx.Upsample(**options, mode=mode)
    renamed = {{"scale": "scale_factor"}.get(k, k): v for k, v in options.items()}
    expected = channels_last(torch.nn.Upsample(**renamed, mode=mode), x)
    y = jax.jit(layer)(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(layer)(x[1:]), y[1:], rtol=1e-5, atol=1e-6)  # rows do not know of each other
    assert fx.outputsize(layer, (None, *x.shape[1:])) == (None, *y.shape[1:])


def test_pixel_shuffle_is_torchs():
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 18)).astype(np.float32)
    y = fx.PixelShuffle(3)(x)
    np.testing.assert_array_equal(y, channels_last(torch.nn.PixelShuffle(3), x))
    np.testing.assert_array_equal(fx.PixelShuffle(3)(x[1:]), y[1:])


def test_printed():
    layers = fx.Upsample(2.5, mode="linear", align_corners=True), fx.Upsample(size=[3, 4]), fx.PixelShuffle(3)
    assert list(map(repr, layers)) == [
        "Upsample(2.5, mode='linear', align_corners=True)",
        "Upsample(size=(3, 4))",
        "PixelShuffle(3)",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.Upsample(), "Upsample: expected either scale or size, got neither. Give one, such as scale=2."),
        (
            lambda: fx.Upsample(2, size=4),
            "Upsample: expected either scale or size, got scale=2 and size=4. Give one, such as scale=2.",
        ),
        (lambda: fx.Upsample(0), "Upsample: expected scale to be positive numbers, got 0."),
        (lambda: fx.Upsample(True), "Upsample: expected scale to be positive numbers, got True."),
        (lambda: fx.Upsample(size=(3, 0)), "Upsample: expected size to be positive whole numbers, got (3, 0)."),
        (
            lambda: fx.Upsample(2, mode="bilinera"),
            'Upsample: expected mode to be one of "nearest", "linear", "bilinear", "trilinear", got \'bilinera\'. '
            "Did you mean 'bilinear'?",
        ),
        (
            lambda: fx.Upsample(2, align_corners=True),
            'Upsample: expected align_corners=False with mode="nearest", which has none to align, got True. '
            'Use mode="linear", "bilinear" or "trilinear".',
        ),
        (lambda: fx.PixelShuffle(0), "PixelShuffle: expected a positive whole number for factor, got 0."),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(fx.ArgumentError) as caught:
        make()
    assert str(caught.value) == message


def test_the_mode_for_another_rank_is_named():
    with pytest.raises(fx.ShapeError) as caught:
        fx.Chain(fx.Upsample(2, mode="bilinear"))(jnp.ones((2, 3, 4)))
    assert str(caught.value) == (
        "model.layers[0] Upsample(2, mode='bilinear'): expected input (batch, height, width, channels) for "
        'mode="bilinear", got (2, 3, 4). Use mode="linear".'
    )
    with pytest.raises(fx.ShapeError, match=r"model Upsample\(\(2, 2\)\): expected input with 2 spatial axes"):
        fx.Upsample((2, 2))(jnp.ones((2, 3, 4)))
