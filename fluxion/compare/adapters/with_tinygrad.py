"""tinygrad: a step recorded by TinyJit. On a CPU it compiles its kernels with clang.

An LSTM's loop over the steps of a sequence is unrolled, as tinygrad has no loop in its graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

NAME = "tinygrad"
TITLE = "tinygrad"
NEEDS = ("tinygrad",)
PROGRAMS = ("clang",)
PIP = ("tinygrad", "numpy")
ENVIRONMENT = {"DEV": "CPU"}
MODES = {"jit": "TinyJit", "beam": "TinyJit, with kernels chosen by measurement (BEAM=2)"}
KNOWN = {w.Dense, w.Conv, w.MaxPool, w.Dropout, w.Flatten, w.LSTM, w.LastStep, w.Embedding}


def supports(workload: w.Workload, mode: str) -> bool | str:
    kinds = programs.kinds(workload)
    if unknown := sorted(kind.__name__ for kind in kinds - KNOWN):
        return f"no {', '.join(unknown)} in this adapter"
    if w.LSTM in kinds:
        return "it unrolls the steps of an LSTM into thousands of kernels, compiled for many minutes"
    if mode == "beam" and workload.kind != "compare":
        return "its search takes minutes"
    return not workload.penalty or "a penalty is not written here"


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"tinygrad": version("tinygrad")}


def threads(count: int) -> None:
    import os

    os.environ["CPU_COUNT"] = str(count)


# ----------------------------------------------------------------------------------------- the program


def layers(part: w.Part) -> list[str]:
    if isinstance(part, w.Dense):
        return [f"nn.Linear({part.inputs}, {part.outputs})", *activation(part)]
    if isinstance(part, w.Conv):
        options = f", stride={part.stride}" * (part.stride != 1) + f", padding={part.padding}" * (part.padding != 0)
        options += ", bias=False" * (not part.bias)
        return [f"nn.Conv2d({part.inputs}, {part.outputs}, {part.kernel}{options})", *activation(part)]
    return {
        w.MaxPool: ["Tensor.max_pool2d"],
        w.Dropout: [f"lambda x: x.dropout({getattr(part, 'rate', 0)})"],
        w.Flatten: ["lambda x: x.flatten(1)"],
        w.LastStep: ["lambda x: x[:, -1]"],
    }[type(part)]


def activation(part: w.Dense | w.Conv) -> list[str]:
    return [f"Tensor.{part.activation}"] if part.activation else []


def program(workload: w.Workload, mode: str) -> str:
    lines = [line for part in workload.network for line in layers(part)]
    model = f"""
class Model:
    def __init__(self):
        self.layers = [
{programs.listed(lines, 12)}
        ]

    def __call__(self, x):
        return x.sequential(self.layers)
"""
    if not workload.training:
        return programs.joined(
            "from tinygrad import Tensor, TinyJit, nn",
            model,
            "model = Model()",
            "@TinyJit\ndef predict(x):\n    return model(x).realize()",
        )
    rule = workload.optimizer
    rate = programs.number(rule.rate)
    if isinstance(rule, w.Adam):
        betas = programs.betas(rule, ", b1={}, b2={}")
        optimizer = f"nn.optim.Adam(nn.state.get_parameters(model), lr={rate}{betas}, eps={rule.epsilon:g})"
    else:
        momentum = f", momentum={programs.number(rule.rho)}" if isinstance(rule, w.Momentum) else ""
        optimizer = f"nn.optim.SGD(nn.state.get_parameters(model), lr={rate}{momentum})"
    loss = {
        "cross entropy": "model(x).sparse_categorical_crossentropy(y)",
        "cross entropy of softmax": "model(x).softmax().sparse_categorical_crossentropy(y)",
        "squared error of softmax": f"(model(x).softmax() - y.one_hot({workload.classes})).square().mean()",
    }[workload.loss]
    beam = ", BEAM=2" if mode == "beam" else ""
    return programs.joined(
        "import numpy as np\nfrom tinygrad import Context, Tensor, TinyJit, nn",
        model,
        f"model = Model()\noptimizer = {optimizer}",
        f"""
@TinyJit
@Context(TRAINING=1{beam})
def step(x, y):
    optimizer.zero_grad()
    loss = {loss}.backward()
    return loss.realize(*optimizer.schedule_step())
""",
        """
def train(batches):
    return [step(x, y).item() for x, y in batches]
""",
        f"""
def fit(x, y, epochs, size={workload.batch}):
    random = np.random.default_rng()
    for _ in range(epochs):
        order = random.permutation(len(x))[: len(x) // size * size].reshape(-1, size)
        train((Tensor(x[rows]), Tensor(y[rows])) for rows in order)
""",
        """
@TinyJit
def score(x, y):
    outputs = model(x)
    right = (outputs.argmax(-1) == y).mean()
    return outputs.sparse_categorical_crossentropy(y).realize(right), right
""",
        """
def evaluate(batches):
    scores = [(*(value.item() for value in score(x, y)), len(x)) for x, y in batches]
    loss, right, sizes = zip(*scores)
    return np.average(loss, weights=sizes), np.average(right, weights=sizes)
""",
    )


# --------------------------------------------------------------------------------------------- the glue


def loaded(part: w.Part, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a part in tinygrad's layout: channels first, (out, in)."""
    if isinstance(part, w.Conv):
        return {**own, "weight": own["weight"].transpose(3, 2, 0, 1)}
    return {name: array.T for name, array in own.items()}


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        from tinygrad import Tensor, TinyJit

        self.Tensor, self.TinyJit, self.workload = Tensor, TinyJit, workload
        self.images = len(workload.shape) == 3
        self.program = programs.execute(program(workload, mode), f"{workload.name} in tinygrad, {mode}")
        place = 0
        for part, own in programs.owned(workload, weights, channels_first=True):
            for name, array in loaded(part, own).items():
                tensor = getattr(self.program.model.layers[place], name)
                tensor.assign(Tensor(np.ascontiguousarray(array))).realize()
            place += len(layers(part))
        self.scores: dict[int, Any] = {}

    def inputs(self, x: np.ndarray) -> Any:
        return self.Tensor(self.turned(x)).realize()

    def turned(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if self.images else x

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.inputs(x), self.Tensor(y).realize()) for x, y in batches]

    def losses(self, batches: list[Any]) -> np.ndarray:
        return np.array(self.program.train(batches))

    def train(self, batches: list[Any]) -> None:
        self.program.train(batches)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        self.program.fit(self.turned(x), y, count)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        """A recorded function has one size of batch, so there is one of each size."""
        self.program.score = self.scores.setdefault(len(x), self.TinyJit(self.program.score.fxn))
        return self.program.evaluate((self.inputs(x), self.Tensor(y)) for x, y in programs.thousands(x, y))

    def forward(self, x: Any) -> Any:
        outputs = self.program.model(x) if self.workload.training else self.program.predict(x)
        return outputs.numpy()

    def restart(self) -> None:
        optimizer = self.program.optimizer
        for tensor in (*getattr(optimizer, "m", ()), *getattr(optimizer, "v", ()), *getattr(optimizer, "b", ())):
            tensor.assign(tensor.zeros_like()).realize()
