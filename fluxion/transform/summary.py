"""`summary`: what is in a model, what comes out of each layer, and what training it will take."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from fluxion.errors import user_frames
from fluxion.transform.modes import gradient_mode
from fluxion.transform.sizes import ShapeLike, abstract_call, abstract_inputs, autosize
from fluxion.tree.graph import BUFFER, PARAMETER, Working, is_array
from fluxion.tree.layer import Layer, observing
from fluxion.tree.printing import compact, count_bytes, count_elements
from fluxion.tree.walk import scan


class Row(NamedTuple):
    """One layer: its path, its printed form, the shape of its output, its parameters and their bytes.

    The shape is None for a layer that was not seen: one that is not called, or only inside a gradient of the model's.
    """

    path: str
    layer: str
    output_shape: tuple[int, ...] | None
    parameters: int
    bytes: int


class Summary:
    """The result of `summary`; prints as a table.

    `rows` has one entry per layer; `parameters` counts all, tied ones once; `training_bytes` estimates the memory of a
    training step: parameters, their gradients, the optimizer's state, and the outputs kept for the backward pass.
    """

    def __init__(self, rows: list[Row], parameters: int, parts: dict[str, int], batch: int | None) -> None:
        self.rows = rows
        self.parameters = parameters
        self.parts = parts
        self.batch = batch

    @property
    def training_bytes(self) -> int:
        return sum(self.parts.values())

    def __repr__(self) -> str:
        head = ("path", "layer", "output shape", "parameters", "bytes")
        cells = [
            (row.path, row.layer, _shape(row.output_shape), f"{row.parameters:_}", f"{row.bytes:_}")
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in [head, *cells]) for i in range(5)]
        rule = "-" * (sum(widths) + 2 * 4)
        lines = [_line(head, widths), rule, *(_line(line, widths) for line in cells), rule]
        lines.append(f"{self.parameters:_} parameters")
        parts = " + ".join(f"{name} {_readable(size)}" for name, size in self.parts.items())
        lines.append(f"training, batch of {self.batch}: about {_readable(self.training_bytes)} = {parts}")
        return "\n".join(lines)


@user_frames
def summary(model: Any, input_shape: ShapeLike, *, opt: Any = None, dtype: Any = float) -> Summary:
    """A table of the layers of a model with output shapes, parameters and bytes, and an estimate of training memory.

    `input_shape` is as for `outputsize`; sizes left out of the model are inferred and filled in. The optimizer's
    memory is that of `opt` (from `setup`), or else Adam's: two values per parameter. Activations are the outputs of
    all layers for one batch of the given size.

    >>> import fluxion as fx
    >>> fx.summary(fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3)), (15, 4))
    path       layer               output shape  parameters  bytes
    --------------------------------------------------------------
    layers[0]  Dense(4, 10, relu)  (15, 10)              50    200
    layers[1]  Dense(10, 3)        (15, 3)               33    132
    --------------------------------------------------------------
    83 parameters
    training, batch of 15: about 2.1 kB = parameters 332 B + gradients 332 B + optimizer 664 B + activations 780 B
    """
    autosize(model, input_shape, dtype=dtype)
    graph = scan(model)
    inputs = abstract_inputs(input_shape, dtype)
    outputs: dict[int, list[Any]] = {}  # by the id of the layer

    def run(working: Working, *xs: Any) -> Any:
        original = {id(made): working.graph.nodes[i].original for i, made in working.made.items()}

        def observe(layer: Any, _: Any, out: Any) -> None:
            arrays = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in jax.tree.leaves(out) if is_array(a)]
            outputs.setdefault(id(original.get(id(layer))), []).extend(arrays)

        with observing(observe), gradient_mode(False):
            return working.roots[0](*xs)

    abstract_call(model, inputs, run)
    rows, activations = [], 0
    covered: set[int] = set()  # the ids of layers that are part of a row
    for node in graph.nodes:
        if not isinstance(node.original, Layer) or id(node.original) in covered:
            continue
        inner = scan(node.original)
        parameters = [inner.leaves[k] for k in inner.indices(PARAMETER)]
        own = any(is_array(value) for value in vars(node.original).values())
        within = {id(n.original) for n in inner.nodes if isinstance(n.original, Layer)} - {id(node.original)}
        # A layer that does not call the layers in it, as LSTM does not call its cells, is one row.
        whole = not within or (id(node.original) in outputs and within.isdisjoint(outputs))
        if whole:
            covered |= within
        if whole or own:
            seen = outputs.get(id(node.original), [])
            shape = tuple(seen[0].shape) if seen else None
            path = node.path or "model"
            rows.append(Row(path, compact(node.original), shape, count_elements(parameters), count_bytes(parameters)))
            activations += count_bytes(seen)
    everything = [graph.leaves[k] for k in graph.indices(PARAMETER)]
    size = count_bytes(everything)
    state = 2 * size if opt is None else count_bytes(jax.tree.leaves(opt.state))
    parts = {"parameters": size, "gradients": size, "optimizer": state, "activations": activations}
    buffers = count_bytes([graph.leaves[k] for k in graph.indices(BUFFER)])
    parts |= {"buffers": buffers} if buffers else {}
    batch = inputs[0].shape[0] if inputs and inputs[0].shape else None
    return Summary(rows, count_elements(everything), parts, batch)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else str(shape)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join([*left, *right]).rstrip()


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
