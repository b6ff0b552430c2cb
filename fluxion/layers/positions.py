"""Where in a sequence something stands: attention alone does not know it.

Positions count from 0. The layers add a row for each position; `rotary` turns the heads of queries and keys instead,
and is given to attention: `fx.MultiHeadAttention(64, positions=fx.rotary)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, ShapeError
from fluxion.layers.inputs import as_array, as_input, drawn, function, trailing, whole, whole_or_none
from fluxion.ops.checks import known
from fluxion.ops.initializers import randn
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Shaped


def sinusoidal_positions(
    positions: int | Int[Array, "*shape"], features: int, *, base: float = 10000.0
) -> Float[Array, "*shape features"]:
    """Waves of falling frequency: `sin(p / base**(2i / features))` in column `2i`, the cosine in column `2i + 1`.

    Shapes: `(length, features)` for the positions 0 to `length - 1`, or `(*shape, features)` for an array of positions.

    Arguments:
      positions: how many positions, or an array of them.
      features: columns, an even number.
      base: the longest wave is nearly `2 pi base` positions long.

    Errors: ArgumentError for an odd number of features. Source: Vaswani et al. 2017.

    >>> import fluxion as fx
    >>> waves = fx.sinusoidal_positions(50, 4)
    >>> waves.shape, waves[0].tolist()
    ((50, 4), [0.0, 1.0, 0.0, 1.0])
    """
    features = whole("sinusoidal_positions", "features", features)
    if features % 2:
        raise ArgumentError(f"sinusoidal_positions: expected an even number of features, got {features}.")
    if isinstance(positions, int):
        positions = jnp.arange(positions)
    angle = _angles("sinusoidal_positions", jnp.asarray(positions), features // 2, base, jnp.result_type(float))
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1).reshape(*positions.shape, features)


def rotary(
    x: Float[Array, "*batch length heads features"],
    positions: Int[Array, ...] | None = None,
    *,
    base: float = 10000.0,
) -> Float[Array, "*batch length heads features"]:
    """Turn pairs of features by angles that grow with the position: a score then depends on distances alone.

    Feature `i` and feature `i + features / 2` (the halves, as in GPT-NeoX and LLaMA, not neighbors as in GPT-J) are the
    point that is turned by `position / base**(2i / features)`; lengths stay. `<rotary(q, m), rotary(k, n)>` depends on
    `m - n` only.

    Shapes: `(batch, length, heads, features)`, or without the batch, in and out; positions `(length,)` or
    `(batch, length)`.

    Arguments:
      positions: where each row stands; 0, 1, 2... if None.
      base: the slowest pair turns once in nearly `2 pi base` positions.

    Errors: ShapeError for an odd number of features or positions that do not fit. Source: Su et al. 2021.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = fx.randn(10, 2, 8)
    >>> turned = fx.rotary(x)
    >>> turned.shape, bool(jnp.allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1)))
    ((10, 2, 8), True)
    """
    x = jnp.asarray(x)
    x = x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))
    if x.ndim < 3 or x.shape[-1] % 2 or not x.shape[-1]:
        raise ShapeError(f"expected (batch, length, heads, features) with an even number of features, got {x.shape}.")
    positions = jnp.arange(x.shape[-3]) if positions is None else jnp.asarray(positions)
    if positions.shape not in (x.shape[-3:-2], x.shape[:-2]):
        raise ShapeError(f"expected positions {x.shape[-3:-2]} or {x.shape[:-2]}, got {positions.shape}.")
    wide = jnp.promote_types(x.dtype, jnp.float32)
    angle = trailing(_angles("rotary", positions, x.shape[-1] // 2, base, wide)[..., None, :], x.ndim)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    first, second = jnp.split(x.astype(wide), 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x.dtype)


class SinusoidalPositions(Layer):
    """`x + sinusoidal_positions(length, features)`: fixed waves added to each row; nothing is learned.

    Shapes: `(..., length, features)` in and out. `layer(x, start)` counts positions from `start`, as needed with a
    cache.

    Arguments:
      base: the longest wave is nearly `2 pi base` positions long.

    Errors: ShapeError for input without a length or with an odd number of features. Source: Vaswani et al. 2017.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.SinusoidalPositions()(jnp.zeros((8, 10, 16))).shape
    (8, 10, 16)
    """

    base: float

    def __init__(self, *, base: float = 10000.0) -> None:
        self.base = _positive("SinusoidalPositions", base)

    def __call__(
        self, x: Float[Array, "... length features"], start: int | Int[Array, ""] = 0
    ) -> Float[Array, "... length features"]:
        x = jnp.asarray(as_array(x))
        x = x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))
        if x.ndim < 2 or x.shape[-1] % 2 or not x.shape[-1]:
            raise ShapeError(f"expected input (..., length, features) with an even number of features, got {x.shape}.")
        table = sinusoidal_positions(first_position(start) + jnp.arange(x.shape[-2]), x.shape[-1], base=self.base)
        return x + trailing(table.astype(x.dtype), x.ndim)


class LearnedPositions(Layer):
    """`x + weight[:length]`: a row of learnable numbers for each position.

    Shapes: `(..., n, features)` in and out, `n` at most `length`; `weight` is `(length, features)`. `layer(x, start)`
    counts positions from `start`, as needed with a cache.

    Arguments:
      length: how many positions there are.
      features: size of the input's last axis; None to infer it (`fx.autosize`).
      init: initializer of the weight, called with `(length, features)`; by default that of `Embedding`, to whose rows
        these are added.

    Errors: ShapeError for input that does not fit or reaches beyond the table (NaN where `start` is not known yet).
    Source: Gehring et al. 2017; Flux's `Metalhead.ViPosEmbedding`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.LearnedPositions(128, 16)
    >>> layer(jnp.zeros((8, 10, 16))).shape
    (8, 10, 16)
    >>> layer(jnp.zeros((8, 10, 16)), start=120)
    Traceback (most recent call last):
        ...
    fluxion.errors.ShapeError: model LearnedPositions(128, 16): expected positions below 128, got 120 to 129. ...
    """

    weight: Array  # (length, features)
    recipe: tuple[int, Callable[..., Any]] | None  # (length, init), until the features are known

    def __init__(self, length: int, features: int | None, *, init: Callable[..., Any] = randn) -> None:
        features = whole_or_none("LearnedPositions", "features", features)
        self.weight = None  # type: ignore[assignment]
        self.recipe = (whole("LearnedPositions", "length", length), function("LearnedPositions", "init", init))
        if features is not None:
            self.infer((features,))

    @property
    def unsized(self) -> bool:
        return self.recipe is not None

    def infer(self, shape: tuple[int, ...]) -> None:
        if not shape:
            raise ShapeError("expected input (..., length, features), got a single number.")
        if self.recipe is not None:
            length, init = self.recipe
            self.weight = drawn("LearnedPositions", init, length, shape[-1])
            self.recipe = None

    def config(self) -> dict[str, Any]:
        length, features = (self.recipe[0], None) if self.recipe else self.weight.shape
        return {"length": length, "features": features, "init": self.recipe[1] if self.recipe else randn}

    def __call__(
        self, x: Shaped[Array, "... n features"], start: int | Int[Array, ""] = 0
    ) -> Float[Array, "... n features"]:
        ensure_sized(self, x)
        x = as_input(x, self.weight.dtype)
        length, features = self.weight.shape
        if x.ndim < 2 or x.shape[-1] != features:
            use = f" Use LearnedPositions({length}, {x.shape[-1]})." if x.ndim > 1 else ""
            raise ShapeError(f"expected input (..., length, {features}), got {x.shape}.{use}")
        n, start = x.shape[-2], first_position(start)
        value = known(start)
        end = n if value is None else int(value) + n
        if end > length or end < n:
            raise ShapeError(
                f"expected positions below {length}, got {end - n} to {end - 1}. "
                f"Use LearnedPositions({max(end, n)}, {features}), or shorter sequences."
            )
        if isinstance(start, np.ndarray):  # a Python number: the rows are a slice
            return x + trailing(self.weight[end - n : end], x.ndim)
        place = start + jnp.arange(n)
        place = jnp.where((place >= 0) & (place < length), place, length)
        return x + trailing(jnp.take(self.weight, place, axis=0, mode="fill", fill_value=jnp.nan), x.ndim)


# Helpers


def first_position(start: Any) -> Any:
    """`start`, checked: one whole number, as an array."""
    start = as_array(start)
    if start.shape or not jnp.issubdtype(start.dtype, jnp.integer):
        raise DTypeError(f"expected one whole number for start, got {start.dtype} of shape {start.shape}.")
    return start


def _angles(name: str, positions: Array, count: int, base: float, dtype: Any) -> Float[Array, "*shape count"]:
    """`position / base**(i / count)` for each `i`."""
    frequency = _positive(name, base) ** (-np.arange(count) / count)  # in float64: positions multiply its error
    return positions.astype(dtype)[..., None] * trailing(jnp.asarray(frequency, dtype), positions.ndim + 1)


def _positive(name: str, base: Any) -> float:
    if not isinstance(base, int | float) or not 0 < base < float("inf"):
        raise ArgumentError(f"{name}: expected base > 0, got {base!r}.")
    return base
