"""Labels as one-hot vectors, and back.

The vectors are float32, not booleans, so that they go into a loss or a matrix product as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.data.arrays import check_whole, is_array
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Labels = int | Sequence[Any] | np.ndarray


def onehot(label: Any, labels: Labels, default: Any = None) -> Float[Array, " classes"]:
    """One label as a float32 vector that is 1 where `labels` holds it and 0 elsewhere.

    `onehot(label, labels)[i] = 1 if label == labels[i] else 0`.

    Shapes: a single value -> `(classes,)`.

    Arguments:
        label: the value.
        labels: all labels there are: a sequence (a string counts as its characters), or an int n for 0, ..., n - 1.
        default: the label to use for a value that is not among `labels`.

    Errors: `DataError` for a value that is not among `labels`, naming it and them.

    Matches OneHotArrays' `onehot`, with labels counted from 0 and float32 in place of Bool.

    >>> import fluxion as fx
    >>> fx.onehot("b", "abc")
    array([0., 1., 0.], dtype=float32)
    """
    if isinstance(label, jax.Array | np.ndarray) and label.ndim > 0:
        raise ShapeError(f"onehot: expected a single value, got shape {label.shape}. Use onehotbatch.")
    if isinstance(label, jax.Array):
        return _encode("onehot", label, labels, default)
    values = np.empty((), dtype=object)
    values[()] = label.item() if isinstance(label, np.ndarray | np.generic) else label
    return _encode("onehot", values, labels, default)


def onehotbatch(values: Any, labels: Labels, default: Any = None) -> Float[Array, "*batch classes"]:
    """Labels as float32 one-hot vectors along a new last axis.

    `onehotbatch(values, labels)[..., i] = 1 if values[...] == labels[i] else 0`.

    Shapes: `(batch,)` -> `(batch, classes)`, or any `(...)` -> `(..., classes)`.

    Arguments:
        values: an array, a list, a column of a table, or a string (its characters). A JAX array gives a JAX array.
        labels: all labels there are: a sequence (a string counts as its characters), or an int n for 0, ..., n - 1.
        default: the label to use for values that are not among `labels`.

    Errors: `DataError` for a value that is not among `labels`, naming it, its index and them. Inside `jit` values are
    not known: there an unknown label gives a row of NaN, never a wrong class.

    Matches OneHotArrays' `onehotbatch`, with labels counted from 0, classes last, and float32 in place of Bool.

    >>> import fluxion as fx
    >>> fx.onehotbatch([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    >>> fx.onehotbatch(["cat", "cow"], ["cat", "dog"])
    Traceback (most recent call last):
        ...
    fluxion.errors.DataError: onehotbatch: expected one of the labels 'cat', 'dog', got 'cow' at index 1. \
Add it to `labels`, or give `default`.
    """
    if isinstance(values, jax.Array):
        return _encode("onehotbatch", values, labels, default)
    if isinstance(values, str):
        values = list(values)
    if isinstance(values, bytes | int | float) or not hasattr(values, "__len__"):
        raise DTypeError(f"onehotbatch: expected an array or a list of values, got {values!r}. Use onehot for one.")
    if not is_array(values):
        items = values.to_list() if hasattr(values, "to_list") else list(values)
        mixed = len({type(item) for item in items}) > 1  # NumPy would turn [1, "a"] into strings
        values = np.asarray(items, dtype=object) if mixed else np.asarray(items)
    return _encode("onehotbatch", values, labels, default)


def onecold(y: Any, labels: Labels | None = None, axis: int = -1) -> Any:
    """The label with the highest score: the inverse of `onehotbatch`.

    `onecold(y) = argmax(y, axis)`; with `labels`, `labels[argmax(y, axis)]`. The first of equal scores wins.

    Shapes: `(..., classes)` -> `(...)`; a vector `(classes,)` gives a single label.

    Arguments:
        y: one-hot vectors, probabilities or logits.
        labels: what to return in place of the index: a sequence as long as `axis`, or an int n for 0, ..., n - 1.
        axis: the axis of the classes.

    Errors: `DataError` where `y` holds NaN, naming its index; `ShapeError` where `labels` has another length. Inside
    `jit` values are not known: there NaN gives the index -1, and `labels` cannot be a sequence.

    Matches OneHotArrays' `onecold`, with labels counted from 0.

    >>> import fluxion as fx, numpy as np
    >>> y = np.array([[0.1, 0.9], [0.8, 0.2]])
    >>> fx.onecold(y), fx.onecold(y, ["cat", "dog"])
    (array([1, 0]), array(['dog', 'cat'], dtype='<U3'))
    """
    if not isinstance(y, jax.Array):
        y = np.asarray(y)
    if y.ndim == 0 or not -y.ndim <= axis < y.ndim or y.shape[axis] == 0:
        raise ShapeError(f"onecold: expected scores along axis {axis}, got an array of shape {y.shape}.")
    if not (jnp.issubdtype(y.dtype, jnp.number) or y.dtype == bool) or jnp.issubdtype(y.dtype, jnp.complexfloating):
        raise DTypeError(f"onecold: expected an array of real numbers, got dtype {y.dtype}.")
    names = None if labels is None else _label_list("onecold", labels)
    if names is not None and len(names) != y.shape[axis]:
        raise ShapeError(
            f"onecold: expected {y.shape[axis]} labels for axis {axis} of scores of shape {y.shape}, got {len(names)}."
        )
    if isinstance(y, jax.core.Tracer):
        if names is not None and not isinstance(labels, int):
            raise DTypeError("onecold: expected labels=None inside jit, got a sequence. Look labels up outside.")
        return jnp.where(jnp.isnan(y).any(axis), -1, jnp.argmax(y, axis))
    missing = np.isnan(np.asarray(y))
    if missing.any():
        raise DataError(f"onecold: expected scores that can be compared, got NaN at index {_first(missing)}.")
    index = y.argmax(axis)
    if names is None or isinstance(labels, int):
        return index
    return _as_array(names)[np.asarray(index)]


def _encode(name: str, values: Any, labels: Labels, default: Any) -> Any:
    known = _label_list(name, labels)
    if default is not None and default not in known:
        raise ArgumentError(f"{name}: expected a default among the labels {_listing(known)}, got {default!r}.")
    if isinstance(values, jax.core.Tracer):
        return _encode_traced(name, values, known, default)
    index = _lookup(name, np.asarray(values), known, default)
    rows = np.zeros((*index.shape, len(known)), np.float32)
    np.put_along_axis(rows, index[..., None], 1, axis=-1)
    return jnp.asarray(rows) if isinstance(values, jax.Array) else rows


def _lookup(name: str, values: np.ndarray, known: Sequence[Any], default: Any) -> np.ndarray:
    """The place of each value in `known`."""
    if values.dtype.kind == "O":
        flat = values.ravel().tolist()
        distinct: Sequence[Any] = flat
        inverse = np.arange(len(flat))
    else:
        found, inverse = np.unique(values, return_inverse=True)
        distinct = found.tolist()
    place: dict[Any, int] = {label: i for i, label in enumerate(known)}
    fallback = -1 if default is None else place[default]
    codes = [place.get(value, fallback) if isinstance(value, Hashable) else fallback for value in distinct]
    index = np.asarray(codes, dtype=np.intp)[inverse].reshape(values.shape)
    unknown = index < 0
    if unknown.any():
        where = _first(unknown)
        value = values[where].item() if hasattr(values[where], "item") else values[where]
        at = "" if values.ndim == 0 else f" at index {where[0] if values.ndim == 1 else where}"
        raise DataError(
            f"{name}: expected one of the labels {_listing(known)}, got {value!r}{at}. "
            "Add it to `labels`, or give `default`."
        )
    return index


def _encode_traced(name: str, values: Any, known: Sequence[Any], default: Any) -> Any:
    table = _as_array(known)
    if table.dtype.kind not in "biuf":
        raise DTypeError(f"{name}: expected numbers as labels inside jit, got {_listing(known)}.")
    rows = (values[..., None] == jnp.asarray(table).reshape((1,) * values.ndim + (-1,))).astype(jnp.float32)
    fallback = jnp.nan if default is None else jnp.asarray(table == default, jnp.float32)
    fallback = jnp.broadcast_to(fallback, rows.shape)
    return jnp.where(rows.any(-1, keepdims=True), rows, fallback)


def _label_list(name: str, labels: Labels) -> Sequence[Any]:
    if isinstance(labels, int | np.integer):
        return range(check_whole(labels, f"{name}: labels", 1, what="a number of labels"))
    if isinstance(labels, range):
        known: Sequence[Any] = labels
    elif isinstance(labels, np.ndarray | jax.Array) or hasattr(labels, "to_list"):
        known = np.asarray(labels).tolist()
    elif isinstance(labels, Sequence):
        known = list(labels)
    else:
        raise DTypeError(f"{name}: expected labels as a sequence or a number of them, got {labels!r}.")
    if len(known) == 0:
        raise ArgumentError(f"{name}: expected at least one label, got none.")
    if not isinstance(known, range) and not all(isinstance(label, Hashable) for label in known):
        raise DTypeError(f"{name}: expected numbers or strings as labels, got {labels!r:.60}.")
    if len(set(known)) < len(known):
        twice = next(label for i, label in enumerate(known) if label in known[:i])
        raise ArgumentError(f"{name}: expected different labels, got {twice!r} twice.")
    return known


def _as_array(known: Sequence[Any]) -> np.ndarray:
    """Labels as an array that can be indexed; as objects where NumPy would convert some of them."""
    if len({type(label) for label in known}) == 1 and isinstance(known[0], str | bool | int | float):
        return np.asarray(known)
    table = np.empty(len(known), dtype=object)
    table[:] = known
    return table


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))


def _listing(known: Sequence[Any]) -> str:
    if isinstance(known, range) and known.step == 1 and len(known) > 2:
        return f"{known[0]}, ..., {known[-1]}"
    shown = ", ".join(repr(label) for label in known[:10])
    return shown if len(known) <= 10 else f"{shown}, ... ({len(known)} in all)"
