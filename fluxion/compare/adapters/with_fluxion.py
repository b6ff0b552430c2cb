"""Fluxion: `train` over batches or a DataLoader, and `fit`."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import fluxion as fx

from .. import parts as w

# The iterator in Knet's style is to be one more mode of training, where "fit accuracy" is.
MODES = {"train": ("train", "fit", "fit accuracy"), "infer": ("jit", "predict"), "start": ("train", "fit")}


def supports(workload: w.Workload, mode: str) -> bool:
    return mode != "fit accuracy" or workload.name in ("mlp-small", "tiny")


def versions() -> dict[str, str]:
    return {"fluxion": fx.__version__, "jax": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


class Residual(fx.Layer):
    def __init__(self, part: w.Residual) -> None:
        convs = {i: layer(conv) for i, conv in part.convolutions.items()}
        self.conv1, self.norm1 = convs["1"], fx.BatchNorm(part.outputs, fx.relu)
        self.conv2, self.norm2 = convs["2"], fx.BatchNorm(part.outputs)
        self.conv3, self.norm3 = (convs["3"], fx.BatchNorm(part.outputs)) if "3" in convs else (None, None)

    def __call__(self, x: Any) -> Any:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return fx.relu(y + (x if self.conv3 is None else self.norm3(self.conv3(x))))


def spatial_mean(x: Any) -> Any:
    return x.mean((1, 2))


def last_step(x: Any) -> Any:
    return x[:, -1]


def layer(part: w.Part) -> Any:
    match part:
        case w.Dense():
            return fx.Dense(part.inputs, part.outputs, activation(part))
        case w.Conv():
            options = {"stride": part.stride, "padding": part.padding, "bias": part.bias}
            return fx.Conv((part.kernel, part.kernel), part.inputs, part.outputs, activation(part), **options)
        case w.MaxPool():
            return fx.MaxPool((2, 2))
        case w.Flatten():
            return fx.flatten
        case w.BatchNorm():
            return fx.BatchNorm(part.channels, fx.relu)
        case w.Residual():
            return Residual(part)
        case w.SpatialMean():
            return spatial_mean
        case w.LSTM():
            return fx.LSTM(part.inputs, part.outputs)
        case w.LastStep():
            return last_step
        case w.Embedding():
            return fx.Embedding(part.vocabulary, part.features)
        case w.Positions():
            return fx.LearnedPositions(part.length, part.features)
        case w.LayerNorm():
            return fx.LayerNorm(part.features)
        case w.Block():
            return fx.TransformerBlock(part.features, num_heads=part.heads, causal=part.causal)


def activation(part: w.Dense | w.Conv) -> Any:
    return fx.relu if part.activation == "relu" else fx.identity


BLOCK = {"norm1": "attention_norm", "norm2": "feed_norm", "up": "feed.layers[0]", "down": "feed.layers[2]"}


def paths(part: w.Part) -> dict[str, str]:
    """Where the arrays of a part are in the layer."""
    match part:
        case w.LSTM():
            return {name: f".cells[0].{name}" for name in part.shapes()}
        case w.Block():
            split = {name: name.split(".") for name in part.shapes()}
            return {name: f".{BLOCK.get(a, f'attention.{a}')}.{b}" for name, (a, b) in split.items()}
    return {name: f".{name}" for name in part.shapes()}


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.workload, self.mode = workload, mode
        self.model = fx.Chain(*map(layer, workload.network))
        named = {
            f"layers[{i}]{path}": weights[f"{i}.{name}"]
            for i, part in enumerate(workload.network)
            for name, path in paths(part).items()
        }
        fx.loadmodel(self.model, fx.state(self.model) | named)
        rule = fx.Adam(1e-3) if isinstance(workload.optimizer, w.Adam) else fx.Momentum(0.01, rho=0.9)
        self.opt = fx.setup(rule, self.model)
        self.metrics = [fx.accuracy] if mode == "fit accuracy" else []
        self.compiled = fx.jit(self.model)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(jax.numpy.asarray(x), jax.numpy.asarray(y)) for x, y in batches]

    def losses(self, batches: list[Any]) -> np.ndarray:
        if self.mode == "train":
            return fx.train(loss, self.model, batches, self.opt)
        return np.array([self.fit([batch]).last["loss"] for batch in batches])

    def train(self, batches: list[Any]) -> None:
        if self.mode == "train":
            fx.train(loss, self.model, batches, self.opt)
        else:
            self.fit(batches)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        loader = fx.DataLoader((x, y), batch_size=self.workload.batch, shuffle=True, partial=False)
        if self.mode == "train":
            for _ in range(count):
                fx.train(loss, self.model, loader, self.opt)
        else:
            self.fit(loader, epochs=count)

    def fit(self, data: Any, epochs: int = 1) -> Any:
        return fx.fit(
            self.model,
            data,
            loss=fx.logitcrossentropy,
            optimizer=self.opt,
            epochs=epochs,
            metrics=self.metrics,
            progress=False,
        )

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        values = fx.evaluate(self.model, (x, y), loss=fx.logitcrossentropy, metrics=[fx.accuracy], batch_size=1000)
        return values["loss"], values["accuracy"]

    def inputs(self, x: np.ndarray) -> Any:
        return x if self.mode == "predict" else jax.numpy.asarray(x)

    def forward(self, x: Any) -> Any:
        if self.mode == "predict":
            return fx.predict(self.model, x)
        return self.compiled(x).block_until_ready()


def loss(model: Any, x: Any, y: Any) -> Any:
    return fx.logitcrossentropy(model(x), y)
