"""Models on disk: `save`, `load`, `loadmodel`.

A model is one safetensors file: its arrays by path, and in the metadata, under "fluxion", a description in JSON. The
description says how to make the model again if it is made of the library's layers; otherwise its reader builds the
model and fills it with `loadmodel`. Nothing is pickled, and nothing in a file is executed or imported.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, FileFormatError, StateError
from fluxion.files import atomic_write
from fluxion.io.architecture import build, describe
from fluxion.io.tensors import StoredArray, open_tensors, parse_json, write_tensors
from fluxion.tree.graph import is_array
from fluxion.tree.model import aliases, load_state, state
from fluxion.version import __version__

FORMAT = 1
ENTRY = "fluxion"  # in the metadata of the file
MAX_NESTING = 100  # of the user's metadata


def save(path: str | os.PathLike[str], model: Any, *, metadata: dict[str, Any] | None = None) -> None:
    """Write a model, or a `state`, to one safetensors file.

    The file holds every array (parameters, buffers, constants) under its path, tied ones once, in its own dtype, and
    a description of the layers for `load`. Of a model with parts of your own it holds the arrays, for `loadmodel`.
    An existing file is replaced at once when all is written; if that fails, it stays as it is.

    Arguments:
      path: any name; `.safetensors` tells other programs what it is, and they can read the arrays.
      model: a model, or a dict of arrays such as `fx.state(model)`.
      metadata: a dict of JSON values to keep along, for `read_metadata`.

    Errors: StateError for a model without its sizes or with shapes for arrays, DTypeError for a dtype that safetensors
    does not have (complex128), ArgumentError for metadata that is no JSON, OSError from the disk.

    >>> import fluxion as fx, pathlib, tempfile
    >>> model = fx.Chain(fx.Dense(4, 8, fx.relu), fx.Dense(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     fx.save(path, model)
    ...     again = fx.load(path)
    >>> again, bool((again[0].weight == model[0].weight).all())
    (Chain(Dense(4, 8, relu), Dense(8, 2)), True)
    """
    described: dict[str, Any] = {"format": FORMAT, "version": __version__}
    if _is_state(model):
        arrays, ties = dict(model), {}
        described |= {"kind": "state", "architecture": None, "reason": "it was saved from a dict of arrays"}
    else:
        arrays, ties = state(model), aliases(model)
        described |= {"kind": "model", **_architecture(model, arrays, ties)}
    for name, array in arrays.items():
        if isinstance(array, (jax.core.Tracer, jax.ShapeDtypeStruct)):
            raise StateError(
                f"save: expected arrays with values, got {array} for {name}. Save outside of jit and gradient."
            )
    keys = {name: array for name, array in arrays.items() if _is_key(array)}
    described["keys"] = {name: str(jax.random.key_impl(key)) for name, key in keys.items()}
    described |= {"ties": ties, "metadata": _checked(metadata or {})}
    arrays |= {name: jax.random.key_data(key) for name, key in keys.items()}
    text = json.dumps(described, separators=(",", ":"), allow_nan=False)
    atomic_write(path, lambda file: write_tensors(file, arrays, {ENTRY: text}))


def load(path: str | os.PathLike[str]) -> Any:
    """The model in a file of `save`, made anew; or the dict of arrays, if that is what was saved.

    Layers and arrays that were shared are shared again; names, dtypes and the modes set by `trainmode` and `testmode`
    are as they were. All arrays are on the default device. The file may come from a stranger: only layers and
    functions of the library are made, sizes are compared with the file before any memory is taken, and no code is run.

    Errors: StateError for a model with parts of your own, whose message says which, and for float64 where JAX computes
    in 32 bits; FileFormatError for a damaged file or something else; FileNotFoundError where there is none.

    >>> import fluxion as fx, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     fx.save(path, fx.Chain(fx.Dense(4, 2), lambda x: x + 1))
    ...     fx.load(path)
    Traceback (most recent call last):
        ...
    fluxion.errors.StateError: ...: model.layers[1] is a function of yours, <lambda>. Build the model and call
    fx.loadmodel(model, ...).
    """
    with _opened(path) as stored:
        remedy = f"Build the model and call fx.loadmodel(model, {os.fspath(path)!r})."
        if stored.described is None:
            raise StateError(f"load: {os.fspath(path)} holds {len(stored.arrays)} arrays and no architecture. {remedy}")
        if stored.described["kind"] == "state":
            return {name: _placed(name, array) for name, array in stored.arrays.items()}
        if stored.described["architecture"] is None:
            raise StateError(f"load: {os.fspath(path)}: {stored.described['reason']}. {remedy}")
        try:
            graph, names = build(stored.described["architecture"], stored.arrays, stored.ties)
        except FileFormatError as error:
            error.where = os.fspath(path)
            raise
        placed = {name: _placed(name, array) for name, array in stored.arrays.items()}
        return graph.rebuilt([placed[name] for name in names])


def loadmodel(model: Any, source: Any, *, strict: bool = True) -> Any:
    """Put saved arrays into a model, in place, all or none; returns the model.

    Only arrays are taken, by name: rates, activations and modes of the model stay, and so do its dtypes and devices.
    Arrays are copied. One that is tied in the model may be given by any of its paths, or by several with equal values.

    Arguments:
      model: any model with all its sizes.
      source: the path of a file of `save` or of any safetensors file with the same names, a dict of arrays such as
        `fx.state(other)`, or another model.
      strict: whether the names must be the same on both sides. Without, only names that both have are loaded.

    Errors: StateError that lists names missing, unexpected, of another shape, or of a dtype that cannot be taken
    without loss; FileFormatError for a damaged file. The model is then as it was. Source: `Flux.loadmodel!`.

    >>> import fluxion as fx
    >>> model, other = fx.Dense(3, 2), fx.Dense(3, 2)
    >>> bool((fx.loadmodel(model, other).weight == other.weight).all())
    True
    >>> fx.loadmodel(model, fx.Dense(3, 5))
    Traceback (most recent call last):
        ...
    fluxion.errors.StateError: loadmodel: the arrays do not fit the model. Not fitting: weight: expected shape (3, 2),
    got (3, 5); bias: expected shape (2,), got (5,).
    """
    if isinstance(source, (str, os.PathLike)):
        with _opened(source) as stored:
            return _filled(model, dict(stored.arrays), stored.ties, strict)
    if isinstance(source, dict) and all(isinstance(k, str) and hasattr(v, "shape") for k, v in source.items()):
        return _filled(model, dict(source), {}, strict)
    return _filled(model, state(source), aliases(source), strict)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The `metadata` that a file was saved with; for a safetensors file of another program, its metadata of strings.

    Errors: FileFormatError for a damaged file or something else; FileNotFoundError where there is none.

    >>> import fluxion as fx, pathlib, tempfile
    >>> from fluxion.io import read_metadata
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     fx.save(path, fx.Dense(4, 2), metadata={"epochs": 3})
    ...     read_metadata(path)
    {'epochs': 3}
    """
    with _opened(path) as stored:
        return stored.metadata if stored.described is None else stored.described["metadata"]


# -------------------------------------------------------------------------------------------------- saving


def _architecture(model: Any, arrays: dict[str, Any], ties: dict[str, str]) -> dict[str, Any]:
    """The description of the model, if a model can be made of it that has the same arrays."""
    try:
        document = json.loads(json.dumps(describe(model)))
        build(document, arrays, ties)
    except StateError as error:
        return {"architecture": None, "reason": error.reason}
    except FileFormatError as error:  # arrays were added to a layer or replaced by others
        return {"architecture": None, "reason": f"its layers are not as their constructors make them ({error.reason})"}
    return {"architecture": document, "reason": None}


def _is_state(model: Any) -> bool:
    return isinstance(model, dict) and all(isinstance(k, str) and is_array(v) for k, v in model.items())


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.extended)


def _checked(value: Any, where: str = "metadata", depth: int = 0) -> Any:
    """`value`, if JSON can hold it and give it back."""
    # A dict at the top; `read_metadata` returns one.
    if isinstance(value, dict) and all(isinstance(key, str) for key in value) and depth < MAX_NESTING:
        return {key: _checked(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and 0 < depth < MAX_NESTING:
        return [_checked(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if value is None or isinstance(value, (bool, str)) or (type(value) is int and abs(value) < 2**63):
        return value
    if type(value) is float and np.isfinite(value):
        return value
    raise ArgumentError(
        f"save: expected JSON at {where} (dicts with string keys, lists, strings, finite numbers), got {value!r:.60}."
    )


# ------------------------------------------------------------------------------------------------- loading


class _Stored(NamedTuple):
    arrays: dict[str, Any]  # StoredArrays, and random keys
    ties: dict[str, str]
    metadata: dict[str, Any]  # as strings
    described: dict[str, Any] | None  # None in a file of another program


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[_Stored]:
    with open_tensors(path) as (arrays, metadata):
        described, where = None, os.fspath(path)
        if ENTRY in metadata:
            described = _description(where, parse_json(where, "the description", metadata[ENTRY]), arrays)
        keys = {name: _key(where, arrays[name], impl) for name, impl in (described or {"keys": {}})["keys"].items()}
        yield _Stored({**arrays, **keys}, described["ties"] if described else {}, metadata, described)


def _description(where: str, described: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(described, dict) and type(described.get("format")) is int and described["format"] > FORMAT:
        raise FileFormatError(
            f"{where}: expected format {FORMAT} at most, got {described['format']}, written by Fluxion "
            f"{described.get('version')!r:.20}; this is {__version__}. Update Fluxion."
        )
    fields = {"format", "version", "kind", "architecture", "reason", "keys", "ties", "metadata"}
    sound = (
        isinstance(described, dict)
        and described.keys() == fields
        and described["format"] == FORMAT
        and described["kind"] in ("model", "state")
        and isinstance(described["reason"], str | None)
        and isinstance(described["metadata"], dict)
        and all(isinstance(described[entry], dict) for entry in ("keys", "ties"))
        and all(isinstance(name, str) and name in arrays for name in (*described["keys"], *described["ties"].values()))
        and not described["ties"].keys() & arrays.keys()
    )
    if not sound:
        raise FileFormatError(f"{where}: expected a description by fx.save under {ENTRY!r}, got {described!r:.80}.")
    return described


def _key(where: str, stored: StoredArray, impl: Any) -> Any:
    """A random key: its words in the file, its algorithm in the description."""
    shape = _KEY_WORDS.get(impl) if isinstance(impl, str) else None
    if shape is None or stored.dtype != np.uint32 or stored.shape[-1:] != shape:
        raise FileFormatError(
            f"{where}: expected a random key of one of {', '.join(_KEY_WORDS)} for {stored.name}, got {impl!r:.40} of "
            f"{stored.dtype} {stored.shape}."
        )
    return jax.random.wrap_key_data(jnp.array(np.asarray(stored)), impl=impl)


_KEY_WORDS = {"threefry2x32": (2,), "rbg": (4,), "unsafe_rbg": (4,)}  # the last axis of their data


def _placed(name: str, stored: Any) -> Any:
    """A stored array on the default device."""
    if isinstance(stored, jax.Array):
        return stored
    if jax.dtypes.canonicalize_dtype(stored.dtype) != stored.dtype:
        raise StateError(
            f"load: {name} is {stored.dtype}, and JAX computes in 32 bits. "
            'Call jax.config.update("jax_enable_x64", True) first, or use loadmodel, which converts.'
        )
    return jnp.array(np.asarray(stored))


def _filled(model: Any, arrays: dict[str, Any], ties: Mapping[str, str], strict: bool) -> Any:
    """`load_state`, with names as this model has them."""
    paths = state(model)
    if _is_state(model):  # whose path is `['w']` where its name as a state is `w`
        arrays = {name if name in paths else f"[{name!r}]": array for name, array in arrays.items()}
    # What was tied when it was saved need not be here.
    untied = {path: arrays[name] for path, name in ties.items() if path in paths and path not in arrays}
    return load_state(model, {**arrays, **untied}, strict=strict)
