"""Layers that prepare columns: `Rescaling`, `Normalization`, `CategoryEncoding`, `Discretization`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras.layers.base import BuiltIn, LayerOptions, array, floats, known_size, one_of, unsupported
from fluxion.dialects.keras.layers.normalization import along
from fluxion.errors import ArgumentError, DataError, StateError
from fluxion.layers.inputs import whole


class Rescaling(BuiltIn):
    """`x * scale + offset`.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Rescaling(1 / 255)(keras.ops.array([0, 255])).tolist()
    [0.0, 1.0]
    """

    def __init__(self, scale: Any, offset: Any = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(scale=scale, offset=offset)

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        scale, offset = (np.asarray(number, x.dtype) for number in (self.scale, self.offset))
        scale, offset = (n.reshape((1,) * (x.ndim - n.ndim) + n.shape) if n.ndim else n for n in (scale, offset))
        return x * scale + offset


class Normalization(BuiltIn):
    """`(x - mean) / sqrt(variance)`, for each index of `axis`; `adapt(data)` finds the two, or they are given.

    With `axis=None` there is one mean for all numbers. With `invert` it is `x * sqrt(variance) + mean`.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.Normalization()
    >>> layer.adapt([[1.0, 10.0], [3.0, 30.0]])
    >>> layer(keras.ops.array([[3.0, 10.0]])).tolist()
    [[1.0, -1.0]]
    """

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if (mean is None) != (variance is None):
            raise ArgumentError("Normalization: expected mean and variance, or neither, got one of them.")
        self.supports_masking = True
        axes: tuple[int, ...] = (axis,) if isinstance(axis, int) else tuple(axis or ())
        self.keep(axis=axes, invert=bool(invert))
        self.given = None if mean is None else tuple(np.asarray(n, np.float32).tolist() for n in (mean, variance))

    def get_config(self) -> dict[str, Any]:
        mean, variance = self.given or (None, None)
        return super().get_config() | {"mean": mean, "variance": variance}

    def build(self, input_shape: Any) -> None:
        ndim = len(input_shape)
        self.kept = tuple(sorted(axis % ndim for axis in self.axis))
        if self.given is None:
            shape = tuple(known_size("Normalization", input_shape, axis) for axis in self.kept)
            self.adapt_mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
            self.adapt_variance = self.add_weight(shape, "ones", trainable=False, name="variance")
            self.count = self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")

    def adapt(self, data: Any) -> None:
        """Take mean and variance from an array, or from an iterable of batches."""
        if self.given is not None:
            raise StateError("Normalization: mean and variance were given, so that there is nothing to adapt.")
        one = hasattr(data, "shape") or (isinstance(data, list) and data and not hasattr(data[0], "shape"))
        batches = [data] if one else data  # a list of lists is one array
        mean, square, total = np.zeros(()), np.zeros(()), 0
        for batch in _batches(batches):
            if not self.built:
                self.build(batch.shape)
            over = tuple(axis for axis in range(batch.ndim) if axis not in self.kept)
            size = math.prod(batch.shape[axis] for axis in over)
            own_mean, own_square = batch.mean(over), np.square(batch).mean(over)
            total += size
            mean = mean + size / total * (own_mean - mean)
            square = square + size / total * (own_square - square)
        if not total:
            raise DataError("Normalization: expected at least one batch to adapt to, got none.")
        self.adapt_mean.assign(mean)
        self.adapt_variance.assign(np.maximum(square - np.square(mean), 0))

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        if self.given is None:
            mean, variance = self.adapt_mean.value, self.adapt_variance.value
        else:
            mean, variance = (jnp.asarray(n, x.dtype) for n in self.given)
        axes = self.kept[len(self.kept) - mean.ndim :]
        mean, variance = (along(n, axes, x.ndim) for n in (mean, variance))
        spread = jnp.maximum(jnp.sqrt(variance), 1e-7)
        return mean + x * spread if self.invert else (x - mean) / spread


def _batches(batches: Iterable[Any]) -> Iterable[np.ndarray]:
    """Batches as arrays of doubles; of a pair `(x, y)` the first."""
    for batch in batches:
        first = batch[0] if isinstance(batch, tuple) else batch
        yield np.asarray(first, np.float64)


class CategoryEncoding(BuiltIn):
    """Whole numbers below `num_tokens` as "one_hot" rows, "multi_hot" (which occur in an example) or "count".

    The call takes `count_weights`, like the input, for "count".

    >>> from fluxion.dialects import keras
    >>> keras.layers.CategoryEncoding(4)(keras.ops.array([[0, 1], [3, 3]])).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        unsupported("CategoryEncoding", sparse=sparse)
        self.keep(
            num_tokens=whole("CategoryEncoding", "num_tokens", num_tokens),
            output_mode=one_of("CategoryEncoding", "output_mode", output_mode, ("multi_hot", "one_hot", "count")),
        )

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        if count_weights is not None and self.output_mode != "count":
            raise ArgumentError(f'expected count_weights with output_mode="count" only, not {self.output_mode!r}.')
        return encoded(array(inputs).astype(int), self.output_mode, self.num_tokens, self.dtype, count_weights)


def encoded(index: Any, mode: str, depth: int, dtype: Any, weights: Any = None) -> Any:
    """Whole numbers as rows of `depth` numbers."""
    if mode == "one_hot" and index.ndim > 1 and index.shape[-1] == 1:
        index = index[..., 0]
    index = index if index.ndim else index[None]
    rows = jax.nn.one_hot(index, depth, dtype=dtype)
    if mode == "one_hot":
        return rows
    over = 1 if index.ndim > 1 else 0
    if mode == "multi_hot":
        return jnp.max(rows, axis=over)
    return jnp.sum(rows if weights is None else rows * jnp.asarray(weights)[..., None], axis=over)


class Discretization(BuiltIn):
    """The number of the interval between `bin_boundaries` in which a number lies: 0 below the first.

    `output_mode` is "int", or one of those of `CategoryEncoding`.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Discretization(bin_boundaries=[0.0, 1.0])(keras.ops.array([-0.5, 0.5, 1.0])).tolist()
    [0, 1, 2]
    """

    def __init__(
        self,
        bin_boundaries: Sequence[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        unsupported("Discretization", sparse=sparse, num_bins=num_bins)
        if bin_boundaries is None:
            raise ArgumentError("Discretization: expected bin_boundaries.")
        modes = ("int", "one_hot", "multi_hot", "count")
        self.keep(
            bin_boundaries=[float(n) for n in bin_boundaries],
            num_bins=None,
            epsilon=epsilon,
            output_mode=one_of("Discretization", "output_mode", output_mode, modes),
            sparse=False,
        )

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        index = jnp.searchsorted(jnp.asarray(self.bin_boundaries, x.dtype), x, side="right")
        if self.output_mode == "int":
            return index.astype(jnp.int32)
        return encoded(index, self.output_mode, len(self.bin_boundaries) + 1, self.dtype)
