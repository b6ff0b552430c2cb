"""CIFAR-10 with the network of Flux's "60-minute blitz", as in Knet.jl: every layer is written here."""

from data import cifar10

import fluxion as fx
from fluxion import conv, dense, flatten, identity, max_pool, relu
from fluxion.dialects.knet import accuracy, minibatch, momentum, nll, param, param0, progress, repeat


class Conv:
    def __init__(self, w1, w2, cx, cy, f=relu):
        self.w, self.b, self.f = param(w1, w2, cx, cy), param0(cy), f

    def __call__(self, x):
        return max_pool(conv(x, self.w, bias=self.b, activation=self.f), (2, 2))


class Dense:
    def __init__(self, i, o, f=identity):
        self.w, self.b, self.f = param(i, o), param0(o), f

    def __call__(self, x):
        return dense(flatten(x), self.w, bias=self.b, activation=self.f)


class Chain:
    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x, y=None):
        for layer in self.layers:
            x = layer(x)
        return x if y is None else nll(x, y)


def main(epochs: int = 10) -> list[float]:
    """The mean loss of each epoch."""
    fx.seed(123)
    train, test = cifar10()

    model = Chain(Conv(5, 5, 3, 16), Conv(5, 5, 16, 8), Dense(200, 120), Dense(120, 84), Dense(84, 10))
    dtrn, dtst = minibatch(*train, 1000), minibatch(*test, 1000)
    losses = progress(momentum(model, repeat(dtrn, epochs), lr=0.01, gamma=0.9)).run()

    print(f"Knet   test accuracy {accuracy(model, dtst):.4f}")
    return losses.reshape(epochs, -1).mean(axis=1)


if __name__ == "__main__":
    main()
