"""Rows read from an array, and values collected into rows: `gather` and `scatter`.

JAX clamps or drops an index that is out of range, and counts a negative one from the end. Here both raise `DataError`
where the index is known, and give NaN where it is not (under `jit`), which no loss can miss. An integer array has no
NaN; there it is the lowest value of the dtype, for unsigned ones the highest.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError, nearest
from fluxion.ops.checks import host, index_text, known

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Int, Shaped

OPS = ("sum", "mean", "max", "min", "product")


def gather(
    source: Shaped[Array, "n ..."], indices: Int[Array, "*shape"] | tuple[Int[Array, "*shape"], ...]
) -> Shaped[Array, "*shape ..."]:
    """`source[indices]`: the rows of `source` that the indices name.

    Shapes: integers `(*shape)` pick along the first axis of `(n, *rest)` and give `(*shape, *rest)`. A tuple of `k`
    integer arrays of one shape picks along the first `k` axes.

    Errors: DataError for an index out of range, negative ones included; where values are not known, that row is NaN
    (see above for integers). DTypeError for indices that are no integers, and for a source of booleans.
    The numbers are those of `torch.index_select`; as `NNlib.gather`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> fx.gather(x, jnp.array([2, 0])).tolist(), fx.gather(x, (jnp.array([2, 0]), jnp.array([0, 1]))).tolist()
    ([[5.0, 6.0], [1.0, 2.0]], [5.0, 2.0])
    >>> fx.gather(x, jnp.array([1, 3]))
    Traceback (most recent call last):
        ...
    fluxion.errors.DataError: index 3 at position (1,) is outside [0, 3). Indices count from 0, never from the end; ...
    """
    source = _numbers(source)
    several = _each(indices)
    depth = len(several)
    if source.ndim < depth:
        raise ShapeError(f"expected at least {depth} axes to pick along, got shape {source.shape}.")
    flat, _ = _flat_index(several, source.shape[:depth])
    rows = source.reshape(math.prod(source.shape[:depth]), *source.shape[depth:])
    return jnp.take(rows, flat, axis=0, mode="fill", fill_value=_absent(source.dtype))


def scatter(
    op: str,
    source: Shaped[Array, "*shape ..."],
    indices: Int[Array, "*shape"] | tuple[Int[Array, "*shape"], ...],
    *,
    size: int | tuple[int, ...] | None = None,
    init: Any = None,
) -> Shaped[Array, "size ..."]:
    """Collect the rows of `source` into the rows that the indices name: row `j` is `op` of all `source[i]` with
    `indices[i] == j`. The inverse of `gather`, whose gradient is the sum.

    Shapes: `source` is `(*shape, *rest)` for indices `(*shape)`; the result is `(size, *rest)`. With a tuple of `k`
    index arrays, `size` is a tuple of `k` sizes, and the result is `(*size, *rest)`.

    Arguments:
      op: "sum", "mean", "max", "min" or "product".
      source: the values. Integers stay integers, but for the mean; sums of half precision are taken in float32.
      indices: where each row goes.
      size: rows of the result; the largest index plus 1 if it is left out. To be given where values are not known.
      init: a number, or an array of the shape of the result, which takes part: `init + sum`, `init + mean`,
        `init * product`, the larger or smaller of `init` and the rest.

    Without `init`, a row that gets nothing is 0, and 1 for the product. The gradient of a largest or smallest value is
    divided evenly among equal ones. NNlib's `-` and `/` are `-scatter("sum", ...)` and `1 / scatter("product", ...)`.

    Errors: DataError for an index out of range, negative ones included; where values are not known, the whole result
    is NaN (see above for integers). ShapeError, ArgumentError. As `NNlib.scatter`; the numbers are those
    of `torch.scatter_reduce`, with `include_self` where `init` is given, except that torch's mean then counts it too.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x, bags = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([0, 0, 2, 0])
    >>> print(fx.scatter("sum", x, bags), fx.scatter("max", x, bags, size=4, init=2))
    [7. 0. 3.] [4. 2. 3. 2.]
    """
    if op not in OPS:
        near = nearest(op, OPS) if isinstance(op, str) else ""
        raise ArgumentError(f'expected op to be "sum", "mean", "max", "min" or "product", got {op!r}.{near}')
    source, several = _numbers(source), _each(indices)
    init = None if init is None else jnp.asarray(init)
    shape = several[0].shape
    if source.shape[: len(shape)] != shape:
        raise ShapeError(
            f"expected a row of the source for each index, {(*shape, '...')} for indices {shape}, got {source.shape}."
        )
    rest = source.shape[len(shape) :]
    sizes = _sizes(size, init, several, rest)
    flat, valid = _flat_index(several, sizes)
    values = source.reshape(math.prod(shape), *rest)
    dtype = source.dtype if init is None else jnp.result_type(source.dtype, init)
    if op == "mean" and jnp.issubdtype(dtype, jnp.integer):
        dtype = jnp.result_type(float)
    result = _collected(op, values.astype(dtype), flat.reshape(-1), math.prod(sizes), init, (*sizes, *rest))
    return jnp.where(valid.all(), result.reshape(*sizes, *rest), jnp.asarray(_absent(dtype), dtype))


# Compiled here, for called step by step a running product would be compiled piece by piece.
@functools.partial(jax.jit, static_argnames=("op", "size", "shape"))
def _collected(op: str, values: Array, rows: Array, size: int, init: Any, shape: tuple[int, ...]) -> Array:
    """`op` of the values of each of `size` rows, and of `init`."""
    dtype = values.dtype
    start = None if init is None else jnp.broadcast_to(init.astype(dtype), shape).reshape(size, *values.shape[1:])
    if op in ("max", "min"):
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise DTypeError(f'expected real values for op="{op}", got dtype {dtype}. Complex numbers have no order.')
        if start is None:
            start = jnp.zeros((size, *values.shape[1:]), dtype)
            # Rows that get something start from what any value beats.
            filled = jnp.zeros(size, bool).at[rows].set(True, mode="drop")
            start = jnp.where(_spread(filled, start), _least(dtype, op), start)
        return start.at[rows].max(values, mode="drop") if op == "max" else start.at[rows].min(values, mode="drop")
    wide = jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.inexact) else dtype
    values = values.astype(wide)
    if op == "product":
        total = _products(values, rows, size)
        return (total if start is None else start * total).astype(dtype)
    total = jnp.zeros((size, *values.shape[1:]), wide).at[rows].add(values, mode="drop")
    if op == "mean":
        count = jnp.zeros(size, wide).at[rows].add(1, mode="drop")
        total = total / _spread(jnp.maximum(count, 1), total)
    return (total if start is None else start + total).astype(dtype)


def _products(values: Array, rows: Array, size: int) -> Array:
    """The product of the values of each row, as a running product over the sorted rows that begins anew with each.

    Only products are taken, no quotients and no logarithms: zeros are exact, and so are their gradients.
    """
    if values.shape[0] == 0:
        return jnp.ones((size, *values.shape[1:]), values.dtype)
    order = jnp.argsort(rows)
    rows, values = rows[order], values[order]
    first = jnp.concatenate([jnp.ones(1, bool), rows[1:] != rows[:-1]])

    def join(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        return left[0] | right[0], jnp.where(_spread(right[0], right[1]), 1, left[1]) * right[1]

    _, running = jax.lax.associative_scan(join, (first, values))
    last = jnp.searchsorted(rows, jnp.arange(size, dtype=rows.dtype), side="right") - 1
    filled = (last >= 0) & (rows[last] == jnp.arange(size))
    return jnp.where(_spread(filled, running), running[jnp.maximum(last, 0)], 1)


# The arguments


def checked_index(
    x: Array | np.ndarray, size: int, axis: str = ""
) -> tuple[Int[Array, "*shape"], Bool[Array, "*shape"]]:
    """`x` as an integer array in which everything outside `[0, size)` is `size`, and where it is inside.

    Errors: DTypeError for other than integers, DataError for an index out of range where values are known.

    >>> import numpy as np
    >>> from fluxion.ops.checks import checking
    >>> from fluxion.ops.indexing import checked_index
    >>> with checking(False):
    ...     checked_index(np.array([2, -1, 2**40]), 3)[0].tolist()
    [2, 3, 3]
    """
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise DTypeError(
            f"expected integer indices, got {x.dtype} of shape {x.shape}. Convert them with x.astype(int)."
        )
    values = known(x)
    if values is not None:
        bad = (values < 0) | (values >= size)
        if bad.any():
            first = int(np.argmax(bad))
            raise DataError(
                f"index {values.flat[first]} at position {index_text(values, first)}{axis} is outside [0, {size}). "
                "Indices count from 0, never from the end; look at the data, or give more rows."
            )
    if isinstance(x, np.ndarray):
        x = np.clip(x.astype(np.int64), -1, size)  # 64 bits cut to 32 on the way could land in range
    index = jnp.asarray(x)
    if index.dtype.itemsize < 4:
        index = index.astype(jnp.int32)  # `size` need not fit into 8 bits
    valid = (index >= 0) & (index < size)
    return jnp.where(valid, index, size).astype(f"int{8 * index.dtype.itemsize}"), valid


def _flat_index(indices: list[Any], sizes: tuple[int, ...]) -> tuple[Array, Array]:
    """Indices into several axes as one into all of them, `prod(sizes)` where one is out of range; and where none is."""
    total, most = math.prod(sizes), np.iinfo(np.int32).max
    if total > most and jnp.result_type(int) == jnp.int32:
        raise ArgumentError(f"expected at most 2**31 - 1 places, got {total} of sizes {sizes}. Enable x64.")
    flat: Any = 0
    valid: Any = True
    for axis, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        named = f" of indices[{axis}]" if len(indices) > 1 else ""
        place, inside = checked_index(index, size, named)
        place = place.astype(jnp.int64) if total > most else place
        flat, valid = flat * size + place, valid & inside
    return jnp.where(valid, flat, total), valid


def _each(indices: Any) -> list[Any]:
    """The index arrays, one per axis."""
    several = list(indices) if isinstance(indices, tuple) else [indices]
    several = [x if isinstance(x, jax.Array | np.ndarray) else np.asarray(x) for x in several]
    if not several or any(x.shape != several[0].shape for x in several):
        raise ShapeError(
            f"expected one integer array, or a tuple of some of one shape, got {[x.shape for x in several]}."
        )
    return several


def _sizes(size: Any, init: Any, indices: list[Any], rest: tuple[int, ...]) -> tuple[int, ...]:
    """How many rows the result has along each indexed axis: as `size`, `init` or the largest index says."""
    depth = len(indices)
    shape = () if init is None else init.shape
    if shape and (len(shape) != depth + len(rest) or shape[depth:] != rest):
        expected = ", ".join(["size"] * depth + list(map(str, rest)))
        raise ShapeError(f"expected init to be a number or an array ({expected}), got shape {shape}.")
    if size is None and shape:
        return shape[:depth]
    if size is None:
        values = [host(x) for x in indices]
        if any(x is None for x in values):
            raise ArgumentError("expected a size, for the largest index is not known here. Give size=...")
        return tuple(max(int(x.max()) + 1, 0) if x.size else 0 for x in values if x is not None)
    given = tuple(size) if isinstance(size, tuple | list) else (size,)
    try:
        sizes = tuple(operator.index(n) for n in given)
    except TypeError:
        sizes = (-1,)
    if len(sizes) != depth or min(sizes) < 0 or any(isinstance(n, bool) for n in given):
        raise ArgumentError(f"expected size to be {depth} whole number(s) of at least 0, got {size!r}.")
    if shape and shape[:depth] != sizes:
        raise ShapeError(f"expected init of shape {sizes + rest}, as size says, got {shape}.")
    return sizes


def _numbers(source: Any) -> Array:
    source = jnp.asarray(source)
    if not jnp.issubdtype(source.dtype, jnp.number):
        raise DTypeError(f"expected a source of numbers, got dtype {source.dtype}. Convert it with astype(int).")
    return source


def _absent(dtype: Any) -> Any:
    """What stands where an index was out of range."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.nan
    limits = jnp.iinfo(dtype)
    return limits.min if limits.min < 0 else limits.max


def _least(dtype: Any, op: str) -> Any:
    """The value that every other one beats under `op`."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return -jnp.inf if op == "max" else jnp.inf
    limits = jnp.iinfo(dtype)
    return limits.min if op == "max" else limits.max


def _spread(vector: Array, like: Array) -> Array:
    """`vector` with axes of size 1 behind it, to meet the rows of `like`."""
    return vector.reshape(vector.shape + (1,) * (like.ndim - 1))
