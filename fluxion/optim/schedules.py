"""Learning rates that follow the step.

A schedule is any function `step -> learning rate`, evaluated on the host with the step counted from 0. Those here are
plain frozen dataclasses: they print as the call that made them, compare by value and may stand wherever a number may,
`fx.Adam(fx.schedules.Cosine(1e-3, 10_000, warmup=500))`. Past their end they hold their last value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, MISSING, dataclass, fields
from numbers import Integral, Real
from typing import Any, TypeGuard

from fluxion.errors import ArgumentError

Schedule = Callable[[int], float]


class _Formula:
    """The printed form: the constructor call, options at their default left out."""

    def __repr__(self) -> str:
        return constructor_call(self)


@dataclass(frozen=True, repr=False)
class Constant(_Formula):
    """`value`, at every step.

    >>> import fluxion as fx
    >>> fx.schedules.Constant(0.1)(1000)
    0.1
    """

    value: float

    def __post_init__(self) -> None:
        _rate("Constant", "value", self.value)

    def __call__(self, step: int) -> float:
        _from_zero("Constant", step)
        return float(self.value)


@dataclass(frozen=True, repr=False)
class Step(_Formula):
    """`start * decay ** (step // every)`: a drop by the factor `decay` every `every` steps.

    The numbers are those of torch's `StepLR`.

    >>> import fluxion as fx
    >>> schedule = fx.schedules.Step(1.0, 0.5, 10)
    >>> [schedule(step) for step in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """

    start: float
    decay: float
    every: int

    def __post_init__(self) -> None:
        _rate("Step", "start", self.start)
        _rate("Step", "decay", self.decay)
        _count("Step", "every", self.every)

    def __call__(self, step: int) -> float:
        return self.start * self.decay ** (_from_zero("Step", step) // self.every)


@dataclass(frozen=True, repr=False)
class MultiStep(_Formula):
    """`start * decay ** n`, where `n` of the `milestones` are reached: a drop at each of these steps.

    The numbers are those of torch's `MultiStepLR`.

    >>> import fluxion as fx
    >>> schedule = fx.schedules.MultiStep(1.0, 0.5, (30, 60))
    >>> [schedule(step) for step in (29, 30, 60, 99)]
    [1.0, 0.5, 0.25, 0.25]
    """

    start: float
    decay: float
    milestones: tuple[int, ...]

    def __post_init__(self) -> None:
        _rate("MultiStep", "start", self.start)
        _rate("MultiStep", "decay", self.decay)
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for milestone in self.milestones:
            _count("MultiStep", "milestone", milestone)

    def __call__(self, step: int) -> float:
        _from_zero("MultiStep", step)
        return self.start * self.decay ** sum(step >= milestone for milestone in self.milestones)


@dataclass(frozen=True, repr=False)
class Exponential(_Formula):
    """`start * decay ** (step / every)`: a smooth fall by the factor `decay` per `every` steps.

    The numbers are those of torch's `ExponentialLR` (with `every=1`) and optax's `exponential_decay`.

    >>> import fluxion as fx
    >>> fx.schedules.Exponential(1.0, 0.5)(3)
    0.125
    """

    start: float
    decay: float
    every: int = 1

    def __post_init__(self) -> None:
        _rate("Exponential", "start", self.start)
        _rate("Exponential", "decay", self.decay)
        _count("Exponential", "every", self.every)

    def __call__(self, step: int) -> float:
        return self.start * self.decay ** (_from_zero("Exponential", step) / self.every)


@dataclass(frozen=True, repr=False)
class Inverse(_Formula):
    """`start / (1 + decay * step) ** power`.

    The formula is `Inv` of Julia's ParameterSchedulers.

    >>> import fluxion as fx
    >>> fx.schedules.Inverse(1.0, 0.5)(2)
    0.5
    """

    start: float
    decay: float
    power: float = 1.0

    def __post_init__(self) -> None:
        _rate("Inverse", "start", self.start)
        _rate("Inverse", "decay", self.decay)
        _rate("Inverse", "power", self.power)

    def __call__(self, step: int) -> float:
        return self.start / (1 + self.decay * _from_zero("Inverse", step)) ** self.power


@dataclass(frozen=True, repr=False)
class Polynomial(_Formula):
    """`(start - end) * (1 - step / steps) ** power + end`, then `end`. A power of 1 is a straight line.

    The numbers are those of optax's `polynomial_schedule` and, with `end=0`, of torch's `PolynomialLR`.

    >>> import fluxion as fx
    >>> schedule = fx.schedules.Polynomial(1.0, 2, 10)
    >>> schedule(0), schedule(5), schedule(10), schedule(99)
    (1.0, 0.25, 0.0, 0.0)
    """

    start: float
    power: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _rate("Polynomial", "start", self.start)
        _rate("Polynomial", "power", self.power)
        _count("Polynomial", "steps", self.steps)
        _rate("Polynomial", "end", self.end)

    def __call__(self, step: int) -> float:
        left = 1 - min(_from_zero("Polynomial", step), self.steps) / self.steps
        return (self.start - self.end) * left**self.power + self.end


@dataclass(frozen=True, repr=False)
class Cosine(_Formula):
    """Half a cosine from `start` down to `end`, after a linear rise from 0 over the first `warmup` steps.

    With `t` steps since the warm-up and `period = steps - warmup`:
    `end + (start - end) * (1 + cos(pi * t / period)) / 2`. So `end` is reached at step `steps`, the warm-up counted in.

    `restarts=None` holds `end` from then on. A number starts again at `start`, and each next period is that many times
    as long as the one before: 1 keeps the period, 2 doubles it.

    The numbers are those of torch's `CosineAnnealingLR`, of `CosineAnnealingWarmRestarts` with `T_mult=restarts`, and
    of optax's `warmup_cosine_decay_schedule` from 0.

    >>> import fluxion as fx
    >>> schedule = fx.schedules.Cosine(1.0, 12, warmup=2)
    >>> schedule(1), schedule(2), round(schedule(7), 6), schedule(12), schedule(99)
    (0.5, 1.0, 0.5, 0.0, 0.0)
    >>> fx.schedules.Cosine(1.0, 10, restarts=2)(10)
    1.0
    """

    start: float
    steps: int
    _: KW_ONLY
    end: float = 0.0
    warmup: int = 0
    restarts: float | None = None

    def __post_init__(self) -> None:
        _rate("Cosine", "start", self.start)
        _count("Cosine", "steps", self.steps)
        _rate("Cosine", "end", self.end)
        if isinstance(self.warmup, bool) or not isinstance(self.warmup, Integral) or not 0 <= self.warmup < self.steps:
            raise ArgumentError(
                f"Cosine: expected a whole number of warmup steps from 0 to steps - 1 = {self.steps - 1}, "
                f"got {self.warmup!r}."
            )
        if self.restarts is not None and not (_is_number(self.restarts) and 1 <= self.restarts < math.inf):
            raise ArgumentError(
                "Cosine: expected restarts to be None (none) or a number from 1 on (each period that many times as "
                f"long as the one before), got {self.restarts!r}."
            )

    def __call__(self, step: int) -> float:
        t = _from_zero("Cosine", step) - self.warmup
        if t < 0:
            return self.start * step / self.warmup
        period: float = self.steps - self.warmup
        if self.restarts is None:
            t = min(t, self.steps - self.warmup)
            return _cosine(self.start, self.end, t / period)
        if self.restarts == 1:
            return _cosine(self.start, self.end, (t % period) / period)
        # The first n periods take period * (restarts**n - 1) / (restarts - 1) steps; the logarithm may be off by one.
        done = int(math.log(t / period * (self.restarts - 1) + 1, self.restarts))
        begins = [period * (self.restarts**n - 1) / (self.restarts - 1) for n in (done - 1, done, done + 1)]
        n = max(index for index, begin in enumerate(begins) if begin <= t) + done - 1
        t_in = t - period * (self.restarts**n - 1) / (self.restarts - 1)
        return _cosine(self.start, self.end, t_in / (period * self.restarts**n))


@dataclass(frozen=True, repr=False)
class OneCycle(_Formula):
    """Up to `peak` and down again within `steps` steps, along half cosines (Smith 2018, super-convergence).

    Rises from `start` at step 0 to `peak` at step `warmup_fraction * steps - 1`, falls to `end` at step `steps - 1`,
    and stays there. `start` is `peak / 25` and `end` is `peak / 1e5` unless given.

    The numbers are those of torch's `OneCycleLR`, whose own defaults are `pct_start=0.3` and an end of `peak / 2.5e5`.

    >>> import fluxion as fx
    >>> schedule = fx.schedules.OneCycle(100, 1.0)
    >>> [round(schedule(step), 6) for step in (0, 24, 99)]
    [0.04, 1.0, 1e-05]
    """

    steps: int
    peak: float
    _: KW_ONLY
    start: float | None = None
    end: float | None = None
    warmup_fraction: float = 0.25

    def __post_init__(self) -> None:
        _count("OneCycle", "steps", self.steps)
        _rate("OneCycle", "peak", self.peak)
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None:
                _rate("OneCycle", name, value)
        if not 0 <= self.warmup_fraction <= 1:
            raise ArgumentError(f"OneCycle: expected warmup_fraction between 0 and 1, got {self.warmup_fraction!r}.")

    def __call__(self, step: int) -> float:
        t, last = min(_from_zero("OneCycle", step), self.steps - 1), self.steps - 1
        start = self.peak / 25 if self.start is None else self.start
        end = self.peak / 1e5 if self.end is None else self.end
        # With few steps the rise may have no length: then the peak stands at step 0.
        top = max(self.warmup_fraction * self.steps - 1, 0.0)
        if t < top:
            return _cosine(start, self.peak, t / top)
        return _cosine(self.peak, end, (t - top) / (last - top)) if last > top else self.peak


@dataclass(frozen=True, repr=False, init=False)
class Sequence(_Formula):
    """Schedules one after the other, each with its number of steps and counting its own steps from 0.

    `Sequence((first, n), (second, m))` is `first(step)` for `step < n`, `second(step - n)` after that, and holds
    `second(m)` from step `n + m` on. A number stands for a constant schedule.

    >>> import fluxion as fx
    >>> schedules = fx.schedules
    >>> warm = schedules.Sequence((schedules.Polynomial(0.0, 1, 10, end=1.0), 10), (schedules.Step(1.0, 0.1, 100), 300))
    >>> warm(5), warm(10), round(warm(110), 6)
    (0.5, 1.0, 0.1)
    """

    parts: tuple[tuple[Schedule | float, int], ...]

    def __init__(self, *parts: tuple[Schedule | float, int]) -> None:
        if not parts:
            raise ArgumentError("Sequence: expected at least one pair (schedule, steps), got none.")
        for part in parts:
            if not (isinstance(part, tuple) and len(part) == 2):
                raise ArgumentError(f"Sequence: expected pairs (schedule, steps), got {part!r}.")
            if not callable(part[0]):
                _rate("Sequence", "learning rate", part[0])
            _count("Sequence", "steps", part[1])
        object.__setattr__(self, "parts", parts)

    def __call__(self, step: int) -> float:
        t = _from_zero("Sequence", step)
        for schedule, steps in self.parts[:-1]:
            if t < steps:
                return _value(schedule, t)
            t -= steps
        schedule, steps = self.parts[-1]
        return _value(schedule, min(t, steps))

    def __repr__(self) -> str:
        return f"Sequence({', '.join(map(repr, self.parts))})"


def constructor_call(instance: object) -> str:
    """`Name(0.1, 10, end=0.5)`: the call that makes a frozen dataclass, options at their default left out.

    The first field prints by position, and a learning rate that stands first prints always.
    """
    shown = []
    for position, field in enumerate(fields(instance)):  # type: ignore[arg-type]
        value = getattr(instance, field.name)
        if field.default is MISSING or field.name == "learning_rate" == fields(instance)[0].name:  # type: ignore[arg-type]
            shown.append(repr(value))
        elif value != field.default:
            shown.append(repr(value) if position == 0 else f"{field.name}={value!r}")
    return f"{type(instance).__name__}({', '.join(shown)})"


def _cosine(first: float, last: float, fraction: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * fraction)) / 2


def _value(schedule: Schedule | float, step: int) -> float:
    return float(schedule(step)) if callable(schedule) else float(schedule)


def _from_zero(name: str, step: int) -> int:
    if step < 0:
        raise ArgumentError(f"{name}: expected a step counted from 0, got {step}.")
    return step


def _rate(name: str, field: str, value: object) -> None:
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ArgumentError(f"{name}: expected {field} to be a finite number, 0 or greater, got {value!r}.")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _count(name: str, field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ArgumentError(f"{name}: expected {field} to be a whole number, 1 or greater, got {value!r}.")
