"""What every rule is made of: the base class, the checks of options, and the wrapping into optax transformations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from fluxion.errors import ArgumentError
from fluxion.optim.schedules import Schedule, constructor_call

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array

LearningRate = float | Schedule


class Kind(NamedTuple):
    """What an option may be: in words, and as a test of a number or of the two numbers of a pair."""

    expected: str
    holds: Callable[..., bool]
    pair: bool = False


FRACTION = Kind("a number in [0, 1)", lambda v: 0 <= v < 1)
SHARE = Kind("a number in [0, 1]", lambda v: 0 <= v <= 1)
NOT_NEGATIVE = Kind("a finite number, 0 or greater", lambda v: 0 <= v < math.inf)
POSITIVE = Kind("a number greater than 0", lambda v: v > 0)
COUNT = Kind("a whole number, 1 or greater", lambda v: isinstance(v, Integral) and int(v) >= 1)
BETAS = Kind("two numbers in [0, 1)", lambda a, b: 0 <= a < 1 and 0 <= b < 1, pair=True)
FACTORS = Kind("two numbers (shrink, grow), 0 < shrink < 1 < grow", lambda a, b: 0 < a < 1 < b < math.inf, pair=True)
SWITCH = Kind("True or False", lambda v: isinstance(v, bool))
LIMITS = Kind("two numbers (low, high), 0 < low <= high", lambda a, b: 0 < a <= b, pair=True)


def option(kind: Kind, default: Any = MISSING) -> Any:
    """A field whose value is checked when the rule is made."""
    return field(default=default, metadata={"kind": kind})


@dataclass(frozen=True, repr=False)
class Rule:
    """What every rule has: validated options, a printed form, and a `direction`."""

    # Whether the direction is computed from all arrays of the group together, as a dict, and not array by array.
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for declared in fields(self):
            value = getattr(self, declared.name)
            value = value.item() if getattr(value, "ndim", None) == 0 else value  # a NumPy or JAX scalar
            if declared.name == "learning_rate":
                value = check_learning_rate(type(self).__name__, value)
            elif "kind" in declared.metadata:
                value = _checked(type(self).__name__, declared.name, value, declared.metadata["kind"])
            object.__setattr__(self, declared.name, value)

    def __repr__(self) -> str:
        return constructor_call(self)

    def direction(self) -> optax.GradientTransformation:
        """The rule without its learning rate."""
        raise NotImplementedError(f"{type(self).__name__} defines no direction().")

    def without_learning_rate(self) -> Rule:
        """The rule up to its learning rate, to compare and to key compiled code by."""
        return replace(self, learning_rate=1.0) if owns_learning_rate(self) else self  # type: ignore[call-arg]


def owns_learning_rate(rule: object) -> bool:
    """Whether `rule` is one of ours that has a learning rate."""
    return isinstance(rule, Rule) and any(option.name == "learning_rate" for option in fields(rule))


def transformation(init: Callable[..., Any], update: Callable[..., Any]) -> optax.GradientTransformation:
    """The optax transformation of these two functions."""
    import optax

    return optax.GradientTransformation(init, update)


def stateless(change: Callable[[Array, Array], Array]) -> optax.GradientTransformation:
    """The transformation `change(g, x)`, which remembers nothing."""
    return transformation(lambda x: (), lambda g, state, params=None: (change(g, params), state))


def check_learning_rate(caller: str, value: Any) -> LearningRate:
    """`value` as a schedule or a Python float; `ArgumentError` when it can be neither."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    if callable(value):
        return value
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ArgumentError(
            f"{caller}: expected learning_rate to be a finite number, 0 or greater, or a schedule step -> number, "
            f"got {value!r}."
        )
    return float(value)


def _checked(rule: str, name: str, value: Any, kind: Kind) -> object:
    values = tuple(value) if kind.pair and isinstance(value, tuple | list) else (value,)
    typed = len(values) == 1 + kind.pair and all(kind is SWITCH or _is_number(v) for v in values)
    if not typed or not kind.holds(*values):
        raise ArgumentError(f"{rule}: expected {name} to be {kind.expected}, got {value!r}.")
    if kind.pair:
        return tuple(map(float, values))
    return value if kind is SWITCH else int(value) if kind is COUNT else float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
