"""Random numbers: `keras.random`. `fx.seed`, which is `keras.utils.set_random_seed`, makes them repeat.

With a seed of their own they are those of Keras on its JAX backend.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fluxion.dialects.keras.names import automatic_name, known_arguments
from fluxion.dialects.keras.variables import StateVariable, plain
from fluxion.errors import ArgumentError
from fluxion.transform.randomness import next_key, next_seed


class SeedGenerator:
    """A stream of keys with its own seed; its state is a variable, so that `stateless_call` hands it on.

    >>> from fluxion.dialects import keras
    >>> seed = keras.random.SeedGenerator(1)
    >>> first = keras.random.normal((2,), seed=seed)
    >>> bool((first == keras.random.normal((2,), seed=seed)).any())
    False
    >>> bool((first == keras.random.normal((2,), seed=keras.random.SeedGenerator(1))).all())
    True
    """

    __fluxion_node__ = True

    @known_arguments
    def __init__(self, seed: int | None = None, name: str | None = None) -> None:
        if seed is not None and not isinstance(seed, int):
            raise ArgumentError(f"SeedGenerator: expected a whole number as seed, got {seed!r}.")
        self.name = name or automatic_name("seed_generator")
        start = next_seed() if seed is None else seed
        self.state = StateVariable(jnp.array([start % 2**32, 0], jnp.uint32), name="seed_generator_state")

    def next(self) -> Any:
        """A key of JAX; the state moves on."""
        now = self.state.value
        self.state.value = now.at[1].add(jnp.uint32(1))
        return jax.random.wrap_key_data(now)


jax.tree_util.register_pytree_node(
    SeedGenerator, lambda made: ((made.state,), made.name), lambda name, children: _rebuilt(name, *children)
)


def _rebuilt(name: str, state: Any) -> SeedGenerator:
    made = object.__new__(SeedGenerator)
    made.name, made.state = name, state
    return made


def key_for(seed: Any) -> Any:
    """The key that a `seed=` argument stands for: a number, a `SeedGenerator`, or None for the default stream."""
    if seed is None:
        return next_key()
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, int):
        return jax.random.wrap_key_data(jnp.array([seed % 2**32, 0], jnp.uint32))
    raise ArgumentError(f"expected a seed: a whole number, a keras.random.SeedGenerator or None, got {seed!r}.")


@known_arguments
def normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Normally distributed numbers.

    >>> from fluxion.dialects import keras
    >>> keras.random.normal((2, 3)).shape
    (2, 3)
    """
    return mean + stddev * jax.random.normal(key_for(seed), tuple(shape), dtype or "float32")


@known_arguments
def uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Numbers from `minval` up to, not including, `maxval`, all as likely."""
    return jax.random.uniform(key_for(seed), tuple(shape), dtype or "float32", minval, maxval)


@known_arguments
def truncated_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Normally distributed numbers, those beyond two standard deviations drawn again."""
    return mean + stddev * jax.random.truncated_normal(key_for(seed), -2, 2, tuple(shape), dtype or "float32")


@known_arguments
def randint(shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> Any:
    """Whole numbers from `minval` up to, not including, `maxval`."""
    return jax.random.randint(key_for(seed), tuple(shape), minval, maxval, dtype)


@known_arguments
def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Any:
    """Classes drawn with the probabilities `softmax(logits)`: `(batch, classes)` gives `(batch, num_samples)`."""
    logits = jnp.asarray(plain(logits))
    shape = (logits.shape[0], num_samples)
    return jax.random.categorical(key_for(seed), logits[..., None], axis=1, shape=shape).astype(dtype)


@known_arguments
def shuffle(x: Any, axis: int = 0, seed: Any = None) -> Any:
    """`x` in another order along an axis."""
    return jax.random.permutation(key_for(seed), jnp.asarray(plain(x)), axis)


@known_arguments
def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """`inputs`, each number 0 with probability `rate`, the others divided by `1 - rate`."""
    inputs = jnp.asarray(plain(inputs))
    kept = jax.random.bernoulli(key_for(seed), 1 - rate, inputs.shape if noise_shape is None else tuple(noise_shape))
    return jnp.where(kept, inputs / (1 - rate), 0.0)
