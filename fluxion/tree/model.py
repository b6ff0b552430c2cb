"""Questions to a model and copies of it: its parameters, its state, its layers, other precisions and devices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, ShapeError, StateError, nearest
from fluxion.tree.graph import PARAMETER, Graph, LeafRef, Node, NodeRef, extend_path, is_floating, replace_at
from fluxion.tree.printing import compact
from fluxion.tree.walk import scan

if TYPE_CHECKING:
    from jaxtyping import Array


def scan_sized(model: Any) -> Graph:
    """`scan`, refusing a model in which an input size was left out and is not known yet."""
    graph = scan(model)
    node = first_unsized(graph)
    if node is not None:
        raise StateError(
            f"{node.path or 'model'} {compact(node.original)} has no input size yet. "
            "Call fx.autosize(model, input_shape) first, or give the size."
        )
    return graph


def first_unsized(graph: Graph) -> Node | None:
    """The first layer whose input size was left out and is not known yet, if there is one."""
    return next((node for node in graph.nodes if getattr(node.original, "unsized", False)), None)


def unsized_layers(model: Any) -> list[Any]:
    """The layers whose input size was left out and is not known yet."""
    return [node.original for node in scan(model).nodes if getattr(node.original, "unsized", False)]


@overload
def trainables(model: Any, path: Literal[False] = False) -> list[Array]: ...
@overload
def trainables(model: Any, path: Literal[True]) -> list[tuple[str, Array]]: ...
@overload
def trainables(model: Any, path: bool) -> list[Array] | list[tuple[str, Array]]: ...
def trainables(model: Any, path: bool = False) -> list[Array] | list[tuple[str, Array]]:
    """The parameters of a model, tied ones once: a list of arrays, or of `(path, array)`.

    Parameters are the floating arrays that no layer lists in its `buffers`.

    >>> import fluxion as fx
    >>> [(path, array.shape) for path, array in fx.trainables(fx.Dense(3, 2), path=True)]
    [('weight', (3, 2)), ('bias', (2,))]
    """
    graph = scan_sized(model)
    wanted = graph.indices(PARAMETER)
    if path:
        return [(graph.paths[i], graph.leaves[i]) for i in wanted]
    return [graph.leaves[i] for i in wanted]


def set_trainables(model: Any, arrays: Sequence[Any]) -> None:
    """Put `arrays` in the place of the model's parameters, in the order of `trainables`; changes the model."""
    graph = scan(model)
    graph.assign(_replaced(graph, arrays))


def with_trainables(model: Any, arrays: Sequence[Any]) -> Any:
    """A copy of the model with `arrays` for parameters, in the order of `trainables`."""
    graph = scan(model)
    return graph.rebuilt(_replaced(graph, arrays))


def _replaced(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    return replace_at(graph.leaves, graph.indices(PARAMETER), arrays)


def modules(model: Any) -> list[Any]:
    """Every callable part of a model, the model first, depth first, each once.

    >>> import fluxion as fx
    >>> [type(m).__name__ for m in fx.modules(fx.Chain(fx.Dense(2, 3), fx.Dropout(0.5)))]
    ['Chain', 'Dense', 'Dropout']
    """
    return [node.original for node in scan(model).nodes if callable(node.original) and node.live]


def fmap(f: Callable[[Any], Any], model: Any) -> Any:
    """A copy of the model with `f(array)` in the place of every array; tied arrays stay tied.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> zeroed = fx.fmap(jnp.zeros_like, fx.Dense(3, 2))
    >>> float(abs(zeroed.weight).sum())
    0.0
    """
    graph = scan_sized(model)
    return graph.rebuilt([f(leaf) for leaf in graph.leaves])


def destructure(model: Any) -> tuple[Array, Callable[[Array], Any]]:
    """All parameters as one vector, and the function that rebuilds a model from such a vector.

    Arrays follow one another in the order of `trainables`, each flattened row by row. Both directions are
    differentiable. `rebuild` raises ShapeError for a vector of another length.

    >>> import fluxion as fx
    >>> vector, rebuild = fx.destructure(fx.Dense(3, 2))
    >>> vector.shape, rebuild(vector)
    ((8,), Dense(3, 2))
    """
    parameters = trainables(model)
    if not parameters:
        raise StateError("destructure: expected a model with parameters, got one without.")
    shapes = [np.shape(p) for p in parameters]
    dtypes = [p.dtype for p in parameters]
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    template = scan(model)

    def rebuild(vector: Array) -> Any:
        if jnp.shape(vector) != (ends[-1],):
            raise ShapeError(f"rebuild: expected a vector of shape ({ends[-1]},), got {jnp.shape(vector)}.")
        pieces = jnp.split(jnp.asarray(vector), ends[:-1])
        arrays = [p.reshape(s).astype(d) for p, s, d in zip(pieces, shapes, dtypes, strict=True)]
        return template.rebuilt(_replaced(template, arrays))

    return jnp.concatenate([jnp.ravel(p) for p in parameters]), rebuild


# ------------------------------------------------------------------------------------------------- state


def state(model: Any) -> dict[str, Array]:
    """Every array a model owns (parameters, buffers, constants) by path, tied ones once.

    >>> import fluxion as fx
    >>> {path: array.shape for path, array in fx.state(fx.BatchNorm(4)).items()}
    {'scale': (4,), 'bias': (4,), 'mean': (4,), 'var': (4,)}
    """
    graph = scan_sized(model)
    return dict(zip(graph.paths, graph.leaves, strict=True))


def aliases(model: Any) -> dict[str, str]:
    """The other paths that lead to an array of `state`, with the path it has there: what is tied, and to what.

    >>> import fluxion as fx
    >>> from fluxion.tree.model import aliases
    >>> layer = fx.Dense(2, 2, bias=False)
    >>> aliases([layer, layer])
    {'[1].weight': '[0].weight'}
    """
    return _aliases(scan(model))


def _aliases(graph: Graph) -> dict[str, str]:
    found: dict[str, str] = {}
    steps = 0

    def walk(index: int, path: str, above: frozenset[int]) -> None:
        nonlocal steps
        for step, ref in graph.nodes[index].children:
            steps += 1
            if steps > _MAX_STEPS:  # layers that share layers that share layers have paths without number
                return
            inner = extend_path(path, step)
            if isinstance(ref, LeafRef) and inner != graph.paths[ref.index]:
                found[inner] = graph.paths[ref.index]
            elif isinstance(ref, NodeRef) and ref.index not in above:
                walk(ref.index, inner, above | {ref.index})

    for root in graph.roots:
        if isinstance(root, NodeRef):
            walk(root.index, "", frozenset([root.index]))
    return found


_MAX_STEPS = 200_000


def load_state(model: Any, arrays: Mapping[str, Any], *, strict: bool = True) -> Any:
    """Put the arrays of a `state` into the model, in place, all or none; each is copied and takes the dtype it meets.

    `strict` demands that the names are the same on both sides; without, the names that both have are loaded. An array
    tied in the model may be given by any of its paths, or by several with equal values.

    Errors: `StateError` that lists the names that are missing, unexpected, of another shape, or of a dtype that would
    lose what it holds (floats to integers, complex to real numbers, numbers too large).

    >>> import fluxion as fx, jax.numpy as jnp
    >>> from fluxion.tree import load_state
    >>> load_state(fx.Dense(2, 1), {"weight": jnp.ones((2, 1)), "bais": jnp.ones(1)})
    Traceback (most recent call last):
        ...
    fluxion.errors.StateError: loadmodel: the arrays do not fit the model. Missing: bias. Unexpected: bais (did you mean
    'bias'?).
    """
    graph = scan_sized(model)
    index = dict(zip(graph.paths, range(len(graph.paths)), strict=True))
    tied = {} if arrays.keys() <= index.keys() else _aliases(graph)
    chosen: dict[int, str] = {}
    again: list[tuple[str, int]] = []
    unexpected: list[str] = []
    unfit: dict[int, str] = {}
    for name, array in arrays.items():
        i = index.get(tied.get(name, name))
        if i is None:
            unexpected.append(name)
        elif fault := _misfit(array, graph.leaves[i]):
            unfit[i] = f"{name}: {fault}"
        elif i in chosen:
            again.append((name, i))
        else:
            chosen[i] = name
    missing = [path for path, i in index.items() if i not in chosen and i not in unfit]
    if unfit or (strict and (missing or unexpected)):
        raise StateError(_mismatch(missing if strict else [], unexpected if strict else [], [*unfit.values()], index))
    leaves = list(graph.leaves)
    for i, name in chosen.items():
        leaves[i] = _converted(name, arrays[name], graph.leaves[i])
    for name, i in again:
        other = _converted(name, arrays[name], graph.leaves[i])
        if np.asarray(_plain(other)).tobytes() != np.asarray(_plain(leaves[i])).tobytes():
            raise StateError(
                f"loadmodel: {chosen[i]} and {name} are one array in this model, and were given different values. "
                "Leave one of them out, or build a model in which they are two."
            )
    try:
        graph.assign(leaves)
    except BaseException:  # Ctrl-C between two layers, too, leaves the model as it was
        scan(model).assign(graph.leaves)
        raise
    return model


def _misfit(array: Any, leaf: Any) -> str:
    """Why `array`, by its shape and dtype, cannot take the place of `leaf`; nothing if it can."""
    if not hasattr(array, "shape") or _rank(getattr(array, "dtype", None)) < 0:
        return f"expected a jax or numpy array, got {type(array).__name__}"
    if tuple(array.shape) != tuple(leaf.shape):
        return f"expected shape {tuple(leaf.shape)}, got {tuple(array.shape)}"
    given, own = _rank(array.dtype), _rank(leaf.dtype)
    if given > own or (own == _KEY and array.dtype != leaf.dtype):
        return f"expected {leaf.dtype}, got {array.dtype}, which it cannot hold"
    return ""


_KEY = 9


def _rank(dtype: Any) -> int:
    """Each sort of number holds those of a lower rank. Random keys are a sort of their own, foreign dtypes none."""
    try:
        if jnp.issubdtype(dtype, jax.dtypes.extended):
            return _KEY
        sorts = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
        return next((rank for rank, sort in enumerate(sorts) if jnp.issubdtype(dtype, sort)), -1)
    except TypeError:  # a dtype of another library
        return -1


def _converted(name: str, array: Any, leaf: Any) -> Any:
    """A copy of `array` with the dtype and the place of `leaf`."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return jax.random.wrap_key_data(jnp.array(jax.random.key_data(array)), impl=jax.random.key_impl(leaf))
    values = np.asarray(array)
    with np.errstate(over="ignore", invalid="ignore"):
        copy = values.astype(leaf.dtype)
        if _rank(leaf.dtype) < 2:
            lost = copy.astype(values.dtype) != values
        elif copy.dtype.itemsize < values.dtype.itemsize:
            lost = np.isinf(copy) & ~np.isinf(values)
        else:
            lost = np.zeros((), bool)
    if lost.any():
        raise StateError(f"loadmodel: {name}: expected numbers that {leaf.dtype} can hold, got {values[lost].flat[0]}.")
    if isinstance(leaf, np.ndarray):
        return copy
    placed = jnp.array(copy, leaf.dtype)
    return placed if placed.sharding == leaf.sharding else jax.device_put(placed, leaf.sharding)


def _plain(array: Any) -> Any:
    return jax.random.key_data(array) if jnp.issubdtype(array.dtype, jax.dtypes.extended) else array


def _mismatch(missing: list[str], unexpected: list[str], unfit: list[str], known: Mapping[str, int]) -> str:
    def listed(entries: list[str], joint: str = ", ") -> str:
        more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
        return joint.join(entries[:_SHOWN]) + more

    parts = ["loadmodel: the arrays do not fit the model."]
    if missing:
        parts.append(f"Missing: {listed(missing)}.")
    if unexpected:
        hints = [nearest(name, known).strip() for name in unexpected[:_SHOWN]]
        named = [f"{n} (d{hint[1:]})" if hint else n for n, hint in zip(unexpected, hints, strict=False)]
        parts.append(f"Unexpected: {listed(named + unexpected[_SHOWN:])}.")
    if unfit:
        parts.append(f"Not fitting: {listed(unfit, '; ')}.")
    return " ".join(parts)


_SHOWN = 10  # names in one error


# ------------------------------------------------------------------------------------ precision and device


def _cast(model: Any, dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        if not is_floating(leaf):
            return leaf
        if not jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            return jnp.asarray(leaf, dtype=dtype)
        pair = {jnp.float32: jnp.complex64, jnp.float64: jnp.complex128}.get(dtype)  # there is no half precision
        return leaf if pair is None else jnp.asarray(leaf, dtype=pair)

    graph = scan(model)
    return graph.rebuilt([cast(leaf) for leaf in graph.leaves])


def f16(model: Any) -> Any:
    """A copy of a model (or of any tree of data) with its floating arrays in float16.

    >>> import fluxion as fx
    >>> fx.f16(fx.Dense(3, 2)).weight.dtype.name
    'float16'
    """
    return _cast(model, jnp.float16)


def bf16(model: Any) -> Any:
    """A copy of a model (or of any tree of data) with its floating arrays in bfloat16.

    >>> import fluxion as fx
    >>> fx.bf16(fx.Dense(3, 2)).weight.dtype.name
    'bfloat16'
    """
    return _cast(model, jnp.bfloat16)


def f32(model: Any) -> Any:
    """A copy of a model (or of any tree of data) with its floating arrays in float32.

    >>> import fluxion as fx, numpy as np
    >>> fx.f32(np.ones(3)).dtype.name
    'float32'
    """
    return _cast(model, jnp.float32)


def f64(model: Any) -> Any:
    """A copy of a model (or of any tree of data) with its floating arrays in float64.

    Raises StateError unless JAX computes in 64 bits (`jax.config.update("jax_enable_x64", True)`).

    >>> import fluxion as fx
    >>> fx.f64(fx.Dense(3, 2))
    Traceback (most recent call last):
        ...
    fluxion.errors.StateError: f64: JAX is computing in 32 bits. Call jax.config.update("jax_enable_x64", True) first.
    """
    if not jax.config.read("jax_enable_x64"):
        raise StateError('f64: JAX is computing in 32 bits. Call jax.config.update("jax_enable_x64", True) first.')
    return _cast(model, jnp.float64)


def device(model: Any, where: Any) -> Any:
    """A copy of a model (or of any tree of data) on another device: a `jax.Device`, a sharding, `"cpu"` or `"gpu"`.

    >>> import fluxion as fx, jax
    >>> fx.device(fx.Dense(3, 2), jax.devices("cpu")[0]).weight.device.platform
    'cpu'
    """
    if isinstance(where, str):
        try:
            where = jax.devices(where)[0]
        except RuntimeError as error:
            raise ArgumentError(f"device: there is no {where!r} here, only {jax.devices()}.") from error
    graph = scan(model)
    return graph.rebuilt([jax.device_put(leaf, where) for leaf in graph.leaves])


def cpu(model: Any) -> Any:
    """A copy of a model (or of any tree of data) in the memory of the CPU.

    >>> import fluxion as fx
    >>> fx.cpu(fx.Dense(3, 2)).weight.device.platform
    'cpu'
    """
    return device(model, "cpu")


def gpu(model: Any) -> Any:
    """A copy of a model (or of any tree of data) on the first GPU; where there is none, on the CPU, as in Flux.

    >>> import fluxion as fx
    >>> fx.gpu(fx.Dense(3, 2)).weight.shape
    (3, 2)
    """
    accelerators = [d for d in jax.devices() if d.platform != "cpu"]
    return device(model, accelerators[0] if accelerators else "cpu")
