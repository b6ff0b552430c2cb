"""Keras 3 on PyTorch: `fit`."""

from __future__ import annotations

from .. import parts as w
from . import keras_programs as shared

NAME = "keras-torch"
TITLE = "Keras on PyTorch"
NEEDS = ("keras", "torch")
PIP = ("keras", "torch", "numpy", "--extra-index-url", "https://download.pytorch.org/whl/cpu")
ENVIRONMENT = {"KERAS_BACKEND": "torch"}
MODES = {"fit": shared.FIT["fit"], "predict_on_batch": shared.INFER["predict_on_batch"]}
supports = shared.supports


def program(workload: w.Workload, mode: str) -> str:
    return shared.program(workload, mode, "torch")


def versions() -> dict[str, str]:
    import keras
    import torch

    return {"keras": keras.__version__, "torch (keras)": torch.__version__}


def threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


class Session(shared.Session):
    BACKEND = "torch"
