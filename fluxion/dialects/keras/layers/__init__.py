"""The catalogue of built-in layers."""

from fluxion.dialects.keras.layer import Layer
from fluxion.dialects.keras.layers.dense import Dense

__all__ = ["Dense", "Layer"]
