"""Every error Fluxion raises, and how it is put together.

A check deep inside the library raises the *reason*: what came, what was expected, what to change.
Each enclosing layer adds *where*, once, on the way out (`FluxionError.locate`). The reader gets one
sentence: `model.layers[3] Dense(999, 10): expected input (..., 999), got (8, 5408). Use ...`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FluxionError(Exception):
    """The family of all errors raised on purpose by Fluxion.

    >>> import fluxion as fx
    >>> issubclass(fx.ShapeError, fx.FluxionError) and issubclass(fx.ShapeError, ValueError)
    True
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.where: str | None = None  # "model.layers[3] Dense(999, 10)", filled in by the enclosing layers
        self.layer: object | None = None  # the innermost layer the error passed through

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" if self.where else self.reason


class ShapeError(FluxionError, ValueError):
    """An array has the wrong shape.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.mse(jnp.ones((3, 1)), jnp.ones(3))
    Traceback (most recent call last):
        ...
    fluxion.errors.ShapeError: mse: expected a target of shape (3, 1), got (3,). Reshape one of them; losses never broadcast.
    """


class DTypeError(FluxionError, TypeError):
    """An array or argument has the wrong type.

    >>> import fluxion as fx
    >>> issubclass(fx.DTypeError, TypeError)
    True
    """


class ArgumentError(FluxionError, ValueError):
    """An option is not one of those there are, or is out of its range.

    >>> import fluxion as fx
    >>> fx.Dropout(1.5)
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: Dropout: expected a probability p between 0 and 1, got 1.5.
    """


class DataError(FluxionError, ValueError):
    """The data hold something that cannot be learned from: NaN, a label out of range, a missing column.

    >>> import fluxion as fx
    >>> issubclass(fx.DataError, ValueError)
    True
    """


class FileFormatError(DataError):
    """A file is damaged, truncated, too large, or not what it claims to be.

    >>> import fluxion as fx
    >>> issubclass(fx.FileFormatError, fx.DataError)
    True
    """


class StateError(FluxionError, RuntimeError):
    """Things do not fit together: an optimizer of another model, weights with other names.

    >>> import fluxion as fx
    >>> issubclass(fx.StateError, RuntimeError)
    True
    """


class NonFiniteError(FluxionError, FloatingPointError):
    """The loss or a gradient became NaN or infinite; the step was not applied.

    >>> import fluxion as fx
    >>> issubclass(fx.NonFiniteError, FloatingPointError)
    True
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'relu'?`, or nothing when no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
