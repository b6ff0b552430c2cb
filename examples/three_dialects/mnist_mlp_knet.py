"""MNIST with one hidden layer and dropout, as in Knet.jl."""

from data import mnist

import fluxion as fx
from fluxion import Dropout, dense, identity, relu
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


def main(epochs: int = 5) -> list[float]:
    """The mean loss of each epoch."""
    fx.seed(123)
    train, test = mnist()

    model = Chain(Dense(784, 128, relu), Dropout(0.2), Dense(128, 10))
    dtrn, dtst = minibatch(*train, 64, shuffle=True, seed=123), minibatch(*test, 100)
    losses = progress(adam(model, repeat(dtrn, epochs), lr=1e-3)).run()

    print(f"Knet   test accuracy {accuracy(model, dtst):.4f}")
    return losses.reshape(epochs, -1).mean(axis=1)


if __name__ == "__main__":
    main()
