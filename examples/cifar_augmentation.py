"""CIFAR-10 from a fifth of its images: the same network with random crops and flips, and without.

    FLUXION_DATA=/where/the/data/are python examples/cifar_augmentation.py

10000 images are few enough to be learned by heart: without augmentation the network soon knows its training images and
does not get better at others. With it, an image is a little different in every epoch. Weights, order of the batches and
number of steps are the same in both; so are all three seeds' test images. It prints the accuracies of both, and writes
a picture of a batch as the network is given it, runs/cifar_augmentation.png. On two cores it takes about ten minutes.
"""

import statistics
import time
from pathlib import Path

import fluxion as fx


def network() -> fx.Chain:
    """Three blocks of a convolution, batch normalization and pooling."""
    return fx.Chain(
        *block(3, 16),
        *block(16, 32),
        *block(32, 64),
        fx.flatten,
        fx.Dense(4 * 4 * 64, 10),
    )


def block(channels: int, more: int) -> tuple:
    return (
        fx.Conv((3, 3), channels, more, padding="same"),
        fx.BatchNorm(more, fx.relu),
        fx.MaxPool((2, 2)),
    )


def moved(images):
    """What is done to the images of a batch: up to four pixels to any side, and mirrored half of the time."""
    return fx.random_flip(fx.random_crop(images, 4))


def learn(train, seed: int, augment, epochs: int, batch_size: int) -> fx.Chain:
    fx.seed(seed)
    model = network()
    batches = fx.DataLoader(train, batch_size=batch_size, shuffle=True, seed=seed)
    schedule = fx.schedules.Cosine(2e-3, epochs * len(batches))
    opt = fx.setup(fx.Adam(schedule), model)
    for _ in range(epochs):
        fx.train(lambda m, x, y: fx.logitcrossentropy(m(augment(x)), y), model, batches, opt)
    return model


def accuracy(model, data) -> float:
    return float((fx.predict(model, data.images, batch_size=1000).argmax(-1) == data.labels).mean())


def main(
    seeds: int = 3,
    epochs: int = 30,
    images: int = 10_000,
    batch_size: int = 125,
    picture: str = "runs/cifar_augmentation.png",
) -> float:
    """Print the table, and return the mean gain."""
    train, _ = fx.splitobs(fx.datasets.cifar10(), images)
    test = fx.datasets.cifar10("test")
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    fx.preview((moved(train.images[:24]), train.labels[:24]), picture, classes=train.classes)

    started = time.perf_counter()
    print("            plain           crop and flip")
    print("seed  training   test    training   test    gain")
    gains = []
    for seed in range(seeds):
        scores = []
        for augment in (fx.identity, moved):
            model = learn(train, seed, augment, epochs, batch_size)
            scores += [accuracy(model, train), accuracy(model, test)]
        gains.append(scores[3] - scores[1])
        print(
            f"{seed:4}  {scores[0]:8.3f}  {scores[1]:.3f}    {scores[2]:8.3f}  {scores[3]:.3f}  {gains[-1]:+.3f}",
            flush=True,
        )
    gain, seconds = statistics.mean(gains), time.perf_counter() - started
    print(f"\nmean gain {gain:+.3f} of {seeds} seeds, {epochs} epochs of {images} images, {seconds:.0f} s")
    return gain


if __name__ == "__main__":
    fx.keep_memory()
    main()
