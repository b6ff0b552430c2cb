"""`mnist.load_data()` and its kin: Fluxion's data sets as Keras hands them out, bytes and not numbers in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fluxion.data import datasets

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class DataSet:
    """A data set with Keras' `load_data`.

    >>> from fluxion.dialects.keras.datasets import mnist
    >>> (x_train, y_train), (x_test, y_test) = mnist.load_data()  # doctest: +SKIP
    >>> x_train.shape, x_train.dtype, y_train.shape  # doctest: +SKIP
    ((60000, 28, 28), dtype('uint8'), (60000,))
    """

    name: str
    read: Callable[[str], Split]

    def load_data(self) -> tuple[Split, Split]:
        """`(x_train, y_train), (x_test, y_test)`; found and downloaded as `fx.datasets` does."""
        return self.read("train"), self.read("test")


def _mnist(name: str) -> DataSet:
    return DataSet(name, lambda split: datasets.mnist_bytes(name, split))


def _bytes(images: np.ndarray, labels: np.ndarray) -> Split:
    return np.rint(images * 255).astype(np.uint8), labels[:, None].astype(np.uint8)


mnist = _mnist("mnist")
fashion_mnist = _mnist("fashion_mnist")
cifar10 = DataSet("cifar10", lambda split: _bytes(*datasets.cifar10(split)))


@dataclass(frozen=True)
class CIFAR100:
    """CIFAR-100, whose labels are "fine" (a hundred) or "coarse" (twenty).

    >>> from fluxion.dialects.keras.datasets import cifar100
    >>> (x_train, y_train), (x_test, y_test) = cifar100.load_data("coarse")  # doctest: +SKIP
    """

    name: str = "cifar100"

    def load_data(self, label_mode: str = "fine") -> tuple[Split, Split]:
        """`(x_train, y_train), (x_test, y_test)`; bytes `(N, 32, 32, 3)` and labels `(N, 1)`."""
        train, test = (_bytes(*datasets.cifar100(split, labels=label_mode)) for split in ("train", "test"))
        return train, test


cifar100 = CIFAR100()


def __getattr__(name: str) -> object:
    raise AttributeError(
        f"keras.datasets: expected one of mnist, fashion_mnist, cifar10, cifar100, got {name!r}. "
        "There are more in fx.datasets."
    )
