"""Layers that normalize each example by itself: `LayerNorm`, `RMSNorm`, `GroupNorm`.

Here, as in `batchnorm.py`, an input of half precision keeps its dtype even where the layer's arrays are float32; any
other input is converted to the dtype of the layer. Statistics are computed in float32 at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.dense import inferred_sizes, last_axes, last_sizes, remedy
from fluxion.layers.inputs import as_array, function, moved_channels, whole, whole_or_none
from fluxion.ops.activations import identity
from fluxion.ops.initializers import ones, zeros
from fluxion.ops.normalization import group_norm, layer_norm, rms_norm
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


class LastAxesNorm(Layer):
    """What `LayerNorm` and `RMSNorm` have in common: the sizes of the last axes, and a scale for each place there."""

    size: tuple[int | None, ...]
    scale: Array | None  # size
    bias: Array | None  # size
    activation: Callable[..., Any]
    affine: bool
    eps: float

    def __init__(
        self, *size: int | None, activation: Callable[..., Any] = identity, affine: bool = True, eps: float = 1e-5
    ) -> None:
        name = type(self).__name__
        self.size = last_sizes(name, size)
        self.scale = self.bias = None
        self.activation = function(name, "activation", activation)
        self.affine = bool(affine)
        self.eps = nonnegative(name, "eps", eps)
        if None not in self.size:
            self._build(self.size)  # type: ignore[arg-type]

    def _build(self, size: tuple[int, ...]) -> None:
        self.size = size
        if self.affine:
            self.scale = ones(*size)

    @property
    def unsized(self) -> bool:
        return None in self.size

    def infer(self, shape: tuple[int, ...]) -> None:
        if self.unsized:
            self._build(inferred_sizes(self.size, shape))

    def __call__(self, x: Shaped[Array, ...]) -> Float[Array, ...]:
        ensure_sized(self, x)
        x = as_norm_input(x, self.scale)
        if x.shape[-len(self.size) :] != self.size:
            use = remedy(type(self).__name__, self.size, x.shape)
            raise ShapeError(f"expected input {last_axes(self.size)}, got {x.shape}.{use}")
        return self.activation(self._normalized(x))

    def _normalized(self, x: Float[Array, ...]) -> Float[Array, ...]:
        raise NotImplementedError


class LayerNorm(LastAxesNorm):
    """`activation((x - mean) / sqrt(var + eps) * scale + bias)`, with the statistics of each example.

    Mean and (biased) variance are taken over the last `len(size)` axes.

    Shapes: input and output `(..., *size)`; `scale` and `bias` are `size`.

    Arguments:
      *size: sizes of the axes to normalize over; None for one to infer (`fx.autosize`).
      activation: function applied to the result.
      affine: whether there are `scale`, which starts at 1, and `bias`, which starts at 0.
      eps: added to the variance.

    Errors: ShapeError for an input whose last axes are not `size`. Source: Ba et al. 2016; the numbers are those of
    `torch.nn.LayerNorm`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.LayerNorm(2)(jnp.array([[1.0, 3.0], [0.0, 200.0]])).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    def _build(self, size: tuple[int, ...]) -> None:
        super()._build(size)
        if self.affine:
            self.bias = zeros(*size)

    def _normalized(self, x: Float[Array, ...]) -> Float[Array, ...]:
        return layer_norm(x, len(self.size), self.scale, self.bias, eps=self.eps)


class RMSNorm(LastAxesNorm):
    """`activation(x / sqrt(mean(x**2) + eps) * scale)`: `LayerNorm` without a mean and without a bias.

    The mean of the squares is taken over the last `len(size)` axes of each example.

    Shapes: input and output `(..., *size)`; `scale` is `size`.

    Arguments:
      *size: sizes of the axes to normalize over; None for one to infer (`fx.autosize`).
      activation: function applied to the result.
      affine: whether there is a `scale`, which starts at 1.
      eps: added to the mean of the squares. 1e-6 as in T5 and LLaMA; torch's default is the dtype's own epsilon.

    Errors: ShapeError for an input whose last axes are not `size`. Source: Zhang and Sennrich 2019; the numbers are
    those of `torch.nn.RMSNorm` with the same `eps`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.RMSNorm(4)(jnp.array([[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, -200.0]])).round(3).tolist()
    [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, -2.0]]
    """

    def __init__(
        self, *size: int | None, activation: Callable[..., Any] = identity, affine: bool = True, eps: float = 1e-6
    ) -> None:
        super().__init__(*size, activation=activation, affine=affine, eps=eps)

    def _normalized(self, x: Float[Array, ...]) -> Float[Array, ...]:
        return rms_norm(x, len(self.size), self.scale, eps=self.eps)


class GroupNorm(Layer):
    """`activation((x - mean) / sqrt(var + eps) * scale + bias)`, with the statistics of each group of channels.

    The channels, the last axis, are divided into `groups` of neighbors; mean and (biased) variance are taken over the
    channels of a group and over all axes between the first and the last. `groups=channels` is `InstanceNorm`.

    Shapes: input and output `(batch, ..., channels)`; `scale` and `bias` are `(channels,)`.

    Arguments:
      channels: size of the last axis; None to infer it (`fx.autosize`).
      groups: number of groups, a divisor of `channels`.
      activation: function applied to the result.
      affine: whether there are `scale`, which starts at 1, and `bias`, which starts at 0.
      eps: added to the variance.

    Errors: ArgumentError for channels that do not divide into the groups, ShapeError for another number of channels,
    and for fewer than two values per group, whose variance says nothing. Source: Wu and He 2018; the numbers are those
    of `torch.nn.GroupNorm`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.GroupNorm(4, 2)
    >>> layer, layer(jnp.array([[1.0, 3.0, 0.0, 200.0]])).round(3).tolist()
    (GroupNorm(4, 2), [[-1.0, 1.0, -1.0, 1.0]])
    """

    channels: int | None
    groups: int
    scale: Array | None  # (channels,)
    bias: Array | None  # (channels,)
    activation: Callable[..., Any]
    affine: bool
    eps: float

    def __init__(
        self,
        channels: int | None,
        groups: int,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = True,
        eps: float = 1e-5,
    ) -> None:
        self.channels = whole_or_none("GroupNorm", "channels", channels)
        self.groups = whole("GroupNorm", "groups", groups)
        self.scale = self.bias = None
        self.activation = function("GroupNorm", "activation", activation)
        self.affine = bool(affine)
        self.eps = nonnegative("GroupNorm", "eps", eps)
        if self.channels is not None:
            self._build(self.channels, "GroupNorm: ")

    def _build(self, channels: int, speaker: str) -> None:
        if channels % self.groups:
            use = f"GroupNorm({channels}, {math.gcd(channels, self.groups)})"
            raise ArgumentError(
                f"{speaker}expected channels that divide into {self.groups} groups, got {channels}. Use {use}."
            )
        self.channels = channels
        if self.affine:
            self.scale, self.bias = ones(channels), zeros(channels)

    @property
    def unsized(self) -> bool:
        return self.channels is None

    def infer(self, shape: tuple[int, ...]) -> None:
        if not shape:
            raise ShapeError("expected input (batch, ..., channels), got a single number.")
        if self.channels is None:
            self._build(shape[-1], "")

    def __call__(self, x: Shaped[Array, "n ... channels"]) -> Float[Array, "n ... channels"]:
        ensure_sized(self, x)
        x = as_norm_input(x, self.scale)
        channels, groups = self.channels, self.groups
        if channels is None or x.ndim < 1 or x.shape[-1] != channels:
            use = moved_channels(x.shape, channels) or (f" Use GroupNorm(None, {groups})." if x.ndim else "")
            raise ShapeError(f"expected input (batch, ..., {channels}), got {x.shape}.{use}")
        if math.prod(x.shape[1:-1]) * (channels // groups) < 2:
            raise ShapeError(
                f"expected more than one value per group of each example, got {x.shape} in {groups} groups. "
                f"Use fewer groups, or LayerNorm({channels})."
            )
        return self.activation(group_norm(x, groups, self.scale, self.bias, eps=self.eps))


def as_norm_input(x: Any, like: Array | None) -> Float[Array, ...]:
    """`x` in the dtype a normalization layer computes its output in, `like` being one of its arrays."""
    x = jnp.asarray(as_array(x))
    if x.dtype in (jnp.float16, jnp.bfloat16):
        return x
    if like is not None and not jnp.issubdtype(x.dtype, jnp.complexfloating):
        return x.astype(like.dtype)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def nonnegative(name: str, what: str, value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ArgumentError(f"{name}: expected {what} >= 0, got {value!r}.")
    return value
