"""The table that `model.summary()` prints."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fluxion.dialects.keras.layer import Layer
from fluxion.dialects.keras.models import Model, Sequential
from fluxion.dialects.keras.symbolic import Operation
from fluxion.dialects.keras.weights import class_name
from fluxion.errors import ArgumentError


def print_summary(
    model: Model,
    line_length: int | None,
    positions: Sequence[float] | None,
    print_fn: Callable[[str], Any] | None,
    expand_nested: bool,
    show_trainable: bool,
    layer_range: Sequence[str] | None,
) -> None:
    """Print the layers with their output shapes and parameters, where they connect, and totals."""
    import rich.box
    import rich.console
    import rich.markup
    import rich.table

    operations: list[Any] = model.layers
    if model.graph is not None and not isinstance(model, Sequential):
        operations = model.operations
    connected = model.graph is not None and not isinstance(model, Sequential) and not _is_chain(model)
    length = 108 if connected else 88
    places = positions or ([0.3, 0.56, 0.74, 1.0] if connected else [0.45, 0.80, 1.0])
    header = ["Layer (type)", "Output Shape", "Param #"] + (["Connected to"] if connected else [])
    if show_trainable:
        length += 12
        places = [p * 0.9 for p in places] + [1.0]
        header.append("Trainable")
    length = line_length or min(length, shutil.get_terminal_size().columns - 4)
    ends = [int(place * length) for place in places]
    widths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    if min(widths) < 4:
        raise ArgumentError(f"summary: expected a line_length that fits {len(header)} columns, got {length}.")
    sides: dict[str, Any] = {"Param #": "right", "Trainable": "center"}
    columns = [
        rich.table.Column(name, justify=sides.get(name, "left"), width=width)
        for name, width in zip(header, widths, strict=True)
    ]
    table = rich.table.Table(*columns, width=length, show_lines=True)

    def add(operation: Any, level: int) -> None:
        prefix = "   " * level + "└ " if level else ""
        type_name = operation.class_name if isinstance(operation, Operation) else class_name(operation)
        cells = [f"{prefix}{operation.name} ({type_name})", _shape_of(operation, model), _count(operation)]
        if connected:
            cells.append(_connections(operation, model) if not level else "")
        if show_trainable:
            weights = getattr(operation, "weights", [])
            cells.append("-" if not weights else "Y" if operation.trainable else "N")
        table.add_row(*map(rich.markup.escape, cells))
        if expand_nested and isinstance(operation, Model):
            for inner in operation.layers:
                add(inner, level + 1)

    for operation in _in_range(operations, layer_range):
        add(operation, 0)
    trainable, others = model.trainable_weights, model.non_trainable_weights
    optimizer = _optimizer_variables(model)
    width = max(line_length, shutil.get_terminal_size().columns) if line_length else None
    console = rich.console.Console(highlight=False, force_terminal=False if print_fn else None, width=width)
    with console.capture() as captured:
        console.print(f'[bold]Model: "{rich.markup.escape(model.name)}"[/]')
        console.print(table)
        console.print(f"[bold] Total params: [/]{_total([*trainable, *others, *optimizer])}")
        console.print(f"[bold] Trainable params: [/]{_total(trainable)}")
        console.print(f"[bold] Non-trainable params: [/]{_total(others)}")
        if optimizer:
            console.print(f"[bold] Optimizer params: [/]{_total(optimizer)}")
    if print_fn is None:
        print(captured.get(), end="")
    else:
        print_fn(captured.get())


def _optimizer_variables(model: Model) -> list[Any]:
    optimizer = getattr(model, "optimizer", None)
    return list(getattr(optimizer, "variables", None) or []) if optimizer is not None else []


def _is_chain(model: Model) -> bool:
    """Whether each layer is called once, on what the one before returned."""
    assert model.graph is not None
    nodes = model.graph.nodes
    calls = [node.operation for node in nodes]
    return len(set(map(id, calls))) == len(calls) and all(
        len(node.inputs) == (i > 0) and (i == 0 or node.inputs[0].node is nodes[i - 1]) for i, node in enumerate(nodes)
    )


def _in_range(operations: list[Any], layer_range: Sequence[str] | None) -> list[Any]:
    if layer_range is None:
        return operations
    if len(layer_range) != 2:
        raise ArgumentError(f"summary: expected layer_range=(first, last), got {layer_range!r}.")
    found = [[i for i, op in enumerate(operations) if re.match(name, op.name)] for name in layer_range]
    if not all(found):
        names = ", ".join(op.name for op in operations)
        raise ArgumentError(f"summary: no layer is named like {layer_range!r}. There are: {names}.")
    ends = [min(found[0]), max(found[0]), min(found[1]), max(found[1])]
    return operations[min(ends[0], ends[2]) : max(ends[1], ends[3]) + 1]


def _shape_of(operation: Any, model: Model) -> str:
    nodes = vars(operation).get("inbound_nodes", [])
    if model.graph is not None:
        nodes = [node for node in nodes if node in model.graph.nodes] or nodes
    shapes = [str(tensor.shape) for tensor in nodes[-1].outputs] if nodes else _shapes_seen(operation)
    return shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]" if shapes else "?"


def _shapes_seen(layer: Any) -> list[str]:
    """The output shapes of a layer that was built for an input it met."""
    built_for = getattr(layer, "built_for", None)
    if built_for is None:
        return []
    try:
        out = layer.compute_output_shape(built_for)
    except Exception:  # a layer of the user's that cannot tell
        return []
    leaves = jax.tree.leaves(out, is_leaf=lambda part: isinstance(part, tuple))
    return [str(shape) for shape in leaves]


def _count(operation: Any) -> str:
    if isinstance(operation, Layer) and operation.unsized:
        return "0 (unbuilt)"
    return f"{sum(weight.size for weight in getattr(operation, 'weights', [])):,}"


def _connections(operation: Any, model: Model) -> str:
    assert model.graph is not None
    found = []
    for node in vars(operation).get("inbound_nodes", []):
        if node in model.graph.nodes:
            for tensor in node.inputs:
                index = vars(tensor.node.operation)["inbound_nodes"].index(tensor.node)
                found.append(f"{tensor.node.operation.name}[{index}][{tensor.index}]")
    return ", ".join(found) or "-"


def _total(weights: Sequence[Any]) -> str:
    count = sum(math.prod(weight.shape) for weight in weights)
    size: float = sum(math.prod(weight.shape) * np.dtype(weight.dtype).itemsize for weight in weights)
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            return f"{count:,} ({size:.2f} {unit})"
        size /= 1024
    raise AssertionError
