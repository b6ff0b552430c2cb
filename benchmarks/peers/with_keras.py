"""Keras 3, on JAX or TensorFlow as KERAS_BACKEND says: `fit`, with XLA or without."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import workloads as w
from keras import layers, ops

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow
MODES = {"train": ("fit", "fit xla"), "infer": ("call", "predict_on_batch")}


def supports(workload: w.Workload, mode: str) -> bool:
    return mode != "fit xla" or BACKEND == "tensorflow"  # on JAX there is nothing else


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
            padding = "same" if part.same else "valid"
            own = layers.Conv2D(part.outputs, part.kernel, activation=part.activation or None, padding=padding)
        case w.MaxPool():
            own = layers.MaxPooling2D(2)
        case w.Flatten():
            own = layers.Flatten()
        case w.BatchNorm():
            own = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
            return layers.ReLU()(own(x)), [own]
        case w.SpatialMean():
            own = layers.GlobalAveragePooling2D()
        case w.LSTM():
            own = layers.LSTM(part.outputs, return_sequences=True)
        case w.LastStep():
            return x[:, -1], []
        case w.Embedding():
            token = layers.Embedding(part.vocabulary, part.features)
            position = Position()
            return position(token(x)), [token, position]
        case w.LayerNorm():
            own = layers.LayerNormalization(epsilon=1e-5)
        case w.Block():
            return block(part, x)
    return own(x), [own]


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
        if workload.optimizer == "momentum":
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        self.model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=mode != "fit" or BACKEND == "jax",
        )

    def prepare(self, batches: list[Any]) -> list[Any]:
        return batches

    def losses(self, batches: list[Any]) -> np.ndarray:
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
        self.model.fit(*self.joined, batch_size=self.workload.batch, shuffle=False, verbose=0)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        whole = len(x) // self.workload.batch * self.workload.batch
        self.model.fit(x[:whole], y[:whole], batch_size=self.workload.batch, epochs=count, verbose=0)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> float:
        right = self.model.predict(x, batch_size=1000, verbose=0).argmax(-1) == y
        return float(right.mean())

    def inputs(self, x: np.ndarray) -> Any:
        if self.mode == "predict_on_batch":
            return x
        self.call = compiled(self.model)
        return ops.convert_to_tensor(x)

    def forward(self, x: Any) -> Any:
        return self.model.predict_on_batch(x) if self.mode == "predict_on_batch" else self.call(x)


def compiled(model: Any) -> Any:
    if BACKEND == "tensorflow":
        return tensorflow.function(lambda x: model(x, training=False))
    import jax

    variables = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
    call = jax.jit(lambda own, others, x: model.stateless_call(own, others, x, training=False)[0])
    return lambda x: call(*variables, x).block_until_ready()
