"""`jit`, and the cache of compiled programs behind it and behind the training step.

A program is known by what its code *is*: code objects, static values, the structure of the models it reaches.
A lambda created anew in every epoch is therefore the same program, and arrays it closes over are inputs, never
constants: a model trained after `jit(model)` is seen as it is now.
"""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.folders import keep_compiled_programs
from fluxion.transform.modes import gradient_mode, within_gradient
from fluxion.transform.randomness import next_key, randomness
from fluxion.tree.graph import Changes, Graph, scan_call

T = TypeVar("T")


class ProgramCache(Generic[T]):
    """Programs by key, the least recently used forgotten first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.programs: collections.OrderedDict[Hashable, T] = collections.OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self.lock:
            if key not in self.programs:
                keep_compiled_programs()
                self.programs[key] = make()
                while len(self.programs) > self.size:
                    self.programs.popitem(last=False)
            self.programs.move_to_end(key)
            return self.programs[key]

    def also(self, key: Hashable, program: T) -> None:
        """Know the same program by another key: its own trace changed a static value that the key holds."""
        with self.lock:
            self.programs.setdefault(key, program)


class Program:
    """One compiled call: leaves in, result and changes out."""

    def __init__(self, template: Graph) -> None:
        self.template = template
        self.draws = False  # whether the program draws random numbers
        self.traces = 0
        self.compiled = jax.jit(self.run)

    def run(self, leaves: list[Any], key: Any) -> tuple[Any, Changes]:
        working = self.template.build(leaves)
        function, args, kwargs = working.roots
        with randomness(key) as stream:
            out = function(*args, **kwargs)
        self.draws = self.draws or stream.count > 0
        self.traces += 1
        return out, working.changes()

    def __call__(self, leaves: list[Any]) -> tuple[Any, Changes]:
        drew = self.draws
        result = self.compiled(leaves, next_key() if drew else _no_key())
        if self.draws and not drew:  # the trace found that a key is needed after all
            result = self.compiled(leaves, next_key())
        return result


@functools.cache
def _no_key() -> Any:
    """The key handed to programs that draw nothing."""
    return jax.random.key(0)


_programs: ProgramCache[Program] = ProgramCache(256)


class JitFunction:
    """What `jit` returns; calls `function` through the cache of compiled programs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = scan_call(self.function, (_numbers_as_arrays(args), _numbers_as_arrays(kwargs)))
        mode = within_gradient()
        settings = (mode, jax.config.jax_enable_x64)
        program = _programs.get((graph.key(), settings), lambda: Program(graph.template()))
        traces = program.traces
        with gradient_mode(mode):
            out, changes = program(graph.leaves)
        changes.apply(graph.nodes, arrays_only=program.traces == traces)
        if program.traces != traces and changes.has_static():
            again = scan_call(self.function, (_numbers_as_arrays(args), _numbers_as_arrays(kwargs)))
            _programs.also((again.key(), settings), program)
        return out

    def __repr__(self) -> str:
        from fluxion.tree.printing import compact

        return f"jit({compact(self.function)})"


def jit(f: Callable[..., Any]) -> JitFunction:
    """Compile a function or a model with XLA, once per shape of its inputs.

    Models it takes or reaches are seen as they are at each call, and arrays it writes to them are written back.
    Python numbers are traced, strings and other objects are static. Random numbers are fresh at each call.

    >>> import fluxion as fx
    >>> model = fx.Dense(3, 2)
    >>> fast = fx.jit(model)
    >>> fast(fx.ones(5, 3)).shape
    (5, 2)
    """
    return f if isinstance(f, JitFunction) else JitFunction(f)


def _numbers_as_arrays(value: Any) -> Any:
    """Python numbers in plain containers become weakly typed arrays, as `jax.jit` would treat them."""
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return jnp.asarray(value)
    if type(value) in (list, tuple):
        return type(value)(map(_numbers_as_arrays, value))
    if type(value) is dict:
        return {key: _numbers_as_arrays(item) for key, item in value.items()}
    return value
