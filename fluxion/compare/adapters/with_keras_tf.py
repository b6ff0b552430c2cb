"""Keras 3 on TensorFlow: `fit`, and a loop inside one `tf.function`."""

from __future__ import annotations

from .. import parts as w
from . import keras_programs as shared

NAME = "keras-tf"
TITLE = "Keras on TensorFlow"
NEEDS = ("keras", "tensorflow")
PIP = ("tensorflow-cpu", "numpy")
ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
MODES = {**shared.FIT, **shared.GRAPH, **shared.INFER}
supports = shared.supports


def program(workload: w.Workload, mode: str) -> str:
    return shared.program(workload, mode, "tensorflow")


def versions() -> dict[str, str]:
    import keras
    import tensorflow

    return {"keras": keras.__version__, "tensorflow": tensorflow.__version__}


def threads(count: int) -> None:
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(count)
    tensorflow.config.threading.set_inter_op_parallelism_threads(count)


class Session(shared.Session):
    BACKEND = "tensorflow"
