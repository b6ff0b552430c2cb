"""Windows that slide over the spatial axes of `(batch, *spatial, channels)`: kernel, stride, padding, dilation.

Convolution, pooling and `unfold` read these arguments in the same way; this is that way.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Literal

from fluxion.errors import ArgumentError, ShapeError

Padding = int | Sequence[int] | Sequence[tuple[int, int]] | Literal["same"]  # as users write it
Pairs = tuple[tuple[int, int], ...]  # (low, high) of each spatial axis

MOST_DIMS = 3


def kernel_sizes(name: str, kernel: Any) -> tuple[int, ...]:
    """`kernel` as a tuple of one to three sizes, one per spatial axis.

    >>> from fluxion.ops.windows import kernel_sizes
    >>> kernel_sizes("Conv", (3, 5))
    (3, 5)
    """
    if not isinstance(kernel, tuple | list):
        raise ArgumentError(
            f"{name}: expected a kernel of one size per spatial axis, got {kernel!r}. "
            f"Use {(kernel,)!r} for sequences, {(kernel, kernel)!r} for images."
        )
    if not 1 <= len(kernel) <= MOST_DIMS:
        raise ArgumentError(f"{name}: expected a kernel of 1 to {MOST_DIMS} sizes, got {tuple(kernel)!r}.")
    return per_axis(name, "kernel", kernel, len(kernel))


def per_axis(name: str, what: str, value: Any, dims: int, *, least: int = 1) -> tuple[int, ...]:
    """`value`, a whole number or one per spatial axis, as a tuple of `dims` whole numbers of at least `least`.

    >>> from fluxion.ops.windows import per_axis
    >>> per_axis("Conv", "stride", 2, 3)
    (2, 2, 2)
    """
    several = isinstance(value, tuple | list)
    values = tuple(value) if several else (value,) * dims
    if len(values) != dims:
        raise ArgumentError(f"{name}: expected {what} to be a number or {dims} of them, got {value!r}.")
    return tuple(_at_least(name, what, number, least, value) for number in values)


def padding_pairs(name: str, padding: Any, dims: int) -> Pairs | Literal["same"]:
    """`padding` as one pair (low, high) per spatial axis, or "same".

    A number pads both sides of every axis, one number per axis both sides of that axis, one pair per axis its low and
    its high side.

    >>> from fluxion.ops.windows import padding_pairs
    >>> padding_pairs("Conv", (1, 2), 2), padding_pairs("Conv", ((0, 1), (2, 3)), 2)
    (((1, 1), (2, 2)), ((0, 1), (2, 3)))
    """
    if isinstance(padding, str):
        if padding != "same":
            raise ArgumentError(
                f'{name}: expected padding to be numbers or "same", got {padding!r}. Without padding it is 0.'
            )
        return "same"
    several = isinstance(padding, tuple | list)
    values = tuple(padding) if several else (padding,) * dims
    if len(values) != dims:
        example = ", ".join(["(low, high)"] * dims) + ("," if dims == 1 else "")
        raise ArgumentError(
            f'{name}: expected padding to be a number, {dims} of them, "same", or ({example}), got {padding!r}.'
        )
    pairs = []
    for value in values:
        low, high = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
        pairs.append(
            (_at_least(name, "padding", low, 0, padding), _at_least(name, "padding", high, 0, padding)),
        )
    return tuple(pairs)


def resolved(
    padding: Pairs | Literal["same"],
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """The pairs that `padding` stands for: "same" gives `ceil(size / stride)` windows, the odd cell on the high side.

    >>> from fluxion.ops.windows import resolved
    >>> resolved("same", (28,), (4,), (1,), (1,))
    ((1, 2),)
    """
    if padding != "same":
        return padding
    totals = (
        max((-(-n // s) - 1) * s + reach(k, d) - n, 0)
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    )
    return tuple((total // 2, total - total // 2) for total in totals)


def window_counts(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Pairs, dilation: Sequence[int]
) -> tuple[int, ...]:
    """How many windows fit along each spatial axis; ShapeError if none does.

    >>> from fluxion.ops.windows import window_counts
    >>> window_counts((28, 28), (5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1))
    (24, 24)
    """
    counts = tuple(
        (n + low + high - reach(k, d)) // s + 1
        for n, k, s, (low, high), d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )
    if min(counts) < 1:
        reaches = tuple(map(reach, kernel, dilation))
        padded = tuple(n + low + high for n, (low, high) in zip(sizes, padding, strict=True))
        raise ShapeError(
            f"expected spatial axes of at least {reaches} cells, the reach of the kernel, got {padded} with padding. "
            "Use a smaller kernel, fewer pooling layers before it, or padding."
        )
    return counts


def brief(values: tuple[Any, ...] | Literal["same"]) -> Any:
    """Arguments per axis in the shortest way to write them, which layers keep and print.

    >>> from fluxion.ops.windows import brief
    >>> brief((2, 2)), brief((1, 2)), brief(((1, 1), (1, 1))), brief(((1, 1), (2, 2))), brief(((0, 1),)), brief("same")
    (2, (1, 2), 1, (1, 2), ((0, 1),), 'same')
    """
    if values == "same":
        return values
    if all(isinstance(value, tuple) and value[0] == value[1] for value in values):
        values = tuple(low for low, _ in values)
    return values[0] if len(set(values)) == 1 and not isinstance(values[0], tuple) else values


def input_axes(dims: int, channels: int | str = "channels") -> str:
    """The axes of an input as errors name them.

    >>> from fluxion.ops.windows import input_axes
    >>> input_axes(2, 3)
    '(batch, height, width, 3)'
    """
    spatial = {1: "length", 2: "height, width", 3: "depth, height, width"}
    return f"(batch, {spatial.get(dims, f'{dims} spatial axes')}, {channels})"


def check_rank(shape: Sequence[int], dims: int, channels: int | None = None) -> None:
    """ShapeError, with what to add, unless `shape` has a batch axis, `dims` spatial axes and a channel axis.

    >>> from fluxion.ops.windows import check_rank
    >>> check_rank((28, 28, 3), 2, 3)
    Traceback (most recent call last):
        ...
    fluxion.errors.ShapeError: expected input (batch, height, width, 3), got (28, 28, 3). Add a batch axis: x[None].
    """
    shape = tuple(shape)
    if len(shape) == dims + 2:
        return
    remedy = ""
    if len(shape) == dims:
        remedy = " Add a batch axis and a channel axis: x[None, ..., None]."
    elif len(shape) == dims + 1:
        batch, channel = "a batch axis: x[None]", "a channel axis: x[..., None]"
        missing = (batch,) if shape[-1] == channels else (channel,) if channels == 1 else (batch, channel)
        remedy = f" Add {', or '.join(missing)}."
    elif 1 <= len(shape) - 2 <= MOST_DIMS:
        sizes = len(shape) - 2
        remedy = f" Give {sizes} size{'s' * (sizes > 1)}, one per spatial axis, for such an input."
    raise ShapeError(f"expected input {input_axes(dims, channels or 'channels')}, got {shape}.{remedy}")


def reach(kernel: int, dilation: int) -> int:
    """Cells from the first to the last of a dilated kernel, both included.

    >>> from fluxion.ops.windows import reach
    >>> reach(3, 2)
    5
    """
    return (kernel - 1) * dilation + 1


def _at_least(name: str, what: str, value: Any, least: int, given: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ArgumentError(f"{name}: expected {what} of whole numbers of at least {least}, got {given!r}.")
    return number
