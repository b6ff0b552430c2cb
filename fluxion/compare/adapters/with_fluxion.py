"""Fluxion in Flux's style: `train` over batches or a DataLoader, and `fit`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs
from . import fluxion_programs as shared

NAME = "fluxion"
TITLE = "Fluxion"
NEEDS = ("fluxion",)
PIP = ("fluxion-ml",)
ENVIRONMENT: dict[str, str] = {}
MODES = {
    "train": "a loop over batches",
    "fit": "epochs, as one call",
    "fit accuracy": "the same, with the accuracy of each epoch",
    "jit": "the compiled model",
    "predict": "arrays of NumPy, in batches",
}
versions, threads = shared.versions, shared.threads

KINDS = {"infer": ("jit", "predict"), "start": ("train", "fit"), "compare": ("train", "fit")}


def supports(workload: w.Workload, mode: str) -> bool | str:
    if mode not in KINDS.get(workload.kind, ("train", "fit", "fit accuracy")):
        return "another way is meant for that"
    if mode == "fit accuracy" and workload.name not in ("mlp-small", "tiny"):
        return "metrics are measured elsewhere"
    if workload.penalty and mode != "train":
        return "the loss of `fit` sees the outputs only, no weights"
    return True


# ----------------------------------------------------------------------------------------- the program

CLASSES = {
    w.Residual: """
class Residual(fx.Layer):
    def __init__(self, inputs, outputs, stride=1):
        self.conv1 = fx.Conv((3, 3), inputs, outputs, stride=stride, padding=1, bias=False)
        self.norm1 = fx.BatchNorm(outputs, fx.relu)
        self.conv2 = fx.Conv((3, 3), outputs, outputs, padding=1, bias=False)
        self.norm2 = fx.BatchNorm(outputs)
        self.conv3 = self.norm3 = None
        if inputs != outputs or stride != 1:
            self.conv3 = fx.Conv((1, 1), inputs, outputs, stride=stride, bias=False)
            self.norm3 = fx.BatchNorm(outputs)

    def __call__(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return fx.relu(y + (x if self.conv3 is None else self.norm3(self.conv3(x))))
""",
    w.SpatialMean: """
def spatial_mean(x):
    return x.mean((1, 2))
""",
    w.LastStep: """
def last_step(x):
    return x[:, -1]
""",
}


def layer(part: w.Part) -> str:
    if isinstance(part, w.Dense):
        return f"fx.Dense({part.inputs}, {part.outputs}{activation(part)})"
    if isinstance(part, w.Conv):
        options = f", stride={part.stride}" * (part.stride != 1) + f", padding={part.padding}" * (part.padding != 0)
        options += ", bias=False" * (not part.bias)
        kernel = f"({part.kernel}, {part.kernel})"
        return f"fx.Conv({kernel}, {part.inputs}, {part.outputs}{activation(part)}{options})"
    if isinstance(part, w.Residual):
        return f"Residual({part.inputs}, {part.outputs}{f', {part.stride}' * (part.stride != 1)})"
    if isinstance(part, w.Block):
        return f"fx.TransformerBlock({part.features}, num_heads={part.heads}, causal={part.causal})"
    if isinstance(part, (w.LSTM, w.Embedding, w.Positions)):
        name = "LearnedPositions" if isinstance(part, w.Positions) else type(part).__name__
        first, second = programs.sizes(part)
        return f"fx.{name}({first}, {second})"
    return {
        w.MaxPool: "fx.MaxPool((2, 2))",
        w.Dropout: f"fx.Dropout({getattr(part, 'rate', 0)})",
        w.Flatten: "fx.flatten",
        w.BatchNorm: f"fx.BatchNorm({getattr(part, 'channels', 0)}, fx.relu)",
        w.SpatialMean: "spatial_mean",
        w.LastStep: "last_step",
        w.LayerNorm: f"fx.LayerNorm({getattr(part, 'features', 0)})",
    }[type(part)]


def activation(part: w.Dense | w.Conv) -> str:
    return f", fx.{part.activation}" if part.activation else ""


def losses(workload: w.Workload, outputs: str) -> str:
    """The body of the function `loss`."""
    penalty = ""
    text = {
        "cross entropy": f"fx.logitcrossentropy({outputs}, y)",
        "cross entropy of softmax": f"fx.crossentropy(fx.softmax(fx.softmax({outputs})), y)",
        "squared error of softmax": f"fx.mse(fx.softmax({outputs}), fx.onehotbatch(y, {workload.classes}))",
    }[workload.loss]
    if workload.penalty:
        penalty = "    squares = sum((p**2).sum() for p in fx.trainables(model) if p.ndim > 1)\n"
        text += f" + {programs.number(workload.penalty)} * squares"
    return f"{penalty}    return {text}"


def program(workload: w.Workload, mode: str) -> str:
    kinds = programs.kinds(workload)
    classes = [text for kind, text in CLASSES.items() if kind in kinds]
    built = f"model = fx.Chain(\n{programs.listed(map(layer, workload.network))}\n)"
    start = "import fluxion as fx"
    sections = [*classes, built] if classes else []
    if not classes:
        start = f"import fluxion as fx\n\n{built}"
    if not workload.training:
        use = "predict = fx.jit(model)" if mode == "jit" else "def predict(x):\n    return fx.predict(model, x)"
        return programs.joined(start, *sections, use)
    opt = f"\nopt = fx.setup({shared.optimizer(workload.optimizer)}, model)"
    if classes:
        sections[-1] += opt
    else:
        start += opt
    loader = f"fx.DataLoader((x, y), batch_size={workload.batch}, shuffle=True, partial=False)"
    metrics = ", metrics=[fx.accuracy]" if mode == "fit accuracy" else ""
    loss = f"def loss(model, x, y):\n{losses(workload, 'model(x)')}"
    if mode == "train":
        sections += [
            loss,
            "def train(batches):\n    return fx.train(loss, model, batches, opt)",
            f"""
def fit(x, y, epochs):
    loader = {loader}
    for _ in range(epochs):
        train(loader)
""",
        ]
    else:
        ours = "fx.logitcrossentropy"
        if workload.loss != "cross entropy":
            ours = "loss"
            sections.append(f"def loss(outputs, y):\n{losses(workload, 'outputs')}")
        options = f"loss={ours}, optimizer=opt{metrics}, progress=False"
        sections += [
            f"def train(batches):\n    return fx.fit(model, batches, {options})",
            f"""
def fit(x, y, epochs):
    loader = {loader}
    return fx.fit(model, loader, epochs=epochs, {options})
""",
        ]
    sections.append(
        """
def evaluate(x, y):
    return fx.evaluate(model, (x, y), loss=fx.logitcrossentropy, metrics=[fx.accuracy], batch_size=1000)
"""
    )
    return programs.joined(start, *sections)


# --------------------------------------------------------------------------------------------- the glue

BLOCK = {"norm1": "attention_norm", "norm2": "feed_norm", "up": "feed.layers[0]", "down": "feed.layers[2]"}


def paths(part: w.Part) -> dict[str, str]:
    """Where the arrays of a part are in the layer."""
    if isinstance(part, w.LSTM):
        return {name: f".cells[0].{name}" for name in part.shapes()}
    if isinstance(part, w.Block):
        split = {name: name.split(".") for name in part.shapes()}
        return {name: f".{BLOCK.get(a, f'attention.{a}')}.{b}" for name, (a, b) in split.items()}
    return {name: f".{name}" for name in part.shapes()}


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import jax

        import fluxion as fx

        self.jax, self.fx, self.workload, self.mode = jax, fx, workload, mode
        self.program = programs.execute(program(workload, mode), f"{workload.name} in Fluxion, {mode}")
        self.model = self.program.model
        named = {
            f"layers[{i}]{path}": weights[f"{i}.{name}"]
            for i, part in enumerate(workload.network)
            for name, path in paths(part).items()
        }
        fx.loadmodel(self.model, fx.state(self.model) | named)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.jax.numpy.asarray(x), self.jax.numpy.asarray(y)) for x, y in batches]

    def losses(self, batches: list[Any]) -> np.ndarray:
        if self.mode == "train":
            return self.program.train(batches)
        return np.array([self.program.train([batch]).last["loss"] for batch in batches])

    def train(self, batches: list[Any]) -> None:
        self.program.train(batches)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        self.program.fit(x, y, count)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        values = self.program.evaluate(x, y)
        return values["loss"], values["accuracy"]

    def inputs(self, x: np.ndarray) -> Any:
        return x if self.mode == "predict" else self.jax.numpy.asarray(x)

    def forward(self, x: Any) -> Any:
        if self.workload.training:
            return self.model(x)
        outputs = self.program.predict(x)
        return outputs if self.mode == "predict" else outputs.block_until_ready()

    def restart(self) -> None:
        rule = eval(shared.optimizer(self.workload.optimizer), {"fx": self.fx})
        self.program.opt = self.fx.setup(rule, self.model)
