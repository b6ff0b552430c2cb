"""Layers that make pictures larger: `Upsample`, `PixelShuffle`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError, nearest
from fluxion.layers.inputs import as_array, whole
from fluxion.ops.patches import pixel_shuffle
from fluxion.ops.upsampling import Scale, Size, scale_or_size, upsample_linear, upsample_nearest
from fluxion.ops.windows import input_axes
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped

# Spatial axes of each mode; None for any number of them.
MODES = {"nearest": None, "linear": 1, "bilinear": 2, "trilinear": 3}


class Upsample(Layer):
    """The input with more cells along each spatial axis, or with fewer: repeated, or interpolated between cells.

    Shapes: input `(batch, *spatial, channels)`, output `(batch, *sizes, channels)` where `sizes` are
    `floor(spatial * scale)`, or `size`. The dtype stays, but integers become floats unless `mode` is "nearest".

    Arguments:
      scale: how many times larger, a number or one per spatial axis; fractions are allowed.
      size: instead, the sizes of the spatial axes of the output, a number or one per axis.
      mode: "nearest" for one to three spatial axes; "linear" for one, "bilinear" for two, "trilinear" for three.
      align_corners: whether interpolation leaves the middles of the first and last cells where they are, as Flux does,
        rather than the outer borders. Not for "nearest".

    Errors: ArgumentError for both or neither of `scale` and `size` or an unknown mode, ShapeError for input with
    another number of spatial axes. The numbers are those of `torch.nn.Upsample`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.Upsample(2, mode="bilinear")
    >>> layer, layer(jnp.ones((8, 14, 14, 3))).shape
    (Upsample(2, mode='bilinear'), (8, 28, 28, 3))
    """

    scale: Scale | None
    size: Size | None
    mode: str
    align_corners: bool

    def __init__(
        self,
        scale: Scale | None = None,
        *,
        size: Size | None = None,
        mode: Literal["nearest", "linear", "bilinear", "trilinear"] = "nearest",
        align_corners: bool = False,
    ) -> None:
        self.scale, self.size = scale_or_size("Upsample", scale, size)
        if mode not in MODES:
            known = ", ".join(f'"{m}"' for m in MODES)
            raise ArgumentError(
                f"Upsample: expected mode to be one of {known}, got {mode!r}.{nearest(str(mode), MODES)}"
            )
        if align_corners and mode == "nearest":
            raise ArgumentError(
                'Upsample: expected align_corners=False with mode="nearest", which has none to align, got True. '
                'Use mode="linear", "bilinear" or "trilinear".'
            )
        self.mode = mode
        self.align_corners = bool(align_corners)

    def __call__(self, x: Shaped[Array, "n *spatial c"]) -> Shaped[Array, "n *sizes c"]:
        x = jnp.asarray(as_array(x))
        dims = MODES[self.mode]
        if dims is None:
            return upsample_nearest(x, self.scale, size=self.size)
        if x.ndim != dims + 2:
            use = next((f' Use mode="{mode}".' for mode, n in MODES.items() if n and n + 2 == x.ndim), "")
            raise ShapeError(f'expected input {input_axes(dims)} for mode="{self.mode}", got {x.shape}.{use}')
        return upsample_linear(x, self.scale, size=self.size, align_corners=self.align_corners)


class PixelShuffle(Layer):
    """Channels become cells, `factor` times as many along each spatial axis: `pixel_shuffle(x, factor)`.

    After a convolution to `channels * factor**dims` channels it makes pictures larger without overlapping windows.

    Shapes: input `(batch, *spatial, channels * factor**dims)` with `dims` one to three spatial axes, output
    `(batch, *(spatial * factor), channels)`. The dtype stays.

    Errors: ShapeError for channels that `factor**dims` does not divide. Source: Shi et al. 2016; the numbers are those
    of `torch.nn.PixelShuffle` with the channels moved last.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.PixelShuffle(2)(jnp.ones((8, 14, 14, 12))).shape
    (8, 28, 28, 3)
    """

    factor: int

    def __init__(self, factor: int) -> None:
        self.factor = whole("PixelShuffle", "factor", factor)

    def __call__(self, x: Shaped[Array, "n *spatial cr"]) -> Shaped[Array, "n *larger c"]:
        return pixel_shuffle(jnp.asarray(as_array(x)), self.factor)
