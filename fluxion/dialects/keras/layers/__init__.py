"""The catalogue of built-in layers."""

from fluxion.dialects.keras.layer import Layer
from fluxion.dialects.keras.layers.dense import Dense
from fluxion.dialects.keras.symbolic import Input, InputLayer

__all__ = ["Dense", "Input", "InputLayer", "Layer"]
