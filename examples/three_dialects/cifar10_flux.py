"""CIFAR-10 with the network of Flux's "60-minute blitz", its loop written out."""

from data import cifar10

import fluxion as fx
from fluxion import Chain, Conv, DataLoader, Dense, MaxPool, Momentum, flatten, logitcrossentropy, relu


def main(epochs: int = 10) -> list[float]:
    """The mean loss of each epoch."""
    fx.seed(123)
    train, (xtst, ytst) = cifar10()

    m = Chain(
        Conv((5, 5), 3, 16, relu),
        MaxPool((2, 2)),
        Conv((5, 5), 16, 8, relu),
        MaxPool((2, 2)),
        flatten,
        Dense(200, 120),
        Dense(120, 84),
        Dense(84, 10),
    )
    opt = fx.setup(Momentum(0.01, 0.9), m)
    batches = DataLoader(train, batch_size=1000)

    losses = []
    for _ in range(epochs):
        steps = fx.train(lambda m, x, y: logitcrossentropy(m(x), y), m, batches, opt)
        losses.append(steps.mean())

    print(f"Flux   test accuracy {fx.accuracy(fx.predict(m, xtst), ytst):.4f}")
    return losses


if __name__ == "__main__":
    main()
