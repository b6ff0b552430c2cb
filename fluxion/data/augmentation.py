"""Batches of images, changed at random while a network learns from them: moved, turned, cut, mixed.

Every function takes a batch `(N, height, width, channels)` and gives one; each image draws for itself. What is drawn
depends on `key` alone, a `jax.random.key`; without it, on the stream of `fx.seed`, or within a training step and
`DataLoader(augment=...)` on the stream of that step. The functions are compiled, run where the images are, keep their
dtype, and can be called under `jit`, `vmap` and `gradient`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, ShapeError, nearest
from fluxion.ops.checks import class_labels
from fluxion.ops.sampling import imrotate
from fluxion.ops.windows import per_axis
from fluxion.transform.randomness import next_key

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Shaped


def random_flip(
    images: Shaped[Array, "n height width c"],
    direction: Literal["horizontal", "vertical", "both"] = "horizontal",
    *,
    p: float = 0.5,
    key: Array | None = None,
) -> Shaped[Array, "n height width c"]:
    """Mirror each image with probability `p`.

    Shapes: `(N, height, width, channels)` -> the same, of any dtype.

    Arguments:
        direction: "horizontal" exchanges left and right, "vertical" top and bottom, "both" each of the two with
            probability `p`, independently.
        p: the probability.
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: `ShapeError` unless `images` has four axes, `ArgumentError` for another direction or no probability.

    Does what torchvision's `RandomHorizontalFlip` and `RandomVerticalFlip` do to each image by itself.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> images = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    >>> fx.random_flip(images, p=1.0)[0, :, :, 0].tolist()
    [[2.0, 1.0], [4.0, 3.0]]
    """
    images = pictures("random_flip", images)
    one_of("random_flip", "direction", direction, ("horizontal", "vertical", "both"))
    p = number("random_flip", "p", p, 0, 1)
    axes = {"horizontal": (2,), "vertical": (1,), "both": (1, 2)}[direction]
    return _flip(images, next_key() if key is None else key, p, axes)


def random_crop(
    images: Shaped[Array, "n height width c"],
    padding: int | tuple[int, int] = 4,
    *,
    size: int | tuple[int, int] | None = None,
    mode: Literal["constant", "reflect"] = "constant",
    value: float = 0.0,
    key: Array | None = None,
) -> Shaped[Array, "n new_height new_width c"]:
    """Pad every image on all sides, and cut a piece of `size` out of it at a random place.

    Shapes: `(N, height, width, channels)` -> `(N, *size, channels)`, of any dtype.

    Arguments:
        padding: rows and columns to add on each side, one number or two. Without `size` an image is so moved by up to
            that many.
        size: height and width of the piece, or one number for both; that of the images unless given.
        mode: what is added: "constant" is `value`, "reflect" the image mirrored at its outermost rows and columns.
        value: what is added in the mode "constant".
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: `ShapeError` unless `images` has four axes and the padded ones hold a piece, `ArgumentError` for another
    mode, or reflected padding that is not smaller than the image.

    Does what torchvision's `RandomCrop(size, padding)` does to each image by itself.

    >>> import fluxion as fx, jax
    >>> images = fx.ones(128, 32, 32, 3)
    >>> fx.random_crop(images, 4).shape, fx.random_crop(images, 0, size=24).shape
    ((128, 32, 32, 3), (128, 24, 24, 3))
    """
    images = pictures("random_crop", images)
    pads = per_axis("random_crop", "padding", padding, 2, least=0)
    one_of("random_crop", "mode", mode, ("constant", "reflect"))
    value = _filling("random_crop", value, images)
    sides = images.shape[1:3]
    wanted = sides if size is None else per_axis("random_crop", "size", size, 2)
    if mode == "reflect" and any(pad >= side for pad, side in zip(pads, sides, strict=True)):
        raise ArgumentError(
            f"random_crop: expected reflected padding smaller than the images of {sides}, got {padding}."
        )
    if any(side > old + 2 * pad for side, old, pad in zip(wanted, sides, pads, strict=True)):
        raise ShapeError(
            f"random_crop: expected a size of at most {sides} and the padding {pads} on both sides, got {wanted}. "
            "Use more padding or a smaller size."
        )
    return _crop(images, next_key() if key is None else key, pads, wanted, mode, value)


def random_shift(
    images: Float[Array, "n height width c"],
    fraction: float | tuple[float, float] = 0.1,
    *,
    value: float = 0.0,
    key: Array | None = None,
) -> Float[Array, "n height width c"]:
    """Move each image up or down and to a side by up to a fraction of its height and width, between pixels too.

    A pixel of the result is the mean of the four around the place it came from, weighted by nearness; outside of the
    image stands `value`. To move by whole pixels, use `random_crop`.

    Shapes: `(N, height, width, channels)` -> the same.

    Arguments:
        fraction: the most that an image is moved, as a fraction of its height and of its width, one number or two.
        value: what stands outside of the image.
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: `ShapeError` unless `images` has four axes, `DTypeError` for integers, `ArgumentError` for a fraction
    outside of [0, 1].

    Does what `RandomTranslation(fraction, fraction, fill_mode="constant")` does in Keras; the numbers are those of
    `torch.nn.functional.grid_sample`.

    >>> import fluxion as fx
    >>> fx.random_shift(fx.ones(2, 28, 28, 1), 0.2).shape
    (2, 28, 28, 1)
    """
    images = floating("random_shift", pictures("random_shift", images))
    pair = fraction if isinstance(fraction, tuple | list) else (fraction, fraction)
    if len(pair) != 2:
        raise ArgumentError(f"random_shift: expected fraction to be a number or two of them, got {fraction!r}.")
    most = tuple(number("random_shift", "fraction", part, 0, 1) for part in pair)
    return _shift(images, next_key() if key is None else key, most, _filling("random_shift", value, images))


def random_rotation(
    images: Float[Array, "n height width c"],
    degrees: float = 15.0,
    *,
    value: float = 0.0,
    key: Array | None = None,
) -> Float[Array, "n height width c"]:
    """Turn each image about its middle by an angle between `-degrees` and `degrees`.

    A pixel of the result is the mean of the four around the place it came from, weighted by nearness; what comes from
    outside of the image is `value`.

    Shapes: `(N, height, width, channels)` -> the same.

    Arguments:
        degrees: the largest angle, at most 180.
        value: what stands outside of the image.
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: `ShapeError` unless `images` has four axes, `DTypeError` for integers, `ArgumentError` for degrees outside
    of [0, 180].

    Does what torchvision's `RandomRotation(degrees, BILINEAR)` does to each image by itself; the numbers are those of
    `fx.imrotate`.

    >>> import fluxion as fx
    >>> fx.random_rotation(fx.ones(2, 28, 28, 1), 10).shape
    (2, 28, 28, 1)
    """
    images = floating("random_rotation", pictures("random_rotation", images))
    degrees = number("random_rotation", "degrees", degrees, 0, 180)
    value = _filling("random_rotation", value, images)
    return _rotate(images, next_key() if key is None else key, math.radians(degrees), value)


def cutout(
    images: Shaped[Array, "n height width c"],
    size: int | tuple[int, int],
    *,
    value: float = 0.0,
    key: Array | None = None,
) -> Shaped[Array, "n height width c"]:
    """Cover a rectangle of each image; its middle is anywhere in the image, so that part of it may lie outside.

    Shapes: `(N, height, width, channels)` -> the same, of any dtype.

    Arguments:
        size: height and width of the rectangle, or one number for both.
        value: what it is covered with.
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: `ShapeError` unless `images` has four axes, `ArgumentError` for a size that is no positive whole number.

    Source: T. DeVries, G. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
    arXiv:1708.04552, with a size of 16 for CIFAR-10 and 8 for CIFAR-100.

    >>> import fluxion as fx
    >>> covered = fx.ones(4, 9, 9, 1) - fx.cutout(fx.ones(4, 9, 9, 1), 3)
    >>> bool((covered.sum((1, 2, 3)) <= 9).all())
    True
    """
    images = pictures("cutout", images)
    sides = per_axis("cutout", "size", size, 2)
    return _cover(images, next_key() if key is None else key, sides, _filling("cutout", value, images))


def mixup(
    images: Float[Array, "n height width c"],
    labels: Int[Array, " n"] | Float[Array, "n classes"],
    alpha: float = 0.2,
    *,
    classes: int | None = None,
    key: Array | None = None,
) -> tuple[Float[Array, "n height width c"], Float[Array, "n classes"]]:
    """Mix each image and its label with those of another image of the batch.

    `lam * x[i] + (1 - lam) * x[j]`, and the same of the one-hot labels; `lam ~ Beta(alpha, alpha)` is drawn for each
    image, and the partners `j` are a random order of the batch.

    Shapes: images `(N, height, width, channels)`, labels `(N,)` integers or `(N, classes)` -> images of the same
    shape, and targets `(N, classes)` for losses that take one-hot targets, such as `logitcrossentropy`.

    Arguments:
        labels: integers, or one-hot and already mixed ones.
        alpha: near 0 most images stay almost themselves, at 1 `lam` is uniform.
        classes: how many there are; needed for integer labels.
        key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: `ShapeError` where images and labels do not fit, `DTypeError` for integer images, `DataError` for a label
    outside of [0, classes), which under a trace gives a target of NaN instead; `ArgumentError` unless `alpha` is
    positive, or without `classes`.

    Source: H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412.

    >>> import fluxion as fx, jax, numpy as np
    >>> images, targets = fx.mixup(fx.rand(4, 8, 8, 3), np.array([0, 1, 2, 1]), 0.4, classes=3)
    >>> targets.shape, np.allclose(targets.sum(1), 1)
    ((4, 3), True)
    """
    images = floating("mixup", pictures("mixup", images))
    alpha = number("mixup", "alpha", alpha, 0, math.inf)
    targets = _targets("mixup", labels, classes, len(images))
    return _mix(images, targets, next_key() if key is None else key, alpha)


def cutmix(
    images: Shaped[Array, "n height width c"],
    labels: Int[Array, " n"] | Float[Array, "n classes"],
    alpha: float = 1.0,
    *,
    classes: int | None = None,
    key: Array | None = None,
) -> tuple[Shaped[Array, "n height width c"], Float[Array, "n classes"]]:
    """Paste a rectangle of another image of the batch into each image, and mix the labels by the areas.

    The rectangle has the proportions of the image and the share `1 - lam` of its area, `lam ~ Beta(alpha, alpha)`; its
    middle is anywhere, and what lies outside of the image does not count. Each image draws `lam` and the place for
    itself; the partners are a random order of the batch.

    Shapes, arguments, errors: as for `mixup`; images may be of any dtype.

    Source: S. Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    arXiv:1905.04899.

    >>> import fluxion as fx, jax, numpy as np
    >>> images, targets = fx.cutmix(fx.rand(4, 8, 8, 3), np.array([0, 1, 2, 1]), classes=3)
    >>> targets.shape, np.allclose(targets.sum(1), 1)
    ((4, 3), True)
    """
    images = pictures("cutmix", images)
    alpha = number("cutmix", "alpha", alpha, 0, math.inf)
    targets = _targets("cutmix", labels, classes, len(images))
    return _paste(images, targets, next_key() if key is None else key, alpha)


# ------------------------------------------------------------------------------------------- arithmetic


@partial(jax.jit, static_argnames=("axes",))
def _flip(images: Array, key: Array, p: float, axes: tuple[int, ...]) -> Array:
    for axis, part in zip(axes, jax.random.split(key, len(axes)), strict=True):
        images = jnp.where(_each(jax.random.bernoulli(part, p, images.shape[:1])), jnp.flip(images, axis), images)
    return images


@partial(jax.jit, static_argnames=("pads", "size", "mode"))
def _crop(images: Array, key: Array, pads: Any, size: Any, mode: str, value: Any) -> Array:
    around = ((0, 0), *((pad, pad) for pad in pads), (0, 0))
    constant = {"constant_values": jnp.asarray(value, images.dtype)} if mode == "constant" else {}
    padded = jnp.pad(images, around, mode, **constant)
    starts = [
        jax.random.randint(part, padded.shape[:1], 0, padded.shape[1 + i] - size[i] + 1)
        for i, part in enumerate(jax.random.split(key))
    ]
    return _pieces(padded, starts, size)


@partial(jax.jit, static_argnames=("most",))
def _shift(images: Array, key: Array, most: tuple[float, float], value: Any) -> Array:
    wide = jnp.promote_types(images.dtype, jnp.float32)
    sides = images.shape[1:3]
    pads = [math.ceil(share * side) + 1 for share, side in zip(most, sides, strict=True)]
    around = ((0, 0), *((pad, pad) for pad in pads), (0, 0))
    padded = jnp.pad(images, around, constant_values=jnp.asarray(value, images.dtype))
    starts, parts = [], []
    for share, side, pad, subkey in zip(most, sides, pads, jax.random.split(key), strict=True):
        place = pad + jax.random.uniform(subkey, images.shape[:1], wide, -share * side, share * side)
        starts.append(jnp.floor(place).astype(jnp.int32))
        parts.append(_each(place - jnp.floor(place)))
    x = _pieces(padded, starts, (sides[0] + 1, sides[1] + 1)).astype(wide)
    x = x[:, :-1] * (1 - parts[0]) + x[:, 1:] * parts[0]
    x = x[:, :, :-1] * (1 - parts[1]) + x[:, :, 1:] * parts[1]
    return x.astype(images.dtype)


@jax.jit
def _rotate(images: Array, key: Array, most: float, value: Any) -> Array:
    angles = jax.random.uniform(key, images.shape[:1], jnp.promote_types(images.dtype, jnp.float32), -most, most)
    return imrotate(images, angles, value=value)


@partial(jax.jit, static_argnames=("size",))
def _cover(images: Array, key: Array, size: tuple[int, int], value: Any) -> Array:
    return jnp.where(_rectangles(key, images.shape, *size), jnp.asarray(value, images.dtype), images)


@jax.jit
def _mix(images: Array, targets: Array, key: Array, alpha: float) -> tuple[Array, Array]:
    first, second = jax.random.split(key)
    share = _beta(first, len(images), alpha)
    partner = jax.random.permutation(second, len(images))
    lam = _each(share).astype(images.dtype)
    return lam * images + (1 - lam) * images[partner], _blend(targets, share, partner)


@jax.jit
def _paste(images: Array, targets: Array, key: Array, alpha: float) -> tuple[Array, Array]:
    first, second, third = jax.random.split(key, 3)
    side = jnp.sqrt(1 - _beta(first, len(images), alpha))
    height, width = ((side * whole).astype(jnp.int32) for whole in images.shape[1:3])
    pasted = _rectangles(second, images.shape, height, width)
    partner = jax.random.permutation(third, len(images))
    share = 1 - pasted.mean((1, 2, 3), targets.dtype)
    return jnp.where(pasted, images[partner], images), _blend(targets, share, partner)


def _blend(targets: Array, share: Array, partner: Array) -> Array:
    share = share[:, None].astype(targets.dtype)
    return share * targets + (1 - share) * targets[partner]


def _beta(key: Array, count: int, alpha: float) -> Float[Array, " count"]:
    """Numbers of the distribution Beta(alpha, alpha), in closed form: `1/2 + t / (2 sqrt(2 alpha + t^2))`.

    Here `t` is of Student's distribution with 2 alpha degrees of freedom, by Bailey's polar method (R. Bailey, "Polar
    generation of random variates with the t-distribution", 1994; L. Devroye, "Random variate generation in one line
    of code", 1996). JAX's own draws by rejection, in a loop that takes long to compile.
    """
    radius, angle = jax.random.uniform(key, (2, count), minval=jnp.finfo(jnp.float32).tiny)
    cosine = jnp.cos(2 * jnp.pi * angle)
    square = (radius ** (-1 / alpha) - 1) * cosine**2  # t^2 / (2 alpha); infinite for very small alpha
    return (1 + jnp.sign(cosine) / jnp.sqrt(1 + 1 / square)) / 2


def _rectangles(key: Array, shape: Any, height: Any, width: Any) -> Bool[Array, "n height width 1"]:
    """Where a rectangle of `height` and `width`, a number or one per image, lies around a random pixel."""
    inside = []
    for i, (side, part) in enumerate(zip((height, width), jax.random.split(key), strict=True)):
        start = jax.random.randint(part, shape[:1], 0, shape[1 + i]) - side // 2
        place = jnp.arange(shape[1 + i]).reshape((1, -1, 1, 1) if i == 0 else (1, 1, -1, 1))
        inside.append((place >= _each(start)) & (place < _each(start + side)))
    return inside[0] & inside[1]


def _pieces(images: Array, starts: list[Array], size: Any) -> Array:
    """The piece of `size` of each image that begins at its row and column of `starts`."""

    def cut(image: Array, row: Array, column: Array) -> Array:
        return jax.lax.dynamic_slice(image, (row, column, jnp.zeros_like(row)), (*size, image.shape[-1]))

    return jax.vmap(cut)(images, *starts)


def _each(values: Shaped[Array, " n"]) -> Shaped[Array, "n 1 1 1"]:
    """A value per image, to stand beside the images."""
    return values.reshape(-1, 1, 1, 1)


# ------------------------------------------------------------------------------------------- arguments


def pictures(name: str, images: Any) -> Shaped[Array, "n height width c"]:
    """A batch of images on the device."""
    images = jnp.asarray(images)
    if images.ndim != 4 or 0 in images.shape[1:]:
        one = " A single image has a batch axis too: image[None]." if images.ndim == 3 else ""
        raise ShapeError(f"{name}: expected images (N, height, width, channels), got shape {images.shape}.{one}")
    return images


def floating(name: str, images: Array) -> Array:
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise DTypeError(
            f"{name}: expected images of a floating dtype, got {images.dtype}. Use images.astype(np.float32) / 255."
        )
    return images


def number(name: str, what: str, value: Any, low: float, high: float) -> float:
    """`value` as a float between `low` and `high`; where `high` is infinite, above `low`."""
    known = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if high == math.inf:
        if not known or not low < value < high:
            raise ArgumentError(f"{name}: expected {what} to be a finite number above {low}, got {value!r}.")
    elif not known or not low <= value <= high:
        raise ArgumentError(f"{name}: expected {what} to be a number between {low} and {high}, got {value!r}.")
    return float(value)


def one_of(name: str, what: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        listed = ", ".join(f'"{k}"' for k in known[:-1]) + f' or "{known[-1]}"'
        raise ArgumentError(f"{name}: expected {what} to be {listed}, got {value!r}.{nearest(str(value), known)}")


def _filling(name: str, value: Any, images: Array) -> float | int:
    """What stands where no image is; it must be a number that the images' dtype holds."""
    if not isinstance(value, int | float | np.integer | np.floating) or not math.isfinite(value):
        raise ArgumentError(f"{name}: expected value to be a finite number, got {value!r}.")
    if jnp.issubdtype(images.dtype, jnp.integer):
        bounds = jnp.iinfo(images.dtype)
        if value != int(value) or not bounds.min <= value <= bounds.max:
            raise ArgumentError(f"{name}: expected value to be a number of dtype {images.dtype}, got {value!r}.")
        return int(value)
    return float(value)


def _targets(name: str, labels: Any, classes: int | None, count: int) -> Float[Array, "n classes"]:
    """Labels as rows that sum to 1: one-hot, unless they are such rows already."""
    labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if labels.ndim == 2 and jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape[0] != count or classes not in (None, labels.shape[1]):
            expected = f"({count}, {labels.shape[1] if classes is None else classes})"
            raise ShapeError(f"{name}: expected labels of shape {expected}, got {labels.shape}.")
        return jnp.asarray(labels)
    if labels.shape != (count,):
        raise ShapeError(f"{name}: expected {count} labels for {count} images, got shape {labels.shape}.")
    if classes is None:
        raise ArgumentError(f"{name}: expected the number of classes for integer labels, got none. Use classes=10.")
    (classes,) = per_axis(name, "classes", classes, 1)
    known, valid = class_labels(name, labels, classes, f"give one-hot labels of shape ({count}, {classes})")
    hot = known[:, None] == jnp.arange(classes)[None]
    return jnp.where(valid[:, None], hot.astype(jnp.float32), jnp.nan)
