"""`TransformerBlock`: attention and a small network for each position, each with a path around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.attention import KeyValueCache, MultiHeadAttention, check_cacheable, check_sequence
from fluxion.layers.containers import Chain
from fluxion.layers.dense import Dense
from fluxion.layers.dropout import Dropout
from fluxion.layers.inputs import as_array, as_input, function, whole, whole_or_none
from fluxion.layers.normalization import LayerNorm, nonnegative
from fluxion.ops.activations import gelu
from fluxion.ops.dropout import probability
from fluxion.ops.initializers import glorot_uniform
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Shaped


class TransformerBlock(Layer):
    """`x + attention(norm(x))`, then `x + cross_attention(norm(x), memory)` if asked for, then `x + feed(norm(x))`.

    `feed` is `Chain(Dense(features, hidden, activation), Dropout(dropout), Dense(hidden, features))`. With
    `norm_first=False`, the order of the paper, it is `norm(x + attention(x))` and so on.

    Shapes: `(batch, length, features)`, or without the batch, in and out. An encoder's block is called as `block(x)`,
    so that it stands in a `Chain`; a decoder's, which has `causal=True` and `cross=True`, as `block(x, memory)`; a
    language model's has `causal=True` alone. With a cache the result is `(y, cache)`.

    Arguments:
      features: size of the input's last axis; None to infer it (`fx.autosize`).
      num_heads, num_key_heads, positions: of `MultiHeadAttention`; positions are those of self attention only.
      hidden: size between the two layers of `feed`; None for `4 * features`.
      activation: of `feed`.
      dropout: probability for attention weights, for the hidden values, and for what is added to `x`; in training only.
      causal: whether a position sees only those up to itself.
      cross: whether there is cross attention, to a memory of as many features.
      norm_first: whether to normalize what enters a part rather than the sum that follows it.
      eps: of the three `LayerNorm`.
      bias: whether products add a bias; `LayerNorm` always does.
      init: initializer of the weights.

    Arguments of the call:
      memory: `(batch, other, features)`, what an encoder made of another sequence.
      mask, memory_mask: booleans, True where a position may look at one of `x`, or of the memory; shapes as for
        `MultiHeadAttention`.
      cache: a `KeyValueCache` from `block.cache(batch, max_length)`: `x` continues what the cache has seen.

    Errors: ArgumentError for a memory too many or too few and for a cache without `causal=True`, and those of
    `MultiHeadAttention`. Source: Vaswani et al. 2017; the numbers are those of `torch.nn.TransformerEncoderLayer` and
    `TransformerDecoderLayer` with the same activation (theirs is relu by default).

    >>> import fluxion as fx, jax.numpy as jnp
    >>> encoder = fx.Chain(fx.TransformerBlock(64, num_heads=4), fx.TransformerBlock(64, num_heads=4), fx.LayerNorm(64))
    >>> memory = encoder(jnp.ones((8, 10, 64)))
    >>> decoder = fx.TransformerBlock(64, num_heads=4, causal=True, cross=True)
    >>> decoder(jnp.ones((8, 5, 64)), memory).shape
    (8, 5, 64)
    >>> y, cache = decoder(jnp.ones((8, 1, 64)), memory, cache=decoder.cache(8, max_length=5))
    """

    attention_norm: LayerNorm
    attention: MultiHeadAttention
    cross_norm: LayerNorm | None
    cross_attention: MultiHeadAttention | None
    feed_norm: LayerNorm
    feed: Chain
    drop: Dropout
    features: int | None
    num_heads: int
    num_key_heads: int | None
    hidden: int | None
    activation: Callable[..., Any]
    dropout: float
    positions: Callable[..., Any] | None
    causal: bool
    cross: bool
    norm_first: bool
    eps: float
    bias: bool
    init: Callable[..., Any]  # until the layers are made

    def __init__(
        self,
        features: int | None,
        *,
        num_heads: int = 8,
        num_key_heads: int | None = None,
        hidden: int | None = None,
        activation: Callable[..., Any] = gelu,
        dropout: float = 0.0,
        positions: Callable[..., Any] | None = None,
        causal: bool = False,
        cross: bool = False,
        norm_first: bool = True,
        eps: float = 1e-5,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        name = "TransformerBlock"
        self.attention_norm = self.attention = self.cross_norm = self.cross_attention = None  # type: ignore[assignment]
        self.feed_norm = self.feed = self.drop = None  # type: ignore[assignment]
        self.features = whole_or_none(name, "features", features)
        self.num_heads = whole(name, "num_heads", num_heads)
        self.num_key_heads = whole_or_none(name, "num_key_heads", num_key_heads)
        self.hidden = whole_or_none(name, "hidden", hidden)
        self.activation = function(name, "activation", activation)
        self.dropout = probability(name, dropout)
        self.positions = None if positions is None else function(name, "positions", positions)
        self.causal, self.cross, self.norm_first = bool(causal), bool(cross), bool(norm_first)
        self.eps = nonnegative(name, "eps", eps)
        self.bias = bool(bias)
        self.init = function(name, "init", init)
        if self.features is not None:
            self._build(self.features)

    def _build(self, features: int) -> None:
        hidden = self.hidden or 4 * features
        dense: dict[str, Any] = {"bias": self.bias, "init": self.init}
        heads: dict[str, Any] = {"num_heads": self.num_heads, "num_key_heads": self.num_key_heads, **dense}
        heads["dropout"] = self.dropout
        self.attention_norm = LayerNorm(features, eps=self.eps)
        self.attention = MultiHeadAttention(features, positions=self.positions, **heads)
        if self.cross:
            self.cross_norm = LayerNorm(features, eps=self.eps)
            self.cross_attention = MultiHeadAttention(features, **heads)
        self.feed_norm = LayerNorm(features, eps=self.eps)
        self.feed = Chain(
            Dense(features, hidden, self.activation, **dense), Dropout(self.dropout), Dense(hidden, features, **dense)
        )
        self.drop = Dropout(self.dropout)
        self.features, self.init = features, glorot_uniform

    @property
    def unsized(self) -> bool:
        return self.features is None

    def infer(self, shape: tuple[int, ...]) -> None:
        check_sequence(shape)
        if self.features is None:
            self._build(shape[-1])

    def cache(self, batch: int, max_length: int) -> KeyValueCache:
        """An empty cache for `max_length` positions of `batch` sequences."""
        check_cacheable(self)
        return self.attention.cache(batch, max_length)

    def __call__(
        self,
        x: Shaped[Array, "*batch length features"],
        memory: Shaped[Array, "*batch other features"] | None = None,
        *,
        mask: Bool[Array, ...] | None = None,
        memory_mask: Bool[Array, ...] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Any:
        ensure_sized(self, x)
        self._check(x, memory, memory_mask, cache)
        x = as_input(x, self.feed_norm.scale.dtype)  # type: ignore[union-attr]
        if cache is None:
            x = self._around(self.attention_norm, lambda y: self.attention(y, mask=mask, causal=self.causal), x)
        else:
            extended = cache

            def attend(y: Array) -> Array:
                nonlocal extended
                y, extended = self.attention(y, mask=mask, causal=True, cache=cache)
                return y

            x = self._around(self.attention_norm, attend, x)
        if self.cross_norm is not None and self.cross_attention is not None:
            across = self.cross_attention
            x = self._around(self.cross_norm, lambda y: across(y, memory, mask=memory_mask), x)
        x = self._around(self.feed_norm, self.feed, x)
        return x if cache is None else (x, extended)

    def _around(self, norm: LayerNorm, part: Callable[..., Any], x: Float[Array, ...]) -> Float[Array, ...]:
        """`x + part(norm(x))`, or `norm(x + part(x))`."""
        if self.norm_first:
            return x + self.drop(part(norm(x)))
        return norm(x + self.drop(part(x)))

    def _check(self, x: Any, memory: Any, memory_mask: Any, cache: KeyValueCache | None) -> None:
        shape = as_array(x).shape
        if len(shape) not in (2, 3) or shape[-1] != self.features:
            use = f" Use TransformerBlock({shape[-1]}, ...) or TransformerBlock(None, ...)." if len(shape) > 1 else ""
            raise ShapeError(
                f"expected input (batch, length, {self.features}) or (length, {self.features}), got {shape}.{use}"
            )
        if self.cross and memory is None:
            raise ArgumentError("expected block(x, memory), for it has cross attention, got x alone.")
        if not self.cross and not (memory is None and memory_mask is None):
            raise ArgumentError(
                "expected block(x), got a memory or a mask of one. Use TransformerBlock(..., cross=True) to look at it."
            )
        if cache is not None and not self.causal:
            raise ArgumentError(
                "expected a block with causal=True for a cache, got one that sees later positions as well. "
                "Use TransformerBlock(..., causal=True)."
            )
