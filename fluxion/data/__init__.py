"""Data: batches, splits, one-hot labels, data sets, tables, images."""

from fluxion.data import datasets
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
from fluxion.data.colors import (
    channel_statistics,
    color_jitter,
    gaussian_noise,
    grayscale,
    normalize_channels,
)
from fluxion.data.imagefolders import ImageFolder, read_images
from fluxion.data.loader import DataLoader
from fluxion.data.onehot import onecold, onehot, onehotbatch
from fluxion.data.previews import preview
from fluxion.data.splits import kfolds, splitobs
from fluxion.data.tablefiles import read_table
from fluxion.data.tables import TableEncoder

__all__ = [
    "DataLoader",
    "ImageFolder",
    "TableEncoder",
    "batch",
    "channel_statistics",
    "color_jitter",
    "cutmix",
    "cutout",
    "datasets",
    "gaussian_noise",
    "grayscale",
    "kfolds",
    "mixup",
    "normalize",
    "normalize_channels",
    "onecold",
    "onehot",
    "onehotbatch",
    "preview",
    "random_crop",
    "random_flip",
    "random_rotation",
    "random_shift",
    "read_images",
    "read_table",
    "splitobs",
    "unbatch",
]
