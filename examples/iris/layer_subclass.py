"""Iris with a layer of one's own and a loop written out step by step.

python examples/iris/layer_subclass.py
"""

import fluxion as fx


class Classifier(fx.Layer):
    def __init__(self, hidden: int):
        self.hidden = fx.Dense(4, hidden, fx.relu)
        self.output = fx.Dense(hidden, 3)

    def __call__(self, x):
        return self.output(self.hidden(x))

    def loss(self, x, y):
        return fx.logitcrossentropy(self(x), y)


def main(seed: int = 0) -> list[float]:
    fx.seed(seed)
    x, y = fx.datasets.iris()
    train, test = fx.splitobs((x, y), 105, shuffle=True, stratified=y, seed=seed)
    loader = fx.DataLoader(train, batch_size=15, shuffle=True, seed=seed)

    model = Classifier(hidden=10)
    opt = fx.setup(fx.Adam(1e-3), model)

    losses = []
    for _ in range(100):
        steps = [fx.trainstep(Classifier.loss, model, batch, opt) for batch in loader]
        losses.append(sum(steps) / len(steps))

    print(f"test accuracy {fx.accuracy(model(test[0]), test[1]):.3f}")
    return losses


if __name__ == "__main__":
    main()
