"""The losses of `keras.losses`: functions `(y_true, y_pred)` of a value per example, and classes that reduce them.

Numbers are those of Keras 3: probabilities are clipped to `[1e-7, 1 - 1e-7]`, the default reduction divides by the
number of values, weights or not. What Keras would broadcast in silence, a label that no class has, and negative
probabilities are errors here, as everywhere in Fluxion (`fluxion.ops.checks`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras.layer import mask_of
from fluxion.dialects.keras.names import automatic_name, choose, known_arguments, snake_case
from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops import checks
from fluxion.ops.activations import identity
from fluxion.ops.ctc import ctc_loss
from fluxion.ops.losses import logitcrossentropy

if TYPE_CHECKING:
    from jaxtyping import Array

EPSILON = 1e-7
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none")

_POSITIVE = checks.Rule(
    lambda x: x >= 0, "is no probability. End the model with softmax, or give the loss from_logits=True."
)
_SHARE = checks.Rule(
    lambda x: (x >= 0) & (x <= 1 + checks.SLACK),
    "is no probability. End the model with sigmoid, or give the loss from_logits=True.",
)

# ------------------------------------------------------------------------------------------- regression


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """`mean((y_true - y_pred)^2)` over the last axis.

    >>> from fluxion.dialects.keras import losses
    >>> losses.mean_squared_error([[0.0, 1.0]], [[1.0, 1.0]]).tolist()
    [0.5]
    """
    t, p = _pair("mean_squared_error", y_true, y_pred)
    return jnp.mean((t - p) ** 2, axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    """`mean(|y_true - y_pred|)` over the last axis."""
    t, p = _pair("mean_absolute_error", y_true, y_pred)
    return jnp.mean(jnp.abs(t - p), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Array:
    """`100 * mean(|y_true - y_pred| / max(|y_true|, 1e-7))` over the last axis."""
    t, p = _pair("mean_absolute_percentage_error", y_true, y_pred)
    return 100 * jnp.mean(jnp.abs((t - p) / jnp.maximum(jnp.abs(t), EPSILON)), axis=-1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Array:
    """`mean((log(y_true + 1) - log(y_pred + 1))^2)` over the last axis, of values below 1e-7 as of 1e-7."""
    t, p = _pair("mean_squared_logarithmic_error", y_true, y_pred)
    t, p = (jnp.log1p(jnp.maximum(x, EPSILON)) for x in (t, p))
    return jnp.mean((p - t) ** 2, axis=-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Array:
    """The square up to `delta`, a line beyond it, `mean` over the last axis."""
    t, p = _pair("huber", y_true, y_pred)
    error = jnp.abs(p - t)
    return jnp.mean(jnp.where(error <= delta, 0.5 * error**2, delta * error - 0.5 * delta**2), axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> Array:
    """`mean(log(cosh(y_pred - y_true)))` over the last axis."""
    t, p = _pair("log_cosh", y_true, y_pred)
    x = p - t
    return jnp.mean(x + jax.nn.softplus(-2 * x) - np.float32(np.log(2.0)), axis=-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """Minus the cosine of the angle between the two: -1 is alike."""
    t, p = _pair("cosine_similarity", y_true, y_pred)
    return -jnp.sum(unit(t, axis) * unit(p, axis), axis=axis)


# ------------------------------------------------------------------------------------------- hinge


def hinge(y_true: Any, y_pred: Any) -> Array:
    """`mean(max(1 - y_true * y_pred, 0))` over the last axis; labels 0 and 1 are read as -1 and 1."""
    t, p = _pair("hinge", y_true, y_pred)
    return jnp.mean(jnp.maximum(1 - _signs(t) * p, 0), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    """The mean of the squares of `hinge`'s terms."""
    t, p = _pair("squared_hinge", y_true, y_pred)
    return jnp.mean(jnp.maximum(1 - _signs(t) * p, 0) ** 2, axis=-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    """`max(largest wrong score - right score + 1, 0)` for one-hot `y_true`."""
    t, p = _pair("categorical_hinge", y_true, y_pred)
    return jnp.maximum(jnp.max((1 - t) * p, axis=-1) - jnp.sum(t * p, axis=-1) + 1, 0)


# ------------------------------------------------------------------------------------------- probabilities


def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    """`sum(y_true * log(y_true / y_pred))` over the last axis, both clipped to `[1e-7, 1]`."""
    t, p = _pair("kl_divergence", y_true, y_pred)
    t, p = jnp.clip(t, EPSILON, 1), jnp.clip(p, EPSILON, 1)
    return jnp.sum(t * jnp.log(t / p), axis=-1)


def poisson(y_true: Any, y_pred: Any) -> Array:
    """`mean(y_pred - y_true * log(y_pred + 1e-7))` over the last axis."""
    t, p = _pair("poisson", y_true, y_pred)
    return jnp.mean(p - t * jnp.log(p + EPSILON), axis=-1)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """`-mean(y_true * log(y_pred) + (1 - y_true) * log(1 - y_pred))` over `axis`.

    >>> from fluxion.dialects.keras import losses
    >>> print(losses.binary_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).round(4))
    [0.6931]
    """
    t, p = _pair("binary_crossentropy", y_true, y_pred, None if from_logits else _SHARE)
    return jnp.mean(_binary(t, p, from_logits, label_smoothing), axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Binary crossentropy, each term times `(1 - p)^gamma` where `p` is the probability of the truth."""
    t, p = _pair("binary_focal_crossentropy", y_true, y_pred, None if from_logits else _SHARE)
    t = _smooth(t, label_smoothing, 2)
    p = jax.nn.sigmoid(p) if from_logits else p
    terms = (1 - (t * p + (1 - t) * (1 - p))) ** gamma * _binary(t, p, False, 0.0)
    return jnp.mean(terms * (t * alpha + (1 - t) * (1 - alpha)) if apply_class_balancing else terms, axis=axis)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """`-sum(y_true * log(y_pred))` over the classes along `axis`, for one-hot `y_true`."""
    t, log_p = _classes("categorical_crossentropy", y_true, y_pred, from_logits, axis)
    return -jnp.sum(_smooth(t, label_smoothing, t.shape[-1]) * log_p, axis=axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Categorical crossentropy, each term times `alpha * (1 - p)^gamma`."""
    name = "categorical_focal_crossentropy"
    t, p = _pair(name, y_true, y_pred, None if from_logits else _POSITIVE)
    p = jax.nn.softmax(p, axis=axis) if from_logits else p
    p = jnp.clip(p / jnp.sum(p, axis=axis, keepdims=True), EPSILON, 1 - EPSILON)
    t = _smooth(t, label_smoothing, t.shape[-1])
    return jnp.sum(alpha * (1 - p) ** gamma * -t * jnp.log(p), axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Array:
    """`-log(y_pred[label])`, for integer labels of the prediction's shape without its class axis, or with 1 there.

    Labels equal to `ignore_class` give 0 and are left out of the mean. A label outside `[0, classes)` is an error.

    >>> from fluxion.dialects.keras import losses
    >>> print(losses.sparse_categorical_crossentropy([1], [[0.5, 0.5]]).round(4))
    [0.6931]
    """
    return _sparse(y_true, y_pred, from_logits, ignore_class, axis)[0]


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float = 0.5) -> Array:
    """`(1 - p^q) / q` with `p` the probability of the label, robust against wrong ones."""
    name = "categorical_generalized_cross_entropy"
    p = checks.held(name, "prediction", jnp.asarray(y_pred), jnp.result_type(float), _POSITIVE)
    hot, valid = _one_hot(name, y_true, p, -1)
    return jnp.where(valid, (1 - jnp.sum(p * hot, axis=-1) ** q) / q, jnp.nan)


# ------------------------------------------------------------------------------------------- others


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Array:
    """`1 - 2 sum(y_true * y_pred) / (sum(y_true) + sum(y_pred) + 1e-7)`, over `axis` or everything."""
    t, p = _pair("dice", y_true, y_pred)
    return 1 - 2 * jnp.sum(t * p, axis=axis) / (jnp.sum(t, axis=axis) + jnp.sum(p, axis=axis) + EPSILON)


def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> Array:
    """`1 - hits / (hits + alpha * sum(y_true * (1 - y_pred)) + beta * sum((1 - y_true) * y_pred) + 1e-7)`."""
    t, p = _pair("tversky", y_true, y_pred)
    hits, missed, false = (jnp.sum(x, axis=axis) for x in (t * p, t * (1 - p), (1 - t) * p))
    return 1 - hits / (hits + alpha * missed + beta * false + EPSILON)


def ctc(y_true: Any, y_pred: Any) -> Array:
    """Connectionist temporal classification: labels `(batch, length)` with 0 for blank and padding, logits
    `(batch, time, classes)`; one value per example."""
    labels, logits = jnp.asarray(y_true).astype(jnp.int32), jnp.asarray(y_pred)
    if labels.ndim != 2 or logits.ndim != 3 or len(labels) != len(logits):
        raise ShapeError(
            "ctc: expected labels (batch, length) and logits (batch, time, classes), got "
            f"{labels.shape} and {logits.shape}."
        )
    # Fluxion's blank is the last class: class 0 goes there, and every label one down.
    moved = jnp.roll(logits, -1, axis=-1)
    lengths = jnp.sum(labels != 0, axis=-1)
    return ctc_loss(moved, jnp.maximum(labels - 1, 0), target_lengths=lengths, agg=lambda x: x)


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Array:
    """Circle loss of normalized embeddings `(batch, features)` and integer labels `(batch,)` (Sun and others 2020)."""
    p = jnp.asarray(y_pred)
    labels = jnp.asarray(y_true).astype(jnp.int32).reshape(-1, 1)
    others = labels if ref_labels is None else jnp.asarray(ref_labels).astype(jnp.int32).reshape(-1, 1)
    distance = jnp.maximum(1 - p @ (p if ref_embeddings is None else jnp.asarray(ref_embeddings)).T, 0)
    same = labels == others.T
    positive = same & ~jnp.eye(len(labels), len(others), dtype=bool) if remove_diagonal else same
    pulled = -gamma * jnp.maximum(margin + distance, 0) * (margin - distance)
    pushed = gamma * jnp.maximum(1 + margin - distance, 0) * (1 - margin - distance)
    total = sum(
        jax.nn.logsumexp(jnp.where(chosen, x, -jnp.inf), axis=1) for chosen, x in ((positive, pulled), (~same, pushed))
    )
    return jax.nn.softplus(total)


# ------------------------------------------------------------------------------------------- classes


class Loss:
    """The base of losses: `loss(y_true, y_pred, sample_weight=None)` is `call(y_true, y_pred)`, weighted and reduced.

    `reduction` is "sum_over_batch_size" (the sum over the number of values), "mean" (the same), "sum",
    "mean_with_sample_weight" (the sum over the sum of the weights), or None. Override `call` for a loss of your own.

    >>> from fluxion.dialects import keras
    >>> class Cubic(keras.losses.Loss):
    ...     def call(self, y_true, y_pred):
    ...         return abs(y_true - y_pred) ** 3
    >>> float(Cubic()([[0.0], [2.0]], [[1.0], [2.0]]))
    0.5
    """

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
        self.name = name or automatic_name(snake_case(type(self).__name__))
        self.reduction = standard_reduction(reduction)
        self.dtype = jnp.dtype("float32" if dtype is None else dtype)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters.values()
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                cls.__init__ = known_arguments(cls.__init__)  # type: ignore[method-assign]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A value per example."""
        raise NotImplementedError(f"{type(self).__name__} defines no call(y_true, y_pred).")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Array:
        masks = [mask for mask in map(mask_of, jax.tree.leaves(y_pred)) if mask is not None]
        return self.reduced(y_true, y_pred, sample_weight, masks[0] if masks else None)

    def reduced(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Array:
        """The loss, with the mask of the prediction, if it has one, given by itself."""
        y_pred = jax.tree.map(lambda p: jnp.asarray(p).astype(self.dtype), _arrays(y_pred))
        values, valid = self.values(_arrays(y_true), y_pred)
        if valid is not None:
            mask = valid if mask is None else jnp.asarray(mask) & valid
        return reduced(values.astype(self.dtype), sample_weight, mask, self.reduction)

    def values(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """What `call` gives, and which of it counts; None for all."""
        return jnp.asarray(self.call(y_true, y_pred)), None

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this loss again."""
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """The loss that `get_config` described."""
        return cls(**config)

    def key(self) -> Any:
        """What tells one loss from another in compiled code."""
        return self


class FunctionLoss(Loss):
    """A loss made of a function `(y_true, y_pred, **options)`."""

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(name=name or getattr(fn, "__name__", type(fn).__name__), reduction=reduction, dtype=dtype)
        self.fn, self.options = fn, options
        vars(self).update(options)

    def values(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        if self.fn is sparse_categorical_crossentropy:
            return _sparse(y_true, y_pred, **self.options)
        if self.fn is circle:
            values = circle(y_true, y_pred, **self.options)
            return values, values > 0
        if isinstance(y_pred, jax.Array) and isinstance(y_true, jax.Array | np.ndarray):
            y_true, y_pred = same_rank(y_true, y_pred)
        return jnp.asarray(self.fn(y_true, y_pred, **self.options)), None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def key(self) -> Any:
        return type(self), self.fn, self.reduction, self.dtype, tuple(self.options.items())


def family(
    base: type, name: str, fn: Callable[..., Any], order: tuple[str, ...], standard: Mapping[str, Any], more: str = ""
) -> Any:
    """The class of a function `(y_true, y_pred, options...)`: its options and the `standard` arguments, all checked.

    `order` tells which of the standard arguments come before the options.
    """
    options = [p for p in list(inspect.signature(fn).parameters.values())[2:] if not p.name.startswith("ref_")]
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = {n: inspect.Parameter(n, keyword, default=value) for n, value in standard.items()}
    first, last = [named[n] for n in order], [p for n, p in named.items() if n not in order]
    signature = inspect.Signature([inspect.Parameter("self", keyword), *first, *options, *last])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = {n: value for n, value in bound.arguments.items() if n != "self"}
        base.__init__(self, fn, **given)  # type: ignore[misc]

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{name}.__init__"
    shown = ", ".join(f"{p.name}={p.default!r}" if p.default is not p.empty else p.name for p in options)
    sentence = (fn.__doc__ or "").partition("\n\n")[0].replace("\n    ", " ")
    doc = f"`{fn.__name__}` as an object: {sentence}\n\nOptions: {shown or 'none'}; {', '.join(standard)}.{more}"
    return type(name, (base,), {"__init__": __init__, "__doc__": doc, "__module__": fn.__module__})


def _class(name: str, fn: Callable[..., Array], loss_name: str | None = None) -> Any:
    standard = {"reduction": "sum_over_batch_size", "name": loss_name or fn.__name__, "dtype": None}
    return family(FunctionLoss, name, fn, (), standard)


MeanSquaredError = _class("MeanSquaredError", mean_squared_error)
MeanAbsoluteError = _class("MeanAbsoluteError", mean_absolute_error)
MeanAbsolutePercentageError = _class("MeanAbsolutePercentageError", mean_absolute_percentage_error)
MeanSquaredLogarithmicError = _class("MeanSquaredLogarithmicError", mean_squared_logarithmic_error)
CosineSimilarity = _class("CosineSimilarity", cosine_similarity)
Huber = _class("Huber", huber, "huber_loss")
LogCosh = _class("LogCosh", log_cosh)
Hinge = _class("Hinge", hinge)
SquaredHinge = _class("SquaredHinge", squared_hinge)
CategoricalHinge = _class("CategoricalHinge", categorical_hinge)
KLDivergence = _class("KLDivergence", kl_divergence)
Poisson = _class("Poisson", poisson)
BinaryCrossentropy = _class("BinaryCrossentropy", binary_crossentropy)
BinaryFocalCrossentropy = _class("BinaryFocalCrossentropy", binary_focal_crossentropy)
CategoricalCrossentropy = _class("CategoricalCrossentropy", categorical_crossentropy)
CategoricalFocalCrossentropy = _class("CategoricalFocalCrossentropy", categorical_focal_crossentropy)
SparseCategoricalCrossentropy = _class("SparseCategoricalCrossentropy", sparse_categorical_crossentropy)
CategoricalGeneralizedCrossEntropy = _class("CategoricalGeneralizedCrossEntropy", categorical_generalized_cross_entropy)
Dice = _class("Dice", dice)
Tversky = _class("Tversky", tversky)
CTC = _class("CTC", ctc)
Circle = _class("Circle", circle)

_FUNCTIONS = {
    f.__name__: f
    for f in (
        mean_squared_error,
        mean_absolute_error,
        mean_absolute_percentage_error,
        mean_squared_logarithmic_error,
        cosine_similarity,
        huber,
        log_cosh,
        hinge,
        squared_hinge,
        categorical_hinge,
        kl_divergence,
        poisson,
        binary_crossentropy,
        binary_focal_crossentropy,
        categorical_crossentropy,
        categorical_focal_crossentropy,
        sparse_categorical_crossentropy,
        dice,
        tversky,
        ctc,
        circle,
    )
}
_CLASSES = {
    c.__name__: c
    for c in (
        MeanSquaredError,
        MeanAbsoluteError,
        MeanAbsolutePercentageError,
        MeanSquaredLogarithmicError,
        CosineSimilarity,
        Huber,
        LogCosh,
        Hinge,
        SquaredHinge,
        CategoricalHinge,
        KLDivergence,
        Poisson,
        BinaryCrossentropy,
        BinaryFocalCrossentropy,
        CategoricalCrossentropy,
        CategoricalFocalCrossentropy,
        SparseCategoricalCrossentropy,
        CategoricalGeneralizedCrossEntropy,
        Dice,
        Tversky,
        CTC,
        Circle,
    )
}
SHORT = {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "msle": mean_squared_logarithmic_error,
    "bce": binary_crossentropy,
    "kld": kl_divergence,
}
TABLE: dict[str, Any] = {
    **_FUNCTIONS,
    **_CLASSES,
    **SHORT,
    **{name.upper(): function for name, function in SHORT.items()},
}


def get(identifier: Any) -> Any:
    """The loss that a name, a config `{"class_name": ..., "config": {...}}`, a class or a function stands for.

    >>> from fluxion.dialects import keras
    >>> keras.losses.get("mse")
    <function mean_squared_error at ...>
    >>> keras.losses.get("meen_squared_error")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: loss: got 'meen_squared_error'. Did you mean 'mean_squared_error'? There are: ...
    """
    return found("loss", identifier, TABLE)


def found(kind: str, identifier: Any, table: Mapping[str, Any]) -> Any:
    """What an identifier of the given kind stands for; None for None."""
    if identifier is None:
        return None
    if isinstance(identifier, Mapping):
        made = choose(kind, identifier.get("class_name", ""), table)
        return made.from_config(identifier.get("config", {})) if hasattr(made, "from_config") else made
    value = choose(kind, identifier, table) if isinstance(identifier, str) else identifier
    if not callable(value):
        raise ArgumentError(f"{kind}: expected a name, a function or an object, got {identifier!r}.")
    return value() if isinstance(value, type) else value


def as_loss(identifier: Any) -> Loss:
    """A `Loss` of whatever `compile` was given for one."""
    value = get(identifier)
    if isinstance(value, Loss):
        return value
    return FunctionLoss(value, name=identifier if isinstance(identifier, str) else None)


# ------------------------------------------------------------------------------------------- reduction


def standard_reduction(reduction: str | None) -> str:
    """The name of a reduction, None being "none"."""
    return "none" if reduction is None else choose("reduction", reduction, {name: name for name in REDUCTIONS})


def reduced(values: Array, weight: Any, mask: Any, reduction: str) -> Array:
    """Values `(batch, ...)` times weights, reduced; where there is a mask, means are over what it keeps."""
    if mask is not None:
        mask = jnp.asarray(mask).astype(values.dtype)
        if reduction in ("mean", "sum_over_batch_size"):
            mask = mask * _ratio(jnp.asarray(mask.size, mask.dtype), jnp.sum(mask))
        if weight is not None:
            mask, weight = same_rank(mask, jnp.asarray(weight).astype(values.dtype))
            mask = mask * weight_for(mask, weight)
        weight = mask
    if weight is not None:
        values, weight = same_rank(values, jnp.asarray(weight).astype(values.dtype))
        values = values * weight_for(values, weight)
    if reduction == "none" or values.ndim == 0:
        return values
    total = jnp.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weight is not None:
        return _ratio(total, jnp.sum(weight))
    return _ratio(total, jnp.asarray(values.size, total.dtype))


def weight_for(values: Array, weight: Array) -> Array:
    """A weight with axes of 1 behind its own, so that an example's weighs all its values."""
    shape = tuple(weight.shape)
    padded = shape + (1,) * (values.ndim - len(shape))
    if any(w not in (1, v) for w, v in zip(padded, values.shape, strict=False)) or len(padded) != values.ndim:
        raise ShapeError(
            f"sample_weight: expected a weight for each example, {values.shape[:1]}, or for each value of the loss, "
            f"{values.shape}, got shape {shape}."
        )
    return weight.reshape(padded)


def same_rank(a: Any, b: Any) -> tuple[Any, Any]:
    """Two arrays of which one may have a last axis of 1 more than the other: one rank, as Keras makes it."""
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        return (a, b[..., None]) if b.ndim == 1 else (a[..., 0], b)
    if b.ndim == a.ndim + 1 and b.shape[-1] == 1:
        return (a[..., None], b) if a.ndim == 1 else (a, b[..., 0])
    return a, b


def unit(x: Array, axis: int) -> Array:
    """`x` over its Euclidean norm along `axis`."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x**2, axis=axis, keepdims=True), 1e-12))


# ------------------------------------------------------------------------------------------- helpers


def _pair(name: str, y_true: Any, y_pred: Any, rule: checks.Rule | None = None) -> tuple[Array, Array]:
    """Target and prediction as floating arrays of one shape."""
    prediction = checks.numbers(name, "prediction", y_pred)
    target = checks.numbers(name, "target", y_true)
    target, prediction = same_rank(target, prediction)
    p, t = checks.pair(name, prediction, target, predictions=rule)
    return t, p


def _classes(name: str, y_true: Any, y_pred: Any, from_logits: bool, axis: int) -> tuple[Array, Array]:
    """The target, and the logarithms of the probabilities."""
    t, p = _pair(name, y_true, y_pred, None if from_logits else _POSITIVE)
    return t, _log_probabilities(name, p, from_logits, axis)


def _log_probabilities(name: str, p: Array, from_logits: bool, axis: int) -> Array:
    if from_logits:
        return jax.nn.log_softmax(p, axis=axis) + checks.logits(name, p, axis)
    p = p / jnp.sum(p, axis=axis, keepdims=True)
    return jnp.log(jnp.clip(p, EPSILON, 1 - EPSILON))


def _sparse(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> tuple[Array, Array | None]:
    """`sparse_categorical_crossentropy`, and which of its values count."""
    name = "sparse_categorical_crossentropy"
    prediction = checks.numbers(name, "prediction", y_pred)
    rule = None if from_logits else _POSITIVE
    p = checks.held(name, "prediction", prediction, checks.compute_dtype(name, prediction.dtype), rule)
    labels, counted = _integers(name, y_true, p, axis), None
    if from_logits and ignore_class is None:
        return logitcrossentropy(p, labels, agg=identity, axis=axis), None
    if ignore_class is not None:
        counted = labels != ignore_class
        labels = jnp.where(counted, labels, 0)
        p = jnp.where(jnp.expand_dims(counted, axis), p, 0 if from_logits else 1)
    log_p = _log_probabilities(name, p, from_logits, axis)
    hot, valid = _hot(name, labels, p.shape, axis)
    value = jnp.where(valid, -jnp.sum(jnp.where(hot, log_p, 0), axis=axis), jnp.nan)
    return (value if counted is None else jnp.where(counted, value, 0)), counted


def _integers(name: str, y_true: Any, p: Array, axis: int) -> Any:
    """Labels of the prediction's shape without its class axis; whole numbers in floating arrays are labels too."""
    labels = checks.numbers(name, "label", y_true)
    shape = tuple(size for i, size in enumerate(p.shape) if i != axis % p.ndim)
    if labels.ndim == p.ndim and labels.shape[axis] == 1:
        labels = labels.squeeze(axis)
    if labels.shape != shape:
        raise ShapeError(
            f"{name}: expected labels of shape {shape} for a prediction of shape {p.shape}, got {labels.shape}. "
            "One-hot targets belong to categorical_crossentropy."
        )
    if jnp.issubdtype(labels.dtype, jnp.floating):
        whole = jnp.asarray(labels)
        labels = jnp.where(whole == jnp.floor(whole), whole, -1).astype(jnp.int32)
    return labels.astype(jnp.int32) if labels.dtype == bool else labels


def _hot(name: str, labels: Any, shape: tuple[int, ...], axis: int) -> tuple[Array, Array]:
    array, valid = checks.class_labels(name, labels, shape[axis], "give whole numbers")
    index = jax.lax.broadcasted_iota(array.dtype, shape, axis % len(shape))
    return index == jnp.expand_dims(array, axis), valid


def _one_hot(name: str, y_true: Any, p: Array, axis: int) -> tuple[Array, Array]:
    hot, valid = _hot(name, _integers(name, y_true, p, axis), p.shape, axis)
    return hot.astype(p.dtype), valid


def _binary(t: Array, p: Array, from_logits: bool, label_smoothing: float) -> Array:
    t = _smooth(t, label_smoothing, 2)
    if from_logits:
        return -t * jax.nn.log_sigmoid(p) - (1 - t) * jax.nn.log_sigmoid(-p)
    p = jnp.clip(p, EPSILON, 1 - EPSILON)
    return -(t * jnp.log(p) + (1 - t) * jnp.log(1 - p))


def _smooth(t: Array, amount: float, classes: int) -> Array:
    return t * (1 - amount) + amount / classes if amount else t


def _signs(t: Array) -> Array:
    """Labels 0 and 1 as -1 and 1, others as they are."""
    binary = jnp.all((t == 0) | (t == 1))
    return jnp.where(binary, 2 * t - 1, t)


def _ratio(part: Array, whole: Array) -> Array:
    return jnp.where(whole == 0, 0, part / jnp.where(whole == 0, 1, whole))


def _arrays(y: Any) -> Any:
    """Numbers and lists of numbers as arrays; lists and dicts of arrays as they are."""
    leaves = jax.tree.leaves(y)
    if isinstance(y, list | tuple) and all(isinstance(leaf, bool | int | float | np.generic) for leaf in leaves):
        return jnp.asarray(y)
    return jax.tree.map(lambda x: x if isinstance(x, jax.Array | np.ndarray) else jnp.asarray(x), y)
