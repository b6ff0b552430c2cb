"""What a model is: walking it, rebuilding it, naming its parts, printing it."""

from fluxion.tree.graph import Graph
from fluxion.tree.layer import Layer, Param, path_of
from fluxion.tree.model import (
    bf16,
    cpu,
    destructure,
    device,
    f16,
    f32,
    f64,
    fmap,
    gpu,
    load_state,
    modules,
    set_trainables,
    state,
    trainables,
    with_trainables,
)
from fluxion.tree.walk import scan, scan_call

__all__ = [
    "Graph",
    "Layer",
    "Param",
    "bf16",
    "cpu",
    "destructure",
    "device",
    "f16",
    "f32",
    "f64",
    "fmap",
    "gpu",
    "load_state",
    "modules",
    "path_of",
    "scan",
    "scan_call",
    "set_trainables",
    "state",
    "trainables",
    "with_trainables",
]
