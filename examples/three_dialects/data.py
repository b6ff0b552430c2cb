"""What the four experiments train on, the same for all three styles."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

import fluxion as fx

Pair = tuple[np.ndarray, np.ndarray]


def iris() -> tuple[Pair, Pair]:
    """105 flowers to train on and 45 to test with, each species in proportion; as measured, not standardized."""
    x, y = fx.datasets.iris()
    return fx.splitobs((x, y), 105, shuffle=True, stratified=y, seed=0)


@cache
def mnist() -> tuple[Pair, Pair]:
    """60000 digits in rows of 784 numbers in [0, 1], and 10000 more."""
    parts = [fx.datasets.mnist(split) for split in ("train", "test")]
    (train, test) = [(np.asarray(images).reshape(-1, 784), np.asarray(labels)) for images, labels in parts]
    return train, test


@cache
def mnist_csv(train_file: str | Path, test_file: str | Path) -> tuple[Pair, Pair]:
    """The same digits from CSV files of a label and 784 pixels; the last tenth of the first is left out."""
    parts = [fx.read_pixels(file) for file in (train_file, test_file)]
    (train, test) = [(images.reshape(-1, 784), labels) for images, labels in parts]
    return fx.splitobs(train, 0.9)[0], test


@cache
def cifar10() -> tuple[Pair, Pair]:
    """49000 small photographs (32, 32, 3), and the 10000 of the test set."""
    (images, labels), test = fx.datasets.cifar10(), fx.datasets.cifar10("test")
    return (images[:49_000], labels[:49_000]), test
