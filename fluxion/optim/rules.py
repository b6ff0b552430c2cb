"""The rules: how a gradient becomes a step.

A rule is a small frozen dataclass that prints as the call that made it. It has two halves. Its *direction* is a
gradient transformation in optax's sense (`init(x)`, `update(g, state, x)`), free of the learning rate. Its *learning
rate*, a number or a schedule `step -> number`, is multiplied in by the optimizer, array by array and step by step:
changing it never compiles anything again, while every other option is a constant of the compiled step.

    x <- x - learning_rate * direction(g)

The mathematics is optax's where that agrees with torch, and written out below where torch computes something else
(RAdam, AMSGrad, NAdam, AdaGrad, Rprop, the clippings). Numbers agree with torch wherever torch has the rule.

A rule of your own is a frozen dataclass that inherits from `Rule`, with a field `learning_rate` first (without it the
rule only changes gradients) and a method `direction`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from fluxion.optim.base import (
    BETAS,
    FACTORS,
    FRACTION,
    LIMITS,
    NOT_NEGATIVE,
    SWITCH,
    LearningRate,
    Rule,
    option,
    transformation,
)

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array


@dataclass(frozen=True, repr=False)
class Descent(Rule):
    """Gradient descent: `x <- x - learning_rate * g`.

    The numbers are those of torch's `SGD`.

    >>> import fluxion as fx
    >>> fx.Descent()
    Descent(0.1)
    """

    learning_rate: LearningRate = 0.1

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.identity()


@dataclass(frozen=True, repr=False)
class Momentum(Rule):
    """Gradient descent with momentum: `v <- rho * v + g`, `x <- x - learning_rate * v`.

    The learning rate stands outside the velocity. The numbers are those of torch's `SGD(momentum=rho)`.

    >>> import fluxion as fx
    >>> fx.Momentum(0.1, rho=0.95)
    Momentum(0.1, rho=0.95)
    """

    learning_rate: LearningRate = 0.01
    rho: float = option(FRACTION, 0.9)

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.trace(self.rho)


@dataclass(frozen=True, repr=False)
class Nesterov(Rule):
    """Momentum that looks ahead: `v <- rho * v + g`, `x <- x - learning_rate * (g + rho * v)`.

    The numbers are those of torch's `SGD(momentum=rho, nesterov=True)`.

    >>> import fluxion as fx
    >>> fx.Nesterov()
    Nesterov(0.001)
    """

    learning_rate: LearningRate = 0.001
    rho: float = option(FRACTION, 0.9)

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.trace(self.rho, nesterov=True)


@dataclass(frozen=True, repr=False)
class RMSProp(Rule):
    """Gradients divided by their running root mean square (Hinton 2012).

    `s <- rho * s + (1 - rho) * g^2`, `x <- x - learning_rate * g / (sqrt(s) + eps)`. With `centered=True` the running
    mean of the gradient is kept as well, and its square subtracted from `s` under the root. With `eps_in_root=True` the
    divisor is `sqrt(s + eps)`, as Keras and Knet have it.

    The numbers are those of torch's `RMSprop(alpha=rho)`.

    >>> import fluxion as fx
    >>> fx.RMSProp(0.01, centered=True)
    RMSProp(0.01, centered=True)
    """

    learning_rate: LearningRate = 0.001
    rho: float = option(FRACTION, 0.9)
    eps: float = option(NOT_NEGATIVE, 1e-8)
    centered: bool = option(SWITCH, False)
    eps_in_root: bool = option(SWITCH, False)

    def direction(self) -> optax.GradientTransformation:
        import optax

        if not self.centered:
            return optax.scale_by_rms(self.rho, self.eps, eps_in_sqrt=self.eps_in_root)

        def scale(g: Array, nu: Array, mu: Array) -> Array:
            # Rounding can leave the variance of a constant gradient just below 0.
            return g / _root(jnp.maximum(nu - mu**2, 0), self.eps, self.eps_in_root)

        def update(g: Array, state: Moments, count: Array) -> tuple[Array, Moments]:
            nu, mu = _mean(g**2, state.nu, self.rho), _mean(g, state.mu, self.rho)
            return scale(g, nu, mu), Moments(count, mu, nu)

        return _with_moments(update)


@dataclass(frozen=True, repr=False)
class Adam(Rule):
    """Adaptive moments (Kingma and Ba 2015), the usual first choice.

    `m <- b1 * m + (1 - b1) * g`, `v <- b2 * v + (1 - b2) * g^2`, and with `mh = m / (1 - b1^t)`, `vh = v / (1 - b2^t)`:
    `x <- x - learning_rate * mh / (sqrt(vh) + eps)`, where `(b1, b2) = beta` and `t` counts the steps from 1.

    The numbers are those of torch's `Adam`.

    >>> import fluxion as fx
    >>> fx.Adam(), fx.Adam(3e-4, beta=(0.9, 0.99))
    (Adam(0.001), Adam(0.0003, beta=(0.9, 0.99)))
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.9, 0.999))
    eps: float = option(NOT_NEGATIVE, 1e-8)

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.scale_by_adam(*self.beta, eps=self.eps)


@dataclass(frozen=True, repr=False)
class RAdam(Rule):
    """Adam whose adaptive step is rectified while few gradients have been seen (Liu and others 2020).

    With `r_inf = 2 / (1 - b2) - 1` and `r = r_inf - 2 t b2^t / (1 - b2^t)`: as long as `r <= 5` the step is
    `learning_rate * mh`; after that
    `learning_rate * mh * sqrt(1 - b2^t) / (sqrt(v) + eps) * sqrt((r - 4)(r - 2) r_inf / ((r_inf - 4)(r_inf - 2) r))`.

    The numbers are those of torch's `RAdam`.

    >>> import fluxion as fx
    >>> fx.RAdam()
    RAdam(0.001)
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.9, 0.999))
    eps: float = option(NOT_NEGATIVE, 1e-8)

    def direction(self) -> optax.GradientTransformation:
        b1, b2 = self.beta
        longest = 2 / (1 - b2) - 1

        def update(g: Array, state: Moments, count: Array) -> tuple[Array, Moments]:
            mu, nu = _mean(g, state.mu, b1), _mean(g**2, state.nu, b2)
            t = count.astype(g.dtype)
            left = _one_minus_power(b2, t)
            length = longest - 2 * t * (1 - left) / left
            # The comparison guards the root: below 5 the fraction may be negative or 0 / 0.
            known = jnp.maximum(length, 5)
            rectifier = jnp.sqrt(
                (known - 4) * (known - 2) * longest / (max(longest - 4, 1e-30) * (longest - 2) * known)
            )
            adaptive = rectifier * jnp.sqrt(left) / (jnp.sqrt(nu) + self.eps)
            step = mu / _one_minus_power(b1, t) * jnp.where(length > 5, adaptive, 1)
            return step, Moments(count, mu, nu)

        return _with_moments(update)


@dataclass(frozen=True, repr=False)
class AdaMax(Rule):
    """Adam with the largest recent gradient in place of the root mean square (Kingma and Ba 2015).

    `u <- max(b2 * u, |g| + eps)`, `x <- x - learning_rate * mh / u`.

    The numbers are those of torch's `Adamax`.

    >>> import fluxion as fx
    >>> fx.AdaMax(0.002)
    AdaMax(0.002)
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.9, 0.999))
    eps: float = option(NOT_NEGATIVE, 1e-8)

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.scale_by_adamax(*self.beta, eps=self.eps)


@dataclass(frozen=True, repr=False)
class OAdam(Rule):
    """Optimistic Adam, for adversarial training (Daskalakis and others 2018).

    With Adam's direction `a_t`: `x <- x - learning_rate * (2 * a_t - a_(t-1))`, and `a_0 = a_1`.

    The numbers are those of optax's `optimistic_adam_v2(nesterov=False)`.

    >>> import fluxion as fx
    >>> fx.OAdam()
    OAdam(0.001)
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.5, 0.9))
    eps: float = option(NOT_NEGATIVE, 1e-8)

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.chain(optax.scale_by_adam(*self.beta, eps=self.eps), optax.scale_by_optimistic_gradient())


@dataclass(frozen=True, repr=False)
class AdaGrad(Rule):
    """Gradients divided by the root of the sum of all their squares so far (Duchi and others 2011).

    `s <- s + g^2`, `x <- x - learning_rate * g / (sqrt(s) + eps)`; `s` starts at 0. With `eps_in_root=True` the divisor
    is `sqrt(s + eps)`, as Keras and Knet have it.

    The numbers are those of torch's `Adagrad`.

    >>> import fluxion as fx
    >>> fx.AdaGrad()
    AdaGrad(0.1)
    """

    learning_rate: LearningRate = 0.1
    eps: float = option(NOT_NEGATIVE, 1e-8)
    eps_in_root: bool = option(SWITCH, False)

    def direction(self) -> optax.GradientTransformation:
        def update(g: Array, total: Array, params: Array | None = None) -> tuple[Array, Array]:
            total = total + g**2
            return g / _root(total, self.eps, self.eps_in_root), total

        return transformation(jnp.zeros_like, update)


@dataclass(frozen=True, repr=False)
class AdaDelta(Rule):
    """Steps as large as recent steps were, without a learning rate to choose (Zeiler 2012).

    `s <- rho * s + (1 - rho) * g^2`, `d = sqrt(u + eps) / sqrt(s + eps) * g`, `u <- rho * u + (1 - rho) * d^2`,
    `x <- x - learning_rate * d`. The learning rate is 1 in the paper.

    The numbers are those of torch's `Adadelta`.

    >>> import fluxion as fx
    >>> fx.AdaDelta(0.95)
    AdaDelta(0.95)
    """

    rho: float = option(FRACTION, 0.9)
    eps: float = option(NOT_NEGATIVE, 1e-8)
    learning_rate: LearningRate = 1.0

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.scale_by_adadelta(self.rho, self.eps)


@dataclass(frozen=True, repr=False)
class AMSGrad(Rule):
    """Adam that divides by the largest second moment so far (Reddi and others 2018).

    `w <- max(w, v)`, `x <- x - learning_rate * mh / (sqrt(w / (1 - b2^t)) + eps)`.

    The numbers are those of torch's `Adam(amsgrad=True)`.

    >>> import fluxion as fx
    >>> fx.AMSGrad()
    AMSGrad(0.001)
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.9, 0.999))
    eps: float = option(NOT_NEGATIVE, 1e-8)

    def direction(self) -> optax.GradientTransformation:
        b1, b2 = self.beta

        def init(x: Array) -> MaxMoments:
            return MaxMoments(jnp.zeros((), jnp.int32), jnp.zeros_like(x), jnp.zeros_like(x), jnp.zeros_like(x))

        def update(g: Array, state: MaxMoments, params: Array | None = None) -> tuple[Array, MaxMoments]:
            count = state.t + 1
            t = count.astype(g.dtype)
            mu, nu = _mean(g, state.mu, b1), _mean(g**2, state.nu, b2)
            nu_max = jnp.maximum(state.nu_max, nu)
            root = jnp.sqrt(nu_max / _one_minus_power(b2, t))
            return mu / _one_minus_power(b1, t) / (root + self.eps), MaxMoments(count, mu, nu, nu_max)

        return transformation(init, update)


@dataclass(frozen=True, repr=False)
class NAdam(Rule):
    """Adam with Nesterov's momentum (Dozat 2016).

    With `c_t = b1 * (1 - 0.5 * 0.96^(t * momentum_decay))` and `C_t` the product of `c_1 ... c_t`: the first moment in
    Adam's step is `c_(t+1) * m / (1 - C_(t+1)) + (1 - c_t) * g / (1 - C_t)`.

    The numbers are those of torch's `NAdam`.

    >>> import fluxion as fx
    >>> fx.NAdam()
    NAdam(0.001)
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.9, 0.999))
    eps: float = option(NOT_NEGATIVE, 1e-8)
    momentum_decay: float = option(NOT_NEGATIVE, 4e-3)

    def direction(self) -> optax.GradientTransformation:
        b1, b2 = self.beta

        def coefficient(t: Array) -> Array:
            return b1 * (1 - 0.5 * jnp.exp(t * (self.momentum_decay * math.log(0.96))))

        def init(x: Array) -> NesterovMoments:
            moments = jnp.zeros_like(x), jnp.zeros_like(x)
            return NesterovMoments(jnp.zeros((), jnp.int32), *moments, jnp.ones((), x.dtype))

        def update(g: Array, state: NesterovMoments, params: Array | None = None) -> tuple[Array, NesterovMoments]:
            count = state.t + 1
            t = count.astype(g.dtype)
            now, ahead = coefficient(t), coefficient(t + 1)
            product = state.product * now
            mu, nu = _mean(g, state.mu, b1), _mean(g**2, state.nu, b2)
            first = g * ((1 - now) / (1 - product)) + mu * (ahead / (1 - product * ahead))
            root = jnp.sqrt(nu / _one_minus_power(b2, t))
            return first / (root + self.eps), NesterovMoments(count, mu, nu, product)

        return transformation(init, update)


@dataclass(frozen=True, repr=False)
class AdamW(Rule):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    `x <- x - learning_rate * (mh / (sqrt(vh) + eps) + weight_decay * x)`. To spare biases and norms the decay, make
    groups: `setup({"**.bias": Adam(1e-3), "**": AdamW(1e-3)}, model)`.

    The numbers are those of torch's `AdamW`.

    >>> import fluxion as fx
    >>> fx.AdamW(3e-4, weight_decay=0.1)
    AdamW(0.0003, weight_decay=0.1)
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.9, 0.999))
    weight_decay: float = option(NOT_NEGATIVE, 0.01)
    eps: float = option(NOT_NEGATIVE, 1e-8)

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.chain(
            optax.scale_by_adam(*self.beta, eps=self.eps),
            optax.add_decayed_weights(self.weight_decay),
        )


@dataclass(frozen=True, repr=False)
class AdaBelief(Rule):
    """Adam with the variance of the gradient around its mean for the second moment (Zhuang and others 2020).

    `s <- b2 * s + (1 - b2) * (g - m)^2 + eps` takes the place of `v`.

    The numbers are those of optax's `adabelief(eps=eps, eps_root=eps)`.

    >>> import fluxion as fx
    >>> fx.AdaBelief()
    AdaBelief(0.001)
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.9, 0.999))
    eps: float = option(NOT_NEGATIVE, 1e-16)

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.scale_by_belief(*self.beta, eps=self.eps, eps_root=self.eps)


@dataclass(frozen=True, repr=False)
class Lion(Rule):
    """The sign of an interpolated momentum (Chen and others 2023).

    `x <- x - learning_rate * sign(b1 * m + (1 - b1) * g)`, then `m <- b2 * m + (1 - b2) * g`.

    `beta` is in the paper's order. The numbers are those of optax's `lion(weight_decay=0)`; for the paper's decoupled
    decay of strength `w` use `OptimizerChain(Lion(rate), WeightDecay(rate * w))`.

    >>> import fluxion as fx
    >>> fx.Lion(1e-4)
    Lion(0.0001)
    """

    learning_rate: LearningRate = 0.001
    beta: tuple[float, float] = option(BETAS, (0.9, 0.99))

    def direction(self) -> optax.GradientTransformation:
        import optax

        return optax.scale_by_lion(*self.beta)


@dataclass(frozen=True, repr=False)
class Rprop(Rule):
    """Resilient propagation, for full batches: each weight has its own step size (Riedmiller and Braun 1993).

    The step size grows by `factors[1]` while the sign of the gradient stays, shrinks by `factors[0]` when it flips
    (and the weight then rests for one step), and is kept within `limits`. Only the gradient's sign is used.

    The learning rate is the first step size. The numbers are those of torch's `Rprop(lr=learning_rate, etas=factors,
    step_sizes=limits)`; unlike there, changing the learning rate later scales the step sizes reached.

    >>> import fluxion as fx
    >>> fx.Rprop(0.01)
    Rprop(0.01)
    """

    learning_rate: LearningRate = 0.001
    factors: tuple[float, float] = option(FACTORS, (0.5, 1.2))
    limits: tuple[float, float] = option(LIMITS, (1e-6, 50.0))

    def direction(self) -> optax.GradientTransformation:
        import optax

        (shrink, grow), (low, high) = self.factors, self.limits

        def init(x: Array) -> StepSizes:
            return StepSizes(jnp.ones_like(x), jnp.zeros_like(x))

        # The size kept is relative to the learning rate, the limits are not: a rate of 0 leaves nothing to limit.
        def update(
            g: Array, state: StepSizes, params: Array | None = None, *, learning_rate: Array, **_: Any
        ) -> tuple[Array, StepSizes]:
            agreement = jnp.sign(g * state.before)
            factor = jnp.where(agreement > 0, grow, jnp.where(agreement < 0, shrink, 1.0)).astype(g.dtype)
            size = state.size * factor
            rate = jnp.where(learning_rate > 0, learning_rate, 1)
            size = jnp.where(learning_rate > 0, jnp.clip(size, low / rate, high / rate), size)
            g = jnp.where(agreement < 0, 0, g)
            return jnp.sign(g) * size, StepSizes(size, g)

        return optax.GradientTransformationExtraArgs(init, update)


# The states of the rules that are written out here


class Moments(NamedTuple):
    """Steps taken, running mean of the gradient, running mean of its square."""

    t: Array
    mu: Array
    nu: Array


class MaxMoments(NamedTuple):
    """`Moments`, and the largest `nu` so far."""

    t: Array
    mu: Array
    nu: Array
    nu_max: Array


class NesterovMoments(NamedTuple):
    """`Moments`, and the product of the momentum coefficients so far."""

    t: Array
    mu: Array
    nu: Array
    product: Array


class StepSizes(NamedTuple):
    """Rprop's step sizes in units of the learning rate, and the gradient before, 0 where it flipped."""

    size: Array
    before: Array


def _with_moments(
    update: Callable[[Array, Moments, Array], tuple[Array, Moments]],
) -> optax.GradientTransformation:
    """A transformation whose state is `Moments`; `update(g, state, count)` gets the count with this step in it."""

    def init(x: Array) -> Moments:
        return Moments(jnp.zeros((), jnp.int32), jnp.zeros_like(x), jnp.zeros_like(x))

    return transformation(init, lambda g, state, params=None: update(g, state, state.t + 1))


def _root(square: Array, eps: float, inside: bool) -> Array:
    """What a gradient is divided by."""
    return jnp.sqrt(square + eps) if inside else jnp.sqrt(square) + eps


def _mean(value: Array, mean: Array, keep: float) -> Array:
    return keep * mean + (1 - keep) * value


def _one_minus_power(base: float, t: Array) -> Array:
    """`1 - base^t`, exact also in float32 where `base` is close to 1."""
    return -jnp.expm1(t * math.log(base)) if base > 0 else jnp.ones_like(t)
