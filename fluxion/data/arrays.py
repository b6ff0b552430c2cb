"""Observations in arrays and containers: how many there are, taking some of them, stacking them.

Data are an array whose first axis counts observations; a tuple, named tuple, dict or list of arrays that hold
equally many; a table; or any object with `__len__` and `__getitem__`, such as a list of `(image, label)` pairs.
NumPy arrays stay on the host, JAX arrays stay JAX arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def batch(items: Iterable[Any]) -> Any:
    """Stack observations along a new first axis.

    `batch([x0, x1, ...])[i] == xi`; tuples, named tuples, dicts and lists of arrays are stacked part by part.

    Shapes: N observations of shape `(...)` -> `(N, ...)`.

    Arguments:
        items: observations of one structure and shape: arrays, numbers, or containers of them. A list of plain
            numbers counts as an array; strings stay a list.

    Errors: `DataError` without observations, `ShapeError` where shapes or structures differ, `DTypeError` for what
    cannot be stacked. Numbers and NumPy arrays give a NumPy array of NumPy's dtype, JAX arrays a JAX array.

    Matches `numpy.stack` and MLUtils' `batch`.

    >>> import fluxion as fx, numpy as np
    >>> x, label = fx.batch([(np.zeros(3), 0), (np.ones(3), 1)])
    >>> x.shape, label
    ((2, 3), array([0, 1]))
    """
    items = list(items)
    if not items:
        raise DataError("batch: expected at least one observation, got none.")
    return _stack(items, "")


def unbatch(data: Any) -> list[Any]:
    """Undo `batch`: the list of observations along the first axis.

    Shapes: `(N, ...)` -> N observations of shape `(...)`.

    Arguments:
        data: an array, a container of arrays of equal length, or anything with `__len__` and `__getitem__`.

    Errors: `ShapeError` where the parts hold different numbers of observations, `DTypeError` for a scalar.

    Matches MLUtils' `unbatch`.

    >>> import fluxion as fx, numpy as np
    >>> fx.unbatch((np.arange(2), np.eye(2)))
    [(np.int64(0), array([1., 0.])), (np.int64(1), array([0., 1.]))]
    """
    count = numobs(data, "unbatch")
    parts = [part if is_array(part) else [part[i] for i in range(count)] for part in leaves(data)]
    return [_rebuild(data, iter(row)) for row in zip(*parts, strict=True)]


def normalize(x: Any, *, axis: int | tuple[int, ...] = 0, eps: float = 1e-5) -> Float[Array, "*shape"]:
    """Shift and scale to mean 0 and standard deviation 1 along `axis`.

    `(x - mean(x)) / (std(x) + eps)`, with the population standard deviation (divided by N, not N - 1).

    Shapes: `(...)` -> `(...)`.

    Arguments:
        x: an array of numbers; integers and booleans become float32, NumPy stays NumPy.
        axis: the axis or axes over which mean and deviation are taken; 0 is the axis of observations.
        eps: keeps a constant column finite: it becomes zeros.

    Errors: `ArgumentError` for an axis that `x` does not have, `ShapeError` for no values along `axis`.

    Matches Flux's `normalise`. To use the training set's mean on other data, keep that mean: see `TableEncoder`.

    >>> import fluxion as fx, numpy as np
    >>> fx.normalize(np.array([[1.0, 5.0], [3.0, 5.0]]), eps=0.1)
    array([[-0.90909091,  0.        ],
           [ 0.90909091,  0.        ]])
    """
    on_device = isinstance(x, jax.Array)
    x = x if on_device else np.asarray(x)
    if not (np.issubdtype(x.dtype, np.number) or jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool):
        raise DTypeError(f"normalize: expected an array of numbers, got dtype {x.dtype}.")
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if any(not -x.ndim <= a < x.ndim for a in axes):
        raise ArgumentError(f"normalize: expected an axis between {-x.ndim} and {x.ndim - 1}, got {axis}.")
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"normalize: expected values along axis {axis}, got an array of shape {x.shape}.")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(np.float32)
    if on_device:
        centered = x - jnp.mean(x, axes, keepdims=True)
        return centered / (jnp.std(centered, axes, keepdims=True) + eps)
    # Sums of float32 over a long first axis lose digits; the accumulators are float64.
    wide = np.complex128 if np.iscomplexobj(x) else np.float64
    centered = x - x.mean(axes, keepdims=True, dtype=wide).astype(x.dtype)
    std = np.sqrt(np.square(np.abs(centered)).mean(axes, keepdims=True, dtype=np.float64))
    return centered / (std + eps).astype(centered.real.dtype)


def is_array(x: Any) -> bool:
    """Whether `x` is a NumPy or JAX array."""
    return isinstance(x, np.ndarray | jax.Array)


def numobs(data: Any, name: str = "numobs") -> int:
    """The number of observations that `data` hold; `name` begins the error messages.

    Errors: `ShapeError` where parts hold different numbers (both are named), `DTypeError` for what has no length,
    `DataError` for an empty container.

    >>> import numpy as np
    >>> numobs({"x": np.zeros((5, 2)), "y": np.zeros(5)})
    5
    """
    counts = [(path, _count(leaf, name + path)) for path, leaf in _paths(data)]
    if not counts:
        raise DataError(f"{name}: expected data, got an empty {type(data).__name__}.")
    first_path, first = counts[0]
    for path, count in counts[1:]:
        if count != first:
            hint = ""
            if isinstance(data, list):
                hint = " A list of arrays is read like a tuple; stack a list of observations with fx.batch."
            raise ShapeError(
                f"{name}: expected parts with equally many observations, got {first} in data{first_path} "
                f"and {count} in data{path}.{hint}"
            )
    return first


def getobs(data: Any, index: slice | np.ndarray, collate: Callable[[list[Any]], Any] | None = None) -> Any:
    """The observations at `index` (a slice, or integers within range), in a container like that of `data`.

    A slice of a NumPy array is a view. Parts that are not arrays are read one by one and stacked by `collate`
    (`batch` if none is given).

    >>> import numpy as np
    >>> getobs((np.arange(4), list("abcd")), slice(1, 3))
    (array([1, 2]), ['b', 'c'])
    >>> getobs((np.arange(4), list("abcd")), np.array([3, 0]))
    (array([3, 0]), ['d', 'a'])
    """

    def take(part: Any) -> Any:
        if isinstance(index, slice):
            if is_array(part) or is_table(part):
                return part[index]
            chosen = range(*index.indices(len(part)))
        elif isinstance(part, np.ndarray):
            return take_rows(part, index)
        elif isinstance(part, jax.Array):
            return part[jnp.asarray(index)]
        elif is_table(part):
            return part[index]
        else:
            chosen = index  # type: ignore[assignment]
        return (collate or batch)([_read(part, int(i)) for i in chosen])

    return map_parts(take, data)


def take_rows(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`array[index]`, by the faster way."""
    if array.flags.c_contiguous:
        return np.take(array, index, axis=0)
    return array[index]  # np.take would copy the whole array first, which for overlapping windows may be enormous


def getob(data: Any, i: int) -> Any:
    """Observation `i`, in a container like that of `data`.

    >>> import numpy as np
    >>> getob({"x": np.arange(4), "name": list("abcd")}, 2)
    {'x': np.int64(2), 'name': 'c'}
    """
    return map_parts(lambda part: _read(part, i), data)


def _read(part: Any, i: int) -> Any:
    try:
        return part[i]
    except Exception as error:
        error.add_note(f"This came from observation {i} of the {type(part).__name__}.")
        raise


def map_parts(function: Callable[[Any], Any], data: Any) -> Any:
    """`function` of each array or data set in the containers of `data`, in containers of the same types."""
    return _rebuild(data, iter([function(leaf) for leaf in leaves(data)]))


def leaves(data: Any) -> list[Any]:
    """The arrays and data sets in the containers of `data`."""
    return [leaf for _, leaf in _paths(data)]


def is_table(x: Any) -> bool:
    """Whether `x` is a polars table or column; polars is not imported to find out."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(x, polars.DataFrame | polars.Series)


def check_whole(value: Any, name: str, low: int, high: int | None = None, what: str = "a whole number") -> int:
    """`value` as an int, or an error that names it and the range it should lie in."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise DTypeError(f"{name}: expected {what}, got {value!r} of type {type(value).__name__}.")
    if value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"between {low} and {high}"
        raise ArgumentError(f"{name}: expected {what} {bounds}, got {value}.")
    return int(value)


def permutation(count: int, *entropy: int) -> np.ndarray:
    """A random order of `count` things that depends on the numbers in `entropy` alone."""
    return generator(*entropy).permutation(count)


def generator(*entropy: int) -> np.random.Generator:
    """A generator of random numbers that depend on the numbers in `entropy` alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _is_container(data: Any) -> bool:
    if isinstance(data, list):
        return len(data) > 0 and all(is_array(item) and item.ndim > 0 for item in data)
    return isinstance(data, tuple | Mapping)


def _items(data: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(data, Mapping):
        return [(f"[{key!r}]", value) for key, value in data.items()]
    names = getattr(data, "_fields", None)
    return [(f".{names[i]}" if names else f"[{i}]", value) for i, value in enumerate(data)]


def _paths(data: Any) -> list[tuple[str, Any]]:
    if not _is_container(data):
        return [("", data)]
    return [(key + path, leaf) for key, value in _items(data) for path, leaf in _paths(value)]


def _rebuild(data: Any, leaves: Any) -> Any:
    if not _is_container(data):
        return next(leaves)
    return _like(data, [_rebuild(value, leaves) for _, value in _items(data)])


def _like(data: Any, values: Sequence[Any]) -> Any:
    if isinstance(data, Mapping):
        return dict(zip(data, values, strict=True))
    if hasattr(data, "_fields"):
        return type(data)(*values)
    return list(values) if isinstance(data, list) else tuple(values)


def _count(leaf: Any, name: str) -> int:
    if is_array(leaf):
        if leaf.ndim == 0:
            raise DTypeError(f"{name}: expected an array whose first axis counts observations, got a scalar array.")
        return int(leaf.shape[0])
    sized = hasattr(leaf, "__len__") and hasattr(leaf, "__getitem__")
    if not sized or isinstance(leaf, str | bytes | np.generic | type):
        hint = " Make a list of it first: it has no length." if hasattr(leaf, "__next__") else ""
        raise DTypeError(
            f"{name}: expected an array, a container of arrays, or an object with __len__ and __getitem__, "
            f"got {leaf!r:.60} of type {type(leaf).__name__}.{hint}"
        )
    return len(leaf)


def _stack(items: list[Any], path: str) -> Any:
    first = items[0]
    if isinstance(first, tuple | Mapping) or (isinstance(first, list) and _is_container(first)):
        keys = [key for key, _ in _items(first)]
        columns = []
        for i, item in enumerate(items):
            same = isinstance(item, tuple | Mapping | list)
            found = dict(_items(item)) if same else {}
            if list(found) != keys and set(found) != set(keys):
                raise ShapeError(
                    f"batch: expected observations of one structure, got {_structure(first)} in observation 0{path} "
                    f"and {_structure(item)} in observation {i}{path}."
                )
            columns.append([found[key] for key in keys])
        return _like(first, [_stack(list(c), path + k) for k, c in zip(keys, zip(*columns, strict=True), strict=True)])
    if isinstance(first, str | bytes):
        return items
    if any(isinstance(item, jax.Array) for item in items):
        arrays: list[Any] = [_numeric(item, i, path) for i, item in enumerate(items)]
        _check_shapes(arrays, path)
        return jnp.stack(arrays)
    arrays = [_numeric(item, i, path) for i, item in enumerate(items)]
    _check_shapes(arrays, path)
    return np.stack(arrays)


def _numeric(item: Any, index: int, path: str) -> Any:
    if isinstance(item, jax.Array | np.ndarray):
        return item
    try:
        array = np.asarray(item)
    except ValueError:  # lists of unequal lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biufcM":
        raise DTypeError(
            f"batch: expected numbers or arrays, got {item!r:.60} of type {type(item).__name__} "
            f"in observation {index}{path}. Convert it, or give `collate` a function of the list of observations."
        )
    return array


def _check_shapes(arrays: list[Any], path: str) -> None:
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ShapeError(
                f"batch: expected observations of one shape, got {arrays[0].shape} in observation 0{path} and "
                f"{array.shape} in observation {i}{path}. Pad them, or give `collate` a function that does."
            )


def _structure(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a dict of {sorted(map(str, item))}"
    return f"a {type(item).__name__} of {len(item)}" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
