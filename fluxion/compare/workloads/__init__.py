"""The workloads of `fluxion compare`: one file each, with a `WORKLOAD`; a new file here is a new workload.

A workload has one fair description, from which every framework builds the same thing, and the variants that a post ran,
faults included, with the numbers that it published.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path

from fluxion.compare.parts import Workload
from fluxion.errors import ArgumentError, nearest


@dataclass(frozen=True)
class Variant:
    """What one framework of a post ran, and what came of it.

    `published` has `train loss`, `train accuracy` and `validation accuracy` (a number for each epoch, or the last
    alone), `test accuracy` and `seconds per epoch`, as far as the post or the code behind it gives them.
    """

    name: str  # as the post calls it
    workload: Workload
    frameworks: tuple[str, ...]  # the adapters that stand for it
    faults: str  # what makes it differ from the fair run
    batches: str = "reshuffled"  # of BATCHES
    partial: bool = False  # the last, smaller batch is trained on, too
    rows: int | None = None  # only the first so many examples are trained on
    pixels: str = "0 to 1"  # or "0 to 255", or "standardized" with the mean and deviation of MNIST
    published: dict[str, float | list[float]] = field(default_factory=dict)


BATCHES = {
    "reshuffled": "in a new random order in each epoch",
    "shuffled once": "in one random order, the same in each epoch",
    "in order": "in the order of the file, the same in each epoch",
    "drawn once": "ten batches drawn with replacement before training, the same in each epoch",
}


@dataclass(frozen=True)
class Comparison:
    """A workload: what is trained, on what, and what the result should be."""

    title: str
    post: str  # where it comes from
    data: str  # of data.LOADERS
    split: str  # in words
    fair: Workload
    about: str = ""  # what a reader has to know of the fair run
    band: tuple[float, float] | None = None  # where the test accuracy of a fair run on the real data lies
    tolerance: float = 1e-4  # relative: how far the losses of the first TEN steps may be from the reference
    drift: float = 2e-2  # the same for the others of the first 50: rounding grows by every step
    whole: int = 3  # runs that time compiling, preparation, epoch and evaluation, too, and compare all losses
    others: int | None = None  # runs of the modes beside the first of each of Fluxion's styles, if fewer
    variants: tuple[Variant, ...] = ()

    @property
    def name(self) -> str:
        return self.fair.name


def names() -> list[str]:
    """The names of all workloads, `_` written as `-`."""
    files = Path(__file__).parent.glob("[!_]*.py")
    return sorted(file.stem.replace("_", "-") for file in files)


def find(name: str) -> Comparison:
    """The workload of that name.

    >>> from fluxion.compare import workloads
    >>> workloads.find("iris").fair.parameters
    83
    >>> workloads.find("irs")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: there is no workload 'irs'. Did you mean 'iris'? fluxion compare list shows all.
    """
    if name not in names():
        raise ArgumentError(f"there is no workload {name!r}.{nearest(name, names())} fluxion compare list shows all.")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").WORKLOAD
