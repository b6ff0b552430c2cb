"""`TableEmbedding`: the first layer of a model of a table with categories given as codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.errors import ArgumentError, DTypeError, ShapeError
from fluxion.layers.embedding import rows
from fluxion.layers.inputs import as_array, drawn, function, whole
from fluxion.ops.initializers import truncated_normal
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


SMALL = truncated_normal(std=0.01, low=-0.02, high=0.02)  # what is never trained adds next to nothing


class TableEmbedding(Layer):
    """Embeds the columns of codes in an array of a table, and passes the other columns on.

    Shapes: `(..., inputs)` in; `(..., sum of features + inputs - number of codes)` out: the rows `weights[i][code]` of
    the columns of codes, one after the other, then the columns that are no codes. `weights[i]` is
    `(vocabulary, features)`.

    Arguments:
      inputs: how many columns come in.
      codes: for each column of codes its place, how many codes there are (0 to `vocabulary - 1`, as whole numbers in
        the floats of the table), and how many numbers each is given: `[(place, vocabulary, features), ...]`.
      init: initializer of the weights, called with `(vocabulary, features)`; a normal distribution of
        deviation 0.01, cut off at twice that.

    Errors: ShapeError for another number of columns, DataError for a code out of range (NaN where values are not
    known). Source: C. Guo and F. Berkhahn, "Entity embeddings of categorical variables", arXiv:1604.06737.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.TableEmbedding(3, [(1, 10, 4)])
    >>> layer(jnp.array([[0.5, 7, -1.5], [0.1, 0, 2.5]])).shape
    (2, 6)
    """

    weights: list[Array]  # (vocabulary, features) each
    inputs: int
    places: tuple[int, ...]

    def __init__(self, inputs: int, codes: Sequence[tuple[int, int, int]], *, init: Callable[..., Any] = SMALL) -> None:
        self.inputs = whole("TableEmbedding", "inputs", inputs)
        function("TableEmbedding", "init", init)
        self.weights = []
        places = []
        for entry in codes:
            if not isinstance(entry, list | tuple) or len(entry) != 3:
                raise ArgumentError(f"TableEmbedding: expected codes as (place, vocabulary, features), got {entry!r}.")
            place, vocabulary, features = entry
            if isinstance(place, bool) or place not in range(inputs) or place in places:
                raise ArgumentError(
                    f"TableEmbedding: expected different places between 0 and {inputs - 1}, got {place!r}."
                )
            places.append(int(place))
            vocabulary = whole("TableEmbedding", "vocabulary", vocabulary)
            features = whole("TableEmbedding", "features", features)
            self.weights.append(drawn("TableEmbedding", init, vocabulary, features))
        self.places = tuple(places)

    def config(self) -> dict[str, Any]:
        codes = [(place, *weight.shape) for place, weight in zip(self.places, self.weights, strict=True)]
        return {"inputs": self.inputs, "codes": codes, "init": SMALL}

    def __call__(self, x: Shaped[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        x = jnp.asarray(as_array(x))
        if x.ndim == 0 or x.shape[-1] != self.inputs:
            raise ShapeError(f"expected input (..., {self.inputs}), got {x.shape}.")
        pieces = [rows(w, _codes(x[..., at], len(w))) for at, w in zip(self.places, self.weights, strict=True)]
        others = [at for at in range(self.inputs) if at not in self.places]
        if others or not pieces:
            numbers = x[..., jnp.array(others, int)]
            pieces.append(numbers.astype(pieces[0].dtype) if pieces else numbers)
        return jnp.concatenate(pieces, axis=-1)


def _codes(x: Any, vocabulary: int) -> Any:
    """A column of codes as integers, -1 for what is no whole number."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x
    if not jnp.issubdtype(x.dtype, jnp.floating) or 2 ** (jnp.finfo(x.dtype).nmant + 1) < vocabulary:
        raise DTypeError(f"expected a table that can hold the codes 0 to {vocabulary - 1}, got {x.dtype}.")
    return jnp.where(x == jnp.floor(x), x, -1).astype(jnp.int32)
