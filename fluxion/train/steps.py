"""Many short steps as one executable: a loop over the batches of a block, compiled around the compiled step.

A step of a small network takes microseconds, and starting it from Python takes longer. Where the data are a
`DataLoader` over arrays, `feed` hands out blocks of whole batches, and a `Loop` makes the steps of a block on the
device. Its body is the very program of the single step, so that both give the same bits on the CPU; whether a loop
is used depends on model and data alone (`loop_for`), never on a clock. Only how many steps go into one call, which
changes no number, follows from the time they take: a call lasts a tenth of a second, so that Ctrl-C and the progress
display are not kept waiting.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxion.data.arrays import getobs, map_parts
from fluxion.data.loader import DataLoader

if TYPE_CHECKING:
    from fluxion.train.step import StepProgram

BLOCK_BYTES = 2**22  # of data in a block, so that they stay in the processor's cache
BLOCK_STEPS = 2**10  # in a block at most
CALL_SECONDS = 0.1  # that one call may take
LARGE = 2**28  # parameters times observations, from which on a step is so long that a loop gains nothing


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Whole batches, one behind the other, in arrays of `capacity * size` rows of which the last may be unused."""

    data: Any
    count: int
    size: int
    capacity: int

    def batch(self, i: int) -> Any:
        return jax.tree.map(lambda part: part[i * self.size : (i + 1) * self.size], self.data)


def feed(data: Iterable[Any]) -> Iterator[Any]:
    """What an epoch consists of: blocks where `data` are a loader over arrays, batches otherwise."""
    return _blocks(data) if in_blocks(data) else iter(data)


def in_blocks(data: Any) -> TypeGuard[DataLoader]:
    """Whether `data` are a loader of at least two whole batches of plain arrays."""
    if type(data) is not DataLoader or data.collate is not None or data.count < 2 * data.batch_size:
        return False
    return all(map(_is_plain, jax.tree.leaves(data.data)))


def _is_plain(part: Any) -> bool:
    if isinstance(part, jax.Array):
        return jnp.issubdtype(part.dtype, jnp.number) and len(part.devices()) == 1
    return type(part) in (np.ndarray, np.memmap) and part.dtype.kind in "biufc"


def _blocks(loader: DataLoader) -> Iterator[Any]:
    epoch, size = loader.epoch, loader.batch_size
    loader.epoch = epoch + 1
    order = loader.indices(epoch) if loader.shuffle else None
    whole = loader.count // size
    bytes_ = size * sum(part.nbytes // len(part) for part in jax.tree.leaves(loader.data))
    capacity = _power_of_two(min(whole, BLOCK_STEPS, max(1, BLOCK_BYTES // max(1, bytes_))))

    def rows(first: int, last: int) -> Any:
        return slice(first, last) if order is None else order[first:last]

    for start in range(0, whole, capacity):
        count = min(capacity, whole - start)
        index = rows(start * size, (start + count) * size)
        rows_of = partial(_rows, index=index, length=capacity * size)
        yield Block(map_parts(rows_of, loader.data), count, size, capacity)
    if loader.partial and loader.count > whole * size:
        yield getobs(loader.data, rows(whole * size, loader.count))


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
        if next(iter(part.devices())).platform != "cpu":
            return jnp.take(part, np.pad(index, (0, length - len(index))), axis=0)
        part = np.asarray(part)  # the same memory
    rows = np.empty((length, *part.shape[1:]), part.dtype)
    np.take(part, index, axis=0, out=rows[: len(index)], mode="clip")  # in range, and so written without a copy
    rows[len(index) :] = 0
    return rows


class Loop:
    """The compiled loop over one outline of batches."""

    def __init__(self, program: StepProgram) -> None:
        self.program = program
        self.compiled = jax.jit(self.run, static_argnames="size")
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
        first: Any,
        count: Any,
        *,
        size: int,
    ) -> tuple[dict[int, Any], Any, Any, Any, Any]:
        """The steps on the batches `first` to `first + count` of a block, with `rates[i]` for batch `i`.

        Returns new leaves by index, the optimizer's state, `done`, `failed`, and the stats, row `i` for batch `i`.
        """

        def batch(i: Any) -> Any:
            return jax.tree.map(lambda part: lax.dynamic_slice_in_dim(part, i * size, size), data)

        def step(carry: tuple[dict[int, Any], Any, Any, Any], i: Any) -> tuple[Any, Any]:
            written, optimizer, done, failed = carry
            now = [written.get(n, leaf) for n, leaf in enumerate(leaves)]
            # Whatever XLA could fuse a cut-out batch into stays as it is in the single step.
            one = lax.optimization_barrier(batch(i))
            written, _, optimizer, done, failed, stats, _ = self.program.compiled(
                now, optimizer, done, failed, rates[i], seed, one
            )
            return (written, optimizer, done, failed), stats

        def body(i: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, stats = step(carry[0], i)
            return state, carry[1].at[i].set(stats)

        shapes = jax.eval_shape(step, ({}, optimizer, done, failed), first)
        written = {i: leaves[i] for i in shapes[0][0]}
        stats = jnp.zeros((len(rates), *shapes[1].shape), shapes[1].dtype)
        start = (written, optimizer, jnp.asarray(done), jnp.asarray(failed))
        state, stats = lax.fori_loop(first, first + count, body, (start, stats))
        return *state, stats

    def __call__(
        self, leaves: list[Any], optimizer: Any, done: Any, failed: Any, rates: Any, seed: Any, block: Block, *at: int
    ) -> Any:
        return self.compiled(leaves, optimizer, done, failed, rates, seed, block.data, *at, size=block.size)

    def portion(self, left: int) -> int:
        """How many of `left` steps to take in one call: one while nothing is known of their pace."""
        return max(1, min(left, int(CALL_SECONDS / self.pace))) if self.pace else 1

    def took(self, seconds: float, count: int) -> None:
        """A call of `count` steps took so long. That of the first one is not counted: it was compiled then."""
        self.calls += 1
        if self.calls > 1:
            self.pace = seconds / count


def loop_for(program: StepProgram, args: tuple[Any, ...], block: Block) -> Loop | None:
    """The loop for steps called with `args`, or None where steps are taken one by one.

    One by one go steps that change more of the model than the values of arrays, large ones, and those that contain
    XLA's own convolution on a CPU, which is several times slower inside a loop.
    """
    shapes = program.compiled.eval_shape(*args)  # a trace, which the single step and the loop then share
    leaves, optimizer = args[:2]
    written, reshaped, new_optimizer, _, _, _, others = shapes
    before = ([leaves[i] for i in written], optimizer)
    regular = not (reshaped or others.leaves or others.python_places())
    if not regular or _types(before) != _types((list(written.values()), new_optimizer)):
        return None
    if sum(math.prod(np.shape(leaves[i])) for i in program.parameters) * block.size > LARGE:
        return None
    if jax.default_backend() == "cpu" and _convolves(program, args):
        return None
    return Loop(program)


def _types(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(x), np.dtype(x.dtype), bool(getattr(x, "weak_type", False))) for x in leaves]


def _convolves(program: StepProgram, args: tuple[Any, ...]) -> bool:
    """Whether XLA's own convolution is left on this platform; the traced step may hold it for another one."""
    traced = program.compiled.trace(*args)
    return "conv_general_dilated" in str(traced.jaxpr) and "stablehlo.convolution" in traced.lower().as_text()
