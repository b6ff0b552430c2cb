"""MXNet 1.9: Gluon, imperative and hybridized.

It needs NumPy below 1.24, and so an environment of its own. A Gluon LSTM has two biases that are added; the second one
is kept at zero. Its Adam puts epsilon inside of the bias correction, which the subclass in the program undoes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

NAME = "mxnet"
TITLE = "MXNet"
NEEDS = ("mxnet",)
PIP = ("mxnet==1.9.1", "numpy<1.24")
ENVIRONMENT = {"MXNET_SUBGRAPH_VERBOSE": "0"}
MODES = {"hybridize": "the network as one static graph", "imperative": "operation by operation"}
KNOWN = {w.Dense, w.Conv, w.MaxPool, w.Dropout, w.Flatten, w.LSTM, w.LastStep, w.Embedding}


def supports(workload: w.Workload, mode: str) -> bool | str:
    if unknown := sorted(kind.__name__ for kind in programs.kinds(workload) - KNOWN):
        return f"no {', '.join(unknown)} in this adapter"
    return not workload.penalty or "a penalty is not written here"


def versions() -> dict[str, str]:
    import mxnet

    return {"mxnet": mxnet.__version__, "numpy (mxnet)": np.__version__}


def threads(count: int) -> None:
    """OpenMP's variable says how many, before the process starts."""


# ----------------------------------------------------------------------------------------- the program

LSTM = """
class LSTM(rnn.LSTM):
    def __init__(self, inputs, outputs):
        super().__init__(outputs, input_size=inputs, layout="NTC")
        self.l0_h2h_bias.grad_req = "null"  # one bias is enough
"""
LAST_STEP = """
class LastStep(gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return F.slice_axis(x, axis=1, begin=-1, end=None).flatten()
"""
ADAM = '''
class Adam(mx.optimizer.Adam):
    """With epsilon outside of the bias correction, as in the paper and in the other frameworks."""

    def update(self, index, weight, grad, state):
        t = self._index_update_count.get(index, 0) + 1
        kept, self.epsilon = self.epsilon, self.epsilon * (1 - self.beta2**t) ** 0.5
        super().update(index, weight, grad, state)
        self.epsilon = kept
'''


def layer(part: w.Part, sequence: bool) -> str:
    active = f', activation="{programs.activation(part)}"' if programs.activation(part) else ""
    if isinstance(part, w.Dense):
        flatten = ", flatten=False" if sequence else ""
        return f"nn.Dense({part.outputs}{active}{flatten}, in_units={part.inputs})"
    if isinstance(part, w.Conv):
        options = f", strides={part.stride}" * (part.stride != 1) + f", padding={part.padding}" * (part.padding != 0)
        options += ", use_bias=False" * (not part.bias)
        return f"nn.Conv2D({part.outputs}, {part.kernel}{options}{active}, in_channels={part.inputs})"
    if isinstance(part, (w.LSTM, w.Embedding)):
        first, second = programs.sizes(part)
        return f"{'LSTM' if isinstance(part, w.LSTM) else 'nn.Embedding'}({first}, {second})"
    return {
        w.MaxPool: "nn.MaxPool2D(2)",
        w.Dropout: f"nn.Dropout({getattr(part, 'rate', 0)})",
        w.Flatten: "nn.Flatten()",
        w.LastStep: "LastStep()",
    }[type(part)]


def optimizer(rule: w.Optimizer) -> str:
    if isinstance(rule, w.Adam):
        betas = programs.betas(rule, ", beta1={}, beta2={}")
        return f"Adam(learning_rate={programs.number(rule.rate)}{betas}, epsilon={programs.number(rule.epsilon)})"
    momentum = f', "momentum": {programs.number(rule.rho)}' if isinstance(rule, w.Momentum) else ""
    return f'"sgd", {{"learning_rate": {programs.number(rule.rate)}{momentum}}}'


def program(workload: w.Workload, mode: str) -> str:
    kinds = programs.kinds(workload)
    sequence = programs.is_text(workload)
    classes = [LSTM] if w.LSTM in kinds else []
    classes += [LAST_STEP] if w.LastStep in kinds else []
    recurrent = ", rnn" if w.LSTM in kinds else ""
    hybridize = "\nnet.hybridize(static_alloc=True, static_shape=True)" if mode == "hybridize" else ""
    built = f"""
net = nn.HybridSequential()
net.add(
{programs.listed(layer(part, sequence) for part in workload.network)}
)
net.initialize(mx.init.Xavier()){hybridize}
""".strip()
    if not workload.training:
        start = "import mxnet as mx\n" + ("from mxnet import gluon\n" if w.LastStep in kinds else "")
        start += f"from mxnet.gluon import nn{recurrent}"
        return programs.joined(start, *classes, built, "def predict(x):\n    return net(x)")
    if isinstance(workload.optimizer, w.Adam):
        classes.append(ADAM)
    squares = f"(mx.nd.softmax(net(x)) - mx.nd.one_hot(y, {workload.classes})) ** 2"
    loss = {
        "cross entropy": "cross_entropy(net(x), y)",
        "cross entropy of softmax": "cross_entropy(mx.nd.softmax(net(x)), y)",
        "squared error of softmax": f"({squares}).mean(axis=1)",
    }[workload.loss]
    return programs.joined(
        f"import mxnet as mx\nfrom mxnet import autograd, gluon\nfrom mxnet.gluon import nn{recurrent}",
        *classes,
        f"""
{built}
cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
trainer = gluon.Trainer(net.collect_params(), {optimizer(workload.optimizer)})
""",
        f"""
def train(batches):
    losses = []
    for x, y in batches:
        with autograd.record():
            loss = {loss}
        loss.backward()
        trainer.step(len(x))
        losses.append(loss.mean())
    return mx.nd.concat(*losses, dim=0)
""",
        f"""
def fit(x, y, epochs, size={workload.batch}):
    for _ in range(epochs):
        order = mx.nd.random.shuffle(mx.nd.arange(len(x)))
        starts = range(0, len(x) - size + 1, size)
        train((x.take(order[s : s + size]), y.take(order[s : s + size])) for s in starts)
""",
        """
def evaluate(batches):
    loss = right = count = 0
    for x, y in batches:
        outputs = net(x)
        loss += cross_entropy(outputs, y).mean() * y.size
        right += (outputs.argmax(-1) == y).sum()
        count += y.size
    return loss.asscalar() / count, right.asscalar() / count
""",
    )


# --------------------------------------------------------------------------------------------- the glue


def loaded(part: w.Part, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a part under Gluon's names and in its layout: channels first, (out, in)."""
    if isinstance(part, w.Dense):
        return {"weight": own["weight"].T, "bias": own["bias"]}
    if isinstance(part, w.Conv):
        return {**own, "weight": own["weight"].transpose(3, 2, 0, 1)}
    if isinstance(part, w.LSTM):
        return {
            "l0_i2h_weight": own["weight"].T,
            "l0_h2h_weight": own["recurrent_weight"].T,
            "l0_i2h_bias": own["bias"],
            "l0_h2h_bias": np.zeros_like(own["bias"]),
        }
    return own


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import mxnet

        self.mx, self.workload = mxnet, workload
        self.images = len(workload.shape) == 3
        self.program = programs.execute(program(workload, mode), f"{workload.name} in MXNet, {mode}")
        for layer, (part, own) in zip(self.program.net, programs.owned(workload, weights, channels_first=True)):  # noqa: B905
            for name, array in loaded(part, own).items():
                getattr(layer, name).set_data(mxnet.nd.array(np.ascontiguousarray(array)))

    def inputs(self, x: np.ndarray) -> Any:
        return self.mx.nd.array(x.transpose(0, 3, 1, 2) if self.images else x)

    def prepare(self, batches: list[Any]) -> list[Any]:
        prepared = [(self.inputs(x), self.mx.nd.array(y)) for x, y in batches]
        self.mx.nd.waitall()
        return prepared

    def losses(self, batches: list[Any]) -> np.ndarray:
        return self.program.train(batches).asnumpy()

    def train(self, batches: list[Any]) -> None:
        self.program.train(batches)
        self.mx.nd.waitall()

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        self.program.fit(self.inputs(x), self.mx.nd.array(y), count)
        self.mx.nd.waitall()

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        return self.program.evaluate((self.inputs(x), self.mx.nd.array(y)) for x, y in programs.thousands(x, y))

    def forward(self, x: Any) -> Any:
        return self.program.net(x).asnumpy()

    def restart(self) -> None:
        for updater in self.program.trainer._updaters:
            updater.states.clear()
            updater.states_synced.clear()
        rule = self.program.trainer.optimizer
        rule._index_update_count.clear()
