"""Data: batches, splits, one-hot labels, data sets, tables, images."""

from fluxion.data import datasets
from fluxion.data.arrayfiles import read_arrays
from fluxion.data.arrays import batch, normalize, unbatch
from fluxion.data.augmentation import (
    cutmix,
    cutout,
    mixup,
    random_crop,
    random_flip,
    random_rotation,
    random_shift,
)
from fluxion.data.classweights import class_weights
from fluxion.data.colors import (
    channel_statistics,
    color_jitter,
    gaussian_noise,
    grayscale,
    normalize_channels,
)
from fluxion.data.epochs import Epochs
from fluxion.data.imagefolders import ImageFolder, read_images
from fluxion.data.loader import DataLoader
from fluxion.data.onehot import onecold, onehot, onehotbatch
from fluxion.data.pixels import read_pixels
from fluxion.data.previews import preview
from fluxion.data.samplers import BalancedSampler, LengthSampler, WeightedSampler, oversample, undersample
from fluxion.data.splits import kfolds, splitobs, timeseries_kfolds
from fluxion.data.streaming import stream_table
from fluxion.data.tablefiles import read_table
from fluxion.data.tableoverview import overview
from fluxion.data.tables import TableEncoder
from fluxion.data.text import Characters, read_lines
from fluxion.data.timeseries import timeseries_windows
from fluxion.data.views import filterobs, groupby, mapobs, slidingwindow

__all__ = [
    "BalancedSampler",
    "Characters",
    "DataLoader",
    "Epochs",
    "ImageFolder",
    "LengthSampler",
    "TableEncoder",
    "WeightedSampler",
    "batch",
    "channel_statistics",
    "class_weights",
    "color_jitter",
    "cutmix",
    "cutout",
    "datasets",
    "filterobs",
    "gaussian_noise",
    "grayscale",
    "groupby",
    "kfolds",
    "mapobs",
    "mixup",
    "normalize",
    "normalize_channels",
    "onecold",
    "onehot",
    "onehotbatch",
    "oversample",
    "overview",
    "preview",
    "random_crop",
    "random_flip",
    "random_rotation",
    "random_shift",
    "read_arrays",
    "read_images",
    "read_lines",
    "read_pixels",
    "read_table",
    "slidingwindow",
    "splitobs",
    "stream_table",
    "timeseries_kfolds",
    "timeseries_windows",
    "unbatch",
    "undersample",
]
