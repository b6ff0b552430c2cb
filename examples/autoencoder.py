"""A convolutional autoencoder: pictures of clothes through 32 numbers and back.

    python examples/autoencoder.py

It prints the mean squared error over the test set, beside that of the best linear code of as many numbers (principal
components), and writes runs/autoencoder.png: pictures of the test set over what comes back. On two cores it takes about
two minutes.
"""

import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import fluxion as fx

CODE = 32


def network() -> fx.Chain:
    return fx.Chain(
        encoder=fx.Chain(
            fx.Conv((3, 3), 1, 16, fx.relu, stride=2, padding="same"),  # 14 x 14
            fx.Conv((3, 3), 16, 32, fx.relu, stride=2, padding="same"),  # 7 x 7
            fx.flatten,
            fx.Dense(7 * 7 * 32, CODE),
        ),
        decoder=fx.Chain(
            fx.Dense(CODE, 7 * 7 * 32, fx.relu),
            lambda x: jnp.reshape(x, (-1, 7, 7, 32)),
            fx.ConvTranspose((4, 4), 32, 16, fx.relu, stride=2, padding="same"),  # 14 x 14
            fx.ConvTranspose((4, 4), 16, 1, fx.sigmoid, stride=2, padding="same"),  # 28 x 28
        ),
    )


def linear_error(train, test) -> float:
    """The mean squared error of coding by the principal components of the training set."""
    mean = train.mean(0, keepdims=True)
    train, test = (np.reshape(x - mean, (len(x), -1)) for x in (train, test))
    axes = np.linalg.eigh(train.T @ train)[1][:, -CODE:]
    return float(np.mean((test - test @ axes @ axes.T) ** 2))


def draw(model, test, file: Path) -> None:
    """A picture of each class, and under it its reconstruction."""
    from matplotlib.figure import Figure

    chosen = test.images[[int(np.argmax(test.labels == label)) for label in range(10)]]
    rows = {"original": chosen, f"from {CODE} numbers": fx.predict(model, chosen)}
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    for i, (axes, picture) in enumerate(
        zip(figure.subplots(2, 10).flat, np.concatenate([*rows.values()]), strict=True)
    ):
        axes.imshow(picture[..., 0], cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if i < 10:
            axes.set_title(test.classes[i], fontsize=10)
        if i % 10 == 0:
            axes.set_ylabel(list(rows)[i // 10], fontsize=10)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def main(epochs: int = 10, picture: str = "runs/autoencoder.png", progress: bool = True) -> float:
    fx.seed(0)
    train, test = fx.datasets.fashion_mnist(), fx.datasets.fashion_mnist("test")
    model = network()

    started = time.perf_counter()
    fx.fit(
        model,
        (train.images, train.images),
        loss=fx.mse,
        optimizer=fx.Adam(1e-3),
        epochs=epochs,
        batch_size=128,
        seed=0,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    error = fx.evaluate(model, (test.images, test.images), loss=fx.mse)["loss"]
    linear = linear_error(train.images, test.images)
    draw(model, test, Path(picture))
    print(f"test mean squared error {error:.5f} after {epochs} epochs in {seconds:.0f} s")
    print(f"with {CODE} principal components {linear:.5f}; pictures are in {picture}")
    return error


if __name__ == "__main__":
    main()
