"""Fashion-MNIST as a folder of PNG files, and the same training from the folder and from the published file.

    FLUXION_DATA=/where/the/data/are python examples/image_folder.py [--all]

It writes runs/fashion/train/CLASS/NUMBER.png and runs/fashion/test/CLASS/NUMBER.png, the first 6000 and 1000 images or,
with --all, every one of 60000 and 10000. Read again they are the same pixels to the last bit; put back into the order
of the published file they give the same batches, and so the same losses and the same accuracy. On two cores it takes
half a minute, with --all some minutes.
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import fluxion as fx


def write(data, folder: Path) -> None:
    """A PNG file for each image, in a folder with the name of its class."""
    for name in data.classes:
        (folder / as_folder(name)).mkdir(parents=True, exist_ok=True)
    pixels = np.rint(data.images[..., 0] * 255).astype(np.uint8)
    for i, (image, label) in enumerate(zip(pixels, data.labels, strict=True)):
        Image.fromarray(image).save(folder / as_folder(data.classes[label]) / f"{i:05}.png")


def as_folder(name: str) -> str:
    return name.replace("/", " or ")  # "t-shirt/top" would be two folders


def read(folder: Path, like):
    """The images of a folder in the order of their numbers, with the labels of the published file."""
    found = fx.read_images(folder)
    order = np.argsort([Path(file).stem for file in fx.ImageFolder(folder).files])
    names = [as_folder(name) for name in like.classes]
    labels = np.array([names.index(name) for name in found.classes], np.int32)[found.labels]
    return type(like)(found.images[order], labels[order])


def network() -> fx.Chain:
    return fx.Chain(
        fx.Conv((3, 3), 1, 16, fx.relu),
        fx.MaxPool((2, 2)),
        fx.Conv((3, 3), 16, 32, fx.relu),
        fx.MaxPool((2, 2)),
        fx.flatten,
        fx.Dense(5 * 5 * 32, 10),
    )


def learn(train, test, epochs: int) -> float:
    """The accuracy over the test set after training from the seed 0."""
    fx.seed(0)
    model = network()
    fx.fit(
        model,
        train,
        loss=fx.logitcrossentropy,
        optimizer=fx.Adam(1e-3),
        epochs=epochs,
        batch_size=100,
        seed=0,
        progress=False,
    )
    return fx.evaluate(model, test, loss=fx.logitcrossentropy, metrics=[fx.accuracy])["accuracy"]


def main(everything: bool = False, epochs: int = 3, folder: str = "runs/fashion") -> tuple[float, float]:
    published = [fx.datasets.fashion_mnist(split) for split in ("train", "test")]
    if not everything:
        published = [fx.splitobs(data, count)[0] for data, count in zip(published, (6000, 1000), strict=True)]
    again = []
    for split, data in zip(("train", "test"), published, strict=True):
        place = Path(folder) / split
        write(data, place)
        started = time.perf_counter()
        again.append(read(place, data))
        print(f"{fx.ImageFolder(place)}, read in {time.perf_counter() - started:.1f} s")
        np.testing.assert_array_equal(again[-1].images, data.images)
        np.testing.assert_array_equal(again[-1].labels, data.labels)
    print("pixels and labels are equal")
    accuracies = learn(*published, epochs), learn(*again, epochs)
    print(f"test accuracy from the published file {accuracies[0]:.4f}, from the folder {accuracies[1]:.4f}")
    return accuracies


if __name__ == "__main__":
    main(everything="--all" in sys.argv[1:])
