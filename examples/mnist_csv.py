"""MNIST from CSV files: a fully connected and a convolutional network, as Keras trained them in a known comparison.

    fluxion datasets convert mnist mnist_train.csv
    fluxion datasets convert mnist mnist_test.csv --split test
    python examples/mnist_csv.py mnist_train.csv mnist_test.csv                  the fully connected network
    python examples/mnist_csv.py mnist_train.csv mnist_test.csv --model cnn      the convolutional one

A row is a label and 784 pixels from 0 to 255. The first nine tenths of the training file train, the last tenth is for
validation; batches of 128, Adam at 1e-3, ten epochs (the convolutional network: five). On two cores the first takes
half a minute, the second some four.

Published with Keras 2.0.4: test accuracy .9805 and .9910.
"""

import argparse
import time

import fluxion as fx


def fully_connected() -> fx.Chain:
    """535_818 parameters."""
    return fx.Chain(
        fx.flatten,
        fx.Dense(784, 512, fx.relu),
        fx.Dropout(0.2),
        fx.Dense(512, 256, fx.relu),
        fx.Dropout(0.2),
        fx.Dense(256, 10),
    )


def convolutional() -> fx.Chain:
    """1_199_882 parameters."""
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


def main(train_file, test_file, *, model: str = "fcn", epochs: int | None = None, progress: bool = True) -> float:
    """Train on one file; the accuracy on the other."""
    fx.seed(0)
    started = time.perf_counter()
    data, test = fx.read_pixels(train_file), fx.read_pixels(test_file)
    print(f"read {len(data.labels) + len(test.labels)} rows in {time.perf_counter() - started:.1f} s")

    network, few = (fully_connected(), 10) if model == "fcn" else (convolutional(), 5)
    train, validation = fx.splitobs(data, 0.9)
    started = time.perf_counter()
    fx.fit(
        network,
        train,
        loss=fx.logitcrossentropy,
        optimizer=fx.Adam(1e-3),
        epochs=epochs or few,
        batch_size=128,
        metrics=[fx.accuracy],
        validation=validation,
        seed=0,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    accuracy = fx.evaluate(network, test, loss=fx.logitcrossentropy, metrics=[fx.accuracy])["accuracy"]
    print(f"test accuracy {accuracy:.4f} after {epochs or few} epochs in {seconds:.0f} s")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train_file")
    parser.add_argument("test_file")
    parser.add_argument("--model", choices=("fcn", "cnn"), default="fcn")
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    fx.keep_memory()
    main(options.train_file, options.test_file, model=options.model, epochs=options.epochs)
