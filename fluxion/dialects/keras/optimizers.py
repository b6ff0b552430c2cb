"""The optimizers of `keras.optimizers`, with Keras' names, defaults and formulas, on Fluxion's rules.

Each makes a chain of rules (`rule()`), which `compile` binds to the model. Where Keras' formula is not that of the rule
in Fluxion, mostly in the place of epsilon, it is written out here. In a loop of one's own `apply_gradients` changes
variables in place, and `stateless_apply` is a pure function of arrays, as in Keras' guide for JAX.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras import schedules
from fluxion.dialects.keras.names import automatic_name, choose, known_arguments, snake_case
from fluxion.dialects.keras.schedules import LearningRateSchedule
from fluxion.dialects.keras.variables import Box, plain
from fluxion.errors import ArgumentError, StateError
from fluxion.optim import Lion as LionRule
from fluxion.optim import NAdam, adjust, freeze, setup, update
from fluxion.optim.base import Rule, transformation
from fluxion.optim.chain import AccumGrad, ClipGlobalNorm, ClipGrad, ClipNorm, OptimizerChain
from fluxion.optim.optimizer import Optimizer as Bound
from fluxion.optim.optimizer import Snapshot
from fluxion.tree.model import trainables

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lamb",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
]


class Rate(float):
    """A learning rate: a number that can also be asked for `numpy()` and assigned to, as Keras' variable can."""

    owner: Optimizer

    def numpy(self) -> np.ndarray:
        """The number as a NumPy scalar."""
        return np.float32(self)  # type: ignore[return-value]

    def assign(self, value: Any) -> None:
        """Set the learning rate of the optimizer this is from."""
        self.owner.learning_rate = value


class Optimizer:
    """The base of optimizers.

    Arguments of all: `learning_rate`, a number or a `LearningRateSchedule`; `weight_decay`, decoupled and times the
    learning rate; one of `clipnorm` (per array), `clipvalue` and `global_clipnorm`; `gradient_accumulation_steps`.

    >>> from fluxion.dialects import keras
    >>> optimizer = keras.optimizers.Adam(1e-3)
    >>> w = keras.Variable([1.0])
    >>> optimizer.apply_gradients([([0.5], w)])
    >>> print(w.numpy().round(3), optimizer.iterations)
    [0.999] 1
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None:
        owner = type(self).__name__
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = [n for n, value in clips.items() if value is not None]
        if len(given) > 1:
            raise ArgumentError(f"{owner}: expected one way of clipping at most, got {' and '.join(given)}.")
        if gradient_accumulation_steps is not None and callable(learning_rate):
            raise ArgumentError(
                f"{owner}: gradient_accumulation_steps together with a schedule is not supported; a schedule would "
                "count other steps than in Keras."
            )
        self.name = name or automatic_name(snake_case(owner))
        self.weight_decay, self.clipnorm, self.clipvalue = weight_decay, clipnorm, clipvalue
        self.global_clipnorm, self.gradient_accumulation_steps = global_clipnorm, gradient_accumulation_steps
        self.bound: Bound | None = None
        self._owner: Any = None  # the model or the list of variables that it is bound to
        self._rate: Any = _checked_rate(owner, learning_rate)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters.values()
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                cls.__init__ = known_arguments(cls.__init__)  # type: ignore[method-assign]

    # What it does to gradients

    def parts(self) -> tuple[Rule, ...]:
        """The rules between clipping and weight decay; one of them has the learning rate, `self.rate`."""
        raise NotImplementedError(f"{type(self).__name__} defines no parts().")

    @property
    def rate(self) -> Any:
        """The learning rate as rules take it: a number or a function of the step."""
        return self._rate

    def rule(self) -> OptimizerChain:
        """All of it as a chain of Fluxion's rules."""
        first: list[Rule] = []
        if self.gradient_accumulation_steps is not None:
            first.append(AccumGrad(self.gradient_accumulation_steps))
        if self.clipnorm is not None:
            first.append(ClipNorm(self.clipnorm))
        if self.clipvalue is not None:
            first.append(ClipGrad(self.clipvalue))
        if self.global_clipnorm is not None:
            first.append(ClipGlobalNorm(self.global_clipnorm))
        last = () if not self.weight_decay else (Decay(self.weight_decay),)
        return OptimizerChain(*first, *self.parts(), *last)

    # What it is bound to

    def bind(self, model: Any, frozen: Sequence[Any] = ()) -> Bound:
        """The Fluxion optimizer over a model's parameters, but for those of `frozen` layers; made once."""
        if self.bound is not None and self._owner is not model:
            raise StateError(
                f"{self.name}: expected the model or the variables that it was used for first, got others. "
                "Make a new optimizer for them."
            )
        if self.bound is None:
            self.bound, self._owner = setup(self.rule(), model), model
        thawed = {i for layer in frozen for i in _below(self.bound, layer)}
        self.bound._plan = _thawed(self.bound)
        for path in sorted({self.bound.paths[i] for i in thawed}):
            freeze(self.bound, path)
        return self.bound

    def build(self, variables: Iterable[Any]) -> None:
        """Make what is remembered of these variables."""
        if self.bound is None:
            boxes = list(variables)
            self.bound = setup(self.rule(), [jnp.asarray(plain(v)) for v in boxes])
            self._owner = boxes

    @property
    def built(self) -> bool:
        return self.bound is not None

    @property
    def iterations(self) -> int:
        """The number of updates so far."""
        return 0 if self.bound is None else self.bound.step

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next update; set it to change it."""
        value = self._rate(self.iterations) if callable(self._rate) else self._rate
        rate = Rate(float(value))
        rate.owner = self
        return rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if callable(self._rate) and not callable(value):
            raise StateError(
                f"{self.name}: the learning rate is a schedule, so that it cannot be set to a number. "
                "Give the optimizer a number to begin with."
            )
        self._rate = _checked_rate(type(self).__name__, value)
        if self.bound is not None:
            adjust(self.bound, self._rate)

    @property
    def variables(self) -> list[Any]:
        """The step, the learning rate, and what is remembered, as variables."""
        count = 2 + (0 if self.bound is None else len(jax.tree.leaves(self.bound.state)))
        return [Slot(self, i) for i in range(count)]

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> None:
        """One update of variables, in place, from pairs of gradient and variable."""
        pairs = list(grads_and_vars)
        self.apply([g for g, _ in pairs], [v for _, v in pairs])

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One update, in place, of the variables it was built with, or of these."""
        if trainable_variables is not None:
            self.build(trainable_variables)
        if self.bound is None or not isinstance(self._owner, list):
            raise StateError(
                f"{self.name}: expected an optimizer built for a list of variables. Call build(variables)."
            )
        known = {id(plain(v)): i for i, v in enumerate(self._owner)}
        variables = self._owner if trainable_variables is None else list(trainable_variables)
        places = [known.get(id(plain(v)), _place(self._owner, v)) for v in variables]
        if None in places or len(grads) != len(variables):
            raise StateError(
                f"{self.name}: expected a gradient for each of the {len(self._owner)} variables it was built with, got "
                f"{len(grads)} for {len(variables)}. Make a new optimizer for others."
            )
        arrays = [jnp.asarray(plain(v)) for v in self._owner]
        by_place = dict(zip(places, grads, strict=True))
        given = [by_place.get(i) for i in range(len(arrays))]
        update(self.bound, arrays, [None if g is None else jnp.asarray(plain(g)) for g in given])
        for variable, array in zip(self._owner, arrays, strict=True):
            variable.assign(array)

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """One update as a pure function: new trainable variables, new `optimizer_variables`."""
        if self.bound is None:
            raise StateError(f"{self.name}: expected a built optimizer. Call build(model.trainable_variables) first.")
        step, rate, *leaves = map(plain, optimizer_variables)
        if callable(self._rate):
            rate = jnp.asarray(self._rate(step), jnp.float32)
        state = jax.tree.unflatten(jax.tree.structure(self.bound.state), leaves)
        arrays = [jnp.asarray(plain(v)) for v in trainable_variables]
        if len(arrays) != len(self.bound.paths) or len(grads) != len(arrays):
            raise StateError(
                f"{self.name}: expected {len(self.bound.paths)} variables and gradients, as it was built with, got "
                f"{len(arrays)} and {len(grads)}."
            )
        rates = jnp.broadcast_to(jnp.asarray(rate, jnp.result_type(float)), (1,))
        new, state = self.bound.apply(arrays, [plain(g) for g in grads], state, rates)
        return new, [step + 1, rate, *jax.tree.leaves(state)]

    # As files and programs name it

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this optimizer again."""
        rate = self._rate
        if isinstance(rate, LearningRateSchedule):
            kind = {"module": "keras.optimizers.schedules", "class_name": type(rate).__name__, "registered_name": None}
            rate = kind | {"config": rate.get_config()}
        names = [n for n in inspect.signature(type(self)).parameters if n != "learning_rate" and hasattr(self, n)]
        return {"name": self.name, "learning_rate": rate, **{n: getattr(self, n) for n in names}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """The optimizer that `get_config`, or a file of Keras, described."""
        given = dict(config)
        if isinstance(given.get("learning_rate"), Mapping):
            given["learning_rate"] = schedules.deserialize(given["learning_rate"])
        for name, standard in _UNSUPPORTED.items():
            if given.pop(name, standard) not in (standard, None):
                raise ArgumentError(f"{cls.__name__}: {name} is not supported.")
        return cls(**given)

    def __repr__(self) -> str:
        return f"<keras.optimizers.{type(self).__name__} learning_rate={self.learning_rate}>"


# Options of Keras that only their standard value is known of here.
_UNSUPPORTED = {"use_ema": False, "ema_momentum": 0.99, "ema_overwrite_frequency": None, "loss_scale_factor": None}
_UNSUPPORTED |= {"is_legacy_optimizer": False, "jit_compile": None}


class Slot(Box):
    """One of an optimizer's variables: 0 is the step, 1 the learning rate, the others what is remembered."""

    __slots__ = ("name", "number", "optimizer", "path")
    trainable = False

    def __init__(self, optimizer: Optimizer, number: int) -> None:
        self.optimizer, self.number = optimizer, number
        self.name = ("iteration", "learning_rate")[number] if number < 2 else f"slot_{number - 2}"
        self.path = f"{optimizer.name}/{self.name}"

    @property
    def value(self) -> Any:
        optimizer = self.optimizer
        if self.number < 2:
            return jnp.asarray(optimizer.learning_rate if self.number else optimizer.iterations)
        assert optimizer.bound is not None
        return jax.tree.leaves(optimizer.bound.state)[self.number - 2]

    @value.setter
    def value(self, new: Any) -> None:
        optimizer, bound = self.optimizer, self.optimizer.bound
        if self.number == 1:
            if not callable(optimizer.rate):
                optimizer.learning_rate = float(new)
        elif bound is not None and self.number == 0:
            bound.step = int(new)
        elif bound is not None:
            leaves, structure = jax.tree.flatten(bound.state)
            leaves[self.number - 2] = new
            bound.restore(Snapshot(jax.tree.unflatten(structure, leaves), bound.step))


# ------------------------------------------------------------------------------------------- the optimizers


class SGD(Optimizer):
    """`v <- momentum * v - rate * g`, `x <- x + v`; with `nesterov` `x <- x + momentum * v - rate * g`."""

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "SGD",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.momentum, self.nesterov = _share("SGD", "momentum", momentum), nesterov

    def parts(self) -> tuple[Rule, ...]:
        return Scaled(self.rate), *((Velocity(self.momentum, self.nesterov),) if self.momentum else ())


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba 2015), with Keras' place of epsilon.

    `x <- x - rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)`
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "adam",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def parts(self) -> tuple[Rule, ...]:
        return (AdamRule(self.rate, self.beta_1, self.beta_2, self.epsilon, self.amsgrad),)


class AdamW(Adam):
    """`Adam` with a weight decay of 0.004 unless given otherwise (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "adamw",
    ) -> None:
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            gradient_accumulation_steps,
            name,
        )


class RMSprop(Optimizer):
    """`s <- rho * s + (1 - rho) * g^2`, a step of `rate * g / sqrt(s + eps)`; with `centered` less the mean's square.

    With `momentum` the step goes into a velocity, as in `SGD`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "rmsprop",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.rho, self.momentum, self.epsilon, self.centered = (
            rho,
            _share("RMSprop", "momentum", momentum),
            epsilon,
            centered,
        )

    def parts(self) -> tuple[Rule, ...]:
        scaled = RMSRule(self.rate, self.rho, self.epsilon, self.centered)
        return scaled, *((Velocity(self.momentum, False),) if self.momentum else ())


class Adagrad(Optimizer):
    """`s <- s + g^2`, `x <- x - rate * g / sqrt(s + eps)`; `s` starts at `initial_accumulator_value`."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "adagrad",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def parts(self) -> tuple[Rule, ...]:
        return (AdagradRule(self.rate, self.initial_accumulator_value, self.epsilon),)


class Adadelta(Optimizer):
    """Steps as large as recent steps were (Zeiler 2012), times the learning rate."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "adadelta",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.rho, self.epsilon = rho, epsilon

    def parts(self) -> tuple[Rule, ...]:
        from fluxion.optim import AdaDelta

        return (AdaDelta(rho=self.rho, eps=self.epsilon, learning_rate=self.rate),)


class Adamax(Optimizer):
    """`u <- max(b2 * u, |g|)`, `x <- x - rate / (1 - b1^t) * m / (u + eps)` (Kingma and Ba 2015)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "adamax",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def parts(self) -> tuple[Rule, ...]:
        return (AdamaxRule(self.rate, self.beta_1, self.beta_2, self.epsilon),)


class Nadam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "nadam",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def parts(self) -> tuple[Rule, ...]:
        return (NAdam(self.rate, (self.beta_1, self.beta_2), self.epsilon, 1.0),)


class Lion(Optimizer):
    """The sign of an interpolated momentum (Chen and others 2023)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "lion",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.beta_1, self.beta_2 = beta_1, beta_2

    def parts(self) -> tuple[Rule, ...]:
        return (LionRule(self.rate, (self.beta_1, self.beta_2)),)


class Lamb(Optimizer):
    """Adam whose step has, array by array, the norm of the array (You and others 2020)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "lamb",
    ) -> None:
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, gradient_accumulation_steps, name
        )
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def parts(self) -> tuple[Rule, ...]:
        return (LambRule(self.rate, self.beta_1, self.beta_2, self.epsilon, self.weight_decay or 0.0),)


class OfRule(Optimizer):
    """A rule of Fluxion's with a learning rate: `model.compile(optimizer=fx.Adam(1e-3))`.

    >>> import fluxion as fx
    >>> from fluxion.dialects import keras
    >>> keras.optimizers.get(fx.Momentum(0.1)).learning_rate
    0.1
    """

    def __init__(self, given: Rule, name: str | None = None) -> None:
        if not hasattr(given, "learning_rate"):
            raise ArgumentError(f"optimizer: expected a rule with a learning rate, got {given!r}.")
        super().__init__(given.learning_rate, name=name)
        self.given = given

    def parts(self) -> tuple[Rule, ...]:
        return (replace(self.given, learning_rate=self.rate),)  # type: ignore[call-arg]


_CLASSES = (SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, Nadam, Lion, Lamb)
TABLE: dict[str, Any] = {c.__name__.lower(): c for c in _CLASSES}


def get(identifier: Any) -> Any:
    """The optimizer that a name, a config, a class or an object stands for.

    >>> from fluxion.dialects import keras
    >>> keras.optimizers.get("Adam").epsilon
    1e-07
    >>> keras.optimizers.get("adm")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: optimizer: got 'adm'. Did you mean 'adam'? There are: sgd, adam, ...
    """
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    if isinstance(identifier, str):
        return choose("optimizer", identifier.lower(), TABLE)()
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        return identifier()  # type: ignore[call-arg]
    if isinstance(identifier, Rule):
        return OfRule(identifier)
    if not isinstance(identifier, Optimizer):
        raise ArgumentError(
            f"optimizer: expected a name or a keras.optimizers.Optimizer, got {identifier!r}. "
            f"There are: {', '.join(TABLE)}."
        )
    return identifier


def deserialize(config: Mapping[str, Any]) -> Any:
    """The optimizer of a config `{"class_name": ..., "config": {...}}`."""
    return choose("optimizer", str(config.get("class_name")).lower(), TABLE).from_config(config.get("config", {}))


# ------------------------------------------------------------------------------------------- rules


@dataclass(frozen=True, repr=False)
class Scaled(Rule):
    """The gradient times the learning rate."""

    learning_rate: Any = 0.01

    def direction(self) -> optax.GradientTransformation:
        return transformation(lambda x: (), lambda g, state, params=None: (g, state))


@dataclass(frozen=True, repr=False)
class Velocity(Rule):
    """Keras' momentum, behind the learning rate: `v <- momentum * v + step`."""

    momentum: float = 0.9
    nesterov: bool = False

    def direction(self) -> optax.GradientTransformation:
        def move(step: Array, v: Array, params: Array | None = None) -> tuple[Array, Array]:
            v = self.momentum * v + step
            return (self.momentum * v + step if self.nesterov else v), v

        return transformation(jnp.zeros_like, move)


@dataclass(frozen=True, repr=False)
class Decay(Rule):
    """Decoupled weight decay behind all else: adds `rate * weight_decay * x` to the step."""

    weight_decay: float = 0.004

    def direction(self) -> optax.GradientTransformation:
        import optax

        def move(step: Array, state: Any, params: Any = None, *, learning_rate: Array, **_: Any) -> tuple[Array, Any]:
            return step + learning_rate * self.weight_decay * params, state

        return optax.GradientTransformationExtraArgs(lambda x: (), move)


@dataclass(frozen=True, repr=False)
class AdamRule(Rule):
    """Adam with epsilon beside the root of the uncorrected second moment."""

    learning_rate: Any = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False

    def direction(self) -> optax.GradientTransformation:
        def init(x: Array) -> tuple[Any, ...]:
            moments = [jnp.zeros_like(x) for _ in range(3 if self.amsgrad else 2)]
            return jnp.zeros((), jnp.int32), *moments

        def move(g: Array, state: tuple[Any, ...], params: Array | None = None) -> tuple[Array, tuple[Any, ...]]:
            t, m, v, *largest = state
            t = t + 1
            m = m + (g - m) * (1 - self.beta_1)
            v = v + (g**2 - v) * (1 - self.beta_2)
            largest = [jnp.maximum(w, v) for w in largest]
            alpha = jnp.sqrt(_left(self.beta_2, t, g)) / _left(self.beta_1, t, g)
            return m * alpha / (jnp.sqrt(largest[0] if largest else v) + self.epsilon), (t, m, v, *largest)

        return transformation(init, move)


@dataclass(frozen=True, repr=False)
class RMSRule(Rule):
    """`g / sqrt(s + eps)`."""

    learning_rate: Any = 0.001
    rho: float = 0.9
    epsilon: float = 1e-7
    centered: bool = False

    def direction(self) -> optax.GradientTransformation:
        def init(x: Array) -> tuple[Any, ...]:
            return tuple(jnp.zeros_like(x) for _ in range(2 if self.centered else 1))

        def move(g: Array, state: tuple[Any, ...], params: Array | None = None) -> tuple[Array, tuple[Any, ...]]:
            square = self.rho * state[0] + (1 - self.rho) * g**2
            means = [self.rho * mean + (1 - self.rho) * g for mean in state[1:]]
            spread = square - means[0] ** 2 if means else square
            return g * jax.lax.rsqrt(spread + self.epsilon), (square, *means)

        return transformation(init, move)


@dataclass(frozen=True, repr=False)
class AdagradRule(Rule):
    """`g / sqrt(s + eps)` with the sum of all squares."""

    learning_rate: Any = 0.001
    start: float = 0.1
    epsilon: float = 1e-7

    def direction(self) -> optax.GradientTransformation:
        def move(g: Array, total: Array, params: Array | None = None) -> tuple[Array, Array]:
            total = total + g**2
            return g / jnp.sqrt(total + self.epsilon), total

        return transformation(lambda x: jnp.full_like(x, self.start), move)


@dataclass(frozen=True, repr=False)
class AdamaxRule(Rule):
    """`m / ((1 - b1^t) * (u + eps))`."""

    learning_rate: Any = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def direction(self) -> optax.GradientTransformation:
        def init(x: Array) -> tuple[Any, ...]:
            return jnp.zeros((), jnp.int32), jnp.zeros_like(x), jnp.zeros_like(x)

        def move(g: Array, state: tuple[Any, ...], params: Array | None = None) -> tuple[Array, tuple[Any, ...]]:
            t, m, u = state
            t, m = t + 1, m + (g - m) * (1 - self.beta_1)
            u = jnp.maximum(self.beta_2 * u, jnp.abs(g))
            return m / (_left(self.beta_1, t, g) * (u + self.epsilon)), (t, m, u)

        return transformation(init, move)


@dataclass(frozen=True, repr=False)
class LambRule(Rule):
    """Adam's direction, scaled to the norm of the decayed array."""

    learning_rate: Any = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0

    def direction(self) -> optax.GradientTransformation:
        import optax

        def init(x: Array) -> tuple[Any, ...]:
            return jnp.zeros((), jnp.int32), jnp.zeros_like(x), jnp.zeros_like(x)

        def move(
            g: Array, state: tuple[Any, ...], params: Any = None, *, learning_rate: Array, **_: Any
        ) -> tuple[Array, tuple[Any, ...]]:
            t, m, v = state
            t = t + 1
            m, v = m + (g - m) * (1 - self.beta_1), v + (g**2 - v) * (1 - self.beta_2)
            step = m / _left(self.beta_1, t, g) / (jnp.sqrt(v / _left(self.beta_2, t, g)) + self.epsilon)
            decayed = params * (1 - learning_rate * self.weight_decay)
            norm, length = jnp.sqrt(jnp.sum(decayed**2)), jnp.sqrt(jnp.sum(step**2))
            known = (norm > 0) & (length > 0)
            return step * jnp.where(known, norm / jnp.where(known, length, 1), 1), (t, m, v)

        return optax.GradientTransformationExtraArgs(init, move)


# ------------------------------------------------------------------------------------------- helpers


def _left(beta: float, t: Array, like: Array) -> Array:
    """`1 - beta^t`."""
    return 1 - jnp.power(jnp.asarray(beta, like.dtype), t.astype(like.dtype))


def _share(owner: str, name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ArgumentError(f"{owner}: expected {name} in [0, 1], got {value!r}.")
    return float(value)


def _checked_rate(owner: str, value: Any) -> Any:
    """A number, or a function of the step."""
    if callable(value):
        return value if _takes_step(value) else functools.partial(_without_step, value)
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ArgumentError(f"{owner}: expected learning_rate as a number, 0 or greater, or a schedule, got {value!r}.")
    return float(value)


def _without_step(rate: Callable[[], Any], step: Any) -> Any:
    return rate()


def _takes_step(schedule: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(schedule).parameters)
    except ValueError:
        return True


def _place(owner: Sequence[Any], variable: Any) -> int | None:
    return next((i for i, known in enumerate(owner) if known is variable or known == variable), None)


def _below(bound: Bound, layer: Any) -> list[int]:
    """The numbers of the parameters within a layer."""
    inside = {id(x) for x in trainables(layer)}
    return [i for i, x in enumerate(trainables(bound._model)) if id(x) in inside]


def _thawed(bound: Bound) -> Any:
    from dataclasses import replace

    return replace(bound._plan, frozen=frozenset())
