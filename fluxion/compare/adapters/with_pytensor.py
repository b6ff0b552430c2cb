"""PyTensor, the maintained Theano: layers by hand, and one compiled function with shared variables.

Its own backend compiles by Numba; XLA, by way of JAX, is the fast one where there is more than a small network. A
convolution is one matrix product with all windows, as PyTensor has none over batches and channels. `maximum` and `max`
would give a gradient to each of several equal numbers, so they are written with `switch`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

NAME = "pytensor"
TITLE = "PyTensor"
NEEDS = ("pytensor", "jax")
PIP = ("pytensor", "jax", "numpy")
ENVIRONMENT = {"PYTENSOR_FLAGS": "floatX=float32"}
MODES = {"jax": "compiled by XLA, by way of JAX", "numba": "compiled by Numba, the default"}
KNOWN = {w.Dense, w.Conv, w.MaxPool, w.Dropout, w.Flatten, w.LSTM, w.LastStep, w.Embedding}


def supports(workload: w.Workload, mode: str) -> bool | str:
    kinds = programs.kinds(workload)
    if unknown := sorted(kind.__name__ for kind in kinds - KNOWN):
        return f"no {', '.join(unknown)} in this adapter"
    if any(isinstance(part, w.Conv) and (part.same or part.stride != 1) for part in workload.network):
        return "no padding and no stride in this adapter"
    if w.Dropout in kinds and workload.training:
        return "dropout would need a random variable in the graph, which this adapter leaves out"
    if mode == "numba" and kinds & {w.Conv, w.LSTM}:
        return "Numba compiles its gradient for minutes"
    return True


def versions() -> dict[str, str]:
    import jax
    import pytensor

    return {"pytensor": pytensor.__version__, "jax (pytensor)": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores; a product of Numba asks OpenBLAS' variable."""


# ----------------------------------------------------------------------------------------- the program

GLOROT = """
def glorot(*shape):
    limit = np.sqrt(6 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return shared(random.uniform(-limit, limit, shape))
"""
FUNCTIONS = {
    "relu": """
def relu(x):
    return pt.switch(x > 0, x, 0)
""",
    w.Conv: """
def conv(x, weight, bias=0.0):
    n, height, width, _ = x.type.shape
    kernel, _, inputs, outputs = weight.type.shape
    rows, columns = height - kernel + 1, width - kernel + 1
    cells = [x[:, i : i + rows, j : j + columns] for i in range(kernel) for j in range(kernel)]
    windows = pt.concatenate(cells, axis=-1).reshape((n * rows * columns, kernel**2 * inputs))
    y = windows @ weight.reshape((kernel**2 * inputs, outputs)) + bias
    return y.reshape((n, rows, columns, outputs))
""",
    w.MaxPool: """
def larger(a, b):
    return pt.switch(a >= b, a, b)


def max_pool(x):
    height, width = (size // 2 * 2 for size in x.type.shape[1:3])
    top, bottom = x[:, 0:height:2], x[:, 1:height:2]
    top = larger(top[:, :, 0:width:2], top[:, :, 1:width:2])
    return larger(top, larger(bottom[:, :, 0:width:2], bottom[:, :, 1:width:2]))
""",
    w.LSTM: """
def lstm(x, weight, recurrent, bias):
    n, size = x.type.shape[0], recurrent.type.shape[0]

    def step(gates, h, c, recurrent):
        gates = gates + h @ recurrent
        i, f, g, o = (gates[:, k * size : (k + 1) * size] for k in range(4))
        c = pt.sigmoid(f) * c + pt.sigmoid(i) * pt.tanh(g)
        return pt.sigmoid(o) * pt.tanh(c), c

    zeros = pt.zeros((n, size))
    gates = (x @ weight + bias).swapaxes(0, 1)
    h, _ = pytensor.scan(step, gates, [zeros, zeros], recurrent, return_updates=False)
    return h.swapaxes(0, 1)
""",
}


def network(workload: w.Workload) -> tuple[list[str], list[str], list[str]]:
    """Names of the shared variables, how each is made, and the lines that compute the output."""
    names, made, lines = [], [], []
    for i, part in enumerate(workload.network):
        own = [f"{name[0]}{i}" for name in part.shapes()]
        names += own
        for shape in part.shapes().values():
            first = "glorot" if len(shape) > 1 else "zeros"
            if isinstance(part, w.Embedding):
                first = "normal"
            made.append(f"{first}({', '.join(map(str, shape))})")
        given = ", ".join(own)
        if isinstance(part, (w.Dense, w.Conv)):
            text = f"conv(x, {given})" if isinstance(part, w.Conv) else f"x @ {own[0]} + {own[1]}"
            function = {"relu": "relu", "tanh": "pt.tanh"}.get(part.activation)
            lines.append(f"x = {function}({text})" if function else f"x = {text}")
        elif isinstance(part, w.Flatten):
            h, v, c = part.shape
            lines.append(f"x = x.reshape((x.type.shape[0], {h * v * c}))")
        elif not isinstance(part, w.Dropout):
            lines.append(
                {
                    w.MaxPool: "x = max_pool(x)",
                    w.LSTM: f"x = lstm(x, {given})",
                    w.LastStep: "x = x[:, -1]",
                    w.Embedding: f"x = {given}[x]",
                }[type(part)]
            )
    return names, made, lines


def update(rule: w.Optimizer) -> str:
    rate = programs.number(rule.rate)
    if isinstance(rule, w.Adam):
        a, b = rule.beta1, rule.beta2
        return f"""
def updates(loss):
    t = shared(np.zeros(()))
    changes = [(t, t + 1)]
    for p, g in zip(params, pytensor.grad(loss, params)):
        m, v = zeros(*p.type.shape), zeros(*p.type.shape)
        new_m, new_v = {a} * m + {1 - a:.12g} * g, {b} * v + {1 - b:.12g} * g**2
        step = new_m / (1 - {a} ** (t + 1)) / (pt.sqrt(new_v / (1 - {b} ** (t + 1))) + {programs.number(rule.epsilon)})
        changes += [(m, new_m), (v, new_v), (p, p - {rate} * step)]
    return changes
"""
    if isinstance(rule, w.Momentum):
        return f"""
def updates(loss):
    changes = []
    for p, g in zip(params, pytensor.grad(loss, params)):
        v = zeros(*p.type.shape)
        new_v = {programs.number(rule.rho)} * v - {rate} * g
        changes += [(v, new_v), (p, p + new_v)]
    return changes
"""
    return f"""
def updates(loss):
    return [(p, p - {rate} * g) for p, g in zip(params, pytensor.grad(loss, params))]
"""


def losses(workload: w.Workload) -> str:
    text = {
        "cross entropy": "cross_entropy(outputs, y)",
        "cross entropy of softmax": "cross_entropy(pt.special.softmax(outputs, axis=-1), y)",
        "squared error of softmax": "((pt.special.softmax(outputs, axis=-1) - one_hot(y)) ** 2).mean()",
    }[workload.loss]
    if workload.penalty:
        text += f"\n    loss += {programs.number(workload.penalty)} * sum((p**2).sum() for p in params if p.ndim > 1)"
    return text


def program(workload: w.Workload, mode: str) -> str:
    kinds = programs.kinds(workload)
    names, made, lines = network(workload)
    used = kinds | ({"relu"} if any("= relu(" in line for line in lines) else set())
    functions = [text for kind, text in FUNCTIONS.items() if kind in used]
    integers = "int32" if programs.is_text(workload) else "float32"
    labels = f"n, {workload.shape[0]}" if programs.is_text(workload) else "n,"
    shape = ", ".join(map(str, ("n", *workload.shape)))
    width = ", ".join(names)
    listed = f"params = [\n{programs.listed(made)}\n]"
    body = "\n".join(f"    {line}" for line in lines)
    normal = """
def normal(*shape):
    return shared(random.normal(0, 0.02, shape))
"""
    backend = {"jax": "JAX", "numba": "NUMBA"}[mode]
    head = (
        "import functools\n\nimport numpy as np\nimport pytensor\nimport pytensor.tensor as pt\n\n"
        f'pytensor.config.floatX = "float32"\npytensor.config.mode = "{backend}"\nrandom = np.random.default_rng(0)',
        """
def shared(array):
    return pytensor.shared(array.astype("float32"), shape=array.shape)
""",
        """
def zeros(*shape):
    return shared(np.zeros(shape))
""",
        GLOROT,
        normal if w.Embedding in kinds else "",
        listed,
        *functions,
        f"def network(x):\n    {width} = params\n{programs.returned(body)}",
    )
    inputs = f'x = pt.tensor("x", shape=({shape}), dtype="{integers}")'
    predict = f"""
@functools.cache
def predict(n):
    {inputs}
    return pytensor.function([x], network(x))
"""
    if not workload.training:
        return programs.joined(*head, predict)
    return programs.joined(
        *head,
        f"""
def one_hot(y):
    return pt.eq(y[..., None], np.arange({workload.classes}, dtype="int32"))
""",
        """
def cross_entropy(outputs, y):
    return -(pt.special.log_softmax(outputs, axis=-1) * one_hot(y)).sum(axis=-1).mean()
""",
        update(workload.optimizer),
        f"""
def variables(n):
    return pt.tensor("x", shape=({shape}), dtype="{integers}"), pt.tensor("y", shape=({labels}), dtype="int32")
""",
        f"""
@functools.cache
def step(n):
    x, y = variables(n)
    outputs = network(x)
    loss = {losses(workload)}
    return pytensor.function([x, y], loss, updates=updates(loss))
""",
        """
@functools.cache
def score(n):
    x, y = variables(n)
    outputs = network(x)
    right = pt.eq(outputs.argmax(axis=-1), y).mean(dtype="float32")
    return pytensor.function([x, y], [cross_entropy(outputs, y), right])
""",
        """
def train(batches):
    return [step(len(x))(x, y) for x, y in batches]
""",
        programs.fit_in_numpy(workload),
        """
def evaluate(batches):
    scores, sizes = zip(*[(score(len(x))(x, y), len(x)) for x, y in batches])
    return np.average(scores, axis=0, weights=sizes)
""",
    )


# --------------------------------------------------------------------------------------------- the glue


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import warnings

        # JAX tells that it keeps 32 bits where PyTensor's graph names 64.
        warnings.filterwarnings("ignore", message="Explicitly requested dtype")
        self.workload, self.mode = workload, mode
        self.program = programs.execute(program(workload, mode), f"{workload.name} in PyTensor, {mode}")
        arrays = [array for _, own in programs.owned(workload, weights) for array in own.values()]
        for variable, array in zip(self.program.params, arrays):  # noqa: B905
            variable.set_value(array)
        self.forwards: dict[int, Any] = {}

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.inputs(x), self.inputs(y)) for x, y in batches]

    def inputs(self, x: np.ndarray) -> Any:
        if self.mode == "jax":
            import jax.numpy

            return jax.numpy.asarray(x)
        return x

    def losses(self, batches: list[Any]) -> np.ndarray:
        return np.array([float(loss) for loss in self.program.train(batches)])

    def train(self, batches: list[Any]) -> None:
        self.program.train(batches)
        self.wait()

    def wait(self) -> None:
        np.asarray(self.program.params[0].get_value(borrow=True))  # JAX computes behind the caller's back

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        self.program.fit(x, y, count)
        self.wait()

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        return self.program.evaluate(programs.thousands(x, y))

    def forward(self, x: Any) -> Any:
        if not self.workload.training:
            return np.asarray(self.program.predict(len(x))(x))
        if len(x) not in self.forwards:
            import pytensor.tensor as pt

            variable = pt.tensor(shape=x.shape, dtype=str(x.dtype))
            self.forwards[len(x)] = self.program.pytensor.function([variable], self.program.network(variable))
        return np.asarray(self.forwards[len(x)](x))

    def restart(self) -> None:
        params = set(self.program.params)
        for variable in self.program.step(self.workload.batch).get_shared():
            if variable not in params:
                variable.set_value(np.zeros_like(variable.get_value()))
