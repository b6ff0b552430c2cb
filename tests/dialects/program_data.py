"""Data and equal beginnings for the programs in `keras_programs`, which run under Keras and under Fluxion alike.

Everything is plain NumPy read from the files of `FLUXION_DATA`, because Keras runs the programs in a process of its
own, without Fluxion.
"""

from __future__ import annotations

import csv
import gzip
import lzma
import os
import re
from pathlib import Path
from typing import Any

import numpy as np


def folder(name: str) -> Path:
    """The folder of a data set; FileNotFoundError where there is none."""
    found = Path(os.environ.get("FLUXION_DATA", "data")) / name
    if not found.exists():
        raise FileNotFoundError(f"{found}: set FLUXION_DATA to the folder of the data sets")
    return found


def same_weights(model: Any) -> None:
    """Give a model weights that follow from their shapes alone; vectors and equal numbers (zeros, ones) stay."""
    rng = np.random.default_rng(0)
    new = []
    for array in model.get_weights():
        size = np.sqrt(6 / max(1, sum(array.shape[-2:]) * np.prod(array.shape[:-2])))
        constant = array.ndim < 2 or (array.size > 1 and np.all(array == array.flat[0]))
        new.append(array if constant else rng.uniform(-size, size, array.shape).astype(array.dtype))
    model.set_weights(new)


def iris() -> tuple[np.ndarray, np.ndarray]:
    """150 flowers in a mixed order: measurements (150, 4), species 0 to 2."""
    with open(Path(__file__).parents[2] / "fluxion" / "data" / "iris.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    species = sorted({row[-1] for row in rows})
    x = np.array([[float(cell) for cell in row[:4]] for row in rows], "float32")
    y = np.array([species.index(row[-1]) for row in rows], "int32")
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], y[order]


def mnist(count: int, name: str = "mnist") -> tuple[np.ndarray, np.ndarray]:
    """The first images, bytes (count, 28, 28), and their labels."""
    with gzip.open(folder(name) / "train-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(16 + 784 * count), "uint8", offset=16).reshape(count, 28, 28)
    with gzip.open(folder(name) / "train-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(8 + count), "uint8", offset=8).astype("int32")
    return x, y


def fashion(count: int) -> tuple[np.ndarray, np.ndarray]:
    """As `mnist`, of garments."""
    return mnist(count, "fashion-mnist")


def cifar(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images, numbers in [0, 1] (count, 32, 32, 3), and their labels."""
    with lzma.open(folder("cifar-10") / "cifar-10-batches-bin" / "data_batch_1.bin.xz") as file:
        records = np.frombuffer(file.read(3073 * count), "uint8").reshape(count, 3073)
    x = records[:, 1:].reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)
    return (x / 255).astype("float32"), records[:, 0].astype("int32")


def miles_per_gallon() -> tuple[np.ndarray, np.ndarray]:
    """Cars without missing values: six standardized numbers, and miles per gallon (count, 1)."""
    with open(folder("auto-mpg") / "mpg.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row.values())]
    names = ("cylinders", "displacement", "horsepower", "weight", "acceleration", "model_year")
    x = np.array([[float(row[name]) for name in names] for row in rows], "float32")
    y = np.array([[float(row["mpg"])] for row in rows], "float32")
    order = np.random.default_rng(0).permutation(len(x))
    return ((x - x.mean(0)) / x.std(0))[order], y[order]


def titanic() -> dict[str, np.ndarray]:
    """Columns by name: numbers (standardized, missing ones 0), `sex`, `class`, `survived` as small integers."""
    with open(folder("titanic") / "titanic.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lower = [{name.lower(): cell for name, cell in row.items()} for row in rows]

    def numbers(name: str) -> np.ndarray:
        column = np.array([float(row[name] or "nan") for row in lower])
        return np.nan_to_num((column - np.nanmean(column)) / np.nanstd(column)).astype("float32")

    return {
        "age": numbers("age"),
        "fare": numbers("fare"),
        "sex": np.array([row["sex"] == "female" for row in lower], "int32"),
        "class": np.array([int(row["pclass"]) - 1 for row in lower], "int32"),
        "survived": np.array([int(row["survived"]) for row in lower], "int32"),
    }


def passengers(window: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of monthly numbers of airline passengers (count, window, 1), and the month after (count, 1)."""
    with open(next(folder("timeseries").glob("*passenger*.csv")), newline="") as file:
        series = np.array([float(row[-1]) for row in list(csv.reader(file))[1:]], "float32")
    series = (series - series.mean()) / series.std()
    x = np.lib.stride_tricks.sliding_window_view(series, window)[:-1, :, None]
    return np.ascontiguousarray(x), series[window:, None]


def words(count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First names (label 1) and words of Shakespeare (label 0) by turns, letters as 1 to 26, 0 behind the last."""
    names = (folder("names") / "names.txt").read_text().split()
    text = (folder("tinyshakespeare") / "input.txt").read_text().lower()
    plain = sorted(set(re.findall("[a-z]{3,}", text)))
    rng = np.random.default_rng(0)
    chosen = [*rng.choice(names, count // 2, replace=False), *rng.choice(plain, count // 2, replace=False)]
    x = np.zeros((count, length), "int32")
    for row, word in zip(x, chosen, strict=True):
        letters = [ord(letter) - ord("a") + 1 for letter in word.lower()[:length]]
        row[: len(letters)] = letters
    y = np.repeat(np.array([1, 0], "int32"), count // 2)
    order = rng.permutation(count)
    return x[order], y[order]


def shakespeare(count: int, window: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Windows of characters as integers (count, window), the characters after each, and how many there are."""
    text = (folder("tinyshakespeare") / "input.txt").read_text()[: (count + 1) * window]
    characters = sorted(set(text))
    codes = np.array([characters.index(c) for c in text], "int32")
    x = codes[: count * window].reshape(count, window)
    return x, codes[1 : count * window + 1].reshape(count, window), len(characters)
