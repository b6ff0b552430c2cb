"""Initializers under Keras' names: objects called as `initializer(shape, dtype=None)`.

With a whole number as `seed` an initializer gives the same numbers at each call, and those are Keras' own (on its JAX
backend). Without one, each call draws from Fluxion's stream, which `fx.seed` and `keras.utils.set_random_seed` start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras.configured import Configured, find
from fluxion.dialects.keras.configured import serialize as serialize
from fluxion.errors import ArgumentError, ShapeError, nearest
from fluxion.transform import threefry
from fluxion.transform.randomness import next_key

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")


class Initializer(Configured):
    """Base class of initializers: define `__call__(self, shape, dtype=None)`, and `get_config` if it takes arguments.

    >>> from fluxion.dialects import keras
    >>> class Sevens(keras.initializers.Initializer):
    ...     def __call__(self, shape, dtype=None):
    ...         return 7 * keras.initializers.Ones()(shape, dtype)
    >>> float(keras.layers.Dense(1, kernel_initializer=Sevens(), use_bias=False)(keras.ops.ones((1, 2)))[0, 0])
    14.0
    """

    module = "keras.initializers"

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def clone(self) -> Any:
        return self.from_config(self.get_config())


class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return full(shape, 0, dtype)


class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return full(shape, 1, dtype)


class Constant(Initializer):
    """All `value`, a number or an array of the shape."""

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return full(shape, self.value, dtype)


class Identity(Initializer):
    """`gain` times the identity matrix."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        if len(shape) != 2:
            raise ShapeError(f"Identity: expected the shape of a matrix, got {tuple(shape)}.")
        return put(np.eye(shape[0], shape[1]) * self.gain, shape, dtype)


class RandomInitializer(Initializer):
    """What the initializers that draw have in common: a seed."""

    seed: Any

    def _seeded(self, seed: Any) -> None:
        if seed is not None and not hasattr(seed, "next") and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise ArgumentError(
                f"{type(self).__name__}: expected seed to be a whole number, a SeedGenerator or None, got {seed!r}."
            )
        self.seed = seed

    def key(self) -> Any:
        return key_of(self.seed)


class RandomNormal(RandomInitializer):
    """Normal with `mean` and `stddev`."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        self.mean, self.stddev = mean, stddev
        self._seeded(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return normal(self.key(), shape, dtype, self.stddev, self.mean)


class TruncatedNormal(RandomInitializer):
    """Normal with `mean` and `stddev`, of which only what lies within two standard deviations is kept."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        self.mean, self.stddev = mean, stddev
        self._seeded(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return truncated(self.key(), shape, dtype, self.stddev, self.mean)


class RandomUniform(RandomInitializer):
    """Uniform between `minval` and `maxval`."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        self.minval, self.maxval = minval, maxval
        self._seeded(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return uniform(self.key(), shape, dtype, self.minval, self.maxval)


class VarianceScaling(RandomInitializer):
    """Numbers of variance `scale / n`, `n` the inputs ("fan_in"), outputs ("fan_out") or their mean ("fan_avg").

    `distribution` is "truncated_normal", "untruncated_normal" or "uniform". The inputs of a kernel
    `(*window, in, out)` are `in` times the cells of the window; `input_axes` and `output_axes` name other axes.

    >>> from fluxion.dialects.keras import initializers
    >>> w = initializers.VarianceScaling(2.0, mode="fan_out", seed=0)((100, 50))
    >>> bool(abs(w.std() - 0.2) < 0.01)
    True
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        name = type(self).__name__
        if scale <= 0:
            raise ArgumentError(f"{name}: expected scale greater than 0, got {scale!r}.")
        for what, value, known in (("mode", mode, MODES), ("distribution", distribution, DISTRIBUTIONS)):
            if value not in known:
                raise ArgumentError(
                    f"{name}: expected {what} to be one of {', '.join(known)}, got {value!r}.{nearest(value, known)}"
                )
        if (input_axes is None) != (output_axes is None):
            raise ArgumentError(f"{name}: expected both or neither of input_axes and output_axes, got one.")
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes
        self._seeded(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        inputs, outputs = fans(tuple(shape), self.input_axes, self.output_axes)
        counted = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}[self.mode]
        variance = self.scale / max(1.0, counted)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return uniform(self.key(), shape, dtype, -limit, limit)
        if self.distribution == "untruncated_normal":
            return normal(self.key(), shape, dtype, math.sqrt(variance))
        # The standard deviation of a standard normal truncated at +-2 is this number.
        return truncated(self.key(), shape, dtype, math.sqrt(variance) / 0.87962566103423978)


class _Scaled(VarianceScaling):
    """A `VarianceScaling` with three arguments fixed."""

    fixed: tuple[float, str, str]

    def __init__(
        self, seed: Any = None, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
    ) -> None:
        super().__init__(*self.fixed, seed, input_axes, output_axes)


class GlorotUniform(_Scaled):
    """Uniform up to `sqrt(6 / (in + out))`. Source: Glorot and Bengio 2010."""

    fixed = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Truncated normal of variance `2 / (in + out)`. Source: Glorot and Bengio 2010."""

    fixed = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Scaled):
    """Uniform up to `sqrt(6 / in)`. Source: He et al. 2015."""

    fixed = (2.0, "fan_in", "uniform")


class HeNormal(_Scaled):
    """Truncated normal of variance `2 / in`. Source: He et al. 2015."""

    fixed = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Uniform up to `sqrt(3 / in)`. Source: Klambauer et al. 2017."""

    fixed = (1.0, "fan_in", "uniform")


class LecunNormal(_Scaled):
    """Truncated normal of variance `1 / in`. Source: Klambauer et al. 2017."""

    fixed = (1.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """`gain` times a matrix with orthonormal rows or columns, whichever are fewer; all axes but the last are its rows.

    Source: Saxe et al. 2014.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        self.gain = gain
        self._seeded(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal: expected at least two sizes, got {tuple(shape)}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = jnp.linalg.qr(normal(self.key(), (max(rows, columns), min(rows, columns)), dtype))
        q = q * jnp.sign(jnp.diagonal(r))[None, :]  # makes the distribution uniform
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


CLASSES = (
    Zeros,
    Ones,
    Constant,
    Identity,
    RandomNormal,
    TruncatedNormal,
    RandomUniform,
    VarianceScaling,
    GlorotUniform,
    GlorotNormal,
    HeUniform,
    HeNormal,
    LecunUniform,
    LecunNormal,
    Orthogonal,
)


def get(identifier: Any) -> Any:
    """The initializer of that name, class or config; an array stands for itself, None for None.

    >>> from fluxion.dialects.keras import initializers
    >>> initializers.get("he_normal")
    HeNormal(seed=None, input_axes=None, output_axes=None)
    """
    if isinstance(identifier, np.ndarray | jax.Array):
        return Constant(identifier)
    return find("an initializer", identifier, NAMES)


def deserialize(config: Any) -> Any:
    """The initializer that `serialize` wrote."""
    return get(config)


def fans(shape: tuple[int, ...], inputs: Sequence[int] | None, outputs: Sequence[int] | None) -> tuple[int, int]:
    """How many inputs each output has, and how many outputs each input."""
    if inputs is not None and outputs is not None:
        return math.prod(shape[axis] for axis in inputs), math.prod(shape[axis] for axis in outputs)
    if len(shape) < 2:
        size = shape[0] if shape else 1
        return size, size
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def key_of(seed: Any) -> Any:
    """The key that Keras' JAX backend makes of a seed: none, a whole number, or a generator."""
    if seed is None:
        return next_key()
    if hasattr(seed, "next"):
        return seed.next()
    return jax.random.wrap_key_data(jnp.array([seed & 0xFFFFFFFF, 0], jnp.uint32))


def uniform(key: Any, shape: Sequence[int], dtype: Any, low: float, high: float) -> Any:
    """Uniform numbers between `low` and `high`, drawn as a vector: on the host where that is faster."""
    return put(threefry.uniform(key, math.prod(shape), floating(dtype), low, high), shape, dtype)


def normal(key: Any, shape: Sequence[int], dtype: Any, stddev: float = 1.0, mean: float = 0.0) -> Any:
    dtype = floating(dtype)
    return put(threefry.normal(key, math.prod(shape), dtype) * dtype.type(stddev) + dtype.type(mean), shape, dtype)


def truncated(key: Any, shape: Sequence[int], dtype: Any, stddev: float, mean: float = 0.0) -> Any:
    """Normal numbers within two standard deviations."""
    return jax.random.truncated_normal(key, -2.0, 2.0, tuple(shape), floating(dtype)) * stddev + mean


def full(shape: Sequence[int], value: Any, dtype: Any) -> Any:
    """`value`, a number or an array of this shape, in this shape."""
    if np.ndim(value) and np.shape(value) != tuple(shape):
        raise ShapeError(f"expected an initial value of shape {tuple(shape)}, got {np.shape(value)}.")
    if isinstance(value, jax.Array):
        return value.astype(dtype or float)
    return put(np.broadcast_to(value, tuple(shape)), shape, dtype)


def put(numbers: Any, shape: Sequence[int], dtype: Any) -> Any:
    """Numbers as an array of JAX's of this shape; made without compiling where they are on the host."""
    dtype = floating(dtype)
    if threefry.tracing() or not isinstance(numbers, np.ndarray):
        return jnp.asarray(numbers, dtype).reshape(tuple(shape))
    return jax.device_put(numbers.astype(dtype).reshape(tuple(shape)))


def floating(dtype: Any) -> Any:
    return jnp.result_type(float) if dtype is None else jnp.dtype(dtype)


NAMES: dict[str, Any] = {cls.__name__: cls for cls in CLASSES}
NAMES |= {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "identity": Identity,
    "random_normal": RandomNormal,
    "truncated_normal": TruncatedNormal,
    "random_uniform": RandomUniform,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
    "zero": Zeros,
    "one": Ones,
    "normal": RandomNormal,
    "uniform": RandomUniform,
    "IdentityInitializer": Identity,
    "OrthogonalInitializer": Orthogonal,
}
zeros, ones, constant, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
random_normal, truncated_normal, random_uniform = RandomNormal, TruncatedNormal, RandomUniform
variance_scaling, glorot_uniform, glorot_normal = VarianceScaling, GlorotUniform, GlorotNormal
he_uniform, he_normal, lecun_uniform, lecun_normal = HeUniform, HeNormal, LecunUniform, LecunNormal
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal
