"""What the same training costs in each dialect: whole trainings, compiled beforehand, from data in memory.

python benchmarks/dialects.py [rounds]      writes benchmarks/dialects.md

All ways make the same steps on the same batches from the same weights; a way whose losses differ ends the benchmark. In
each round every way has its turn, in random order.
"""

import io
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fluxion as fx
from fluxion.dialects import keras, knet

HERE = Path(__file__)
Way = Callable[[], np.ndarray]


class Work:
    """A classifier, its data, and how it is trained."""

    def __init__(self, name: str, data: Any, sizes: tuple[int, ...], batch_size: int, epochs: int) -> None:
        self.name = name
        self.data = data
        self.sizes = sizes
        self.batch_size = batch_size
        self.epochs = epochs

    def model(self) -> fx.Chain:
        fx.seed(0)
        pairs = list(zip(self.sizes, self.sizes[1:], strict=False))
        return fx.Chain(*(fx.Dense(i, o, fx.relu) for i, o in pairs[:-1]), fx.Dense(*pairs[-1]))

    def loader(self) -> fx.DataLoader:
        return knet.minibatch(*self.data, self.batch_size, shuffle=True, partial=True, seed=0)

    @property
    def steps(self) -> int:
        return self.epochs * len(self.loader())


def works() -> list[Work]:
    images = fx.datasets.mnist()
    return [
        Work("Iris, 4-10-3, batch 15", fx.datasets.iris(), (4, 10, 3), 15, 100),
        Work("MNIST, 784-128-10, batch 64", (images.images.reshape(-1, 784), images.labels), (784, 128, 10), 64, 1),
    ]


def loss(model: Any, x: Any, y: Any) -> Any:
    return fx.logitcrossentropy(model(x), y)


def ways(work: Work) -> dict[str, Way]:
    """Each trains once from the beginning and returns the last loss, or the mean of the last epoch's."""

    def train() -> np.ndarray:
        model, data = work.model(), work.loader()
        opt = fx.setup(fx.Adam(), model)
        return np.concatenate([fx.train(loss, model, data, opt) for _ in range(work.epochs)])

    def train_epochs() -> np.ndarray:
        model, data = work.model(), work.loader()
        return fx.train(loss, model, fx.Epochs(data, work.epochs), fx.setup(fx.Adam(), model))

    def fit() -> np.ndarray:
        history = fx.fit(
            work.model(), work.loader(), loss=fx.logitcrossentropy, optimizer=fx.Adam(), epochs=work.epochs,
            progress=False,
        )  # fmt: skip
        return np.array(history["loss"])

    def knet_training() -> knet.training.Minimize:
        model = work.model()
        return knet.adam(lambda x, y: knet.nll(model(x), y), knet.repeat(work.loader(), work.epochs))

    def fit_with_accuracy() -> np.ndarray:
        history = fx.fit(
            work.model(), work.loader(), loss=fx.logitcrossentropy, optimizer=fx.Adam(), epochs=work.epochs,
            metrics=[fx.accuracy], progress=False,
        )  # fmt: skip
        return np.array(history["loss"])

    def keras_fit() -> np.ndarray:
        keras.utils.clear_session()  # else the layers of each round have other names, and another program
        fx.seed(0)
        hidden = [keras.layers.Dense(units, activation="relu") for units in work.sizes[1:-1]]
        model = keras.Sequential([keras.Input(work.sizes[:1]), *hidden, keras.layers.Dense(work.sizes[-1])])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=fx.Adam(), loss=loss, metrics=["accuracy"])
        return np.array(model.fit(work.loader(), epochs=work.epochs, verbose=0).history["loss"])

    return {
        "fx.train, a loop over epochs": train,
        "fx.train over fx.Epochs": train_epochs,
        "fx.fit": fit,
        "fx.fit with accuracy": fit_with_accuracy,
        "knet: adam(...).run()": lambda: knet_training().run(),
        "knet: progress(adam(...)).run()": lambda: knet.progress(knet_training(), stream=io.StringIO()).run(),
        "knet: for loss in adam(...)": lambda: np.array(list(knet_training())),
        "keras: model.fit with accuracy": keras_fit,
    }


def check(work: Work, losses: dict[str, np.ndarray]) -> None:
    """The same losses in every way; `fit` tells the mean of each epoch."""
    expected = next(iter(losses.values()))
    batches = [min(work.batch_size, len(work.data[1]) - i) for i in range(0, len(work.data[1]), work.batch_size)]
    means = np.average(expected.reshape(work.epochs, -1), axis=1, weights=batches)
    for way, found in losses.items():
        wrong = np.abs(found - (expected if len(found) == len(expected) else means)).max()
        if not wrong < 1e-5:
            sys.exit(f"{work.name}: the losses of {way} differ by {wrong}")


def measured(work: Work, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, by round; the first two, in which programs are compiled, are not counted."""
    found: dict[str, list[float]] = {way: [] for way in ways(work)}
    for i in range(rounds + 2):
        losses = {}
        for way, run in random.sample(sorted(ways(work).items()), len(found)):
            started = time.perf_counter()
            losses[way] = run()
            if i > 1:
                found[way].append(time.perf_counter() - started)
        check(work, {way: losses[way] for way in found})
    return found


def main(rounds: int = 5) -> None:
    lines = [
        "# The same training in each dialect",
        "",
        f"`python benchmarks/dialects.py {rounds}`: medians of {rounds} rounds, milliseconds for all epochs, compiled "
        f"beforehand. Python {platform.python_version()}, {platform.machine()}.",
        "",
        "| | way | ms | µs per step | to `fx.train` in a loop |",
        "|---|---|---|---|---|",
    ]
    for work in works():
        seconds = {way: statistics.median(times) for way, times in measured(work, rounds).items()}
        base = next(iter(seconds.values()))
        for way, time_ in seconds.items():
            lines.append(
                f"| {work.name}, {work.epochs} epochs | {way} | {1e3 * time_:.1f} | {1e6 * time_ / work.steps:.1f} | "
                f"{time_ / base:.2f} |"
            )
    text = "\n".join(lines) + "\n"
    HERE.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
