"""What the processes of a comparison are handed: examples, first weights and the order of the batches, in one `.npz`.

Data come through `fluxion.data`. A set that is not on this computer is not downloaded unasked: random data of the same
shapes stand in, and every output says so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fluxion.compare.parts import Workload
from fluxion.compare.workloads import Comparison, Variant


class Examples(NamedTuple):
    """Pixels are bytes, so that a file of them is a quarter of the size; the worker makes float32 of them."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray  # may have no rows
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    kind: str  # "real" or "synthetic"


def load(comparison: Comparison) -> Examples:
    """The examples of a workload, in the order of the file.

    >>> from fluxion.compare import examples, workloads
    >>> found = examples.load(workloads.find("iris"))
    >>> found.x.shape, found.x_test.shape, found.kind
    ((105, 4), (45, 4), 'real')
    """
    from fluxion.data.catalogue import places

    name, read = SETS[comparison.data]
    kind = "real" if places(name) else "synthetic"
    x, y, x_test, y_test = read() if kind == "real" else _synthetic(comparison.fair, comparison.data)
    x, x_test = (array.reshape(-1, *comparison.fair.shape) for array in (x, x_test))
    rows, validation = SPLITS[comparison.data]
    end = rows + validation
    return Examples(x[:rows], y[:rows], x[rows:end], y[rows:end], x_test, y_test, kind)


def hashes(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """A hash of each array, by which two reports can be seen to be of the same numbers."""
    return {name: hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:16] for name, a in arrays.items()}


def prepare(
    folder: Path, comparison: Comparison, workload: Workload, variant: Variant | None, seeds: int, small: bool
) -> dict[str, Any]:
    """Write the `.npz` for the processes of a workload, fair or of a variant; its path, and what is in it.

    `small` leaves the first few batches alone, and one seed.
    """
    found = load(comparison)
    x, y = found.x, found.y
    if workload.examples > len(x) and len(found.x_validation):  # a post that trained on what others validate on
        x, y = (np.concatenate(pair) for pair in ((x, found.x_validation), (y, found.y_validation)))
    if small:
        limit = max(20 * workload.batch, 100)
        x, y = x[:limit], y[:limit]
        found = Examples(*[array[:limit] for array in found[:6]], found.kind)  # type: ignore[arg-type, call-arg]
    arrays = {"x": x, "y": y, "x_test": found.x_test, "y_test": found.y_test}
    if len(found.x_validation):
        arrays |= {"x_validation": found.x_validation, "y_validation": found.y_validation}
    for seed in range(seeds):
        arrays[f"order/{seed}"] = order(workload, variant, len(x), seed)
        arrays |= {f"weights/{seed}/{name}": array for name, array in workload.weights(seed).items()}
    name = variant.name.replace(" ", "-").replace(",", "") if variant else "fair"
    file = folder / f"{comparison.name}-{name}.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return {"file": file, "kind": found.kind, "hashes": hashes(arrays), "arrays": arrays}


def order(workload: Workload, variant: Variant | None, rows: int, seed: int) -> np.ndarray:
    """Which rows are trained on, epoch by epoch: (epochs, rows of an epoch), batch after batch.

    A fair run goes through the rows in a new random order in each epoch; those that fill no whole batch are left out.
    """
    random = np.random.default_rng([seed, 1])
    way = variant.batches if variant else "reshuffled"
    count = min(rows, workload.examples)
    if not (variant and variant.partial):
        count = count // workload.batch * workload.batch
    if way == "in order":
        return np.tile(np.arange(count, dtype=np.int32), (workload.epochs, 1))
    if way == "drawn once":
        count = workload.examples
        return np.tile(random.choice(rows, count).astype(np.int32), (workload.epochs, 1))
    if way == "shuffled once":
        return np.tile(random.permutation(rows)[:count].astype(np.int32), (workload.epochs, 1))
    return np.stack([random.permutation(rows)[:count].astype(np.int32) for _ in range(workload.epochs)])


# ------------------------------------------------------------------------------------------------ the sets


def _iris() -> tuple[np.ndarray, ...]:
    from fluxion.data import datasets

    x, y = datasets.iris()
    random = np.random.default_rng(123)
    test = np.sort(np.concatenate([random.choice(np.flatnonzero(y == c), 15, replace=False) for c in range(3)]))
    train = np.setdiff1d(np.arange(len(x)), test)
    return x[train], y[train], x[test], y[test]


def _pictures(name: str) -> Any:
    def read() -> tuple[np.ndarray, ...]:
        from fluxion.data.datasets import mnist_bytes

        pairs = [mnist_bytes(name, split) for split in ("train", "test")]
        return tuple(array for x, y in pairs for array in (x[..., None], y.astype(np.int32)))

    return read


def _cifar10() -> tuple[np.ndarray, ...]:
    from fluxion.data import datasets

    found = []
    for split in ("train", "test"):
        x, y = datasets.cifar10(split)
        pixels = np.empty(x.shape, np.uint8)
        for start in range(0, len(x), 1000):
            pixels[start : start + 1000] = np.rint(x[start : start + 1000] * np.float32(255))
        found += [pixels, y]
    return tuple(found)


def _shakespeare() -> tuple[np.ndarray, ...]:
    from fluxion.data import Characters, datasets

    text = datasets.tinyshakespeare()
    x, y = Characters(text).windows(text, 64)
    cut = len(x) * 9 // 10
    return tuple(np.ascontiguousarray(array) for array in (x[:cut], y[:cut], x[cut:], y[cut:]))


SETS = {
    "iris": ("iris", _iris),
    "mnist": ("mnist", _pictures("mnist")),
    "mnist-csv": ("mnist", _pictures("mnist")),  # a CSV file of them gives the same bytes: see fluxion datasets convert
    "fashion-mnist": ("fashion_mnist", _pictures("fashion_mnist")),
    "cifar10": ("cifar10", _cifar10),
    "shakespeare": ("tinyshakespeare", _shakespeare),
}
SPLITS = {  # rows to train on and to validate on
    "iris": (105, 0),
    "mnist": (60_000, 0),
    "mnist-csv": (54_000, 6000),
    "fashion-mnist": (60_000, 0),
    "cifar10": (49_000, 1000),
    "shakespeare": (1 << 30, 0),
}


def _synthetic(workload: Workload, data: str) -> tuple[np.ndarray, ...]:
    """Random examples of the right shape, with something to learn: a picture for each class, or likely pairs."""
    random = np.random.default_rng(1)
    train, validation = SPLITS[data]
    rows, test = min(train, workload.examples) + validation, workload.evaluation
    if data == "shakespeare":
        x = random.integers(0, workload.classes, (rows + test, workload.shape[0] + 1), dtype=np.int32)
        follows = random.permutation(workload.classes)
        for step in range(1, x.shape[1]):  # every other character follows from the one before
            known = random.random(len(x)) < 0.5
            x[known, step] = follows[x[known, step - 1]]
        x, y = np.ascontiguousarray(x[:, :-1]), np.ascontiguousarray(x[:, 1:])
    else:
        y = random.integers(0, workload.classes, rows + test, dtype=np.int32)
        pictures = random.integers(0, 128, (workload.classes, *workload.shape), dtype=np.uint8)
        x = random.integers(0, 128, (rows + test, *workload.shape), dtype=np.uint8)
        x += pictures[y]
    return x[:rows], y[:rows], x[rows:], y[rows:]
