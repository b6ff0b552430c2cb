"""One training step, compiled: forward, backward, optimizer and metrics in a single program.

`Training` holds what changes from step to step (arrays, optimizer state, step number) outside the model while a
loop runs, and puts it back with `sync`. Nothing is ever half done: the state is replaced in one assignment; a step
whose loss or gradient is not finite changes nothing, and neither do the steps that were already under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, StateError
from fluxion.ops.checks import checking, strict_checking
from fluxion.optim.optimizer import Optimizer
from fluxion.optim.plan import Plan
from fluxion.train.autopsy import check_inputs, explain
from fluxion.transform.compile import ProgramCache
from fluxion.transform.gradient import scalar
from fluxion.transform.modes import gradient_mode
from fluxion.transform.randomness import next_seed, randomness
from fluxion.tree.graph import PARAMETER, Changes, Graph, Working, scan_call

log = logging.getLogger("fluxion")


class Objective(NamedTuple):
    """What a step minimizes: `loss(model, *batch)`, or `loss(model(*inputs), target)` when `by_prediction`."""

    loss: Callable[..., Any]
    by_prediction: bool = False
    metrics: tuple[Callable[[Any, Any], Any], ...] = ()

    def __call__(self, model: Any, batch: Any) -> tuple[Any, list[Any]]:
        """What the loss function returns, and the metrics."""
        parts = as_arguments(batch)
        if not self.by_prediction:
            return self.loss(model, *parts), []
        *inputs, target = parts
        prediction = model(*inputs)
        return self.loss(prediction, target), [metric(prediction, target) for metric in self.metrics]


def as_arguments(batch: Any) -> tuple[Any, ...]:
    """A tuple or list is a batch of several parts; a dict, an array or anything else is one part."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


class State(NamedTuple):
    """What one step hands to the next."""

    leaves: list[Any]
    optimizer: Any
    failed: Any  # on the device: True from the first step on that was not finite
    step: int


class Stats(NamedTuple):
    """What is read back from a step: one small array `[loss, applied, *metrics]`."""

    batch: Any
    step: int
    array: Any


class StepProgram:
    """The compiled step for one objective, one structure of model and one plan of optimization."""

    def __init__(self, template: Graph, plan: Plan, check: bool) -> None:
        self.template = template
        self.plan = plan
        self.check = check
        self.parameters = template.indices(PARAMETER)
        self.active = [i for n, i in enumerate(self.parameters) if n not in plan.frozen]
        self.traces = 0
        self.shapes: Any = None  # of the batch it was traced for last
        self.compiled = jax.jit(self.run)

    def run(
        self, leaves: list[Any], optimizer: Any, failed: Any, rates: Any, seed: Any, step: Any, batch: Any
    ) -> tuple[dict[int, Any], Any, Any, Any, Changes]:
        """The step: new leaves by index, optimizer state, failed, stats, and other changes to the model's objects."""
        self.traces += 1
        key = jax.random.fold_in(jax.random.key(seed), step)

        def objective(trained: list[Any]) -> tuple[Any, Any]:
            working = self.template.build(self.with_active(leaves, trained))
            loss, metrics = self.call(working, key, batch)
            replaced: dict[int, Any] = {}
            others = working.changes(replaced)
            return loss, (metrics, replaced, others)

        trained = [leaves[i] for i in self.active]
        (loss, (metrics, written, others)), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        ok = jnp.stack([jnp.isfinite(loss), *(jnp.isfinite(g).all() for g in grads)]).all() & ~failed

        by_leaf = dict(zip(self.active, grads, strict=True))
        parameters = [leaves[i] for i in self.parameters]
        gradients = [by_leaf.get(i) for i in self.parameters]
        updated, new_optimizer = self.plan.apply(parameters, gradients, optimizer, rates)
        written.update({i: leaf for i, leaf in zip(self.parameters, updated, strict=True) if i in by_leaf})

        def keep(new: Any, old: Any) -> Any:
            return jnp.where(ok, new, old) if np.shape(new) == np.shape(old) else new

        written = {i: keep(leaf, leaves[i]) for i, leaf in written.items()}
        new_optimizer = jax.tree.map(keep, new_optimizer, optimizer)
        stats = jnp.stack([loss, ok.astype(loss.dtype), *(jnp.asarray(m).astype(loss.dtype) for m in metrics)])
        return written, new_optimizer, ~ok, stats, others

    def with_active(self, leaves: Sequence[Any], trained: Sequence[Any]) -> list[Any]:
        leaves = list(leaves)
        for i, leaf in zip(self.active, trained, strict=True):
            leaves[i] = leaf
        return leaves

    def call(self, working: Working, key: Any, batch: Any) -> tuple[Any, list[Any]]:
        """The loss and the metrics, in training mode, of a working copy."""
        objective, model = working.roots
        with gradient_mode(True), randomness(key), checking(self.check), strict_checking(self.check):
            loss, metrics = objective(model, batch)
        loss = loss[0] if isinstance(loss, tuple) and loss else loss
        return scalar(loss), metrics


_programs: ProgramCache[StepProgram] = ProgramCache(64)


class Training:
    """A run of steps over one model and one optimizer; see the module's first lines."""

    def __init__(self, objective: Objective, model: Any, opt: Optimizer, *, check: bool = True) -> None:
        if not isinstance(opt, Optimizer):
            raise ArgumentError(
                f"train: expected an optimizer, got {opt!r}. Call opt = fx.setup(rule, model) once first, "
                "outside the loop, and pass opt."
            )
        self.objective = objective
        self.model = model
        self.opt = opt
        self.check = check
        if opt.seed is None:
            opt.seed = next_seed()
        self.pending: list[Stats] = []
        self.results: list[np.ndarray] = []  # `[loss, applied, *metrics]` of each completed step
        self.attach()

    def attach(self) -> None:
        """Take the model and the optimizer as they are now."""
        self.graph = scan_call(self.objective, (self.model,))
        paths = [self.graph.paths[i] for i in self.graph.indices(PARAMETER)]
        if paths != self.opt.paths:
            raise StateError(
                f"train: the optimizer was set up for other parameters: {_difference(self.opt.paths, paths)}. "
                "Call fx.setup(rule, model) for this model."
            )
        plan = self.opt.signature()
        settings = (self.check, jax.config.jax_enable_x64)
        self.key = (plan, settings)
        self.program = _programs.get(
            (self.graph.key(), self.key), lambda: StepProgram(self.graph.template(), plan, self.check)
        )
        leaves = [_strong(leaf) for leaf in self.graph.leaves]
        self.changed: set[int] = set()
        self.state = State(leaves, self.opt.state, np.zeros((), bool), self.opt.step)
        self.completed = self.opt.step

    def step(self, batch: Any) -> None:
        """Start one step; errors of the step before surface here."""
        state, program = self.state, self.program
        shapes = jax.tree.map(_shape_dtype, batch)
        new_shapes = shapes != program.shapes
        if new_shapes and self.check:
            check_inputs(batch, state.step)
        self.opt.step = state.step  # what schedules are read at
        traces = program.traces
        written, optimizer, failed, stats, others = program.compiled(
            state.leaves, state.optimizer, state.failed, self.opt.rates(), self.opt.seed, state.step, batch
        )
        traced = program.traces != traces
        if traced and traces > 0 and program.shapes is not None and new_shapes:
            log.warning("fluxion: the step is compiled again: %s", _batch_change(program.shapes, shapes))
        program.shapes = shapes
        leaves = list(state.leaves)
        for i, leaf in written.items():
            leaves[i] = leaf
        self.changed.update(written)
        self.state = State(leaves, optimizer, failed, state.step + 1)  # the step is done, in one assignment
        self.pending.append(Stats(batch, state.step, stats))
        if others.leaves or (traced and others.has_static()):
            self.apply_others(others, traced)
        elif len(self.pending) > 1:
            self.settle()

    def settle(self) -> np.ndarray:
        """Wait for the oldest step under way and return its `[loss, applied, *metrics]`; raise if it was not finite."""
        stats = self.pending[0]
        values = np.asarray(stats.array)
        if values[1] == 0:
            self.pending.clear()
            self.sync()
            key = jax.random.fold_in(jax.random.key(self.opt.seed), stats.step)
            raise explain(self.program, self.state.leaves, key, stats.batch, stats.step, float(values[0]))
        self.pending.pop(0)
        self.completed = stats.step + 1
        self.results.append(values)
        return values

    def last_loss(self) -> float | None:
        """The loss of the last step that is known to be complete."""
        return float(self.results[-1][0]) if self.results else None

    def apply_others(self, others: Changes, traced: bool) -> None:
        """Changes that are no new value of an old array: repeat them on the model itself, and look at it afresh."""
        while self.pending:
            self.settle()
        self.sync()
        others.apply(self.graph.nodes, arrays_only=not traced)
        if traced and not others.leaves:  # the trace changed a Python value that is part of the key
            _programs.also((scan_call(self.objective, (self.model,)).key(), self.key), self.program)
        self.attach()

    def finish(self) -> None:
        """Wait for all steps under way."""
        while self.pending:
            self.settle()

    def sync(self) -> None:
        """Put the arrays and the optimizer's state of the last completed step into the model and the optimizer."""
        for stats in self.pending:
            if np.asarray(stats.array)[1] != 0:
                self.completed = stats.step + 1
        state = self.state
        if self.changed:
            fresh = [state.leaves[i] if i in self.changed else leaf for i, leaf in enumerate(self.graph.leaves)]
            self.graph.assign(fresh)
            self.graph.leaves = fresh
            self.changed = set()
        self.opt.state, self.opt.step = state.optimizer, self.completed


def _strong(leaf: Any) -> Any:
    """The leaf on the device, and not weakly typed: a weak type would change after the first step and compile again."""
    if isinstance(leaf, np.ndarray) or getattr(leaf, "weak_type", False):
        return jnp.asarray(leaf, dtype=jax.dtypes.canonicalize_dtype(leaf.dtype))
    return leaf


def _shape_dtype(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype.name) if hasattr(leaf, "dtype") else type(leaf).__name__


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


def _difference(expected: Sequence[str], got: Sequence[str]) -> str:
    gone = [path for path in expected if path not in got]
    new = [path for path in got if path not in expected]
    parts = [f"{', '.join(gone)} missing from the model"] if gone else []
    parts += [f"{', '.join(new)} not known to the optimizer"] if new else []
    return "; ".join(parts) or "their order differs"
