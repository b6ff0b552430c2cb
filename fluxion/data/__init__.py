"""Data: batches, splits, one-hot labels, data sets, tables."""

from fluxion.data import datasets
from fluxion.data.arrayfiles import read_arrays
from fluxion.data.arrays import batch, normalize, unbatch
from fluxion.data.loader import DataLoader
from fluxion.data.onehot import onecold, onehot, onehotbatch
from fluxion.data.pixelcsv import read_pixels
from fluxion.data.splits import kfolds, splitobs
from fluxion.data.tablefiles import read_table
from fluxion.data.tables import TableEncoder
from fluxion.data.text import Characters, read_lines

__all__ = [
    "Characters",
    "DataLoader",
    "TableEncoder",
    "batch",
    "datasets",
    "kfolds",
    "normalize",
    "onecold",
    "onehot",
    "onehotbatch",
    "read_arrays",
    "read_lines",
    "read_pixels",
    "read_table",
    "splitobs",
    "unbatch",
]
