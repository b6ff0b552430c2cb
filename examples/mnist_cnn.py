"""Handwritten digits with the convolutional network of Keras' own MNIST example: 99 % of the test set and more.

    python examples/mnist_cnn.py
    python examples/mnist_cnn.py mnist_train.csv mnist_test.csv      from files of a label and 784 pixels per row

`fluxion datasets convert mnist mnist_train.csv` makes the first such file, with `--split test` the second.

Two convolutions, a pool, two dense layers, dropout between them: 1_199_882 parameters. The last tenth of the training
set is for validation. It prints a line per epoch and the test accuracy. On two cores it takes about five minutes.
"""

import sys
import time

import fluxion as fx


def network() -> fx.Chain:
    return fx.Chain(
        fx.Conv((3, 3), 1, 32, fx.relu),
        fx.Conv((3, 3), 32, 64, fx.relu),
        fx.MaxPool((2, 2)),
        fx.Dropout(0.25),
        fx.flatten,
        fx.Dense(9216, 128, fx.relu),
        fx.Dropout(0.5),
        fx.Dense(128, 10),
    )


def main(*files: str, epochs: int = 5, progress: bool = True) -> float:
    """Train on the published files, or on a CSV file for training and one for testing; the accuracy in the test."""
    fx.seed(0)
    data, test = map(fx.read_pixels, files) if files else map(fx.datasets.mnist, ("train", "test"))
    train, validation = fx.splitobs(data, 0.9)
    model = network()

    started = time.perf_counter()
    fx.fit(
        model,
        train,
        loss=fx.logitcrossentropy,
        optimizer=fx.Adam(1e-3),
        epochs=epochs,
        batch_size=128,
        metrics=[fx.accuracy],
        validation=validation,
        seed=0,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    accuracy = fx.evaluate(model, test, loss=fx.logitcrossentropy, metrics=[fx.accuracy])["accuracy"]
    print(f"test accuracy {accuracy:.4f} after {epochs} epochs in {seconds:.0f} s")
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:])
