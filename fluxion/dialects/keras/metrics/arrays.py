"""What metrics are given, as arrays that fit together; and the arithmetic of sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras.losses import same_rank
from fluxion.dialects.keras.variables import Box, plain
from fluxion.errors import ShapeError
from fluxion.ops import checks

if TYPE_CHECKING:
    from jaxtyping import Array


def as_array(x: Any) -> Any:
    """Lists, variables and NumPy arrays as arrays; None and what is one already as it is."""
    if x is None or isinstance(x, jax.Array | np.ndarray):
        return x
    return plain(x) if isinstance(x, Box) else jnp.asarray(x)


def aligned(name: str, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Two arrays of one shape, after Keras' changes of rank; nothing broadcasts."""
    t, p = same_rank(
        *(jnp.asarray(checks.numbers(name, what, x)) for what, x in (("y_true", y_true), ("y_pred", y_pred)))
    )
    if t.shape != p.shape:
        raise ShapeError(f"{name}: expected y_true of shape {p.shape}, got {t.shape}. Reshape one of them.")
    return t, p


def label_pair(name: str, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels of the shape of the scores without their last axis."""
    t, p = (jnp.asarray(checks.numbers(name, what, x)) for what, x in (("y_true", y_true), ("y_pred", y_pred)))
    if t.ndim == p.ndim and t.shape[-1] == 1:
        t = t[..., 0]
    if t.shape != p.shape[:-1]:
        raise ShapeError(
            f"{name}: expected labels of shape {p.shape[:-1]} for scores of shape {p.shape}, got {t.shape}. "
            "One-hot targets belong to categorical_accuracy."
        )
    return t, p


def quotient(xp: Any, part: Any, whole: Any) -> Any:
    return xp.where(whole == 0, 0.0, part / xp.where(whole == 0, 1.0, whole))


def flat(arrays: Sequence[Any]) -> Array:
    return jnp.concatenate([jnp.asarray(x).astype(jnp.float32).reshape(-1) for x in arrays])


def split(totals: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(np.asarray(totals), ends[:-1]), shapes, strict=True)]
