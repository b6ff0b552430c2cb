"""The catalogue of layers."""

# Containers
from fluxion.layers.containers import Chain, Maxout, PairwiseFusion, Parallel, SkipConnection, activations

# Affine
from fluxion.layers.dense import Bilinear, Dense, Scale, flatten

# Regularization
from fluxion.layers.dropout import AlphaDropout, Dropout

# Tables
from fluxion.layers.embedding import Embedding, EmbeddingBag

# Normalization
from fluxion.layers.normalization import BatchNorm, LayerNorm

__all__ = [
    "AlphaDropout",
    "BatchNorm",
    "Bilinear",
    "Chain",
    "Dense",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "LayerNorm",
    "Maxout",
    "PairwiseFusion",
    "Parallel",
    "Scale",
    "SkipConnection",
    "activations",
    "flatten",
]
