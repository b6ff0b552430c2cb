"""Plain JAX: the loop that one would write by hand, a jitted step with donated buffers, and Adam in seven lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

NAME = "jax"
TITLE = "JAX"
NEEDS = ("jax",)
PIP = ("jax", "numpy")
ENVIRONMENT: dict[str, str] = {}
MODES = {"jit": "a compiled step"}


def supports(workload: w.Workload, mode: str) -> bool | str:
    if workload.has_batchnorm and not (workload.loss == "cross entropy" and not workload.penalty):
        return "with BatchNorm it has only the cross entropy"
    return True


def versions() -> dict[str, str]:
    import jax

    return {"jax": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


# ----------------------------------------------------------------------------------------- the program

CONV = """
def conv(p, x, stride=1, padding=0):
    numbers, padding = ("NHWC", "HWIO", "NHWC"), [(padding, padding)] * 2
    y = lax.conv_general_dilated(x, p["weight"], (stride, stride), padding, dimension_numbers=numbers)
    return y + p["bias"] if "bias" in p else y
"""
STANDARDIZED = """
def layer_norm(p, x):
    standardized = (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
    return standardized * p["scale"] + p["bias"]
"""
BATCHNORM = """
def batchnorm(p, running, x):
    if running:
        return (x - running["mean"]) * lax.rsqrt(running["variance"] + 1e-5) * p["scale"] + p["bias"], {}
    mean, variance, count = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.size // x.shape[-1]
    y = (x - mean) * lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]
    return y, lax.stop_gradient({"mean": mean, "variance": variance * count / (count - 1)})
"""
FUNCTIONS = {
    w.Dense: """
def dense(p, x):
    return x @ p["weight"] + p["bias"]
""",
    w.Conv: CONV,
    w.MaxPool: """
def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
""",
    w.Dropout: """
def dropout(key, rate, x):
    return x if key is None else jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)
""",
    w.BatchNorm: BATCHNORM,
    w.Residual: """
def residual(p, running, x, stride=1):
    new = {}

    def normed(i, x, **options):
        y, new[f"norm{i}"] = batchnorm(p[f"norm{i}"], running.get(f"norm{i}"), conv(p[f"conv{i}"], x, **options))
        return y

    y = normed(2, jax.nn.relu(normed(1, x, stride=stride, padding=1)), padding=1)
    return jax.nn.relu(y + (normed(3, x, stride=stride) if "conv3" in p else x)), new
""",
    w.LSTM: """
def lstm(p, x):
    def step(state, gates):
        h, c = state
        i, f, g, o = jnp.split(gates + h @ p["recurrent_weight"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((len(x), len(p["recurrent_weight"])))
    return lax.scan(step, (zeros, zeros), dense(p, x).swapaxes(0, 1))[1].swapaxes(0, 1)
""",
    w.LayerNorm: STANDARDIZED,
    w.Block: """
def block(p, x, heads, causal):
    n, t, d = x.shape
    y = layer_norm(p["norm1"], x)
    q, k, v = (dense(p[name], y).reshape(n, t, heads, -1) for name in ("query", "key", "value"))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=causal).reshape(n, t, d)
    x = x + dense(p["out"], y)
    return x + dense(p["down"], jax.nn.gelu(dense(p["up"], layer_norm(p["norm2"], x))))
""",
}
NEEDED = {w.Residual: (w.Conv, w.BatchNorm), w.LSTM: (w.Dense,), w.Block: (w.Dense, w.LayerNorm)}


def functions(workload: w.Workload) -> list[str]:
    kinds = programs.kinds(workload)
    kinds |= {needed for kind in kinds for needed in NEEDED.get(kind, ())}
    return [text for kind, text in FUNCTIONS.items() if kind in kinds]


def uses_lax(workload: w.Workload) -> bool:
    return any("lax." in text for text in functions(workload))


def layer(i: int, part: w.Part, key: str) -> str:
    """The line that computes the output x of part i."""
    p = f"params[{i}]"
    if isinstance(part, (w.Dense, w.Conv)):
        call = f"dense({p}, x)"
        if isinstance(part, w.Conv):
            options = f", stride={part.stride}" * (part.stride != 1) + f", padding={part.padding}" * (part.padding != 0)
            call = f"conv({p}, x{options})"
        function = {"relu": "jax.nn.relu", "tanh": "jnp.tanh"}.get(part.activation)
        return f"x = {function}({call})" if function else f"x = {call}"
    if isinstance(part, w.BatchNorm):
        return f"x, new[{i}] = batchnorm({p}, running[{i}], x)\n    x = jax.nn.relu(x)"
    if isinstance(part, w.Residual):
        return f"x, new[{i}] = residual({p}, running[{i}], x{f', stride={part.stride}' * (part.stride != 1)})"
    if isinstance(part, w.Dropout):
        return f"x = dropout({key}, {part.rate}, x)"
    if isinstance(part, w.Block):
        return f"x = block({p}, x, heads={part.heads}, causal={part.causal})"
    return {
        w.MaxPool: "x = max_pool(x)",
        w.Flatten: "x = x.reshape(len(x), -1)",
        w.SpatialMean: "x = x.mean((1, 2))",
        w.LSTM: f"x = lstm({p}, x)",
        w.LastStep: "x = x[:, -1]",
        w.Embedding: f'x = {p}["weight"][x]',
        w.Positions: f'x = x + {p}["weight"][: x.shape[1]]',
        w.LayerNorm: f"x = layer_norm({p}, x)",
    }[type(part)]


def initial(workload: w.Workload) -> str:
    """The function that draws the first parameters."""
    lines = []
    draws = 0
    for part in workload.network:
        arrays: dict[str, Any] = {}
        for name, shape in part.shapes().items():
            if name.endswith("bias"):
                text = f"jnp.zeros({shape[0]})"
            elif name.endswith("scale"):
                text = f"jnp.ones({shape[0]})"
            else:
                rule = "normal" if isinstance(part, (w.Embedding, w.Positions)) else "glorot"
                text, draws = f"{rule}(next(keys), {shape})", draws + 1
            place, _, last = name.rpartition(".")
            arrays.setdefault(place, {})[last] = text
        lines.append(arrays)
    shown = []
    for arrays in lines:
        own = arrays.pop("", {})
        fields = [f'"{name}": {text}' for name, text in own.items()]
        for place, inner in arrays.items():
            fields.append(f'"{place}": {{{", ".join(f"{chr(34)}{n}{chr(34)}: {t}" for n, t in inner.items())}}}')
        line = f"        {{{', '.join(fields)}}},"
        if len(line) > 120:
            line = "        {\n" + "".join(f"            {field},\n" for field in fields) + "        },"
        shown.append(line)
    rules = "glorot = jax.nn.initializers.glorot_uniform()\n"
    if programs.kinds(workload) & {w.Embedding, w.Positions}:
        rules += "normal = jax.nn.initializers.normal(0.02)\n"
    body = "\n".join(shown)
    return f"{rules}\n\ndef init(key):\n    keys = iter(jax.random.split(key, {draws}))\n    return [\n{body}\n    ]\n"


def model(workload: w.Workload) -> str:
    normed = workload.has_batchnorm
    lines, dropouts = [], 0
    for i, part in enumerate(workload.network):
        lines.append(layer(i, part, f"keys[{dropouts}]"))
        dropouts += isinstance(part, w.Dropout)
    body = "\n".join(f"    {line}" for line in lines)
    if not normed:
        body = programs.returned(body)
    if normed:
        return f"def model(params, running, x):\n    new = [{{}}] * len(params)\n{body}\n    return x, new\n"
    if dropouts:
        keys = f"    keys = [None] * {dropouts} if key is None else jax.random.split(key, {dropouts})\n"
        return f"def model(params, x, key=None):\n{keys}{body}\n"
    return f"def model(params, x):\n{body}\n"


def losses(workload: w.Workload, outputs: str) -> str:
    """The body of the function `loss`."""
    text = f"cross_entropy({outputs}, y)"
    if workload.loss == "cross entropy of softmax":
        text = f"cross_entropy(jax.nn.softmax({outputs}), y)"
    elif workload.loss == "squared error of softmax":
        text = f"((jax.nn.softmax({outputs}) - jax.nn.one_hot(y, {workload.classes})) ** 2).mean()"
    if workload.penalty:
        squares = "        squares = sum((p**2).sum() for p in jax.tree.leaves(params) if p.ndim > 1)\n"
        return f"{squares}        return {text} + {programs.number(workload.penalty)} * squares"
    return f"        return {text}"


CROSS_ENTROPY = """
def cross_entropy(logits, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1).mean()
"""
START = """
def start(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return zeros, zeros, jnp.zeros(())
"""


def update(rule: w.Optimizer) -> str:
    if isinstance(rule, w.Adam):
        a, b, epsilon = rule.beta1, rule.beta2, programs.number(rule.epsilon)
        return f"""
def update(params, grads, state):
    m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: {a} * m + {1 - a:.12g} * g, m, grads)
    v = jax.tree.map(lambda v, g: {b} * v + {1 - b:.12g} * g * g, v, grads)
    rate, root = {programs.number(rule.rate)} / (1 - {a}**t), jnp.sqrt(1 - {b}**t)
    return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + {epsilon}), params, m, v), (m, v, t)
"""
    if isinstance(rule, w.Momentum):
        return f"""
def update(params, grads, state):
    v = jax.tree.map(lambda v, g: {programs.number(rule.rho)} * v + g, state[0], grads)
    return jax.tree.map(lambda p, v: p - {programs.number(rule.rate)} * v, params, v), (v, *state[1:])
"""
    return f"""
def update(params, grads, state):
    return jax.tree.map(lambda p, g: p - {programs.number(rule.rate)} * g, params, grads), state
"""


def step(workload: w.Workload) -> str:
    if workload.has_batchnorm:
        return """
@functools.partial(jax.jit, donate_argnums=(0, 1, 2))
def step(params, running, state, x, y):
    def loss(params):
        outputs, new = model(params, [{}] * len(params), x)
        return cross_entropy(outputs, y), new

    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(params)
    running = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, running, new)
    params, state = update(params, grads, state)
    return params, running, state, value
"""
    key = ", key" if programs.kinds(workload) & {w.Dropout} else ""
    drawn = "\n    key = jax.random.fold_in(jax.random.key(0), state[2].astype(int))\n" if key else ""
    counted = ""
    if key and not isinstance(workload.optimizer, w.Adam):
        counted = "\n    state = (*state[:2], state[2] + 1)"
    return f"""
@functools.partial(jax.jit, donate_argnums=(0, 1))
def step(params, state, x, y):{drawn}
    def loss(params):
{losses(workload, f"model(params, x{key})")}

    value, grads = jax.value_and_grad(loss)(params)
    params, state = update(params, grads, state){counted}
    return params, state, value
"""


def program(workload: w.Workload, mode: str) -> str:
    lax = "\nfrom jax import lax" if uses_lax(workload) else ""
    functools = "import functools\n\n" if workload.training else ""
    start = f"{functools}import jax\nimport jax.numpy as jnp{lax}"
    network = (*functions(workload), initial(workload), model(workload))
    carried = "running, " if workload.has_batchnorm else ""
    if not workload.training:
        return programs.joined(
            start,
            *network,
            f"@jax.jit\ndef predict(params, {carried}x):\n    return model(params, {carried}x){'[0]' * bool(carried)}",
        )
    call = f"model(params, {carried}x){'[0]' * bool(carried)}"
    return programs.joined(
        start,
        *network,
        CROSS_ENTROPY,
        START if not carried else START_RUNNING,
        update(workload.optimizer),
        step(workload),
        f"""
def train(params, {carried}state, batches):
    losses = []
    for x, y in batches:
        params, {carried}state, loss = step(params, {carried}state, x, y)
        losses.append(loss)
    return params, {carried}state, losses
""",
        f"""
def fit(params, {carried}state, x, y, epochs, size={workload.batch}):
    random = np.random.default_rng()
    for _ in range(epochs):
        order = random.permutation(len(x))[: len(x) // size * size].reshape(-1, size)
        batches = ((x[rows], y[rows]) for rows in order)
        params, {carried}state, _ = train(params, {carried}state, batches)
    return params, {carried}state
""",
        f"""
@jax.jit
def score(params, {carried}x, y):
    outputs = {call}
    return jnp.stack([cross_entropy(outputs, y), (outputs.argmax(-1) == y).mean()])
""",
        f"""
def evaluate(params, {carried}batches):
    scores, sizes = zip(*[(score(params, {carried}x, y), len(x)) for x, y in batches])
    return np.average(scores, axis=0, weights=sizes)
""",
    ).replace("import jax.numpy as jnp", "import jax.numpy as jnp\nimport numpy as np", 1)


START_RUNNING = """
def start(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return zeros, zeros, jnp.zeros(())


def start_running(params):
    def running(p):
        if "scale" in p:
            return {"mean": jnp.zeros_like(p["scale"]), "variance": jnp.ones_like(p["scale"])}
        return {name: running(inner) for name, inner in p.items() if name.startswith("norm")}

    return [running(p) for p in params]
"""


# --------------------------------------------------------------------------------------------- the glue


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import jax
        import jax.numpy as jnp

        self.jax, self.workload = jax, workload
        self.program = programs.execute(program(workload, mode), f"{workload.name} in JAX, {mode}")
        params: list[Any] = []
        for _, own in programs.owned(workload, weights):
            tree: dict[str, Any] = {}
            for name, array in own.items():
                place, _, last = name.rpartition(".")
                (tree.setdefault(place, {}) if place else tree)[last] = jnp.asarray(array)
            params.append(tree)
        self.state = [params]  # what a step takes and gives back
        if workload.has_batchnorm:
            self.state.append(self.running(params))
        if workload.training:
            self.state.append(self.program.start(params))
            self.state[-1] = jax.tree.map(jnp.copy, self.state[-1])  # buffers are donated once only

    def running(self, params: Any) -> Any:
        scope: dict[str, Any] = {"jnp": self.jax.numpy}
        exec(START_RUNNING, scope)
        return scope["start_running"](params)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.inputs(x), self.inputs(y)) for x, y in batches]

    def losses(self, batches: list[Any]) -> np.ndarray:
        *self.state, losses = self.program.train(*self.state, batches)
        self.jax.block_until_ready(self.state)
        return np.array(losses)

    train = losses

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        self.state = list(self.program.fit(*self.state, x, y, count))
        self.jax.block_until_ready(self.state)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        return self.program.evaluate(*self.state[:-1], programs.thousands(x, y))

    def inputs(self, x: np.ndarray) -> Any:
        return self.jax.numpy.asarray(x)

    def forward(self, x: Any) -> Any:
        if not self.workload.training:
            return self.program.predict(*self.state, x).block_until_ready()
        outputs = self.program.model(*self.state[:-1], x)
        return outputs[0] if self.workload.has_batchnorm else outputs

    def restart(self) -> None:
        self.state[-1] = self.jax.tree.map(self.jax.numpy.zeros_like, self.state[-1])
