"""The optimizer of a model: rules bound to parameters, with their state, learning rates and frozen parts.

    opt = fx.setup(fx.Adam(1e-3), model)
    grads = fx.gradient(loss, model)[0]
    fx.update(opt, model, grads)              # changes opt and model

Everything static is in a `Plan` (`plan.py`), which a compiled training step runs; this file is what stays on the host.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, StateError, nearest, user_frames
from fluxion.optim.base import LearningRate, Rule, check_learning_rate, owns_learning_rate
from fluxion.optim.chain import AccumGrad, OptimizerChain, check_rule, flat, show
from fluxion.optim.plan import Group, Plan
from fluxion.transform.gradient import Gradients
from fluxion.tree.graph import LeafRef, extend_path
from fluxion.tree.layer import path_of
from fluxion.tree.model import set_trainables, trainables, with_trainables
from fluxion.tree.protocol import Identity
from fluxion.tree.selectors import describe, select
from fluxion.tree.walk import scan

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array

    AnyRule: TypeAlias = Rule | optax.GradientTransformation


class Snapshot(NamedTuple):
    """A copy of what stepping changes in an optimizer."""

    state: Any
    step: int


class Optimizer:
    """Rules bound to the parameters of one model; made by `setup`.

    `step` counts the updates. `paths` are those of the parameters, `learning_rate` is that of the next update, `state`
    is what the rules remember, a pytree of arrays.

    >>> import fluxion as fx
    >>> opt = fx.setup(fx.Adam(), [fx.randn(3, 2), fx.randn(2)])
    >>> opt
    Optimizer(Adam(0.001), step=0, 2 arrays, 8 parameters)
    >>> opt.paths
    ['[0]', '[1]']
    """

    state: Any
    step: int
    seed: int | None = None  # of the random numbers of training steps; chosen at the first one

    def __init__(self, rules: Sequence[tuple[object, AnyRule]], model: Any) -> None:
        """`rules` are pairs (selector, rule), the first match wins; the selector None stands for all that is left."""
        found = trainables(model, path=True)
        if not found:
            raise ArgumentError("setup: expected a model with parameters, got one without.")
        self._model = model
        self._shapes = [(path, np.shape(x), jnp.result_type(x)) for path, x in found]
        self._rules = [rule for _, rule in rules]
        self._labels: list[str] = [""] * len(found)  # by parameter: the selector that last set its learning rate
        self._rates: list[LearningRate | None] = [None] * len(found)  # None where optax makes the whole step
        self._uniform = True  # whether each group has one learning rate
        self._names = [None if selector is None else describe(selector, self._resolve) for selector, _ in rules]
        members = self._divide([selector for selector, _ in rules])
        groups = []
        for name, rule, chosen in zip(self._names, self._rules, members, strict=True):
            groups.append(Group(_static(rule), chosen))
            for i in chosen:
                self._labels[i], self._rates[i] = name or "", _learning_rate(rule)
        self._plan = Plan(tuple(path for path, _ in found), tuple(groups), cohorts=(0,) * len(found))
        self.state = self._plan.init([x for _, x in found])
        self.step = 0

    @property
    def paths(self) -> list[str]:
        """The paths of the parameters, in the order of `fx.trainables(model)`."""
        return list(self._plan.paths)

    @property
    def active(self) -> list[bool]:
        """Which parameters are trained: those that are not frozen."""
        return [i not in self._plan.frozen for i in range(len(self._plan.paths))]

    @property
    def learning_rate(self) -> float | dict[str, float]:
        """The learning rate of the next update; a dict by selector where parts of the model have their own."""
        rates = self._plan.spread(self.rates())
        shown = {label: float(rates[i]) for i, label in enumerate(self._labels) if self._rates[i] is not None}
        if not shown:
            raise StateError(
                "learning_rate: expected a rule of Fluxion's, but an optax transformation keeps its learning rate to "
                "itself. Write e.g. OptimizerChain(optax.scale_by_adam(), Descent(0.001)) to have it here."
            )
        return next(iter(shown.values())) if len(shown) == 1 else shown

    def rates(self) -> np.ndarray:
        """The learning rates of the next update, as `apply` takes them.

        One for each parameter; one for each group, as long as there are fewer of these and no `adjust(..., at=...)` has
        told the parameters of a group apart. Where optax makes the whole step the rate is 0 and not used.
        """
        known: dict[tuple[int, int], float] = {}

        def now(rate: LearningRate | None, moves: int) -> float:
            if callable(rate) and (id(rate), moves) not in known:
                known[id(rate), moves] = _scheduled(rate, moves)
            return known[id(rate), moves] if callable(rate) else rate or 0.0

        by_group, by_array = np.zeros(len(self._plan.groups)), np.zeros(len(self._rates))
        for k, group in enumerate(self._plan.groups):
            moves = self.step // math.prod(part.steps for part in group.parts if isinstance(part, AccumGrad))
            by_array[list(group.members)] = [now(self._rates[i], moves) for i in group.members]
            by_group[k] = by_array[group.members[0]]
        return by_group if self._uniform and len(by_group) < len(by_array) else by_array

    def apply(
        self, params: Sequence[Array], grads: Sequence[Array | None], state: Any, rates: Array | np.ndarray
    ) -> tuple[list[Array], Any]:
        """One step as a pure function of arrays, for compiled code; changes nothing. See `Plan.apply`."""
        return self._plan.apply(params, grads, state, rates)

    @property
    def has_schedule(self) -> bool:
        """Whether a learning rate follows a schedule."""
        return any(callable(rate) for rate in self._rates)

    def signature(self) -> Plan:
        """Everything static about the step, hashable: equal signatures compile to the same code."""
        return self._plan

    def snapshot(self) -> Snapshot:
        """A copy of the state and the step, to `restore` later."""
        return Snapshot(jax.tree.map(jnp.copy, self.state), self.step)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a `snapshot`, which stays usable.

        A state that does not come out of this optimizer's own steps, such as one read from a file, must come in here.
        """
        if _outline(snapshot.state) != _outline(self.state):
            raise StateError("restore: expected a snapshot of this optimizer, got one of other rules or another model.")
        self.state, self.step = jax.tree.map(jnp.copy, snapshot.state), snapshot.step
        self._plan = self._plan.counted(self.state)

    def __repr__(self) -> str:
        shown = [show(rule) for rule in self._rules]
        rules = shown[0] if self._names == [None] else _braced(zip(self._names, shown, strict=True))
        size = sum(math.prod(shape) for _, shape, _ in self._shapes)
        parts = [rules, f"step={self.step}", f"{len(self._shapes)} arrays", f"{size:_} parameters"]
        if set(self._labels) - {name or "" for name in self._names}:
            parts.append(f"learning_rate={self.learning_rate}")
        if self._plan.frozen:
            parts.append(f"frozen: {', '.join(self._plan.paths[i] for i in sorted(self._plan.frozen))}")
        return f"Optimizer({', '.join(parts)})"

    def _resolve(self, part: object) -> list[str]:
        path = path_of(self._model, part)
        return [] if path is None else [path]

    def _select(self, selector: object) -> list[int]:
        return select(self._plan.paths, selector, resolve=self._resolve)

    def _divide(self, selectors: Sequence[object]) -> list[tuple[int, ...]]:
        """The parameters of each group; every parameter must have a group, and every group a parameter."""
        paths = [path for path, _, _ in self._shapes]
        left = set(range(len(paths)))
        members = []
        for selector, name in zip(selectors, self._names, strict=True):
            chosen = sorted(left if selector is None else left & set(select(paths, selector, resolve=self._resolve)))
            if not chosen:
                raise ArgumentError(
                    f"setup: the groups before {name!r} leave it nothing; the first match wins. Put the narrower first."
                )
            members.append(tuple(chosen))
            left -= set(chosen)
        if left:
            raise ArgumentError(
                f"setup: no group covers {', '.join(paths[i] for i in sorted(left))}. "
                'Add a last group {"**": rule} for the rest; to leave parameters as they are use freeze.'
            )
        return members

    def _set_rules(self, rules: list[Any]) -> None:
        groups = tuple(
            Group(_static(rule), group.members) for rule, group in zip(rules, self._plan.groups, strict=True)
        )
        plan = replace(self._plan, groups=groups)
        params = [jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in self._shapes]
        if _outline(jax.eval_shape(plan.init, params)) != _outline(self.state):
            raise ArgumentError(
                "adjust: this option changes what the rule remembers. Call setup with the new rule instead."
            )
        self._rules, self._plan = rules, plan


@user_frames
def setup(rule: AnyRule | Mapping[Any, AnyRule], model: Any) -> Optimizer:
    """Bind a rule, or a dict `{selector: rule}`, to the parameters of `model`.

    In a dict the first selector that matches a parameter wins. Selectors are paths as `fx.trainables(model, path=True)`
    shows them (`"layers[0]"` with all below it, `"**.bias"`, `"**"`), tuples of these, or layers of the model.

    Any optax transformation is accepted as a rule. It receives the parameters as a dict `{path: array}`.

    Raises `ArgumentError` when a selector matches nothing or a parameter has no rule.

    >>> import fluxion as fx
    >>> model = {"encoder": fx.randn(3, 2), "head": fx.randn(2)}
    >>> opt = fx.setup({"['head']": fx.Descent(0.1), "**": fx.Adam(1e-4)}, model)
    >>> opt.learning_rate
    {'**': 0.0001, "['head']": 0.1}
    """
    if isinstance(model, Rule):
        raise ArgumentError(f"setup: expected setup(rule, model), got {model!r} in the place of the model. Swap them.")
    pairs: list[tuple[object, Any]]
    if isinstance(rule, Mapping):
        pairs = list(rule.items())
        if not pairs:
            raise ArgumentError('setup: expected a rule or a dict such as {"**": Adam(0.001)}, got an empty dict.')
    else:
        pairs = [(None, rule)]
    for _, given in pairs:
        check_rule("setup", given)
        if all(isinstance(part, Rule) and not owns_learning_rate(part) for part in flat(given)):
            raise ArgumentError(
                f"setup: expected a rule with a learning rate, got {show(given)}, which only changes gradients. "
                "Put it in a chain, e.g. OptimizerChain(ClipNorm(1.0), Descent(0.1))."
            )
    return Optimizer(pairs, model)


@user_frames
def update(opt: Optimizer, model: Any, grads: Any) -> None:
    """One optimizer step: changes `model` and `opt`.

    `grads` has the shape of the model, as `gradient(loss, model)[0]` has, or is what the implicit form of `gradient`
    returns. Parameters whose gradient is None stay as they are. The step is compiled once per set of rules and shapes.

    Raises `StateError` when the model's parameters are not those `opt` was set up for, `ShapeError` when a gradient has
    another shape than its parameter. Nothing is changed in these cases.

    >>> import fluxion as fx, jax, jax.numpy as jnp
    >>> model = [jnp.array([1.0, 2.0])]
    >>> opt = fx.setup(fx.Descent(0.5), model)
    >>> fx.update(opt, model, jax.grad(lambda m: (m[0] ** 2).sum())(model))
    >>> model, opt.step
    ([Array([0., 0.], dtype=float32)], 1)
    """
    _check_optimizer("update", opt)
    if type(grads) is tuple and not isinstance(model, tuple):
        raise ArgumentError(
            f"update: expected the gradient of the model, got a tuple of {len(grads)}, the gradients of all arguments. "
            "Write update(opt, model, grads[0])."
        )
    params = _parameters("update", opt, model)
    gradients = _gradients(opt, grads.like(model) if isinstance(grads, Gradients) else grads)
    if any(isinstance(array, jax.core.Tracer) for array in [*params, *gradients]):
        raise StateError(
            "update: expected arrays, got values that are being traced. update changes objects in place and cannot be "
            "compiled; use trainstep, or opt.apply inside your own jit."
        )
    missing = [i for i, g in enumerate(gradients) if g is None and opt.active[i]]
    plan = opt._plan.splitting(missing) if missing else opt._plan
    new_params, state = _compiled(plan)(params, gradients, opt.state, opt.rates())
    set_trainables(model, new_params)
    opt._plan = plan
    opt.state, opt.step = state, opt.step + 1


@user_frames
def adjust(opt: Optimizer, learning_rate: LearningRate | None = None, *, at: object = None, **options: Any) -> None:
    """Change the learning rate (a number or a schedule) or other options of the rules; what they remember stays.

    `at` is a selector: only the learning rate below it is changed. Any other option is changed in every rule that has
    it. Changing the learning rate compiles nothing, only the first change at a selector does; changing another option
    compiles the step again.

    Raises `ArgumentError` for an option that no rule has.

    >>> import fluxion as fx
    >>> opt = fx.setup(fx.Adam(), [fx.randn(2), fx.randn(3)])
    >>> fx.adjust(opt, 1e-4, beta=(0.8, 0.99))
    >>> opt
    Optimizer(Adam(0.0001, beta=(0.8, 0.99)), step=0, 2 arrays, 5 parameters)
    >>> fx.adjust(opt, 1e-5, at="[1]")
    >>> opt.learning_rate
    {'**': 0.0001, '[1]': 1e-05}
    """
    _check_optimizer("adjust", opt)
    if learning_rate is None and not options:
        raise ArgumentError("adjust: expected a learning rate or an option to change, got none.")
    if at is not None and options:
        raise ArgumentError(
            f"adjust: at= goes with the learning rate alone, got {', '.join(options)}. To give parts of a model other "
            "options give setup a dict {selector: rule}."
        )
    rate = None if learning_rate is None else check_learning_rate("adjust", learning_rate)
    chosen = range(len(opt._rates)) if at is None else opt._select(at)
    if rate is not None and all(opt._rates[i] is None for i in chosen):
        raise StateError(
            "adjust: expected a rule of Fluxion's, but an optax transformation keeps its learning rate to itself. "
            "Write e.g. OptimizerChain(optax.scale_by_adam(), Descent(0.001)) and adjust that."
        )
    rules = list(opt._rules)
    for name, value in options.items():
        rules = _with_option(rules, name, value)
    if rate is not None and at is None:
        rules = [_with_learning_rate(rule, rate) for rule in rules]
    opt._set_rules(rules)
    if rate is not None:
        _set_rates(opt, chosen, rate, at)


@user_frames
def freeze(opt: Optimizer, selector: object) -> None:
    """Stop training what `selector` selects: these parameters, and all that the rules remember of them, stay bit-equal.

    Weight decay does not touch them either. The step is compiled again.

    >>> import fluxion as fx
    >>> opt = fx.setup(fx.Adam(), {"encoder": fx.randn(3), "head": fx.randn(2)})
    >>> fx.freeze(opt, "['encoder']")
    >>> opt
    Optimizer(Adam(0.001), step=0, 2 arrays, 5 parameters, frozen: ['encoder'])
    """
    _check_optimizer("freeze", opt)
    opt._plan = opt._plan.freezing(opt._select(selector))


@user_frames
def thaw(opt: Optimizer, selector: object = None) -> None:
    """Train again what was frozen, or the part of it that `selector` selects, from where it was left.

    >>> import fluxion as fx
    >>> opt = fx.setup(fx.Adam(), [fx.randn(3)])
    >>> fx.freeze(opt, "**"); fx.thaw(opt); opt.active
    [True]
    """
    _check_optimizer("thaw", opt)
    thawed = range(len(opt.paths)) if selector is None else opt._select(selector)
    opt._plan = replace(opt._plan, frozen=opt._plan.frozen - set(thawed))


def averaged(opt: Optimizer, model: Any) -> Any:
    """A copy of `model` with the averages that `EMA` keeps for its parameters.

    Raises `StateError` when no rule of `opt` is an `EMA`. Parameters of groups without one are copied as they are.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> model = [jnp.zeros(2)]
    >>> opt = fx.setup(fx.OptimizerChain(fx.Descent(1.0), fx.EMA(0.75)), model)
    >>> fx.update(opt, model, [-jnp.ones(2)])
    >>> model, fx.averaged(opt, model)
    ([Array([1., 1.], dtype=float32)], [Array([0.25, 0.25], dtype=float32)])
    """
    _check_optimizer("averaged", opt)
    arrays = [jnp.copy(x) for x in _parameters("averaged", opt, model)]
    kept = opt._plan.averages(opt.state, arrays)
    if not kept:
        raise StateError(
            "averaged: expected a chain with an EMA, got none. Set up e.g. OptimizerChain(Adam(0.001), EMA(0.999))."
        )
    return with_trainables(model, [kept.get(i, x) for i, x in enumerate(arrays)])


@functools.lru_cache(maxsize=128)
def _compiled(plan: Plan) -> Callable[..., Any]:
    return jax.jit(plan.apply)


def _static(rule: Any) -> tuple[Any, ...]:
    """The parts of a rule as a plan holds them: hashable, and equal when they differ in the learning rate only."""
    parts: list[Any] = []
    for part in flat(rule):
        if isinstance(part, Rule):
            parts.append(part.without_learning_rate())
        else:
            parts.append(part if _is_hashable(part) else Identity(part))
    return tuple(parts)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _outline(state: Any) -> Any:
    return jax.tree.structure(state), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]


def _learning_rate(rule: Any) -> LearningRate | None:
    return next((part.learning_rate for part in flat(rule) if owns_learning_rate(part)), None)


def _scheduled(schedule: Callable[[int], float], step: int) -> float:
    rate = float(schedule(step))
    if not 0 <= rate < math.inf:
        raise ArgumentError(
            f"learning_rate: expected a finite number, 0 or greater, from {schedule!r} at step {step}, got {rate}."
        )
    return rate


def _set_rates(opt: Optimizer, chosen: Sequence[int], rate: LearningRate, at: object) -> None:
    opt._uniform = at is None
    for name, group in zip(opt._names, opt._plan.groups, strict=True):
        for i in set(group.members) & set(chosen):
            if opt._rates[i] is not None:
                opt._rates[i] = rate
                opt._labels[i] = (name or "") if at is None else describe(at, opt._resolve)
    if at is not None and opt._names == [None]:
        # What is left of the only group needs a name now that it has not all of the model.
        opt._labels = [label or "**" for label in opt._labels]


def _with_learning_rate(rule: Any, rate: LearningRate) -> Any:
    if isinstance(rule, OptimizerChain):
        return OptimizerChain(*(_with_learning_rate(part, rate) for part in rule.rules))
    return replace(rule, learning_rate=rate) if owns_learning_rate(rule) else rule


def _with_option(rules: list[Any], name: str, value: object) -> list[Any]:
    """The rules with one option changed wherever there is one of that name."""
    options: dict[str, None] = {}
    for rule in rules:
        having = [part for part in flat(rule) if isinstance(part, Rule) and name in _options(part)]
        if len(having) > 1:
            raise ArgumentError(
                f"adjust: expected one rule of the chain to have {name}, got {' and '.join(map(repr, having))}. "
                "Call setup with the new rules instead."
            )
        options.update(dict.fromkeys(option for part in flat(rule) for option in _options(part)))
    if name not in options:
        known = ["learning_rate", *(option for option in options if option != "learning_rate")]
        raise ArgumentError(
            f"adjust: expected one of the options {', '.join(known)} of {', '.join(map(show, rules))}, got {name!r}."
            f"{nearest(name, known)}"
        )

    def changed(rule: Any) -> Any:
        if isinstance(rule, OptimizerChain):
            return OptimizerChain(*map(changed, rule.rules))
        return replace(rule, **{name: value}) if name in _options(rule) else rule

    return [changed(rule) for rule in rules]


def _options(rule: object) -> list[str]:
    return [option.name for option in fields(rule)] if isinstance(rule, Rule) else []


def _check_optimizer(caller: str, opt: object) -> None:
    if not isinstance(opt, Optimizer):
        what = "a rule" if isinstance(opt, Rule) else f"an object of type {type(opt).__name__}"
        raise ArgumentError(
            f"{caller}: expected the optimizer as first argument, got {what}. Call opt = setup(rule, model) once first."
        )


def _parameters(caller: str, opt: Optimizer, model: Any) -> list[Array]:
    """The parameters of a model, which must be those the optimizer was set up for."""
    found = trainables(model, path=True)
    check_parameters(caller, opt, found)
    return [x for _, x in found]


def check_parameters(caller: str, opt: Optimizer, found: Sequence[tuple[str, Array]]) -> None:
    """Raise StateError unless the parameters `found`, pairs of path and array, are those of `opt`."""
    now = [(path, np.shape(x), jnp.result_type(x)) for path, x in found]
    if now != opt._shapes:
        before, after = ({path: rest for path, *rest in side} for side in (opt._shapes, now))
        wrong = [f"{path} is gone" for path in before if path not in after]
        wrong += [f"{path} is new" for path in after if path not in before]
        wrong += [
            f"{path} was {_array(before[path])} and is {_array(after[path])}"
            for path in before
            if path in after and before[path] != after[path]
        ]
        raise StateError(
            f"{caller}: expected the parameters this optimizer was set up for, but "
            f"{', '.join(wrong) or 'they are in another order'}. Call opt = setup(rule, model) for this model."
        )


def _array(described: Sequence[Any]) -> str:
    shape, dtype = described
    return f"{dtype.name}{tuple(shape)}"


def _gradients(opt: Optimizer, grads: Any) -> list[Array | None]:
    """The gradient at each parameter's path.

    Looked up path by path: two parameters may well have one and the same array for a gradient.
    """
    found = _arrays_by_path(grads)
    unknown = [path for path in found if path not in opt.paths and jnp.issubdtype(found[path].dtype, np.inexact)]
    if unknown and not any(path in found for path in opt.paths):
        raise ArgumentError(
            f"update: expected a gradient with the shape of the model, whose paths are {', '.join(opt.paths[:6])}; got "
            f"one with {', '.join(unknown[:6])}. Write grads = gradient(loss, model)[0]."
        )
    return [found.get(path) for path in opt.paths]


def _arrays_by_path(tree: Any) -> dict[str, Array]:
    graph = scan(tree)
    found = dict(zip(graph.paths, graph.leaves, strict=True))
    for node in graph.nodes:
        for step, ref in node.children:
            if isinstance(ref, LeafRef):
                found[extend_path(node.path, step)] = graph.leaves[ref.index]
    return found


def _braced(pairs: Any) -> str:
    return "{" + ", ".join(f"{name!r}: {rule}" for name, rule in pairs) + "}"
