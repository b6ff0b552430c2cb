"""Gradients: explicit ones, shaped like the arguments, and implicit ones, looked up by parameter.

Every function here runs the user's function on a working copy of everything it reaches (arguments, closures,
globals), in training mode, and writes the arrays that the call changed back to the originals afterwards. A model
therefore never holds a tracer, and BatchNorm's statistics move once per call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, ShapeError, StateError
from fluxion.transform.modes import gradient_mode
from fluxion.tree.graph import CAPTURED, PARAMETER, Changes, Graph, is_array, is_floating, scan, scan_call
from fluxion.tree.layer import Param

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


def gradient(f: Callable[..., Any], *args: Any) -> Any:
    """The gradients of a scalar function: a tuple, one entry per argument, each shaped like its argument.

    A gradient of a model is a model of the same structure that holds gradients; what is no parameter (integers,
    buffers, strings) is None there. Python numbers count as arrays. If `f` returns a tuple, its first element
    is differentiated. With `params(...)` for argument, `f` takes none, and the result is a mapping from each
    parameter to its gradient (Flux 0.12's and Knet's implicit form).

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
    leaves: list[Any] = [None] * len(graph.leaves)
    for i, grad in zip(wanted, grads, strict=True):
        leaves[i] = grad
    return ValueAndGradient(out, graph.build(leaves).roots[1:])


def _differentiate(graph: Graph, wanted: list[int]) -> tuple[Any, list[Any]]:
    """Value and gradients of the graph's call for the leaves `wanted`; applies the changes the call made."""

    def run(values: list[Any]) -> tuple[Any, Any]:
        out, changes = call(graph, wanted, values)
        loss = out[0] if isinstance(out, tuple) and out else out
        return scalar(loss), (_Opaque.wrap(out), changes)

    _check_real(graph, wanted)
    (_, (out, changes)), grads = jax.value_and_grad(run, has_aux=True)([graph.leaves[i] for i in wanted])
    changes.apply(graph.nodes)
    return out.unwrap(), grads


def call(graph: Graph, wanted: list[int], values: list[Any]) -> tuple[Any, Changes]:
    """Run the graph's function in training mode on a working copy that holds `values` at the leaves `wanted`."""
    leaves = list(graph.leaves)
    for i, value in zip(wanted, values, strict=True):
        leaves[i] = value
    working = graph.build(leaves)
    function, *args = working.roots
    with gradient_mode(True):
        out = function(*args)
    return out, working.changes()


def _check_real(graph: Graph, wanted: list[int]) -> None:
    for i in wanted:
        if isinstance(graph.leaves[i], jax.ShapeDtypeStruct):
            raise StateError(f"gradient: {graph.paths[i]} is a shape without values, not an array.")


def scalar(loss: Any) -> Any:
    if isinstance(loss, (bool, str)) or not (is_array(loss) or isinstance(loss, (int, float, np.number, Param))):
        raise DTypeError(f"gradient: expected the function to return a number, got {type(loss).__name__}.")
    loss = jnp.asarray(loss)
    if loss.shape != ():
        raise ShapeError(
            f"gradient: expected the function to return a scalar, got shape {loss.shape}. "
            "Take the sum or mean, or use jacobian or pullback."
        )
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise DTypeError(f"gradient: expected a real floating value, got dtype {loss.dtype.name}.")
    return loss


def pullback(f: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`(y, back)`: the value of `f`, and the function from a cotangent of `y` to the gradients of the arguments.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> y, back = fx.pullback(lambda x: x**2, jnp.array([1.0, 2.0]))
    >>> y.tolist(), back(jnp.array([1.0, 10.0]))[0].tolist()
    ([1.0, 4.0], [2.0, 40.0])
    """
    graph = scan_call(f, tuple(map(as_array_tree, args)))
    wanted = graph.indices(PARAMETER)
    y, vjp, changes = jax.vjp(
        lambda values: call(graph, wanted, values), [graph.leaves[i] for i in wanted], has_aux=True
    )
    changes.apply(graph.nodes)

    def back(cotangent: Any) -> tuple[Any, ...]:
        matched = jax.tree.map(lambda c, out: jnp.asarray(c, out.dtype), cotangent, y)
        (grads,) = vjp(matched)
        leaves: list[Any] = [None] * len(graph.leaves)
        for i, grad in zip(wanted, grads, strict=True):
            leaves[i] = grad
        return graph.build(leaves).roots[1:]

    return y, back


def jacobian(f: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    """The derivatives of an array-valued function: one entry per argument, of shape `(*out, *in)` for arrays.

    An argument that is a model gives a model of the same structure that holds such arrays.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.jacobian(lambda x: x**2, jnp.array([1.0, 2.0]))[0].tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    graph = scan_call(f, tuple(map(as_array_tree, args)))
    wanted = graph.indices(PARAMETER)
    derivative = jax.jacrev(lambda values: call(graph, wanted, values), has_aux=True)
    jacobians, changes = derivative([graph.leaves[i] for i in wanted])
    changes.apply(graph.nodes)
    leaves: list[Any] = [None] * len(graph.leaves)
    for i, entry in zip(wanted, jacobians, strict=True):
        leaves[i] = entry
    return graph.build(leaves).roots[1:]


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
    if type(value) in (list, tuple) and any(map(_has_float, value)):
        return type(value)(map(_floats_as_arrays, value))
    if type(value) is dict and any(map(_has_float, value.values())):
        return {key: _floats_as_arrays(item) for key, item in value.items()}
    return value


def _has_float(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return True
    if type(value) in (list, tuple):
        return any(map(_has_float, value))
    return type(value) is dict and any(map(_has_float, value.values()))


class _Opaque:
    """A function's result on its way through `jax.value_and_grad`, which wants arrays: the rest rides along."""

    def __init__(self, leaves: list[Any], treedef: Any, static: tuple[tuple[int, Any], ...]) -> None:
        self.leaves = leaves
        self.treedef = treedef
        self.static = static

    @classmethod
    def wrap(cls, out: Any) -> _Opaque:
        leaves, treedef = jax.tree.flatten(out)
        static = tuple((i, leaf) for i, leaf in enumerate(leaves) if not is_array(leaf))
        return cls([leaf for leaf in leaves if is_array(leaf)], treedef, static)

    def unwrap(self) -> Any:
        leaves = list(self.leaves)
        for i, leaf in self.static:
            leaves.insert(i, jnp.asarray(leaf) if isinstance(leaf, (int, float)) else leaf)
        return jax.tree.unflatten(self.treedef, leaves)


jax.tree_util.register_pytree_node(
    _Opaque,
    lambda o: (o.leaves, (o.treedef, o.static)),
    lambda aux, leaves: _Opaque(list(leaves), *aux),
)


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
