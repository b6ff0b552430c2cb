"""Figures that belong to nobody but the caller: nothing here touches `pyplot`, a global setting or the screen."""

from __future__ import annotations

import functools
import io
import os
from typing import TYPE_CHECKING

from fluxion.errors import ArgumentError
from fluxion.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@functools.cache
def figure_class() -> type[Figure]:
    """A kind of `matplotlib.figure.Figure` that a notebook shows by itself, whether or not pyplot was ever imported."""
    from matplotlib.figure import Figure

    class Drawing(Figure):
        def _repr_png_(self) -> bytes:
            image = io.BytesIO()
            self.savefig(image, format="png", dpi=120)
            return image.getvalue()

    return Drawing


def file_kind(caller: str, path: str | os.PathLike[str] | None) -> str:
    """`"png"` or `"svg"`, by the suffix; checked before anything is drawn."""
    if path is None:
        return ""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in (".png", ".svg"):
        raise ArgumentError(f"{caller}: expected a path that ends in .png or .svg, got {os.fspath(path)!r}.")
    return suffix[1:]


def write_figure(figure: Figure, path: str | os.PathLike[str] | None, kind: str) -> Figure:
    """The figure, written to `path` in one rename if there is one."""
    if path is not None:
        # Without its date, the same figure is the same file.
        metadata = {"Date": None} if kind == "svg" else None
        atomic_write(path, lambda file: figure.savefig(file, format=kind, dpi=200, metadata=metadata))
    return figure
