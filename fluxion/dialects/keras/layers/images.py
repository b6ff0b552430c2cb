"""Random changes of images in training: `RandomFlip`, `RandomCrop`, `RandomRotation`, `RandomTranslation`, `RandomZoom`
and `RandomContrast`; and `Resizing` and `CenterCrop`, which draw nothing.

Images are `(batch, height, width, channels)`, or one without the batch. A call outside of a model trains, as in Keras:
say `training=False` to leave the images as they are.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from fluxion.dialects.keras.layers.base import (
    BuiltIn,
    LayerOptions,
    Seeded,
    array,
    channels_last,
    floats,
    one_of,
    unsupported,
)
from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.inputs import whole

FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")
FILLS = ("reflect", "wrap", "constant", "nearest", "mirror")
METHODS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")


def pictures(x: Any) -> Any:
    """The images as `(batch, height, width, channels)`."""
    if x.ndim not in (3, 4):
        raise ShapeError(f"expected images (batch, height, width, channels), or one, got {x.shape}.")
    return x if x.ndim == 4 else x[None]


def bounds(name: str, what: str, given: Any, low: float, high: float, *, around: bool = True) -> tuple[float, float]:
    """A number, which stands for a range around 0 (or from 0 on), or a pair, as `(lower, upper)`."""
    pair = tuple(given) if isinstance(given, tuple | list) else (-given if around else 0.0, given)
    if len(pair) != 2 or not all(isinstance(n, int | float) and low <= n <= high for n in pair):
        raise ArgumentError(f"{name}: expected {what} between {low} and {high}, or a pair of such, got {given!r}.")
    return min(pair), max(pair)


class _RandomImage(Seeded):
    """What these layers have in common: in training `changed(images)`, of the same or another size."""

    def call(self, inputs: Any, training: bool = True) -> Any:
        x = floats(inputs)
        images = pictures(x)
        y = self.changed(images) if training else self.unchanged(images)
        return y if x.ndim == 4 else y[0]

    def changed(self, images: Any) -> Any:
        raise NotImplementedError

    def unchanged(self, images: Any) -> Any:
        """What comes out where nothing is drawn."""
        return images

    def uniform(self, count: int, low: float, high: float) -> Any:
        """A number for each image."""
        return jax.random.uniform(self.key(), (count, 1, 1), minval=low, maxval=high)


class RandomFlip(_RandomImage):
    """Half of the images are mirrored: "horizontal", "vertical" or "horizontal_and_vertical", then in both at once.

    >>> from fluxion.dialects import keras
    >>> keras.layers.RandomFlip("horizontal")(keras.ops.ones((8, 5, 5, 3))).shape
    (8, 5, 5, 3)
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(mode=one_of("RandomFlip", "mode", mode, FLIPS), data_format=channels_last("RandomFlip", data_format))
        self.seeded(seed)

    def changed(self, images: Any) -> Any:
        axes = [axis for axis, name in ((2, "horizontal"), (1, "vertical")) if name in self.mode]
        chosen = jax.random.bernoulli(self.key(), 0.5, (images.shape[0], 1, 1, 1))
        return jnp.where(chosen, jnp.flip(images, axes), images)


class RandomCrop(_RandomImage):
    """A window of `height` and `width` at a place drawn for the batch; otherwise the middle, scaled to that size."""

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        name = "RandomCrop"
        self.keep(
            height=whole(name, "height", height),
            width=whole(name, "width", width),
            data_format=channels_last(name, data_format),
        )
        self.seeded(seed)

    def changed(self, images: Any) -> Any:
        batch, height, width, channels = images.shape
        if height <= self.height or width <= self.width:
            return self.unchanged(images)
        rows = jax.random.randint(self.key(), (), 0, height - self.height + 1)
        columns = jax.random.randint(self.key(), (), 0, width - self.width + 1)
        size = (batch, self.height, self.width, channels)
        return jax.lax.dynamic_slice(images, (jnp.zeros_like(rows), rows, columns, jnp.zeros_like(rows)), size)

    def unchanged(self, images: Any) -> Any:
        height, width = images.shape[1:3]
        rows = max(min(height, int(width * self.height / self.width)), 1)
        columns = max(min(width, int(height * self.width / self.height)), 1)
        top, left = (height - rows) // 2, (width - columns) // 2
        middle = images[:, top : top + rows, left : left + columns]
        return resized(middle, self.height, self.width, "bilinear")


class _Affine(_RandomImage):
    """Images sampled at other places: at `(x, y)` stands what was at `(a0 x + a1 y + a2, b0 x + b1 y + b2)`."""

    def _sampling(
        self, fill_mode: str, interpolation: str, fill_value: float, data_format: str | None, seed: int | None
    ) -> None:
        name = type(self).__name__
        self.keep(
            fill_mode=one_of(name, "fill_mode", fill_mode, FILLS),
            interpolation=one_of(name, "interpolation", interpolation, ("bilinear", "nearest")),
            fill_value=fill_value,
            data_format=channels_last(name, data_format),
        )
        self.seeded(seed)

    def matrix(self, count: int, height: int, width: int) -> tuple[Any, ...]:
        """The numbers a0, a1, a2, b0, b1, b2, each for all images or `(count, 1, 1)`."""
        raise NotImplementedError

    def changed(self, images: Any) -> Any:
        count, height, width, _ = images.shape
        a0, a1, a2, b0, b1, b2 = self.matrix(count, height, width)
        y = jnp.arange(height, dtype=images.dtype)[None, :, None]
        x = jnp.arange(width, dtype=images.dtype)[None, None, :]
        rows, columns = (
            jnp.broadcast_to(place, (count, height, width)) for place in (b0 * x + b1 * y + b2, a0 * x + a1 * y + a2)
        )

        def sampled(channel: Any, row: Any, column: Any) -> Any:
            order = 1 if self.interpolation == "bilinear" else 0
            return map_coordinates(channel, [row, column], order, mode=self.fill_mode, cval=self.fill_value)

        over_channels = jax.vmap(sampled, (2, None, None), 2)
        return jax.vmap(over_channels)(images, rows, columns)


class RandomTranslation(_Affine):
    """Images moved by fractions of their height and width between the bounds; upwards and leftwards where negative.

    A factor is a pair of bounds, or a number `f` for `(-f, f)`.
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        bounds("RandomTranslation", "height_factor", height_factor, -1.0, 1.0)
        bounds("RandomTranslation", "width_factor", width_factor, -1.0, 1.0)
        self.keep(height_factor=height_factor, width_factor=width_factor)
        self._sampling(fill_mode, interpolation, fill_value, data_format, seed)

    def matrix(self, count: int, height: int, width: int) -> tuple[Any, ...]:
        rows = self.uniform(count, *bounds("", "", self.height_factor, -1.0, 1.0))
        columns = self.uniform(count, *bounds("", "", self.width_factor, -1.0, 1.0))
        return 1.0, 0.0, -columns * width, 0.0, 1.0, -rows * height


class RandomZoom(_Affine):
    """Images zoomed out by a factor between `1 + lower` and `1 + upper`, in where it is less than 1.

    Without `width_factor` both axes have the same factor.
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        bounds("RandomZoom", "height_factor", height_factor, -1.0, 1.0)
        if width_factor is not None:
            bounds("RandomZoom", "width_factor", width_factor, -1.0, 1.0)
        self.keep(height_factor=height_factor, width_factor=width_factor)
        self._sampling(fill_mode, interpolation, fill_value, data_format, seed)

    def matrix(self, count: int, height: int, width: int) -> tuple[Any, ...]:
        rows = 1 + self.uniform(count, *bounds("", "", self.height_factor, -1.0, 1.0))
        columns = rows
        if self.width_factor is not None:
            columns = 1 + self.uniform(count, *bounds("", "", self.width_factor, -1.0, 1.0))
        return columns, 0.0, (width - 1) / 2 * (1 - columns), 0.0, rows, (height - 1) / 2 * (1 - rows)


class RandomRotation(_Affine):
    """Images turned around their middle by fractions of a full turn between the bounds, counterclockwise if positive.

    `factor` is a pair of bounds, or a number `f` for `(-f, f)`.
    """

    def __init__(
        self,
        factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(factor=bounds("RandomRotation", "factor", factor, -1.0, 1.0))
        self._sampling(fill_mode, interpolation, fill_value, data_format, seed)

    def matrix(self, count: int, height: int, width: int) -> tuple[Any, ...]:
        angle = 2 * math.pi * self.uniform(count, *self.factor)
        c, s = jnp.cos(angle), jnp.sin(angle)
        x, y = (width - 1) / 2, (height - 1) / 2
        return c, -s, x - c * x + s * y, s, c, y - s * x - c * y


class RandomContrast(_RandomImage):
    """Each channel's distance from its mean multiplied by a number between `1 - lower` and `1 + upper`.

    `factor` is the pair, or a number `f` for `(0, f)`; the result is held within `value_range`.
    """

    def __init__(
        self,
        factor: Any,
        value_range: tuple[float, float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(
            factor=bounds("RandomContrast", "factor", factor, 0.0, 1.0, around=False),
            value_range=tuple(value_range),
            data_format=channels_last("RandomContrast", data_format),
        )
        self.seeded(seed)

    def changed(self, images: Any) -> Any:
        factor = self.uniform(images.shape[0], 1 - self.factor[0], 1 + self.factor[1])[..., None]
        mean = jnp.mean(images, (1, 2), keepdims=True)
        return jnp.clip((images - mean) * factor + mean, *self.value_range)


# Nothing drawn


def resized(images: Any, height: int, width: int, method: str) -> Any:
    """Images of another size; between cells by `method`."""
    shape = (images.shape[0], height, width, images.shape[3])
    return jax.image.resize(images, shape, method, antialias=False)


class Resizing(BuiltIn):
    """Images scaled to `height` and `width`, by "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".

    >>> from fluxion.dialects import keras
    >>> keras.layers.Resizing(4, 6)(keras.ops.ones((8, 5, 5, 3))).shape
    (8, 4, 6, 3)
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        name = "Resizing"
        unsupported(
            name,
            crop_to_aspect_ratio=crop_to_aspect_ratio,
            pad_to_aspect_ratio=pad_to_aspect_ratio,
            antialias=antialias,
        )
        self.keep(
            height=whole(name, "height", height),
            width=whole(name, "width", width),
            interpolation=one_of(name, "interpolation", interpolation, METHODS),
            crop_to_aspect_ratio=False,
            pad_to_aspect_ratio=False,
            fill_mode=one_of(name, "fill_mode", fill_mode, ("constant",)),
            fill_value=fill_value,
            antialias=False,
            data_format=channels_last(name, data_format),
        )

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        y = resized(pictures(x), self.height, self.width, self.interpolation)
        return y if x.ndim == 4 else y[0]


class CenterCrop(BuiltIn):
    """The middle `height` by `width` cells of images at least as large."""

    def __init__(
        self, height: int, width: int, data_format: str | None = None, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**options)
        name = "CenterCrop"
        self.keep(
            height=whole(name, "height", height),
            width=whole(name, "width", width),
            data_format=channels_last(name, data_format),
        )

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        images = pictures(x)
        height, width = images.shape[1:3]
        if height < self.height or width < self.width:
            raise ShapeError(
                f"expected images of at least {(self.height, self.width)}, got {x.shape}. Resize them first."
            )
        top, left = (height - self.height) // 2, (width - self.width) // 2
        y = images[:, top : top + self.height, left : left + self.width]
        return y if x.ndim == 4 else y[0]
