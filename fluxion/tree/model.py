"""Questions to a model and copies of it: its parameters, its state, its layers, other precisions and devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, ShapeError, StateError, nearest
from fluxion.tree.graph import BUFFER, CONSTANT, PARAMETER, Graph, is_floating, scan
from fluxion.tree.printing import compact

if TYPE_CHECKING:
    from jaxtyping import Array


def scan_sized(model: Any) -> Graph:
    """`scan`, refusing a model in which an input size was left out and is not known yet."""
    graph = scan(model)
    for node in graph.nodes:
        if getattr(node.original, "unsized", False):
            raise StateError(
                f"{node.path or 'model'} {compact(node.original)} has no input size yet. "
                "Call fx.autosize(model, input_shape) first, or give the size."
            )
    return graph


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
    leaves = list(graph.leaves)
    for i, array in zip(graph.indices(PARAMETER), arrays, strict=True):
        leaves[i] = array
    return leaves


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
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    template = scan(model)

    def rebuild(vector: Array) -> Any:
        if jnp.shape(vector) != (int(ends[-1]),):
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


def load_state(model: Any, arrays: Mapping[str, Any], *, strict: bool = True) -> Any:
    """Put the arrays of a `state` into the model, in place, all or none.

    `strict` demands that the names are the same on both sides. A shape that differs is always an error.
    """
    graph = scan_sized(model)
    known = dict(zip(graph.paths, range(len(graph.paths)), strict=True))
    missing = [path for path in known if path not in arrays]
    unexpected = [path for path in arrays if path not in known]
    misshapen = [
        f"{path}: expected {tuple(graph.leaves[known[path]].shape)}, got {np.shape(array)}"
        for path, array in arrays.items()
        if path in known and np.shape(array) != tuple(graph.leaves[known[path]].shape)
    ]
    if misshapen or (strict and (missing or unexpected)):
        raise StateError(_mismatch(missing if strict else [], unexpected if strict else [], misshapen, known))
    leaves = list(graph.leaves)
    for path, array in arrays.items():
        if path in known:
            leaves[known[path]] = jnp.asarray(array, dtype=leaves[known[path]].dtype)
    graph.assign(leaves)
    return model


def _mismatch(missing: list[str], unexpected: list[str], misshapen: list[str], known: Mapping[str, int]) -> str:
    parts = ["loadmodel: the arrays do not fit the model."]
    if missing:
        parts.append(f"Missing: {', '.join(missing)}.")
    if unexpected:
        parts.append("Unexpected: " + ", ".join(f"{name}{nearest(name, known).rstrip('?')}" for name in unexpected) + ".")
    if misshapen:
        parts.append(f"Other shapes: {'; '.join(misshapen)}.")
    return " ".join(parts)


# ------------------------------------------------------------------------------------ precision and device


def _cast(model: Any, dtype: Any) -> Any:
    graph = scan(model)
    return graph.rebuilt([jnp.asarray(a, dtype=dtype) if is_floating(a) else a for a in graph.leaves])


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
    if not jax.config.jax_enable_x64:
        raise StateError(
            'f64: JAX is computing in 32 bits. Call jax.config.update("jax_enable_x64", True) first.'
        )
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
