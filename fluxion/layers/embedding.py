"""Layers that look rows up in a table: `Embedding`, and `EmbeddingBag`, which sums or averages them.

An index out of range is what it is in `gather`: an error where the index is known, and NaN where it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError, nearest
from fluxion.layers.inputs import as_array, drawn, function, whole
from fluxion.ops.checks import known
from fluxion.ops.indexing import checked_index, gather, scatter
from fluxion.ops.initializers import randn
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Shaped

REDUCTIONS = ("mean", "sum", "max")


class Embedding(Layer):
    """`weight[index]`: a row of learnable numbers for each of `vocabulary` things.

    Shapes: integers `(...)` in, `(..., features)` out; or one-hot rows `(..., vocabulary)`, of floats or booleans, in
    and `x @ weight` out. `weight` is `(vocabulary, features)`.

    Arguments:
      vocabulary: how many things there are; indices are 0 to `vocabulary - 1`.
      features: how many numbers each is given.
      init: initializer of the weight, called with `(vocabulary, features)`.
      padding_index: an index whose row starts at 0 and gets no gradient, so that it stays there.

    Errors: DataError for an index out of range, negative ones included (NaN rows where values are not known),
    DTypeError for floats that are no one-hot rows. The numbers are those of `torch.nn.Embedding`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.Embedding(1000, 16, padding_index=0)
    >>> layer(jnp.array([[1, 2, 0]])).shape, float(abs(layer.weight[0]).max())
    ((1, 3, 16), 0.0)
    >>> layer(jnp.array([5, 1000]))
    Traceback (most recent call last):
        ...
    fluxion.errors.DataError: model Embedding(1000, 16, padding_index=0): index 1000 at position (1,) is outside ...
    """

    weight: Array  # (vocabulary, features)
    padding_index: int | None

    def __init__(
        self,
        vocabulary: int,
        features: int,
        *,
        init: Callable[..., Any] = randn,
        padding_index: int | None = None,
    ) -> None:
        vocabulary, features = whole("Embedding", "vocabulary", vocabulary), whole("Embedding", "features", features)
        self.weight = drawn("Embedding", function("Embedding", "init", init), vocabulary, features)
        if padding_index is not None:
            if isinstance(padding_index, bool) or padding_index not in range(vocabulary):
                raise ArgumentError(
                    f"Embedding: expected a padding_index between 0 and {vocabulary - 1}, got {padding_index!r}."
                )
            padding_index = int(padding_index)
            self.weight = self.weight.at[padding_index].set(0)
        self.padding_index = padding_index

    def config(self) -> dict[str, Any]:
        vocabulary, features = self.weight.shape
        return {
            "vocabulary": vocabulary,
            "features": features,
            "init": randn,
            "padding_index": self.padding_index,
        }

    def __call__(self, x: Shaped[Array, ...]) -> Float[Array, "... features"]:
        return rows(self.weight, as_array(x), self.padding_index)


class EmbeddingBag(Layer):
    """The mean (or sum, or largest value) of the rows `weight[index]` of each bag of indices.

    Shapes: integers `(..., length)`, one bag per row, or one-hot rows `(..., length, vocabulary)`, give
    `(..., features)`. Bags of different lengths are given as a pair `(data, offsets)`, bag `i` being
    `data[offsets[i]:offsets[i + 1]]`, or as a list of lists; they give `(bags, features)`. An empty bag gives zeros.

    Arguments:
      vocabulary: how many things there are; indices are 0 to `vocabulary - 1`.
      features: how many numbers each is given.
      reduction: "mean", "sum" or "max"; or a function called as `f(rows, axis=-2)`, for bags of one length only.
      init: initializer of the weight, called with `(vocabulary, features)`.

    Errors: as for `Embedding`; ShapeError for a single index, DataError for offsets that do not begin with 0,
    decrease, or exceed the data (NaN where values are not known). The numbers are those of `torch.nn.EmbeddingBag`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.EmbeddingBag(1000, 16, "sum")
    >>> layer(jnp.array([[1, 2, 3], [4, 4, 4]])).shape
    (2, 16)
    >>> layer((jnp.array([1, 2, 3, 4]), jnp.array([0, 3]))).shape, layer([[1, 2, 3], [4]]).shape
    ((2, 16), (2, 16))
    """

    weight: Array  # (vocabulary, features)
    reduction: str | Callable[..., Any]

    def __init__(
        self,
        vocabulary: int,
        features: int,
        reduction: str | Callable[..., Any] = "mean",
        *,
        init: Callable[..., Any] = randn,
    ) -> None:
        if not callable(reduction) and reduction not in REDUCTIONS:
            near = nearest(reduction, REDUCTIONS) if isinstance(reduction, str) else ""
            raise ArgumentError(
                f'EmbeddingBag: expected a reduction "mean", "sum", "max" or a function, got {reduction!r}.{near}'
            )
        vocabulary = whole("EmbeddingBag", "vocabulary", vocabulary)
        features = whole("EmbeddingBag", "features", features)
        self.weight = drawn("EmbeddingBag", function("EmbeddingBag", "init", init), vocabulary, features)
        self.reduction = reduction

    def config(self) -> dict[str, Any]:
        vocabulary, features = self.weight.shape
        return {"vocabulary": vocabulary, "features": features, "reduction": self.reduction, "init": randn}

    def __call__(self, x: Any) -> Float[Array, "... features"]:
        if isinstance(x, list):
            x = joined(x)
        if isinstance(x, tuple):
            if len(x) != 2:
                raise ShapeError(f"expected a pair (data, offsets), got a tuple of {len(x)}.")
            return self._reduce_pieces(as_array(x[0]), as_array(x[1]))
        x = as_array(x)
        if x.ndim < (1 if jnp.issubdtype(x.dtype, jnp.integer) else 2):
            raise ShapeError(
                f"expected bags (..., length), got {x.dtype} of shape {x.shape}. Use Embedding for single indices."
            )
        found = rows(self.weight, x)
        if callable(self.reduction):
            return self.reduction(found, axis=-2)
        if found.shape[-2] == 0:
            return jnp.zeros((*found.shape[:-2], found.shape[-1]), found.dtype)
        if self.reduction == "max":
            return found.max(axis=-2)
        return found.sum(axis=-2) if self.reduction == "sum" else found.mean(axis=-2)

    def _reduce_pieces(self, data: Any, offsets: Any) -> Float[Array, "bags features"]:
        if callable(self.reduction):
            raise ArgumentError(
                f'expected a reduction "mean", "sum" or "max" for bags of different lengths, got {self.reduction!r}.'
            )
        if data.ndim != 1 or offsets.ndim != 1 or not jnp.issubdtype(data.dtype, jnp.integer):
            raise ShapeError(
                f"expected integer data (n,) and offsets (bags,), got {data.dtype}{list(data.shape)} "
                f"and {offsets.dtype}{list(offsets.shape)}."
            )
        bags, valid = checked_offsets(offsets, data.shape[0])
        found = rows(self.weight, data)
        bag = jnp.searchsorted(bags, jnp.arange(data.shape[0]), side="right") - 1
        total = scatter(self.reduction, found, jnp.maximum(bag, 0), size=len(bags))
        return jnp.where(valid, total, jnp.nan)


def rows(weight: Array, x: Array | np.ndarray, padding_index: int | None = None) -> Float[Array, "... features"]:
    """The rows of `weight` that indices or one-hot rows say."""
    vocabulary = weight.shape[0]
    if not jnp.issubdtype(x.dtype, jnp.integer):
        if x.ndim == 0 or x.shape[-1] != vocabulary:
            raise DTypeError(
                f"expected integer indices, or one-hot rows (..., {vocabulary}), got {x.dtype} of shape {x.shape}. "
                "Convert indices with x.astype(int); where there is a shape only, as in autosize, give dtype=int."
            )
        if padding_index is not None:
            weight = weight.at[padding_index].set(jax.lax.stop_gradient(weight[padding_index]))
        return jnp.asarray(x).astype(weight.dtype) @ weight
    index, _ = checked_index(x, vocabulary)
    found = gather(weight, index)
    if padding_index is not None:
        found = jnp.where(index[..., None] == padding_index, jax.lax.stop_gradient(found), found)
    return found


def joined(bags: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """A list of bags as `(data, offsets)`."""
    pieces = [np.asarray(bag) for bag in bags]
    if any(piece.ndim != 1 for piece in pieces):
        raise ShapeError("expected a list of bags, each a list of indices. Use a list of one bag, or an array.")
    lengths = [len(piece) for piece in pieces]
    data = np.concatenate([piece for piece in pieces if len(piece)] or [np.zeros(0, np.int32)])
    return data, np.cumsum([0, *lengths[:-1]])[: len(bags)]


def checked_offsets(offsets: Any, length: int) -> tuple[Int[Array, " bags"], Any]:
    """The offsets, and whether they are usable (where that is not known yet)."""
    if not jnp.issubdtype(offsets.dtype, jnp.integer) or offsets.shape[0] == 0:
        raise DTypeError(f"expected at least one integer offset, got {offsets.dtype}{list(offsets.shape)}.")
    values = known(offsets)
    if values is not None:
        values = values.astype(np.int64)
        if values[0] != 0 or (np.diff(values) < 0).any() or values[-1] > length:
            raise DataError(
                f"expected offsets that begin with 0, never decrease and are at most {length}, the length of the data, "
                f"got {values.tolist() if len(values) <= 16 else f'{values[:16].tolist()} and more'}."
            )
    array = jnp.asarray(offsets)
    return array, (array[0] == 0) & (jnp.diff(array) >= 0).all() & (array[-1] <= length)
