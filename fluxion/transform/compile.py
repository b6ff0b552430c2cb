"""`jit`, and the cache of compiled programs behind it and behind the training step.

A program is known by what its code *is*: code objects, static values, the structure of the models it reaches.
A lambda created anew in every epoch is therefore the same program, and arrays it closes over are inputs, never
constants: a model trained after `jit(model)` is seen as it is now.
"""

from __future__ import annotations

import collections
import copy
import functools
import itertools
import re
import threading
import types
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import DTypeError, user_frames
from fluxion.folders import keep_compiled_programs
from fluxion.transform.modes import within_gradient
from fluxion.transform.randomness import next_key, randomness
from fluxion.transform.sizes import is_sizing
from fluxion.tree.changes import Changes, find_changes
from fluxion.tree.graph import Graph, Place
from fluxion.tree.layer import is_observed
from fluxion.tree.printing import compact
from fluxion.tree.walk import program_key, scan_call, walked_call
from fluxion.tree.watch import Memory, Outline, Recalled, UnwatchableError, watch_call


class Templated(Protocol):
    """A program that holds the structure of what it is traced on, and the shapes it was traced with last."""

    template: Graph
    example: tuple[Any, ...] | None
    used: int  # when it was used last: what counts up in a cache

    @property
    def run(self) -> Callable[..., Any]: ...


T = TypeVar("T", bound=Templated)


class ProgramCache(Generic[T]):
    """Programs by key, the least recently used forgotten first; and by the calls that were walked last."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.RLock()  # a program that is traced to be compared may compile others
        self.programs: dict[Hashable, T] = {}
        self.clock = itertools.count()
        self.varying: collections.deque[tuple[Hashable, frozenset[Place], Hashable, T]] = collections.deque(maxlen=size)
        self.memory: Memory[T] = Memory(64)

    def of_call(
        self, function: Any, args: Sequence[Any], settings: Hashable, make: Callable[[Graph], T]
    ) -> tuple[Graph, T]:
        """The graph of a call, as `scan_call` gives it, and its program."""
        outline = outline_of(function, args)
        known = self.recall(outline, settings)
        if known is not None:
            return known.graph(), known.program
        return self.walk(function, args, settings, make, outline)

    def recall(self, outline: Outline | None, settings: Hashable) -> Recalled[T] | None:
        """A call, if it is like one that was walked."""
        return None if outline is None else self.memory.find(outline, settings)

    def walk(
        self,
        function: Any,
        args: Sequence[Any],
        settings: Hashable,
        make: Callable[[Graph], T],
        outline: Outline | None,
        made: Callable[[], Outline] | None = None,
    ) -> tuple[Graph, T]:
        """The graph and the program of a call, to be known the next time by its outline.

        `made` gives the outline of `args` where these were made anew for the walk.
        """
        graph, found = walked_call(function, args)
        program = self.get(graph, settings, make)
        if outline is not None and not self.is_varying(program):
            watch = partial(watch_call, function, args, graph, found, outline, made)
            self.memory.keep(outline, settings, program, watch)
        return graph, program

    def get(self, graph: Graph, settings: Hashable, make: Callable[[Graph], T]) -> T:
        key = program_key(graph), settings
        program = self.programs.get(key)
        if program is None:
            program = self.add(key, graph, make)
        program.used = next(self.clock)
        if self.is_varying(program):
            program.template = graph.template()  # if it is traced again, it shall see the values of now
        return program

    def add(self, key: tuple[Hashable, Hashable], graph: Graph, make: Callable[[Graph], T]) -> T:
        """Make the program, unless another will do or another thread was first."""
        keep_compiled_programs()
        settings = key[1]
        with self.lock:
            if key not in self.programs:
                similar = (
                    program
                    for its_settings, ignored, rest, program in list(self.varying)
                    if its_settings == settings and rest == program_key(graph, ignored) and _fits(program, graph)
                )
                program = next(similar, None) or make(graph)
                while len(self.programs) >= self.size:
                    del self.programs[min(self.programs, key=lambda key: self.programs[key].used)]
                self.programs[key] = program
            return self.programs[key]

    def clear(self) -> None:
        """Forget all programs."""
        with self.lock:
            self.programs.clear()
            self.varying.clear()
            self.memory.known.clear()

    def is_varying(self, program: T) -> bool:
        """Whether a program is known whatever some Python values are."""
        return any(program is other for *_, other in list(self.varying))

    def varies(self, graph: Graph, settings: Hashable, places: frozenset[Place], program: T) -> None:
        """Know the program whatever Python values are at `places`: its own trace changed them (a counter, a log)."""
        self.varying.append((settings, places, program_key(graph, places), program))


def outline_of(function: Any, args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> Outline | None:
    """The outline of a call, or None where it can only be walked."""
    try:
        return Outline(function, args, kwargs)
    except UnwatchableError:
        return None


class Waiting:
    """Waits for arrays that will be read now.

    What takes a moment is asked for until it is done: to be woken takes longer than a small network's arithmetic. What
    takes longer needs the processor's cores for itself: after a moment in vain, the next ones are not asked for.
    """

    moment = 500  # times of asking, each of a tenth of a microsecond
    pause = 32  # arrays

    def __init__(self) -> None:
        self.left = 0

    def __call__(self, value: Any) -> Any:
        """`value`, perhaps done by now."""
        if self.left:
            self.left -= 1
        elif isinstance(value, jax.Array):
            is_ready = value.is_ready  # type: ignore[attr-defined]
            for _ in range(self.moment):
                if is_ready():
                    return value
            self.left = self.pause
        return value


awaited = Waiting()


def shapes_of(*args: Any) -> tuple[Any, ...]:
    """The arguments of a program without their values: its `example`."""
    return jax.tree.map(jax.typeof, args)


def _fits(program: Templated, graph: Graph) -> bool:
    """Whether a program computes the same with the Python values of now as with those it was traced with.

    It does if they are a counter or a log; it does not if its code branches on them.
    """
    if program.example is None:
        return False
    try:
        before = _computation(_twin(program, program.template), program.example)
        return before == _computation(_twin(program, graph.template()), program.example)
    except Exception:  # it cannot be traced so: an error to be raised when the values of now get a program of their own
        return False


def _twin(program: Templated, template: Graph) -> Templated:
    """A program like `program` for another structure, to be traced without leaving a mark on it."""
    twin = copy.copy(program)
    vars(twin).update({name: list(value) for name, value in vars(program).items() if type(value) is list})
    twin.template = template
    return twin


def _computation(program: Templated, example: tuple[Any, ...]) -> Hashable:
    """What tells one traced program from another: operations, constants, and what is written where."""
    changes: list[Changes] = []

    def run(*args: Any) -> Any:
        out = program.run(*args)
        changes.extend(c for c in jax.tree.leaves(out, is_leaf=_is_changes) if _is_changes(c))
        return jax.tree.leaves(out)

    closed = jax.make_jaxpr(run)(*example)
    text = re.sub("0x[0-9a-f]+", "", str(closed.jaxpr))  # functions print with their address
    constants = tuple((c.shape, c.dtype.name, np.asarray(c).tobytes()) for c in map(_plain, closed.consts))
    return text, constants, tuple(c.places() for c in changes)


def _is_changes(value: Any) -> bool:
    return isinstance(value, Changes)


def _plain(constant: Any) -> Any:
    return jax.random.key_data(constant) if jnp.issubdtype(constant.dtype, jax.dtypes.extended) else constant


class Program:
    """One compiled call: leaves in, result and changes out."""

    def __init__(self, template: Graph) -> None:
        self.template = template
        self.example: tuple[Any, ...] | None = None
        self.used = 0
        self.draws = False  # whether the program draws random numbers
        self.traces = 0
        self.compiled = jax.jit(self.run)

    def run(self, leaves: list[Any], key: Any) -> Changes:
        working = self.template.build(leaves)
        function, args, kwargs = working.roots
        with randomness(key) as stream:
            out = function(*args, **kwargs)
        self.example = shapes_of(leaves, key)
        self.draws = self.draws or stream.count > 0
        self.traces += 1
        return find_changes(working, result=out)

    def __call__(self, leaves: list[Any]) -> Changes:
        drew = self.draws
        result = self.compiled(leaves, next_key() if drew else _no_key())
        if self.draws and not drew:  # the trace found that a key is needed after all
            result = self.compiled(leaves, next_key())
        return result


@functools.cache
def _no_key() -> Any:
    """The key handed to programs that draw nothing."""
    with jax.ensure_compile_time_eval():  # the first call may be inside a trace
        return jax.random.key(0)


_programs: ProgramCache[Program] = ProgramCache(256)


class JitFunction:
    """What `jit` returns; calls `function` through the cache of compiled programs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    @user_frames
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_observed() or is_sizing():  # somebody looks into the model: a compiled program would not show its layers
            return self.function(*args, **kwargs)
        settings = (within_gradient(), jax.config.read("jax_enable_x64"))
        outline = outline_of(self.function, args, kwargs)
        known = _programs.recall(outline, settings)
        if known is None:
            arrays = _arguments(args, kwargs)
            made = partial(Outline, self.function, *arrays)
            graph, program = _programs.walk(self.function, arrays, settings, _program, outline, made)
            leaves = graph.leaves
        else:
            program, leaves = known.program, known.leaves
        traces = program.traces
        changes = program(leaves)
        traced = program.traces != traces
        if not traced and changes.is_result_alone():
            return changes.apply(())
        if known is not None and known.outline.containers:  # these are copied for a walk
            graph = scan_call(self.function, _arguments(args, kwargs))
        elif known is not None:
            graph = known.graph()
        out = changes.apply(graph.nodes, arrays_only=not traced)
        if traced and changes.python_places():
            _programs.varies(graph, settings, changes.python_places(), program)
        return out

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        return self if owner is None else types.MethodType(self, owner)  # so that `jit` decorates methods too

    def __repr__(self) -> str:
        return f"jit({compact(self.function)})"


def jit(f: Callable[..., Any]) -> JitFunction:
    """Compile a function or a model with XLA, once per shape of its inputs.

    Models it takes or reaches are seen as they are at each call, and arrays it writes to them are written back.
    Python numbers are traced, strings and other objects are static. Random numbers are fresh at each call.
    It may return whatever the function returns: containers, None, strings, models.

    >>> import fluxion as fx
    >>> model = fx.Dense(3, 2)
    >>> fast = fx.jit(model)
    >>> fast(fx.ones(5, 3)).shape
    (5, 2)
    """
    if not callable(f):
        raise DTypeError(f"jit: expected a function or a model, got {type(f).__name__}.")
    return f if isinstance(f, JitFunction) else JitFunction(f)


def _program(graph: Graph) -> Program:
    return Program(graph.template())


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    return _numbers_as_arrays(args), _numbers_as_arrays(kwargs)


def _numbers_as_arrays(value: Any) -> Any:
    """Python numbers in plain containers become weakly typed arrays, as `jax.jit` would treat them."""
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return jnp.asarray(value)
    if type(value) in (list, tuple):
        return type(value)(map(_numbers_as_arrays, value))
    if type(value) is dict:
        return {key: _numbers_as_arrays(item) for key, item in value.items()}
    return value
