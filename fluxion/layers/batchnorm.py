"""Layers that normalize each channel and may keep running statistics: `BatchNorm` over the batch, `InstanceNorm` over
each example.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.inputs import function, moved_channels, whole_or_none
from fluxion.layers.normalization import as_norm_input, nonnegative
from fluxion.ops.activations import identity
from fluxion.ops.initializers import ones, zeros
from fluxion.ops.normalization import moments, standardize, wide
from fluxion.transform.modes import istraining
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


class ChannelNorm(Layer):
    """What `BatchNorm` and `InstanceNorm` have in common: all but the axes over which statistics are taken."""

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
        name = type(self).__name__
        if not isinstance(momentum, int | float) or not 0 <= momentum <= 1:
            raise ArgumentError(f"{name}: expected a momentum between 0 and 1, got {momentum!r}.")
        self.channels = whole_or_none(name, "channels", channels)
        self.scale = self.bias = self.mean = self.var = None
        self.activation = function(name, "activation", activation)
        self.momentum = momentum
        self.eps = nonnegative(name, "eps", eps)
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
            name = type(self).__name__
            use = f" Use {name}({x.shape[-1]}) or {name}(None)." if x.ndim else ""
            use = moved_channels(x.shape, self.channels) or use
            raise ShapeError(f"expected input (..., {self.channels}), got {x.shape}.{use}")
        mean, var = self.mean, self.var
        if mean is None or var is None or istraining(self):
            mean, var = self._statistics(x)
        return self.activation(standardize(x, mean, var, self.scale, self.bias, eps=self.eps))

    def _statistics(self, x: Float[Array, "... channels"]) -> tuple[Array, Array]:
        """Mean and variance of the input; moves the running ones."""
        raise NotImplementedError

    def _move(self, mean: Array, unbiased_var: Array) -> None:
        if self.mean is not None and self.var is not None:
            self.mean = self._moved(self.mean, mean)
            self.var = self._moved(self.var, unbiased_var)

    def _moved(self, running: Array, batch: Array) -> Array:
        batch = jax.lax.stop_gradient(batch)
        return ((1 - self.momentum) * wide(running) + self.momentum * batch).astype(running.dtype)


class BatchNorm(ChannelNorm):
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

    Errors: ShapeError for another number of channels, and where the batch's statistics are used for fewer than two
    values per channel, whose variance says nothing. Source: Ioffe and Szegedy 2015; the numbers are those of
    `torch.nn.BatchNorm1d`, `2d` and `3d`.

    >>> import fluxion as fx
    >>> layer = fx.trainmode(fx.BatchNorm(3))
    >>> y = layer(fx.randn(100, 3) * 5 + 2)
    >>> bool(abs(y.mean()) < 1e-5), bool(abs(layer.mean - 0.2).max() < 0.2)
    (True, True)
    """

    def _statistics(self, x: Float[Array, "... channels"]) -> tuple[Array, Array]:
        count = math.prod(x.shape[:-1])
        if count < 2:
            if self.mean is None:
                raise ShapeError(f"expected more than one value per channel, got {x.shape}. Use larger batches.")
            raise ShapeError(
                f"expected more than one value per channel in training, got {x.shape}. "
                "Use larger batches, or fx.testmode(model) to use the running statistics."
            )
        mean, var = (statistic.reshape(-1) for statistic in moments(x, range(x.ndim - 1)))
        self._move(mean, var * (count / (count - 1)))
        return mean, var


class InstanceNorm(ChannelNorm):
    """`activation((x - mean) / sqrt(var + eps) * scale + bias)` for each channel of each example.

    `mean` and (biased) `var` are taken over the axes between the first and the last. With `track_stats` the running
    statistics move in training, as those of `BatchNorm` do, by the mean over the batch of the examples' means and
    unbiased variances; in test mode they are used in place of the examples' own. Training is what `fx.istraining`
    says: inside a gradient, or after `fx.trainmode`.

    Shapes: input and output `(batch, *spatial, channels)`; `scale`, `bias` and the buffers `mean`, `var` are
    `(channels,)`.

    Arguments:
      channels: size of the last axis; None to infer it (`fx.autosize`).
      activation: function applied to the result.
      momentum: weight of the newest batch in the running statistics.
      eps: added to the variance.
      affine: whether there are `scale`, which starts at 1, and `bias`, which starts at 0.
      track_stats: whether there are running statistics.

    Errors: ShapeError for another number of channels, and where an example's own statistics are used for fewer than
    two values per channel. Source: Ulyanov et al. 2016; the numbers are those of `torch.nn.InstanceNorm1d`, `2d` and
    `3d`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.InstanceNorm(1)(jnp.array([[[1.0], [3.0]], [[0.0], [200.0]]])).round(3).squeeze(-1).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    def __init__(
        self,
        channels: int | None,
        activation: Callable[..., Any] = identity,
        *,
        momentum: float = 0.1,
        eps: float = 1e-5,
        affine: bool = False,
        track_stats: bool = False,
    ) -> None:
        super().__init__(channels, activation, momentum=momentum, eps=eps, affine=affine, track_stats=track_stats)

    def _statistics(self, x: Float[Array, "n ... channels"]) -> tuple[Array, Array]:
        count = math.prod(x.shape[1:-1])
        if count < 2:
            raise ShapeError(
                f"expected input (batch, *spatial, {self.channels}) with more than one value per example and channel, "
                f"got {x.shape}. Use BatchNorm({self.channels}) or LayerNorm({self.channels})."
            )
        mean, var = moments(x, range(1, x.ndim - 1))
        if x.shape[0] > 0:  # an empty batch has no mean
            over = range(x.ndim - 1)
            self._move(mean.mean(over), var.mean(over) * (count / (count - 1)))
        return mean, var
