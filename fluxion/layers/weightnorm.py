"""Weight normalization: `WeightNorm` around a layer, and `remove_weight_norms` once the model is trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fluxion.errors import ArgumentError, nearest
from fluxion.layers.containers import checked_layer
from fluxion.ops.checks import host
from fluxion.ops.normalization import norms_along, weight_norm
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.graph import LeafRef, NodeRef, Ref, is_array, is_floating
from fluxion.tree.layer import Layer
from fluxion.tree.walk import scan

if TYPE_CHECKING:
    from jaxtyping import Array

Model = TypeVar("Model")


class WeightNorm(Layer):
    """A layer whose weight is `g * v / norm(v)`: its length `g` and its direction `v` are trained apart.

    There is one norm, and one `g`, for each index along `axis`: for each output feature, with the last axis of a
    `Dense` or `Conv` weight. `v` stands where the weight stood, in `layer.weight`, and starts as it was; `g` starts as
    its norms, so that nothing changes at first. The weight itself is no parameter any more, but made anew at each call.

    Shapes: those of the layer; `g` is `(n,)` for a weight with n indices along `axis`, or `()`.

    Arguments:
      layer: a layer with an array in its field `name`. Its input size may be left out (`fx.autosize`).
      name: the field to normalize.
      axis: the axis along which each index has a norm of its own; None for one norm over the whole weight.

    Errors: ArgumentError for a layer without that field, an axis that the weight has not, and a weight that is all
    zero, there or at some index along the axis: it has no direction. Source: Salimans and Kingma 2016; the numbers are
    those of `torch.nn.utils.parametrizations.weight_norm`, whose `dim=0` is the output axis of torch's weights.

    >>> import fluxion as fx
    >>> layer = fx.WeightNorm(fx.Dense(3, 2))
    >>> layer, [(path, p.shape) for path, p in fx.trainables(layer, path=True)]
    (WeightNorm(Dense(3, 2)), [('layer.weight', (3, 2)), ('layer.bias', (2,)), ('g', (2,))])
    """

    layer: Callable[..., Any]
    name: str
    axis: int | None
    g: Array | None  # (n,)

    def __init__(self, layer: Callable[..., Any], name: str = "weight", *, axis: int | None = -1) -> None:
        self.layer = checked_layer("WeightNorm", layer, "as its layer")
        self.name = name
        if axis is not None and (not isinstance(axis, int) or isinstance(axis, bool)):
            raise ArgumentError(f"WeightNorm: expected an axis or None, got {axis!r}.")
        self.axis = axis
        self.g = None
        self._build("WeightNorm: ")

    def _build(self, speaker: str) -> None:
        fields = getattr(self.layer, "__dict__", {})
        later = getattr(self.layer, "unsized", False)
        known = [k for k, a in fields.items() if (a is None and later) or (is_array(a) and is_floating(a))]
        if self.name not in known:
            raise ArgumentError(
                f"{speaker}expected the name of an array of {self.layer!r} ({', '.join(known) or 'it has none'}), "
                f"got {self.name!r}.{nearest(str(self.name), known)}"
            )
        if later or self.g is not None:
            return
        v = self.v
        if self.axis is not None and not -v.ndim <= self.axis < v.ndim:
            raise ArgumentError(f"{speaker}expected an axis of {self.name}, of shape {v.shape}, got {self.axis}.")
        g = norms_along(v, self.axis)
        values = host(g)
        if values is not None and not values.all():
            at = f" at index {int(np.argmin(values != 0))} of axis {self.axis}" if values.any() else ""
            raise ArgumentError(
                f"{speaker}expected {self.name} to have a direction, but that of {self.layer!r} is all zero{at}. "
                "Initialize it with random numbers."
            )
        self.g = g.astype(v.real.dtype)

    @property
    def v(self) -> Array:
        """The direction: what the layer holds in the place of its weight."""
        return getattr(self.layer, self.name)

    @property
    def unsized(self) -> bool:
        return self.g is None

    def infer(self, shape: tuple[int, ...]) -> None:
        if getattr(self.layer, "unsized", False):
            self.layer.infer(shape)  # type: ignore[attr-defined]
        self._build("")

    def folded(self) -> Any:
        """A shallow copy of the layer that holds the normalized weight."""
        plain = copy.copy(self.layer)
        if self.g is not None:
            setattr(plain, self.name, weight_norm(self.v, self.g, self.axis))
        return plain

    def __call__(self, *inputs: Any) -> Any:
        ensure_sized(self, inputs[0] if inputs else None)
        plain = self.folded()
        before = dict(vars(plain))
        # The copy is called without what surrounds the call of a layer: errors and observers look layers up in the
        # model by identity, where they find this one and the parts of the copy, but not the copy.
        call = type(plain).__call__
        y = getattr(call, "__wrapped__", call)(plain, *inputs) if hasattr(call, "_is_located") else plain(*inputs)
        for key, value in vars(plain).items():  # its state, such as running statistics
            if key != self.name and before.get(key) is not value:
                setattr(self.layer, key, value)
        return y


def remove_weight_norms(model: Model) -> Model:
    """Put in the place of every `WeightNorm` its layer with the normalized weight; changes and returns the model.

    What the model computes stays the same. A model that is itself a `WeightNorm`, or a tuple, is returned anew.
    An optimizer that was set up for the model before no longer fits it. Source: `Flux.remove_weight_norms`.

    >>> import fluxion as fx
    >>> fx.remove_weight_norms(fx.Chain(fx.WeightNorm(fx.Dense(3, 2)), fx.relu))
    Chain(Dense(3, 2), relu)
    """
    graph = scan(model)
    done: dict[int, Any] = {}

    def replaced(ref: Ref) -> Any:
        if isinstance(ref, NodeRef):
            return visit(ref.index)
        return graph.leaves[ref.index] if isinstance(ref, LeafRef) else getattr(ref, "value", None)

    def visit(index: int) -> Any:
        if index in done:
            return done[index]
        node = graph.nodes[index]
        target = node.original
        while isinstance(target, WeightNorm):  # the outer first: it may normalize the `g` of an inner one
            target = target.folded()
            inner = dict(node.children)["attr", "layer"]
            node = graph.nodes[inner.index] if isinstance(inner, NodeRef) else node
        done[index] = target
        if not node.live:
            return target
        children = [(step, ref, replaced(ref)) for step, ref in node.children]
        changed = [
            (step, value)
            for step, ref, value in children
            if isinstance(ref, NodeRef) and value is not graph.nodes[ref.index].original
        ]
        if changed and not node.kind.mutable:
            done[index] = node.kind.make(node.meta, [(step, value) for step, _, value in children])
        elif changed:
            for step, value in changed:
                node.kind.write(target, step, value)
        return done[index]

    return replaced(graph.roots[0])
