"""Attention as a layer: `MultiHeadAttention`, and `KeyValueCache`, what it remembers while a sequence is generated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError, StateError
from fluxion.layers.dense import Dense
from fluxion.layers.inputs import as_array, function, whole, whole_or_none
from fluxion.ops.attention import as_mask, dot_product_attention
from fluxion.ops.checks import known
from fluxion.ops.dropout import probability
from fluxion.ops.initializers import glorot_uniform
from fluxion.transform.modes import istraining
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer
from fluxion.tree.printing import compact

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float, Int, Shaped


class KeyValueCache(NamedTuple):
    """Keys and values of the positions seen so far, in arrays of a fixed size: made by `layer.cache`, given back by
    each call that is given it.

    It is a pytree of arrays, so it goes through `fx.jit` and `jax.jit`, and the step of one token is compiled once.
    All examples of a batch are at the same position.

    >>> import fluxion as fx
    >>> fx.MultiHeadAttention(8, num_heads=2).cache(batch=1, max_length=16)
    KeyValueCache(key=array(f32[1,16,2,4]), value=array(f32[1,16,2,4]), length=array(i32[]))
    """

    key: Float[Array, "batch max_length key_heads features"]
    value: Float[Array, "batch max_length key_heads features"]
    length: Int[Array, ""]  # positions in use, the first ones

    def __repr__(self) -> str:
        return compact(self)

    def extended(self, key: Float[Array, "batch n h d"], value: Float[Array, "batch n h d"]) -> KeyValueCache:
        """The cache with `n` positions more.

        Errors: ShapeError for keys of another batch or size, and for more positions than there is room for. Where the
        length is not known yet, those become NaN, and so does all that is computed from them.
        """
        batch, size, *rest = self.key.shape
        if (key.shape[0], *key.shape[2:]) != (batch, *rest):
            raise ShapeError(
                f"expected a cache for a batch of {key.shape[0]} and {key.shape[2]} heads of {key.shape[3]} features, "
                f"got one for {batch}, {rest[0]} and {rest[1]}. Make it with cache(batch={key.shape[0]}, ...)."
            )
        used, n = known(self.length), key.shape[1]
        room = size if used is None else size - int(used)
        if n > room:
            raise ShapeError(
                f"expected at most {room} positions more, for the cache has {size} in all, got {n}. "
                f"Make it with cache(max_length={size - room + n}, ...) or longer."
            )
        fits = self.length + n <= size  # an update that does not would be moved onto earlier positions

        def put(kept: Array, new: Array) -> Array:
            new = jnp.where(fits, new.astype(kept.dtype), jnp.nan)
            return jax.lax.dynamic_update_slice_in_dim(kept, new, self.length, 1)

        return KeyValueCache(put(self.key, key), put(self.value, value), self.length + n)


class MultiHeadAttention(Layer):
    """Each position of a sequence asks a question of all positions, of itself or of another sequence.

    `out(concatenate(softmax(q_h @ k_h.T / sqrt(head_features)) @ v_h for each head h))`, where the heads are slices of
    `query(x)`, `key(x)` and `value(x)`.

    Shapes: `layer(x)` for self attention, `layer(query, other)` or `layer(query, key, value)` for cross attention:
    `(batch, length, features)`, or without the batch, give `(batch, length, out_features)`, with the query's length.
    With `return_weights=True` the result is `(y, weights)`, weights `(batch, heads, queries, keys)`; with a cache it is
    `(y, cache)`; with both `(y, weights, cache)`. (Flux gives the pair always.)

    Arguments:
      features: size of the query's last axis; None to infer it (`fx.autosize`).
      num_heads: number of heads; it divides `features` unless `head_features` is given.
      num_key_heads: number of heads of key and value, a divisor of `num_heads`; None for as many.
      key_features: size of the last axis of key and value; None for `features`.
      head_features: size of each head; None for `features / num_heads`.
      out_features: size of the output's last axis; None for `features`.
      dropout: probability with which an attention weight is dropped in training.
      positions: a function that is called with the heads of query and key, `(batch, length, heads, features)`, and
        their positions, `(length,)`: `fx.rotary`, or `functools.partial(fx.rotary, base=5e5)`.
      bias: whether the four products add a bias. It starts at 0.
      init: initializer of the four weights.

    Arguments of the call:
      mask: booleans, True where a query may look at a key: `(queries, keys)` or `(batch, heads, queries, keys)`, where
        any size may be 1. `torch.nn.MultiheadAttention` means the opposite; its `key_padding_mask`, `(batch, keys)`, is
        `mask=~key_padding_mask[:, None, None, :]`.
      bias: numbers added to the scores, of the same shapes.
      causal: whether a position sees only those up to itself. The last query stands at the last key.
      cache: a `KeyValueCache` from `layer.cache(batch, max_length)`. The input continues what the cache has seen;
        `causal=True` is needed, and mask and bias have `max_length` keys.

    Errors: ArgumentError for sizes that do not divide, ShapeError for inputs, masks and caches that do not fit,
    DTypeError for a mask that is not boolean. Source: Vaswani et al. 2017, Ainslie et al. 2023 (`num_key_heads`); the
    numbers are those of `torch.nn.MultiheadAttention`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.MultiHeadAttention(64, num_heads=4)
    >>> layer(jnp.ones((8, 10, 64))).shape, layer(jnp.ones((8, 10, 64)), jnp.ones((8, 5, 64))).shape
    ((8, 10, 64), (8, 10, 64))
    >>> y, weights = layer(jnp.ones((8, 10, 64)), causal=True, return_weights=True)
    >>> weights.shape
    (8, 4, 10, 10)
    >>> y, cache = layer(jnp.ones((8, 3, 64)), causal=True, cache=layer.cache(8, max_length=10))
    >>> int(cache.length)
    3
    """

    training: bool | None = None

    query: Dense
    key: Dense
    value: Dense
    out: Dense
    features: int | None
    num_heads: int
    num_key_heads: int | None
    key_features: int | None
    head_features: int | None
    out_features: int | None
    dropout: float
    positions: Callable[..., Any] | None
    bias: bool
    init: Callable[..., Any]  # until the layers are made

    def __init__(
        self,
        features: int | None,
        *,
        num_heads: int = 8,
        num_key_heads: int | None = None,
        key_features: int | None = None,
        head_features: int | None = None,
        out_features: int | None = None,
        dropout: float = 0.0,
        positions: Callable[..., Any] | None = None,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        name = "MultiHeadAttention"
        self.query = self.key = self.value = self.out = None  # type: ignore[assignment]
        self.features = whole_or_none(name, "features", features)
        self.num_heads = whole(name, "num_heads", num_heads)
        self.num_key_heads = whole_or_none(name, "num_key_heads", num_key_heads)
        self.key_features = whole_or_none(name, "key_features", key_features)
        self.head_features = whole_or_none(name, "head_features", head_features)
        self.out_features = whole_or_none(name, "out_features", out_features)
        self.dropout = probability(name, dropout)
        self.positions = None if positions is None else function(name, "positions", positions)
        self.bias = bool(bias)
        self.init = function(name, "init", init)
        if self.num_heads % self.key_heads:
            raise ArgumentError(
                f"{name}: expected a num_key_heads that divides num_heads={num_heads}, got {num_key_heads}. "
                f"Use {divisor(self.num_heads, self.key_heads)}."
            )
        if self.features is not None:
            self._build(self.features)

    def _build(self, features: int) -> None:
        heads, size = self.num_heads, self.head_features
        if size is None and features % heads:
            raise ArgumentError(
                f"MultiHeadAttention: expected a num_heads that divides features={features}, got {heads}. "
                f"Use num_heads={divisor(features, heads)}, or give head_features."
            )
        size = size or features // heads
        other = self.key_features or features
        options: dict[str, Any] = {"bias": self.bias, "init": self.init}
        self.query = Dense(features, heads * size, **options)
        self.key = Dense(other, self.key_heads * size, **options)
        self.value = Dense(other, self.key_heads * size, **options)
        self.out = Dense(heads * size, self.out_features or features, **options)
        self.features, self.init = features, glorot_uniform

    @property
    def key_heads(self) -> int:
        """How many heads key and value have."""
        return self.num_key_heads or self.num_heads

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
        size = self.query.weight.shape[1] // self.num_heads
        shape = whole("cache", "batch", batch), whole("cache", "max_length", max_length), self.key_heads, size
        dtype = self.key.weight.dtype
        return KeyValueCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), jnp.int32))

    def __call__(
        self,
        query: Shaped[Array, "*batch queries features"],
        key: Shaped[Array, "*batch keys key_features"] | None = None,
        value: Shaped[Array, "*batch keys key_features"] | None = None,
        *,
        mask: Bool[Array, ...] | None = None,
        bias: Float[Array, ...] | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
        return_weights: bool = False,
    ) -> Any:
        ensure_sized(self, query)
        self._check(query, key, value, causal, cache)
        key = query if key is None else key
        value = key if value is None else value
        q = split_heads(self.query(query), self.num_heads)
        k = split_heads(self.key(key), self.key_heads)
        v = split_heads(self.value(value), self.key_heads)
        start = 0 if cache is None else cache.length
        if self.positions is not None:
            q, k = (self.positions(heads, start + jnp.arange(heads.shape[-3])) for heads in (q, k))
        if cache is not None:
            cache = cache.extended(k, v)
            k, v = cache.key, cache.value
            mask, causal = self._visible(q, k, start, mask), False
        y, weights = dot_product_attention(
            q,
            k,
            v,
            mask=mask,
            bias=bias,
            causal=causal,
            dropout=self.dropout if istraining(self) else 0.0,
            return_weights=True,
        )
        y = self.out(y.reshape(*y.shape[:-2], -1))
        if return_weights:
            return (y, weights) if cache is None else (y, weights, cache)
        return y if cache is None else (y, cache)

    def _visible(self, q: Array, k: Array, start: Any, mask: Any) -> Bool[Array, "b h q k"]:
        """Which places of a cache each query sees: its own, those before it, and of these the ones `mask` allows."""
        batch, n, heads, _ = q.shape
        seen = (jnp.arange(k.shape[1])[None, :] <= (start + jnp.arange(n))[:, None])[None, None]
        return seen if mask is None else seen & as_mask(mask, (batch, heads, n, k.shape[1]))

    def _check(self, query: Any, key: Any, value: Any, causal: bool, cache: KeyValueCache | None) -> None:
        features = self.features
        q = as_array(query).shape
        name = "input" if key is None and value is None else "query"
        if len(q) not in (2, 3) or q[-1] != features:
            use = f" Use MultiHeadAttention({q[-1]}, ...) or MultiHeadAttention(None, ...)." if len(q) in (2, 3) else ""
            raise ShapeError(f"expected {name} (batch, length, {features}) or (length, {features}), got {q}.{use}")
        other = self.key_features or features
        k = q if key is None else as_array(key).shape
        v = k if value is None else as_array(value).shape
        if len(k) != len(q) or k[:-2] != q[:-2] or k[-1] != other or v[-1:] != (other,):
            lead = "".join(f"{n}, " for n in q[:-2])
            use = " Give key_features." if other not in (*k[-1:], *v[-1:]) else ""
            raise ShapeError(f"expected key and value ({lead}length, {other}) for query {q}, got {k} and {v}.{use}")
        if v != k:
            raise ShapeError(f"expected a value for each key, got key {k} and value {v}.")
        if cache is None:
            return
        if key is not None or value is not None:
            raise ArgumentError("expected no key and value with a cache, which is for self attention, got some.")
        if not causal:
            raise ArgumentError(
                "expected causal=True with a cache, got False. What was computed without the later positions would "
                "not be the same with them."
            )
        if len(q) != 3:
            raise ShapeError(f"expected input (batch, length, {features}) with a cache, got {q}. Use x[None].")


def check_sequence(shape: tuple[int, ...]) -> None:
    """ShapeError unless an input of this shape is a sequence or a batch of such."""
    if len(shape) not in (2, 3):
        raise ShapeError(f"expected input (batch, length, features) or (length, features), got {shape}.")


def check_cacheable(layer: Layer) -> None:
    """StateError for a layer of which no cache can be made yet."""
    if layer.unsized:
        raise StateError("cache: the input size is not known yet. Call fx.autosize(model, input_shape) first.")


def split_heads(x: Float[Array, "*batch length features"], heads: int) -> Float[Array, "*batch length heads size"]:
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def divisor(number: int, near: int) -> int:
    """The largest divisor of `number` that is at most `near`."""
    return next(n for n in range(min(number, near), 0, -1) if number % n == 0)
