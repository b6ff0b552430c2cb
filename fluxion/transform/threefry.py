"""JAX's random numbers, drawn on the host: the same bits, without a program compiled for every shape.

The first weights of a network are drawn once, in as many shapes as it has layers; XLA would compile a program for each,
which takes a hundred times as long as the drawing. Keys and numbers here are those of `jax.random` with its default
generator, threefry2x32 (Salmon et al. 2011). With any other generator, inside a trace, for float64 and for very many
numbers, these functions call `jax.random`.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array

MANY = 2**22  # from which on XLA's faster arithmetic pays for its compilation
BLOCK = 2**14  # numbers at a time, so that they stay in the processor's cache
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def tracing() -> bool:
    """Whether operations are being traced now, under `jit` or `eval_shape`, rather than carried out."""
    return isinstance(jax.device_put(np.False_), jax.core.Tracer)


def make_key(seed: int) -> Array:
    """`jax.random.key(seed)`."""
    if not _is_default() or type(seed) is not int or not -(2**63) <= seed < 2**63:
        return jax.random.key(seed)
    high = seed >> 32 if jax.config.read("jax_enable_x64") else 0
    return _wrap(high, seed)


def fold_in(key: Array, number: int) -> Array:
    """`jax.random.fold_in(key, number)` for a number below 2^32."""
    words = _words(key)
    if words is None:
        return jax.random.fold_in(key, number)
    return _wrap(*_hash_of_one(words, number))


def integer(key: Array, bound: int) -> int:
    """`int(jax.random.randint(key, (), 0, bound))`, for a bound below 2^31."""
    words = _words(key)
    if words is None:
        return int(jax.random.randint(key, (), 0, bound, jnp.int32))
    high, low = (operator.xor(*_hash_of_one(_hash_of_one(words, i), 0)) for i in range(2))
    return ((high % bound * ((2**16 % bound) ** 2 % 2**32 % bound)) % 2**32 + low % bound) % 2**32 % bound


def uniform(key: Array, count: int, dtype: Any, low: float = 0.0, high: float = 1.0) -> Array | np.ndarray:
    """`jax.random.uniform(key, (count,), dtype, low, high)`, as a NumPy array where it was drawn on the host."""
    words = _words(key) if dtype == np.float32 and count < MANY else None
    if words is None:
        return jax.random.uniform(key, (count,), dtype, low, high)
    result = np.empty(count, np.float32)
    for start in range(0, count, BLOCK):
        block = result[start : start + BLOCK]
        block[:] = _uniform(words, start, len(block), np.float32(low), np.float32(high))
    return result


def normal(key: Array, count: int, dtype: Any) -> Array | np.ndarray:
    """`jax.random.normal(key, (count,), dtype)`, as a NumPy array where it was drawn on the host."""
    words = _words(key) if dtype == np.float32 and count < MANY else None
    if words is None:
        return jax.random.normal(key, (count,), dtype)
    low = np.nextafter(np.float32(-1), np.float32(0))
    result = np.empty(count, np.float32)
    for start in range(0, count, BLOCK):
        block = result[start : start + BLOCK]
        numbers = np.zeros(BLOCK, np.float32)  # one length, and so one program
        numbers[: len(block)] = _uniform(words, start, len(block), low, np.float32(1))
        block[:] = np.asarray(_normal_of_uniform(numbers))[: len(block)]
    return result


@functools.cache
def _compiled() -> Any:
    return jax.jit(lambda x: np.float32(np.sqrt(2)) * jax.lax.erf_inv(x))


def _normal_of_uniform(numbers: np.ndarray) -> Array:
    return _compiled()(numbers)


def _is_default() -> bool:
    return (
        jax.config.jax_default_prng_impl == "threefry2x32"  # type: ignore[attr-defined]
        and jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
        and not jax.config.jax_debug_key_reuse  # type: ignore[attr-defined]
    )


def _words(key: Array) -> tuple[Any, Any] | None:
    """The two words of a key of the default generator; None where they are not known, or another generator's."""
    if not _is_default() or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape:
        return None
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return None
    data = jax.random.key_data(key)  # an operation: a tracer inside any trace, though the key be known
    if isinstance(data, jax.core.Tracer):
        return None
    first, second = np.asarray(data)
    return first, second


def _wrap(first: int, second: int) -> Array:
    words = np.array([first % 2**32, second % 2**32], np.uint32)
    return jax.random.wrap_key_data(jax.device_put(words), impl="threefry2x32")


def _uniform(words: tuple[Any, Any], start: int, count: int, low: Any, high: Any) -> np.ndarray:
    """Random bits as the fraction of numbers in [1, 2), moved to [low, high)."""
    bits = _bits(words, start, count)
    bits >>= 9
    bits |= 0x3F800000
    ones = bits.view(np.float32)
    ones -= 1
    # XLA multiplies and adds with one rounding; in float64 there is none before the last.
    wide = ones.astype(np.float64)
    wide *= high - low
    wide += low
    return np.maximum(wide.astype(np.float32), low)


def _bits(words: tuple[Any, Any], start: int, count: int) -> np.ndarray:
    first, second = _hash(words, np.zeros(count, np.uint32), np.arange(start, start + count, dtype=np.uint32))
    first ^= second
    return first


def _hash(words: tuple[Any, Any], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Threefry-2x32 with 20 rounds, of the counters (x, y), in their place."""
    keys = [np.array(word, np.uint32) for word in words]  # arrays, whose sums wrap around without a warning
    keys.append(keys[0] ^ keys[1] ^ np.uint32(0x1BD11BDA))
    left = np.empty_like(y)
    x += keys[0]
    y += keys[1]
    for i in range(5):
        for distance in ROTATIONS[i % 2]:
            x += y
            np.left_shift(y, distance, out=left)
            y >>= 32 - distance
            y |= left
            y ^= x
        x += keys[(i + 1) % 3]
        y += keys[(i + 2) % 3]
        y += np.uint32(i + 1)
    return x, y


def _hash_of_one(words: tuple[Any, Any], y: int) -> tuple[int, int]:
    """The hash of the counter (0, y); a few numbers of Python's take a tenth of the time of as many arrays."""
    keys = [int(word) for word in words]
    keys.append(keys[0] ^ keys[1] ^ 0x1BD11BDA)
    x, y = keys[0], (y + keys[1]) % 2**32
    for i in range(5):
        for distance in ROTATIONS[i % 2]:
            x = (x + y) % 2**32
            y = (y << distance) % 2**32 | y >> (32 - distance)
            y ^= x
        x = (x + keys[(i + 1) % 3]) % 2**32
        y = (y + keys[(i + 2) % 3] + i + 1) % 2**32
    return x, y
