"""Fluxion in Knet's style: layers of one's own around `param`, and training as an iterator."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs
from . import fluxion_programs as shared

NAME = "fluxion-knet"
TITLE = "Fluxion, Knet's style"
NEEDS = ("fluxion",)
PIP = ("fluxion-ml",)
ENVIRONMENT: dict[str, str] = {}
MODES = {"run": "minimize(...).run()", "for": "a loop over the losses, step by step"}
versions, threads = shared.versions, shared.threads

WRITTEN = (w.Dense, w.Conv, w.MaxPool, w.Dropout, w.Flatten, w.LSTM, w.LastStep, w.Embedding)


def supports(workload: w.Workload, mode: str) -> bool | str:
    if workload.kind != "compare":
        return "the styles are compared with each other in benchmarks/dialects.py"
    if programs.kinds(workload) - set(WRITTEN):
        return "the network is written in Flux's style only"
    return not workload.penalty or "a penalty is not written here"


# ----------------------------------------------------------------------------------------- the program

DENSE = """
class Dense:
    def __init__(self, i, o, f=fx.identity):
        self.w, self.b, self.f = param(i, o), param0(o), f

    def __call__(self, x):
        return fx.dense(x, self.w, bias=self.b, activation=self.f)
"""
CONV = """
class Conv:
    def __init__(self, w1, w2, cx, cy, f=fx.identity{extra}):
        self.w, self.b, self.f = param(w1, w2, cx, cy), param0(cy), f{kept}

    def __call__(self, x):
        return fx.conv(x, self.w, bias=self.b, activation=self.f{used})
"""
CHAIN = """
class Chain:
    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x, y=None):
        for layer in self.layers:
            x = layer(x)
        return x if y is None else {loss}
"""
LOSSES = {
    "cross entropy": "nll(x, y)",
    "cross entropy of softmax": "fx.crossentropy(fx.softmax(fx.softmax(x)), y)",
    "squared error of softmax": "fx.mse(fx.softmax(x), fx.onehotbatch(y, {classes}))",
}
TRAIN = {
    "run": "    losses = training.run()",
    "for": "    losses = []\n    for loss in training:\n        losses.append(loss)",
}


def conv(workload: w.Workload) -> str:
    """The class of the convolutions, with the options that some of them need."""
    options = {
        name: usual
        for name, usual in (("stride", 1), ("padding", 0))
        if any(getattr(part, name) != usual for part in workload.network if isinstance(part, w.Conv))
    }
    extra = "".join(f", {name}={usual}" for name, usual in options.items())
    left, right = ", ".join(f"self.{name}" for name in options), ", ".join(options)
    kept = f"\n        {left} = {right}" if options else ""
    return CONV.format(extra=extra, kept=kept, used="".join(f", {name}=self.{name}" for name in options))


def layer(part: w.Part) -> str:
    if isinstance(part, w.Dense):
        return f"Dense({part.inputs}, {part.outputs}{activation(part)})"
    if isinstance(part, w.Conv):
        options = f", stride={part.stride}" * (part.stride != 1) + f", padding={part.padding}" * (part.padding != 0)
        return f"Conv({part.kernel}, {part.kernel}, {part.inputs}, {part.outputs}{activation(part)}{options})"
    if isinstance(part, (w.LSTM, w.Embedding)):
        first, second = programs.sizes(part)
        return f"fx.{type(part).__name__}({first}, {second})"
    return {
        w.MaxPool: "pool",
        w.Dropout: f"fx.Dropout({getattr(part, 'rate', 0)})",
        w.Flatten: "fx.flatten",
        w.LastStep: "last_step",
    }[type(part)]


def activation(part: w.Dense | w.Conv) -> str:
    return f", fx.{part.activation}" if part.activation else ""


def program(workload: w.Workload, mode: str) -> str:
    kinds = programs.kinds(workload)
    sections = [DENSE if w.Dense in kinds else "", conv(workload) if w.Conv in kinds else ""]
    if w.MaxPool in kinds:
        sections.append("def pool(x):\n    return fx.max_pool(x, (2, 2))")
    if w.LastStep in kinds:
        sections.append("def last_step(x):\n    return x[:, -1]")
    layers = programs.listed(map(layer, workload.network))
    sections += [
        CHAIN.format(loss=LOSSES[workload.loss].format(classes=workload.classes)),
        f"model = Chain(\n{layers}\n)\nopt = {shared.optimizer(workload.optimizer)}",
        f"""
def train(batches):
    global opt
    training = minimize(model, batches, opt)
{TRAIN[mode]}
    opt = training.opt  # with its moments, for the next call
    return losses
""",
        f"""
def fit(x, y, epochs):
    train(repeat(minibatch(x, y, {workload.batch}, shuffle=True), epochs))
""",
        """
def evaluate(x, y):
    data = minibatch(x, y, 1000, partial=True)
    return nll(model, data=data), accuracy(model, data=data)
""",
    ]
    names = ["accuracy", "minibatch", "minimize", "nll", *(["param", "param0"] if {w.Dense, w.Conv} & kinds else [])]
    imported = ", ".join([*names, "repeat"])
    return programs.joined(f"import fluxion as fx\nfrom fluxion.dialects.knet import {imported}", *sections)


# --------------------------------------------------------------------------------------------- the glue


def path(part: w.Part, name: str) -> str:
    """Where an array of a part is in the layer."""
    if isinstance(part, w.LSTM):
        return f"cells[0].{name}"
    return name if isinstance(part, w.Embedding) else f"{name[0]}.value"


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import jax

        import fluxion as fx

        self.jax, self.fx, self.workload = jax, fx, workload
        self.program = programs.execute(program(workload, mode), f"{workload.name} in Knet's style, {mode}")
        self.model = self.program.model
        named = {
            f"layers[{i}].{path(part, name)}": weights[f"{i}.{name}"]
            for i, part in enumerate(workload.network)
            for name in part.shapes()
        }
        fx.loadmodel(self.model, fx.state(self.model) | named)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.jax.numpy.asarray(x), self.jax.numpy.asarray(y)) for x, y in batches]

    def losses(self, batches: list[Any]) -> np.ndarray:
        return np.asarray(self.program.train(batches))

    def train(self, batches: list[Any]) -> None:
        self.program.train(batches)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        self.program.fit(x, y, count)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        loss, accuracy = self.program.evaluate(x, y)
        return float(loss), float(accuracy)

    def inputs(self, x: np.ndarray) -> Any:
        return self.jax.numpy.asarray(x)

    def forward(self, x: Any) -> Any:
        return self.model(x)

    def restart(self) -> None:
        self.program.opt = eval(shared.optimizer(self.workload.optimizer), {"fx": self.fx})
