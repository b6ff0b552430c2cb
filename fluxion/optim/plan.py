"""The optimizer as a pure function: what a compiled training step runs.

A `Plan` holds everything static about an optimizer: which rule governs which arrays, and which are frozen. It
compares by value, so it serves as the key of compiled code. `Plan.apply` maps parameters, gradients, state and
learning rates to new parameters and new state.

Each array has its own copy of a rule's state, its own step count included. An array that is frozen, or has no
gradient in a step, therefore keeps its parameter and its whole state to the bit, and is resumed as if the step had
not been. The state of a rule over n arrays is its state for one array with every entry turned into a list of n, and
every scalar entry (a count) into a vector of n.

Arithmetic is done in at least float32, moments of half-precision parameters are kept in float32, and complex arrays are
pairs of real ones, as in torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ShapeError
from fluxion.optim.base import Rule, owns_learning_rate
from fluxion.optim.chain import EMA, AccumGrad
from fluxion.tree.protocol import Identity

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array

Flow = dict[int, Any]  # by number of the parameter: what is on its way from gradient to step


@dataclass(frozen=True)
class Group:
    """One chain of rules, without learning rates, and the numbers of the parameters it governs."""

    parts: tuple[Any, ...]
    members: tuple[int, ...]

    @property
    def owner(self) -> int | None:
        """Where the rule with the learning rate stands; None when optax makes the whole step."""
        return next((k for k, part in enumerate(self.parts) if owns_learning_rate(part)), None)

    def turns_sign(self, k: int) -> tuple[bool, bool]:
        """Whether what flows into and out of the optax transformation at `k` must change sign.

        Everything of ours hands on what is to be subtracted. Optax hands on a gradient until the learning rate is in,
        and from then on what is to be added.
        """
        if self.owner is not None:
            return k > self.owner, k > self.owner
        return False, k == max(k for k, part in enumerate(self.parts) if not isinstance(part, Rule))


@dataclass(frozen=True)
class Plan:
    """See the module's first lines."""

    paths: tuple[str, ...]
    groups: tuple[Group, ...]
    frozen: frozenset[int] = frozenset()
    # By parameter: which ones have always been stepped together. Their counts are equal, and computed with once.
    cohorts: tuple[int, ...] = ()

    def init(self, params: Sequence[Array]) -> tuple[Any, ...]:
        """The state before the first step, in arrays of its own: none is shared with the parameters."""
        taken = {id(array) for array in params}

        def own(leaf: Any) -> Array:
            leaf = jnp.array(leaf, copy=True) if id(leaf) in taken else jnp.asarray(leaf)
            taken.add(id(leaf))
            return leaf

        xs = [_real(x) for x in params]
        state = tuple(tuple(self._init_part(part, group, xs) for part in group.parts) for group in self.groups)
        return jax.tree.map(own, state)

    def apply(
        self, params: Sequence[Array], grads: Sequence[Array | None], state: tuple[Any, ...], rates: Any
    ) -> tuple[list[Array], tuple[Any, ...]]:
        """New parameters and new state; traceable.

        `rates` has shape `(len(params),)`, or `(len(groups),)` where each group has one learning rate, which compiles
        several times faster. Where a gradient is None the parameter and its state stay as they are; a caller who gives
        one now and then calls `splitting` first, as `update` does, so that step counts are kept apart.
        Raises `ShapeError` where a gradient has another shape than its parameter.
        """
        for path, x, g in zip(self.paths, params, grads, strict=True):
            if g is not None and np.shape(g) != np.shape(x):
                raise ShapeError(
                    f"{path}: expected a gradient of the parameter's shape {np.shape(x)}, got {np.shape(g)}. "
                    "Give the gradient of this model, as fx.gradient returns it."
                )
        new_params, new_state = list(params), []
        rates = self.spread(jnp.asarray(rates))
        for group, group_state in zip(self.groups, state, strict=True):
            live = [i for i in group.members if i not in self.frozen and grads[i] is not None]
            xs = {i: _real(params[i]) for i in group.members}
            flow = {i: _real_gradient(grads[i], xs[i]) for i in live}
            flow, group_state, moved = self._run(group, 0, flow, xs, group_state, rates)
            after = {i: xs[i] - step for i, step in flow.items()}
            for i, x in after.items():
                new_params[i] = _like(x, params[i])
            new_state.append(
                tuple(
                    _follow(part, average, group.members, after, moved) if isinstance(part, EMA) else average
                    for part, average in zip(group.parts, group_state, strict=True)
                )
            )
        return new_params, tuple(new_state)

    def freezing(self, chosen: Iterable[int]) -> Plan:
        """The plan with these parameters frozen."""
        chosen = set(chosen)
        return replace(self.splitting(chosen), frozen=self.frozen | chosen)

    def splitting(self, chosen: Iterable[int]) -> Plan:
        """The plan in which these parameters are counted apart from the others, as they will miss a step."""
        chosen = set(chosen)
        return replace(self, cohorts=_numbered((cohort, i in chosen) for i, cohort in enumerate(self.cohorts)))

    def counted(self, state: tuple[Any, ...]) -> Plan:
        """The plan whose cohorts are those of a state that comes from elsewhere."""
        histories: list[list[Any]] = [[i in self.frozen] for i in range(len(self.paths))]
        for group, group_state in zip(self.groups, state, strict=True):
            for part, part_state in zip(group.parts, group_state, strict=True):
                if isinstance(part, AccumGrad | EMA) or _is_joint(part):
                    continue
                for column, scalar in _columns(part, part_state):
                    for place, i in enumerate(group.members):
                        histories[i] += [np.asarray(column)[place].item()] if scalar else []
        return replace(self, cohorts=_numbered(tuple(history) for history in histories))

    def spread(self, rates: Any) -> list[Any]:
        """The learning rate of each parameter: one object for all that share it."""
        if len(rates) == len(self.paths):
            return [rates[i] for i in range(len(self.paths))]
        by_group = [rates[k] for k in range(len(self.groups))]
        shared = {i: rate for rate, group in zip(by_group, self.groups, strict=True) for i in group.members}
        return [shared[i] for i in range(len(self.paths))]

    def averages(self, state: tuple[Any, ...], params: Sequence[Array]) -> dict[int, Array]:
        """The averages kept by `EMA`, by number of the parameter, as copies in the parameters' dtypes."""
        return {
            i: jnp.copy(_like(average, params[i]))
            for group, group_state in zip(self.groups, state, strict=True)
            for part, averages in zip(group.parts, group_state, strict=True)
            if isinstance(part, EMA)
            for i, average in zip(group.members, averages, strict=True)
        }

    def _init_part(self, part: Any, group: Group, xs: list[Array]) -> Any:
        members = [xs[i] for i in group.members]
        if isinstance(part, AccumGrad):
            return jnp.zeros((), jnp.int32), [jnp.zeros_like(x) for x in members]
        if isinstance(part, EMA):
            return list(members)
        if _is_joint(part):
            return _direction(part).init({self.paths[i]: xs[i] for i in group.members})
        return _start(part)(members)

    def _run(
        self, group: Group, start: int, flow: Flow, xs: Flow, state: tuple[Any, ...], rates: list[Any]
    ) -> tuple[Flow, tuple[Any, ...], Array | bool]:
        """The rules from `start` on: what is to be subtracted, the new state, and whether parameters move."""
        done = list(state)
        for k in range(start, len(group.parts)):
            part = group.parts[k]
            if isinstance(part, EMA):
                continue
            if isinstance(part, AccumGrad):
                return self._accumulate(group, k, flow, xs, tuple(done), rates)
            if _is_joint(part):
                flow, done[k] = self._run_joint(group, k, flow, xs, done[k])
            else:
                flow, done[k] = self._run_each(part, group.members, flow, xs, done[k], rates)
            if k == group.owner:
                flow = {i: g * _rate(rates, i, g) for i, g in flow.items()}
        return flow, tuple(done), True

    def _accumulate(
        self, group: Group, k: int, flow: Flow, xs: Flow, state: tuple[Any, ...], rates: list[Any]
    ) -> tuple[Flow, tuple[Any, ...], Array]:
        steps = group.parts[k].steps
        count, totals = state[k]
        totals = [total + flow[i] if i in flow else total for i, total in zip(group.members, totals, strict=True)]
        ready = count + 1 == steps
        # An array without a gradient now may have had one earlier in the window: what is missing counts as 0.
        sums = {i: total for i, total in zip(group.members, totals, strict=True) if i not in self.frozen}

        def move(rest: tuple[Any, ...]) -> tuple[Flow, tuple[Any, ...]]:
            mean = {i: total / steps for i, total in sums.items()}
            moved, rest, _ = self._run(group, k + 1, mean, xs, rest, rates)
            return moved, rest

        def wait(rest: tuple[Any, ...]) -> tuple[Flow, tuple[Any, ...]]:
            return {i: jnp.zeros_like(xs[i]) for i in sums}, rest

        flow, state = jax.lax.cond(ready, move, wait, state)
        totals = [jnp.where(ready, 0, total) for total in totals]
        return flow, (*state[:k], (jnp.where(ready, 0, count + 1), totals), *state[k + 1 :]), ready

    def _run_each(
        self, part: Rule, members: tuple[int, ...], flow: Flow, xs: Flow, state: Any, rates: list[Any]
    ) -> tuple[Flow, Any]:
        """A rule that works array by array."""
        direction = _direction(part)
        structure, scalars = _layout(part)
        before = [column if scalar else list(column) for column, scalar in _columns(part, state)]
        after: list[Any] = [column if scalar else list(column) for column, scalar in _columns(part, state)]
        places: dict[int, list[int]] = {}
        for place, i in enumerate(members):
            if i in flow:
                places.setdefault(self.cohorts[i], []).append(place)
        steps: Flow = {}
        for together in places.values():
            counts = [column[together[0]] if scalar else None for column, scalar in zip(before, scalars, strict=True)]
            for place in together:
                i = members[place]
                entries = [
                    column[place] if count is None else count for column, count in zip(before, counts, strict=True)
                ]
                step, new = direction.update(
                    flow[i], structure.unflatten(entries), xs[i], learning_rate=_rate(rates, i, flow[i])
                )
                steps[i] = step.astype(flow[i].dtype)
                for column, scalar, entry in zip(after, scalars, structure.flatten_up_to(new), strict=True):
                    if not scalar:
                        column[place] = entry
            here = np.isin(np.arange(len(members)), together)
            for k, scalar in enumerate(scalars):
                if scalar:
                    after[k] = jnp.where(here, structure.flatten_up_to(new)[k], after[k])
        return steps, structure.unflatten(after)

    def _run_joint(self, group: Group, k: int, flow: Flow, xs: Flow, state: Any) -> tuple[Flow, Any]:
        """A rule that sees all arrays of the group at once, by path; those without a gradient show zeros."""
        part, names = group.parts[k], {i: self.paths[i] for i in group.members}
        into, out = (False, False) if isinstance(part, Rule) else group.turns_sign(k)
        gradients = {names[i]: flow[i] if i in flow else jnp.zeros_like(xs[i]) for i in group.members}
        gradients = {name: -g if into else g for name, g in gradients.items()}
        params = {names[i]: xs[i] for i in group.members}
        changed, new_state = _direction(part).update(gradients, state, params)
        flow = {i: (-changed[names[i]] if out else changed[names[i]]).astype(xs[i].dtype) for i in flow}
        resting = {names[i] for i in group.members} - {names[i] for i in flow}

        def is_per_parameter(entry: Any) -> bool:
            return isinstance(entry, dict) and entry.keys() == params.keys()

        def keep(old: Any, new: Any) -> Any:
            return {name: old[name] if name in resting else new[name] for name in new} if is_per_parameter(old) else new

        return flow, jax.tree.map(keep, state, new_state, is_leaf=is_per_parameter) if resting else new_state


def _numbered(labels: Iterable[Hashable]) -> tuple[int, ...]:
    """The same partition with 0, 1, ... for labels, in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(label, len(numbers)) for label in labels)


def _follow(
    rule: EMA, averages: list[Array], members: tuple[int, ...], after: Flow, moved: Array | bool
) -> list[Array]:
    new = list(averages)
    for place, i in enumerate(members):
        if i in after:
            average = averages[place] + (1 - rule.decay) * (after[i] - averages[place])
            new[place] = average if moved is True else jnp.where(moved, average, averages[place])
    return new


# The state of a rule over several arrays: the state for one, entry by entry a list


@functools.lru_cache(maxsize=256)
def _layout(part: Rule) -> tuple[Any, tuple[bool, ...]]:
    """The structure of the state for one array, and which of its entries are scalars whatever the array."""
    state = jax.eval_shape(_direction(part).init, jax.ShapeDtypeStruct((2,), jnp.float32))
    entries, structure = jax.tree.flatten(state)
    return structure, tuple(entry.shape == () for entry in entries)


@functools.lru_cache(maxsize=128)
def _start(part: Rule) -> Callable[[list[Array]], Any]:
    """The first state of a rule over several arrays; compiled, as one program rather than one for each shape."""
    return jax.jit(lambda members: _gather(part, [_direction(part).init(x) for x in members]))


def _gather(part: Rule, states: list[Any]) -> Any:
    structure, scalars = _layout(part)
    entries = zip(*(structure.flatten_up_to(state) for state in states), strict=True)
    columns = [jnp.stack(entry) if scalar else list(entry) for entry, scalar in zip(entries, scalars, strict=True)]
    return structure.unflatten(columns)


def _columns(part: Rule, state: Any) -> list[tuple[Any, bool]]:
    """The entries of the state of a rule over several arrays, and whether each holds scalars."""
    structure, scalars = _layout(part)
    return list(zip(structure.flatten_up_to(state), scalars, strict=True))


# Rules and optax transformations


def _is_joint(part: Any) -> bool:
    return not isinstance(part, Rule) or part.joint


def _direction(part: Any) -> optax.GradientTransformationExtraArgs:
    import optax

    part = part.value if isinstance(part, Identity) else part
    return optax.with_extra_args_support(part.direction() if isinstance(part, Rule) else part)


# Arrays as the rules see them


def _rate(rates: list[Any], i: int, like: Array) -> Array:
    return rates[i].astype(like.dtype)


def _real(x: Any) -> Array:
    """Half precision in float32, complex numbers as pairs of real ones."""
    x = jnp.asarray(x)
    if jnp.iscomplexobj(x):
        return jnp.stack([x.real, x.imag], axis=-1)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def _real_gradient(g: Any, x: Array) -> Array:
    """A gradient as its parameter is seen. JAX's gradient of a complex number is the conjugate of the way upwards."""
    return _real(jnp.conj(g) if jnp.iscomplexobj(g) else g).astype(x.dtype)


def _like(x: Array, param: Array) -> Array:
    """From the rules' view back to the parameter's dtype."""
    if jnp.iscomplexobj(param):
        x = jax.lax.complex(x[..., 0], x[..., 1])
    return x.astype(param.dtype)
