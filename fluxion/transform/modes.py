"""Training mode and test mode.

Dropout and BatchNorm ask `istraining(layer)`. The answer is the layer's own override if `trainmode` or
`testmode` set one, and otherwise whether the call happens inside a gradient.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TypeVar

from fluxion.tree.walk import scan

Model = TypeVar("Model")

_in_gradient: ContextVar[bool] = ContextVar("fluxion_in_gradient", default=False)


class gradient_mode:
    """Say whether calls inside the block count as being inside a gradient."""

    __slots__ = ("active", "token")

    def __init__(self, active: bool) -> None:
        self.active = active

    def __enter__(self) -> None:
        self.token = _in_gradient.set(self.active)

    def __exit__(self, *error: object) -> None:
        _in_gradient.reset(self.token)


def within_gradient() -> bool:
    """Whether this call happens inside `gradient`, `withgradient`, `pullback` or a training step.

    >>> import fluxion as fx
    >>> fx.within_gradient(), fx.withgradient(lambda x: x * fx.within_gradient(), 2.0).value.item()
    (False, 2.0)
    """
    return _in_gradient.get()


def istraining(layer: object) -> bool:
    """Whether `layer` behaves as in training: its own `training` override if set, else `within_gradient()`.

    A layer of yours that differs between training and test declares `training: bool | None = None` and asks here.

    JAX's own transforms are not noticed: under `jax.grad` or `jax.jit` call `trainmode(model)` first. There a layer
    that writes to itself writes to JAX's copy, and under `jax.vmap` one dropout mask serves all examples.

    >>> import fluxion as fx
    >>> fx.istraining(fx.Dropout(0.5)), fx.istraining(fx.trainmode(fx.Dropout(0.5)))
    (False, True)
    """
    override = getattr(layer, "training", None)
    return _in_gradient.get() if override is None else bool(override)


def trainmode(model: Model) -> Model:
    """Let every layer of the model behave as in training, wherever it is called; changes and returns the model.

    It sets `training` to True on each layer whose class declares it (Dropout, BatchNorm, yours). `testmode` does the
    opposite, `auto` undoes both.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> sorted(set(fx.trainmode(fx.Dropout(0.5))(jnp.ones(1000)).tolist()))
    [0.0, 2.0]
    """
    return _set_mode(model, True)


def testmode(model: Model) -> Model:
    """Let every layer of the model behave as in use, inside a gradient too; changes and returns the model.

    To train around layers whose statistics must not move: `fx.testmode(model.layers[0])`.

    >>> import fluxion as fx
    >>> layer = fx.testmode(fx.Dropout(0.5))
    >>> fx.gradient(lambda x: layer(x), 3.0)[0].item()
    1.0
    """
    return _set_mode(model, False)


def auto(model: Model) -> Model:
    """Undo `trainmode` and `testmode`: training inside a gradient, test elsewhere; changes and returns the model.

    >>> import fluxion as fx
    >>> fx.istraining(fx.auto(fx.trainmode(fx.Dropout(0.5))))
    False
    """
    return _set_mode(model, None)


def _set_mode(model: Model, training: bool | None) -> Model:
    for node in scan(model).nodes:
        cls = type(node.original)
        if not hasattr(cls, "training"):
            continue
        if training is None and cls.training is None:
            vars(node.original).pop("training", None)  # as if it had never been set: the same tree for JAX
        else:
            node.original.training = training
    return model
