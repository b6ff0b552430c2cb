"""Initializers: where the first weights come from.

Each is called with sizes, `glorot_uniform(784, 128)` or `glorot_uniform((784, 128))`, and gives an array; called
with options only, `kaiming_uniform(gain=1.0)`, it gives an `Initializer` to be called with sizes later.

All take `key` (a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream) and
`dtype` (without it the default float: float32, or float64 under x64). Those that draw nothing take `key` too, so
that any of them stands for any other. Numbers of half precision are drawn in float32 and rounded.

Sizes are those of our layers, inputs before outputs: `(in, out)` and `(*kernel, in // groups, out)`; `nfan`
reads the fans from them. Errors of all: `ArgumentError` for a size that is no whole number >= 0, `DTypeError` for a
dtype that cannot hold the numbers.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, ShapeError, nearest
from fluxion.transform import threefry
from fluxion.transform.randomness import next_key

if TYPE_CHECKING:
    from jaxtyping import Array

    Size = int | Sequence[int]
    Drawn = Any  # an Array if sizes were given, an Initializer if not


DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool")


class Initializer:
    """An initializer with its options, still to be given sizes; prints as the call that made it, equals such a call.

    >>> import fluxion as fx
    >>> init = fx.kaiming_uniform(gain=1.0)
    >>> init, init == fx.kaiming_uniform(gain=1.0), init(3, 4).shape
    (kaiming_uniform(gain=1.0), True, (3, 4))
    """

    def __init__(self, function: Callable, **options: Any) -> None:
        if options.pop("key") is not None:
            raise ArgumentError(
                f"{function.__name__}: expected sizes along with key, got none. "
                "Give the key with the sizes: kept in an initializer, it would draw the same weights for every layer."
            )
        if options["dtype"] is not None:
            options["dtype"] = _any_dtype(function.__name__, options["dtype"]).name
        self.function = function
        self.options = options

    def __call__(self, *size: Size, key: Array | None = None, dtype: Any = None) -> Array:
        if not size:
            raise ArgumentError(f"{self!r}: expected sizes, got none. Call it as {self!r}(784, 128).")
        return self.function(*size, key=key, **(self.options if dtype is None else {**self.options, "dtype": dtype}))

    def __repr__(self) -> str:
        defaults = inspect.signature(self.function).parameters
        shown = (f"{name}={value!r}" for name, value in self.options.items() if value != defaults[name].default)
        return f"{self.function.__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Initializer) and (self.function, self.options) == (other.function, other.options)

    def __hash__(self) -> int:
        return hash((self.function, tuple(self.options.items())))


# Scaled to the fans


def glorot_uniform(*size: Size, gain: float = 1.0, key: Array | None = None, dtype: Any = None) -> Drawn:
    """U(-a, a) with `a = gain * sqrt(6 / (fan_in + fan_out))`: what layers use by default.

    Source: Glorot and Bengio 2010; the distribution of `torch.nn.init.xavier_uniform_`.

    >>> import fluxion as fx
    >>> weight = fx.glorot_uniform(784, 128)
    >>> weight.shape, bool(abs(weight).max() <= (6 / (784 + 128)) ** 0.5)
    ((784, 128), True)
    """
    if not size:
        return Initializer(glorot_uniform, gain=gain, key=key, dtype=dtype)
    fan_in, fan_out = nfan(*size)
    return _uniform("glorot_uniform", size, gain * math.sqrt(6 / max(1, fan_in + fan_out)), key, dtype)


def glorot_normal(*size: Size, gain: float = 1.0, key: Array | None = None, dtype: Any = None) -> Drawn:
    """Normal with standard deviation `gain * sqrt(2 / (fan_in + fan_out))`.

    Source: Glorot and Bengio 2010; the distribution of `torch.nn.init.xavier_normal_`.

    >>> import fluxion as fx
    >>> fx.glorot_normal((3, 3, 16, 32)).shape
    (3, 3, 16, 32)
    """
    if not size:
        return Initializer(glorot_normal, gain=gain, key=key, dtype=dtype)
    fan_in, fan_out = nfan(*size)
    return _normal("glorot_normal", size, gain * math.sqrt(2 / max(1, fan_in + fan_out)), key, dtype)


def kaiming_uniform(*size: Size, gain: float = 2**0.5, key: Array | None = None, dtype: Any = None) -> Drawn:
    """U(-a, a) with `a = gain * sqrt(3 / fan_in)`; the default gain is that of `relu`.

    Source: He et al. 2015; the distribution of `torch.nn.init.kaiming_uniform_`.

    >>> import fluxion as fx
    >>> fx.kaiming_uniform(gain=1.0)
    kaiming_uniform(gain=1.0)
    """
    if not size:
        return Initializer(kaiming_uniform, gain=gain, key=key, dtype=dtype)
    return _uniform("kaiming_uniform", size, gain * math.sqrt(3 / max(1, nfan(*size)[0])), key, dtype)


def kaiming_normal(*size: Size, gain: float = 2**0.5, key: Array | None = None, dtype: Any = None) -> Drawn:
    """Normal with standard deviation `gain / sqrt(fan_in)`; the default gain is that of `relu`.

    Source: He et al. 2015; the distribution of `torch.nn.init.kaiming_normal_`.

    >>> import fluxion as fx
    >>> fx.kaiming_normal(10, 5).shape
    (10, 5)
    """
    if not size:
        return Initializer(kaiming_normal, gain=gain, key=key, dtype=dtype)
    return _normal("kaiming_normal", size, gain / math.sqrt(max(1, nfan(*size)[0])), key, dtype)


def lecun_normal(*size: Size, gain: float = 1.0, key: Array | None = None, dtype: Any = None) -> Drawn:
    """Truncated normal of standard deviation `gain / sqrt(fan_in)` after truncation at 2 of the untruncated ones.

    For `selu`. The distribution of `jax.nn.initializers.lecun_normal` and Keras; Flux truncates at the numbers +-2,
    which is hardly ever. Source: LeCun et al. 1998.

    >>> import fluxion as fx
    >>> weight = fx.lecun_normal(400, 100)
    >>> bool(abs(weight).max() <= 2 / 0.8796 / 20)
    True
    """
    if not size:
        return Initializer(lecun_normal, gain=gain, key=key, dtype=dtype)
    std = gain / math.sqrt(max(1, nfan(*size)[0])) / 0.87962566103423978  # that of a normal truncated at +-2
    return _draw(
        "lecun_normal", size, key, dtype, lambda key, n, kind: std * jax.random.truncated_normal(key, -2, 2, (n,), kind)
    )


# Not scaled


def truncated_normal(
    *size: Size,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    key: Array | None = None,
    dtype: Any = None,
) -> Drawn:
    """Normal of `mean` and `std` before truncation, given that it lies in `[low, high]`.

    `low` and `high` are the numbers themselves, not multiples of `std`, as in Flux and `torch.nn.init.trunc_normal_`.
    Errors: `ArgumentError` unless `std > 0` and `low < high`, or when less than a millionth of the normal lies between.

    >>> import fluxion as fx
    >>> x = fx.truncated_normal(1000, std=0.1, low=-0.1, high=0.2)
    >>> bool((x >= -0.1).all() and (x <= 0.2).all())
    True
    """
    name = "truncated_normal"
    if std <= 0 or low >= high:
        raise ArgumentError(f"{name}: expected std > 0 and low < high, got std={std}, low={low}, high={high}.")
    below, above = (low - mean) / std, (high - mean) / std
    if math.erf(above / math.sqrt(2)) - math.erf(below / math.sqrt(2)) < 2e-6:
        raise ArgumentError(
            f"{name}: expected [low, high] to hold some of the distribution, got [{low}, {high}] for mean={mean}, "
            f"std={std}. low and high are absolute, not multiples of std."
        )
    if not size:
        return Initializer(truncated_normal, mean=mean, std=std, low=low, high=high, key=key, dtype=dtype)

    def draw(key: Array, count: int, kind: Any) -> Array:
        return jnp.clip(mean + std * jax.random.truncated_normal(key, below, above, (count,), kind), low, high)

    return _draw(name, size, key, dtype, draw)


def rand(*size: Size, key: Array | None = None, dtype: Any = None) -> Drawn:
    """Uniform in [0, 1).

    >>> import fluxion as fx
    >>> x = fx.rand(2, 3)
    >>> x.shape, bool((x >= 0).all() and (x < 1).all())
    ((2, 3), True)
    """
    if not size:
        return Initializer(rand, key=key, dtype=dtype)
    # Drawn in its own dtype: rounding from float32 could give 1.
    shape, dtype = _shape("rand", size), _float_dtype("rand", dtype)
    return _put(threefry.uniform(next_key() if key is None else key, math.prod(shape), dtype), dtype, shape)


def randn(*size: Size, key: Array | None = None, dtype: Any = None) -> Drawn:
    """Standard normal.

    >>> import fluxion as fx
    >>> fx.randn((2, 3)).shape
    (2, 3)
    """
    if not size:
        return Initializer(randn, key=key, dtype=dtype)
    return _normal("randn", size, 1.0, key, dtype)


def zeros(*size: Size, key: Array | None = None, dtype: Any = None) -> Drawn:
    """All 0; `key` is ignored. Any dtype.

    >>> import fluxion as fx
    >>> print(fx.zeros(3))
    [0. 0. 0.]
    """
    if not size:
        return Initializer(zeros, key=key, dtype=dtype)
    return _full("zeros", size, 0, dtype)


def ones(*size: Size, key: Array | None = None, dtype: Any = None) -> Drawn:
    """All 1; `key` is ignored. Any dtype.

    >>> import fluxion as fx
    >>> print(fx.ones(3))
    [1. 1. 1.]
    """
    if not size:
        return Initializer(ones, key=key, dtype=dtype)
    return _full("ones", size, 1, dtype)


# With a structure


def orthogonal(*size: Size, gain: float = 1.0, key: Array | None = None, dtype: Any = None) -> Drawn:
    """`gain` times a uniformly drawn matrix with orthonormal rows or columns, whichever are fewer.

    With more than two sizes the matrix is `(prod(size[:-1]), size[-1])`, reshaped. Errors: `ShapeError` for fewer
    than two sizes. Source: Saxe et al. 2013; the distribution of `torch.nn.init.orthogonal_`.

    >>> import fluxion as fx
    >>> w = fx.orthogonal(5, 3)
    >>> bool(abs(w.T @ w - fx.identity_init(3, 3)).max() < 1e-5)
    True
    """
    if not size:
        return Initializer(orthogonal, gain=gain, key=key, dtype=dtype)
    name = "orthogonal"
    if len(shape := _shape(name, size)) < 2:
        raise ShapeError(f"{name}: expected at least two sizes, got {shape}. Use another initializer for a vector.")
    rows, columns = math.prod(shape[:-1]), shape[-1]

    def draw(key: Array, count: int, kind: Any) -> Array:
        if count == 0:
            return jnp.zeros(shape, kind)
        q, r = jnp.linalg.qr(jax.random.normal(key, (max(rows, columns), min(rows, columns)), kind))
        q = q * jnp.where(jnp.diagonal(r) < 0, -1, 1)[None, :]  # makes the distribution uniform
        return gain * (q if rows >= columns else q.T)

    return _draw(name, size, key, dtype, draw)


def sparse_init(*size: Size, sparsity: float, std: float = 0.01, key: Array | None = None, dtype: Any = None) -> Drawn:
    """Normal with standard deviation `std`, but `ceil(sparsity * in)` inputs of each output, drawn at random, are 0.

    Shape `(in, out)`. Errors: `ShapeError` for other than two sizes, `ArgumentError` unless `0 <= sparsity <= 1`.
    Source: Martens 2010; `torch.nn.init.sparse_` does it to each column of its (out, in) instead.

    >>> import fluxion as fx
    >>> [int(n) for n in (fx.sparse_init(10, 3, sparsity=0.25) == 0).sum(0)]
    [3, 3, 3]
    """
    name = "sparse_init"
    if not 0 <= sparsity <= 1:
        raise ArgumentError(f"{name}: expected 0 <= sparsity <= 1, got {sparsity}.")
    if not size:
        return Initializer(sparse_init, sparsity=sparsity, std=std, key=key, dtype=dtype)
    if len(shape := _shape(name, size)) != 2:
        raise ShapeError(f"{name}: expected two sizes (in, out), got {shape}. Use another initializer.")
    empty = np.arange(shape[0]) < math.ceil(sparsity * shape[0])

    def draw(key: Array, count: int, kind: Any) -> Array:
        values, places = jax.random.split(key)
        holes = jax.random.permutation(places, jnp.broadcast_to(empty[:, None], shape), axis=0, independent=True)
        return jnp.where(holes, 0, std * jax.random.normal(values, (count,), kind).reshape(shape))

    return _draw(name, size, key, dtype, draw)


def identity_init(
    *size: Size, gain: float = 1.0, shift: int | tuple[int, ...] = 0, key: Array | None = None, dtype: Any = None
) -> Drawn:
    """The weight of an identity map, as far as the sizes allow, times `gain`; `key` is ignored.

    `(in, out)` is 1 on the diagonal. `(*kernel, in, out)` is that at the middle of the kernel, so that a convolution
    with stride 1 and padding "same" returns its input. A vector (a bias) is 0.
    Arguments: `shift` rolls the array along its first axis, or, as a tuple, along its first axes.

    >>> import fluxion as fx
    >>> print(fx.identity_init(2, 3))
    [[1. 0. 0.]
     [0. 1. 0.]]
    """
    if not size:
        return Initializer(identity_init, gain=gain, shift=shift, key=key, dtype=dtype)
    shape, kind = _shape("identity_init", size), _float_dtype("identity_init", dtype)
    shifts = (shift,) if isinstance(shift, int) else tuple(shift)
    if len(shape) < 2:
        return jnp.zeros(shape, kind)
    if len(shifts) > len(shape):
        raise ArgumentError(f"identity_init: expected at most {len(shape)} shifts for shape {shape}, got {shifts}.")
    middle = tuple((k - 1) // 2 for k in shape[:-2])
    weight = jnp.zeros(shape, kind)
    if weight.size:
        weight = weight.at[middle].set(gain * jnp.eye(shape[-2], shape[-1], dtype=kind))
    return jnp.roll(weight, shifts, tuple(range(len(shifts))))


def nfan(*size: Size) -> tuple[int, int]:
    """`(fan_in, fan_out)`: how many inputs each output has, and how many outputs each input.

    For `(in, out)` these two; for `(*kernel, in // groups, out)` both times the cells of the kernel; for one size
    `n`, `(1, n)`.

    >>> import fluxion as fx
    >>> fx.nfan(784, 128), fx.nfan(3, 3, 16, 32), fx.nfan(5)
    ((784, 128), (144, 288), (1, 5))
    """
    shape = (1, 1, *_shape("nfan", size))
    kernel = math.prod(shape[:-2])
    return kernel * shape[-2], kernel * shape[-1]


def _shape(name: str, size: tuple[Any, ...]) -> tuple[int, ...]:
    sizes = tuple(size[0]) if len(size) == 1 and isinstance(size[0], Sequence) else size
    try:
        shape = tuple(operator.index(n) for n in sizes)
    except TypeError:
        shape = (-1,)
    if any(n < 0 for n in shape):
        raise ArgumentError(f"{name}: expected sizes that are whole numbers >= 0, got {sizes}.")
    return shape


def _any_dtype(name: str, dtype: Any) -> Any:
    if dtype is None:
        return jnp.result_type(float)
    if dtype is int or dtype is float:
        return jnp.result_type(dtype)
    try:
        dtype = jnp.dtype(dtype)
    except TypeError:
        raise DTypeError(f"{name}: expected a dtype, got {dtype!r}.{nearest(str(dtype), DTYPES)}") from None
    if dtype.name in ("float64", "int64", "uint64") and jnp.result_type(float).itemsize < 8:
        raise DTypeError(
            f'{name}: {dtype} needs jax.config.update("jax_enable_x64", True). Switch it on, or use 32 bits.'
        )
    return dtype


def _float_dtype(name: str, dtype: Any) -> Any:
    dtype = _any_dtype(name, dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise DTypeError(f"{name}: expected a floating dtype, got {dtype}.")
    return dtype


def _draw(name: str, size: tuple[Size, ...], key: Array | None, dtype: Any, draw: Callable[..., Any]) -> Array:
    """What `draw(key, count, dtype)` gives in at least 32 bits, in the shape `size` and rounded to `dtype`.

    It draws a vector where it can: XLA compiles that several times faster than the same numbers in another shape.
    """
    shape, dtype = _shape(name, size), _float_dtype(name, dtype)
    wide = dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
    return _put(draw(next_key() if key is None else key, math.prod(shape), wide), dtype, shape)


def _put(numbers: Any, dtype: Any, shape: tuple[int, ...]) -> Array:
    numbers = numbers.astype(dtype).reshape(shape)
    return jax.device_put(numbers) if isinstance(numbers, np.ndarray) else numbers


def _full(name: str, size: tuple[Size, ...], value: int, dtype: Any) -> Array:
    shape, dtype = _shape(name, size), _any_dtype(name, dtype)
    return jnp.full(shape, value, dtype) if threefry.tracing() else jax.device_put(np.full(shape, value, dtype))


def _uniform(name: str, size: tuple[Size, ...], limit: float, key: Array | None, dtype: Any) -> Array:
    return _draw(name, size, key, dtype, lambda key, n, kind: threefry.uniform(key, n, kind, -limit, limit))


def _normal(name: str, size: tuple[Size, ...], std: float, key: Array | None, dtype: Any) -> Array:
    return _draw(name, size, key, dtype, lambda key, n, kind: std * threefry.normal(key, n, kind))
