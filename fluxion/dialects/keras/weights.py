"""Weights on disk in Keras' formats: `.weights.h5`, the same inside a `.keras` archive, and the older `.h5`.

The files come from anywhere: links and external data are refused, shapes are compared before anything is read, and a
model gets all of its weights or stays as it was.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fluxion.dialects.keras.layer import Layer
from fluxion.dialects.keras.models import Model, Sequential
from fluxion.dialects.keras.names import snake_case
from fluxion.errors import ArgumentError, FileFormatError, StateError
from fluxion.files import atomic_write

MAX_GROUPS = 100_000
MAX_EXPANSION = 100  # times its size in an archive


def h5py() -> Any:
    """The module `h5py`, or an error that says how to get it."""
    try:
        import h5py
    except ImportError:
        raise StateError(
            "Keras' weight files are read with h5py. Install it: pip install 'fluxion-ml[keras]'."
        ) from None
    return h5py


# -------------------------------------------------------------------------------------------- places in a file


class Place(NamedTuple):
    """A layer's own variables, and the group of the file that holds them as `vars/0`, `vars/1` ..."""

    path: str
    name: str
    variables: list[Any]


def class_name(layer: Any) -> str:
    """The class of a layer as files name it."""
    return "Functional" if type(layer) is Model and layer.graph is not None else type(layer).__name__


def places(model: Layer) -> list[Place]:
    """Where Keras 3 keeps what: layers by their attribute, in lists by their class, numbered."""
    found: list[Place] = []
    visited: set[int] = set()

    def visit(layer: Layer, path: str) -> None:
        if id(layer) in visited:
            return
        visited.add(id(layer))
        found.append(Place(path, layer.name, layer._own_variables()))
        for attribute, value in _attributes(layer):
            if isinstance(value, Layer):
                visit(value, joined(path, attribute))
            else:
                visit_items(value, joined(path, attribute))

    def visit_items(items: Any, path: str) -> None:
        used: Counter[str] = Counter()
        for item in items.values() if isinstance(items, dict) else items:
            if isinstance(item, Layer):
                visit(item, joined(path, _numbered(snake_case(class_name(item)), used)))
            elif isinstance(item, (list, tuple, dict)):
                visit_items(item, joined(path, _numbered("container", used)))

    visit(model, "")
    return found


def _attributes(layer: Layer) -> Iterator[tuple[str, Any]]:
    """The attributes in which layers may be, in the order of Keras' files."""
    values = {name: value for name, value in vars(layer).items() if name not in _INTERNAL}
    if isinstance(layer, Model):
        if layer.graph is not None or isinstance(layer, Sequential):
            yield "layers", layer.layers
        else:
            values["layers"] = layer.layers
    for name in sorted(values, key=lambda name: f"~{name}" if name.startswith("_") else name):
        if isinstance(values[name], (Layer, list, tuple, dict)):
            yield name, values[name]


_INTERNAL = frozenset({"constants", "inbound_nodes", "operations", "operands", "own_layers", "input_layer", "tensors"})


def _numbered(name: str, used: Counter[str]) -> str:
    number = used[name]
    used[name] += 1
    return f"{name}_{number}" if number else name


def joined(*parts: str) -> str:
    """Parts of a path, of which some may be empty."""
    return "/".join(part for part in parts if part)


# ----------------------------------------------------------------------------------------------------- writing


def save_weights(model: Model, filepath: Any, overwrite: bool = True) -> None:
    """Write a file `*.weights.h5`, wholly or not at all."""
    path = os.fspath(filepath)
    if not path.endswith(".weights.h5"):
        raise ArgumentError(f"save_weights: expected a file name ending in .weights.h5, got {path!r}.")
    check_overwrite(path, overwrite)
    data = weights_bytes(model)
    atomic_write(path, lambda file: file.write(data))


def check_overwrite(path: str, overwrite: bool) -> None:
    """Refuse to write over a file where `overwrite` is False."""
    if not overwrite and os.path.exists(path):
        raise StateError(f"{path} exists. Give overwrite=True to replace it.")


def weights_bytes(model: Model) -> bytes:
    """The contents of a file `*.weights.h5`."""
    if any(layer.unsized for layer in model._flatten_layers()) or not model.built:
        raise StateError(f"{model.name} is not built yet, so that there are no weights to save. Call it on data first.")
    buffer = io.BytesIO()
    with h5py().File(buffer, "w") as file:
        for place in places(model):
            group = file.require_group(joined(place.path, "vars"))
            group.attrs["name"] = place.name
            for i, variable in enumerate(place.variables):
                group[str(i)] = variable.numpy()
    return buffer.getvalue()


# ----------------------------------------------------------------------------------------------------- reading


def load_weights(model: Model, filepath: Any, skip_mismatch: bool = False) -> None:
    """Read a file of any of the formats into a built model."""
    path = os.fspath(filepath)
    if not path.endswith((".h5", ".keras", ".hdf5")):
        raise ArgumentError(f"load_weights: expected a file *.weights.h5, *.keras or *.h5, got {path!r}.")
    if not model.built or any(layer.unsized for layer in model._flatten_layers()):
        raise StateError(
            f"{model.name} is not built yet, so that there are no weights to load into. "
            "Call it on data, or model.build(input_shape), first."
        )
    if path.endswith(".keras"):
        with opened_archive(path) as archive:
            data = member(path, archive, "model.weights.h5")
        load_from(model, path, io.BytesIO(data), skip_mismatch)
    else:
        load_from(model, path, path, skip_mismatch)


def load_from(model: Model, path: str, source: Any, skip_mismatch: bool = False) -> None:
    """Read an HDF5 file, which is at `path` or in it."""
    if isinstance(source, str) and not os.path.isfile(source):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        file = h5py().File(source, "r")
    except OSError as error:
        raise FileFormatError(f"{path}: expected an HDF5 file, got one that cannot be opened: {error}") from None
    with file:
        try:
            if "layer_names" in file.attrs or "model_weights" in file:
                pairs, faults = _legacy_pairs(model, file)
            else:
                pairs, faults = _pairs(model, file)
            if faults and not skip_mismatch:
                raise FileFormatError(f"{path} does not fit {model.name}: " + _listed(faults))
            values = [np.asarray(dataset[()]) for _, dataset in pairs]
        except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
            if isinstance(error, StateError):
                raise
            raise FileFormatError(f"{path} is damaged: {error}") from None
    if faults:
        warnings.warn(f"{path}: weights left as they were: {_listed(faults)}", stacklevel=4)
    for (variable, _), value in zip(pairs, values, strict=True):
        variable.assign(value)


def _listed(faults: list[str]) -> str:
    more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
    return "; ".join(faults[:5]) + more + "."


def _pairs(model: Model, file: Any) -> tuple[list[tuple[Any, Any]], list[str]]:
    """The variables, each with its dataset, and what does not fit."""
    groups = {_comparable(path): (path, group) for path, group in _groups(file, "", [0])}
    pairs: list[tuple[Any, Any]] = []
    faults: list[str] = []
    for place in places(model):
        path, group = groups.pop(_comparable(joined(place.path, "vars")), (place.path, {}))
        datasets = {key: _dataset(group, key) for key in group}
        where = f"layer {place.name} ({path or 'the model itself'})"
        fault = _compare(where, place.variables, [datasets.get(str(i)) for i in range(len(datasets))])
        if fault:
            faults.append(fault)
        else:
            pairs += [(variable, datasets[str(i)]) for i, variable in enumerate(place.variables)]
    for path, group in groups.values():
        if len(group) and not _is_other_state(model, path):
            faults.append(f"{path} has {len(group)} arrays for which the model has no layer")
    return pairs, faults


def _compare(where: str, variables: list[Any], datasets: list[Any]) -> str:
    """Why datasets are not the variables, or nothing."""
    if len(datasets) != len(variables):
        names = ", ".join(variable.name for variable in variables)
        expected = f"{len(variables)} arrays ({names})" if variables else "no arrays"
        return f"{where}: expected {expected}, got {len(datasets)}"
    for variable, dataset in zip(variables, datasets, strict=True):
        if dataset is None:
            return f"{where}: expected arrays numbered from 0"
        if tuple(dataset.shape) != variable.shape:
            return f"{where}: {variable.name}: expected shape {variable.shape}, got {tuple(dataset.shape)}"
        if dataset.dtype.kind not in "biuf" and dataset.dtype.kind != "V":
            return f"{where}: {variable.name}: expected numbers, got dtype {dataset.dtype}"
    return ""


def _is_other_state(model: Model, path: str) -> bool:
    """Whether a group holds what is no weight: an optimizer, a metric, a seed."""
    first = path.split("/")[0]
    if first == "optimizer" or "seed_generator" in path or first.startswith("_optimizer"):
        return True
    return first in vars(model) and not isinstance(vars(model)[first], (Layer, list, tuple, dict))


def _comparable(path: str) -> str:
    """A path without the underscores that some versions of Keras put before attributes."""
    return "/".join(part.lstrip("_") for part in path.split("/"))


def _groups(group: Any, path: str, count: list[int]) -> Iterator[tuple[str, Any]]:
    """Every group named `vars` below a group, with its path."""
    for name in group:
        kind = group.get(name, getclass=True, getlink=True)
        if kind is not h5py().HardLink:
            raise FileFormatError(f"expected groups and datasets, got a link at {joined(path, name)}")
        count[0] += 1
        if count[0] > MAX_GROUPS or path.count("/") > 100:
            raise FileFormatError(f"expected fewer than {MAX_GROUPS} groups")
        inner = group[name]
        if isinstance(inner, h5py().Group):
            if name == "vars":
                yield joined(path, name), inner
            else:
                yield from _groups(inner, joined(path, name), count)


def _dataset(group: Any, name: str) -> Any:
    """A dataset of a group that is in the file itself."""
    if group.get(name, getclass=True, getlink=True) is not h5py().HardLink:
        raise FileFormatError(f"expected a dataset, got a link at {group.name}/{name}")
    dataset = group[name]
    if not isinstance(dataset, h5py().Dataset) or dataset.external or dataset.is_virtual:
        raise FileFormatError(f"expected a dataset with its own data at {group.name}/{name}")
    return dataset


def _legacy_pairs(model: Model, file: Any) -> tuple[list[tuple[Any, Any]], list[str]]:
    """As `_pairs`, for the format of Keras 2, which goes by the order of the layers."""
    root = file.get("model_weights", file)
    saved = []
    for name in _names(root, "layer_names"):
        datasets = [_deep(root[name], weight) for weight in _names(root[name], "weight_names")]
        if datasets:
            saved.append((name, datasets))
    layers = [layer for layer in model.layers if layer.weights]
    if len(saved) != len(layers):
        names = ", ".join(layer.name for layer in layers)
        return [], [f"expected {len(layers)} layers with weights ({names}), got {len(saved)}"]
    pairs: list[tuple[Any, Any]] = []
    faults: list[str] = []
    for layer, (name, datasets) in zip(layers, saved, strict=True):
        variables = [*layer.trainable_weights, *layer.non_trainable_weights]
        fault = _compare(f"layer {layer.name} ({name})", variables, datasets)
        if fault:
            faults.append(fault)
        else:
            pairs += zip(variables, datasets, strict=True)
    own = [variable for variable in model._own_variables() if model.graph is None]
    if own:
        top = root.get("top_level_model_weights")
        datasets = [] if top is None else [_deep(top, weight) for weight in _names(top, "weight_names")]
        fault = _compare(f"{model.name} itself", own, datasets)
        if fault:
            faults.append(fault)
        else:
            pairs += zip(own, datasets, strict=True)
    return pairs, faults


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names among the attributes of a group; a long one is in several parts."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts, i = [], 0
        while f"{attribute}{i}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{i}"])
            i += 1
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]


def _deep(group: Any, path: str) -> Any:
    """The dataset at a path below a group, no part of which is a link."""
    *above, last = path.split("/")
    for part in above:
        if group.get(part, getclass=True, getlink=True) is not h5py().HardLink:
            raise FileFormatError(f"expected a group at {group.name}/{part}")
        group = group[part]
    return _dataset(group, last)


# ---------------------------------------------------------------------------------------------------- archives


def opened_archive(path: str) -> zipfile.ZipFile:
    """A `.keras` archive, open for reading."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise FileFormatError(f"{path}: expected a .keras archive, got a file that cannot be read: {error}") from None


def member(path: str, archive: zipfile.ZipFile, name: str) -> bytes:
    """A file in an archive, unless it claims to be far larger than what is there."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        there = ", ".join(archive.namelist()[:5])
        raise FileFormatError(f"{path}: expected {name} in the archive, got {there or 'nothing'}.") from None
    if info.file_size > MAX_EXPANSION * max(info.compress_size, 1000):
        raise FileFormatError(f"{path}: {name} claims {info.file_size} bytes, packed into {info.compress_size}.")
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise FileFormatError(f"{path}: {name} is damaged: {error}") from None
