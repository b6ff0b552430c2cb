"""The post's network for Iris in Knet's style: classes of one's own, no base class."""

import fluxion as fx
from fluxion.dialects.knet import minibatch, nll, param, param0


class Dense:
    def __init__(self, inputs, outputs, f=fx.identity):
        self.w = param(inputs, outputs)
        self.b = param0(outputs)
        self.f = f

    def __call__(self, x):
        return self.f(x @ self.w + self.b[None])


class Chain:
    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x, y=None):
        for layer in self.layers:
            x = layer(x)
        return x if y is None else nll(x, y)


def iris(seed=0, batch_size=15):
    """A network, and the data as Knet's post has them."""
    fx.seed(seed)
    x, y = fx.datasets.iris()
    (x, y), test = fx.splitobs((x, y), 105, shuffle=True, stratified=y, seed=seed)
    model = Chain(Dense(4, 10, fx.relu), Dense(10, 3))
    return model, minibatch(x, y, batch_size, shuffle=True, seed=seed), minibatch(*test, batch_size)
