"""Iris in Knet's style: layers of one's own out of `param`, a model whose call with a label is the loss, one line of
training.

python examples/three_dialects/iris_knet.py
"""

import fluxion as fx
from fluxion.dialects.knet import accuracy, adam, minibatch, nll, param, param0, progress, repeat, setseed


class Dense:
    def __init__(self, inputs, outputs, f):
        self.w = param(inputs, outputs)
        self.b = param0(outputs)
        self.f = f

    def __call__(self, x):
        return self.f(x @ self.w + self.b)


class Chain:
    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x, y=None):
        for layer in self.layers:
            x = layer(x)
        return x if y is None else nll(x, y)


def main(seed: int = 0) -> list[float]:
    setseed(seed)
    (xtrn, ytrn), (xtst, ytst) = fx.splitobs(
        fx.datasets.iris(), 105, shuffle=True, stratified=fx.datasets.iris().labels, seed=seed
    )
    dtrn = minibatch(xtrn, ytrn, 15, shuffle=True, seed=seed)
    dtst = minibatch(xtst, ytst, 15)

    model = Chain(Dense(4, 10, fx.relu), Dense(10, 3, fx.identity))
    losses = progress(adam(model, repeat(dtrn, 100), lr=1e-3)).run()

    print(f"test accuracy {accuracy(model, data=dtst):.3f}")
    return losses.tolist()


if __name__ == "__main__":
    main()
