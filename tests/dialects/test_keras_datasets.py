"""Data sets in Keras' form hold the bytes of the files."""

import numpy as np
import program_data
import pytest

import fluxion as fx
from fluxion.dialects.keras import datasets


def needs(name):
    try:
        program_data.folder(name)
    except FileNotFoundError as absent:
        pytest.skip(str(absent))


@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist")])
def test_digits_and_garments_are_bytes(name, folder):
    needs(folder)
    (x, y), (x_test, y_test) = getattr(datasets, name).load_data()
    assert x.shape == (60_000, 28, 28) and y.shape == (60_000,) and x.dtype == y.dtype == np.uint8
    assert x_test.shape == (10_000, 28, 28) and y_test.shape == (10_000,)
    images, labels = program_data.mnist(100, folder)
    assert (x[:100] == images).all() and (y[:100] == labels).all()


def test_photographs_are_bytes_with_a_column_of_labels(monkeypatch):
    needs("cifar-10")
    monkeypatch.setattr(datasets.datasets, "cifar10", lambda split: fx.datasets.CIFAR10(*program_data.cifar(100)))
    (x, y), test = datasets.cifar10.load_data()
    assert x.shape == (100, 32, 32, 3) and y.shape == (100, 1) and x.dtype == y.dtype == np.uint8
    images, labels = program_data.cifar(100)
    np.testing.assert_allclose(x / 255, images, atol=1e-6)
    assert (y[:, 0] == labels).all() and (test[0] == x).all()


def test_another_data_set_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match=r"expected one of mnist, .* got 'imdb'"):
        datasets.imdb  # noqa: B018
