"""Iris with nothing hidden: the gradient has the shape of the model, and the update is a line of its own.

python examples/iris/explicit_gradients.py
"""

import fluxion as fx


def loss(model, x, y):
    return fx.logitcrossentropy(model(x), y)


def main(seed: int = 0) -> list[float]:
    fx.seed(seed)
    x, y = fx.datasets.iris()
    train, test = fx.splitobs((x, y), 105, shuffle=True, stratified=y, seed=seed)
    loader = fx.DataLoader(train, batch_size=15, shuffle=True, seed=seed)

    model = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
    opt = fx.setup(fx.Adam(1e-3), model)
    value_and_gradient = fx.jit(lambda m, x, y: fx.withgradient(loss, m, x, y))

    losses = []
    for _ in range(100):
        total = 0.0
        for x, y in loader:
            value, grads = value_and_gradient(model, x, y)
            fx.update(opt, model, grads[0])
            total += float(value)
        losses.append(total / len(loader))

    print(f"test accuracy {fx.accuracy(model(test[0]), test[1]):.3f}")
    return losses


if __name__ == "__main__":
    main()
