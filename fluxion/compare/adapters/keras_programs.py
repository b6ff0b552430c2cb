"""What the Keras adapters share: one program, whichever of its backends runs it, or Fluxion in Keras' style.

`fit` is the way of Keras' documentation. On TensorFlow there is a loop inside one `tf.function`, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parts as w
from .. import programs
from . import fluxion_programs

FIT = {"fit": "model.fit", "fit jit": "model.fit, with jit_compile=True"}
INFER = {"call": "the compiled model", "predict_on_batch": "model.predict_on_batch"}
GRAPH = {"graph": "the whole epoch is one tf.function", "graph xla": "the same, with its step compiled by XLA"}


def supports(workload: w.Workload, mode: str) -> bool | str:
    if (mode in INFER) == workload.training or (workload.kind == "start" and mode != "fit"):
        return "another way is meant for that"
    if mode.endswith(("jit", "xla")) and workload.has_convolution:
        return "XLA's convolutions are slower than TensorFlow's on CPUs"
    if mode == "fit jit" and workload.kind != "compare":
        return "`graph xla` is faster"
    return not workload.penalty or "a penalty is not written here"


# ----------------------------------------------------------------------------------------- the program

CLASSES = {
    w.Positions: """
class Positions(layers.Layer):
    def build(self, shape):
        self.rows = self.add_weight(shape=shape[1:])

    def call(self, x):
        return x + self.rows
""",
    w.Residual: """
class Residual(layers.Layer):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.pad1, self.pad2 = layers.ZeroPadding2D(1), layers.ZeroPadding2D(1)
        self.conv1 = layers.Conv2D(outputs, 3, strides=stride, use_bias=False)
        self.norm1 = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        self.conv2 = layers.Conv2D(outputs, 3, use_bias=False)
        self.norm2 = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        self.projected = inputs != outputs or stride != 1
        if self.projected:
            self.conv3 = layers.Conv2D(outputs, 1, strides=stride, use_bias=False)
            self.norm3 = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)

    def call(self, x, training=None):
        y = ops.relu(self.norm1(self.conv1(self.pad1(x)), training=training))
        y = self.norm2(self.conv2(self.pad2(y)), training=training)
        return ops.relu(y + (self.norm3(self.conv3(x), training=training) if self.projected else x))
""",
    w.Block: """
class Block(layers.Layer):
    def __init__(self, features, heads, causal):
        super().__init__()
        self.causal = causal
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attention = layers.MultiHeadAttention(heads, features // heads)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.up = layers.Dense(4 * features, activation=lambda x: ops.gelu(x, approximate=True))
        self.down = layers.Dense(features)

    def call(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, use_causal_mask=self.causal)
        return x + self.down(self.up(self.norm2(x)))
""",
}
ADAM = '''
class Adam(keras.optimizers.Adam):
    """With epsilon outside of the bias correction, as in the paper and in the other frameworks."""

    def update_step(self, gradient, variable, learning_rate):{dense}
        step = ops.cast(self.iterations + 1, variable.dtype)
        kept, self.epsilon = self.epsilon, self.epsilon * ops.sqrt(1 - ops.power(self.beta_2, step))
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = kept
'''


DENSE = """
        # That of an embedding comes in pieces, with some rows twice.
        gradient = tf.convert_to_tensor(gradient)"""


def made(part: w.Part, after: w.Part | None) -> list[str]:
    """The layers of a part; `after` is the part that comes next."""
    if isinstance(part, (w.Dense, w.Conv)):
        options = f', activation="{part.activation}"' if part.activation else ""
        if isinstance(part, w.Dense):
            return [f"layers.Dense({part.outputs}{options})"]
        options += ", use_bias=False" * (not part.bias)
        if part.stride == 1:
            same = ', padding="same"' * part.same
            return [f"layers.Conv2D({part.outputs}, {part.kernel}{same}{options})"]
        padded = [f"layers.ZeroPadding2D({part.padding})"] if part.same else []  # "same" would put more on one side
        return [*padded, f"layers.Conv2D({part.outputs}, {part.kernel}, strides={part.stride}{options})"]
    if isinstance(part, w.BatchNorm):
        return ["layers.BatchNormalization(momentum=0.9, epsilon=1e-5)", "layers.ReLU()"]
    if isinstance(part, w.Residual):
        return [f"Residual({part.inputs}, {part.outputs}{f', {part.stride}' * (part.stride != 1)})"]
    if isinstance(part, w.LSTM):
        return [f"layers.LSTM({part.outputs}{', return_sequences=True' * (not isinstance(after, w.LastStep))})"]
    if isinstance(part, w.Embedding):
        return [f"layers.Embedding({part.vocabulary}, {part.features})"]
    if isinstance(part, w.Block):
        last = ["layers.Lambda(lambda x: x[:, -1])"] if isinstance(after, w.LastStep) else []
        return [f"Block({part.features}, {part.heads}, causal={part.causal})", *last]
    return {
        w.MaxPool: ["layers.MaxPooling2D(2)"],
        w.Flatten: ["layers.Flatten()"],
        w.Dropout: [f"layers.Dropout({getattr(part, 'rate', 0)})"],
        w.SpatialMean: ["layers.GlobalAveragePooling2D()"],
        w.LastStep: [],
        w.Positions: ["Positions()"],
        w.LayerNorm: ["layers.LayerNormalization(epsilon=1e-5)"],
    }[type(part)]


def grouped(workload: w.Workload) -> list[list[str]]:
    return [made(part, after) for part, after in zip(workload.network, (*workload.network[1:], None))]  # noqa: B905


def optimizer(rule: w.Optimizer) -> str:
    if isinstance(rule, w.Adam):
        betas = programs.betas(rule, ", {}, {}")
        return f"Adam({programs.number(rule.rate)}{betas}, epsilon={programs.number(rule.epsilon)})"
    momentum = f", momentum={programs.number(rule.rho)}" if isinstance(rule, w.Momentum) else ""
    return f"keras.optimizers.SGD({programs.number(rule.rate)}{momentum})"


def losses(workload: w.Workload) -> tuple[str, str]:
    """A section before the model, and the loss."""
    if workload.loss == "cross entropy":
        return "", "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
    # Keras looks through a softmax that it is given, and would apply one only: the product hides it.
    text = "ops.sparse_categorical_crossentropy(y, 1.0 * ops.softmax(outputs), from_logits=True)"
    if workload.loss == "squared error of softmax":
        text = f"ops.mean((ops.softmax(outputs) - ops.one_hot(y, {workload.classes})) ** 2, axis=-1)"
    return f"def loss(y, outputs):\n    return {text}", "loss"


def program(workload: w.Workload, mode: str, backend: str) -> str:
    kinds = programs.kinds(workload)
    classes = [text for kind, text in CLASSES.items() if kind in kinds]
    integers = ', dtype="int32"' if programs.is_text(workload) else ""
    lines = [f"keras.Input({workload.shape}{integers})", *(line for group in grouped(workload) for line in group)]
    model = f"model = keras.Sequential(\n    [\n{programs.listed(lines, 8)}\n    ]\n)"
    if not workload.training:
        call = "def predict(x):\n    return model.predict_on_batch(x)"
        before = more = ""
        if mode == "call" and backend == "tensorflow":
            more = "\nimport tensorflow as tf"
            call = "@tf.function\ndef predict(x):\n    return model(x, training=False)"
        elif mode == "call":
            before = "import jax\n"
            call = """
@jax.jit
def forward(own, others, x):
    return model.stateless_call(own, others, x, training=False)[0]


own, others = ([v.value for v in variables] for variables in (model.trainable_variables, model.non_trainable_variables))


def predict(x):
    return forward(own, others, x)
"""
        return headed(f"{before}import keras{more}\nfrom keras import layers", *classes, model, call)
    rule = optimizer(workload.optimizer)
    if backend == "fluxion":
        rule = fluxion_programs.optimizer(workload.optimizer)
    elif isinstance(workload.optimizer, w.Adam):
        pieces = backend == "tensorflow" and programs.is_text(workload) and not mode.startswith("graph")
        classes.append(ADAM.replace("{dense}", DENSE if pieces else ""))
    before, loss = losses(workload)
    if mode.startswith("graph"):
        return graph(workload, classes, model, before, loss, xla=mode == "graph xla")
    arguments = [rule, loss]
    if backend != "fluxion":  # which always compiles
        arguments.append(f"jit_compile={mode == 'fit jit' or backend == 'jax'}")
    compiled = f"model.compile({', '.join(arguments)})"
    if len(compiled) > 110:
        compiled = f"model.compile(\n{programs.listed(arguments)}\n)"
    dense = any("tf." in section for section in classes)
    imports = f"import keras{chr(10) + 'import tensorflow as tf' if dense else ''}\nfrom keras import layers"
    if backend == "fluxion":
        own = "fluxion.dialects"
        imports = f"import fluxion as fx\nfrom {own} import keras\nfrom {own}.keras import layers"
    return headed(
        imports,
        *classes,
        before,
        f"{model}\n{compiled}",
        f"""
def train(x, y):
    model.fit(x, y, batch_size={workload.batch}, shuffle=False, verbose=0)
""",
        f"""
def fit(x, y, epochs):
    model.fit(x, y, batch_size={workload.batch}, epochs=epochs, verbose=0)
""",
        EVALUATE,
    )


EVALUATE = """
def evaluate(x, y):
    outputs = model.predict(x, batch_size=1000, verbose=0)
    loss = keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)
    return float(ops.mean(loss)), float((outputs.argmax(-1) == y).mean())
"""


def graph(workload: w.Workload, classes: list[str], model: str, before: str, loss: str, xla: bool) -> str:
    """A loop of training steps as one TensorFlow graph, which gathers its batches from the whole tensors."""
    cross = "cross_entropy" if loss != "loss" else "mean_loss"
    own = f"cross_entropy = {loss}"
    if loss == "loss":
        own = "def mean_loss(y, outputs):\n    return ops.mean(loss(y, outputs))"
    return headed(
        "import keras\nimport tensorflow as tf\nfrom keras import layers",
        *classes,
        before,
        f"{model}\noptimizer = {optimizer(workload.optimizer)}\noptimizer.build(model.trainable_variables)"
        + (f"\n{own}" if loss != "loss" else f"\n\n\n{own}"),
        f"""
@tf.function{"(jit_compile=True)" if xla else ""}
def step(x, y):
    with tf.GradientTape() as tape:
        loss = {cross}(y, model(x, training=True))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    optimizer.apply([tf.convert_to_tensor(g) for g in gradients], variables)
    return loss
""",
        f"""
@tf.function
def epoch(x, y, order, size={workload.batch}):
    loss = tf.zeros(())
    for i in tf.range(tf.shape(order)[0] // size):
        rows = order[i * size : (i + 1) * size]
        batch = tf.ensure_shape(tf.gather(x, rows), (size, *x.shape[1:]))
        loss = step(batch, tf.gather(y, rows))
    return loss
""",
        """
def train(x, y):
    return epoch(x, y, tf.range(len(x)))
""",
        """
def fit(x, y, epochs):
    x, y = tf.constant(x), tf.constant(y)
    for _ in range(epochs):
        epoch(x, y, tf.random.shuffle(tf.range(len(x))))
""",
        EVALUATE,
    )


def headed(imports: str, *sections: str) -> str:
    """The program, with `ops` imported if it is used."""
    if any("ops." in section for section in sections):
        imports = imports.replace("import layers", "import layers, ops")
    return programs.joined(imports, *sections)


# --------------------------------------------------------------------------------------------- the glue


def loaded(part: w.Part, own: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays of a part in Keras' order and shapes."""
    if isinstance(part, w.BatchNorm):
        return [own["scale"], own["bias"], np.zeros_like(own["bias"]), np.ones_like(own["scale"])]
    if isinstance(part, w.Residual):
        arrays = []
        for i in part.convolutions:
            scale, bias = own[f"norm{i}.scale"], own[f"norm{i}.bias"]
            arrays += [own[f"conv{i}.weight"], scale, bias, np.zeros_like(bias), np.ones_like(scale)]
        return arrays
    if isinstance(part, w.Block):
        arrays = []
        for name, array in own.items():
            projection = name.partition(".")[0]
            if projection in ("query", "key", "value"):  # (in, heads, features)
                array = array.reshape(*array.shape[:-1], part.heads, -1)
            elif name == "out.weight":
                array = array.reshape(part.heads, -1, part.features)
            arrays.append(array)
        return arrays
    return list(own.values())


def variables(part: w.Part, layer: Any) -> list[Any]:
    """The variables of a layer in the order of `loaded`."""
    if isinstance(part, w.Residual):
        inner = [getattr(layer, f"{kind}{i}") for i in part.convolutions for kind in ("conv", "norm")]
    elif isinstance(part, w.Block):
        inner = [layer.norm1, layer.attention, layer.norm2, layer.up, layer.down]
    else:
        inner = [layer]
    return [variable for one in inner for variable in one.weights if "seed" not in variable.path]


class Session:
    """`BACKEND` is set by the adapter of each backend."""

    BACKEND = ""

    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.keras, self.workload, self.mode = self.package(), workload, mode
        self.graph = mode.startswith("graph")
        text = program(workload, mode, self.BACKEND)
        self.program = programs.execute(text, f"{workload.name} in Keras on {self.BACKEND}, {mode}")
        self.model = self.program.model
        layers = iter(self.model.layers)
        for (part, own), group in zip(programs.owned(workload, weights), grouped(workload)):  # noqa: B905
            of_part = [next(layers) for _ in group]
            if own:
                holder = next(layer for layer in of_part if layer.weights)
                for variable, array in zip(variables(part, holder), loaded(part, own)):  # noqa: B905
                    variable.assign(array)

    @staticmethod
    def package() -> Any:
        import keras

        return keras

    def prepare(self, batches: list[Any]) -> list[Any]:
        return batches

    def losses(self, batches: list[Any]) -> np.ndarray:
        if self.graph:
            return np.array([float(self.program.step(*self.tensors(*batch))) for batch in batches])
        values = []
        for x, y in batches:
            self.model.reset_metrics()
            values.append(float(np.asarray(self.model.train_on_batch(x, y))))
        return np.array(values)

    def tensors(self, *arrays: np.ndarray) -> list[Any]:
        return [self.keras.ops.convert_to_tensor(array) for array in arrays]

    def train(self, batches: list[Any]) -> None:
        """Over the batches as one array: put together once, by the first call."""
        if getattr(self, "given", None) is not batches:
            self.given = batches
            self.joined = [np.concatenate(arrays) for arrays in zip(*batches)]  # noqa: B905
            if self.graph:
                self.joined = self.tensors(*self.joined)
        self.program.train(*self.joined)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        whole = len(x) // self.workload.batch * self.workload.batch
        self.program.fit(x[:whole], y[:whole], count)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        return self.program.evaluate(x, y)

    def inputs(self, x: np.ndarray) -> Any:
        return x if self.mode == "predict_on_batch" else self.keras.ops.convert_to_tensor(x)

    def forward(self, x: Any) -> Any:
        if self.workload.training:
            return self.keras.ops.convert_to_numpy(self.model(x, training=False))
        outputs = self.program.predict(x)
        return outputs.block_until_ready() if self.BACKEND == "jax" and self.mode == "call" else outputs

    def restart(self) -> None:
        rule = self.program.optimizer if self.graph else self.model.optimizer
        for variable in rule.variables:
            if variable is not rule._learning_rate:
                variable.assign(self.keras.ops.zeros_like(variable))
