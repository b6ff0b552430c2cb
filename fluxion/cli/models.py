"""The model of a run: `mlp`, `linear`, or a function in a Python file of the user's."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from fluxion.errors import ArgumentError, DataError, FluxionError, ShapeError, nearest

KINDS = ("mlp", "linear")
HIDDEN = (64, 32)


class ModelSpec(NamedTuple):
    """What `--model` says."""

    kind: str  # "mlp", "linear" or "file"
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
    if model == "mlp":
        return ModelSpec("mlp", HIDDEN if hidden is None else _sizes(hidden))
    if model == "linear":
        return ModelSpec("linear")
    name, colon, function = model.rpartition(":")
    if not colon or not name.endswith(".py"):
        hint = nearest(model, KINDS)
        raise typer.BadParameter(
            f"expected mlp, linear or FILE.py:function, got {model!r}.{hint}", param_hint="--model"
        )
    file = Path(name).resolve()
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {name}.", param_hint="--model")
    if not function.isidentifier():
        raise typer.BadParameter(f"expected FILE.py:function, got {model!r}.", param_hint="--model")
    return ModelSpec("file", file=file, function=function)


def build_model(spec: ModelSpec, inputs: int, outputs: int) -> Any:
    """The model with fresh weights, from the default random stream; its output shape is checked."""
    from fluxion.layers import Chain, Dense
    from fluxion.ops.activations import relu

    if spec.kind == "file":
        return _from_file(spec, inputs, outputs)
    sizes = [inputs, *spec.hidden]
    layers = [Dense(a, b, relu) for a, b in itertools.pairwise(sizes)]
    return Chain(*layers, Dense(sizes[-1], outputs))


def _sizes(hidden: str) -> tuple[int, ...]:
    parts = [part.strip() for part in hidden.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part[:9]) <= 100_000 for part in parts):
        raise typer.BadParameter(f"expected sizes such as 32,16 or 64, got {hidden!r}.", param_hint="--hidden")
    return tuple(map(int, parts))


def _from_file(spec: ModelSpec, inputs: int, outputs: int) -> Any:
    from fluxion.transform.sizes import autosize, outputsize

    assert spec.file is not None
    module = _executed(spec.file)
    make = getattr(module, spec.function, None)
    if not callable(make):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        hint = nearest(spec.function, known)
        raise ArgumentError(f"{spec.file}: expected a function {spec.function}(inputs, outputs), there is none.{hint}")
    try:
        model = make(inputs, outputs)
    except FluxionError:
        raise
    except Exception as error:
        raise DataError(_place(spec.file, error)) from error
    where = f"{spec.file}:{spec.function}"
    if not callable(model):
        raise ArgumentError(f"{where}: expected it to return a model, something to call, got {type(model).__name__}.")
    autosize(model, (1, inputs))
    shape = outputsize(model, (None, inputs))
    if shape != (None, outputs):
        raise ShapeError(
            f"{where}: expected a model of (rows, {inputs}) -> (rows, {outputs}), it returns {shape}. "
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
