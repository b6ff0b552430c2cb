"""Pictures, sounds and volumes with more or fewer cells: nearest and linear interpolation along the spatial axes.

All of it is linear in `x` and goes axis by axis. Which cells an output cell is made of depends on sizes alone, so it is
found in NumPy while the function is traced. The gradient of a gather is a scatter, which XLA runs slowly: whole-number
scales therefore repeat or mix shifted copies, and other linear ones are products with a matrix.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops.windows import MOST_DIMS

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped

Scale = float | Sequence[float]  # as users write it: a number or one per spatial axis
Size = int | Sequence[int]

# Up to this whole-number scale, linear upsampling writes each place between two cells as a copy of its own.
MOST_PHASES = 8


def upsample_nearest(
    x: Shaped[Array, "n *spatial c"], scale: Scale | None = None, *, size: Size | None = None
) -> Shaped[Array, "n *sizes c"]:
    """Each output cell is the input cell at its place: `y[i] = x[floor(i / scale)]` along each spatial axis.

    Shapes: `x` is `(batch, *spatial, channels)` with one to three spatial axes, the result `(batch, *sizes, channels)`
    where `sizes` are `floor(spatial * scale)`, or `size`. The dtype stays.

    Arguments:
      scale: how many times larger, a number or one per spatial axis; fractions are allowed, and below 1 it shrinks.
      size: instead, the sizes of the spatial axes of the result, a number or one per axis.

    Errors: ArgumentError for both or neither of `scale` and `size`, ShapeError where no cell would be left. The numbers
    are those of `torch.nn.functional.interpolate` with `mode="nearest"`, except where its kernels differ among each
    other: some round `i / scale` in single precision, some forget a scale that makes `n` or `2 * n` cells of `n`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([1.0, 2.0, 3.0])[None, :, None]
    >>> fx.upsample_nearest(x, 2)[0, :, 0].tolist(), fx.upsample_nearest(x, size=4)[0, :, 0].tolist()
    ([1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [1.0, 1.0, 2.0, 3.0])
    """
    x = jnp.asarray(x)
    for axis, (cells, factor) in enumerate(_targets("upsample_nearest", x.shape, scale, size), 1):
        index = _nearest_cells(x.shape[axis], cells, factor)
        copies = -(-cells // x.shape[axis])
        if np.array_equal(index, np.arange(cells) // copies) and cells == copies * x.shape[axis]:
            x = x if copies == 1 else jnp.repeat(x, copies, axis)
        else:
            x = jnp.take(x, index, axis, mode="clip")
    return x


def upsample_linear(
    x: Shaped[Array, "n *spatial c"],
    scale: Scale | None = None,
    *,
    size: Size | None = None,
    align_corners: bool = False,
) -> Float[Array, "n *sizes c"]:
    """Each output cell lies between two input cells along each spatial axis: linear, bilinear, trilinear interpolation.

    Output cell `i` takes the value at `p = (i + 0.5) / scale - 0.5`, the place of its middle in the input, held inside
    the axis; with `align_corners`, at `p = i * (n - 1) / (m - 1)` for `n` cells in and `m` out. The value is
    `(1 - t) * x[floor(p)] + t * x[floor(p) + 1]` with `t = p - floor(p)`. When it shrinks, cells between are left out;
    an axis that keeps its size stays as it is.

    Shapes: `x` is `(batch, *spatial, channels)` with one to three spatial axes, the result `(batch, *sizes, channels)`
    where `sizes` are `floor(spatial * scale)`, or `size`. The dtype stays; integers become the default float.

    Arguments:
      scale: how many times larger, a number or one per spatial axis; fractions are allowed, and below 1 it shrinks.
      size: instead, the sizes of the spatial axes of the result, a number or one per axis; the scale is then `m / n`.
      align_corners: whether the middles of the first and last cells stay the first and last, as in Flux, rather than
        the outer borders.

    Errors: ArgumentError for both or neither of `scale` and `size`, ShapeError where no cell would be left. The numbers
    are those of `torch.nn.functional.interpolate` with `mode="linear"`, `"bilinear"` or `"trilinear"`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([0.0, 4.0])[None, :, None]
    >>> fx.upsample_linear(x, 2)[0, :, 0].tolist(), fx.upsample_linear(x, size=5, align_corners=True)[0, :, 0].tolist()
    ([0.0, 1.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0])
    """
    x = jnp.asarray(x)
    targets = _targets("upsample_linear", x.shape, scale, size)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.result_type(float)
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    matrices = {}
    for axis, (cells, factor) in enumerate(targets, 1):
        n = x.shape[axis]
        phases = cells // n
        if cells == n:
            continue
        if not align_corners and cells == n * phases and factor in (None, phases) and phases <= MOST_PHASES:
            x = _phases(x, axis, phases)
        else:
            matrices[axis] = _linear_matrix(n, cells, factor, align_corners)
    return _multiplied(x, matrices).astype(dtype)


# ---------------------------------------------------------------------------------------------- arguments


def scale_or_size(name: str, scale: Any, size: Any) -> tuple[Any, Any]:
    """`scale` and `size`, one of them None, the other a positive number or a tuple of them; ArgumentError if not so.

    >>> from fluxion.ops.upsampling import scale_or_size
    >>> scale_or_size("Upsample", None, [2, 3])
    (None, (2, 3))
    """
    if (scale is None) == (size is None):
        got = "neither" if scale is None else f"scale={scale!r} and size={size!r}"
        raise ArgumentError(f"{name}: expected either scale or size, got {got}. Give one, such as scale=2.")
    if scale is None:
        return None, _each(size, lambda value: _whole(name, value, size))
    return _each(scale, lambda value: _factor(name, value, scale)), None


def _each(value: Any, read: Any) -> Any:
    several = isinstance(value, tuple | list)
    return tuple(map(read, value)) if several else read(value)


def _whole(name: str, value: Any, given: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ArgumentError(f"{name}: expected size to be positive whole numbers, got {given!r}.")
    return number


def _factor(name: str, value: Any, given: Any) -> int | float:
    number = value.item() if isinstance(value, np.number) else value
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number < math.inf:
        raise ArgumentError(f"{name}: expected scale to be positive numbers, got {given!r}.")
    return number


def _targets(name: str, shape: tuple[int, ...], scale: Any, size: Any) -> list[tuple[int, float | None]]:
    """For each spatial axis its size in the result, and its scale if that was given."""
    scale, size = scale_or_size(name, scale, size)
    dims = len(shape) - 2
    if not 1 <= dims <= MOST_DIMS:
        raise ShapeError(
            f"expected input (batch, *spatial, channels) with 1 to {MOST_DIMS} spatial axes, got {shape}. "
            "Reshape it; a single example has a batch axis too: x[None]."
        )
    spatial = shape[1:-1]
    given = size if scale is None else scale
    values = given if isinstance(given, tuple) else (given,) * dims
    if len(values) != dims:
        what = "size" if scale is None else "scale"
        raise ShapeError(
            f"expected input with {len(values)} spatial axes, one per number of {what}={given}, got {shape}. "
            f"Give {what} one number, or {dims} of them."
        )
    # Rounded down as torch does, from the product in double precision.
    cells = values if scale is None else tuple(int(n * s) for n, s in zip(spatial, values, strict=True))
    if min(cells) < 1 or min(spatial) < 1:
        raise ShapeError(
            f"expected spatial axes that leave a cell, got {shape}, of which would be left {cells}. "
            "Use a larger scale or a larger input."
        )
    return list(zip(cells, (None,) * dims if scale is None else values, strict=True))


# ------------------------------------------------------------------------------------------------- an axis


def _nearest_cells(n: int, cells: int, scale: float | None) -> np.ndarray:
    """The input cell for each output cell."""
    places = np.arange(cells)
    if scale is None:
        return places * n // cells
    return np.minimum((places / scale).astype(int), n - 1)


def _linear_matrix(n: int, cells: int, scale: float | None, align_corners: bool) -> np.ndarray:
    """The matrix, `(cells, n)`, that makes the output cells of an axis from its input cells."""
    places = np.arange(cells)
    if align_corners:
        at = places * ((n - 1) / (cells - 1) if cells > 1 else 0.0)
    else:
        at = np.maximum((places + 0.5) * (n / cells if scale is None else 1 / scale) - 0.5, 0)
    low = np.minimum(at.astype(int), n - 1)
    t = np.clip(at - low, 0, 1)
    matrix = np.zeros((cells, n))
    matrix[places, low] += 1 - t
    matrix[places, np.minimum(low + 1, n - 1)] += t
    return matrix


def _multiplied(x: Float[Array, ...], matrices: dict[int, np.ndarray]) -> Float[Array, ...]:
    """`x` with each matrix applied along its axis; `einsum` finds the cheapest order."""
    if not matrices:
        return x
    axes, new = "abcdefgh"[: x.ndim], "ABCDEFGH"
    after = "".join(new[i] if i in matrices else axes[i] for i in range(x.ndim))
    terms = [f"{new[i]}{axes[i]}" for i in matrices]
    arrays = [jnp.asarray(matrix, x.dtype) for matrix in matrices.values()]
    return jnp.einsum(f"{','.join([axes, *terms])}->{after}", x, *arrays, precision="highest")


def _phases(x: Float[Array, ...], axis: int, phases: int) -> Float[Array, ...]:
    """Linear upsampling by a whole number: the output cells in an input cell mix it with the cell before or after."""
    n = x.shape[axis]
    first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, n - 1))
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, n - 1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, n, axis=axis), last], axis)
    mixed = []
    for phase in range(phases):
        t = (phase + 0.5) / phases - 0.5
        mixed.append((1 - abs(t)) * x + abs(t) * (before if t < 0 else after) if t else x)
    return jnp.stack(mixed, axis + 1).reshape(*x.shape[:axis], n * phases, *x.shape[axis + 1 :])
