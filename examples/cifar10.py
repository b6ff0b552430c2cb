"""CIFAR-10 with the network of Flux's "60-minute blitz", trained as it was there, beside the numbers it had there.

    python examples/cifar10.py

49 batches of 1000 images, the same in every epoch, 10 epochs of gradient descent with momentum. The thousand training
images that are left over are for validation. It prints the validation accuracy of each epoch, and then the accuracy of
each class over the test set. Between two seeds the numbers differ by some hundredths. On two cores it takes about three
minutes.

Published: "Deep Learning with Julia and Flux in 60 minutes", with Flux 0.12.4.
"""

import time

import numpy as np

import fluxion as fx

VALIDATION = (0.219, 0.292, 0.348, 0.394, 0.417, 0.454, 0.467, 0.490, 0.473, 0.508)
CLASSES = (0.591, 0.587, 0.293, 0.269, 0.306, 0.561, 0.597, 0.539, 0.586, 0.617)


def network() -> fx.Chain:
    """39_558 parameters. Dense layers follow each other without an activation between them, as published."""
    return fx.Chain(
        fx.Conv((5, 5), 3, 16, fx.relu),
        fx.MaxPool((2, 2)),
        fx.Conv((5, 5), 16, 8, fx.relu),
        fx.MaxPool((2, 2)),
        fx.flatten,
        fx.Dense(200, 120),
        fx.Dense(120, 84),
        fx.Dense(84, 10),
    )


def learn(model, train, validation, *, batch_size: int = 1000, epochs: int = 10) -> list[float]:
    """Train, and return the validation accuracy after each epoch."""
    batches = fx.DataLoader(train, batch_size=batch_size)
    opt = fx.setup(fx.Momentum(0.01, 0.9), model)
    print("epoch  validation accuracy  published")
    accuracies = []
    for epoch in range(epochs):
        fx.train(lambda m, x, y: fx.logitcrossentropy(m(x), y), model, batches, opt)
        accuracies.append(float((predicted(model, validation.images) == validation.labels).mean()))
        print(f"{epoch + 1:5}  {accuracies[-1]:19.3f}  {VALIDATION[epoch]:9.3f}", flush=True)
    return accuracies


def predicted(model, images) -> np.ndarray:
    return fx.predict(model, images, batch_size=1000).argmax(-1)


def by_class(model, test) -> list[float]:
    """Print and return the accuracy of each class."""
    right = predicted(model, test.images) == test.labels
    accuracies = [float(right[test.labels == label].mean()) for label in range(10)]
    print("\nclass       test accuracy  published")
    for name, ours, theirs in zip(test.classes, accuracies, CLASSES, strict=True):
        print(f"{name:10}  {ours:13.3f}  {theirs:9.3f}")
    print(f"{'mean':10}  {np.mean(accuracies):13.4f}  {np.mean(CLASSES):9.4f}")
    return accuracies


def main(epochs: int = 10) -> tuple[list[float], list[float]]:
    fx.seed(0)
    train, validation = fx.splitobs(fx.datasets.cifar10(), 49_000)
    model = network()
    started = time.perf_counter()
    curve = learn(model, train, validation, epochs=epochs)
    seconds = time.perf_counter() - started
    classes = by_class(model, fx.datasets.cifar10("test"))
    print(f"\n{epochs} epochs in {seconds:.0f} s")
    return curve, classes


if __name__ == "__main__":
    fx.keep_memory()
    main()
