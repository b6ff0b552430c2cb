"""Keras 3, on JAX or TensorFlow as KERAS_BACKEND says: `fit`; on TensorFlow a loop inside one `tf.function`, too."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from .. import parts as w

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow
MODES = {"train": ("fit", "graph", "graph xla"), "infer": ("call", "predict_on_batch"), "start": ("fit",)}


def supports(workload: w.Workload, mode: str) -> bool:
    if mode == "graph xla":  # slower than without where it has to convolve
        return BACKEND == "tensorflow" and not workload.has_convolution
    return mode != "graph" or BACKEND == "tensorflow"


def versions() -> dict[str, str]:
    if BACKEND == "tensorflow":
        return {"keras": keras.__version__, "tensorflow": tensorflow.__version__}
    import jax

    return {"keras": keras.__version__, "jax (keras)": jax.__version__}


def threads(count: int) -> None:
    if BACKEND == "tensorflow":
        tensorflow.config.threading.set_intra_op_parallelism_threads(count)
        tensorflow.config.threading.set_inter_op_parallelism_threads(count)


def make(part: w.Part, x: Any) -> tuple[Any, list[Any]]:
    """The output of a part for the symbolic input `x`, and its layers with weights."""
    match part:
        case w.Dense():
            own = layers.Dense(part.outputs, activation=part.activation or None)
        case w.Conv():
            return conv(part, x)
        case w.MaxPool():
            own = layers.MaxPooling2D(2)
        case w.Flatten():
            own = layers.Flatten()
        case w.BatchNorm():
            own = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
            return layers.ReLU()(own(x)), [own]
        case w.Residual():
            return residual(part, x)
        case w.SpatialMean():
            own = layers.GlobalAveragePooling2D()
        case w.LSTM():
            own = layers.LSTM(part.outputs, return_sequences=True)
        case w.LastStep():
            return x[:, -1], []
        case w.Embedding():
            own = layers.Embedding(part.vocabulary, part.features)
        case w.Positions():
            own = Position()
        case w.LayerNorm():
            own = layers.LayerNormalization(epsilon=1e-5)
        case w.Block():
            return block(part, x)
    return own(x), [own]


def conv(part: w.Conv, x: Any) -> tuple[Any, list[Any]]:
    same = part.same and part.stride == 1
    if part.same and not same:  # as much on each side; "same" would put more on one
        x = layers.ZeroPadding2D(part.padding)(x)
    options = {"strides": part.stride, "padding": "same" if same else "valid", "use_bias": part.bias}
    own = layers.Conv2D(part.outputs, part.kernel, activation=part.activation or None, **options)
    return own(x), [own]


def residual(part: w.Residual, x: Any) -> tuple[Any, list[Any]]:
    owners: list[Any] = []

    def normed(i: str, x: Any) -> Any:
        y, own = conv(part.convolutions[i], x)
        norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        owners.extend([*own, norm])
        return norm(y)

    y = normed("2", layers.ReLU()(normed("1", x)))
    y = layers.Add()([y, normed("3", x) if "3" in part.convolutions else x])
    return layers.ReLU()(y), owners


class Position(layers.Layer):
    """A learned row for each position."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.rows = self.add_weight(shape=shape[1:])

    def call(self, x: Any) -> Any:
        return x + self.rows


class Adam(keras.optimizers.Adam):
    """With eps outside of the bias correction, as the others have it."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if BACKEND == "tensorflow":  # that of an embedding comes in pieces, with some rows twice
            gradient = tensorflow.convert_to_tensor(gradient)
        step = ops.cast(self.iterations + 1, variable.dtype)
        kept, self.epsilon = self.epsilon, self.epsilon * ops.sqrt(1 - ops.power(self.beta_2, step))
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = kept


def block(part: w.Block, x: Any) -> tuple[Any, list[Any]]:
    norms = [layers.LayerNormalization(epsilon=1e-5) for _ in range(2)]
    attention = layers.MultiHeadAttention(part.heads, part.features // part.heads)
    up = layers.Dense(4 * part.features, activation=lambda x: ops.gelu(x, approximate=True))
    down = layers.Dense(part.features)
    y = norms[0](x)
    x = x + attention(y, y, use_causal_mask=part.causal)
    x = x + down(up(norms[1](x)))
    return x, [norms[0], attention, norms[1], up, down]


def loaded(part: w.Part, own: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays of a part in Keras' order and shapes."""
    match part:
        case w.BatchNorm():
            return [own["scale"], own["bias"], np.zeros_like(own["bias"]), np.ones_like(own["scale"])]
        case w.Residual():
            arrays = []
            for i in part.convolutions:
                scale, bias = own[f"norm{i}.scale"], own[f"norm{i}.bias"]
                arrays += [own[f"conv{i}.weight"], scale, bias, np.zeros_like(bias), np.ones_like(scale)]
            return arrays
        case w.Block():
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


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.workload, self.mode = workload, mode
        kind = "int32" if isinstance(workload.network[0], w.Embedding) else "float32"
        x = start = keras.Input(workload.shape, dtype=kind)
        owners: list[list[Any]] = []
        for part in workload.network:
            x, own = make(part, x)
            owners.append(own)
        self.model = keras.Model(start, x)
        for i, (part, own) in enumerate(zip(workload.network, owners, strict=True)):
            arrays = loaded(part, {name: weights[f"{i}.{name}"] for name in part.shapes()})
            variables = [variable for layer in own for variable in layer.weights if "seed" not in variable.path]
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        optimizer: Any = Adam(1e-3, epsilon=1e-8)
        if isinstance(workload.optimizer, w.Momentum):
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        self.model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=BACKEND == "jax",
        )
        if mode.startswith("graph"):
            self.graph = Graph(self.model, workload.batch, xla=mode == "graph xla")

    def prepare(self, batches: list[Any]) -> list[Any]:
        return batches

    def losses(self, batches: list[Any]) -> np.ndarray:
        if self.mode.startswith("graph"):
            return np.array([float(self.graph.step(*self.graph.tensors(*batch))) for batch in batches])
        values = []
        for x, y in batches:
            self.model.reset_metrics()
            values.append(float(np.asarray(self.model.train_on_batch(x, y))))
        return np.array(values)

    def train(self, batches: list[Any]) -> None:
        """`fit` over the batches, as one array: put together once, by the first call."""
        if getattr(self, "given", None) is not batches:
            self.given = batches
            self.joined = [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
            if self.mode.startswith("graph"):
                self.joined = self.graph.tensors(*self.joined)
        if self.mode.startswith("graph"):
            self.graph.loop(*self.joined, tensorflow.range(len(self.joined[0])))
            return
        self.model.fit(*self.joined, batch_size=self.workload.batch, shuffle=False, verbose=0)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        if self.mode.startswith("graph"):
            tensors = self.graph.tensors(x, y)
            for _ in range(count):
                self.graph.loop(*tensors, tensorflow.random.shuffle(tensorflow.range(len(x))))
            return
        whole = len(x) // self.workload.batch * self.workload.batch
        self.model.fit(x[:whole], y[:whole], batch_size=self.workload.batch, epochs=count, verbose=0)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        outputs = self.model.predict(x, batch_size=1000, verbose=0)
        loss = keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)
        return float(np.asarray(loss).mean()), float((outputs.argmax(-1) == y).mean())

    def inputs(self, x: np.ndarray) -> Any:
        if self.mode == "predict_on_batch":
            return x
        self.call = compiled(self.model)
        return ops.convert_to_tensor(x)

    def forward(self, x: Any) -> Any:
        return self.model.predict_on_batch(x) if self.mode == "predict_on_batch" else self.call(x)


class Graph:
    """A loop of training steps as one TensorFlow graph, which gathers its batches from the whole tensors."""

    def __init__(self, model: Any, size: int, xla: bool) -> None:
        cross = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = model.optimizer
        optimizer.build(model.trainable_variables)

        @tensorflow.function(jit_compile=xla)
        def step(x: Any, y: Any) -> Any:
            with tensorflow.GradientTape() as tape:
                loss = cross(y, model(x, training=True))
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
            return loss

        @tensorflow.function
        def loop(x: Any, y: Any, order: Any) -> Any:
            loss = tensorflow.zeros(())
            for i in tensorflow.range(tensorflow.shape(order)[0] // size):
                rows = order[i * size : (i + 1) * size]
                batch = tensorflow.ensure_shape(tensorflow.gather(x, rows), (size, *x.shape[1:]))
                loss = step(batch, tensorflow.gather(y, rows))
            return loss

        self.step, self.loop = step, loop

    def tensors(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        return tensorflow.constant(x), tensorflow.constant(y)


def compiled(model: Any) -> Any:
    if BACKEND == "tensorflow":
        return tensorflow.function(lambda x: model(x, training=False))
    import jax

    variables = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
    call = jax.jit(lambda own, others, x: model.stateless_call(own, others, x, training=False)[0])
    return lambda x: call(*variables, x).block_until_ready()
