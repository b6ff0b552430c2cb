"""Every error Fluxion raises, and how it is put together.

A check deep inside the library raises the *reason*: what came, what was expected, what to change.
Each enclosing layer adds *where*, once, on the way out (`FluxionError.locate`). The reader gets one
sentence: `model.layers[3] Dense(999, 10): expected input (..., 999), got (8, 5408). Use ...`.
"""

from __future__ import annotations

import difflib
import functools
import os
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


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
    fluxion.errors.ShapeError: mse: expected a target of shape (3, 1), got (3,).
    Reshape one of them; losses never broadcast.
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


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """` Did you mean 'relu'?`, or nothing when no known name is close (1 is equal)."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f" Did you mean {close[0]!r}?" if close else ""


# --------------------------------------------------------------------------------------------- tracebacks

_HERE = str(Path(__file__).parent)
_WRAPPERS = "<fluxion>"


def user_frames(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public entry point: one of our errors then shows the user's own line, none of the library's.

    Set FLUXION_TRACEBACK=full in the environment to see all frames.
    """

    @functools.wraps(function)
    def entry(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except FluxionError as error:
            raise shortened(error) from None

    return without_source(entry)


def without_source(wrapper: Callable[P, R]) -> Callable[P, R]:
    """`wrapper`, whose frame in a traceback is one line, without the source line, which says nothing to a user."""
    wrapper.__code__ = wrapper.__code__.replace(co_filename=_WRAPPERS)
    return wrapper


def shortened(error: FluxionError) -> FluxionError:
    """The error with the innermost line of the user's alone, and without JAX's note that it has left out its own."""
    if os.environ.get("FLUXION_TRACEBACK") == "full":
        return error
    if hasattr(error, "__notes__"):
        error.__notes__ = [note for note in error.__notes__ if "JAX has removed" not in note]
    return error.with_traceback(_of_the_user(error.__traceback__))


def _of_the_user(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """The innermost frame that is not of this package, of JAX or of the standard library, if there is one.

    The path in the message says the way to it.
    """
    innermost = None
    while traceback is not None:
        if _is_user_code(traceback.tb_frame.f_code.co_filename):
            innermost = traceback
        traceback = traceback.tb_next
    return innermost and types.TracebackType(None, innermost.tb_frame, innermost.tb_lasti, innermost.tb_lineno)


def _is_user_code(filename: str) -> bool:
    standard_library = str(Path(functools.__file__).parent)
    return (
        not filename.startswith((_HERE, _WRAPPERS, standard_library))
        and f"{os.sep}site-packages{os.sep}" not in filename
    )
