"""Pictures read at any place: sampling at a grid of points, affine grids, rotation.

Places between cells take the mean of the cells around, weighted by nearness. Everything has gradients with respect to
the places as well, which is how a network learns where to look (Jaderberg et al. 2015).
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, ShapeError, nearest
from fluxion.ops.windows import input_axes

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped

Mode = Literal["bilinear", "nearest"]


def grid_sample(
    x: Shaped[Array, "n *spatial c"],
    grid: Float[Array, "n *out_spatial dims"],
    *,
    mode: Mode = "bilinear",
    padding_mode: Literal["zeros", "border", "reflection"] = "zeros",
    align_corners: bool = False,
) -> Shaped[Array, "n *out_spatial c"]:
    """The values of `x` at the points of `grid`: `y[n, p] = x[n, at grid[n, p]]`.

    A point is `(x, y)` for pictures, `(x, y, z)` for volumes, `x` along the last spatial axis; -1 and 1 are the outer
    borders of the picture or, with `align_corners`, the middles of its first and last cells. Differentiable in `x` and
    in `grid`.

    Shapes: `x` is `(batch, height, width, channels)` or `(batch, depth, height, width, channels)`, `grid`
    `(batch, *out_spatial, 2)` or `(batch, *out_spatial, 3)` with any number of axes between, the result
    `(batch, *out_spatial, channels)`. It has the dtype of `x`; integers become floats unless `mode` is "nearest".
    Points are computed in float32 at least; one that is NaN gives NaN, and 0 among integers.

    Arguments:
      mode: "bilinear" mixes the 4 cells (of volumes: 8) around a point, "nearest" takes the nearest cell.
      padding_mode: what is outside of `x`: "zeros", the nearest cell of the "border", or the picture again, by
        "reflection".
      align_corners: what -1 and 1 are. True is what `NNlib.grid_sample` does.

    Errors: ShapeError for a grid that does not fit, ArgumentError for an unknown mode. The numbers are those of
    `torch.nn.functional.grid_sample`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    >>> points = jnp.array([[[0.0, 0.0], [0.5, -0.5], [1.0, -0.5], [9.0, 9.0]]])
    >>> fx.grid_sample(x, points)[0, :, 0].tolist()
    [2.5, 2.0, 1.0, 0.0]
    """
    _one_of("grid_sample", "mode", mode, ("bilinear", "nearest"))
    _one_of("grid_sample", "padding_mode", padding_mode, ("zeros", "border", "reflection"))
    x, grid = jnp.asarray(x), jnp.asarray(grid)
    dims = x.ndim - 2
    if dims not in (2, 3):
        raise ShapeError(
            f"grid_sample: expected input {input_axes(2)} or {input_axes(3)}, got {x.shape}. "
            "A single picture has a batch axis too: x[None]."
        )
    if grid.ndim < 2 or grid.shape[-1] != dims or grid.shape[0] != x.shape[0]:
        point = "(x, y)" if dims == 2 else "(x, y, z)"
        raise ShapeError(
            f"grid_sample: expected a grid ({x.shape[0]}, ..., {dims}), a point {point} for each cell of the result, "
            f"got {grid.shape} for input {x.shape}. fx.affine_grid makes one."
        )
    _nonempty("grid_sample", x.shape)
    grid = _real("grid_sample", "grid", grid)
    places = []
    for i, n in enumerate(x.shape[1:-1]):
        place = grid[..., dims - 1 - i]
        place = (place + 1) * ((n - 1) / 2) if align_corners else ((place + 1) * n - 1) / 2
        if padding_mode == "reflection":
            place = _reflected(place, *((0.0, n - 1.0) if align_corners else (-0.5, n - 0.5)))
        # Zeros begin a cell outside of the picture; further out lies nothing else, infinite or not.
        places.append(_held(place, -2, n + 1) if padding_mode == "zeros" else _held(place, 0, n - 1))
    return _read(x, places, mode)


def affine_grid(
    theta: Float[Array, "n dims dims_1"], size: Sequence[int], *, align_corners: bool = False
) -> Float[Array, "n *size dims"]:
    """The grid with which `grid_sample` moves pictures by the affine maps `theta`: `grid[n, p] = A[n] @ p + b[n]`.

    `theta[n]` is `A[n]` with `b[n]` as its last column, and `p` is the place of a cell of the result, `(x, y)` or
    `(x, y, z)` between -1 and 1. `[[1, 0, 0], [0, 1, 0]]` leaves a picture where it is; `theta` says where the cells of
    the result come from, so that a factor 2 makes the picture half as large.

    Shapes: `theta` is `(batch, dims, dims + 1)`, the result `(batch, *size, dims)`, in the dtype of `theta`.

    Arguments:
      size: sizes of the 2 or 3 spatial axes of the result.
      align_corners: what -1 and 1 are; give `grid_sample` the same.

    Errors: ShapeError for a `theta` that does not fit `size`. The numbers are those of
    `torch.nn.functional.affine_grid`, whose size has the batch and the channels too.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> mirror = jnp.array([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    >>> fx.grid_sample(x, fx.affine_grid(mirror, (2, 2)))[0, :, :, 0].tolist()
    [[2.0, 1.0], [4.0, 3.0]]
    """
    try:
        sizes = tuple(map(operator.index, size))
    except TypeError:
        sizes = ()
    dims = len(sizes)
    if dims not in (2, 3) or min(sizes) < 1:
        raise ArgumentError(
            f"affine_grid: expected size to be 2 or 3 positive whole numbers such as (28, 28), got {size!r}."
        )
    theta = jnp.asarray(theta)
    if theta.ndim != 3 or theta.shape[1:] != (dims, dims + 1):
        raise ShapeError(
            f"affine_grid: expected theta (batch, {dims}, {dims + 1}) for spatial axes {sizes}, got {theta.shape}."
        )
    wide = _real("affine_grid", "theta", theta)
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in sizes]
    if not align_corners:
        axes = [axis * ((n - 1) / n) for axis, n in zip(axes, sizes, strict=True)]
    grid = wide[:, :, -1].reshape(-1, *[1] * dims, dims)
    for column, axis in enumerate(reversed(range(dims))):
        along = jnp.asarray(axes[axis], wide.dtype).reshape(1, *(-1 if i == axis else 1 for i in range(dims)), 1)
        grid = grid + wide[:, :, column].reshape(-1, *[1] * dims, dims) * along
    return grid.astype(theta.dtype if jnp.issubdtype(theta.dtype, jnp.floating) else wide.dtype)


def imrotate(
    x: Shaped[Array, "n height width c"],
    angle: float | Float[Array, ""] | Float[Array, " n"],
    *,
    mode: Mode = "bilinear",
    center: Sequence[float] | None = None,
    value: float = 0,
) -> Shaped[Array, "n height width c"]:
    """Pictures turned about `center` by `angle` in radians, clockwise where the first row is above.

    A cell of the result is read at the place it came from; a place outside of the picture is `value`. A quarter turn of
    a square picture is exact to rounding. Differentiable in `x` and in `angle`.

    Shapes: `x` is `(batch, height, width, channels)`, and so is the result. It has the dtype of `x`; integers become
    floats unless `mode` is "nearest".

    Arguments:
      angle: a number, or one per picture. Positive is clockwise as in NNlib; SciPy's, Pillow's and torchvision's
        degrees go the other way.
      mode: "bilinear" mixes the 4 cells around a place, "nearest" takes the nearest one.
      center: row and column of the fixed point, counted from 0, fractions allowed; None for the middle,
        `((height - 1) / 2, (width - 1) / 2)`. NNlib's default is `(height // 2, width // 2)`.
      value: what stands outside.

    Errors: ShapeError for input of another rank, or angles that are not one per picture. Source: `NNlib.imrotate`; the
    numbers are those of `scipy.ndimage.rotate(x, -degrees, order=1, reshape=False)`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    >>> fx.imrotate(x, jnp.pi / 2)[0, :, :, 0].round(4).tolist()
    [[3.0, 1.0], [4.0, 2.0]]
    """
    _one_of("imrotate", "mode", mode, ("bilinear", "nearest"))
    x = jnp.asarray(x)
    if x.ndim != 4:
        raise ShapeError(
            f"imrotate: expected input {input_axes(2)}, got {x.shape}. A single picture has a batch axis too: x[None]."
        )
    _nonempty("imrotate", x.shape)
    n, *sizes, _ = x.shape
    turn = _real("imrotate", "angle", jnp.asarray(angle))
    if turn.shape not in ((), (n,)):
        raise ShapeError(f"imrotate: expected one angle, or {n} for {n} pictures, got shape {turn.shape}.")
    if center is None:
        center = [(size - 1) / 2 for size in sizes]
    elif not isinstance(center, tuple | list) or len(center) != 2:
        raise ArgumentError(f"imrotate: expected center to be a pair (row, column), got {center!r}.")
    row, column = (np.arange(size) - middle for size, middle in zip(sizes, center, strict=True))
    row, column = (jnp.asarray(a, turn.dtype).reshape(s) for a, s in ((row, (1, -1, 1)), (column, (1, 1, -1))))
    cos, sin = (f(turn).reshape(-1, 1, 1) for f in (jnp.cos, jnp.sin))
    places = [cos * row - sin * column + center[0], sin * row + cos * column + center[1]]
    # A quarter turn ends on the border, give or take a rounding. A nearest cell reaches half a cell further.
    slack = 4 * max(sizes) * float(jnp.finfo(turn.dtype).eps) + (0.5 if mode == "nearest" else 0)
    outside = jnp.zeros((), bool)
    for i, size in enumerate(sizes):
        outside = outside | (places[i] < -slack) | (places[i] > size - 1 + slack)
    inside = [_held(place, 0, size - 1) for place, size in zip(places, sizes, strict=True)]
    y = _read(x, [jnp.broadcast_to(place, (n, *sizes)) for place in inside], mode)
    return jnp.where(outside[..., None], jnp.asarray(value, y.dtype), y)


# --------------------------------------------------------------------------------------------- reading


def _read(x: Shaped[Array, "n *spatial c"], places: list[Array], mode: Mode) -> Shaped[Array, "n *p c"]:
    """The values of `x` at places counted in cells, one array per spatial axis; cells outside are 0."""
    if mode == "nearest":
        y = _cells(x, [jnp.round(place) for place in places])
        unknown = functools.reduce(operator.or_, map(jnp.isnan, places))
        return jnp.where(unknown[..., None], jnp.nan, y) if jnp.issubdtype(x.dtype, jnp.inexact) else y
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.result_type(float)
    x = x.astype(jnp.promote_types(jnp.promote_types(dtype, places[0].dtype), jnp.float32))
    low = [jnp.floor(place) for place in places]
    total = jnp.zeros((), x.dtype)
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight = jnp.ones((), places[0].dtype)
        for place, floor, step in zip(places, low, corner, strict=True):
            weight = weight * (place - floor if step else 1 - (place - floor))
        total = total + weight[..., None] * _cells(x, [f + step for f, step in zip(low, corner, strict=True)])
    return total.astype(dtype)


def _cells(x: Shaped[Array, "n *spatial c"], index: list[Array]) -> Shaped[Array, "n *p c"]:
    """The cells of `x` at whole numbers, 0 outside."""
    picture = jnp.arange(x.shape[0]).reshape(-1, *[1] * (index[0].ndim - 1))
    flat, inside = picture, jnp.ones((), bool)
    for i, n in zip(index, x.shape[1:-1], strict=True):
        inside = inside & (i >= 0) & (i <= n - 1)
        flat = flat * n + jnp.clip(i, 0, n - 1).astype(flat.dtype)
    cells = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).at[flat].get(mode="clip")
    return jnp.where(inside[..., None], cells, 0)


def _held(place: Float[Array, ...], low: float, high: float) -> Float[Array, ...]:
    """`place` held between `low` and `high`; at and beyond them its gradient is 0, as torch's."""
    held = jax.lax.stop_gradient(jnp.clip(place, low, high))
    return jnp.where((place > low) & (place < high), place, held)


def _reflected(place: Float[Array, ...], low: float, high: float) -> Float[Array, ...]:
    """`place` between `low` and `high`, mirrored at both as often as it takes."""
    span = high - low
    if span == 0:
        return jax.lax.stop_gradient(place * 0)
    distance = place - low
    distance = jnp.where(distance < 0, -distance, distance)
    turns = jax.lax.stop_gradient(jnp.floor(distance / span))
    rest = distance - turns * span
    return low + jnp.where(turns % 2 == 0, rest, span - rest)


# ------------------------------------------------------------------------------------------- arguments


def _one_of(name: str, what: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        listed = ", ".join(f'"{k}"' for k in known[:-1]) + f' or "{known[-1]}"'
        raise ArgumentError(f"{name}: expected {what} to be {listed}, got {value!r}.{nearest(str(value), known)}")


def _real(name: str, what: str, a: Shaped[Array, ...]) -> Float[Array, ...]:
    """`a` in float32 at least: places in half precision would be off by whole cells."""
    if jnp.issubdtype(a.dtype, jnp.complexfloating):
        raise DTypeError(f"{name}: expected a real {what}, got dtype {a.dtype}. Take its real part.")
    dtype = a.dtype if jnp.issubdtype(a.dtype, jnp.floating) else jnp.result_type(float)
    return a.astype(jnp.promote_types(dtype, jnp.float32))


def _nonempty(name: str, shape: tuple[int, ...]) -> None:
    if min(shape[1:-1]) < 1:
        raise ShapeError(f"{name}: expected a picture of at least one cell, got {shape}.")
