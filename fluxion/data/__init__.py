"""Data: batches, splits, one-hot labels, data sets, tables."""

from fluxion.data import datasets
from fluxion.data.arrays import batch, normalize, unbatch
from fluxion.data.classweights import class_weights
from fluxion.data.loader import DataLoader
from fluxion.data.onehot import onecold, onehot, onehotbatch
from fluxion.data.pixels import read_pixels
from fluxion.data.splits import kfolds, splitobs
from fluxion.data.streaming import stream_table
from fluxion.data.tablefiles import read_table
from fluxion.data.tableoverview import overview
from fluxion.data.tables import TableEncoder
from fluxion.data.timeseries import timeseries_windows

__all__ = [
    "DataLoader",
    "TableEncoder",
    "batch",
    "class_weights",
    "datasets",
    "kfolds",
    "normalize",
    "onecold",
    "onehot",
    "onehotbatch",
    "overview",
    "read_pixels",
    "read_table",
    "splitobs",
    "stream_table",
    "timeseries_windows",
    "unbatch",
]
