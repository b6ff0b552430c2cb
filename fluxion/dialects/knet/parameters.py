"""What a loss trains: the `Param`s and the layers that it reaches; and `diff`, a value with its gradients.

In Knet a function knows its parameters by using them. Here they are found by looking at what the function reaches:
the attributes of objects, the variables it closes over, and the globals that its code names.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from fluxion.errors import ArgumentError, StateError, user_frames
from fluxion.ops.initializers import glorot_uniform
from fluxion.transform.gradient import Params, withgradient
from fluxion.tree.functions import FUNCTION, code_facts
from fluxion.tree.graph import PARAMETER, Graph, LeafRef, Node, NodeRef
from fluxion.tree.kinds import OBJECT, static_parts
from fluxion.tree.layer import Param
from fluxion.tree.printing import compact
from fluxion.tree.protocol import Step
from fluxion.tree.walk import Scan, scan, walked_call


def param(*size: int, init: Callable[..., Any] = glorot_uniform) -> Param:
    """A `Param` of this size, drawn by `init` (Knet's `xavier_uniform`, which is Glorot's uniform distribution).

    >>> from fluxion.dialects.knet import param
    >>> param(3, 2).shape
    (3, 2)
    """
    return Param(init(*size))


def param0(*size: int) -> Param:
    """A `Param` of zeros.

    >>> from fluxion.dialects.knet import param0
    >>> param0(3).value.tolist()
    [0.0, 0.0, 0.0]
    """
    return Param(jnp.zeros(size))


# ------------------------------------------------------------------------------------------- what a loss reaches


def owners(graph: Graph) -> dict[str, Any]:
    """The `Param`s, and the outermost layers with parameters, that a call reaches, by their paths."""
    chosen: dict[int, None] = {}
    covered: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if index not in covered and _is_owner(node):
            below = _below(graph, index)
            covered |= below
            for inner in below & chosen.keys():
                del chosen[inner]
            chosen[index] = None
    found: dict[str, Any] = {}
    for index in chosen:
        owner, path = graph.nodes[index].original, graph.nodes[index].path
        if getattr(owner, "unsized", False) or _has_parameters(owner):
            while path in found:  # the same name in two modules
                path += "~"
            found[path] = owner
    return found


def _is_owner(node: Node) -> bool:
    return node.kind is OBJECT and getattr(type(node.original), "__fluxion_node__", False)


def _has_parameters(owner: Any) -> bool:
    graph = scan(owner)
    return PARAMETER in graph.roles or any(getattr(node.original, "unsized", False) for node in graph.nodes)


def _below(graph: Graph, index: int) -> set[int]:
    """The nodes that a node reaches, itself included."""
    seen, todo = {index}, [index]
    while todo:
        for _, ref in graph.nodes[todo.pop()].children:
            if isinstance(ref, NodeRef) and ref.index not in seen:
                seen.add(ref.index)
                todo.append(ref.index)
    return seen


def trained(function: Any, params: Any, caller: str) -> dict[str, Any]:
    """What is trained when `function` is minimized: all it reaches, or what `params` lists of it."""
    graph, _ = walked_call(function, ())
    found = owners(graph)
    _check_within_reach(graph, caller)
    if not found:
        hint = f" Write Param({graph.paths[0]}) for an array that is to be trained." if graph.leaves else ""
        raise StateError(
            f"{caller}: found nothing to train: what {compact(function)} reaches by attributes, closures and globals "
            f"holds no Param and no layer with parameters.{hint}"
        )
    if params is None:
        return found
    reached = {id(node.original): node.path for node in graph.nodes}
    chosen: dict[str, Any] = {}
    for owner in _flat(params):
        if isinstance(owner, ArrayParam):
            raise ArgumentError(
                f"{caller}: expected params to list Params and layers, got {owner.path}, an array of a layer. Give the "
                "layer, and keep the rest as it is with fx.freeze(training.opt, selector)."
            )
        if not getattr(type(owner), "__fluxion_node__", False) or not _has_parameters(owner):
            raise ArgumentError(f"{caller}: expected params to list Params and layers, got {compact(owner)}.")
        if id(owner) not in reached:
            raise StateError(f"{caller}: params lists {compact(owner)}, which the function does not reach.")
        if not any(owner is other for other in chosen.values()):
            path = reached[id(owner)]
            while path in chosen:
                path += "~"
            chosen[path] = owner
    if not chosen:
        raise ArgumentError(f"{caller}: expected at least one Param or layer in params, got none.")
    return chosen


def _flat(params: Any) -> list[Any]:
    """The owners in a `Param`, a layer, what `fx.params` returns, or any nesting of lists and dicts of them."""
    if isinstance(params, Params):
        return list(params.owners)
    if isinstance(params, dict):
        params = list(params.values())
    if isinstance(params, list | tuple):
        return [owner for item in params for owner in _flat(item)]
    return [params]


def as_model(found: dict[str, Any]) -> Any:
    """The owners as one model, whose paths are those in the function."""
    if list(found) == [""]:
        return found[""]
    return types.SimpleNamespace(**{path or "loss": owner for path, owner in found.items()})


def _check_within_reach(graph: Graph, caller: str) -> None:
    """Refuse parameters that are globals in the methods of a class, or belong to a class and not to its instances.

    A working copy holds instances, functions and their globals. Of a class it has the original, in whose methods these
    parameters would be constants.
    """
    reached = {id(node.original) for node in graph.nodes}
    names = {"__call__"}.union(*(code_facts(node.meta.code).names for node in graph.nodes if node.kind is FUNCTION))
    classes = {node.meta: None for node in graph.nodes if node.kind is OBJECT}
    parts = [(cls, str(step[1]), v) for cls in classes for step, v in static_parts(cls) if id(v) not in reached]
    used, count = [], -1
    while len(names) > count:  # methods that call methods
        count = len(names)
        used = [(cls, name, value) for cls, name, value in parts if name in names]
        codes = [getattr(inspect.unwrap(value), "__code__", None) for _, _, value in used if callable(value)]
        names.update(*(code_facts(code).names for code in codes if code is not None))
    for cls, name, value in used:
        found = Scan(follow_globals=True)
        for node in found.finish([found.add(value, name)]).nodes:
            if _is_owner(node) and _has_parameters(node.original):
                raise StateError(
                    f"{caller}: {node.path} is used by {cls.__name__}.{name} but is no part of the instance, and could "
                    "not be trained there. Make it an attribute: self.w = ... in __init__."
                )


# ------------------------------------------------------------------------------------------------------- diff


class ArrayParam(Param):
    """An array of a layer in the shape of a `Param`: reading and writing it reads and writes the layer.

    What `params` gives for layers, whose arrays stand in no boxes of their own.

    >>> from fluxion.dialects.knet import params
    >>> import fluxion as fx
    >>> layer = fx.Dense(2, 3, init=fx.ones)
    >>> for w in params(layer):
    ...     w -= 0.25 * w
    >>> float(layer.weight[0, 0])
    0.75
    """

    __slots__ = ("path", "places")

    def __init__(self, path: str, places: Sequence[tuple[Node, Step]]) -> None:
        self.path = path
        self.places = places

    @property
    def value(self) -> Any:
        node, step = self.places[0]
        return dict(node.kind.children(node.original))[step]

    @value.setter
    def value(self, value: Any) -> None:
        for node, step in self.places:
            node.kind.write(node.original, step, value)

    def __eq__(self, other: object) -> Any:
        return Param.__eq__(self, other)

    def __hash__(self) -> int:
        node, step = self.places[0]
        return hash((id(node.original), step))


class Recorded:
    """What `diff` returns: the value, and the gradients of all parameters that it was computed from.

    >>> from fluxion.dialects.knet import Param, diff
    >>> w = Param(3.0)
    >>> diff(lambda: w * w)
    Recorded(9.0, 1 parameters)
    """

    def __init__(self, value: Any, graphs: list[Graph], grads: list[list[Any]]) -> None:
        self.value = value
        self.graphs = graphs  # of the owners, as they were then
        self.grads = grads  # by leaf of these graphs; None for what is no parameter

    def __repr__(self) -> str:
        count = len({id(g) for grads in self.grads for g in grads if g is not None})
        return f"Recorded({self.value}, {count} parameters)"

    def __float__(self) -> float:
        return float(self.value)


@user_frames
def diff(f: Callable[..., Any], *args: Any) -> Recorded:
    """Knet's `@diff f(args...)`: the value of `f`, recorded with its gradients, for `value`, `grad` and `params`.

    The gradients are those of every `Param` and of every layer with parameters that `f` and `args` reach; `f` returns
    a scalar, or a tuple that begins with one. Layers are in training mode inside.

    >>> from fluxion.dialects.knet import Param, diff, grad, params, value
    >>> w, b = Param([1.0, 2.0]), Param(0.5)
    >>> J = diff(lambda x: ((w * x).sum() + b) ** 2, 2.0)
    >>> float(value(J)), grad(J, w).tolist(), len(params(J))
    (42.25, [26.0, 26.0], 2)
    """
    call = functools.partial(f, *args)
    found = list(owners(walked_call(call, ())[0]).values())
    if not found:
        return Recorded(f(*args), [], [])
    result = withgradient(call, Params(tuple(found)))
    graphs = [scan(owner) for owner in found]
    by_id = result.grad.by_id
    return Recorded(result.value, graphs, [[by_id.get(id(leaf), (None, None))[1] for leaf in g.leaves] for g in graphs])


def value(x: Any) -> Any:
    """The value of a `Recorded` or a `Param`; anything else is its own value.

    >>> from fluxion.dialects.knet import Param, value
    >>> value(Param(2.0)).item(), value(3)
    (2.0, 3)
    """
    return x.value if isinstance(x, Recorded | Param) else x


@user_frames
def grad(recorded: Recorded, w: Any) -> Any:
    """The gradient of a recorded value: of a `Param` an array, of a layer a layer that holds gradients.

    It may be asked for after the parameter has been changed. None where the value does not depend on `w`.

    >>> from fluxion.dialects.knet import diff, grad
    >>> import fluxion as fx
    >>> layer = fx.Dense(3, 2)
    >>> J = diff(lambda x: layer(x).sum(), fx.ones(5, 3))
    >>> grad(J, layer).bias.tolist(), grad(J, layer.bias).tolist()
    ([5.0, 5.0], [5.0, 5.0])
    """
    if not isinstance(recorded, Recorded):
        raise ArgumentError(f"grad: expected what diff returned, got {type(recorded).__name__}. Write J = diff(f, x).")
    for graph, grads in zip(recorded.graphs, recorded.grads, strict=True):
        for i, leaf in enumerate(graph.leaves):
            if leaf is w:
                return grads[i]
        for index, node in enumerate(graph.nodes):
            if isinstance(w, ArrayParam):
                (place, step), *_ = w.places
                ref = dict(node.children).get(step) if node.original is place.original else None
                if isinstance(ref, LeafRef):
                    return grads[ref.index]
            elif node.original is w:
                part = Graph(graph.nodes, [NodeRef(index)], graph.leaves, graph.paths, graph.roles).rebuilt(grads)
                return part.value if isinstance(w, Param) else part
    return None


def params(x: Any) -> list[Param]:
    """The parameters of a recorded value, or of anything that reaches some: `Param`s, each once.

    An array of a layer comes as an `ArrayParam`, so that `w -= 0.1 * grad(J, w)` changes the layer.

    >>> from fluxion.dialects.knet import diff, grad, params
    >>> import fluxion as fx
    >>> layer = fx.Dense(3, 2, init=fx.ones)
    >>> J = diff(lambda x: layer(x).sum(), fx.ones(5, 3))
    >>> for w in params(J):
    ...     w -= 0.1 * grad(J, w)
    >>> layer.bias.tolist()
    [-0.5, -0.5]
    """
    graphs = x.graphs if isinstance(x, Recorded) else [scan(owner) for owner in owners(walked_call(x, ())[0]).values()]
    found: dict[int, Param] = {}
    for graph in graphs:
        places: dict[int, list[tuple[Node, Step]]] = {i: [] for i in graph.indices(PARAMETER)}
        for node in graph.nodes:
            for step, ref in node.children:
                if isinstance(ref, LeafRef) and ref.index in places:
                    places[ref.index].append((node, step))
        for i, at in places.items():
            box = next((node.original for node, _ in at if isinstance(node.original, Param)), None)
            found.setdefault(id(graph.leaves[i]), ArrayParam(graph.paths[i], at) if box is None else box)
    return list(found.values())
