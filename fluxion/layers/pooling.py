"""Layers that pool: `MaxPool`, `MeanPool`, `LpPool`, and the adaptive and global ones. They have no parameters.

Inputs are `(batch, *spatial, channels)` with one to three spatial axes; each channel is pooled by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.layers.inputs import as_array
from fluxion.ops.pooling import (
    Sizes,
    adaptive_max_pool,
    adaptive_mean_pool,
    global_max_pool,
    global_mean_pool,
    lp_pool,
    max_pool,
    mean_pool,
    named_dims,
    power,
)
from fluxion.ops.windows import Padding, brief, padding_pairs, per_axis
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Inexact, Shaped


class MaxPool(Layer):
    """The largest value of each window; see `fx.max_pool`.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output `(batch, *windows, channels)`
    with `(size + low + high - kernel) // stride + 1` windows along each spatial axis. The dtype is kept.

    Arguments:
      kernel: cells of the window, a number for all spatial axes or one per axis.
      stride: cells from one window to the next; those of the kernel if None.
      padding: cells around the input, which are never the largest: a number, one per axis, a pair (low, high) per
        axis, or "same" for `ceil(size / stride)` windows, the odd cell on the high side.

    Errors: ShapeError for an input of another rank or smaller than the kernel, and for windows that lie wholly in the
    padding. The numbers and gradients are those of `torch.nn.MaxPool1d`, `2d` and `3d`: of equal values the first has
    the gradient.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.MaxPool(2)
    >>> layer, layer(jnp.ones((8, 28, 28, 3))).shape
    (MaxPool(2), (8, 14, 14, 3))
    """

    kernel: Sizes
    stride: Sizes | None  # None where it is the kernel
    padding: Padding

    def __init__(self, kernel: Sizes, *, stride: Sizes | None = None, padding: Padding = 0) -> None:
        self.kernel, self.stride, self.padding = window_options("MaxPool", kernel, stride, padding)

    def __call__(self, x: Shaped[Array, "n *spatial c"]) -> Shaped[Array, "n *windows c"]:
        return max_pool(jnp.asarray(as_array(x)), self.kernel, stride=self.stride, padding=self.padding)


class MeanPool(Layer):
    """The mean of each window; see `fx.mean_pool`.

    Shapes: as for `MaxPool`. The floating dtype is kept, integers become floats.

    Arguments:
      kernel, stride, padding: as for `MaxPool`, the padding being zeros.
      count_padding: whether the sum is divided by all cells of the window, or by those inside the input only.

    Errors: as for `MaxPool`. The numbers are those of `torch.nn.AvgPool1d`, `2d` and `3d`, `count_padding` being
    their `count_include_pad`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.MeanPool((2, 2), stride=1)
    >>> layer, layer(jnp.arange(9.0).reshape(1, 3, 3, 1)).ravel().tolist()
    (MeanPool((2, 2), stride=1), [2.0, 3.0, 5.0, 6.0])
    """

    kernel: Sizes
    stride: Sizes | None  # None where it is the kernel
    padding: Padding
    count_padding: bool

    def __init__(
        self, kernel: Sizes, *, stride: Sizes | None = None, padding: Padding = 0, count_padding: bool = True
    ) -> None:
        self.kernel, self.stride, self.padding = window_options("MeanPool", kernel, stride, padding)
        self.count_padding = bool(count_padding)

    def __call__(self, x: Shaped[Array, "n *spatial c"]) -> Inexact[Array, "n *windows c"]:
        return mean_pool(
            jnp.asarray(as_array(x)),
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            count_padding=self.count_padding,
        )


class LpPool(Layer):
    """The p-norm of each window, `(sum |x|^p)^(1/p)`; see `fx.lp_pool`.

    Shapes: as for `MaxPool`. The floating dtype is kept, integers become floats.

    Arguments:
      kernel, stride, padding: as for `MaxPool`, the padding being zeros.
      p: the power, greater than 0.

    Errors: as for `MaxPool`; ArgumentError for another p. The numbers are those of `torch.nn.LPPool1d`, `2d` and `3d`
    of `abs(x)`; theirs leave out the absolute value where p is odd.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.LpPool(2, 1)
    >>> layer, layer(jnp.array([[[3.0], [-4.0]]])).tolist()
    (LpPool(2, 1), [[[7.0]]])
    """

    kernel: Sizes
    p: float
    stride: Sizes | None  # None where it is the kernel
    padding: Padding

    def __init__(self, kernel: Sizes, p: float = 2, *, stride: Sizes | None = None, padding: Padding = 0) -> None:
        self.kernel, self.stride, self.padding = window_options("LpPool", kernel, stride, padding)
        self.p = power("LpPool", p)

    def __call__(self, x: Shaped[Array, "n *spatial c"]) -> Float[Array, "n *windows c"]:
        return lp_pool(jnp.asarray(as_array(x)), self.kernel, self.p, stride=self.stride, padding=self.padding)


class AdaptiveMaxPool(Layer):
    """The largest value of each of `output_size` windows, which divide the input among them.

    Window `i` along an axis goes from `floor(i * size / output_size)` up to `ceil((i + 1) * size / output_size)`.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output
    `(batch, *output_size, channels)`. The dtype is kept.

    Arguments:
      output_size: windows along all spatial axes, or one number per axis.

    Errors: ShapeError for an input of another rank or with fewer cells than windows. The numbers and gradients are
    those of `torch.nn.AdaptiveMaxPool1d`, `2d` and `3d`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.AdaptiveMaxPool((7, 7))
    >>> layer, layer(jnp.ones((8, 30, 40, 3))).shape
    (AdaptiveMaxPool((7, 7)), (8, 7, 7, 3))
    """

    output_size: Sizes

    def __init__(self, output_size: Sizes) -> None:
        self.output_size = output_sizes("AdaptiveMaxPool", output_size)

    def __call__(self, x: Shaped[Array, "n *spatial c"]) -> Shaped[Array, "n *windows c"]:
        return adaptive_max_pool(jnp.asarray(as_array(x)), self.output_size)


class AdaptiveMeanPool(Layer):
    """The mean of each of `output_size` windows, which divide the input among them as in `AdaptiveMaxPool`.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output
    `(batch, *output_size, channels)`. The floating dtype is kept, integers become floats.

    Arguments:
      output_size: windows along all spatial axes, or one number per axis.

    Errors: ShapeError for an input of another rank or with fewer cells than windows. The numbers are those of
    `torch.nn.AdaptiveAvgPool1d`, `2d` and `3d`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.AdaptiveMeanPool(2)
    >>> layer, layer(jnp.array([1.0, 5.0, 3.0, 4.0, 8.0]).reshape(1, 5, 1)).ravel().tolist()
    (AdaptiveMeanPool(2), [3.0, 5.0])
    """

    output_size: Sizes

    def __init__(self, output_size: Sizes) -> None:
        self.output_size = output_sizes("AdaptiveMeanPool", output_size)

    def __call__(self, x: Shaped[Array, "n *spatial c"]) -> Inexact[Array, "n *windows c"]:
        return adaptive_mean_pool(jnp.asarray(as_array(x)), self.output_size)


class GlobalMaxPool(Layer):
    """The largest value of each channel over all spatial axes, which are kept with size 1.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output `(batch, 1, ..., 1, channels)`;
    `fx.flatten` makes it `(batch, channels)`. The dtype is kept.

    Errors: ShapeError for an input of another rank or without a cell. Source: `Flux.GlobalMaxPool`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.Chain(fx.GlobalMaxPool(), fx.flatten)(jnp.arange(12.0).reshape(2, 3, 2)).tolist()
    [[4.0, 5.0], [10.0, 11.0]]
    """

    def __call__(self, x: Shaped[Array, "n *spatial c"]) -> Shaped[Array, "n *ones c"]:
        return global_max_pool(jnp.asarray(as_array(x)))


class GlobalMeanPool(Layer):
    """The mean of each channel over all spatial axes, which are kept with size 1.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output `(batch, 1, ..., 1, channels)`;
    `fx.flatten` makes it `(batch, channels)`. The floating dtype is kept, integers become floats.

    Errors: ShapeError for an input of another rank or without a cell. Source: `Flux.GlobalMeanPool`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.Chain(fx.GlobalMeanPool(), fx.flatten)(jnp.arange(12.0).reshape(2, 3, 2)).tolist()
    [[2.0, 3.0], [8.0, 9.0]]
    """

    def __call__(self, x: Shaped[Array, "n *spatial c"]) -> Inexact[Array, "n *ones c"]:
        return global_mean_pool(jnp.asarray(as_array(x)))


def window_options(name: str, kernel: Any, stride: Any, padding: Any) -> tuple[Sizes, Sizes | None, Padding]:
    """Kernel, stride and padding, checked, as they are kept and printed.

    A kernel given axis by axis stays so, for then it says how many spatial axes an input has.
    """
    dims = named_dims(kernel, stride, padding) or 1
    kernels = per_axis(name, "kernel", kernel, dims)
    strides = kernels if stride is None else per_axis(name, "stride", stride, dims)
    pairs = padding_pairs(name, padding, dims)
    return (
        kernels if named_dims(kernel) else kernels[0],
        None if strides == kernels else brief(strides),
        brief(pairs),
    )


def output_sizes(name: str, output_size: Any) -> Sizes:
    sizes = per_axis(name, "output_size", output_size, named_dims(output_size) or 1)
    return sizes if named_dims(output_size) else sizes[0]
