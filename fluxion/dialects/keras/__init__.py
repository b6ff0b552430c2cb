"""Keras' API over the engine of Fluxion: a Keras 3 program runs with only its import line changed.

    from fluxion.dialects import keras
    from fluxion.dialects.keras import layers

Models are Fluxion models: `fx.train`, `fx.summary` and `fx.save` work on them.
"""

# Foundations
from fluxion.dialects.keras.layer import Layer
from fluxion.dialects.keras.models import Model, Sequential
from fluxion.dialects.keras.symbolic import Input, KerasTensor
from fluxion.dialects.keras.variables import Variable

# Parts, each a module as in Keras
from fluxion.dialects.keras import activations, initializers, regularizers, random
from fluxion.dialects.keras import layers, ops
from fluxion.dialects.keras import losses, metrics, optimizers, callbacks, utils
from fluxion.dialects.keras import backend, models, saving

# What Keras also has at the top
from fluxion.dialects.keras.losses import Loss
from fluxion.dialects.keras.metrics import Metric
from fluxion.dialects.keras.optimizers import Optimizer

__all__ = [
    "Input",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Sequential",
    "Variable",
    "activations",
    "backend",
    "callbacks",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "random",
    "regularizers",
    "saving",
    "utils",
]
