"""Iris in Flux's style: a `Chain`, a loss of model and batch, `train` once per epoch.

python examples/three_dialects/iris_flux.py
"""

import fluxion as fx


def main(seed: int = 0) -> list[float]:
    fx.seed(seed)
    train, test = fx.splitobs(fx.datasets.iris(), 105, shuffle=True, stratified=fx.datasets.iris().labels, seed=seed)
    data = fx.DataLoader(train, batch_size=15, shuffle=True, seed=seed)

    model = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
    opt = fx.setup(fx.Adam(1e-3), model)

    def loss(model, x, y):
        return fx.logitcrossentropy(model(x), y)

    losses = []
    for _ in range(100):
        losses += fx.train(loss, model, data, opt).tolist()

    x, y = test
    print(f"test accuracy {fx.accuracy(model(x), y):.3f}")
    return losses


if __name__ == "__main__":
    main()
