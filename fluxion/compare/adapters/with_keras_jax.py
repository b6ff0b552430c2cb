"""Keras 3 on JAX: `fit`."""

from __future__ import annotations

from .. import parts as w
from . import keras_programs as shared

NAME = "keras-jax"
TITLE = "Keras on JAX"
NEEDS = ("keras", "jax")
PIP = ("keras", "jax", "numpy")
ENVIRONMENT = {"KERAS_BACKEND": "jax"}
MODES = {"fit": shared.FIT["fit"], **shared.INFER}
supports = shared.supports


def program(workload: w.Workload, mode: str) -> str:
    return shared.program(workload, mode, "jax")


def versions() -> dict[str, str]:
    import jax
    import keras

    return {"keras": keras.__version__, "jax (keras)": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


class Session(shared.Session):
    BACKEND = "jax"
