"""The product of a matrix of weights with many vectors: the one place where dense layers multiply."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax

from fluxion import native

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Multiplications from which on XLA's own product, which works in larger blocks, is as fast; and cells of a weight.
MOST, MOST_CELLS = 2**28, 2**21


def product(x: Float[Array, "*batch in"], weight: Float[Array, "in out"]) -> Float[Array, "*batch out"]:
    """`x @ weight`.

    In float32 on a CPU and up to middling sizes it is computed by the native kernels, which take a third to nine tenths
    of XLA's time, and as little for the gradient of the weight.
    """
    if x.ndim == 1 or weight.ndim != 2:
        return x @ weight
    # One product of matrices: with more axes XLA's on the CPU is slower (a GPT's whole step by 1.2 to 1.4 times).
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = _native(rows, weight) if _is_native(rows, weight) else rows @ weight
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[1])


def _is_native(x: Array, weight: Array) -> bool:
    if jax.default_backend() != "cpu" or not native.takes(x, weight):
        return False
    return 0 < x.size * weight.shape[1] <= MOST and weight.size <= MOST_CELLS


def _native(x: Array, weight: Array) -> Array:
    from fluxion.native.product import product  # here, because it loads Pallas

    return product.bind(x, weight)
