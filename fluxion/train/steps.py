"""Many short steps as one executable: a loop over the batches of a block, compiled around the compiled step.

A step of a small network takes microseconds, and starting it from Python takes longer. Where the data are a
`DataLoader` over arrays, or a list of equal batches, `feed` hands out blocks of batches, and a `Loop` makes the steps
of a block on the device. Its body is the very program of the single step, so that both give the same numbers, nearly
always to the bit; whether a loop is used depends on model and data alone (`loop_for`), never on a clock. Only how many
steps go into one call, which changes no number, follows from the time they take: a call lasts a tenth of a second, so
that Ctrl-C and the progress display are not kept waiting.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxion.data.arrays import getobs, map_parts
from fluxion.data.epochs import Epochs, batches_from
from fluxion.data.epochs import can_seek as can_seek
from fluxion.data.loader import DataLoader

if TYPE_CHECKING:
    from fluxion.train.step import StepProgram

BLOCK_BYTES = 2**22  # of data in a block, so that they stay in the processor's cache
BLOCK_STEPS = 2**10  # in a block at most
CALL_SECONDS = 0.1  # that one call may take
LARGE = 2**28  # parameters times observations, from which on a step is so long that a loop gains nothing


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Batches, one behind the other, in arrays of `capacity * size` rows of which the last may be unused.

    Each has `size` rows, but for every `period`-th one, the last of an epoch, which lacks `short` of them. The batches
    before number `first` are done already: a resumed epoch goes through the very blocks, and so through the very
    programs, of an epoch that was never interrupted.
    """

    data: Any
    count: int
    size: int
    capacity: int
    period: int = 1
    short: int = 0
    first: int = 0

    def batch(self, i: int) -> Any:
        start = i * self.size - i // self.period * self.short
        return jax.tree.map(lambda part: part[start : start + self.rows(i)], self.data)

    def rows(self, i: int) -> int:
        """The number of observations in batch `i`."""
        return self.size - (self.short if (i + 1) % self.period == 0 else 0)


def feed(data: Iterable[Any], start: int = 0) -> Iterator[Any]:
    """What an epoch consists of: blocks where `data` are a loader or a list over plain arrays, batches otherwise.

    From batch number `start` on, if the ones before it are done.
    """
    if isinstance(data, Epochs):
        return _epochs(data, start)
    if in_blocks(data):
        return _from(_blocks(data), start)
    return _from(_listed(data), start) if _is_listed(data) else batches_from(data, start)


def _from(pieces: Iterable[Any], start: int) -> Iterator[Any]:
    """Blocks and batches without the first `start` batches."""
    for piece in pieces:
        count = piece.count if isinstance(piece, Block) else 1
        if start < count:
            yield dataclasses.replace(piece, first=start) if start else piece
        start = max(0, start - count)


def _epochs(data: Epochs, start: int) -> Iterator[Any]:
    """Several epochs: as many of a short one in a block as there is room for."""
    loader = data.data
    if not (in_blocks(loader) or _is_listed(loader)) or len(loader) == 0:
        yield from data.batches(start)
        return
    done, start = divmod(start, len(loader))
    most = 1
    if in_blocks(loader):
        loader.epoch += done
        most = epochs_at_once(loader) if data.count is None else min(epochs_at_once(loader), data.count)
    left = None if data.count is None else data.count - done
    while left is None or left > 0:
        count = max(1, most if left is None else min(most, left))
        yield from _from([epochs_block(loader, count, most * len(loader))], start) if most > 1 else feed(loader, start)
        left, start = None if left is None else left - count, 0


def in_blocks(data: Any) -> TypeGuard[DataLoader]:
    """Whether `data` are a loader over plain arrays."""
    return type(data) is DataLoader and data.only_slices and all(map(_is_plain, jax.tree.leaves(data.data)))


def _is_listed(data: Any) -> TypeGuard[Sequence[Any]]:
    return type(data) in (list, tuple)


def _is_plain(part: Any) -> bool:
    if isinstance(part, jax.Array):
        return jnp.issubdtype(part.dtype, jnp.number) and len(part.devices()) == 1
    return type(part) in (np.ndarray, np.memmap) and part.dtype.kind in "biufc"


def _room(bytes_: int) -> int:
    """How many batches of so many bytes a block may hold."""
    return min(BLOCK_STEPS, max(1, BLOCK_BYTES // max(1, bytes_)))


def _loader_room(loader: DataLoader) -> int:
    row = sum(part.nbytes // len(part) for part in jax.tree.leaves(loader.data))
    return _room(min(loader.batch_size, loader.count) * row)


def _blocks(loader: DataLoader) -> Iterator[Any]:
    """One epoch: in one block if it fits, or else in blocks of whole batches and the short batch by itself."""
    room, size = _loader_room(loader), loader.batch_size
    if len(loader) <= room:
        yield epochs_block(loader, 1, len(loader))
        return
    epoch = loader.epoch
    loader.epoch = epoch + 1
    order = None if loader.in_order else loader.indices(epoch)
    whole = loader.count // size
    capacity = _power_of_two(room)

    def rows(first: int, last: int) -> Any:
        return slice(first, last) if order is None else order[first:last]

    for start in range(0, whole, capacity):
        count = min(capacity, whole - start)
        index = rows(start * size, (start + count) * size)
        yield Block(_gathered(loader.data, index, capacity * size), count, size, capacity)
    if loader.partial and loader.count > whole * size:
        yield getobs(loader.data, rows(whole * size, loader.count))


def epochs_at_once(loader: DataLoader) -> int:
    """How many epochs of a loader over plain arrays fit into one block."""
    return _loader_room(loader) // len(loader)


def epochs_block(loader: DataLoader, epochs: int, capacity: int) -> Block:
    """The next epochs of a loader in one block, with room for about `capacity` batches."""
    first, period, size = loader.epoch, len(loader), min(loader.batch_size, loader.count)
    used = loader.count if loader.partial else period * size
    index: Any = slice(0, used)
    if not loader.in_order or epochs > 1:
        index = np.concatenate([loader.indices(epoch)[:used] for epoch in range(first, first + epochs)])
    capacity = _power_of_two(capacity)
    data = _gathered(loader.data, index, capacity * size)
    loader.epoch = first + epochs
    return Block(data, epochs * period, size, capacity, period, period * size - used)


def _listed(batches: Sequence[Any]) -> Iterator[Any]:
    """Batches of a list; those that follow one another and have one outline, in blocks."""
    at = 0
    while at < len(batches):
        first = _block_outline(batches[at])
        room = 1 if first is None else _room(sum(part.nbytes for part in jax.tree.leaves(batches[at])))
        end = at + 1
        while end < min(len(batches), at + room) and _block_outline(batches[end]) == first:
            end += 1
        if end == at + 1:
            yield batches[at]
        else:
            size, capacity = len(jax.tree.leaves(batches[at])[0]), _power_of_two(min(room, len(batches)))
            yield Block(_stacked(batches[at:end], size * capacity), end - at, size, capacity)
        at = end


def outline(batch: Any) -> Hashable:
    """Structure, shapes and dtypes of a batch."""
    parts, structure = jax.tree.flatten(batch)
    return structure, tuple([(part.shape, part.dtype) if hasattr(part, "dtype") else type(part) for part in parts])


def _block_outline(batch: Any) -> Hashable:
    """The outline of a batch that can be part of a block; None for any other."""
    parts = jax.tree.leaves(batch)
    if not parts or not all(_is_plain(part) and np.ndim(part) > 0 and _in_memory(part) for part in parts):
        return None
    if len(parts[0]) == 0 or len({len(part) for part in parts}) > 1:
        return None
    return outline(batch)


def _in_memory(part: Any) -> bool:
    """Whether NumPy can read it without a copy, and it means the same there."""
    return not isinstance(part, jax.Array) or (_platform(part) == "cpu" and not part.weak_type)


def _platform(part: jax.Array) -> str:
    return next(iter(part.devices())).platform


def _stacked(batches: Sequence[Any], length: int) -> Any:
    """The rows of all batches, in arrays of `length` rows."""

    def stack(*parts: Any) -> np.ndarray:
        rows = np.zeros((length, *parts[0].shape[1:]), parts[0].dtype)
        np.concatenate([np.asarray(part) for part in parts], out=rows[: sum(map(len, parts))])
        return rows

    return jax.tree.map(stack, *batches)


def _gathered(data: Any, index: Any, length: int) -> Any:
    return map_parts(partial(_rows, index=index, length=length), data)


def _power_of_two(count: int) -> int:
    """Rounded up, so that data of a little more or less compile nothing new."""
    return 1 << (count - 1).bit_length()


def _rows(part: Any, index: Any, length: int) -> Any:
    """The rows at `index`, in an array of `length` rows."""
    if isinstance(index, slice):
        if index.stop - index.start == length:
            return part[index]
        index = np.arange(index.start, index.stop)
    if isinstance(part, jax.Array):
        if _platform(part) != "cpu":
            return jnp.take(part, np.pad(index, (0, length - len(index))), axis=0)
        part = np.asarray(part)  # the same memory
    rows = np.empty((length, *part.shape[1:]), part.dtype)
    if part.flags.c_contiguous:
        np.take(part, index, axis=0, out=rows[: len(index)], mode="clip")  # in range, and so written without a copy
    else:
        rows[: len(index)] = part[index]  # np.take would copy the whole of it first
    rows[len(index) :] = 0
    return rows


class Loop:
    """The compiled loop over one outline of batches."""

    def __init__(self, program: StepProgram) -> None:
        self.program = program
        self.compiled = jax.jit(self.run, static_argnames=("size", "short"))
        self.calls = 0
        self.pace = 0.0  # seconds per step

    def run(
        self,
        leaves: list[Any],
        optimizer: Any,
        done: Any,
        failed: Any,
        rates: Any,
        seed: Any,
        data: Any,
        period: Any,
        first: Any,
        count: Any,
        *,
        size: int,
        short: int,
    ) -> tuple[dict[int, Any], Any, Any, Any, Any]:
        """The steps on the batches `first` to `first + count` of a block, with `rates[i]` for batch `i`.

        Returns new leaves by index, the optimizer's state, `done`, `failed`, and the stats, row `i` for batch `i`.
        """

        def step(state: tuple[dict[int, Any], Any, Any, Any], i: Any, rows: int) -> tuple[Any, Any]:
            written, optimizer, done, failed = state
            now = [written.get(n, leaf) for n, leaf in enumerate(leaves)]
            start = i * size - i // period * short
            batch = jax.tree.map(lambda part: lax.dynamic_slice_in_dim(part, start, rows), data)
            # Whatever XLA could fuse a cut-out batch into stays as it is in the single step.
            batch = lax.optimization_barrier(batch)
            written, _, optimizer, done, failed, stats, _ = self.program.compiled(
                now, optimizer, done, failed, lax.dynamic_index_in_dim(rates, i, keepdims=False), seed, batch
            )
            return (written, optimizer, done, failed), stats

        def body(i: Any, carry: tuple[Any, Any], rows: int = size) -> tuple[Any, Any]:
            state, stats = step(carry[0], i, rows)
            return state, lax.dynamic_update_index_in_dim(carry[1], stats, i, 0)  # `at` would ask whether it fits

        def epoch(e: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            end = (e + 1) * period - 1  # the short batch
            carry = lax.fori_loop(jnp.maximum(first, e * period), jnp.minimum(last, end), body, carry)
            return lax.cond(end < last, lambda: body(end, carry, size - short), lambda: carry)

        shapes = jax.eval_shape(partial(step, rows=size), ({}, optimizer, done, failed), first)
        written = {i: leaves[i] for i in shapes[0][0]}
        stats = jnp.zeros((len(rates), *shapes[1].shape), shapes[1].dtype)
        carry = (written, optimizer, jnp.asarray(done), jnp.asarray(failed)), stats
        last = first + count
        if short:
            state, stats = lax.fori_loop(first // period, (last + period - 1) // period, epoch, carry)
        else:
            state, stats = lax.fori_loop(first, last, body, carry)
        return *state, stats

    def __call__(
        self, leaves: list[Any], optimizer: Any, done: Any, failed: Any, rates: Any, seed: Any, block: Block, *at: int
    ) -> Any:
        sizes = {"size": block.size, "short": block.short}
        return self.compiled(leaves, optimizer, done, failed, rates, seed, block.data, block.period, *at, **sizes)

    def portion(self, left: int) -> int:
        """How many of `left` steps to take in one call: one while nothing is known of their pace."""
        return max(1, min(left, int(CALL_SECONDS / self.pace))) if self.pace else 1

    def took(self, seconds: float, count: int) -> None:
        """A call of `count` steps took so long. That of the first one is not counted: it was compiled then."""
        self.calls += 1
        if self.calls > 1:
            self.pace = seconds / count


def loop_for(program: StepProgram, calls: Sequence[tuple[Any, ...]], size: int) -> Loop | None:
    """The loop for steps called with any of these arguments, or None where steps are taken one by one.

    One by one go steps that change more of the model than the values of arrays, large ones, and those that contain
    XLA's own convolution on a CPU, which is several times slower inside a loop.
    """
    for args in calls:
        shapes = program.compiled.eval_shape(*args)  # a trace, which the single step and the loop then share
        leaves, optimizer = args[:2]
        written, reshaped, new_optimizer, _, _, _, others = shapes
        before = ([leaves[i] for i in written], optimizer)
        regular = not (reshaped or others.leaves or others.python_places())
        if not regular or _types(before) != _types((list(written.values()), new_optimizer)):
            return None
    if sum(math.prod(np.shape(leaves[i])) for i in program.parameters) * size > LARGE:
        return None
    if jax.default_backend() == "cpu" and _convolves(program, calls[0]):
        return None
    return Loop(program)


def _types(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(x), np.dtype(x.dtype), bool(getattr(x, "weak_type", False))) for x in leaves]


def _convolves(program: StepProgram, args: tuple[Any, ...]) -> bool:
    """Whether XLA's own convolution is left on this platform; the traced step may hold it for another one."""
    traced = program.compiled.trace(*args)
    return "conv_general_dilated" in str(traced.jaxpr) and "stablehlo.convolution" in traced.lower().as_text()
