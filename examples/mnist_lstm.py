"""Handwritten digits read row by row: an LSTM of 128 units sees a picture as a sequence of 28 rows.

    python examples/mnist_lstm.py

It prints a line per epoch and the accuracy on the test set.
"""

import time

import fluxion as fx


def main(epochs: int = 2, progress: bool = True) -> float:
    fx.seed(0)
    model = fx.Chain(
        lambda x: x[..., 0],  # (batch, row, column): the rows are the steps in time
        fx.LSTM(28, 128),
        lambda y: y[:, -1],  # what it knows after the last row
        fx.Dense(128, 10),
    )
    started = time.perf_counter()
    fx.fit(
        model,
        fx.datasets.mnist(),
        loss=fx.logitcrossentropy,
        optimizer=fx.Adam(2e-3),
        epochs=epochs,
        batch_size=64,
        metrics=[fx.accuracy],
        seed=0,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    test = fx.datasets.mnist("test")
    accuracy = fx.evaluate(model, test, loss=fx.logitcrossentropy, metrics=[fx.accuracy])["accuracy"]
    print(f"test accuracy {accuracy:.4f} after {epochs} epochs in {seconds:.0f} s")
    return accuracy


if __name__ == "__main__":
    main()
