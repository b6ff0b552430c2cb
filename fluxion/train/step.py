"""One training step, compiled: forward, backward, optimizer and metrics in a single program.

`Training` holds what changes from step to step (arrays, optimizer state, step number) outside the model while a
loop runs, and puts it back with `sync`. Nothing is ever half done: the state is replaced in one assignment; a step
whose loss or gradient is not finite changes nothing, and neither do the steps that were already under way.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxion.errors import ArgumentError, ShapeError
from fluxion.interrupts import uninterrupted
from fluxion.ops.checks import checking, strict_checking
from fluxion.optim.optimizer import Optimizer, check_parameters
from fluxion.optim.plan import Plan
from fluxion.train.autopsy import check_inputs, check_types, explain
from fluxion.train.columns import Column, by_epoch, checked, columns_of, packed, split_loss
from fluxion.train.steps import Block, Loop, feed, loop_for, outline
from fluxion.transform import threefry
from fluxion.transform.compile import ProgramCache, awaited, shapes_of
from fluxion.transform.gradient import scalar
from fluxion.transform.modes import gradient_mode
from fluxion.transform.randomness import next_seed, randomness
from fluxion.tree.changes import Changes, find_changes
from fluxion.tree.graph import PARAMETER, Graph, Working, replace_at

log = logging.getLogger("fluxion")


class Objective(NamedTuple):
    """What a step minimizes: `loss(model, *batch)`, or `loss(model(*inputs), target)` when `by_prediction`."""

    loss: Callable[..., Any]
    by_prediction: bool = False
    metrics: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = ()

    def __call__(self, model: Any, batch: Any) -> tuple[Any, Mapping[str, Any]]:
        """The loss, and by name what it returns beside it and the metrics."""
        parts = as_arguments(batch)
        if not self.by_prediction:
            return split_loss(self.loss(model, *parts))
        *inputs, target = parts
        prediction = model(*inputs)
        loss, named = split_loss(self.loss(prediction, target))
        return loss, named | checked({name: metric(prediction, target) for name, metric in self.metrics})


def as_arguments(batch: Any) -> tuple[Any, ...]:
    """A tuple or list is a batch of several parts; a dict, an array or anything else is one part."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


class State(NamedTuple):
    """What one step hands to the next."""

    leaves: list[Any]
    optimizer: Any
    done: Any  # on the device: the number of steps applied, in all
    failed: Any  # on the device: True from the first step on that was not finite
    step: int  # the number of steps started
    others: tuple[Changes, bool] | None = None  # what else it changed in the model's objects, and whether it was traced


class Stats(NamedTuple):
    """What is read back from a step: one small array `[loss, applied, ...]` (`columns.py`); from a loop, such rows."""

    batch: Any  # or the block
    step: int
    array: Any
    rows: range | None = None  # those of the steps made, numbered as the batches of the block
    loop: Loop | None = None
    started: float = 0.0


class StepProgram:
    """The compiled step for one objective, one structure of model and one plan of optimization."""

    def __init__(self, template: Graph, plan: Plan, check: bool) -> None:
        self.template = template
        self.plan = plan
        self.check = check
        self.parameters = template.indices(PARAMETER)
        self.active = [i for n, i in enumerate(self.parameters) if n not in plan.frozen]
        self.traced: list[tuple[Any, Any]] = []  # what it was compiled for: shapes of the leaves and of the batch
        self.example: tuple[Any, ...] | None = None
        self.used = 0
        self.checked: set[Any] = set()  # outlines of batches whose values were looked at
        self.told = 0  # how many of the traces have done to the model's objects what they do to them
        self.loops: dict[Any, Loop | None] = {}  # by outline of batch and block
        self.columns: tuple[Column, ...] | None = None  # what the rows hold after the loss; known once it is traced
        self.compiled = jax.jit(self.run)

    def run(
        self, leaves: list[Any], optimizer: Any, done: Any, failed: Any, rates: Any, seed: Any, batch: Any
    ) -> tuple[dict[int, Any], dict[int, Any], Any, Any, Any, Any, Changes]:
        """The step.

        Returns new leaves by index, new leaves of another shape than the old, the optimizer's state, `done`, `failed`,
        stats, and other changes to the model's objects.
        """
        self.example = shapes_of(leaves, optimizer, done, failed, rates, seed, batch)
        self.traced.append((list(map(_shape_dtype, leaves)), jax.tree.map(_shape_dtype, batch)))
        key = jax.random.fold_in(jax.random.wrap_key_data(seed), done)

        def objective(trained: list[Any]) -> tuple[Any, Any]:
            working = self.template.build(self.with_active(leaves, trained))
            loss, named = self.call(working, key, batch)
            replaced: dict[int, Any] = {}
            others = find_changes(working, replaced)
            return loss, (named, replaced, others)

        trained = [leaves[i] for i in self.active]
        (loss, (named, written, others)), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        ok = _all_finite(failed, loss, *grads)

        by_leaf = dict(zip(self.active, grads, strict=True))
        parameters = [leaves[i] for i in self.parameters]
        gradients = [by_leaf.get(i) for i in self.parameters]
        updated, new_optimizer = self.plan.apply(parameters, gradients, optimizer, rates)
        written.update({i: leaf for i, leaf in zip(self.parameters, updated, strict=True) if i in by_leaf})

        def keep(new: Any, old: Any) -> Any:
            return jnp.where(ok, new, old)

        reshaped = {i: leaf for i, leaf in written.items() if np.shape(leaf) != np.shape(leaves[i])}
        written = {i: keep(leaf, leaves[i]) for i, leaf in written.items() if i not in reshaped}
        new_optimizer = jax.tree.map(keep, new_optimizer, optimizer)
        precise = jnp.promote_types(loss.dtype, jnp.float32)  # in which a mean over batches is exact enough
        self.columns = columns_of(named)
        stats = packed([loss, ok], named, precise)
        return written, reshaped, new_optimizer, done + ok, ~ok, stats, others

    def with_active(self, leaves: Sequence[Any], trained: Sequence[Any]) -> list[Any]:
        return replace_at(leaves, self.active, trained)

    def call(self, working: Working, key: Any, batch: Any) -> tuple[Any, Mapping[str, Any]]:
        """The loss and the named numbers, in training mode, of a working copy."""
        objective, model = working.roots
        with gradient_mode(True), randomness(key), checking(self.check), strict_checking(self.check):
            loss, named = objective(model, batch)
        return scalar(loss), named


_programs: ProgramCache[StepProgram] = ProgramCache(64)


class Training:
    """A run of steps over one model and one optimizer; see the module's first lines."""

    def __init__(self, objective: Objective, model: Any, opt: Optimizer, *, check: bool = True) -> None:
        if not isinstance(opt, Optimizer):
            raise ArgumentError(
                f"train: expected an optimizer, got {opt!r}. Call opt = fx.setup(rule, model) once first, "
                "outside the loop, and pass opt."
            )
        if not callable(objective.loss):
            raise ArgumentError(
                f"train: expected a loss function, got {objective.loss!r}. The order is loss, model, data, opt."
            )
        self.objective = objective
        self.model = model
        self.opt = opt
        self.check = check
        if opt.seed is None:
            opt.seed = next_seed()
        self.seed = _seed_data(opt.seed, *_settings())
        self.pending: list[Stats] = []
        self.results: list[np.ndarray] = []  # rows `[loss, applied, ...]` of the completed steps
        self.begun = opt.step  # the number of steps, in all, before the first of `results`
        self.settled = 0.0  # when the last result came
        self.attach()

    def attach(self) -> None:
        """Take the model and the optimizer as they are now."""
        plan = self.opt.signature()
        self.settings = (plan, (self.check, jax.config.read("jax_enable_x64")))
        self.graph, self.program = _programs.of_call(
            self.objective, (self.model,), self.settings, lambda graph: StepProgram(graph.template(), plan, self.check)
        )
        leaves = [_strong(leaf) for leaf in self.graph.leaves]
        check_parameters("train", self.opt, [(self.graph.paths[i], leaves[i]) for i in self.program.parameters])
        self.changed: set[int] = set()
        self.state = State(leaves, self.opt.state, np.int32(self.opt.step), np.zeros((), bool), self.opt.step)
        self.synced = self.state  # what the model and the optimizer hold
        self.accepted = self.opt.step  # the number of steps, in all, that are known to be applied

    def step(self, batch: Any) -> None:
        """Start one step; errors of the step before surface here."""
        state, program = self.state, self.program
        batch = as_batch(batch)
        self.look_at(batch, outline(batch))
        written, reshaped, optimizer, done, failed, array, others = program.compiled(
            state.leaves, state.optimizer, state.done, state.failed, self.rates(), self.seed, batch
        )
        traced = self.traced()
        stats = Stats(batch, state.step, array)
        places = others.python_places() if traced else None
        if places:
            _programs.varies(self.graph, self.settings, places, program)
        regular = not (reshaped or others.leaves or places)
        if not regular:  # `failed` does not hold these changes back: they wait for the step
            self.finish()
            self.accept(stats)
        leaves = list(state.leaves)
        for i, leaf in (written | reshaped).items():
            leaves[i] = leaf
        self.changed.update(written, reshaped)
        more = None if regular else (others, traced)
        self.state = State(leaves, optimizer, done, failed, state.step + 1, more)  # the step is done: one assignment
        if not regular:
            self.sync()
            self.attach()  # not only arrays of the model were changed: look at it afresh
            return
        self.pending.append(stats)
        if len(self.pending) > 1:
            self.settle()

    def take(self, piece: Any) -> None:
        """A step on a batch, or on each batch of a block."""
        if isinstance(piece, Block):
            self.steps(piece, piece.first)
        else:
            self.step(piece)

    def steps(self, block: Block, first: int = 0, last: int | None = None) -> None:
        """Start a step on each batch of a block: in a loop on the device where that is of use, or one by one.

        Or on those from number `first` up to, not including, `last`.
        """
        last = block.count if last is None else last
        batches = _kinds(block)
        self.look_at(batches[0], outline(batches[0]))
        key = _loop_key(block)
        if key not in self.program.loops:
            state = self.state
            args = (state.leaves, state.optimizer, state.done, state.failed, self.rates(), self.seed)
            calls = [(*args, batch) for batch in batches]
            self.program.compiled.eval_shape(*calls[0])
            known = len(self.program.traced)
            self.program.loops[key] = loop_for(self.program, calls, block.size)
            del self.program.traced[known:]  # the short batch is part of the same program: nothing to be announced
        loop = self.program.loops[key]
        if loop is None:
            for i in range(first, last):
                self.step(block.batch(i))
            return
        self.traced()
        while first < last:
            first += self.loop(loop, block, first, last)

    def pace(self, block: Block) -> float:
        """The seconds that a step on such a block takes, 0 where they are not known."""
        loop = self.program.loops.get(_loop_key(block))
        return 0.0 if loop is None else loop.pace

    def loop(self, loop: Loop, block: Block, first: int, last: int) -> int:
        """Start some of the steps of a block, from batch `first` on and before `last`; returns how many."""
        state = self.state
        count = loop.portion(last - first)
        rates = self.rates(range(first, first + count), block.capacity)
        started = perf_counter()
        written, optimizer, done, failed, array = loop(
            state.leaves, state.optimizer, state.done, state.failed, rates, self.seed, block, first, count
        )
        rows = range(first, first + count)
        leaves = list(state.leaves)
        for i, leaf in written.items():
            leaves[i] = leaf
        self.changed.update(written)
        self.state = State(leaves, optimizer, done, failed, state.step + count)
        self.pending.append(Stats(block, state.step, array, rows, loop, started))
        if len(self.pending) > 1:
            self.settle()
        return count

    def look_at(self, batch: Any, its_outline: Hashable) -> None:
        """Check the values of the first batch of each outline."""
        if its_outline not in self.program.checked:
            check_types(batch)
            if self.check:
                check_inputs(batch, self.state.step)
            self.program.checked.add(its_outline)

    def traced(self) -> bool:
        """Whether the step has been traced since this was asked last; a trace for another shape is announced."""
        program = self.program
        traced, program.told = len(program.traced) != program.told, len(program.traced)
        if traced:
            _announce(program.traced)
        return traced

    def rates(self, rows: range | None = None, length: int = 0) -> Any:
        """The learning rates of the next step, on the device; put there anew only where they have changed.

        With `rows`, those of as many steps as there are rows, in these rows of an array of `length`.
        """
        first = self.state.step
        self.opt.step = first  # what schedules are read at
        rates = self.opt.rates()
        if rows is not None:
            rates = np.full((length, len(rates)), rates)
            if self.opt.has_schedule:
                for k, row in enumerate(rows):
                    self.opt.step = first + k
                    rates[row] = self.opt.rates()
                self.opt.step = first
        return _on_device(rates.tobytes(), rates.shape, *_settings())

    def settle(self) -> None:
        """Wait for the oldest step under way; raise if it was not finite."""
        self.accept(self.pending[0])
        self.pending.pop(0)

    def accept(self, stats: Stats) -> None:
        """Read what a step gave, or several; raise at the first that was not finite."""
        values = _rows(stats)
        if stats.loop is not None:
            now = perf_counter()
            stats.loop.took(now - max(stats.started, self.settled), len(values))
            self.settled = now
        if not values[:, 1].all():
            k = int(np.argmin(values[:, 1]))
            self.results.append(values[:k])
            step, batch = stats.step + k, stats.batch
            if stats.rows is not None:
                batch = batch.batch(stats.rows[k])
            key = jax.random.fold_in(jax.random.wrap_key_data(self.seed), step)
            raise explain(self.program, self.state.leaves, key, batch, step, float(values[k, 0]))
        self.results.append(values)
        self.accepted += len(values)

    def again(self) -> None:
        """Begin another epoch with the model as the last one left it."""
        self.results, self.begun = [], self.opt.step

    def values(self) -> np.ndarray:
        """A row `[loss, applied, ...]` for each completed step."""
        return np.concatenate(self.results) if self.results else np.zeros((0, 2))

    def columns(self, batch: Any) -> tuple[Column, ...]:
        """What the rows hold after their first two entries; `batch` is one to trace the step with, if none was yet."""
        if self.program.columns is None:
            state = self.state
            args = (state.leaves, state.optimizer, state.done, state.failed, self.rates(), self.seed, batch)
            self.program.compiled.eval_shape(*args)
        assert self.program.columns is not None
        return self.program.columns

    def numbers(self, batch: Any) -> dict[str, float]:
        """The loss and the named numbers over the completed steps, each on a batch of the length of `batch`."""
        rows = self.values()
        return by_epoch(self.columns(batch), rows[None], [1] * len(rows))[0]

    def last_loss(self) -> float | None:
        """The loss of the last step that is known to be complete."""
        return float(self.results[-1][-1, 0]) if self.results else None

    def finish(self) -> None:
        """Wait for all steps under way."""
        while self.pending:
            self.settle()

    def sync(self) -> None:
        """Put the arrays and the optimizer's state of the last completed step into the model and the optimizer.

        May be interrupted and called again.
        """
        state = self.state
        if state is self.synced:
            return
        done = state.step if self.accepted == state.step else int(state.done)
        if self.changed:
            fresh = [state.leaves[i] if i in self.changed else leaf for i, leaf in enumerate(self.graph.leaves)]
            self.graph.assign(fresh)
            self.graph.leaves, self.changed = fresh, set()
        if state.others is not None:
            others, traced = state.others
            others.apply(self.graph.nodes, arrays_only=not traced)
        self.opt.state, self.opt.step = state.optimizer, done
        self.synced = state

    def recover(self) -> None:
        """`sync` after an exception, with `values` of exactly the steps done; a second Ctrl-C does not come between."""
        with uninterrupted():
            self.opt.step = self.synced.step
            self.sync()
            known = self.begun + sum(map(len, self.results))
            for stats in self.pending:
                self.results.append(_rows(stats)[known - stats.step :])
                known += len(self.results[-1])
            self.pending, self.results = [], [self.values()[: self.opt.step - self.begun]]

    def run(self, batches: Iterable[Any]) -> None:
        """A step on each batch, and `sync`, whatever happens; `batches` may be a loader."""
        try:
            for piece in feed(batches):
                self.take(piece)
            self.finish()
            self.sync()  # not in a finally clause: an interrupt at its very beginning would skip it
        except BaseException:
            self.recover()
            raise


def _rows(stats: Stats) -> np.ndarray:
    """A row of numbers for each step, once the device has them."""
    values = np.asarray(awaited(stats.array))
    return values[None] if stats.rows is None else values[stats.rows.start : stats.rows.stop]


def _kinds(block: Block) -> list[Any]:
    """A batch of each size that there is in a block."""
    return [block.batch(0), block.batch(block.count - 1)][: 2 if block.short else 1]


def _loop_key(block: Block) -> Hashable:
    return tuple(map(outline, _kinds(block))), block.capacity


def _all_finite(failed: Any, *arrays: Any) -> Any:
    """Whether all numbers are finite, and nothing has failed.

    Zeros times finite numbers add up to 0, others to NaN: XLA is quick at sums. That of the sums is taken by sorting,
    where NaN comes last, because XLA would repeat a plain one in the update of every array.
    """
    sums = [jnp.where(failed, jnp.nan, 0.0), *(jnp.sum(array * 0) for array in arrays)]
    return jnp.isfinite(lax.sort(jnp.stack([jnp.real(x).astype(jnp.float32) for x in sums]))[-1])


def _settings() -> tuple[Any, ...]:
    """What the data of a random key depend on beside its number."""
    config: Any = jax.config
    return config.jax_default_prng_impl, config.jax_enable_x64, config.jax_default_device


@functools.lru_cache(maxsize=64)
def _seed_data(seed: int, *settings: Any) -> Any:
    """The key of a run of steps, as plain data; kept, for making it takes as long as a small step."""
    return jax.random.key_data(threefry.make_key(seed))


@functools.lru_cache(maxsize=64)
def _on_device(rates: bytes, shape: tuple[int, ...], *settings: Any) -> Any:
    """Learning rates on the device; kept, as they seldom change."""
    return jax.device_put(np.frombuffer(rates).reshape(shape).astype(jnp.result_type(float)))


def _strong(leaf: Any) -> Any:
    """The leaf on the device, and not weakly typed: a weak type would change after the first step and compile again."""
    if isinstance(leaf, np.ndarray) or getattr(leaf, "weak_type", False):
        return jnp.asarray(leaf, dtype=jax.dtypes.canonicalize_dtype(leaf.dtype))
    return leaf


def as_batch(batch: Any) -> Any:
    """The batch with its lists of Python numbers as arrays."""
    if isinstance(batch, (tuple, list)):
        return tuple(map(_as_part, batch)) if any(isinstance(part, list) for part in batch) else batch
    if isinstance(batch, dict):
        return {key: _as_part(part) for key, part in batch.items()}
    return batch


def _as_part(part: Any) -> Any:
    if not isinstance(part, list) or not all(
        isinstance(x, (bool, int, float, np.generic)) for x in jax.tree.leaves(part)
    ):
        return part
    try:
        return np.array(part)
    except ValueError:
        raise ShapeError("batch: expected a list of rows of equal length, got rows of several lengths.") from None


def _shape_dtype(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype.name) if hasattr(leaf, "dtype") else type(leaf).__name__


def _announce(traced: list[tuple[Any, Any]]) -> None:
    """Say why the step of one and the same model was compiled once more."""
    if len(traced) > 1:
        (model_before, before), (model, after) = traced[-2:]
        if model == model_before and before != after:
            log.warning("fluxion: the step is compiled again: %s", _batch_change(before, after))


def _batch_change(before: Any, after: Any) -> str:
    """`batch[0] was float32[32,784] and is float32[16,784].`"""
    leaves = jax.tree_util.tree_flatten_with_path(after, is_leaf=_is_shape_dtype)[0]
    old = dict(jax.tree_util.tree_flatten_with_path(before, is_leaf=_is_shape_dtype)[0])
    for path, now in leaves:
        if old.get(path) != now:
            name = "batch" + jax.tree_util.keystr(path)
            return f"{name} was {_written(old.get(path))} and is {_written(now)}."
    return "the structure of the batch changed."


def _is_shape_dtype(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str)


def _written(spec: Any) -> str:
    return f"{spec[1]}[{','.join(map(str, spec[0]))}]" if isinstance(spec, tuple) else str(spec)
