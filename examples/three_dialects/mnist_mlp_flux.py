"""MNIST with one hidden layer and dropout, as in Flux.jl."""

from data import mnist

import fluxion as fx
from fluxion import Adam, Chain, DataLoader, Dense, Dropout, logitcrossentropy, relu


def main(epochs: int = 5) -> list[float]:
    """The mean loss of each epoch."""
    fx.seed(123)
    train, (xtst, ytst) = mnist()

    model = Chain(Dense(784, 128, relu), Dropout(0.2), Dense(128, 10))
    opt = fx.setup(Adam(1e-3), model)
    loader = DataLoader(train, batch_size=64, shuffle=True, partial=False, seed=123)

    losses = []
    for _ in range(epochs):
        steps = fx.train(lambda m, x, y: logitcrossentropy(m(x), y), model, loader, opt)
        losses.append(steps.mean())

    print(f"Flux   test accuracy {fx.accuracy(fx.predict(model, xtst), ytst):.4f}")
    return losses


if __name__ == "__main__":
    main()
