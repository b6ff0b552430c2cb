"""What programs ask about the library that computes."""

from __future__ import annotations

from fluxion.dialects.keras.names import forget_names


def backend() -> str:
    """The name of the library that computes.

    >>> from fluxion.dialects import keras
    >>> keras.backend.backend()
    'jax'
    """
    return "jax"


def floatx() -> str:
    """The dtype of weights by default."""
    return "float32"


def epsilon() -> float:
    """The small number between which and 1 minus which probabilities are clipped."""
    return 1e-7


def image_data_format() -> str:
    """Where images have their channels."""
    return "channels_last"


def clear_session() -> None:
    """Number the names of new layers from the beginning again."""
    forget_names()
