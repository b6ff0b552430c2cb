"""The learning-rate schedules of `keras.optimizers.schedules`: functions of the step, counted from 0.

The optimizer asks for the rate of each step on the host. Called with a traced step, in a jitted function of your own,
they compute in JAX.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras.losses import found
from fluxion.dialects.keras.names import known_arguments
from fluxion.errors import ArgumentError


class LearningRateSchedule:
    """The base of schedules: override `__call__(step)`, which returns the rate.

    >>> from fluxion.dialects import keras
    >>> class Halving(keras.optimizers.schedules.LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 * 0.5**step
    >>> keras.optimizers.SGD(Halving()).learning_rate
    0.1
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = known_arguments(cls.__init__)  # type: ignore[method-assign]

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__(step).")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this schedule again."""
        return {n: getattr(self, n) for n in inspect.signature(type(self)).parameters if hasattr(self, n)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """The schedule that `get_config` described."""
        return cls(**config)


class ExponentialDecay(LearningRateSchedule):
    """`initial * decay_rate^(step / decay_steps)`; with `staircase` the exponent is a whole number.

    >>> from fluxion.dialects import keras
    >>> schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    >>> float(schedule(20))
    0.025
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _positive(name, decay_steps)
        self.decay_rate, self.staircase, self.name = decay_rate, staircase, name

    def __call__(self, step: Any) -> Any:
        xp, step = _of(step)
        p = step / self.decay_steps
        return self.initial_learning_rate * xp.power(self.decay_rate, xp.floor(p) if self.staircase else p)


class InverseTimeDecay(LearningRateSchedule):
    """`initial / (1 + decay_rate * step / decay_steps)`; with `staircase` the fraction is a whole number."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _positive(name, decay_steps)
        self.decay_rate, self.staircase, self.name = decay_rate, staircase, name

    def __call__(self, step: Any) -> Any:
        xp, step = _of(step)
        p = step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (xp.floor(p) if self.staircase else p))


class PiecewiseConstantDecay(LearningRateSchedule):
    """`values[0]` up to and with step `boundaries[0]`, then `values[1]`, and so on: one value more than boundaries."""

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        if len(boundaries) != len(values) - 1:
            raise ArgumentError(
                f"PiecewiseConstantDecay: expected one value more than boundaries, got {len(boundaries)} boundaries "
                f"and {len(values)} values."
            )
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step: Any) -> Any:
        xp, step = _of(step)
        return xp.asarray(self.values)[xp.searchsorted(xp.asarray(self.boundaries, float), step, side="left")]


class PolynomialDecay(LearningRateSchedule):
    """`(initial - end) * (1 - step / decay_steps)^power + end`, then `end`; with `cycle` ever again from above."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _positive(name, decay_steps)
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def __call__(self, step: Any) -> Any:
        xp, step = _of(step)
        steps: Any = self.decay_steps
        if self.cycle:
            steps = steps * xp.where(step == 0, 1.0, xp.ceil(step / steps))
        p = xp.minimum(step, steps) / steps
        return (self.initial_learning_rate - self.end_learning_rate) * xp.power(
            1 - p, self.power
        ) + self.end_learning_rate


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate, or from `warmup_target`, to `alpha` times it, in `decay_steps`.

    With `warmup_target` the rate first rises to it on a line in `warmup_steps`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _positive(name, decay_steps)
        self.alpha, self.name, self.warmup_target, self.warmup_steps = alpha, name, warmup_target, warmup_steps

    def __call__(self, step: Any) -> Any:
        xp, step = _of(step)
        low, warm = self.initial_learning_rate, self.warmup_steps if self.warmup_target is not None else 0
        top = low if self.warmup_target is None else self.warmup_target
        p = xp.clip((step - warm) / self.decay_steps, 0, 1)
        decayed = top * ((1 - self.alpha) * 0.5 * (1 + xp.cos(np.pi * p)) + self.alpha)
        return xp.where(step < warm, low + (top - low) * step / warm, decayed) if warm else decayed


class CosineDecayRestarts(LearningRateSchedule):
    """Half a cosine ever again: each period is `t_mul` times as long as the one before and starts `m_mul` as high."""

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, _positive(name, first_decay_steps)
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def __call__(self, step: Any) -> Any:
        xp, step = _of(step)
        p = step / self.first_decay_steps
        if self.t_mul == 1.0:
            period = xp.floor(p)
            p = p - period
        else:
            # The sum of the periods before is a geometric one; a hair more than the floor, against rounding.
            period = xp.floor(xp.log(1 - p * (1 - self.t_mul)) / np.log(self.t_mul) + 1e-9)
            before = (1 - xp.power(float(self.t_mul), period)) / (1 - self.t_mul)
            p = (p - before) / xp.power(float(self.t_mul), period)
        cosine = 0.5 * xp.power(float(self.m_mul), period) * (1 + xp.cos(np.pi * p))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


TABLE: dict[str, Any] = {
    c.__name__: c
    for c in (
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        CosineDecay,
        CosineDecayRestarts,
    )
}


def deserialize(config: Mapping[str, Any]) -> Any:
    """The schedule of a config `{"class_name": ..., "config": {...}}`."""
    return found("schedule", config, TABLE)


def _of(step: Any) -> tuple[Any, Any]:
    if isinstance(step, jax.Array):
        return jnp, step.astype(jnp.result_type(float))
    return np, float(step)


def _positive(name: str, steps: float) -> float:
    if steps <= 0:
        raise ArgumentError(f"{name}: expected a number of steps above 0, got {steps!r}.")
    return steps
