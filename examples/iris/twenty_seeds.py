"""Iris over twenty seeds: one run says little about a network of 83 parameters and 45 flowers to test on.

Split, initial weights and order of the batches follow from the seed.

    python examples/iris/twenty_seeds.py
"""

import statistics

import fluxion as fx


def accuracy(seed: int) -> float:
    """The test accuracy of one run."""
    fx.seed(seed)
    x, y = fx.datasets.iris()
    train, test = fx.splitobs((x, y), 105, shuffle=True, stratified=y, seed=seed)
    loader = fx.DataLoader(train, batch_size=15, shuffle=True, seed=seed)
    model = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
    opt = fx.setup(fx.Adam(1e-3), model)
    for _ in range(100):
        fx.train(lambda m, x, y: fx.logitcrossentropy(m(x), y), model, loader, opt)
    return float(fx.accuracy(model(test[0]), test[1]))


def main(seeds: int = 20) -> list[float]:
    print("seed  test accuracy")
    accuracies = []
    for seed in range(seeds):
        accuracies.append(accuracy(seed))
        print(f"{seed:4}  {accuracies[-1]:.3f}")
    print(f"median {statistics.median(accuracies):.3f}, from {min(accuracies):.3f} to {max(accuracies):.3f}")
    return accuracies


if __name__ == "__main__":
    main()
