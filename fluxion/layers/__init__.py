"""The catalogue of layers."""

# Containers
from fluxion.layers.containers import Chain, Maxout, PairwiseFusion, Parallel, SkipConnection, activations
from fluxion.layers.repeated import Repeated

# Affine
from fluxion.layers.dense import Bilinear, Dense, Scale, flatten

# Tables
from fluxion.layers.embedding import Embedding, EmbeddingBag
from fluxion.layers.tableembedding import TableEmbedding

# Convolution
from fluxion.layers.conv import Conv, ConvTranspose, DepthwiseConv, Pad

# Pooling
from fluxion.layers.pooling import (
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    GlobalMaxPool,
    GlobalMeanPool,
    LpPool,
    MaxPool,
    MeanPool,
)

# Resizing
from fluxion.layers.upsampling import PixelShuffle, Upsample

# Normalization
from fluxion.layers.batchnorm import BatchNorm, InstanceNorm
from fluxion.layers.normalization import GroupNorm, LayerNorm, RMSNorm
from fluxion.layers.weightnorm import WeightNorm, remove_weight_norms

# Regularization
from fluxion.layers.dropout import AlphaDropout, Dropout, StochasticDepth

# Recurrence
from fluxion.layers.cells import GRUCell, LSTMCell, RNNCell
from fluxion.layers.recurrence import Recurrence
from fluxion.layers.recurrent import GRU, LSTM, RNN

# Attention
from fluxion.layers.attention import KeyValueCache, MultiHeadAttention
from fluxion.layers.positions import LearnedPositions, SinusoidalPositions, rotary, sinusoidal_positions
from fluxion.layers.transformer import TransformerBlock

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveMaxPool",
    "AdaptiveMeanPool",
    "AlphaDropout",
    "BatchNorm",
    "Bilinear",
    "Chain",
    "Conv",
    "ConvTranspose",
    "Dense",
    "DepthwiseConv",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "GRUCell",
    "GlobalMaxPool",
    "GlobalMeanPool",
    "GroupNorm",
    "InstanceNorm",
    "KeyValueCache",
    "LSTMCell",
    "LayerNorm",
    "LearnedPositions",
    "LpPool",
    "MaxPool",
    "Maxout",
    "MeanPool",
    "MultiHeadAttention",
    "Pad",
    "PairwiseFusion",
    "Parallel",
    "PixelShuffle",
    "RMSNorm",
    "RNNCell",
    "Recurrence",
    "Repeated",
    "Scale",
    "SinusoidalPositions",
    "SkipConnection",
    "StochasticDepth",
    "TableEmbedding",
    "TransformerBlock",
    "Upsample",
    "WeightNorm",
    "activations",
    "flatten",
    "remove_weight_norms",
    "rotary",
    "sinusoidal_positions",
]
