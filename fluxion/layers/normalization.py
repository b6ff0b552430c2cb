"""Layers that normalize: `BatchNorm` over the batch, `LayerNorm` over each example.

An input of half precision keeps its dtype even where the layer's arrays are float32; any other input is converted to
the dtype of the layer. Statistics are computed in float32 at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.dense import inferred_sizes, last_axes, last_sizes, remedy
from fluxion.layers.inputs import as_array, function, whole_or_none
from fluxion.ops.activations import identity
from fluxion.ops.initializers import ones, zeros
from fluxion.ops.normalization import layer_norm, moments, standardize, wide
from fluxion.transform.modes import istraining
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


class BatchNorm(Layer):
    """`activation((x - mean) / sqrt(var + eps) * scale + bias)` for each channel, the last axis.

    In training `mean` and (biased) `var` are those of the batch, taken over all other axes, and the running
    statistics move: `mean = (1 - momentum) * mean + momentum * batch mean`, `var` likewise with the unbiased variance.
    In test mode the running statistics are used. Training is what `fx.istraining` says: inside a gradient, or after
    `fx.trainmode`.

    Shapes: input and output `(..., channels)`; `scale`, `bias` and the buffers `mean`, `var` are `(channels,)`.

    Arguments:
      channels: size of the last axis; None to infer it (`fx.autosize`).
      activation: function applied to the result.
      momentum: weight of the newest batch in the running statistics.
      eps: added to the variance.
      affine: whether there are `scale`, which starts at 1, and `bias`, which starts at 0.
      track_stats: whether there are running statistics. Without, the batch's are used in test mode too.

    Errors: ShapeError for another number of channels, and in training for a single value per channel, whose variance
    says nothing. Source: Ioffe and Szegedy 2015; the numbers are those of `torch.nn.BatchNorm1d`, `2d` and `3d`.

    >>> import fluxion as fx
    >>> layer = fx.trainmode(fx.BatchNorm(3))
    >>> y = layer(fx.randn(100, 3) * 5 + 2)
    >>> bool(abs(y.mean()) < 1e-5), bool(abs(layer.mean - 0.2).max() < 0.2)
    (True, True)
    """

    buffers = ("mean", "var")
    training: bool | None = None

    channels: int | None
    scale: Array | None  # (channels,)
    bias: Array | None  # (channels,)
    mean: Array | None  # (channels,)
    var: Array | None  # (channels,)
    activation: Callable[..., Any]
    momentum: float
    eps: float
    affine: bool
    track_stats: bool

    def __init__(
        self,
        channels: int | None,
        activation: Callable[..., Any] = identity,
        *,
        momentum: float = 0.1,
        eps: float = 1e-5,
        affine: bool = True,
        track_stats: bool = True,
    ) -> None:
        if not 0 <= momentum <= 1:
            raise ArgumentError(f"BatchNorm: expected a momentum between 0 and 1, got {momentum!r}.")
        self.channels = whole_or_none("BatchNorm", "channels", channels)
        self.scale = self.bias = self.mean = self.var = None
        self.activation = function("BatchNorm", "activation", activation)
        self.momentum = momentum
        self.eps = nonnegative("BatchNorm", "eps", eps)
        self.affine = bool(affine)
        self.track_stats = bool(track_stats)
        if self.channels is not None:
            self._build(self.channels)

    def _build(self, channels: int) -> None:
        self.channels = channels
        if self.affine:
            self.scale, self.bias = ones(channels), zeros(channels)
        if self.track_stats:
            self.mean, self.var = zeros(channels), ones(channels)

    @property
    def unsized(self) -> bool:
        return self.channels is None

    def infer(self, shape: tuple[int, ...]) -> None:
        if not shape:
            raise ShapeError("expected input (..., channels), got a single number.")
        if self.channels is None:
            self._build(shape[-1])

    def __call__(self, x: Shaped[Array, "... channels"]) -> Float[Array, "... channels"]:
        ensure_sized(self, x)
        x = as_norm_input(x, self.scale if self.affine else self.mean)
        if x.ndim < 1 or x.shape[-1] != self.channels:
            use = f" Use BatchNorm({x.shape[-1]}) or BatchNorm(None)." if x.ndim else ""
            raise ShapeError(f"expected input (..., {self.channels}), got {x.shape}.{use}")
        mean, var = self.mean, self.var
        if mean is None or var is None or istraining(self):
            mean, var = self._batch_statistics(x)
        return self.activation(standardize(x, mean, var, self.scale, self.bias, eps=self.eps))

    def _batch_statistics(self, x: Float[Array, "... channels"]) -> tuple[Array, Array]:
        """Mean and variance of the batch; moves the running ones."""
        count = math.prod(x.shape[:-1])
        if count < 2:
            raise ShapeError(
                f"expected more than one value per channel in training, got {x.shape}. "
                "Use larger batches, or fx.testmode(model) to use the running statistics."
            )
        mean, var = (statistic.reshape(-1) for statistic in moments(x, range(x.ndim - 1)))
        if self.mean is not None and self.var is not None:
            self.mean = self._moved(self.mean, mean)
            self.var = self._moved(self.var, var * (count / (count - 1)))
        return mean, var

    def _moved(self, running: Array, batch: Array) -> Array:
        batch = jax.lax.stop_gradient(batch)
        return ((1 - self.momentum) * wide(running) + self.momentum * batch).astype(running.dtype)


class LayerNorm(Layer):
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

    size: tuple[int | None, ...]
    scale: Array | None  # size
    bias: Array | None  # size
    activation: Callable[..., Any]
    affine: bool
    eps: float

    def __init__(
        self, *size: int | None, activation: Callable[..., Any] = identity, affine: bool = True, eps: float = 1e-5
    ) -> None:
        self.size = last_sizes("LayerNorm", size)
        self.scale = self.bias = None
        self.activation = function("LayerNorm", "activation", activation)
        self.affine = bool(affine)
        self.eps = nonnegative("LayerNorm", "eps", eps)
        if None not in self.size:
            self._build(self.size)  # type: ignore[arg-type]

    def _build(self, size: tuple[int, ...]) -> None:
        self.size = size
        if self.affine:
            self.scale, self.bias = ones(*size), zeros(*size)

    @property
    def unsized(self) -> bool:
        return None in self.size

    def infer(self, shape: tuple[int, ...]) -> None:
        if self.unsized:
            self._build(inferred_sizes(self.size, shape))

    def __call__(self, x: Shaped[Array, ...]) -> Float[Array, ...]:
        ensure_sized(self, x)
        x = as_norm_input(x, self.scale)
        count = len(self.size)
        if x.shape[-count:] != self.size:
            raise ShapeError(
                f"expected input {last_axes(self.size)}, got {x.shape}.{remedy('LayerNorm', self.size, x.shape)}"
            )
        return self.activation(layer_norm(x, count, self.scale, self.bias, eps=self.eps))


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
