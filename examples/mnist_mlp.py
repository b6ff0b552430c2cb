"""Handwritten digits: a network with one hidden layer and dropout gets 97.5 % and more of the test set right.

python examples/mnist_mlp.py
"""

import time

import fluxion as fx


def main(epochs: int = 5, progress: bool = True) -> float:
    fx.seed(0)
    train, test = fx.datasets.mnist(), fx.datasets.mnist("test")
    model = fx.Chain(fx.flatten, fx.Dense(784, 128, fx.relu), fx.Dropout(0.2), fx.Dense(128, 10))

    started = time.perf_counter()
    fx.fit(
        model,
        train,
        loss=fx.logitcrossentropy,
        optimizer=fx.Adam(1e-3),
        epochs=epochs,
        batch_size=64,
        metrics=[fx.accuracy],
        validation=test,
        seed=0,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    accuracy = fx.evaluate(model, test, loss=fx.logitcrossentropy, metrics=[fx.accuracy])["accuracy"]
    print(f"test accuracy {accuracy:.4f} after {epochs} epochs in {seconds:.1f} s")
    return accuracy


if __name__ == "__main__":
    main()
