"""The pictures of `fluxion inspect --out`: the columns of a table, or some images of each class."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.cli.output import clean, percent
from fluxion.data.inspect import finite
from fluxion.errors import FluxionError
from fluxion.train.plots import INK, PALETTE, VERMILION, _figure, _kind, _plain, _short, _written

if TYPE_CHECKING:
    import polars
    from matplotlib.axes import Axes

    from fluxion.data.inspect import ColumnSummary, TableInspection
    from fluxion.data.inspectimages import ImageArrays, ImageFiles

PANELS, ACROSS = 24, 4  # columns of a table that are drawn, in a row of the figure
BINS, BARS = 30, 8
STRIPES = 12  # columns in the map of what is missing
CLASSES, EACH = 12, 10  # classes that are shown, images of each
MAP_ROWS = 400  # of the picture of what is missing; each stands for several rows of the table


def draw_table(frame: polars.DataFrame, found: TableInspection, path: Path) -> None:
    """A panel for each column, colored by class where there are few; and a map of what is missing, if anything is.

    The target comes first, then what tells the most about it.
    """
    kind = _kind("draw_table", path)
    columns = sorted(found.columns, key=lambda c: -2.0 if c.name == found.target else -(c.alone or 0))[:PANELS]
    across = min(ACROSS, len(columns))
    rows = math.ceil(len(columns) / across)
    gaps = sum(column.missing > 0 for column in found.columns)
    heights = [1.75 * rows, *([0.7 + 0.22 * min(gaps, STRIPES)] if gaps else [])]
    figure = _figure(2.5 * across, sum(heights) + 0.3)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    groups = _groups(frame, found)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font does not have
        for i, column in enumerate(columns):
            _draw_column(parts[0].add_subplot(rows, across, i + 1), frame[column.name], column, groups)
        if len(groups) > 1:
            patches = [_patch(color) for color in PALETTE[: len(groups)]]
            names = [_short(clean(name)) for name, _ in groups]
            options: dict[str, Any] = {"loc": "outside upper left", "frameon": False, "fontsize": 9, "labelcolor": INK}
            for text in parts[0].legend(patches, names, ncols=len(groups), **options).get_texts():
                text.set_parse_math(False)
        if gaps:
            _draw_missing(parts[1].add_subplot(), frame, found)
        _written(figure, path, kind)


def draw_images(part: ImageArrays | ImageFiles, path: Path) -> None:
    """Some images of each class in a row, at equal distances in the order of the data."""
    kind = _kind("draw_images", path)
    counts = np.bincount(part.labels[part.labels >= 0], minlength=len(part.classes))
    rows = [(name, np.flatnonzero(part.labels == i)) for i, name in enumerate(part.classes) if counts[i]][:CLASSES]
    if not rows:
        count = len(part.labels)
        rows = [("", np.arange(start, min(start + EACH, count))) for start in range(0, min(count, 6 * EACH), EACH)]
    figure = _figure(0.72 * EACH + 1.9, 0.78 * len(rows))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        for row, (name, places) in enumerate(rows):
            chosen = places[np.linspace(0, len(places) - 1, min(EACH, len(places))).round().astype(int)]
            for column, place in enumerate(chosen):
                axes = figure.add_subplot(len(rows), EACH, row * EACH + column + 1)
                _draw_image(axes, part, int(place))
                if column == 0:
                    text = f"{_short(clean(name))}\n{len(places):,}" if name else ""
                    label = axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9, color=INK)
                    label.set_parse_math(False)
        _written(figure, path, kind)


def _draw_image(axes: Axes, part: ImageArrays | ImageFiles, place: int) -> None:
    from fluxion.data.inspectimages import ImageArrays
    from fluxion.data.picturefiles import read_picture

    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    try:
        image = part.images[place] if isinstance(part, ImageArrays) else read_picture(part.folder / part.files[place])
    except FluxionError:
        axes.text(0.5, 0.5, "damaged", ha="center", va="center", fontsize=7, color=VERMILION, transform=axes.transAxes)
        return
    axes.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=1)


def _groups(frame: polars.DataFrame, found: TableInspection) -> list[tuple[str, np.ndarray]]:
    """The rows of each class, where these are few; else all rows."""
    if found.target is None or not 1 < len(found.classes) <= len(PALETTE):
        return [("", np.ones(frame.height, bool))]
    label = frame[found.target].cast(str)
    return [(name, (label == name).fill_null(False).to_numpy()) for name in found.classes]


def _draw_column(axes: Axes, series: Any, column: ColumnSummary, groups: list[tuple[str, np.ndarray]]) -> None:
    """A histogram, or bars of the most frequent values; the classes stacked upon each other."""
    name = _short(clean(column.name))
    if column.alone is not None:
        name += f"  ({column.alone:.2f})"
    axes.set_title(name, fontsize=9, color=INK, loc="left", pad=3).set_parse_math(False)
    _plain(axes)
    axes.tick_params(labelsize=7.5)
    numbers = column.low is not None and not (column.top and column.different <= BARS)
    if numbers:
        values = [finite(series.filter(rows)) for _, rows in groups]
        axes.hist(values, bins=BINS, stacked=True, color=PALETTE[: len(groups)], rwidth=0.94)
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.02)
        if column.type == "date":
            axes.xaxis_date()
            for label in axes.get_xticklabels():
                label.set(rotation=30, ha="right")
        return
    axes.grid(visible=False, axis="y")
    if not column.top or column.top[0][1] == 1:
        what = f"{column.different:,} different texts" if column.top else "no values"
        axes.text(0.5, 0.5, what, ha="center", va="center", fontsize=8, color=INK, transform=axes.transAxes)
        axes.set_axis_off()
        return
    texts = series.cast(str)
    names = [value for value, _ in column.top]
    if column.type == "whole":
        names.sort(key=int)
    start = np.zeros(len(names))
    for (_, rows), color in zip(groups, PALETTE, strict=False):
        counts = dict(texts.filter(rows).value_counts().rows())
        widths = np.array([counts.get(value, 0) for value in names])
        axes.barh(range(len(names)), widths, left=start, color=color, height=0.75)
        start += widths
    axes.set_yticks(range(len(names)), [_short(clean(value))[:14] for value in names])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(max(len(names), 3) - 0.5, -0.5)


def _draw_missing(axes: Axes, frame: polars.DataFrame, found: TableInspection) -> None:
    """Which cells are missing: a stripe for each column, from the first row to the last."""
    columns = [column for column in found.columns if column.missing][:STRIPES]
    step = max(1, math.ceil(frame.height / MAP_ROWS))
    pad = -frame.height % step
    shares = []
    for column in columns:
        empty = frame[column.name].is_null().to_numpy().astype(float)
        shares.append(np.pad(empty, (0, pad), constant_values=np.nan).reshape(-1, step))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        picture = np.nanmean(np.array(shares), axis=2)
    axes.imshow(
        picture, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
        extent=(0, frame.height, len(columns) - 0.5, -0.5),
    )  # fmt: skip
    names = [f"{_short(clean(c.name))}  {percent(c.missing, frame.height)}" for c in columns]
    axes.set_yticks(range(len(columns)), names)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_title("missing values, by row", fontsize=9, color=INK, loc="left", pad=3)
    _plain(axes)
    axes.grid(visible=False)
    axes.tick_params(labelsize=7.5)


def _patch(color: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=color)
