"""Layers that drop values in training and do nothing in test mode: `Dropout`, `AlphaDropout`, `StochasticDepth`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp

from fluxion.errors import ArgumentError, nearest
from fluxion.layers.inputs import as_array
from fluxion.ops.dropout import alpha_dropout, dropout, probability
from fluxion.transform.modes import istraining
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped


class Dropout(Layer):
    """In training each value is 0 with probability `p` and divided by `1 - p` otherwise; in test mode nothing happens.

    Shapes: output like the input. Training is what `fx.istraining` says: inside a gradient, or after `fx.trainmode`.

    Arguments:
      p: probability of a zero, 0 to 1.
      axis: the axes along which to draw, None for every value. Along the others the same decision holds: for images,
        `axis=(0, -1)` drops whole channels of each example.

    Errors: ArgumentError for a `p` outside [0, 1], ShapeError for an axis that the input has not. Source: Srivastava
    et al. 2014; `Flux.Dropout`, whose `dims` is `axis`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.Dropout(0.5)
    >>> layer(jnp.ones(3)).tolist(), sorted(set(fx.trainmode(layer)(jnp.ones(1000)).tolist()))
    ([1.0, 1.0, 1.0], [0.0, 2.0])
    """

    p: float
    axis: int | tuple[int, ...] | None
    training: bool | None = None

    def __init__(self, p: float, *, axis: int | Sequence[int] | None = None) -> None:
        self.p = probability("Dropout", p)
        try:
            self.axis = axis if axis is None or isinstance(axis, int) else tuple(map(operator.index, axis))
        except TypeError:
            raise ArgumentError(f"Dropout: expected an axis, a tuple of axes or None, got {axis!r}.") from None

    def __call__(self, x: Shaped[Array, ...]) -> Shaped[Array, ...]:
        array = jnp.asarray(as_array(x))
        return dropout(array, self.p, axis=self.axis) if istraining(self) else array


class AlphaDropout(Layer):
    """Dropout for `selu` networks: in training, dropped values become `selu(-inf)`, and mean 0 and variance 1 stay.

    Shapes: output like the input. Training is what `fx.istraining` says: inside a gradient, or after `fx.trainmode`.

    Arguments:
      p: probability of a dropped value, 0 to 1.

    Errors: ArgumentError for a `p` outside [0, 1]. Source: Klambauer et al. 2017; `torch.nn.AlphaDropout`.

    >>> import fluxion as fx
    >>> x = fx.randn(10_000)
    >>> y = fx.trainmode(fx.AlphaDropout(0.3))(x)
    >>> bool(abs(y.mean()) < 0.1), bool(abs(y.std() - 1) < 0.1)
    (True, True)
    """

    p: float
    training: bool | None = None

    def __init__(self, p: float) -> None:
        self.p = probability("AlphaDropout", p)

    def __call__(self, x: Shaped[Array, ...]) -> Shaped[Array, ...]:
        array = jnp.asarray(as_array(x))
        return alpha_dropout(array, self.p) if istraining(self) else array


class StochasticDepth(Layer):
    """In training each example is 0 with probability `p`, and divided by `1 - p` otherwise; in test mode it stays.

    At the end of a residual branch it drops the branch: `SkipConnection(Chain(..., StochasticDepth(0.1)), jnp.add)`.

    Shapes: output like the input `(batch, ...)`. Training is what `fx.istraining` says: inside a gradient, or after
    `fx.trainmode`.

    Arguments:
      p: probability of a dropped example, 0 to 1.
      mode: `"row"` decides for each example, `"batch"` once for all of them.

    Errors: ArgumentError for a `p` outside [0, 1] or another mode, ShapeError for a single number in mode `"row"`.
    Source: Huang et al. 2016; `torchvision.ops.StochasticDepth`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.StochasticDepth(0.5)
    >>> layer(jnp.ones((1, 2))).tolist(), fx.StochasticDepth(0.5, mode="batch")
    ([[1.0, 1.0]], StochasticDepth(0.5, mode='batch'))
    >>> sorted(set(map(tuple, fx.trainmode(layer)(jnp.ones((1000, 2))).tolist())))
    [(0.0, 0.0), (2.0, 2.0)]
    """

    p: float
    mode: str
    training: bool | None = None

    def __init__(self, p: float, *, mode: str = "row") -> None:
        self.p = probability("StochasticDepth", p)
        if mode not in ("row", "batch"):
            hint = nearest(str(mode), ("row", "batch"))
            raise ArgumentError(f"StochasticDepth: expected mode 'row' or 'batch', got {mode!r}.{hint}")
        self.mode = mode

    def __call__(self, x: Shaped[Array, "n ..."]) -> Shaped[Array, "n ..."]:
        array = jnp.asarray(as_array(x))
        return dropout(array, self.p, axis=0 if self.mode == "row" else ()) if istraining(self) else array
