"""The model of a run: one of those that `--model` names, or a function in a Python file of the user's.

`inputs` is the number of features of a table, `height x width x channels` of images, `classes` the number of classes
(1 in a regression). Layers that follow each other:

mlp      Dense(inputs, 64, relu), Dense(64, 32, relu), Dense(32, classes); other sizes by --hidden
linear   Dense(inputs, classes)
fcn      Dense(inputs, 512, relu), Dropout(0.2), Dense(512, 256, relu), Dropout(0.2), Dense(256, classes)
cnn      Conv((3, 3), channels, 32, relu, padding=1), MaxPool((2, 2)); again with 64, 128, 128, ... channels until the
         smaller side is below 8; flatten, Dropout(0.25), Dense(..., 128, relu), Dropout(0.5), Dense(128, classes)
lenet    Conv((5, 5), channels, 6, relu), MaxPool((2, 2)), Conv((5, 5), 6, 16, relu), MaxPool((2, 2)), flatten,
         Dense(..., 120, relu), Dense(120, 84, relu), Dense(84, classes); images of at least 16x16

The first three begin with `flatten` where they take images.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import math
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from fluxion.errors import ArgumentError, DataError, FluxionError, ShapeError, nearest

KINDS = ("mlp", "linear", "fcn", "cnn", "lenet")
FOR_IMAGES = ("cnn", "lenet")
HIDDEN = (64, 32)
LENET_SIDE = 16  # the smallest image that two 5x5 convolutions and two pools leave something of


class ModelSpec(NamedTuple):
    """What `--model` says."""

    kind: str  # one of KINDS, or "file"
    hidden: tuple[int, ...] = ()
    file: Path | None = None
    function: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the run's `config.json`."""
        if self.file is None:
            return {"kind": self.kind} | ({"hidden": list(self.hidden)} if self.kind == "mlp" else {})
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest()
        return {"kind": "file", "file": str(self.file), "function": self.function, "sha256": digest}


def parse_model(model: str, hidden: str | None) -> ModelSpec:
    """`--model` and `--hidden` as a ModelSpec; usage errors for what they cannot be."""
    if model != "mlp" and hidden is not None:
        raise typer.BadParameter(f"the sizes of hidden layers are for --model mlp, not {model}.", param_hint="--hidden")
    if model in KINDS:
        return ModelSpec(model, _sizes(hidden) if hidden is not None else HIDDEN if model == "mlp" else ())
    name, colon, function = model.rpartition(":")
    if not colon or not name.endswith(".py"):
        hint = nearest(model, KINDS)
        raise typer.BadParameter(
            f"expected one of {', '.join(KINDS)} or FILE.py:function, got {model!r}.{hint}", param_hint="--model"
        )
    file = Path(name).resolve()
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {name}.", param_hint="--model")
    if not function.isidentifier():
        raise typer.BadParameter(f"expected FILE.py:function, got {model!r}.", param_hint="--model")
    return ModelSpec("file", file=file, function=function)


def check_model(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    """A usage error for a model that does not take inputs of this shape."""
    if spec.kind in FOR_IMAGES and len(shape) == 1:
        raise typer.BadParameter(f"{spec.kind} is for images, these data are a table.", param_hint="--model")
    if spec.kind == "lenet" and min(shape[:2]) < LENET_SIDE:
        raise typer.BadParameter(
            f"lenet takes images of at least {LENET_SIDE}x{LENET_SIDE}, these are {shape[0]}x{shape[1]}. "
            "Use cnn, or a larger --size.",
            param_hint="--model",
        )


def build_model(spec: ModelSpec, shape: tuple[int, ...], outputs: int) -> Any:
    """The model with fresh weights, from the default random stream; its output shape is checked.

    Arguments:
        shape: that of one input, `(features,)` or `(height, width, channels)`.
        outputs: the number of classes, or 1.
    """
    from fluxion.layers import Chain, Dense, Dropout, flatten
    from fluxion.ops.activations import relu

    if spec.kind == "file":
        return _from_file(spec, shape, outputs)
    if spec.kind in FOR_IMAGES:
        height, width, channels = shape
        return (_cnn if spec.kind == "cnn" else _lenet)(height, width, channels, outputs)
    layers: list[Any] = [flatten] if len(shape) > 1 else []
    sizes = [math.prod(shape), *((512, 256) if spec.kind == "fcn" else spec.hidden)]
    for a, b in itertools.pairwise(sizes):
        layers += [Dense(a, b, relu), *([Dropout(0.2)] if spec.kind == "fcn" else [])]
    return Chain(*layers, Dense(sizes[-1], outputs))


def _cnn(height: int, width: int, channels: int, outputs: int) -> Any:
    from fluxion.layers import Chain, Conv, Dense, Dropout, MaxPool, flatten
    from fluxion.ops.activations import relu

    layers: list[Any] = []
    for filters in itertools.chain((32, 64), itertools.repeat(128)):
        layers.append(Conv((3, 3), channels, filters, relu, padding=1))
        channels = filters
        if min(height, width) > 1:
            layers.append(MaxPool((2, 2)))
            height, width = height // 2, width // 2
        if min(height, width) < 8:
            break
    features = height * width * channels
    return Chain(*layers, flatten, Dropout(0.25), Dense(features, 128, relu), Dropout(0.5), Dense(128, outputs))


def _lenet(height: int, width: int, channels: int, outputs: int) -> Any:
    from fluxion.layers import Chain, Conv, Dense, MaxPool, flatten
    from fluxion.ops.activations import relu

    features = 16 * math.prod(((side - 4) // 2 - 4) // 2 for side in (height, width))
    return Chain(
        *(Conv((5, 5), channels, 6, relu), MaxPool((2, 2)), Conv((5, 5), 6, 16, relu), MaxPool((2, 2)), flatten),
        *(Dense(features, 120, relu), Dense(120, 84, relu), Dense(84, outputs)),
    )


def _sizes(hidden: str) -> tuple[int, ...]:
    parts = [part.strip() for part in hidden.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part[:9]) <= 100_000 for part in parts):
        raise typer.BadParameter(f"expected sizes such as 32,16 or 64, got {hidden!r}.", param_hint="--hidden")
    return tuple(map(int, parts))


def _from_file(spec: ModelSpec, shape: tuple[int, ...], outputs: int) -> Any:
    from fluxion.transform.sizes import autosize, outputsize

    assert spec.file is not None
    module = _executed(spec.file)
    make = getattr(module, spec.function, None)
    if not callable(make):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        hint = nearest(spec.function, known)
        raise ArgumentError(f"{spec.file}: expected a function {spec.function}(inputs, outputs), there is none.{hint}")
    try:
        model = make(shape if len(shape) > 1 else shape[0], outputs)
    except FluxionError:
        raise
    except Exception as error:
        raise DataError(_place(spec.file, error)) from error
    where = f"{spec.file}:{spec.function}"
    if not callable(model):
        raise ArgumentError(f"{where}: expected it to return a model, something to call, got {type(model).__name__}.")
    autosize(model, (1, *shape))
    returned = outputsize(model, (None, *shape))
    if returned != (None, outputs):
        taken = ", ".join(map(str, shape))
        raise ShapeError(
            f"{where}: expected a model of (rows, {taken}) -> (rows, {outputs}), it returns {returned}. "
            "Scores of the classes come without a softmax."
        )
    return model


def _executed(file: Path) -> Any:
    """The module in `file`, executed."""
    name = f"fluxion_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(file.parent))  # as for a script: it may import its neighbors
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(_place(file, error)) from error
    return module


def _place(file: Path, error: Exception) -> str:
    """`model.py, line 3: NameError: ...`: the last line of the user's file on the way to the error."""
    lines: Sequence[int | None] = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    where = f"{file}, line {line}" if line else str(file)
    reason = error.msg if isinstance(error, SyntaxError) else error
    return f"{where}: {type(error).__name__}: {reason}"
