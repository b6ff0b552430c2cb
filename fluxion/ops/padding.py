"""Padding: cells added around the spatial axes of `(batch, *spatial, channels)`.

The new cells hold a constant, or they continue the axis: mirrored, repeated or wrapped around.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, ShapeError, nearest
from fluxion.ops.windows import Pairs, check_rank, padding_pairs

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped

Mode = Literal["constant", "reflect", "symmetric", "edge", "circular"]

# For each mode its name in jax.numpy, and the most cells it can add to a side of an axis of n cells.
MODES: dict[str, tuple[str, Callable[[int], float]]] = {
    "constant": ("constant", lambda n: math.inf),
    "reflect": ("reflect", lambda n: max(n - 1, 0)),
    "symmetric": ("symmetric", lambda n: n),
    "edge": ("edge", lambda n: math.inf if n else 0),
    "circular": ("wrap", lambda n: n),
}


def pad(
    x: Shaped[Array, "n *spatial channels"],
    padding: int | Sequence[int] | Sequence[tuple[int, int]],
    mode: Mode = "constant",
    *,
    value: float = 0,
) -> Shaped[Array, "n *padded channels"]:
    """`x` with cells added before and after each spatial axis.

    Around `a b c d` two cells on each side hold:

    | mode | low side | high side | most cells per side |
    |---|---|---|---|
    | `"constant"` | `v v` | `v v`, `v` being `value` | any number |
    | `"reflect"` | `c b` | `c b`, the edge itself not repeated | `size - 1` |
    | `"symmetric"` | `b a` | `d c` | `size` |
    | `"edge"` | `a a` | `d d` | any number |
    | `"circular"` | `c d` | `a b` | `size` |

    Shapes: `x` is `(batch, *spatial, channels)` with any number of spatial axes, the result has `size + low + high`
    cells along each of them, in the dtype of `x`.

    Arguments:
      padding: a number for both sides of every axis, one per axis, or a pair (low, high) per axis.
      mode: what the new cells hold.
      value: the constant of mode `"constant"`.

    Errors: ArgumentError for an unknown mode or a negative padding; ShapeError for more cells than the mode can take
    from an axis. The numbers are those of `torch.nn.functional.pad`, whose `"replicate"` is `"edge"` here, and for
    `"symmetric"` those of `numpy.pad`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x = jnp.array([1, 2, 3, 4])[None, :, None]
    >>> for mode in ("constant", "reflect", "symmetric", "edge", "circular"):
    ...     print(fx.pad(x, ((2, 1),), mode)[0, :, 0].tolist())
    [0, 0, 1, 2, 3, 4, 0]
    [3, 2, 1, 2, 3, 4, 3]
    [2, 1, 1, 2, 3, 4, 4]
    [1, 1, 1, 2, 3, 4, 4]
    [3, 4, 1, 2, 3, 4, 1]
    """
    x = jnp.asarray(x)
    check_mode("pad", mode, value)
    dims = len(padding) if isinstance(padding, tuple | list) else max(x.ndim - 2, 1)
    pairs = pad_pairs("pad", padding, dims)
    check_rank(x.shape, dims)
    known_as, most = MODES[mode]
    for size, pair in zip(x.shape[1:-1], pairs, strict=True):
        if max(pair) > most(size):
            raise ShapeError(
                f'expected at most {most(size)} cells of "{mode}" padding on a side of an axis of {size}, got '
                f'{max(pair)} for an input of shape {x.shape}. Give less padding, or mode "constant".'
            )
    widths = ((0, 0), *pairs, (0, 0))
    if mode != "constant":
        return jnp.pad(x, widths, known_as)
    with np.errstate(invalid="ignore"):
        if not jnp.issubdtype(x.dtype, jnp.inexact) and np.asarray(value).astype(x.dtype) != value:
            raise DTypeError(f"expected a value that {x.dtype} can hold, got {value!r}. Convert the input first.")
    return jnp.pad(x, widths, constant_values=value)


def check_mode(name: str, mode: Any, value: Any) -> None:
    """ArgumentError for an unknown mode, or a value beside a mode that has none."""
    if not isinstance(mode, str) or mode not in MODES:
        known = ", ".join(f'"{m}"' for m in MODES)
        raise ArgumentError(f"{name}: expected a mode out of {known}, got {mode!r}.{nearest(str(mode), MODES)}")
    if mode != "constant" and value != 0:
        raise ArgumentError(f'{name}: expected a value with mode "constant" only, got {value!r} with "{mode}".')


def pad_pairs(name: str, padding: Any, dims: int) -> Pairs:
    """`padding` as one pair (low, high) per spatial axis; numbers only, for nothing is there to be the same as."""
    if isinstance(padding, str):
        raise ArgumentError(f"{name}: expected padding to be numbers, got {padding!r}.")
    if dims < 1:
        raise ArgumentError(f"{name}: expected padding for at least one axis, got {padding!r}.")
    pairs = padding_pairs(name, padding, dims)
    return () if pairs == "same" else pairs
