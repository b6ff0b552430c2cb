"""MNIST from CSV files, 784-512-256-10 with dropout, as in Knet.jl."""

import sys

from data import mnist_csv

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


def main(train_file: str, test_file: str, epochs: int = 10) -> list[float]:
    """The mean loss of each epoch."""
    fx.seed(123)
    train, test = mnist_csv(train_file, test_file)

    model = Chain(Dense(784, 512, relu), Dropout(0.2), Dense(512, 256, relu), Dropout(0.2), Dense(256, 10))
    dtrn, dtst = minibatch(*train, 128, shuffle=True, seed=123), minibatch(*test, 100)
    losses = progress(adam(model, repeat(dtrn, epochs))).run()

    print(f"Knet   test accuracy {accuracy(model, dtst):.4f}")
    return losses.reshape(epochs, -1).mean(axis=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
