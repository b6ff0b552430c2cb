"""Equinox: a `filter_jit` step over one example's model, mapped over the batch by `vmap`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

NAME = "equinox"
TITLE = "Equinox"
NEEDS = ("equinox", "optax")
PIP = ("equinox", "optax", "numpy")
ENVIRONMENT: dict[str, str] = {}
MODES = {"filter_jit": "a compiled step, with donated buffers"}


def supports(workload: w.Workload, mode: str) -> bool | str:
    if workload.has_batchnorm:
        return "the statistics of BatchNorm would have to go through every layer by hand"
    return not workload.penalty or "a penalty is not written here"


def versions() -> dict[str, str]:
    import equinox
    import jax
    import optax

    return {"equinox": equinox.__version__, "optax": optax.__version__, "jax (equinox)": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


# ----------------------------------------------------------------------------------------- the program

CLASSES = {
    w.LSTM: """
class LSTM(eqx.Module):
    cell: eqx.nn.LSTMCell

    def __init__(self, inputs, outputs, key):
        self.cell = eqx.nn.LSTMCell(inputs, outputs, key=key)

    def __call__(self, x, key=None):
        def step(state, x):
            state = self.cell(x, state)
            return state, state[0]

        zeros = jnp.zeros(self.cell.hidden_size)
        return jax.lax.scan(step, (zeros, zeros), x)[1]
""",
    w.Positions: """
class Positions(eqx.Module):
    weight: jax.Array

    def __init__(self, length, features):
        self.weight = jnp.zeros((length, features))

    def __call__(self, x, key=None):
        return x + self.weight[: len(x)]
""",
    "sequence": """
class Each(eqx.Module):  # a layer for vectors, over the steps of a sequence
    layer: eqx.Module

    def __call__(self, x, key=None):
        return jax.vmap(self.layer)(x)
""",
    w.LastStep: """
def last_step(x):
    return x[-1]
""",
    w.Block: """
class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    causal: bool

    def __init__(self, features, heads, causal, key):
        keys = jax.random.split(key, 3)
        biases = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}
        self.norm1, self.norm2 = eqx.nn.LayerNorm(features), eqx.nn.LayerNorm(features)
        self.attention = eqx.nn.MultiheadAttention(heads, features, **biases, key=keys[0])
        self.up = eqx.nn.Linear(features, 4 * features, key=keys[1])
        self.down = eqx.nn.Linear(4 * features, features, key=keys[2])
        self.causal = causal

    def __call__(self, x, key=None):
        y = jax.vmap(self.norm1)(x)
        mask = jnp.tril(jnp.ones((len(x), len(x)), bool)) if self.causal else None
        x = x + self.attention(y, y, y, mask)
        y = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norm2)(x)))
        return x + jax.vmap(self.down)(y)
""",
}


def layers(part: w.Part, sequence: bool) -> list[str]:
    """The layers of a part, the one with the arrays first: for one example, channels first."""
    each = "Each({})" if sequence else "{}"
    if isinstance(part, w.Dense):
        return [each.format(f"eqx.nn.Linear({part.inputs}, {part.outputs}, key=next(keys))"), *activation(part)]
    if isinstance(part, w.Conv):
        options = f", stride={part.stride}" * (part.stride != 1) + f", padding={part.padding}" * (part.padding != 0)
        options += ", use_bias=False" * (not part.bias)
        sizes = f"{part.inputs}, {part.outputs}, {part.kernel}"
        return [f"eqx.nn.Conv2d({sizes}{options}, key=next(keys))", *activation(part)]
    if isinstance(part, w.Block):
        return [f"Block({part.features}, {part.heads}, causal={part.causal}, key=next(keys))"]
    if isinstance(part, (w.LSTM, w.Embedding, w.Positions)):
        first, second = programs.sizes(part)
        return {
            w.LSTM: [f"LSTM({first}, {second}, key=next(keys))"],
            w.Embedding: [f"Each(eqx.nn.Embedding({first}, {second}, key=next(keys)))"],
            w.Positions: [f"Positions({first}, {second})"],
        }[type(part)]
    return {
        w.MaxPool: ["eqx.nn.MaxPool2d(2, 2)"],
        w.Dropout: [f"eqx.nn.Dropout({getattr(part, 'rate', 0)})"],
        w.Flatten: ["eqx.nn.Lambda(jnp.ravel)"],
        w.LastStep: ["eqx.nn.Lambda(last_step)"],
        w.LayerNorm: [f"Each(eqx.nn.LayerNorm({getattr(part, 'features', 0)}))"],
    }[type(part)]


def activation(part: w.Dense | w.Conv) -> list[str]:
    return {"relu": ["eqx.nn.Lambda(jax.nn.relu)"], "tanh": ["eqx.nn.Lambda(jnp.tanh)"], "": []}[part.activation]


def grouped(workload: w.Workload) -> list[list[str]]:
    return [layers(part, sequence=programs.is_text(workload)) for part in workload.network]


STILL = "\n    model = eqx.nn.inference_mode(model)"


def program(workload: w.Workload, mode: str) -> str:
    kinds = programs.kinds(workload)
    lines = [line for group in grouped(workload) for line in group]
    used = kinds | ({"sequence"} if any("Each(" in line for line in lines) else set())
    classes = [text for kind, text in CLASSES.items() if kind in used]
    count = sum("next(keys)" in line for line in lines)
    built = f"""
keys = iter(jax.random.split(jax.random.key(0), {count}))
model = eqx.nn.Sequential(
    [
{programs.listed(lines, 8)}
    ]
)
""".strip()
    needs_numpy = any("jnp." in text for text in (*classes, *lines))
    start = "import equinox as eqx\nimport jax\n"
    if not workload.training:
        return programs.joined(
            start + ("import jax.numpy as jnp" if needs_numpy else ""),
            *classes,
            f"{built}\nmodel = eqx.nn.inference_mode(model)",
            "@eqx.filter_jit\ndef predict(model, x):\n    return jax.vmap(model)(x)",
        )
    random = w.Dropout in kinds
    if random:
        training, carried, still = "batch, model, state, key", "    global key\n", STILL
        outputs = "jax.vmap(lambda x, key: model(x, key=key))(x, keys)"
        differentiated = f"""
    keys = jax.random.split(key, len(x))

    @eqx.filter_value_and_grad
    def value_and_grad(model):
        return loss({outputs}, y)

    value, grads = value_and_grad(model)"""
    else:
        training, carried, still = "batch, model, state", "", ""
        differentiated = """
    value, grads = eqx.filter_value_and_grad(lambda model: loss(jax.vmap(model)(x), y))(model)"""
    drawn = "\n        key, own = jax.random.split(key)" if random else ""
    return programs.joined(
        f"{start}import jax.numpy as jnp\nimport numpy as np\nimport optax",
        *classes,
        f"""
{built}
optimizer = {programs.optax_rule(workload.optimizer)}
state = optimizer.init(eqx.filter(model, eqx.is_inexact_array)){chr(10) + "key = jax.random.key(1)" if random else ""}
""",
        programs.optax_loss(workload).replace("nnx.", "jax.nn."),
        f"""
@eqx.filter_jit(donate="all-except-first")
def step({training}):
    x, y = batch{differentiated}
    updates, state = optimizer.update(grads, state)
    return eqx.apply_updates(model, updates), state, value
""",
        f"""
def train(model, state, batches):
{carried}    losses = []
    for batch in batches:{drawn}
        model, state, loss = step(batch, model, state{", own" if random else ""})
        losses.append(loss)
    return model, state, losses
""",
        f"""
def fit(model, state, x, y, epochs, size={workload.batch}):
    random = np.random.default_rng()
    for _ in range(epochs):
        order = random.permutation(len(x))[: len(x) // size * size].reshape(-1, size)
        model, state, _ = train(model, state, ((x[rows], y[rows]) for rows in order))
    return model, state
""",
        f"""
@eqx.filter_jit
def score(model, x, y):
    outputs = jax.vmap(model)(x)
    cross_entropy = {programs.OPTAX_LOSS}
    return jnp.stack([cross_entropy, (outputs.argmax(-1) == y).mean()])
""",
        f"""
def evaluate(model, batches):{still}
    scores, sizes = zip(*[(score(model, x, y), len(x)) for x, y in batches])
    return np.average(scores, axis=0, weights=sizes)
""",
    )


# --------------------------------------------------------------------------------------------- the glue


def load(part: w.Part, layer: Any, own: dict[str, np.ndarray]) -> Any:
    """A layer with the arrays of a part."""
    if hasattr(layer, "layer"):
        return put(layer, "layer", load(part, layer.layer, own))
    if isinstance(part, w.Dense):
        return linear(layer, own["weight"], own["bias"])
    if isinstance(part, w.Conv):
        layer = put(layer, "weight", own["weight"].transpose(3, 2, 0, 1))
        return put(layer, "bias", own["bias"].reshape(layer.bias.shape)) if part.bias else layer
    if isinstance(part, w.LSTM):
        cell = put(layer.cell, "weight_ih", own["weight"].T)
        return put(layer, "cell", put(put(cell, "weight_hh", own["recurrent_weight"].T), "bias", own["bias"]))
    if isinstance(part, (w.Embedding, w.Positions)):
        return put(layer, "weight", own["weight"])
    if isinstance(part, w.LayerNorm):
        return put(put(layer, "weight", own["scale"]), "bias", own["bias"])
    if isinstance(part, w.Block):
        for name in ("norm1", "norm2"):
            layer = put(layer, name, load(w.LayerNorm(part.features), getattr(layer, name), strip(own, name)))
        for name in ("up", "down"):
            layer = put(layer, name, linear(getattr(layer, name), own[f"{name}.weight"], own[f"{name}.bias"]))
        attention = layer.attention
        for name in ("query", "key", "value", "out"):
            theirs = {"out": "output_proj"}.get(name, f"{name}_proj")
            loaded = linear(getattr(attention, theirs), own[f"{name}.weight"], own[f"{name}.bias"])
            attention = put(attention, theirs, loaded)
        return put(layer, "attention", attention)
    return layer


def strip(own: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.partition(".")[2]: array for key, array in own.items() if key.startswith(f"{name}.")}


def linear(layer: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    return put(put(layer, "weight", weight.T), "bias", bias)


def put(layer: Any, name: str, value: Any) -> Any:
    """A copy of the layer with another array, or another layer, in the place of that name."""
    import equinox
    import jax.numpy as jnp

    value = jnp.array(value) if isinstance(value, np.ndarray) else value
    return equinox.tree_at(lambda layer: getattr(layer, name), layer, value)


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import equinox
        import jax

        self.jax, self.eqx, self.workload = jax, equinox, workload
        self.images = len(workload.shape) == 3
        self.program = programs.execute(program(workload, mode), f"{workload.name} in Equinox, {mode}")
        loaded = list(self.program.model.layers)
        place = 0
        for (part, own), group in zip(programs.owned(workload, weights, channels_first=True), grouped(workload)):  # noqa: B905
            loaded[place] = load(part, loaded[place], own)
            place += len(group)
        self.model = self.eqx.tree_at(lambda model: model.layers, self.program.model, tuple(loaded))
        self.state = self.program.state if workload.training else None

    def inputs(self, x: np.ndarray) -> Any:
        return self.jax.numpy.asarray(x.transpose(0, 3, 1, 2) if self.images else x)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.inputs(x), self.jax.numpy.asarray(y)) for x, y in batches]

    def losses(self, batches: list[Any]) -> np.ndarray:
        self.model, self.state, losses = self.program.train(self.model, self.state, batches)
        self.jax.block_until_ready(self.state)
        return np.array(losses)

    train = losses

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if self.images else x
        self.model, self.state = self.program.fit(self.model, self.state, x, y, count)
        self.jax.block_until_ready(self.state)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        batches = programs.thousands(x, y)
        return self.program.evaluate(self.model, ((self.inputs(x), y) for x, y in batches))

    def forward(self, x: Any) -> Any:
        if not self.workload.training:
            return self.program.predict(self.model, x).block_until_ready()
        return self.jax.vmap(self.eqx.nn.inference_mode(self.model))(x)

    def restart(self) -> None:
        self.state = self.program.optimizer.init(self.eqx.filter(self.model, self.eqx.is_inexact_array))
