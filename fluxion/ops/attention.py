"""Attention: averages of values, weighted by how well a query matches each key.

Arrays are `(batch, length, heads, features)`, as for `jax.nn.dot_product_attention`, or without the batch. Weights and
scores are `(batch, heads, queries, keys)`, computed in float32 at least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import DTypeError, ShapeError
from fluxion.ops.dropout import dropout as dropped
from fluxion.ops.dropout import probability

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Shaped


def dot_product_attention(
    query: Float[Array, "*batch queries heads features"],
    key: Float[Array, "*batch keys key_heads features"],
    value: Float[Array, "*batch keys key_heads value_features"],
    *,
    mask: Bool[Array, ...] | None = None,
    bias: Float[Array, ...] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
    return_weights: bool = False,
) -> Any:
    """`softmax(query @ key.T * scale + bias) @ value`, for each head.

    Shapes: query `(batch, queries, heads, features)`, key `(batch, keys, key_heads, features)`, value `(batch, keys,
    key_heads, value_features)` give `(batch, queries, heads, value_features)`; all of them may come without the batch.
    `key_heads` divides `heads`: query head `i` meets key head `i // (heads // key_heads)` (grouped heads; one key head
    is multi-query attention).

    Arguments:
      mask: booleans, True where a query may look at a key: `(queries, keys)`, or `(batch, heads, queries, keys)`; any
        size may be 1. What says which keys each example has, `(batch, keys)`, is given as `mask[:, None, None, :]`.
      bias: numbers added to the scores, of the same shapes.
      causal: whether query `i` sees only the keys up to its own place. The last query stands at the last key, as in
        generation, where the earlier queries are gone; `torch` puts the first one at the first key.
      dropout: probability with which a weight is dropped. It always is: layers ask for it in training only.
      scale: of the scores; `1 / sqrt(features)` if None.
      return_weights: whether to return `(output, weights)`, weights `(batch, heads, queries, keys)` as they were used,
        dropout included.

    A query that may look at nothing gets zeros, in the output and in the gradients.

    Errors: ShapeError for sizes, masks and biases that do not fit, DTypeError for a mask that is not boolean. Source:
    Vaswani et al. 2017, Ainslie et al. 2023; `NNlib.dot_product_attention`. The numbers are those of
    `torch.nn.functional.scaled_dot_product_attention`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> query, key, value = (fx.randn(2, n, 4, 8) for n in (3, 5, 5))
    >>> fx.dot_product_attention(query, key, value).shape
    (2, 3, 4, 8)
    >>> y, weights = fx.dot_product_attention(query, key, value, causal=True, return_weights=True)
    >>> print((weights[0, 0] > 0).astype(int))
    [[1 1 1 0 0]
     [1 1 1 1 0]
     [1 1 1 1 1]]
    """
    query, key, value = _floating(query, key, value)
    _check_sizes(query, key, value)
    if query.ndim == 3:
        mask, bias = (a if a is None or jnp.ndim(a) != 3 else jnp.asarray(a)[None] for a in (mask, bias))
        alone = dot_product_attention(
            *(a[None] for a in (query, key, value)),
            mask=mask,
            bias=bias,
            causal=causal,
            dropout=dropout,
            scale=scale,
            return_weights=return_weights,
        )
        return jax.tree.map(lambda a: a[0], alone)
    batch, queries, heads, features = query.shape
    keys, key_heads = key.shape[1:3]
    # The queries of the heads that share a key are so many more queries of that key: nothing is repeated.
    rows = heads // key_heads * queries
    scale = max(features, 1) ** -0.5 if scale is None else scale
    query = query * jnp.asarray(scale, query.dtype)  # a smaller array than the scores
    grouped = query.swapaxes(1, 2).reshape(batch, key_heads, rows, features)
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bgqd,bkgd->bgqk", grouped, key, preferred_element_type=wide)
    scores = scores.reshape(batch, heads, queries, keys)
    if bias is not None:
        scores = scores + as_bias(bias, scores.shape).astype(wide)
    keep = None if mask is None else as_mask(mask, scores.shape)
    if causal:
        past = causal_mask(queries, keys)[None, None]
        keep = past if keep is None else keep & past
    if keep is not None:
        scores = jnp.where(keep, scores, -jnp.inf)
    weights = _softmax(scores)
    if probability("dropout", dropout):
        weights = dropped(weights, dropout)
    weights = weights.astype(value.dtype)
    out = jnp.einsum("bgqk,bkgd->bgqd", weights.reshape(batch, key_heads, rows, keys), value)
    out = out.reshape(batch, heads, queries, value.shape[3]).swapaxes(1, 2)
    return (out, weights) if return_weights else out


def causal_mask(queries: int, keys: int | None = None) -> Bool[Array, "queries keys"]:
    """`(queries, keys)` booleans, True where a query may look: at the keys up to its own place.

    The last query stands at the last key; `keys` is `queries` if None.

    Errors: ShapeError for fewer keys than queries. Source: `NNlib.make_causal_mask`, which is the transposed one.

    >>> import fluxion as fx
    >>> print(fx.causal_mask(3).astype(int))
    [[1 0 0]
     [1 1 0]
     [1 1 1]]
    """
    keys = queries if keys is None else keys
    if keys < queries:
        raise ShapeError(
            f"expected at least as many keys as queries in causal attention, got {keys} keys and {queries} queries. "
            "The first ones would have nothing to look at."
        )
    return jnp.tri(queries, keys, keys - queries, dtype=bool)


@jax.custom_jvp
def _softmax(scores: Float[Array, "*rows keys"]) -> Float[Array, "*rows keys"]:
    """Softmax over the last axis; zeros for a row that is -inf everywhere, or empty."""
    top = scores.max(-1, keepdims=True, initial=-jnp.inf)
    e = jnp.exp(scores - jnp.where(top == -jnp.inf, 0, top))
    total = e.sum(-1, keepdims=True)
    return e / jnp.where(total == 0, 1, total)


@_softmax.defjvp
def _softmax_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Stated, so that the backward pass keeps the weights alone, and empty rows have slope 0, to any order.
    (dx,), y = tangents, _softmax(*primals)
    return y, y * (dx - (y * dx).sum(-1, keepdims=True))


# What may be given


def as_mask(mask: Any, shape: tuple[int, ...]) -> Bool[Array, "b h q k"]:
    """`mask` with as many axes as scores of this shape have."""
    mask = mask if hasattr(mask, "dtype") else np.asarray(mask)
    if mask.dtype != bool:
        raise DTypeError(
            f"expected a boolean mask, True where a query may look at a key, got {mask.dtype}. "
            "Numbers to be added to the scores are given as bias."
        )
    return _aligned("mask", jnp.asarray(mask), shape)


def as_bias(bias: Any, shape: tuple[int, ...]) -> Float[Array, "b h q k"]:
    """`bias` with as many axes as scores of this shape have."""
    bias = jnp.asarray(bias)
    if not jnp.issubdtype(bias.dtype, jnp.floating):
        raise DTypeError(
            f"expected a bias of floats, which are added to the scores, got {bias.dtype}. "
            "Booleans that say where a query may look are given as mask."
        )
    return _aligned("bias", bias, shape)


def _aligned(what: str, array: Array, shape: tuple[int, ...]) -> Array:
    given = array.shape
    if array.ndim == 2:
        array = array[None, None]
    if array.ndim == 4 and all(n in (1, m) for n, m in zip(array.shape, shape, strict=True)):
        return array
    use = ""
    if given == (shape[0], shape[3]):
        use = f" Use {what}[:, None, None, :] for one that goes by example and key."
    elif len(given) == 3:
        use = f" Use {what}[:, None] for one that goes by example, {what}[None] for one that goes by head."
    raise ShapeError(f"expected a {what} {shape[2:]} or {shape}, where any size may be 1, got {given}.{use}")


def _floating(*arrays: Any) -> list[Array]:
    """The arrays in one floating dtype."""
    given = list(map(jnp.asarray, arrays))
    dtype = jnp.result_type(*given)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise DTypeError(f"expected real input, got dtype {dtype}. Attention compares scores by their size.")
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    return [a.astype(dtype) for a in given]


def _check_sizes(query: Shaped[Array, ...], key: Shaped[Array, ...], value: Shaped[Array, ...]) -> None:
    given = f"got query {query.shape}, key {key.shape} and value {value.shape}."
    if query.ndim not in (3, 4) or not query.ndim == key.ndim == value.ndim:
        raise ShapeError(
            f"expected arrays (batch, length, heads, features), all with or all without the batch, {given}"
        )
    if not query.shape[:-3] == key.shape[:-3] == value.shape[:-3]:
        raise ShapeError(f"expected the same batch everywhere, {given}")
    if key.shape[-3:-1] != value.shape[-3:-1]:
        raise ShapeError(f"expected a key and a value for each place and head, {given}")
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"expected query and key with as many features as each other, {given}")
    if not key.shape[-2] or query.shape[-2] % key.shape[-2]:
        raise ShapeError(f"expected a number of key heads that divides that of query heads, {given}")
