"""Regularizers under Keras' names: penalties on the size of a weight, which are added to the loss.

Constraints, which Keras applies to weights after each step, are in `constraints.py`.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from fluxion.dialects.keras.configured import Configured, find
from fluxion.dialects.keras.configured import serialize as serialize
from fluxion.errors import ArgumentError, ShapeError


class Regularizer(Configured):
    """Base class of regularizers: define `__call__(self, x)`, the penalty, and `get_config` if it takes arguments."""

    module = "keras.regularizers"

    def __call__(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __call__")


class L1L2(Regularizer):
    """`l1 * sum(|x|) + l2 * sum(x^2)`.

    >>> from fluxion.dialects.keras import regularizers
    >>> float(regularizers.L1L2(l1=0.5, l2=1.0)([1.0, -2.0]))
    6.5
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = factor("L1L2", "l1", l1), factor("L1L2", "l2", l2)

    def __call__(self, x: Any) -> Any:
        x = jnp.asarray(x)
        penalty = jnp.zeros((), x.dtype)
        if self.l1:
            penalty = penalty + self.l1 * jnp.sum(jnp.abs(x))
        if self.l2:
            penalty = penalty + self.l2 * jnp.sum(jnp.square(x))
        return penalty


class L1(Regularizer):
    """`l1 * sum(|x|)`."""

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = factor("L1", "l1", l1)

    def __call__(self, x: Any) -> Any:
        return self.l1 * jnp.sum(jnp.abs(jnp.asarray(x)))


class L2(Regularizer):
    """`l2 * sum(x^2)`."""

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = factor("L2", "l2", l2)

    def __call__(self, x: Any) -> Any:
        return self.l2 * jnp.sum(jnp.square(jnp.asarray(x)))


class OrthogonalRegularizer(Regularizer):
    """`factor` times the mean of `|cos|` between any two rows (or columns, by `mode`) of a matrix.

    >>> from fluxion.dialects.keras import regularizers
    >>> float(regularizers.OrthogonalRegularizer(factor=1.0)([[1.0, 0.0], [2.0, 0.0]]))
    1.0
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        if mode not in ("rows", "columns"):
            raise ArgumentError(f"OrthogonalRegularizer: expected mode to be rows or columns, got {mode!r}.")
        self.factor, self.mode = _factor("OrthogonalRegularizer", "factor", factor), mode

    def __call__(self, x: Any) -> Any:
        x = jnp.asarray(x)
        if x.ndim != 2:
            raise ShapeError(f"OrthogonalRegularizer: expected a matrix, got {x.shape}.")
        x = x if self.mode == "rows" else x.T
        x = x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-7)
        size = x.shape[0]
        others = jnp.abs(x @ x.T) * (1 - jnp.eye(size, dtype=x.dtype))
        return self.factor * jnp.sum(others) / (size * (size - 1))


def factor(name: str, what: str, value: Any) -> float:
    """`value`, if it is a finite number of at least 0."""
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ArgumentError(f"{name}: expected {what} to be a finite number of at least 0, got {value!r}.")
    return float(value)


_factor = factor  # where an argument has its name

CLASSES = (L1, L2, L1L2, OrthogonalRegularizer)
NAMES: dict[str, Any] = {cls.__name__: cls for cls in CLASSES}
NAMES |= {"l1": L1, "l2": L2, "l1_l2": L1L2, "l1l2": L1L2, "orthogonal_regularizer": OrthogonalRegularizer}
l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer


def get(identifier: Any) -> Any:
    """The regularizer of that name, class or config; None for None.

    >>> from fluxion.dialects.keras import regularizers
    >>> regularizers.get("l2")
    L2(l2=0.01)
    """
    return find("a regularizer", identifier, NAMES)


def deserialize(config: Any) -> Any:
    """The regularizer that `serialize` wrote."""
    return get(config)
