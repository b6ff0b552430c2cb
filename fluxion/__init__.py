"""Fluxion: models are callables, gradients have the shape of their model, whole steps are compiled by XLA.

This is the catalogue: `import fluxion as fx`, and everything is `fx.name`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


# Containers
from fluxion.layers import Chain, Maxout, Parallel, PairwiseFusion, Repeated, SkipConnection, activations

# Layers
from fluxion.layers import (
    Bilinear,
    Dense,
    Embedding,
    EmbeddingBag,
    Scale,
    TableEmbedding,
    flatten,
)

# Convolution
from fluxion.layers import Conv, ConvTranspose, DepthwiseConv, Pad
from fluxion.ops.conv import conv, conv_transpose
from fluxion.ops.padding import pad

# Pooling
from fluxion.layers import (
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    GlobalMaxPool,
    GlobalMeanPool,
    LpPool,
    MaxPool,
    MeanPool,
)
from fluxion.ops.pooling import (
    adaptive_max_pool,
    adaptive_mean_pool,
    global_max_pool,
    global_mean_pool,
    lp_pool,
    max_pool,
    mean_pool,
)

# Resizing and rearranging pictures
from fluxion.layers import PixelShuffle, Upsample
from fluxion.ops.patches import fold, pixel_shuffle, pixel_unshuffle, unfold
from fluxion.ops.sampling import affine_grid, grid_sample, imrotate
from fluxion.ops.upsampling import upsample_linear, upsample_nearest

# Normalization
from fluxion.layers import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    WeightNorm,
    remove_weight_norms,
)

# Regularization
from fluxion.layers import AlphaDropout, Dropout, StochasticDepth

# Recurrence
from fluxion.layers import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrence, RNNCell

# Attention
from fluxion.layers import (
    KeyValueCache,
    LearnedPositions,
    MultiHeadAttention,
    SinusoidalPositions,
    TransformerBlock,
    rotary,
    sinusoidal_positions,
)
from fluxion.ops.attention import causal_mask, dot_product_attention

# Indexing and batches of matrices
from fluxion.ops.indexing import gather, scatter
from fluxion.ops.batched import batched_mul, batched_transpose, batched_vec

# Audio
from fluxion.ops.audio import (
    hamming_window,
    hann_window,
    istft,
    mel_spectrogram,
    melscale_filterbank,
    power_to_db,
    spectrogram,
    stft,
)

# Activations
from fluxion.ops.activations import (
    celu,
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    identity,
    leakyrelu,
    lisht,
    logcosh,
    logsigmoid,
    logsoftmax,
    mish,
    relu,
    relu6,
    rrelu,
    selu,
    sigmoid,
    softmax,
    softplus,
    softshrink,
    softsign,
    swish,
    tanh,
    tanhshrink,
    trelu,
)

# Losses
from fluxion.ops.losses import (
    binary_focal_loss,
    binarycrossentropy,
    crossentropy,
    ctc_loss,
    dice_coeff_loss,
    focal_loss,
    hinge_loss,
    huber_loss,
    kldivergence,
    label_smoothing,
    logitbinarycrossentropy,
    logitcrossentropy,
    mae,
    mse,
    msle,
    poisson_loss,
    siamese_contrastive_loss,
    squared_hinge_loss,
    tversky_loss,
    xlogx,
    xlogy,
)

# Initializers
from fluxion.ops.initializers import (
    Initializer,
    glorot_normal,
    glorot_uniform,
    identity_init,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    nfan,
    ones,
    orthogonal,
    rand,
    randn,
    sparse_init,
    truncated_normal,
    zeros,
)

# Models: their parts, copies and shapes
from fluxion.tree import (
    Layer,
    Param,
    bf16,
    cpu,
    destructure,
    device,
    f16,
    f32,
    f64,
    fmap,
    gpu,
    modules,
    state,
    trainables,
)
from fluxion.transform.sizes import autosize, outputsize
from fluxion.transform.summary import summary

# Gradients and compilation
from fluxion.transform.gradient import gradient, hessian, jacobian, params, pullback, withgradient
from fluxion.transform.compile import jit

# Modes and randomness
from fluxion.transform.modes import auto, istraining, testmode, trainmode, within_gradient
from fluxion.transform.randomness import randomness, seed

# The training loop
from fluxion.train import train, trainstep

# Memory of the process
from fluxion.memory import keep_memory

# Errors
from fluxion.errors import (
    ArgumentError,
    DTypeError,
    DataError,
    FileFormatError,
    FluxionError,
    NonFiniteError,
    ShapeError,
    StateError,
    nearest,
)
from fluxion.version import __version__

if TYPE_CHECKING:  # these are loaded when first used, by `__getattr__` below
    # Optimizers
    from fluxion.optim import (
        AccumGrad,
        AdaBelief,
        AdaDelta,
        AdaGrad,
        Adam,
        AdaMax,
        AdamW,
        AMSGrad,
        ClipGlobalNorm,
        ClipGrad,
        ClipNorm,
        Descent,
        EMA,
        Lion,
        Momentum,
        NAdam,
        Nesterov,
        OAdam,
        Optimizer,
        OptimizerChain,
        RAdam,
        RMSProp,
        Rprop,
        SignDecay,
        WeightDecay,
        adjust,
        averaged,
        freeze,
        schedules,
        setup,
        thaw,
        update,
    )

    # Data
    from fluxion.data import (
        BalancedSampler,
        Characters,
        DataLoader,
        ImageFolder,
        LengthSampler,
        TableEncoder,
        WeightedSampler,
        batch,
        channel_statistics,
        class_weights,
        color_jitter,
        cutmix,
        cutout,
        datasets,
        filterobs,
        gaussian_noise,
        grayscale,
        groupby,
        kfolds,
        mapobs,
        mixup,
        normalize,
        normalize_channels,
        onecold,
        onehot,
        onehotbatch,
        oversample,
        overview,
        preview,
        random_crop,
        random_flip,
        random_rotation,
        random_shift,
        read_arrays,
        read_images,
        read_lines,
        read_pixels,
        read_table,
        slidingwindow,
        splitobs,
        stream_table,
        timeseries_kfolds,
        timeseries_windows,
        unbatch,
        undersample,
    )

    # Augmentation of images

    # Training
    from fluxion.train.fit import fit
    from fluxion.train.evaluate import evaluate, predict
    from fluxion.train.history import History
    from fluxion.train.columns import Summed
    from fluxion.train.metrics import accuracy, confusion_matrix, r2_score, topk_accuracy
    from fluxion.train.callbacks import Callback, FitContext
    from fluxion.train.followers import CSVLogger, EarlyStopping, ReduceOnPlateau
    from fluxion.train.throttle import patience, throttle
    from fluxion.train.checkpoint import Checkpoint
    from fluxion.train.loggers import LearningRateLogger, TensorBoard
    from fluxion.train.finder import find_learning_rate

    # Files
    from fluxion.io import load, loadmodel, save

__all__ = [
    "AMSGrad",
    "AccumGrad",
    "AdaBelief",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "AdaptiveMaxPool",
    "AdaptiveMeanPool",
    "AlphaDropout",
    "ArgumentError",
    "BalancedSampler",
    "BatchNorm",
    "Bilinear",
    "CSVLogger",
    "Callback",
    "Chain",
    "Characters",
    "Checkpoint",
    "ClipGlobalNorm",
    "ClipGrad",
    "ClipNorm",
    "Conv",
    "ConvTranspose",
    "DTypeError",
    "DataError",
    "DataLoader",
    "Dense",
    "DepthwiseConv",
    "Descent",
    "Dropout",
    "EMA",
    "EarlyStopping",
    "Embedding",
    "EmbeddingBag",
    "FileFormatError",
    "FitContext",
    "FluxionError",
    "GRU",
    "GRUCell",
    "GlobalMaxPool",
    "GlobalMeanPool",
    "GroupNorm",
    "History",
    "ImageFolder",
    "Initializer",
    "InstanceNorm",
    "KeyValueCache",
    "LSTM",
    "LSTMCell",
    "Layer",
    "LayerNorm",
    "LearningRateLogger",
    "LearnedPositions",
    "LengthSampler",
    "Lion",
    "LpPool",
    "MaxPool",
    "Maxout",
    "MeanPool",
    "Momentum",
    "MultiHeadAttention",
    "NAdam",
    "Nesterov",
    "NonFiniteError",
    "OAdam",
    "Optimizer",
    "OptimizerChain",
    "Pad",
    "PairwiseFusion",
    "Parallel",
    "Param",
    "PixelShuffle",
    "RAdam",
    "RMSNorm",
    "RMSProp",
    "RNN",
    "RNNCell",
    "Recurrence",
    "ReduceOnPlateau",
    "Repeated",
    "Rprop",
    "Scale",
    "ShapeError",
    "SignDecay",
    "SinusoidalPositions",
    "SkipConnection",
    "StateError",
    "StochasticDepth",
    "Summed",
    "TableEmbedding",
    "TableEncoder",
    "TensorBoard",
    "TransformerBlock",
    "Upsample",
    "WeightDecay",
    "WeightNorm",
    "WeightedSampler",
    "__version__",
    "accuracy",
    "activations",
    "adaptive_max_pool",
    "adaptive_mean_pool",
    "adjust",
    "affine_grid",
    "auto",
    "autosize",
    "averaged",
    "batch",
    "batched_mul",
    "batched_transpose",
    "batched_vec",
    "bf16",
    "binary_focal_loss",
    "binarycrossentropy",
    "causal_mask",
    "celu",
    "channel_statistics",
    "color_jitter",
    "confusion_matrix",
    "class_weights",
    "conv",
    "conv_transpose",
    "cpu",
    "crossentropy",
    "ctc_loss",
    "cutmix",
    "cutout",
    "datasets",
    "destructure",
    "device",
    "dice_coeff_loss",
    "dot_product_attention",
    "elu",
    "evaluate",
    "f16",
    "f32",
    "f64",
    "filterobs",
    "find_learning_rate",
    "fit",
    "flatten",
    "fmap",
    "focal_loss",
    "fold",
    "freeze",
    "gather",
    "gaussian_noise",
    "gelu",
    "global_max_pool",
    "global_mean_pool",
    "glorot_normal",
    "glorot_uniform",
    "glu",
    "gpu",
    "gradient",
    "grayscale",
    "grid_sample",
    "groupby",
    "hamming_window",
    "hann_window",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hessian",
    "hinge_loss",
    "huber_loss",
    "identity",
    "identity_init",
    "imrotate",
    "istft",
    "istraining",
    "jacobian",
    "jit",
    "kaiming_normal",
    "kaiming_uniform",
    "keep_memory",
    "kfolds",
    "kldivergence",
    "label_smoothing",
    "leakyrelu",
    "lecun_normal",
    "lisht",
    "load",
    "loadmodel",
    "logcosh",
    "logitbinarycrossentropy",
    "logitcrossentropy",
    "logsigmoid",
    "logsoftmax",
    "lp_pool",
    "mae",
    "mapobs",
    "max_pool",
    "mean_pool",
    "mel_spectrogram",
    "melscale_filterbank",
    "mish",
    "mixup",
    "modules",
    "mse",
    "msle",
    "nfan",
    "normalize",
    "normalize_channels",
    "onecold",
    "onehot",
    "onehotbatch",
    "ones",
    "orthogonal",
    "outputsize",
    "oversample",
    "overview",
    "pad",
    "params",
    "patience",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_loss",
    "power_to_db",
    "predict",
    "preview",
    "pullback",
    "r2_score",
    "rand",
    "randn",
    "random_crop",
    "random_flip",
    "random_rotation",
    "random_shift",
    "randomness",
    "read_images",
    "read_arrays",
    "read_lines",
    "read_pixels",
    "read_table",
    "relu",
    "relu6",
    "remove_weight_norms",
    "rotary",
    "rrelu",
    "save",
    "scatter",
    "schedules",
    "seed",
    "selu",
    "setup",
    "siamese_contrastive_loss",
    "sigmoid",
    "sinusoidal_positions",
    "slidingwindow",
    "softmax",
    "softplus",
    "softshrink",
    "softsign",
    "sparse_init",
    "spectrogram",
    "splitobs",
    "squared_hinge_loss",
    "state",
    "stft",
    "stream_table",
    "summary",
    "swish",
    "tanh",
    "tanhshrink",
    "testmode",
    "thaw",
    "throttle",
    "timeseries_kfolds",
    "timeseries_windows",
    "topk_accuracy",
    "train",
    "trainables",
    "trainmode",
    "trainstep",
    "trelu",
    "truncated_normal",
    "tversky_loss",
    "unbatch",
    "undersample",
    "unfold",
    "update",
    "upsample_linear",
    "upsample_nearest",
    "withgradient",
    "within_gradient",
    "xlogx",
    "xlogy",
    "zeros",
]

# Importing Fluxion is to cost little more than importing JAX: these wait until one of their names is used.
_LATER = (
    "fluxion.optim",
    "fluxion.data",
    "fluxion.train.fit",
    "fluxion.train.columns",
    "fluxion.train.evaluate",
    "fluxion.train.history",
    "fluxion.train.metrics",
    "fluxion.train.callbacks",
    "fluxion.train.followers",
    "fluxion.train.throttle",
    "fluxion.train.checkpoint",
    "fluxion.train.loggers",
    "fluxion.train.finder",
    "fluxion.io",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(importlib.import_module, _LATER):
            if name in vars(module):
                globals()[name] = vars(module)[name]
                return globals()[name]
    raise AttributeError(f"module 'fluxion' has no attribute {name!r}.{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return __all__
