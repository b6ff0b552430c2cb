"""Gradients: explicit ones, shaped like the arguments, and implicit ones, looked up by parameter.

Every function here runs the user's function on a working copy of everything it reaches (arguments, closures,
globals), in training mode, and writes the arrays that the call changed back to the originals afterwards. A model
therefore never holds a tracer, and BatchNorm's statistics move once per call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, ShapeError, StateError, user_frames
from fluxion.transform.modes import gradient_mode
from fluxion.tree.changes import Changes, find_changes, running
from fluxion.tree.graph import (
    CAPTURED,
    PARAMETER,
    Graph,
    NodeRef,
    Ref,
    Static,
    is_array,
    is_floating,
    replace_at,
)
from fluxion.tree.kinds import OBJECT, kind_of
from fluxion.tree.layer import Layer, Param
from fluxion.tree.walk import scan, scan_call, spread_liveness

if TYPE_CHECKING:
    from jaxtyping import Array


class ValueAndGradient(NamedTuple):
    """What `withgradient` returns.

    >>> import fluxion as fx
    >>> value, grad = fx.withgradient(lambda x: x**2, 3.0)
    >>> value.item(), grad[0].item()
    (9.0, 6.0)
    """

    value: Any
    grad: Any


@user_frames
def gradient(f: Callable[..., Any], *args: Any) -> Any:
    """The gradients of a scalar function: a tuple, one entry per argument, each shaped like its argument.

    A gradient of a model is a model of the same structure that holds gradients; arrays that are no parameters
    (integers, buffers) are None there, and so is all else in lists, tuples, dicts and dataclasses, while layers keep
    their settings. A Python number counts as an array; within containers only floats do. If `f` returns a tuple, its
    first element is differentiated. With `params(...)` for argument, `f` takes none, and the result is a mapping from
    each parameter to its gradient (Flux 0.12's and Knet's implicit form).

    Raises ShapeError if the value is no scalar, DTypeError if it is not real floating.

    >>> import fluxion as fx
    >>> f = lambda x: 4 * x**2 + 12 * x + 3
    >>> fx.gradient(f, 4)[0].item()
    44.0
    >>> fx.gradient(lambda x: fx.gradient(f, x)[0], 4)[0].item()
    8.0
    >>> model = fx.Dense(3, 2)
    >>> grads = fx.gradient(lambda m: m(fx.ones(5, 3)).sum(), model)
    >>> grads[0].bias.tolist()
    [5.0, 5.0]
    """
    return withgradient(f, *args).grad


@user_frames
def withgradient(f: Callable[..., Any], *args: Any) -> ValueAndGradient:
    """`(value, grad)`: what `f` returns, whole tuple included, and what `gradient` returns.

    >>> import fluxion as fx
    >>> fx.withgradient(lambda x: (x**2, "note"), 3.0).value[1]
    'note'
    """
    if len(args) == 1 and isinstance(args[0], Params):
        return _implicit(f, args[0])
    graph = scan_call(f, tuple(map(as_array_tree, args)))
    wanted = graph.indices(PARAMETER)
    out, grads = _differentiate(graph, wanted)
    return ValueAndGradient(out, _like_arguments(graph, wanted, grads))


def _differentiate(graph: Graph, wanted: list[int]) -> tuple[Any, list[Any]]:
    """Value and gradients of the graph's call for the leaves `wanted`; applies the changes the call made."""

    def run(values: list[Any]) -> tuple[Any, Any]:
        out, changes = call(graph, wanted, values)
        return scalar(out[0] if isinstance(out, tuple) and out else out), changes

    _check_real(graph, wanted)
    (value, changes), grads = jax.value_and_grad(run, has_aux=True)([graph.leaves[i] for i in wanted])
    out = changes.apply(graph.nodes)
    if not isinstance(out, tuple):
        return value, grads
    named = hasattr(out, "_fields")
    return (type(out)(value, *out[1:]) if named else (value, *out[1:])), grads


def call(graph: Graph, wanted: list[int], values: list[Any]) -> tuple[Any, Changes]:
    """Run the graph's function in training mode on a working copy that holds `values` at the leaves `wanted`."""
    working = graph.build(replace_at(graph.leaves, wanted, values))
    function, *args = working.roots
    with gradient_mode(True), running(working):
        out = function(*args)
    return out, find_changes(working, result=out)


def _like_arguments(graph: Graph, wanted: list[int], grads: list[Any]) -> tuple[Any, ...]:
    """The gradients in the shape of the arguments: None for what is not differentiated, but layers keep settings."""
    leaves = replace_at([None] * len(graph.leaves), wanted, _distinct(grads))
    nodes = [
        dataclasses.replace(
            node,
            live=node.kind.always_copied,
            children=[(step, child) for step, child in node.children if step[0] != "globals"],
        )
        for node in graph.nodes
    ]
    spread_liveness(nodes)
    seen: set[int] = set()

    def blank(ref: Ref) -> Ref:
        if isinstance(ref, Static):
            return ref if callable(ref.value) else Static(None)
        if isinstance(ref, NodeRef) and ref.index not in seen:
            seen.add(ref.index)
            node = nodes[ref.index]
            if isinstance(node.original, (list, tuple, dict)) or (
                node.kind is OBJECT and not isinstance(node.original, Layer)
            ):
                node.live = True
                node.children = [(step, blank(child) if step[0] != "bulk" else child) for step, child in node.children]
        return ref

    roots = [blank(ref) for ref in graph.roots[1:]]
    return Graph(nodes, roots, leaves, graph.paths, graph.roles).build(leaves).roots


def _distinct(grads: list[Any]) -> list[Any]:
    """No array twice: the gradients of `a` and `b` in `a + b` may be one array, which would read as a tie."""
    seen: set[int] = set()
    distinct = []
    for grad in grads:
        distinct.append(jnp.array(grad, copy=True) if id(grad) in seen else grad)
        seen.add(id(grad))
    return distinct


def _check_real(graph: Graph, wanted: list[int]) -> None:
    for i in wanted:
        if isinstance(graph.leaves[i], jax.ShapeDtypeStruct):
            raise StateError(f"gradient: {graph.paths[i]} is a shape without values, not an array.")


def scalar(loss: Any) -> Any:
    number = is_array(loss) or isinstance(loss, (int, float, complex, np.number, Param))
    if isinstance(loss, bool) or not number:
        raise DTypeError(
            f"gradient: expected the function to return a number, got {type(loss).__name__}."
            + (" Does it end with return?" if loss is None else "")
        )
    loss = jnp.asarray(loss)
    if loss.shape != ():
        raise ShapeError(
            f"gradient: expected the function to return a scalar, got shape {loss.shape}. "
            "Take the sum or mean, or use jacobian or pullback."
        )
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise DTypeError(f"gradient: expected a real floating value, got dtype {loss.dtype.name}.")
    return loss


@user_frames
def pullback(f: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`(y, back)`: the value of `f`, and the function from a cotangent of `y` to the gradients of the arguments.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> y, back = fx.pullback(lambda x: x**2, jnp.array([1.0, 2.0]))
    >>> y.tolist(), back(jnp.array([1.0, 10.0]))[0].tolist()
    ([1.0, 4.0], [2.0, 40.0])
    """
    graph = scan_call(f, tuple(map(as_array_tree, args)))
    wanted = graph.indices(PARAMETER)
    _check_real(graph, wanted)
    y, vjp, changes = jax.vjp(
        lambda values: call(graph, wanted, values), [graph.leaves[i] for i in wanted], has_aux=True
    )
    changes.apply(graph.nodes)

    def back(cotangent: Any) -> tuple[Any, ...]:
        (grads,) = vjp(jax.tree.map(_as_cotangent, y, cotangent))
        return _like_arguments(graph, wanted, grads)

    return y, back


def _as_cotangent(out: Any, cotangent: Any) -> Any:
    if jnp.shape(cotangent) != out.shape:
        raise ShapeError(f"back: expected a cotangent of shape {out.shape}, got {jnp.shape(cotangent)}.")
    return jnp.asarray(cotangent, out.dtype)


@user_frames
def jacobian(f: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    """The derivatives of an array-valued function: one entry per argument, of shape `(*out, *in)` for arrays.

    An argument that is a model gives a model of the same structure that holds such arrays.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.jacobian(lambda x: x**2, jnp.array([1.0, 2.0]))[0].tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    graph = scan_call(f, tuple(map(as_array_tree, args)))
    wanted = graph.indices(PARAMETER)
    _check_real(graph, wanted)

    def run(values: list[Any]) -> tuple[Any, Changes]:
        out, changes = call(graph, wanted, values)
        if not (is_array(out) or isinstance(out, (float, np.floating, Param))):
            raise DTypeError(f"jacobian: expected the function to return an array, got {type(out).__name__}.")
        out = jnp.asarray(out)
        if not jnp.issubdtype(out.dtype, jnp.floating):
            raise DTypeError(f"jacobian: expected real floating values, got dtype {out.dtype.name}.")
        return out, changes

    jacobians, changes = jax.jacrev(run, has_aux=True)([graph.leaves[i] for i in wanted])
    changes.apply(graph.nodes)
    return _like_arguments(graph, wanted, jacobians)


@user_frames
def hessian(f: Callable[[Any], Any], x: Any) -> Array:
    """The second derivatives of a scalar function of one array: shape `(*x, *x)`.

    For a model, take `vector, rebuild = destructure(model)` and the Hessian of `lambda v: loss(rebuild(v))`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.hessian(lambda x: x[0] ** 2 * x[1], jnp.array([1.0, 2.0])).tolist()
    [[4.0, 2.0], [2.0, 0.0]]
    """
    x = as_array_tree(x)
    if not is_array(x):
        raise ArgumentError(
            f"hessian: expected one array, got {type(x).__name__}. "
            "For a model, use v, rebuild = destructure(model) and the Hessian of lambda v: loss(rebuild(v))."
        )
    return jacobian(lambda v: gradient(f, v)[0], x)[0]


def as_array_tree(value: Any) -> Any:
    """`value` with the Python numbers in it (directly, or within plain lists, tuples and dicts) as arrays.

    A number given directly is differentiable even if it is an integer, as in Flux; inside containers only floats are.
    """
    if isinstance(value, (bool, np.bool_)):
        return value
    if isinstance(value, (int, float, complex, np.number)):
        return jnp.asarray(float(value) if isinstance(value, (int, np.integer)) else value)
    return _floats_as_arrays(value)


def _floats_as_arrays(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return jnp.asarray(value)
    if isinstance(value, tuple) and hasattr(value, "_fields") and any(map(_has_float, value)):
        return tuple.__new__(type(value), map(_floats_as_arrays, value))
    if type(value) in (list, tuple) and any(map(_has_float, value)):
        return type(value)(map(_floats_as_arrays, value))
    if type(value) is dict and any(map(_has_float, value.values())):
        return {key: _floats_as_arrays(item) for key, item in value.items()}
    return value


def _has_float(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return True
    if type(value) is list or isinstance(value, tuple):
        return any(map(_has_float, value))
    return type(value) is dict and any(map(_has_float, value.values()))


# ---------------------------------------------------------------------------------------- implicit gradients


class Params:
    """The parameters of models, `Param` boxes and arrays, to be given to `gradient` (see `params`)."""

    def __init__(self, owners: tuple[Any, ...]) -> None:
        self.owners = owners

    def arrays(self) -> list[Any]:
        """The parameters as they are now, each once."""
        found: dict[int, Any] = {}
        for owner in self.owners:
            graph = scan(owner)
            found.update({id(graph.leaves[i]): graph.leaves[i] for i in graph.indices(PARAMETER)})
        return list(found.values())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.arrays())

    def __len__(self) -> int:
        return len(self.arrays())

    def __repr__(self) -> str:
        return f"Params({len(self)} arrays)"


def params(*owners: Any) -> Params:
    """The parameters of models, `Param` boxes or arrays, for the implicit form of `gradient`.

    >>> import fluxion as fx
    >>> W, b, x = fx.ones(2, 3), fx.zeros(2), fx.ones(3)
    >>> g = fx.gradient(lambda: (W @ x + b).sum(), fx.params(W, b))
    >>> g[W].shape, g[b].tolist()
    ((2, 3), [1.0, 1.0])
    """
    flat = tuple(o for owner in owners for o in (owner.owners if isinstance(owner, Params) else (owner,)))
    if not flat:
        raise ArgumentError("params: expected at least one model, Param or array, got none.")
    for owner in flat:
        if not is_array(owner) and kind_of(owner) is None:
            raise DTypeError(f"params: expected models, Params and arrays, got {type(owner).__name__}.")
    return Params(flat)


class Gradients:
    """The result of the implicit form: `g[W]` for an array, a `Param`, or an array of a model."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        self.by_id = {id(parameter): (parameter, grad) for parameter, grad in pairs}

    def __getitem__(self, parameter: Any) -> Any:
        array = parameter.value if isinstance(parameter, Param) else parameter
        if id(array) in self.by_id:
            return self.by_id[id(array)][1]
        if is_array(array):
            raise StateError(
                "gradient: this array is none of the parameters the gradient was taken for. "
                "Arrays are replaced by updates: look gradients up before updating."
            )
        return self.like(parameter)

    def like(self, model: Any) -> Any:
        """The gradients in the shape of `model`, as the explicit form returns them."""
        graph = scan(model)
        if not graph.leaves:
            raise StateError(f"gradient: expected a parameter or a model that has some, got {type(model).__name__}.")
        return graph.rebuilt([self.by_id.get(id(leaf), (None, None))[1] for leaf in graph.leaves])

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Any]:
        return (grad for _, grad in self.by_id.values())

    def __repr__(self) -> str:
        return f"Gradients({len(self)} arrays)"


def _implicit(f: Callable[[], Any], parameters: Params) -> ValueAndGradient:
    arrays = parameters.arrays()
    graph = scan_call(f, ())
    place = {id(leaf): i for i, leaf in enumerate(graph.leaves) if graph.roles[i] == CAPTURED and is_floating(leaf)}
    unreached = [n for n, array in enumerate(arrays) if id(array) not in place]
    if unreached:
        shapes = ", ".join(f"number {n} of shape {tuple(arrays[n].shape)}" for n in unreached[:5])
        raise StateError(
            f"gradient: the function does not reach {len(unreached)} of the {len(arrays)} parameters ({shapes}). "
            "Use them in it as variables of an enclosing function or module, or take the gradient explicitly."
        )
    wanted = [place[id(array)] for array in arrays]
    out, grads = _differentiate(graph, wanted)
    return ValueAndGradient(out, Gradients(zip(arrays, grads, strict=True)))
