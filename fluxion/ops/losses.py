"""Loss functions: `loss(prediction, target, *, agg=jnp.mean)`.

`agg` turns the values per element (or, with classes, per example) into the result: `jnp.mean`, `jnp.sum`,
`fx.identity` to keep them all, or any function.

Targets have the shape of the prediction; losses with classes also take integer labels, whose shape is the
prediction's without the class axis. Nothing broadcasts, except that a Python number as the target of a loss
without classes stands for every place. What does not fit raises `ShapeError` or `DTypeError`; values that
cannot be meant (a label out of range, NaN in a target, probabilities outside [0, 1]) raise `DataError` where
they are known and make the loss NaN under a trace (see `checks`).

A loss has the dtype of its prediction, except that float16 and bfloat16 are computed and returned in float32.
`eps=None` is the machine epsilon of that dtype. Formulas are Flux's, gradients are finite for logits up to
+-1e4 and beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops import checks
from fluxion.ops.activations import relu, softplus
from fluxion.ops.ctc import ctc_loss

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped

    Agg = Callable[[Array], Array]

__all__ = [
    "binary_focal_loss",
    "binarycrossentropy",
    "crossentropy",
    "ctc_loss",
    "dice_coeff_loss",
    "focal_loss",
    "hinge_loss",
    "huber_loss",
    "kldivergence",
    "label_smoothing",
    "logitbinarycrossentropy",
    "logitcrossentropy",
    "mae",
    "mse",
    "msle",
    "poisson_loss",
    "siamese_contrastive_loss",
    "squared_hinge_loss",
    "tversky_loss",
    "xlogx",
    "xlogy",
]

# Numbers


def mse(prediction: Shaped[Array, "*shape"], target: Shaped[Array, "*shape"] | float, *, agg: Agg = jnp.mean) -> Array:
    """Mean squared error, `agg(|prediction - target|^2)`. Both `(...)`, real or complex. As `torch.nn.MSELoss`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.mse(jnp.array([1.1, 1.9, 3.1]), jnp.array([1, 2, 3]))), 6)
    0.01
    """
    prediction, target = checks.pair("mse", prediction, target, complex_too=True)
    error = prediction - target
    return agg(jnp.real(error * jnp.conj(error)))


def mae(prediction: Shaped[Array, "*shape"], target: Shaped[Array, "*shape"] | float, *, agg: Agg = jnp.mean) -> Array:
    """Mean absolute error, `agg(|prediction - target|)`. Both `(...)`, real or complex. As `torch.nn.L1Loss`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.mae(jnp.array([1.1, 1.9, 3.1]), jnp.array([1, 2, 3]))), 6)
    0.1
    """
    prediction, target = checks.pair("mae", prediction, target, complex_too=True)
    return agg(jnp.abs(prediction - target))


def msle(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*shape"] | float,
    *,
    agg: Agg = jnp.mean,
    eps: float | None = None,
) -> Array:
    """Mean squared logarithmic error, `agg((log(prediction + eps) - log(target + eps))^2)`. Both `(...)`.

    It measures ratios. (Keras and scikit-learn add 1 where this adds `eps`.)
    Errors: `DataError` for a negative prediction or target.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.msle(jnp.array([1.1, 2.2, 3.3]), jnp.array([1, 2, 3]))), 6)
    0.009084
    """
    rule = checks.NONNEGATIVE
    prediction, target = checks.pair("msle", prediction, target, predictions=rule, targets=rule)
    eps = _eps(prediction, eps)
    return agg((jnp.log(prediction + eps) - jnp.log(target + eps)) ** 2)


def huber_loss(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*shape"] | float,
    *,
    agg: Agg = jnp.mean,
    delta: float = 1.0,
) -> Array:
    """`agg` of `d^2 / 2` where `d = |prediction - target| < delta`, and `delta * (d - delta / 2)` elsewhere.

    Both `(...)`. Errors: `ArgumentError` unless `delta > 0`. Source: Huber 1964; as `torch.nn.HuberLoss`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> float(fx.huber_loss(jnp.array([0.0, 3.0]), jnp.array([1.0, 0.0])))
    1.5
    """
    if delta <= 0:
        raise ArgumentError(f"huber_loss: expected delta > 0, got {delta}.")
    prediction, target = checks.pair("huber_loss", prediction, target)
    error = jnp.abs(prediction - target)
    return agg(jnp.where(error < delta, 0.5 * error**2, delta * (error - 0.5 * delta)))


def poisson_loss(
    prediction: Float[Array, "*shape"], target: Shaped[Array, "*shape"] | float, *, agg: Agg = jnp.mean
) -> Array:
    """Poisson likelihood of counts, `agg(prediction - target * log(prediction))`. Both `(...)`.

    `prediction` is the rate. As `torch.nn.PoissonNLLLoss(log_input=False, eps=0)`.
    Errors: `DataError` for a negative rate or count.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.poisson_loss(jnp.array([1.0, 3.0, 3.0]), jnp.array([1, 2, 3]))), 6)
    0.502313
    """
    rule = checks.NONNEGATIVE
    prediction, target = checks.pair("poisson_loss", prediction, target, predictions=rule, targets=rule)
    return agg(prediction - xlogy(target, prediction))


# Classes


def logitcrossentropy(
    prediction: Float[Array, "*shape"], target: Shaped[Array, "*target"], *, agg: Agg = jnp.mean, axis: int = -1
) -> Array:
    """Cross entropy of raw outputs, `agg(-sum(target * logsoftmax(prediction), axis))`: the one to use for classes.

    Shapes: prediction `(..., classes)`; target the same (one-hot, or probabilities), or integer labels `(...)` in
    `[0, classes)`; `agg` gets `(...)`. The class axis may be any `axis`. As `torch.nn.CrossEntropyLoss`.
    Errors: `ShapeError`, `DTypeError` for labels that are not integers, `DataError` for a label out of range.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> logits = jnp.array([[8.0, 9.0, 7.5], [2.0, 3.0, 4.0]])
    >>> round(float(fx.logitcrossentropy(logits, jnp.array([1, 2]))), 5)
    0.43599
    >>> fx.logitcrossentropy(logits, jnp.array([1, 3]))
    Traceback (most recent call last):
        ...
    fluxion.errors.DataError: logitcrossentropy: label 3 at index (1,) is outside [0, 3). Labels count from 0, ...
    """
    name = "logitcrossentropy"
    x, y, from_labels = checks.distributions(name, prediction, target, axis)
    poison = checks.logits(name, prediction, axis)
    # Shifted first: log(sum(exp(x))) - x would cancel for large logits.
    x = x - jax.lax.stop_gradient(jnp.max(x, axis, keepdims=True))
    total = jnp.log(jnp.sum(jnp.exp(x), axis, keepdims=True))
    if from_labels:  # the sum of y is 1; its gradient then needs no second pass over the classes
        losses = jnp.squeeze(total, axis) - jnp.sum(jnp.where(y == 0, 0, y * x), axis)
    else:
        masked = (y == 0) & (x == -jnp.inf)  # a class ruled out by -inf, rightly
        losses = jnp.sum(y * (total - jnp.where(masked, 0, x)), axis)
    return agg(losses + poison)


def crossentropy(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*target"],
    *,
    agg: Agg = jnp.mean,
    axis: int = -1,
    eps: float | None = None,
) -> Array:
    """Cross entropy of probabilities, `agg(-sum(target * log(prediction + eps), axis))`.

    Shapes: prediction `(..., classes)`, as `softmax` makes it; target the same, or integer labels `(...)`; `agg` gets
    `(...)`. Prefer `logitcrossentropy` on the raw outputs: it loses no digits.
    Errors: as there, and `DataError` for a prediction outside [0, 1].

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.crossentropy(jnp.array([[0.25, 0.75], [0.5, 0.5]]), jnp.array([0, 1]))), 5)
    1.03972
    """
    p, y, _ = checks.distributions("crossentropy", prediction, target, axis, checks.SOFTMAX)
    return agg(-jnp.sum(xlogy(y, p + _eps(p, eps)), axis))


def focal_loss(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*target"],
    *,
    agg: Agg = jnp.mean,
    axis: int = -1,
    gamma: float = 2.0,
    eps: float | None = None,
) -> Array:
    """Cross entropy that looks away from easy examples, `agg(-sum(target * (1 - p)^gamma * log(p + eps), axis))`.

    Shapes and errors: as `crossentropy`, which it is for `gamma=0`; also `ArgumentError` for `gamma < 0`.
    Source: Lin et al. 2017.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.focal_loss(jnp.array([[0.25, 0.75], [0.5, 0.5]]), jnp.array([0, 1]))), 5)
    0.47654
    """
    _gamma("focal_loss", gamma)
    p, y, _ = checks.distributions("focal_loss", prediction, target, axis, checks.SOFTMAX)
    eps = _eps(p, eps)
    return agg(-jnp.sum(xlogy(y * _power(1 - p, gamma), p + eps), axis))


def kldivergence(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*shape"],
    *,
    agg: Agg = jnp.mean,
    axis: int = -1,
    eps: float | None = None,
) -> Array:
    """Kullback-Leibler divergence, `agg(sum(target * log(target) - target * log(prediction + eps), axis))`.

    Both `(..., classes)`, probabilities along `axis`; `agg` gets `(...)`. 0 only when both are equal. As
    `torch.nn.KLDivLoss(reduction="batchmean")` of `log(prediction)`. Errors: `DataError` for values outside [0, 1].

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.kldivergence(jnp.full((2, 2), 0.5), jnp.eye(2))), 6)
    0.693147
    """
    name = "kldivergence"
    p, y = checks.pair(name, prediction, target, predictions=checks.SOFTMAX, targets=checks.FRACTION)
    axis = checks.class_axis(name, p.shape, axis)
    return agg(jnp.sum(xlogx(y) - xlogy(y, p + _eps(p, eps)), axis))


def label_smoothing(target: Shaped[Array, "*shape"], alpha: float, axis: int | None = -1) -> Float[Array, "*shape"]:
    """A softer target, `target * (1 - alpha) + alpha / classes`, to be given to a loss.

    Shapes: one-hot `(..., classes)`, class axis `axis`, in and out. With `axis=None` the target is binary, of any
    shape, and is drawn towards 1/2. Errors: `ArgumentError` unless `0 < alpha < 1`; `DataError` for values
    outside [0, 1], such as labels. Source: Szegedy et al. 2015; as `label_smoothing` in `torch.nn.CrossEntropyLoss`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.label_smoothing(jnp.eye(2), 0.5))
    [[0.75 0.25]
     [0.25 0.75]]
    """
    name = "label_smoothing"
    if not 0 < alpha < 1:
        raise ArgumentError(f"{name}: expected 0 < alpha < 1, got {alpha}.")
    values = checks.numbers(name, "target", target)
    dtype = values.dtype if jnp.issubdtype(values.dtype, jnp.floating) else jnp.result_type(float)
    rule = checks.FRACTION._replace(
        reason="is outside [0, 1]. Make labels one-hot first, or use axis=None for 0 and 1."
    )
    y = checks.held(name, "target", values, checks.available(dtype), rule)
    classes = 2 if axis is None else y.shape[checks.class_axis(name, y.shape, axis)]
    return y * (1 - alpha) + alpha / classes


# Yes or no


def logitbinarycrossentropy(
    prediction: Float[Array, "*shape"], target: Shaped[Array, "*shape"] | float, *, agg: Agg = jnp.mean
) -> Array:
    """Binary cross entropy of raw outputs, `agg((1 - target) * prediction - logsigmoid(prediction))`.

    Both `(...)`; targets are 0, 1, or a probability between. As `torch.nn.BCEWithLogitsLoss`.
    Errors: `DataError` for a target outside [0, 1].

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.logitbinarycrossentropy(jnp.array([2.0, -1.0, 3.1415927]), jnp.array([1, 0, 1]))), 5)
    0.16083
    """
    x, y = checks.pair("logitbinarycrossentropy", prediction, target, targets=checks.FRACTION)
    # The same function, written so that neither tail is a difference of large numbers.
    return agg(y * softplus(-x) + (1 - y) * softplus(x))


def binarycrossentropy(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*shape"] | float,
    *,
    agg: Agg = jnp.mean,
    eps: float | None = None,
) -> Array:
    """Binary cross entropy of probabilities, `agg(-y * log(p + eps) - (1 - y) * log(1 - p + eps))`.

    Both `(...)`; prefer `logitbinarycrossentropy` on the raw outputs. `torch.nn.BCELoss` instead bounds the logarithm
    by -100. Errors: `DataError` for a prediction or target outside [0, 1].

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.binarycrossentropy(jnp.array([0.731059, 0.5, 0.731059]), jnp.array([1, 0, 1]))), 5)
    0.43989
    """
    p, y = checks.pair("binarycrossentropy", prediction, target, predictions=checks.SIGMOID, targets=checks.FRACTION)
    eps = _eps(p, eps)
    return agg(-xlogy(y, p + eps) - xlogy(1 - y, _nonnegative(1 - p) + eps))


def binary_focal_loss(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*shape"] | float,
    *,
    agg: Agg = jnp.mean,
    gamma: float = 2.0,
    eps: float | None = None,
) -> Array:
    """`agg(-(1 - q)^gamma * log(q + eps))`, where `q = y * p + (1 - y) * (1 - p)` is the probability of what happened.

    Both `(...)`. `binarycrossentropy` for `gamma=0` and targets 0 and 1. Errors: as there, and `ArgumentError` for
    `gamma < 0`. Source: Lin et al. 2017.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> p = jnp.array([[0.268941, 0.731059], [0.5, 0.5], [0.268941, 0.731059]])
    >>> round(float(fx.binary_focal_loss(p, jnp.array([[0, 1], [1, 0], [0, 1]]))), 6)
    0.072868
    """
    _gamma("binary_focal_loss", gamma)
    p, y = checks.pair("binary_focal_loss", prediction, target, predictions=checks.SIGMOID, targets=checks.FRACTION)
    q = y * p + (1 - y) * _nonnegative(1 - p)
    return agg(-_power(1 - q, gamma) * jnp.log(q + _eps(p, eps)))


def hinge_loss(
    prediction: Float[Array, "*shape"], target: Shaped[Array, "*shape"] | float, *, agg: Agg = jnp.mean
) -> Array:
    """Hinge loss, `agg(max(0, 1 - prediction * target))`. Both `(...)`; targets are 1 or -1.

    The slope at the kink is 0. As `keras.losses.Hinge`. Errors: `DataError` for another target.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> float(fx.hinge_loss(jnp.array([0.5, 2.0]), jnp.array([1, -1])))
    1.75
    """
    x, y = checks.pair("hinge_loss", prediction, target, targets=checks.SIGN)
    return agg(relu(1 - x * y))


def squared_hinge_loss(
    prediction: Float[Array, "*shape"], target: Shaped[Array, "*shape"] | float, *, agg: Agg = jnp.mean
) -> Array:
    """Squared hinge loss, `agg(max(0, 1 - prediction * target)^2)`. Both `(...)`; targets are 1 or -1.

    As `keras.losses.SquaredHinge`. Errors: `DataError` for another target.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> float(fx.squared_hinge_loss(jnp.array([0.5, 2.0]), jnp.array([1, -1])))
    4.625
    """
    x, y = checks.pair("squared_hinge_loss", prediction, target, targets=checks.SIGN)
    return agg(relu(1 - x * y) ** 2)


# Overlap, and distance


def dice_coeff_loss(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*shape"] | float,
    *,
    agg: Agg = jnp.mean,
    smooth: float = 1.0,
) -> Array:
    """`1 - (2 sum(y * p) + smooth) / (sum(y^2) + sum(p^2) + smooth)`: how far two regions are from overlapping.

    Both `(...)`. The sums run over the whole array, so that `agg` gets one number; `jax.vmap` the loss for one per
    image. Source: Milletari et al. 2016 (V-Net).

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.dice_coeff_loss(jnp.array([1.1, 2.1, 3.1]), jnp.array([1, 2, 3]))), 6)
    0.000992
    """
    p, y = checks.pair("dice_coeff_loss", prediction, target)
    return agg(1 - (2 * jnp.sum(y * p) + smooth) / (jnp.sum(y**2) + jnp.sum(p**2) + smooth))


def tversky_loss(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*shape"] | float,
    *,
    agg: Agg = jnp.mean,
    beta: float = 0.7,
) -> Array:
    """`1 - (sum(y * p) + 1) / (sum(y * p + beta * (1 - y) * p + (1 - beta) * y * (1 - p)) + 1)`.

    Both `(...)`. `beta` weighs what was wrongly found, `1 - beta` what was missed: Flux's formula (its text says the
    opposite). The sums run over the whole array, so that `agg` gets one number. Errors: `ArgumentError` unless
    `0 <= beta <= 1`; `DataError` for a target outside [0, 1]. Source: Salehi et al. 2017.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> missed, extra = jnp.array([0.0, 0.0]), jnp.array([1.0, 1.0])
    >>> round(float(fx.tversky_loss(missed, extra)), 4), round(float(fx.tversky_loss(extra, missed)), 4)
    (0.375, 0.5833)
    """
    if not 0 <= beta <= 1:
        raise ArgumentError(f"tversky_loss: expected 0 <= beta <= 1, got {beta}.")
    p, y = checks.pair("tversky_loss", prediction, target, targets=checks.FRACTION)
    weighed = jnp.sum(y * p + beta * (1 - y) * p + (1 - beta) * y * (1 - p))
    return agg(1 - (jnp.sum(y * p) + 1) / (weighed + 1))


def siamese_contrastive_loss(
    prediction: Float[Array, "*shape"],
    target: Shaped[Array, "*shape"] | float,
    *,
    agg: Agg = jnp.mean,
    margin: float = 1.0,
) -> Array:
    """`agg((1 - y) * d^2 + y * max(0, margin - d)^2)` for distances `d` and `y = 1` where a pair is unlike.

    Both `(...)`. Errors: `ArgumentError` for `margin < 0`; `DataError` for a target outside [0, 1].
    Source: Hadsell et al. 2006.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> float(fx.siamese_contrastive_loss(jnp.array([0.5, 0.5]), jnp.array([0, 1]), margin=2))
    1.25
    """
    if margin < 0:
        raise ArgumentError(f"siamese_contrastive_loss: expected margin >= 0, got {margin}.")
    d, y = checks.pair("siamese_contrastive_loss", prediction, target, targets=checks.FRACTION)
    return agg((1 - y) * d**2 + y * relu(margin - d) ** 2)


# Helpers


def xlogx(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x * log(x)`, elementwise, and 0 (with derivative 0) at 0. Negative `x` gives NaN.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.xlogx(jnp.array([0.0, 1.0])))
    [0. 0.]
    """
    x = jnp.asarray(x)
    return x * jnp.log(jnp.where(x == 0, 1, x))


def xlogy(x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x * log(y)`, elementwise, and 0 where `x` is 0, unless `y` is NaN: as `scipy.special.xlogy`.

    Shapes: both `(...)`, or one of them a number. Errors: `ShapeError` for two shapes.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.xlogy(jnp.array([0.0, 2.0]), jnp.array([0.0, 1.0])))
    [0. 0.]
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim and y.ndim and x.shape != y.shape:
        raise ShapeError(f"xlogy: expected two arrays of one shape, got {x.shape} and {y.shape}. Reshape one of them.")
    # Only where log(y) is no number: elsewhere the derivative by x is log(y), at 0 too.
    return x * jnp.log(jnp.where((x == 0) & ((y <= 0) | (y == jnp.inf)), 1, y))


def _eps(x: Float[Array, "*shape"], eps: float | None) -> float:
    return float(jnp.finfo(x.dtype).eps) if eps is None else eps


def _nonnegative(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`1 - p` is a rounding below 0 for some probabilities; the slope at 0 itself stays 1."""
    return jnp.where((x < 0) & (x >= -checks.SLACK), 0, x)


def _power(x: Float[Array, "*shape"], gamma: float) -> Float[Array, "*shape"]:
    """`x^gamma`; near 0 a little more, or the derivative would be infinite for `gamma < 1`."""
    tiny = jnp.finfo(x.dtype).eps
    return jnp.where(_nonnegative(x) < tiny, tiny, x) ** gamma


def _gamma(name: str, gamma: float) -> None:
    if gamma < 0:
        raise ArgumentError(f"{name}: expected gamma >= 0, got {gamma}.")
