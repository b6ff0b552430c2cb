"""Knet's `save` and `load`, on safetensors: nothing is pickled, nothing in a file is executed."""

from __future__ import annotations

import os
from typing import Any

from fluxion.dialects.knet.parameters import value
from fluxion.io.files import load as load_file
from fluxion.io.files import loadmodel
from fluxion.io.files import save as save_file
from fluxion.tree.graph import is_array


def save(path: str | os.PathLike[str], model: Any) -> None:
    """Write a model, or a dict of arrays or `Param`s, to one safetensors file: `fx.save`.

    >>> from fluxion.dialects.knet import Param, load, save
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(pathlib.Path(folder, "w.safetensors"), {"w": Param([1.0, 2.0])})
    ...     load(pathlib.Path(folder, "w.safetensors"))["w"].tolist()
    [1.0, 2.0]
    """
    if isinstance(model, dict) and all(isinstance(k, str) and is_array(value(v)) for k, v in model.items()):
        model = {name: value(part) for name, part in model.items()}
    save_file(path, model)


def load(path: str | os.PathLike[str], model: Any = None) -> Any:
    """What a file of `save` holds: a model of Fluxion's layers, made anew, or a dict of arrays.

    A model of classes of your own is made by you and given as `model`: it gets the arrays, in place, and is returned.

    Errors: those of `fx.load` and `fx.loadmodel`.

    >>> from fluxion.dialects.knet import load, param, save
    >>> import pathlib, tempfile
    >>> class Linear:
    ...     def __init__(self):
    ...         self.w = param(3, 2)
    ...     def __call__(self, x):
    ...         return x @ self.w
    >>> model, other = Linear(), Linear()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(pathlib.Path(folder, "model.safetensors"), model)
    ...     load(pathlib.Path(folder, "model.safetensors"), other) is other
    True
    >>> bool((other.w.value == model.w.value).all())
    True
    """
    return load_file(path) if model is None else loadmodel(model, path)
