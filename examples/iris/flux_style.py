"""Iris, as one writes it in Flux: a `Chain`, an optimizer, and `train` once per epoch.

python examples/iris/flux_style.py
"""

import fluxion as fx


def main(seed: int = 0) -> list[float]:
    fx.seed(seed)
    x, y = fx.datasets.iris()
    train, test = fx.splitobs((x, y), 105, shuffle=True, stratified=y, seed=seed)
    loader = fx.DataLoader(train, batch_size=15, shuffle=True, seed=seed)

    model = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
    opt = fx.setup(fx.Adam(1e-3), model)

    losses = []
    for _ in range(100):
        steps = fx.train(lambda m, x, y: fx.logitcrossentropy(m(x), y), model, loader, opt)
        losses.append(float(steps.mean()))

    print(f"test accuracy {fx.accuracy(model(test[0]), test[1]):.3f}")
    return losses


if __name__ == "__main__":
    main()
