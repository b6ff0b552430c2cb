"""Rules that change gradients on their way, and the chain that puts rules one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from fluxion.errors import ArgumentError
from fluxion.optim.base import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Rule, option, owns_learning_rate, stateless

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array


@dataclass(frozen=True, repr=False)
class WeightDecay(Rule):
    """Adds `weight_decay * x` to the gradient, the gradient of the penalty `weight_decay / 2 * sum(x^2)`.

    `OptimizerChain(WeightDecay(w), Adam(rate))` has the numbers of torch's `Adam(lr=rate, weight_decay=w)`. Behind
    the rule with the learning rate it takes `weight_decay * x` off each step, not scaled by the learning rate.

    >>> import fluxion as fx
    >>> fx.OptimizerChain(fx.WeightDecay(1e-4), fx.Adam())
    OptimizerChain(WeightDecay(0.0001), Adam(0.001))
    """

    weight_decay: float = option(NOT_NEGATIVE, 5e-4)

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.add_decayed_weights(self.weight_decay)


@dataclass(frozen=True, repr=False)
class SignDecay(Rule):
    """Adds `sign_decay * sign(x)` to the gradient, the gradient of the L1 penalty `sign_decay * sum(|x|)`.

    >>> import fluxion as fx
    >>> fx.SignDecay()
    SignDecay()
    """

    sign_decay: float = option(NOT_NEGATIVE, 1e-3)

    def direction(self) -> optax.GradientTransformation:
        return stateless(lambda g, x: g + self.sign_decay * jnp.sign(x))


@dataclass(frozen=True, repr=False)
class ClipGrad(Rule):
    """Keeps every entry of the gradient within `[-limit, limit]`.

    The numbers are those of torch's `clip_grad_value_`.

    >>> import fluxion as fx
    >>> fx.OptimizerChain(fx.ClipGrad(1.0), fx.Descent(0.1))
    OptimizerChain(ClipGrad(1.0), Descent(0.1))
    """

    limit: float = option(POSITIVE, 10.0)

    def direction(self) -> optax.GradientTransformation:
        return stateless(lambda g, x: jnp.clip(g, -self.limit, self.limit))


@dataclass(frozen=True, repr=False)
class ClipNorm(Rule):
    """Scales the gradient of each array down to the Euclidean norm `max_norm`, each array by itself.

    `g <- g * min(1, max_norm / (norm(g) + 1e-6))`. A norm that is not finite gives NaN, never a silent zero.

    The numbers are those of torch's `clip_grad_norm_` called on one array.

    >>> import fluxion as fx
    >>> fx.ClipNorm(1.0)
    ClipNorm(1.0)
    """

    max_norm: float = option(POSITIVE, 10.0)

    def direction(self) -> optax.GradientTransformation:
        return stateless(lambda g, x: g * _shrink([g], self.max_norm).astype(g.dtype))


@dataclass(frozen=True, repr=False)
class ClipGlobalNorm(Rule):
    """Scales all gradients of the group down together, to the Euclidean norm `max_norm` of all of them.

    `g <- g * min(1, max_norm / (norm + 1e-6))`, with the norm over every array that is trained in this step. A norm
    that is not finite gives NaN, never a silent zero.

    The numbers are those of torch's `clip_grad_norm_`.

    >>> import fluxion as fx
    >>> fx.OptimizerChain(fx.ClipGlobalNorm(0.5), fx.Adam())
    OptimizerChain(ClipGlobalNorm(0.5), Adam(0.001))
    """

    max_norm: float = option(POSITIVE, 1.0)
    joint: ClassVar[bool] = True

    def direction(self) -> optax.GradientTransformation:
        import optax

        def update(gs: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
            scale = _shrink(jax.tree.leaves(gs), self.max_norm)
            return jax.tree.map(lambda g: g * scale.astype(g.dtype), gs), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@dataclass(frozen=True, repr=False)
class AccumGrad(Rule):
    """Waits for `steps` gradients and passes their mean on: large batches in small memory.

    Parameters, and everything behind it in the chain, move at each `steps`-th update only; a learning-rate schedule
    counts these moves. A gradient missing in one update counts as 0. Stands in an `OptimizerChain`.

    >>> import fluxion as fx
    >>> fx.OptimizerChain(fx.AccumGrad(4), fx.Adam())
    OptimizerChain(AccumGrad(4), Adam(0.001))
    """

    steps: int = option(COUNT)


@dataclass(frozen=True, repr=False)
class EMA(Rule):
    """Keeps the moving average `a <- decay * a + (1 - decay) * x` of the parameters, and leaves the step as it is.

    The average starts at the parameters `setup` saw and follows every move; `averaged(opt, model)` returns a copy of
    the model that holds it. Stands in an `OptimizerChain`, anywhere.

    The numbers are those of torch's `AveragedModel` with `get_ema_multi_avg_fn(decay)`, started before the first step.

    >>> import fluxion as fx
    >>> fx.OptimizerChain(fx.Adam(), fx.EMA(0.99))
    OptimizerChain(Adam(0.001), EMA(0.99))
    """

    decay: float = option(SHARE, 0.999)


@dataclass(frozen=True, repr=False, init=False)
class OptimizerChain(Rule):
    """Rules one after the other: each receives the gradient that the one before it gives.

    At most one of them has a learning rate, and it is multiplied in where that rule stands. What stands before it
    works on gradients, what stands behind it on the scaled step: `OptimizerChain(WeightDecay(w), Descent(r))`
    subtracts `r * (g + w * x)`, and `OptimizerChain(Descent(r), WeightDecay(w))` subtracts `r * g + w * x`.

    An optax transformation may stand anywhere and sees what it would see in `optax.chain`. In a chain where no rule
    has a learning rate, the optax transformations must make the whole step, sign and size; it is added to the
    parameters.

    Raises `ArgumentError` for something that is no rule, and for a second learning rate.

    >>> import fluxion as fx
    >>> fx.OptimizerChain(fx.ClipNorm(1.0), fx.WeightDecay(1e-4), fx.Adam(1e-3))
    OptimizerChain(ClipNorm(1.0), WeightDecay(0.0001), Adam(0.001))
    """

    rules: tuple[Any, ...]

    def __init__(self, *rules: Rule | optax.GradientTransformation) -> None:
        for rule in rules:
            check_rule("OptimizerChain", rule)
        owners = [rule for chained in rules for rule in flat(chained) if owns_learning_rate(rule)]
        if len(owners) > 1:
            raise ArgumentError(
                "OptimizerChain: expected at most one rule with a learning rate, got "
                f"{' and '.join(map(repr, owners))}. Keep one; to train parts of a model by different rules give setup "
                "a dict {selector: rule}."
            )
        accumulators = [rule for chained in rules for rule in flat(chained) if isinstance(rule, AccumGrad)]
        if len(accumulators) > 1:
            raise ArgumentError(
                f"OptimizerChain: expected at most one AccumGrad, got {accumulators}. Multiply their steps."
            )
        object.__setattr__(self, "rules", rules)

    def __repr__(self) -> str:
        return f"OptimizerChain({', '.join(map(show, self.rules))})"


def flat(rule: Any) -> list[Any]:
    """The rules of a chain in order, chains within it opened; a single rule is a chain of one."""
    if isinstance(rule, OptimizerChain):
        return [part for chained in rule.rules for part in flat(chained)]
    return [rule]


def check_rule(caller: str, rule: object) -> None:
    """Raise `ArgumentError` unless `rule` is a rule or an optax transformation."""
    if isinstance(rule, Rule) or (
        not isinstance(rule, type) and callable(getattr(rule, "init", None)) and callable(getattr(rule, "update", None))
    ):
        return
    call = f" Write {rule.__name__}()." if isinstance(rule, type) and issubclass(rule, Rule) else ""
    raise ArgumentError(
        f"{caller}: expected a rule such as Adam(0.001) or an optax transformation, got "
        f"{rule.__name__ if isinstance(rule, type) else repr(rule)}.{call}"
    )


def show(rule: object) -> str:
    """A rule in one line; an optax transformation shows its type, for it knows no more about itself."""
    return repr(rule) if isinstance(rule, Rule) else f"<{type(rule).__name__}>"


def _shrink(gradients: list[Array], max_norm: float) -> Array:
    norm = jnp.sqrt(sum((jnp.sum(g**2) for g in gradients), jnp.zeros(())))
    return jnp.where(jnp.isfinite(norm), jnp.minimum(1, max_norm / (norm + 1e-6)), jnp.nan)
