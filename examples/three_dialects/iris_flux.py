"""Iris as in Flux.jl: a chain of layers, a loss, an optimizer, and a pass over the batches per epoch."""

from data import iris

import fluxion as fx
from fluxion import Adam, Chain, DataLoader, Dense, logitcrossentropy, relu


def main(epochs: int = 100) -> list[float]:
    """The mean loss of each epoch."""
    fx.seed(123)
    (xtrn, ytrn), (xtst, ytst) = iris()

    model = Chain(Dense(4, 10, relu), Dense(10, 3))
    opt = fx.setup(Adam(), model)
    dtrn = DataLoader((xtrn, ytrn), batch_size=15, shuffle=True, seed=123)

    losses = []
    for _ in range(epochs):
        steps = fx.train(lambda m, x, y: logitcrossentropy(m(x), y), model, dtrn, opt)
        losses.append(steps.mean())

    print(f"Flux   test accuracy {fx.accuracy(model(xtst), ytst):.4f}")
    return losses


if __name__ == "__main__":
    main()
