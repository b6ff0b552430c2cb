"""MNIST from CSV files, 784-512-256-10 with dropout, as in Flux.jl."""

import sys

from data import mnist_csv

import fluxion as fx
from fluxion import Adam, Chain, DataLoader, Dense, Dropout, logitcrossentropy, relu


def main(train_file: str, test_file: str, epochs: int = 10) -> list[float]:
    """The mean loss of each epoch."""
    fx.seed(123)
    train, (xtst, ytst) = mnist_csv(train_file, test_file)

    model = Chain(
        Dense(784, 512, relu),
        Dropout(0.2),
        Dense(512, 256, relu),
        Dropout(0.2),
        Dense(256, 10),
    )
    opt = fx.setup(Adam(1e-3), model)
    loader = DataLoader(train, batch_size=128, shuffle=True, partial=False, seed=123)

    losses = []
    for _ in range(epochs):
        steps = fx.train(lambda m, x, y: logitcrossentropy(m(x), y), model, loader, opt)
        losses.append(steps.mean())

    print(f"Flux   test accuracy {fx.accuracy(fx.predict(model, xtst), ytst):.4f}")
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:])
