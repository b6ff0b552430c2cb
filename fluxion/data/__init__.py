"""Data: batches, splits, one-hot labels, data sets, tables."""

from fluxion.data import datasets
from fluxion.data.arrays import batch, normalize, unbatch
from fluxion.data.loader import DataLoader
from fluxion.data.onehot import onecold, onehot, onehotbatch
from fluxion.data.samplers import BalancedSampler, LengthSampler, WeightedSampler, oversample, undersample
from fluxion.data.splits import kfolds, splitobs, timeseries_kfolds
from fluxion.data.tablefiles import read_table
from fluxion.data.tables import TableEncoder
from fluxion.data.views import filterobs, groupby, mapobs, slidingwindow

__all__ = [
    "BalancedSampler",
    "DataLoader",
    "LengthSampler",
    "TableEncoder",
    "WeightedSampler",
    "batch",
    "datasets",
    "filterobs",
    "groupby",
    "kfolds",
    "mapobs",
    "normalize",
    "onecold",
    "onehot",
    "onehotbatch",
    "oversample",
    "read_table",
    "slidingwindow",
    "splitobs",
    "timeseries_kfolds",
    "unbatch",
    "undersample",
]
