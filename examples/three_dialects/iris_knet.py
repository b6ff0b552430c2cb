"""Iris as in Knet.jl: layers and chain are one's own, the model's loss is the model called with labels."""

from data import iris

import fluxion as fx
from fluxion import dense, identity, relu
from fluxion.dialects.knet import accuracy, adam, minibatch, nll, param, param0, progress, repeat


class Dense:
    def __init__(self, i, o, f=identity):
        self.w, self.b, self.f = param(i, o), param0(o), f

    def __call__(self, x):
        return dense(x, self.w, bias=self.b, activation=self.f)


class Chain:
    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x, y=None):
        for layer in self.layers:
            x = layer(x)
        return x if y is None else nll(x, y)


def main(epochs: int = 100) -> list[float]:
    """The mean loss of each epoch."""
    fx.seed(123)
    (xtrn, ytrn), (xtst, ytst) = iris()

    dtrn = minibatch(xtrn, ytrn, 15, shuffle=True, seed=123)
    model = Chain(Dense(4, 10, relu), Dense(10, 3))
    losses = progress(adam(model, repeat(dtrn, epochs))).run()

    print(f"Knet   test accuracy {accuracy(model(xtst), ytst):.4f}")
    return losses.reshape(epochs, -1).mean(axis=1)


if __name__ == "__main__":
    main()
