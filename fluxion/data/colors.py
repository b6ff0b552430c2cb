"""The colors of a batch of images: changed at random, made gray, disturbed, brought to mean 0 and deviation 1."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.data.augmentation import floating, number, pictures
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError
from fluxion.ops.checks import known
from fluxion.transform.randomness import next_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Float64, Shaped

_WEIGHTS = np.array([[0.299], [0.587], [0.114]])  # of red, green and blue in gray, by ITU-R 601
_AT_A_TIME = 2**18  # pixels; the deviations of all of them in float64 would take twice the memory of the images


class ChannelStatistics(NamedTuple):
    """What `channel_statistics` returns: a number for each channel."""

    mean: Float64[np.ndarray, " channels"]
    std: Float64[np.ndarray, " channels"]


def color_jitter(
    images: Float[Array, "n height width c"],
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    *,
    key: Array | None = None,
) -> Float[Array, "n height width c"]:
    """Change brightness, contrast, saturation and hue of each image at random, in this order.

    A factor `f` is uniform in `[max(0, 1 - strength), 1 + strength]`. Brightness is `f * x`; contrast is
    `f * x + (1 - f) * m`, with `m` the mean of the gray image; saturation is `f * x + (1 - f) * gray(x)`; the hue is
    turned by a part of the circle between `-hue` and `hue`. After each of them values are held in [0, 1].

    Shapes: `(N, height, width, channels)` with values in [0, 1] -> the same. A fourth channel, transparency, is kept.

    Arguments:
        brightness, contrast, saturation: strengths, 0 for none.
        hue: between 0 and 0.5, a half turn.
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: `ShapeError` unless `images` has four axes and 1, 3 or 4 channels (saturation and hue need colors),
    `DTypeError` for integers, `ArgumentError` for a strength out of range, `DataError` for values outside of [0, 1],
    where they are known: normalize afterwards.

    Matches torchvision's `ColorJitter`, whose order is random and the same for a whole batch, and whose gray is that of
    `grayscale` to three digits.

    >>> import fluxion as fx
    >>> fx.color_jitter(fx.rand(2, 8, 8, 3), 0.2, 0.2, 0.2, 0.05).shape
    (2, 8, 8, 3)
    """
    images = _colored("color_jitter", images)
    most = 1e6
    strengths = [
        number("color_jitter", what, value, 0, high)
        for what, value, high in (
            ("brightness", brightness, most),
            ("contrast", contrast, most),
            ("saturation", saturation, most),
            ("hue", hue, 0.5),
        )
    ]
    if images.shape[-1] == 1 and (saturation or hue):
        raise ShapeError(
            f"color_jitter: expected 3 channels for saturation and hue, got images of shape {images.shape}. "
            "Gray images have brightness and contrast alone."
        )
    _check_range("color_jitter", images)
    return _jitter(images, next_key() if key is None else key, tuple(strengths))


def grayscale(
    images: Float[Array, "n height width c"], p: float = 1.0, *, key: Array | None = None
) -> Float[Array, "n height width c"]:
    """Make each image gray with probability `p`; it keeps its channels, which become equal.

    `0.299 * red + 0.587 * green + 0.114 * blue`

    Shapes: `(N, height, width, channels)` -> the same. A fourth channel, transparency, is kept.

    Arguments:
        p: the probability.
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream. For `p` of 0 or 1
            none is drawn.

    Errors: `ShapeError` unless `images` has four axes and 1, 3 or 4 channels, `DTypeError` for integers,
    `ArgumentError` for no probability.

    The weights are those of ITU-R 601, as in Pillow.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.grayscale(jnp.array([[[[1.0, 0.5, 0.0]]]])).tolist()
    [[[[0.592..., 0.592..., 0.592...]]]]
    """
    images = _colored("grayscale", images)
    p = number("grayscale", "p", p, 0, 1)
    if p == 0 or images.shape[-1] == 1:
        return images
    return _grayed(images) if p == 1 else _some_grayed(images, next_key() if key is None else key, p)


def gaussian_noise(
    images: Float[Array, "n height width c"], std: float = 0.1, *, key: Array | None = None
) -> Float[Array, "n height width c"]:
    """Add normal noise of standard deviation `std` to every value; the sum is not held in any range.

    Shapes: `(N, height, width, channels)` -> the same.

    Arguments:
        std: at least 0.
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: `ShapeError` unless `images` has four axes, `DTypeError` for integers, `ArgumentError` for a negative `std`.

    Matches Keras' `GaussianNoise`.

    >>> import fluxion as fx
    >>> bool(abs(fx.gaussian_noise(fx.zeros(8, 16, 16, 3), 0.5).std() - 0.5) < 0.02)
    True
    """
    images = floating("gaussian_noise", pictures("gaussian_noise", images))
    return _noisy(images, next_key() if key is None else key, number("gaussian_noise", "std", std, 0, 1e6))


def normalize_channels(images: Any, mean: Any, std: Any) -> Float[Array, "*shape channels"]:
    """`(images - mean) / std`, with a mean and a deviation for each channel or for all.

    Shapes: `(..., channels)` -> the same. NumPy stays NumPy, and the dtype is kept.

    Arguments:
        mean, std: a number, or one per channel, as `channel_statistics` of the training images returns them.

    Errors: `ShapeError` where the channels do not fit, `DTypeError` for integers, `ArgumentError` for a deviation that
    is not positive.

    Matches torchvision's `Normalize`.

    >>> import fluxion as fx, numpy as np
    >>> images = np.array([[[[0.5, 1.0]], [[0.7, 0.0]]]], np.float32)
    >>> fx.normalize_channels(images, (0.5, 0.5), (0.2, 0.5))[0, :, 0].round(4)
    array([[ 0.,  1.],
           [ 1., -1.]], dtype=float32)
    """
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    floating("normalize_channels", images)
    parts = []
    for what, value in (("mean", mean), ("std", std)):
        part = np.asarray(value, np.float64)
        if part.ndim > 1 or part.size not in (1, images.shape[-1] if images.ndim else 1):
            raise ShapeError(
                f"normalize_channels: expected a number or one for each channel of images {images.shape} as {what}, "
                f"got shape {part.shape}."
            )
        parts.append(part.reshape((1,) * (images.ndim - 1) + (-1,)).astype(images.dtype))
    if not (parts[1] > 0).all():
        raise ArgumentError(f"normalize_channels: expected a positive std, got {std!r}. A constant channel has none.")
    return (images - parts[0]) / parts[1]


def channel_statistics(images: Any) -> ChannelStatistics:
    """The mean and the population standard deviation of each channel, over all images and pixels.

    Shapes: `(..., channels)` -> `mean` `(channels,)` and `std` `(channels,)`, float64, computed in float64.

    Errors: `ShapeError` without values or axes, `DTypeError` for what is not numbers.

    Of the training images of MNIST they are (0.1307, 0.3081), of CIFAR-10 (0.4914, 0.4822, 0.4465) and
    (0.247, 0.2435, 0.2616).

    >>> import fluxion as fx, numpy as np
    >>> mean, std = fx.channel_statistics(np.array([[[[0.0, 0.5]], [[1.0, 0.5]]]]))
    >>> mean, std
    (array([0.5, 0.5]), array([0.5, 0. ]))
    """
    images = np.asarray(images)
    if images.dtype.kind not in "biuf" and not jnp.issubdtype(images.dtype, jnp.floating):
        raise DTypeError(f"channel_statistics: expected images of numbers, got dtype {images.dtype}.")
    if images.ndim < 2 or images.size == 0:
        raise ShapeError(f"channel_statistics: expected images (N, height, width, channels), got shape {images.shape}.")
    pixels = images.reshape(-1, images.shape[-1])
    mean = pixels.mean(0, np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(pixels), _AT_A_TIME):
        squares += np.square(pixels[start : start + _AT_A_TIME] - mean[None]).sum(0)
    return ChannelStatistics(mean, np.sqrt(squares / len(pixels)))


# ------------------------------------------------------------------------------------------- arithmetic


@partial(jax.jit, static_argnames=("strengths",))
def _jitter(images: Array, key: Array, strengths: tuple[float, float, float, float]) -> Array:
    x = images[..., :3].astype(jnp.promote_types(images.dtype, jnp.float32))
    count = len(images)
    keys = jax.random.split(key, 4)
    for i, (strength, part) in enumerate(zip(strengths, keys, strict=True)):
        if strength == 0:
            continue
        if i == 3:
            x = _turn_hue(x, jax.random.uniform(part, (count, 1, 1, 1), x.dtype, -strength, strength))
            continue
        factor = jax.random.uniform(part, (count, 1, 1, 1), x.dtype, max(0.0, 1 - strength), 1 + strength)
        other = (jnp.zeros_like(x[..., :1]), _gray(x).mean((1, 2), keepdims=True), _gray(x))[i]
        x = jnp.clip(factor * x + (1 - factor) * other, 0, 1)
    return _with_transparency(x, images)


@jax.jit
def _grayed(images: Array) -> Array:
    x = images[..., :3].astype(jnp.promote_types(images.dtype, jnp.float32))
    return _with_transparency(jnp.broadcast_to(_gray(x), x.shape), images)


@jax.jit
def _some_grayed(images: Array, key: Array, p: float) -> Array:
    chosen = jax.random.bernoulli(key, p, images.shape[:1]).reshape(-1, 1, 1, 1)
    return jnp.where(chosen, _grayed(images), images)


def _with_transparency(x: Array, images: Array) -> Array:
    """Colors in the dtype of `images`, and their fourth channel."""
    x = x.astype(images.dtype)
    return jnp.concatenate([x, images[..., 3:]], -1) if images.shape[-1] == 4 else x


@jax.jit
def _noisy(images: Array, key: Array, std: float) -> Array:
    wide = jnp.promote_types(images.dtype, jnp.float32)
    return (images + std * jax.random.normal(key, images.shape, wide)).astype(images.dtype)


def _gray(x: Float[Array, "*shape channels"]) -> Float[Array, "*shape 1"]:
    if x.shape[-1] == 1:
        return x
    return jnp.matmul(x, jnp.asarray(_WEIGHTS, x.dtype), precision="highest")


def _turn_hue(x: Float[Array, "n height width 3"], turn: Float[Array, "n 1 1 1"]) -> Float[Array, "n height width 3"]:
    """Add `turn`, a part of the circle, to the hue of red, green and blue, through hue, saturation and value."""
    red, green, blue = x[..., 0:1], x[..., 1:2], x[..., 2:3]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    span = value - jnp.minimum(jnp.minimum(red, green), blue)
    some = jnp.where(span > 0, span, 1)
    sixths = jnp.where(
        value == red,
        (green - blue) / some,
        jnp.where(value == green, 2 + (blue - red) / some, 4 + (red - green) / some),
    )
    # Each channel is the same function of the hue, from another place on its circle of six parts.
    place = sixths + 6 * turn + jnp.asarray([5, 3, 1], x.dtype).reshape(1, 1, 1, 3)
    place = place - 6 * jnp.floor(place / 6)  # `%` is ten times as slow
    return value - span * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)


# ------------------------------------------------------------------------------------------- arguments


def _colored(name: str, images: Any) -> Shaped[Array, "n height width c"]:
    images = floating(name, pictures(name, images))
    if images.shape[-1] not in (1, 3, 4):
        raise ShapeError(f"{name}: expected images of 1, 3 or 4 channels, got shape {images.shape}.")
    return images


def _check_range(name: str, images: Array) -> None:
    values = known(images)
    if values is not None and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise DataError(
            f"{name}: expected values between 0 and 1, got {float(values.min()):.4g} to {float(values.max()):.4g}. "
            "Divide by 255, or normalize afterwards."
        )
