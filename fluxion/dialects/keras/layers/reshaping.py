"""Layers that move, repeat, add or cut cells: `Flatten`, `Reshape`, `UpSampling2D`, `ZeroPadding2D`, `Cropping2D`..."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import jax
import jax.numpy as jnp

from fluxion import ops
from fluxion.dialects.keras.layers.base import BuiltIn, LayerOptions, array, channels_last, numbers, one_of, pairs
from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.inputs import whole
from fluxion.ops.windows import check_rank

Shape = tuple[int | None, ...]


def product(sizes: Sequence[int | None]) -> int | None:
    """The product of sizes, None if one of them is not known."""
    return None if None in sizes else math.prod(sizes)  # type: ignore[arg-type]


class Flatten(BuiltIn):
    """All axes but the first as one.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Flatten()(keras.ops.ones((8, 4, 4, 3))).shape
    (8, 48)
    """

    def __init__(self, data_format: str | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.keep(data_format=channels_last("Flatten", data_format))

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Reshape(BuiltIn):
    """Each example in the shape `target_shape`, of which one size may be -1.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Reshape((-1, 2))(keras.ops.ones((8, 6))).shape
    (8, 3, 2)
    """

    def __init__(self, target_shape: Sequence[int], **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        target_shape = tuple(target_shape)
        if target_shape.count(-1) > 1:
            raise ArgumentError(f"Reshape: expected at most one -1 in target_shape, got {target_shape}.")
        self.keep(target_shape=target_shape)

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        return x.reshape(self.compute_output_shape(x.shape))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size = product(input_shape[1:])
        rest = math.prod(n for n in self.target_shape if n != -1)
        fits = size is None or (size % rest == 0 if -1 in self.target_shape else size == rest)
        if not fits:
            raise ShapeError(
                f"expected examples that fit the shape {self.target_shape}, got input {tuple(input_shape)}."
            )
        missing = None if size is None else size // rest
        return (input_shape[0], *(missing if n == -1 else n for n in self.target_shape))


class Permute(BuiltIn):
    """The axes of each example in the order `dims`, which counts from 1.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Permute((2, 1))(keras.ops.ones((8, 4, 3))).shape
    (8, 3, 4)
    """

    def __init__(self, dims: Sequence[int], **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if sorted(dims) != list(range(1, len(dims) + 1)):
            raise ArgumentError(
                f"Permute: expected dims to be the numbers 1 to {len(dims)} in some order, got {dims!r}."
            )
        self.keep(dims=tuple(dims))

    def call(self, inputs: Any) -> Any:
        return jnp.transpose(array(inputs), (0, *self.dims))


class RepeatVector(BuiltIn):
    """Each vector `n` times: `(batch, features)` becomes `(batch, n, features)`."""

    def __init__(self, n: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.keep(n=whole("RepeatVector", "n", n))

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        if x.ndim != 2:
            raise ShapeError(f"expected input (batch, features), got {x.shape}.")
        return jnp.broadcast_to(x[:, None], (x.shape[0], self.n, x.shape[1]))


# With one size or pair per spatial axis


class _UpSampling(BuiltIn):
    dims: ClassVar[int]
    methods: ClassVar[dict[str, str]] = {
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "lanczos3": "lanczos3",
        "lanczos5": "lanczos5",
    }

    def _grow(self, size: Any) -> None:
        self.keep(size=numbers(type(self).__name__, "size", size, self.dims))

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        check_rank(x.shape, self.dims)
        method = getattr(self, "interpolation", "nearest")
        if method == "nearest":
            return ops.upsample_nearest(x, self.size)
        shape = (x.shape[0], *(n * k for n, k in zip(x.shape[1:-1], self.size, strict=True)), x.shape[-1])
        return jax.image.resize(x, shape, method)


class UpSampling1D(_UpSampling):
    """Each time step `size` times.

    >>> from fluxion.dialects import keras
    >>> keras.layers.UpSampling1D(2)(keras.ops.array([[[1.0], [2.0]]])).ravel().tolist()
    [1.0, 1.0, 2.0, 2.0]
    """

    dims = 1

    def __init__(self, size: int = 2, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self._grow(size)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"size": self.size[0]}


class UpSampling2D(_UpSampling):
    """Images `size` times as large: cells repeated ("nearest"), "bilinear", "bicubic", "lanczos3" or "lanczos5"."""

    dims = 2

    def __init__(
        self,
        size: int | Sequence[int] = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._grow(size)
        known = ("nearest", *self.methods)
        self.keep(
            data_format=channels_last("UpSampling2D", data_format),
            interpolation=one_of("UpSampling2D", "interpolation", interpolation, known),
        )


class UpSampling3D(_UpSampling):
    """Cells of a volume repeated `size` times along each axis."""

    dims = 3

    def __init__(
        self,
        size: int | Sequence[int] = (2, 2, 2),
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._grow(size)
        self.keep(data_format=channels_last("UpSampling3D", data_format))


class _ZeroPadding(BuiltIn):
    dims: ClassVar[int]

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        check_rank(x.shape, self.dims)
        around = self.padding if self.dims > 1 else (self.padding,)
        return jnp.pad(x, ((0, 0), *around, (0, 0)))


class ZeroPadding1D(_ZeroPadding):
    """`padding` zeros before and after the time steps, or `(before, after)`."""

    dims = 1

    def __init__(
        self,
        padding: int | Sequence[int] = 1,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(
            padding=pairs("ZeroPadding1D", "padding", padding, 1)[0],
            data_format=channels_last("ZeroPadding1D", data_format),
        )


class ZeroPadding2D(_ZeroPadding):
    """Zeros around images: a number, one per axis, or `((top, bottom), (left, right))`.

    >>> from fluxion.dialects import keras
    >>> keras.layers.ZeroPadding2D((1, 2))(keras.ops.ones((8, 4, 4, 3))).shape
    (8, 6, 8, 3)
    """

    dims = 2

    def __init__(
        self,
        padding: Any = (1, 1),
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(
            padding=pairs("ZeroPadding2D", "padding", padding, 2),
            data_format=channels_last("ZeroPadding2D", data_format),
        )


class ZeroPadding3D(_ZeroPadding):
    """Zeros around volumes: a number, one per axis, or a pair per axis."""

    dims = 3

    def __init__(
        self,
        padding: Any = ((1, 1), (1, 1), (1, 1)),
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(
            padding=pairs("ZeroPadding3D", "padding", padding, 3),
            data_format=channels_last("ZeroPadding3D", data_format),
        )


class _Cropping(BuiltIn):
    dims: ClassVar[int]

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        check_rank(x.shape, self.dims)
        around = self.cropping if self.dims > 1 else (self.cropping,)
        if any(low + high >= n for (low, high), n in zip(around, x.shape[1:-1], strict=True)):
            raise ShapeError(f"expected input larger than what is cropped, {self.cropping}, got {x.shape}.")
        return x[(slice(None), *(slice(low, n - high) for (low, high), n in zip(around, x.shape[1:-1], strict=True)))]


class Cropping1D(_Cropping):
    """Time steps cut off: `cropping` on both ends, or `(before, after)`."""

    dims = 1

    def __init__(self, cropping: int | Sequence[int] = (1, 1), **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.keep(cropping=pairs("Cropping1D", "cropping", cropping, 1)[0])


class Cropping2D(_Cropping):
    """Borders of images cut off: a number, one per axis, or `((top, bottom), (left, right))`.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Cropping2D(((1, 0), (2, 1)))(keras.ops.ones((8, 4, 4, 3))).shape
    (8, 3, 1, 3)
    """

    dims = 2

    def __init__(
        self,
        cropping: Any = ((0, 0), (0, 0)),
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(
            cropping=pairs("Cropping2D", "cropping", cropping, 2),
            data_format=channels_last("Cropping2D", data_format),
        )


class Cropping3D(_Cropping):
    """Borders of volumes cut off: a number, one per axis, or a pair per axis."""

    dims = 3

    def __init__(
        self,
        cropping: Any = ((1, 1), (1, 1), (1, 1)),
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(
            cropping=pairs("Cropping3D", "cropping", cropping, 3),
            data_format=channels_last("Cropping3D", data_format),
        )
