"""Flax NNX: a jitted step, and the same with `cached_partial`, which walks through the model only once."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

NAME = "flax"
TITLE = "Flax NNX"
NEEDS = ("flax", "optax")
PIP = ("flax", "optax", "numpy")
ENVIRONMENT: dict[str, str] = {}
MODES = {"jit": "nnx.jit", "cached_partial": "nnx.jit and nnx.cached_partial, which walks through the model once"}


def supports(workload: w.Workload, mode: str) -> bool | str:
    return not workload.penalty or "a penalty is not written here"


def versions() -> dict[str, str]:
    import flax
    import jax
    import optax

    return {"flax": flax.__version__, "optax": optax.__version__, "jax (flax)": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


# ----------------------------------------------------------------------------------------- the program

CLASSES = {
    w.Positions: """
class Positions(nnx.Module):
    def __init__(self, length, features, rngs):
        self.rows = nnx.Embed(length, features, rngs=rngs)

    def __call__(self, x):
        return x + self.rows(jnp.arange(x.shape[1]))
""",
    w.Residual: """
class Residual(nnx.Module):
    def __init__(self, inputs, outputs, stride=1, *, rngs):
        norm = dict(momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.conv1 = nnx.Conv(inputs, outputs, (3, 3), strides=stride, padding=1, use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(outputs, **norm)
        self.conv2 = nnx.Conv(outputs, outputs, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(outputs, **norm)
        self.projected = inputs != outputs or stride != 1
        if self.projected:
            self.conv3 = nnx.Conv(inputs, outputs, (1, 1), strides=stride, padding=0, use_bias=False, rngs=rngs)
            self.norm3 = nnx.BatchNorm(outputs, **norm)

    def __call__(self, x):
        y = self.norm2(self.conv2(nnx.relu(self.norm1(self.conv1(x)))))
        return nnx.relu(y + (self.norm3(self.conv3(x)) if self.projected else x))
""",
    w.Block: """
class Block(nnx.Module):
    def __init__(self, features, heads, causal, rngs):
        self.causal = causal
        self.norm1 = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs)
        self.norm2 = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, features, decode=False, rngs=rngs)
        self.up = nnx.Linear(features, 4 * features, rngs=rngs)
        self.down = nnx.Linear(4 * features, features, rngs=rngs)

    def __call__(self, x):
        mask = nnx.make_causal_mask(jnp.ones(x.shape[:2])) if self.causal else None
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))
""",
    w.MaxPool: """
def max_pool(x):
    return nnx.max_pool(x, (2, 2), (2, 2))
""",
    w.Flatten: """
def flatten(x):
    return x.reshape(len(x), -1)
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


def layers(part: w.Part) -> list[str]:
    """The layers of a part, the one with the arrays first."""
    if isinstance(part, w.Dense):
        return [f"nnx.Linear({part.inputs}, {part.outputs}, rngs=rngs)", *activation(part)]
    if isinstance(part, w.Conv):
        options = f", strides={part.stride}" * (part.stride != 1) + f", padding={part.padding}"
        options += ", use_bias=False" * (not part.bias)
        kernel = f"({part.kernel}, {part.kernel})"
        return [f"nnx.Conv({part.inputs}, {part.outputs}, {kernel}{options}, rngs=rngs)", *activation(part)]
    if isinstance(part, w.BatchNorm):
        return [f"nnx.BatchNorm({part.channels}, momentum=0.9, epsilon=1e-5, rngs=rngs)", "nnx.relu"]
    if isinstance(part, w.Residual):
        return [f"Residual({part.inputs}, {part.outputs}{f', {part.stride}' * (part.stride != 1)}, rngs=rngs)"]
    if isinstance(part, w.LSTM):
        return [f"nnx.RNN(nnx.OptimizedLSTMCell({part.inputs}, {part.outputs}, rngs=rngs))"]
    if isinstance(part, w.Block):
        return [f"Block({part.features}, {part.heads}, causal={part.causal}, rngs=rngs)"]
    if isinstance(part, (w.Embedding, w.Positions)):
        name = "nnx.Embed" if isinstance(part, w.Embedding) else "Positions"
        first, second = programs.sizes(part)
        return [f"{name}({first}, {second}, rngs=rngs)"]
    return {
        w.MaxPool: ["max_pool"],
        w.Flatten: ["flatten"],
        w.SpatialMean: ["spatial_mean"],
        w.LastStep: ["last_step"],
        w.Dropout: [f"nnx.Dropout({getattr(part, 'rate', 0)}, rngs=rngs)"],
        w.LayerNorm: [f"nnx.LayerNorm({getattr(part, 'features', 0)}, epsilon=1e-5, rngs=rngs)"],
    }[type(part)]


def activation(part: w.Dense | w.Conv) -> list[str]:
    return [f"nnx.{part.activation}"] if part.activation else []


def program(workload: w.Workload, mode: str) -> str:
    kinds = programs.kinds(workload)
    classes = [text for kind, text in CLASSES.items() if kind in kinds]
    listed = programs.listed(line for part in workload.network for line in layers(part))
    built = f"rngs = nnx.Rngs(0)\nmodel = nnx.Sequential(\n{listed}\n)"
    cached = mode == "cached_partial"
    if not workload.training:
        numpy = "import jax.numpy as jnp\n" if kinds & {w.Positions, w.Block} else ""
        call = "predict = nnx.cached_partial(forward, model)"
        if not cached:
            call = "def predict(x):\n    return forward(model, x)"
        return programs.joined(
            f"{numpy}from flax import nnx",
            *classes,
            f"{built}\nmodel.eval()",
            "@nnx.jit\ndef forward(model, x):\n    return model(x)",
            call,
        )
    optimizer = programs.optax_rule(workload.optimizer)
    given = "" if cached else "model, optimizer, "
    scored = "" if cached else "model, "
    switches = ["deterministic=True"] * (w.Dropout in kinds) + ["use_running_average=True"] * workload.has_batchnorm
    modal = bool(switches)
    if modal:
        scored = ""
    own = ""
    if modal:
        own += f"\nstill = nnx.view(model, {', '.join(switches)})"
    if cached:
        own += "\nstep = nnx.cached_partial(step, model, optimizer)"
        own += f"\nscore = nnx.cached_partial(score, {'still' if modal else 'model'})"
    elif modal:
        scored = "still, "
    return programs.joined(
        "import jax.numpy as jnp\nimport numpy as np\nimport optax\nfrom flax import nnx",
        *classes,
        f"{built}\noptimizer = nnx.Optimizer(model, {optimizer}, wrt=nnx.Param)",
        programs.optax_loss(workload),
        """
@nnx.jit
def step(model, optimizer, x, y):
    value, grads = nnx.value_and_grad(lambda model: loss(model(x), y))(model)
    optimizer.update(model, grads)
    return value
""",
        f"""
@nnx.jit
def score(model, x, y):
    outputs = model(x)
    cross_entropy = {programs.OPTAX_LOSS}
    return jnp.stack([cross_entropy, (outputs.argmax(-1) == y).mean()])
"""
        + ("\n" + own if own else ""),
        f"""
def train(batches):
    return [step({given}x, y) for x, y in batches]
""",
        programs.fit_in_numpy(workload),
        f"""
def evaluate(batches):
    scores, sizes = zip(*[(score({scored}x, y), len(x)) for x, y in batches])
    return np.average(scores, axis=0, weights=sizes)
""",
    )


# --------------------------------------------------------------------------------------------- the glue


def load(part: w.Part, layer: Any, own: dict[str, np.ndarray]) -> None:
    if isinstance(part, (w.Dense, w.Conv)):
        put(layer, **{{"weight": "kernel"}.get(name, name): array for name, array in own.items()})
    elif isinstance(part, w.Residual):
        for i in part.convolutions:
            put(getattr(layer, f"conv{i}"), kernel=own[f"conv{i}.weight"])
            put(getattr(layer, f"norm{i}"), scale=own[f"norm{i}.scale"], bias=own[f"norm{i}.bias"])
    elif isinstance(part, (w.BatchNorm, w.LayerNorm)):
        put(layer, scale=own["scale"], bias=own["bias"])
    elif isinstance(part, w.LSTM):
        put(layer.cell.dense_i, kernel=own["weight"])
        put(layer.cell.dense_h, kernel=own["recurrent_weight"], bias=own["bias"])
    elif isinstance(part, w.Embedding):
        put(layer, embedding=own["weight"])
    elif isinstance(part, w.Positions):
        put(layer.rows, embedding=own["weight"])
    elif isinstance(part, w.Block):
        for name in ("norm1", "norm2"):
            put(getattr(layer, name), scale=own[f"{name}.scale"], bias=own[f"{name}.bias"])
        for name in ("up", "down"):
            put(getattr(layer, name), kernel=own[f"{name}.weight"], bias=own[f"{name}.bias"])
        for name in ("query", "key", "value", "out"):
            put(getattr(layer.attention, name), kernel=own[f"{name}.weight"], bias=own[f"{name}.bias"])


def put(layer: Any, **arrays: np.ndarray) -> None:
    import jax.numpy as jnp

    for name, array in arrays.items():
        variable = getattr(layer, name)
        variable.value = jnp.asarray(array.reshape(variable.value.shape))


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import jax
        from flax import nnx

        self.jax, self.nnx, self.workload, self.mode = jax, nnx, workload, mode
        self.program = programs.execute(program(workload, mode), f"{workload.name} in Flax, {mode}")
        place = 0
        for part, own in programs.owned(workload, weights):
            load(part, self.program.model.layers[place], own)
            place += len(layers(part))

    def inputs(self, x: np.ndarray) -> Any:
        return self.jax.numpy.asarray(x)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.inputs(x), self.inputs(y)) for x, y in batches]

    def losses(self, batches: list[Any]) -> np.ndarray:
        losses = self.program.train(batches)
        self.jax.block_until_ready(self.nnx.state(self.program.model))
        return np.array(losses)

    train = losses

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        self.program.fit(x, y, count)
        self.jax.block_until_ready(self.nnx.state(self.program.model))

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        return self.program.evaluate(programs.thousands(x, y))

    def forward(self, x: Any) -> Any:
        if not self.workload.training:
            return self.program.predict(x).block_until_ready()
        return getattr(self.program, "still", self.program.model)(x)

    def restart(self) -> None:
        zeros = self.jax.tree.map(self.jax.numpy.zeros_like, self.nnx.state(self.program.optimizer))
        self.nnx.update(self.program.optimizer, zeros)
