"""What a loss refuses: wrong shapes, wrong types, values that cannot be learned from.

Shapes and types are always known and always checked. Values are known only when an array is concrete; then
a bad one raises `DataError` with its value and index. Under a trace (`jit`, `grad`, `vmap`) it cannot be seen,
so the loss is made NaN instead: never a clamped or a wrapped number. Whoever meets that NaN can call the loss
again on concrete arrays and read the sentence.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

_checking: ContextVar[bool] = ContextVar("fluxion_checking", default=True)
_strict: ContextVar[bool] = ContextVar("fluxion_strict_checking", default=False)


@contextlib.contextmanager
def checking(active: bool) -> Iterator[None]:
    """Whether losses look at values inside the block; shapes and types are checked in any case.

    A label out of range yields NaN even with `checking(False)`. A compiled function keeps the setting it was
    traced under.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> from fluxion.ops.checks import checking
    >>> with checking(False):
    ...     print(fx.logitcrossentropy(jnp.zeros((1, 3)), jnp.array([3])))
    nan
    """
    token = _checking.set(active)
    try:
        yield
    finally:
        _checking.reset(token)


@contextlib.contextmanager
def strict_checking(active: bool) -> Iterator[None]:
    """Whether `logitcrossentropy` refuses a prediction that already consists of probabilities.

    Off by default, for a table of logits may happen to sum to 1; on while training looks at its first batches.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> from fluxion.ops.checks import strict_checking
    >>> with strict_checking(True):
    ...     fx.logitcrossentropy(jnp.full((2, 2), 0.5), jnp.array([0, 1]))
    Traceback (most recent call last):
        ...
    fluxion.errors.DataError: logitcrossentropy: expected logits, got probabilities (every row sums to 1). ...
    """
    token = _strict.set(active)
    try:
        yield
    finally:
        _strict.reset(token)


class Rule(NamedTuple):
    """What values must be: `good(x)` says where they are, `reason` ends the sentence about one that is not."""

    good: Callable[[Any], Any]
    reason: str


# The sum of a group of softmax outputs may exceed 1 by some roundings.
SLACK = 1e-6
SOFTMAX = Rule(lambda x: (x >= 0) & (x <= 1 + SLACK), "is outside [0, 1]. Apply softmax or use logitcrossentropy.")
SIGMOID = Rule(SOFTMAX.good, "is outside [0, 1]. Apply sigmoid or use logitbinarycrossentropy.")
FRACTION = Rule(lambda x: (x >= 0) & (x <= 1), "is outside [0, 1]. Targets are 0, 1, or a probability between.")
SIGN = Rule(lambda x: (x == 1) | (x == -1), "is neither 1 nor -1. Map the labels 0 and 1 with 2 * target - 1.")
NONNEGATIVE = Rule(lambda x: x >= 0, "is negative. End the model with softplus or relu, and give counts or amounts.")


def numbers(name: str, what: str, x: Any) -> Array | np.ndarray:
    """`x` as the array it is, not copied to a device; `DTypeError` if it does not hold numbers."""
    if not isinstance(x, jax.Array | np.ndarray):
        x = jnp.asarray(x) if hasattr(x, "__jax_array__") else np.asarray(x)
    if not (jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool):
        raise DTypeError(f"{name}: expected a {what} of numbers, got dtype {x.dtype}. Convert it first.")
    return x


def compute_dtype(name: str, dtype: Any, complex_too: bool = False) -> Any:
    """The dtype a loss is computed and returned in: the prediction's, but at least 32 bits wide."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        if complex_too:
            return available(dtype)
        raise DTypeError(f"{name}: expected a real prediction, got dtype {dtype}. Take its real part or its modulus.")
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    return available(dtype) if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def available(dtype: Any) -> Any:
    """`dtype`, or its 32-bit relative if it is the default one of numpy and x64 is off."""
    return {"float64": jnp.result_type(float), "complex128": jnp.result_type(complex)}.get(jnp.dtype(dtype).name, dtype)


def pair(
    name: str,
    prediction: Any,
    target: Any,
    *,
    predictions: Rule | None = None,
    targets: Rule | None = None,
    complex_too: bool = False,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Prediction and target as floating arrays of one shape, checked. A Python number is a target for every place."""
    prediction = numbers(name, "prediction", prediction)
    if isinstance(target, bool | int | float) and not isinstance(target, np.generic):
        target = np.full(prediction.shape, target)
    target = numbers(name, "target", target)
    if target.shape != prediction.shape:
        raise ShapeError(
            f"{name}: expected a target of shape {prediction.shape}, got {target.shape}. "
            "Reshape one of them; losses never broadcast."
        )
    nonempty(name, prediction)
    dtype = compute_dtype(name, prediction.dtype, complex_too)
    return held(name, "prediction", prediction, dtype, predictions), held(name, "target", target, dtype, targets)


def distributions(
    name: str, prediction: Any, target: Any, axis: int, predictions: Rule | None = None
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"], bool]:
    """Prediction, a target of the same shape, and whether that target was made from integer labels.

    A label that is out of range (where values are not known, or not checked) becomes a row of NaN.
    """
    prediction, target = numbers(name, "prediction", prediction), numbers(name, "target", target)
    shape = prediction.shape
    axis = class_axis(name, shape, axis)
    label_shape = shape[:axis] + shape[axis + 1 :]
    if target.shape not in (shape, label_shape):
        raise ShapeError(
            f"{name}: expected a target of shape {shape} or integer labels of shape {label_shape}, got {target.shape}. "
            "Reshape one of them; losses never broadcast."
        )
    nonempty(name, prediction)
    if shape[axis] == 1:
        raise ShapeError(
            f"{name}: expected at least 2 classes along axis {axis}, got a prediction of shape {shape}. "
            "One output per example belongs to logitbinarycrossentropy, or to mse."
        )
    dtype = compute_dtype(name, prediction.dtype)
    held_prediction = held(name, "prediction", prediction, dtype, predictions)
    if target.shape == shape:
        return held_prediction, held(name, "target", target, dtype), False
    labels, valid = class_labels(name, target, shape[axis], f"give one-hot targets of shape {shape}")
    spread, valid = jnp.expand_dims(labels, axis), jnp.expand_dims(valid, axis)
    hot = jax.lax.broadcasted_iota(labels.dtype, shape, axis) == spread
    return held_prediction, jnp.where(valid, hot.astype(dtype), jnp.nan), True


def class_labels(
    name: str, labels: Array | np.ndarray, classes: int, otherwise: str, counted: np.ndarray | None = None
) -> tuple[Int[Array, "*shape"], Bool[Array, "*shape"]]:
    """Labels as an integer array, and where they are in `[0, classes)`; `counted` restricts the check by value."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        values = host(labels)
        first = ""
        if values is not None and values.size:
            first = f" ({shown(values.flat[0])} at index {index_text(values, 0)})"
        raise DTypeError(
            f"{name}: expected integer class labels of shape {labels.shape}, got {labels.dtype}{first}. "
            f"Convert them with target.astype(int), or {otherwise}."
        )
    values = known(labels)
    if values is not None:
        bad = (values < 0) | (values >= classes)
        refuse(
            name,
            "label",
            values,
            bad if counted is None else bad & counted,
            f"is outside [0, {classes}). Labels count from 0, and there are {classes} classes to choose from.",
        )
    if isinstance(labels, np.ndarray):
        labels = np.clip(labels.astype(np.int64), -1, classes)  # 64 bits cut to 32 on the way could land in range
    array = jnp.asarray(labels)
    if array.dtype.itemsize < 4:
        array = array.astype(jnp.int32)  # `classes` need not fit into 8 bits
    return array, (array >= 0) & (array < classes)


def held(name: str, what: str, x: Array | np.ndarray, dtype: Any, rule: Rule | None = None) -> Float[Array, "*shape"]:
    """`x` in `dtype`. A NaN target or a value against `rule` raises if it is known, and is NaN if it is not."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise DTypeError(f"{name}: expected a real {what}, got dtype {x.dtype}. Take its real part or its modulus.")
    # A prediction without a rule is not fetched: that would wait for the device.
    values = known(x) if what == "target" or rule is not None else None
    if values is not None:
        nan = np.isnan(values)
        if what == "target":
            refuse(name, what, values, nan, "", "Remove or fill it before training.")
        if rule is not None:
            # A NaN prediction is no mistake of the data; it makes the loss NaN by itself.
            refuse(name, what, values, ~(rule.good(values) | nan), rule.reason)
    array = jnp.asarray(x).astype(dtype)
    if rule is not None and values is None and _checking.get():
        array = jnp.where(rule.good(array), array, jnp.nan)
    return array


def logits(name: str, prediction: Any, axis: int) -> Array | float:
    """Under `strict_checking`, refuse rows that are all probabilities. Returns what to add to the loss: 0 or NaN."""
    prediction = numbers(name, "prediction", prediction)
    rows = prediction.size // prediction.shape[axis]
    if not (_strict.get() and _checking.get()) or rows < 2 or not jnp.issubdtype(prediction.dtype, jnp.floating):
        return 0.0
    slack = max(1e-4, float(jnp.finfo(prediction.dtype).eps))  # rows of bfloat16 sum to 1 within 0.008
    values = known(prediction)
    x = jnp.asarray(prediction, jnp.float32) if values is None else values.astype(np.float64)
    alike = ((x >= 0) & (x <= 1)).all() & (abs(x.sum(axis) - 1) < slack).all()
    if values is None:
        return jnp.where(alike, jnp.nan, 0.0)
    if alike:
        raise DataError(
            f"{name}: expected logits, got probabilities (every row sums to 1). "
            "Leave out the softmax at the end of the model, or use crossentropy."
        )
    return 0.0


def whole(name: str, what: str, value: Any) -> int:
    """`value` as a positive `int`; `ArgumentError` if it is none."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ArgumentError(f"{name}: expected a positive whole number for {what}, got {value!r}.")
    return number


def nonempty(name: str, prediction: Array | np.ndarray) -> None:
    if prediction.size == 0:
        raise ShapeError(
            f"{name}: expected at least one value, got a prediction of shape {prediction.shape}. Skip empty batches."
        )


def class_axis(name: str, shape: Sequence[int], axis: int) -> int:
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"{name}: expected a prediction with a class axis {axis}, got shape {tuple(shape)}.")
    return axis % len(shape)


def host(x: Any) -> np.ndarray | None:
    """The values of `x`, if they are there to look at: not under a trace, not spread over several hosts."""
    if isinstance(x, jax.core.Tracer) or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return None
    return np.asarray(x)


def known(x: Any) -> np.ndarray | None:
    """The values of `x` if they are there and `checking` is on."""
    return host(x) if _checking.get() else None


def refuse(name: str, what: str, values: np.ndarray, bad: np.ndarray, reason: str, remedy: str = "") -> None:
    """Raise `DataError` about the first place where `bad` is true, if there is one."""
    if not np.any(bad):
        return
    first = int(np.argmax(bad))
    value, index = shown(values.flat[first]), index_text(values, first)
    if value == "NaN":
        raise DataError(f"{name}: {what} is NaN at index {index}. {remedy}")
    raise DataError(f"{name}: {what} {value} at index {index} {reason}")


def index_text(values: np.ndarray, flat: int) -> str:
    return str(tuple(int(i) for i in np.unravel_index(flat, values.shape)))


def shown(value: Any) -> str:
    value = value.item()
    if value != value:
        return "NaN"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
