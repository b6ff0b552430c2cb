"""Where random numbers come from.

There is one default stream, seeded by `seed`; initializers and bare calls draw from it. A training step
does not: it runs inside `randomness(key)` with `key = fold_in(run seed, step)`, so that what it draws is
a function of the step alone. That is what makes a resumed run repeat the uninterrupted one.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.folders import keep_compiled_programs
from fluxion.transform import threefry

if TYPE_CHECKING:
    from jaxtyping import Array


class Stream:
    """Keys `fold_in(key, 0)`, `fold_in(key, 1)`, ... of one root key."""

    def __init__(self, key: Array) -> None:
        self.key = key
        self.numbers = itertools.count()  # no number comes twice, whichever thread asks
        self.count = 0

    def next_key(self) -> Array:
        index = next(self.numbers)
        self.count = index + 1
        return threefry.fold_in(self.key, index)


class DefaultStream:
    """The stream of bare calls. Its root key is made on first use: importing Fluxion starts no device."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stream: Stream | None = None

    def restart(self, value: int) -> None:
        self.stream = Stream(_root_key(value))

    def next_key(self) -> Array:
        stream = self.stream
        if stream is None:
            with self.lock:
                stream = self.stream = self.stream or Stream(_root_key(secrets.randbits(31)))
        return stream.next_key()


def _root_key(value: int) -> Array:
    keep_compiled_programs()  # here, because initializers are what a process compiles first
    with jax.ensure_compile_time_eval():  # a stream that starts inside a trace must not keep a tracer
        return threefry.make_key(value)


_default = DefaultStream()
_current: ContextVar[Stream | None] = ContextVar("fluxion_randomness", default=None)


def seed(value: int) -> None:
    """Restart the default random stream: the same seed gives bit-equal initial weights and runs.

    Without a call to `seed` the stream starts from the operating system's entropy.

    >>> import fluxion as fx
    >>> fx.seed(0); first = fx.rand(3)
    >>> fx.seed(0); bool((fx.rand(3) == first).all())
    True
    """
    _default.restart(value)


def stream_state() -> list[int] | None:
    """Where the default stream is, as whole numbers; None where nothing was drawn from it yet."""
    stream = _default.stream
    return None if stream is None else [stream.count, *map(int, np.asarray(jax.random.key_data(stream.key)))]


def load_stream(saved: list[int]) -> None:
    """Put the default stream where `stream_state` found it."""
    count, *words = saved
    stream = Stream(jax.random.wrap_key_data(jnp.array(words, jnp.uint32)))
    stream.numbers, stream.count = itertools.count(count), count
    _default.stream = stream


@contextlib.contextmanager
def randomness(key: Array) -> Iterator[Stream]:
    """Draw every random number inside the block from `key` (a `jax.random.key`), not from the default stream.

    >>> import fluxion as fx, jax
    >>> with fx.randomness(jax.random.key(1)):
    ...     a = fx.randn(2)
    >>> with fx.randomness(jax.random.key(1)):
    ...     b = fx.randn(2)
    >>> bool((a == b).all())
    True
    """
    stream = Stream(key)
    token = _current.set(stream)
    try:
        yield stream
    finally:
        _current.reset(token)


def next_key() -> Array:
    """A fresh key: from the enclosing `randomness` block, else from the default stream."""
    stream = _current.get()
    return _default.next_key() if stream is None else stream.next_key()


def next_seed() -> int:
    """A fresh non-negative 31-bit integer drawn like `next_key`, for random choices made on the host."""
    return threefry.integer(next_key(), 2**31 - 1)
