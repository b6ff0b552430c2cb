"""Fluxion in Keras' style: the program of Keras, with another import and Fluxion's optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs
from . import fluxion_programs
from . import keras_programs as shared

NAME = "fluxion-keras"
TITLE = "Fluxion, Keras' style"
NEEDS = ("fluxion",)
PIP = ("fluxion-ml",)
ENVIRONMENT: dict[str, str] = {}
MODES = {"fit": shared.FIT["fit"]}
versions, threads = fluxion_programs.versions, fluxion_programs.threads


def supports(workload: w.Workload, mode: str) -> bool | str:
    if workload.kind != "compare":
        return "the styles are compared with each other in benchmarks/dialects.py"
    if programs.kinds(workload) & set(shared.CLASSES):
        return "the network is written in Flux's style only"
    return shared.supports(workload, mode)


def program(workload: w.Workload, mode: str) -> str:
    return shared.program(workload, mode, "fluxion")


class Session(shared.Session):
    BACKEND = "fluxion"

    @staticmethod
    def package() -> Any:
        from fluxion.dialects import keras

        return keras

    def losses(self, batches: list[Any]) -> np.ndarray:
        """`fit` tells the mean over an epoch: these are the rows that it is the mean of."""
        from fluxion.train.step import Training

        self.model._prepare(batches[0])
        training = Training(self.model._objective(), self.model, self.model._bound())
        training.run(batches)
        return training.values()[:, 0]

    def restart(self) -> None:
        import fluxion as fx

        self.model.optimizer = eval(fluxion_programs.optimizer(self.workload.optimizer), {"fx": fx})
