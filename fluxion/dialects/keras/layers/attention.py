"""Attention: `MultiHeadAttention`, and the older `Attention` and `AdditiveAttention` of one head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import jax.numpy as jnp

from fluxion import ops
from fluxion.dialects.keras.layers.base import CommonOptions, LayerOptions, Seeded, floats, one_of, rate, unsupported
from fluxion.dialects.keras.layers.core import EinsumDense
from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.inputs import whole
from fluxion.ops.attention import dot_product_attention
from fluxion.ops.dropout import dropout


class MultiHeadAttention(Seeded):
    """Attention of `num_heads` heads, each with its own projections of query, key and value, then one of all of them.

    Called as `layer(query, value, key=None, attention_mask=None, ...)`; the key is the value if left out.

    Shapes: query `(batch, T, d)`, value and key `(batch, S, d')`, output `(batch, T, d)`, or `output_shape` as its last
    axes; `attention_mask` `(batch, T, S)`, or with the heads second, is true where a query may look. The masks of
    query, value and key (`(batch, T)` and `(batch, S)`) count too. The kernels are `(d, heads, key_dim)`, and
    `(heads, value_dim, d)` for the output.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4)
    >>> x = keras.ops.ones((8, 5, 3))
    >>> layer(x, x, use_causal_mask=True).shape, layer.query_dense.kernel.shape
    ((8, 5, 3), (3, 2, 4))
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**options)
        name = "MultiHeadAttention"
        unsupported(name, sliding_window=sliding_window, flash_attention=flash_attention, use_gate=use_gate)
        if attention_axes not in (None, 1, (1,), [1]):
            unsupported(name, attention_axes=attention_axes)
        self.supports_masking = True
        key_dim = whole(name, "key_dim", key_dim)
        self.keep(
            num_heads=whole(name, "num_heads", num_heads),
            key_dim=key_dim,
            value_dim=key_dim if not value_dim else whole(name, "value_dim", value_dim),
            dropout=rate(name, dropout),
            use_bias=use_bias,
            use_gate=False,
            sliding_window=None,
            output_shape=(output_shape,) if isinstance(output_shape, int) else output_shape and tuple(output_shape),
            attention_axes=None if attention_axes is None else (1,),
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        self.seeded(seed)

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        value_shape = query_shape if value_shape is None else value_shape
        key_shape = value_shape if key_shape is None else key_shape
        if len(query_shape) != 3 or len(value_shape) != 3 or len(key_shape) != 3:
            raise ShapeError(
                f"MultiHeadAttention: expected query, value and key (batch, length, features), got {query_shape}, "
                f"{value_shape} and {key_shape}."
            )
        self.attention_axes = (1,)
        heads, size = self.num_heads, self.key_dim
        self.query_dense = self._projection("query", "abc,cde->abde", (heads, size), "de", query_shape)
        self.key_dense = self._projection("key", "abc,cde->abde", (heads, size), "de", key_shape)
        self.value_dense = self._projection("value", "abc,cde->abde", (heads, self.value_dim), "de", value_shape)
        out = self.output_shape or (query_shape[-1],)
        letters = "efghij"[: len(out)]
        joined = (*query_shape[:2], heads, self.value_dim)
        self.output_dense = self._projection("attention_output", f"abcd,cd{letters}->ab{letters}", out, letters, joined)

    def _projection(self, name: str, equation: str, out: Any, bias_axes: str, input_shape: Any) -> EinsumDense:
        layer = EinsumDense(
            equation,
            (None, *out),
            bias_axes=bias_axes if self.use_bias else None,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            name=name,
            dtype=self.dtype,
        )
        layer.build(input_shape)
        return layer

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        keep = self._kept_scores(query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask)
        key = value if key is None else key
        q, k, v = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        scale = 1 / math.sqrt(self.key_dim)
        if self.dropout > 0 or return_attention_scores:
            out, weights = dot_product_attention(q, k, v, mask=keep, scale=scale, return_weights=True)
            if self.dropout > 0 and training:
                out = jnp.einsum("bhts,bshd->bthd", dropout(weights, self.dropout, key=self.key()), v)
            out = self.output_dense(out)
            return (out, weights) if return_attention_scores else out
        out = dot_product_attention(q, k, v, mask=keep, scale=scale)
        if keep is not None and any(mask is not None for mask in (query_mask, value_mask, key_mask, attention_mask)):
            # In Keras a query that may look at nothing gets the mean of all values; but zeros with dropout or scores.
            empty = ~jnp.any(keep, axis=-1)[..., None].swapaxes(1, 2)
            out = jnp.where(empty, jnp.mean(v, axis=1, keepdims=True), out)
        return self.output_dense(out)

    def _kept_scores(
        self, query: Any, value: Any, query_mask: Any, value_mask: Any, key_mask: Any, given: Any, causal: bool
    ) -> Any:
        """Where a query may look at a key, `(batch, 1 or heads, T, S)`; None for everywhere."""
        masks = [mask[:, None, None, :] for mask in (value_mask, key_mask) if mask is not None]
        if query_mask is not None:
            masks.append(query_mask[:, None, :, None])
        if causal:
            masks.append(jnp.tri(query.shape[1], value.shape[1], dtype=bool)[None, None])
        if given is not None:
            given = jnp.asarray(given).astype(bool)
            masks.append(given[:, None] if given.ndim == 3 else given.reshape((1,) * (4 - given.ndim) + given.shape))
        keep = None
        for mask in masks:
            keep = mask if keep is None else keep & mask
        return keep

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The query's mask."""
        return mask


class Attention(Seeded):
    """`softmax(query @ key.T) @ value`: called as `layer([query, value])` or `layer([query, value, key])`.

    Shapes: query `(batch, T, d)`, value `(batch, S, d')`, key `(batch, S, d)`, output `(batch, T, d')`. The call takes
    `mask=[query_mask, value_mask]`, `return_attention_scores` and `use_causal_mask`.

    Arguments:
      use_scale: whether the scores are multiplied by a learned number.
      score_mode: "dot", or "concat" for `concat_score_weight * sum(tanh(query + key))`.
      dropout: rate at which, in training, weights are dropped.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Attention()([keras.ops.ones((8, 5, 3)), keras.ops.ones((8, 7, 3))]).shape
    (8, 5, 3)
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        name = type(self).__name__
        self.supports_masking = True
        self.keep(
            use_scale=use_scale,
            score_mode=one_of(name, "score_mode", score_mode, ("dot", "concat")),
            dropout=rate(name, dropout),
        )
        self.seeded(seed)

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight((), "ones", name="scale") if self.use_scale else None
        concat = self.score_mode == "concat"
        self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight") if concat else None

    def scores(self, query: Any, key: Any) -> Any:
        """How much each query `(batch, T, d)` looks at each key `(batch, S, d)`: `(batch, T, S)`."""
        scale = 1 if self.scale is None else self.scale.value
        if self.concat_score_weight is None:
            return jnp.einsum("btd,bsd->bts", query, key) * scale
        return self.concat_score_weight.value * jnp.sum(jnp.tanh(scale * (query[:, :, None] + key[:, None])), -1)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        if not isinstance(inputs, list | tuple) or len(inputs) not in (2, 3):
            raise ArgumentError("expected a list [query, value] or [query, value, key].")
        query, value, key = (floats(x) for x in (*inputs, inputs[1])[:3])
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        scores = self.scores(query, key)
        keep = None if value_mask is None else jnp.asarray(value_mask).astype(bool)[:, None]
        if use_causal_mask:
            past = jnp.tri(scores.shape[1], scores.shape[2], dtype=bool)[None]
            keep = past if keep is None else keep & past
        if keep is not None:
            scores = jnp.where(keep, scores, scores - (65504.0 if scores.dtype == jnp.float16 else 1e9))
        weights = ops.softmax(scores)
        if training and self.dropout > 0:
            weights = dropout(weights, self.dropout, key=self.key())
        out = jnp.einsum("bts,bsd->btd", weights, value)
        if query_mask is not None:
            out = jnp.where(jnp.asarray(query_mask).astype(bool)[:, :, None], out, 0)
        return (out, weights) if return_attention_scores else out

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The query's mask."""
        return None if mask is None else mask[0]


class AdditiveAttention(Attention):
    """`softmax(sum(scale * tanh(query + key))) @ value`, with a learned `scale` `(d,)`; called as `Attention`.

    Source: Bahdanau et al. 2015.
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(use_scale, "dot", dropout, **options)
        self._kept = ("use_scale", "dropout", "seed")

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale") if self.use_scale else None

    def scores(self, query: Any, key: Any) -> Any:
        scale = 1 if self.scale is None else self.scale.value.reshape(1, 1, 1, -1)
        return jnp.sum(scale * jnp.tanh(query[:, :, None] + key[:, None]), -1)
