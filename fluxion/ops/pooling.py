"""Pooling: one number for each window, the largest, the mean or the p-norm, over `(batch, *spatial, channels)`.

Windows slide over one to three spatial axes and pool each channel by itself. The axes are pooled one after the other,
by slices that are compared or added: on a CPU the gradient of that is several times faster than that of XLA's
`reduce_window`, JAX differentiates it to any order, forward and backward, and k x k cells cost k + k steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion import native
from fluxion.errors import ArgumentError, DTypeError, ShapeError
from fluxion.ops.windows import (
    MOST_DIMS,
    Padding,
    Pairs,
    check_rank,
    padding_pairs,
    per_axis,
    reach,
    resolved,
    window_counts,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Inexact, Shaped

Sizes = int | Sequence[int]  # one for all spatial axes, or one each

MOST_TAPS = 4  # so many slices, at most, are compared or added one by one; with more, gradients are slower


def max_pool(
    x: Shaped[Array, "n *spatial c"],
    kernel: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
) -> Shaped[Array, "n *windows c"]:
    """The largest value of each window.

    The gradient of a window goes to the first of its largest values, in row-major order. A NaN in a window gives NaN.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output `(batch, *windows, channels)`
    with `(size + low + high - (kernel - 1) * dilation - 1) // stride + 1` windows along each spatial axis. The dtype
    is kept, integers too.

    Arguments:
      kernel: cells of the window, a number for all spatial axes or one per axis.
      stride: cells from one window to the next; those of the kernel if None.
      padding: cells around the input, which are never the largest: a number, one per axis, a pair (low, high) per
        axis, or "same" for `ceil(size / stride)` windows, the odd cell on the high side.
      dilation: cells from one cell of the kernel to the next, a number or one per axis.

    Errors: ShapeError for an input of another rank or smaller than the kernel, and for windows that lie wholly in the
    padding; DTypeError for complex input. The numbers and gradients are those of `torch.nn.functional.max_pool1d`,
    `max_pool2d` and `max_pool3d`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([1, 5, 2, 3, 9]).reshape(1, 5, 1)
    >>> fx.max_pool(x, 2).ravel().tolist(), fx.max_pool(x, 3, stride=2, padding=1).ravel().tolist()
    ([5, 3], [5, 5, 9])
    """
    x = _real(x)
    windows = _windows("max_pool", x.shape, kernel, stride, padding, dilation)
    return _natively_pooled(x, windows) if _is_native(x, windows) else _pooled(x, windows, _MAX)


def mean_pool(
    x: Shaped[Array, "n *spatial c"],
    kernel: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    count_padding: bool = True,
) -> Inexact[Array, "n *windows c"]:
    """The mean of each window.

    Shapes: as for `max_pool`. The floating dtype is kept, half precision is added up in float32, integers become
    floats.

    Arguments:
      kernel, stride, padding: as for `max_pool`, the padding being zeros.
      count_padding: whether the sum is divided by all cells of the window, or by those inside the input only.

    Errors: as for `max_pool`. The numbers are those of `torch.nn.functional.avg_pool1d`, `avg_pool2d` and
    `avg_pool3d`, `count_padding` being their `count_include_pad`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([1.0, 5.0, 2.0, 4.0]).reshape(1, 4, 1)
    >>> fx.mean_pool(x, 2).ravel().tolist(), fx.mean_pool(x, 2, padding=1).ravel().tolist()
    ([3.0, 3.0], [0.5, 3.5, 2.0])
    >>> fx.mean_pool(x, 2, padding=1, count_padding=False).ravel().tolist()
    [1.0, 3.5, 4.0]
    """
    x, dtype = _summable(x)
    windows = _windows("mean_pool", x.shape, kernel, stride, padding)
    total = _pooled(x, windows, _SUM)
    if count_padding:
        return (total / math.prod(windows.kernel)).astype(dtype)
    for axis, (size, count, *options) in enumerate(zip(x.shape[1:-1], total.shape[1:-1], *windows, strict=True), 1):
        total = total / _along(axis, _cells_inside(size, count, *options), total)
    return total.astype(dtype)


def lp_pool(
    x: Shaped[Array, "n *spatial c"],
    kernel: Sizes,
    p: float = 2,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
) -> Float[Array, "n *windows c"]:
    """The p-norm of each window, `(sum |x|^p)^(1/p)`: its sum for p = 1, near its largest value for a large p.

    The gradient of a window of zeros is 0.

    Shapes: as for `max_pool`. The floating dtype is kept, half precision is added up in float32, integers become
    floats; `|x|^p` must not overflow it.

    Arguments:
      p: the power, greater than 0.
      kernel, stride, padding: as for `max_pool`, the padding being zeros.

    Errors: as for `max_pool`; ArgumentError for another p. The numbers are those of `torch.nn.functional.lp_pool1d`,
    `lp_pool2d` and `lp_pool3d` of `abs(x)`: theirs leave out the absolute value, so that an odd p gives other
    numbers where `x` is negative. `NNlib.lpnormpool` takes it, as here.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([3.0, -4.0, 0.0, 0.0]).reshape(1, 4, 1)
    >>> fx.lp_pool(x, 2).ravel().tolist(), fx.lp_pool(x, 2, 1).ravel().tolist()
    ([5.0, 0.0], [7.0, 0.0])
    """
    p = power("lp_pool", p)
    x, dtype = _summable(_real(x))
    windows = _windows("lp_pool", x.shape, kernel, stride, padding)
    return _root(_pooled(_power(x, p), windows, _SUM), p).astype(dtype)


def adaptive_max_pool(x: Shaped[Array, "n *spatial c"], output_size: Sizes) -> Shaped[Array, "n *windows c"]:
    """The largest value of each of `output_size` windows, which divide the input among them.

    Window `i` along an axis of `size` cells goes from `floor(i * size / output_size)` up to
    `ceil((i + 1) * size / output_size)`, so that windows overlap by a cell where the sizes do not divide.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output
    `(batch, *output_size, channels)`. The dtype is kept.

    Arguments:
      output_size: windows along all spatial axes, or one number per axis.

    Errors: ShapeError for an input of another rank or with fewer cells than windows; DTypeError for complex input.
    The numbers and gradients are those of `torch.nn.functional.adaptive_max_pool1d`, `2d` and `3d`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.adaptive_max_pool(jnp.array([1, 5, 2, 3, 9]).reshape(1, 5, 1), 2).ravel().tolist()
    [5, 9]
    """
    x = _real(x)
    return _divided(x, _output_sizes("adaptive_max_pool", x.shape, output_size), _MAX)


def adaptive_mean_pool(x: Shaped[Array, "n *spatial c"], output_size: Sizes) -> Inexact[Array, "n *windows c"]:
    """The mean of each of `output_size` windows, which divide the input among them as for `adaptive_max_pool`.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output
    `(batch, *output_size, channels)`. The floating dtype is kept, half precision is added up in float32, integers
    become floats.

    Arguments:
      output_size: windows along all spatial axes, or one number per axis.

    Errors: ShapeError for an input of another rank or with fewer cells than windows. The numbers are those of
    `torch.nn.functional.adaptive_avg_pool1d`, `2d` and `3d`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.adaptive_mean_pool(jnp.array([1.0, 5.0, 3.0, 4.0, 8.0]).reshape(1, 5, 1), 2).ravel().tolist()
    [3.0, 5.0]
    """
    x, dtype = _summable(x)
    sizes = _output_sizes("adaptive_mean_pool", x.shape, output_size)
    total = _divided(x, sizes, _SUM)
    for axis, (size, out) in enumerate(zip(x.shape[1:-1], sizes, strict=True), 1):
        start, stop = _divisions(size, out)
        total = total / _along(axis, stop - start, total)
    return total.astype(dtype)


def global_max_pool(x: Shaped[Array, "n *spatial c"]) -> Shaped[Array, "n *ones c"]:
    """The largest value of each channel over all spatial axes, which are kept with size 1.

    The gradient goes to the first of the largest values. A NaN gives NaN. Integers stay integers.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output `(batch, 1, ..., 1, channels)`;
    `fx.flatten` makes it `(batch, channels)`.

    Errors: ShapeError for an input of another rank or without a cell; DTypeError for complex input. Source:
    `Flux.GlobalMaxPool`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.global_max_pool(jnp.arange(12.0).reshape(2, 3, 2)).tolist()
    [[[4.0, 5.0]], [[10.0, 11.0]]]
    """
    x = _real(x)
    return _divided(x, _one_window(x.shape), _MAX)


def global_mean_pool(x: Shaped[Array, "n *spatial c"]) -> Inexact[Array, "n *ones c"]:
    """The mean of each channel over all spatial axes, which are kept with size 1.

    Shapes: input `(batch, *spatial, channels)` with one to three spatial axes, output `(batch, 1, ..., 1, channels)`;
    `fx.flatten` makes it `(batch, channels)`. The floating dtype is kept, half precision is added up in float32,
    integers become floats.

    Errors: ShapeError for an input of another rank or without a cell. Source: `Flux.GlobalMeanPool`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.global_mean_pool(jnp.arange(12.0).reshape(2, 3, 2)).tolist()
    [[[2.0, 3.0]], [[8.0, 9.0]]]
    """
    x, dtype = _summable(x)
    total = _divided(x, _one_window(x.shape), _SUM)
    return (total / math.prod(x.shape[1:-1])).astype(dtype)


# What becomes of the values of a window


class _Kind(NamedTuple):
    """A way to make one value of several, from left to right."""

    combine: Callable[[Array, Array], Array]  # of two arrays
    reduce: Callable[[Array, int], Array]  # of the values along an axis
    neutral: Callable[[Any], Any]  # the value, of a dtype, that changes no other


def _first_larger(first: Array, second: Array) -> Array:
    """The larger of two values; the first if they are equal, and then its gradient is 1, and 0 that of the second."""
    larger = second > first
    if jnp.issubdtype(second.dtype, jnp.floating):
        larger |= jnp.isnan(second)
    return jnp.where(larger, second, first)


def _largest(x: Array, axis: int) -> Array:
    """The largest value along an axis; the gradient goes to the first one."""
    return _first_largest(x, axis) if jnp.issubdtype(x.dtype, jnp.floating) else x.max(axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _first_largest(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    if size > MOST_TAPS:
        return x.max(axis)
    return functools.reduce(_first_larger, jax.lax.split(x, (1,) * size, axis)).squeeze(axis)


@_first_largest.defjvp
def _first_largest_jvp(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The derivative is linear in the tangent, so that JAX turns it around and derives it again."""
    (x,), (dx,) = primals, tangents
    first = jnp.expand_dims(jax.lax.argmax(jax.lax.stop_gradient(x), axis, jnp.int32), axis)
    chosen = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) == first
    return _first_largest(x, axis), jnp.where(chosen, dx, 0).sum(axis)


def _lowest(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.floating):
        return -jnp.inf
    return jnp.iinfo(dtype).min if jnp.issubdtype(dtype, jnp.integer) else False


_MAX = _Kind(_first_larger, _largest, _lowest)
_SUM = _Kind(jnp.add, jnp.sum, lambda dtype: 0)


def _power(x: Array, p: float) -> Array:
    """`|x|^p`, with the gradient 0 at 0."""
    size = x * jnp.sign(x)  # jnp.abs has the gradient 1 at 0
    if p == int(p):
        return (x if p % 2 == 0 else size) ** int(p)
    zero = x == 0
    return jnp.where(zero, 0, jnp.where(zero, 1, size) ** p)


def _root(x: Array, p: float) -> Array:
    """`x^(1 / p)` of numbers that are not negative, with the gradient 0 at 0."""
    if p == 1:
        return x
    zero = x == 0
    positive = jnp.where(zero, 1, x)
    return jnp.where(zero, 0, jnp.sqrt(positive) if p == 2 else positive ** (1 / p))


# The windows


def _is_native(x: Array, windows: _Windows) -> bool:
    """Whether the C++ library has these largest values: the same numbers, gradients several times faster on a CPU."""
    # A window of k x k cells costs k * k steps there, and k + k here: large ones stay here.
    known = x.ndim <= 4 and max(windows.dilation) == 1 and math.prod(windows.kernel) <= 16
    return known and x.size > 0 and native.takes(x)


def _natively_pooled(x: Array, windows: _Windows) -> Array:
    from fluxion.native.pooling import Windows, largest  # here, because it loads Pallas

    kernel, stride, padding, _ = windows
    if x.ndim == 3:  # one row
        row = Windows((1, *kernel), (1, *stride), ((0, 0), *padding), (x.shape[0], 1, *x.shape[1:]))
        return jnp.squeeze(largest(x[:, None], row), 1)
    return largest(x, Windows(kernel, stride, padding, x.shape))


@functools.partial(jax.jit, static_argnames=("windows", "kind"), inline=True)
def _pooled(x: Array, windows: _Windows, kind: _Kind) -> Array:
    """Each window reduced to one value: along the last axis first, which keeps the order of its cells row-major."""
    for axis, kernel, stride, padding, dilation in reversed([*zip(range(1, x.ndim - 1), *windows, strict=True)]):
        x = _padded(x, axis, padding, kind.neutral(x.dtype))
        if stride == kernel and dilation == 1:
            x = kind.reduce(_blocks(x, axis, kernel), axis + 1)
        else:
            x = _slid(x, axis, kernel, stride, dilation, kind.combine)
    return x


def _slid(
    x: Array, axis: int, kernel: int, stride: int, dilation: int, combine: Callable[[Array, Array], Array]
) -> Array:
    """Windows along one axis that may overlap.

    A long window is put together from spans of 1, 2, 4... cells, one for each binary digit of its length.
    """
    count = (x.shape[axis] - reach(kernel, dilation)) // stride + 1

    def at(x: Array, cell: int) -> Array:
        """What stands at this cell of each window."""
        start = cell * dilation
        return jax.lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)

    if kernel <= MOST_TAPS:
        return functools.reduce(combine, [at(x, cell) for cell in range(kernel)])
    parts, done, span = [], 0, 1
    while True:
        if kernel & span:
            parts.append(at(x, done))
            done += span
        if done == kernel:
            return functools.reduce(combine, parts)
        near = jax.lax.slice_in_dim(x, 0, x.shape[axis] - span * dilation, axis=axis)
        x = combine(near, jax.lax.slice_in_dim(x, span * dilation, x.shape[axis], axis=axis))
        span *= 2


@functools.partial(jax.jit, static_argnames=("output_size", "kind"), inline=True)
def _divided(x: Array, output_size: tuple[int, ...], kind: _Kind) -> Array:
    """The input divided into `output_size` windows, each reduced to one value; the last axis first."""
    for axis, out in reversed([*enumerate(output_size, 1)]):
        size = x.shape[axis]
        if size % out == 0:
            x = kind.reduce(_blocks(x, axis, size // out), axis + 1)
        else:
            start, stop = _divisions(size, out)
            cells = start[:, None] + np.arange((stop - start).max())
            inside = jnp.expand_dims(cells < stop[:, None], [i for i in range(x.ndim + 1) if i not in (axis, axis + 1)])
            x = jnp.take(x, np.minimum(cells, size - 1), axis=axis, mode="clip")
            x = kind.reduce(jnp.where(inside, x, kind.neutral(x.dtype)), axis + 1)
    return x


def _divisions(size: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `out` windows over `size` cells starts, and where it has ended."""
    window = np.arange(out)
    return window * size // out, -(-(window + 1) * size // out)


def _blocks(x: Array, axis: int, length: int) -> Array:
    """The axis as two, of blocks and of the cells in a block; cells that fill no block are left out."""
    count = x.shape[axis] // length
    x = jax.lax.slice_in_dim(x, 0, count * length, axis=axis)
    return x.reshape(*x.shape[:axis], count, length, *x.shape[axis + 1 :])


def _padded(x: Array, axis: int, padding: tuple[int, int], value: Any) -> Array:
    if padding == (0, 0):
        return x
    return jax.lax.pad(
        x, jnp.asarray(value, x.dtype), [(*padding, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
    )


def _along(axis: int, numbers: np.ndarray, like: Array) -> Array:
    """Numbers along an axis of `like`, in its dtype."""
    return jnp.asarray(numbers, like.dtype).reshape([-1 if i == axis else 1 for i in range(like.ndim)])


# What is refused


class _Windows(NamedTuple):
    """The windows that slide over an input, axis by axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]


def _windows(
    name: str, shape: tuple[int, ...], kernel: Sizes, stride: Sizes | None, padding: Padding, dilation: Sizes = 1
) -> _Windows:
    """The arguments of a pooling function, checked against an input of that shape."""
    dims = _spatial_dims(shape, named_dims(kernel, stride, padding, dilation))
    kernels = per_axis(name, "kernel", kernel, dims)
    strides = kernels if stride is None else per_axis(name, "stride", stride, dims)
    dilations = per_axis(name, "dilation", dilation, dims)
    sizes = shape[1:-1]
    pairs = resolved(padding_pairs(name, padding, dims), sizes, kernels, strides, dilations)
    counts = window_counts(sizes, kernels, strides, pairs, dilations)
    windows = _Windows(kernels, strides, pairs, dilations)
    for size, count, *options in zip(sizes, counts, *windows, strict=True):
        if not _cells_inside(size, count, *options).all():
            raise ShapeError(
                f"expected every window to reach into the input, got an input {shape} with a padding of {padding!r} "
                f"under a kernel of {kernel!r}. Pad by half the kernel at most."
            )
    return windows


def _cells_inside(
    size: int, count: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int
) -> np.ndarray:
    """For each window along an axis, the number of its cells that are cells of the input and not of the padding."""
    start = np.arange(count) * stride - padding[0]
    first = np.maximum(-(start // dilation), 0)
    behind = np.minimum(-((start - size) // dilation), kernel)
    return np.maximum(behind - first, 0)


def named_dims(*options: Any) -> int | None:
    """The number of spatial axes that options given axis by axis speak of; None if all are single numbers."""
    return next((len(option) for option in options if isinstance(option, tuple | list)), None)


def _spatial_dims(shape: tuple[int, ...], dims: int | None) -> int:
    """The number of spatial axes of an input, which must be `dims`, or one to three."""
    if dims is not None:
        check_rank(shape, dims)
        return dims
    found = len(shape) - 2
    if not 1 <= found <= MOST_DIMS:
        remedy = " Add the batch axis, x[None], or the channel axis, x[..., None]." if found < 1 else ""
        raise ShapeError(
            f"expected input (batch, *spatial, channels) with 1 to {MOST_DIMS} spatial axes, got {shape}.{remedy}"
        )
    return found


def _output_sizes(name: str, shape: tuple[int, ...], output_size: Sizes) -> tuple[int, ...]:
    sizes = per_axis(name, "output_size", output_size, _spatial_dims(shape, named_dims(output_size)))
    if any(size < out for size, out in zip(shape[1:-1], sizes, strict=True)):
        raise ShapeError(
            f"expected spatial axes of at least {sizes} cells, one for each output, got {shape}. "
            "Use a smaller output_size, or fewer pooling layers before it."
        )
    return sizes


def _one_window(shape: tuple[int, ...]) -> tuple[int, ...]:
    dims = _spatial_dims(shape, None)
    if 0 in shape[1:-1]:
        raise ShapeError(f"expected spatial axes of at least one cell, got {shape}. Leave empty examples out.")
    return (1,) * dims


def power(name: str, p: Any) -> float:
    """`p` if it is a number greater than 0; ArgumentError if not."""
    if not isinstance(p, int | float) or isinstance(p, bool) or not 0 < p < math.inf:
        raise ArgumentError(f"{name}: expected a power p > 0, got {p!r}. For infinity, take the largest of jnp.abs(x).")
    return p


def _real(x: Any) -> Array:
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise DTypeError(f"expected real input, got dtype {x.dtype}. Pool jnp.abs(x), or its real and imaginary parts.")
    return x


def _summable(x: Any) -> tuple[Array, Any]:
    """`x` in a dtype to add up in, and the dtype of the result."""
    x = jnp.asarray(x)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.result_type(float)
    return x.astype(jnp.promote_types(dtype, jnp.float32)), dtype
