"""Figures of a run: its curves, a confusion matrix, predictions over truth.

Each function returns a `matplotlib.figure.Figure` and, given a `path`, writes it as `.png` or `.svg` in one rename.
Figures belong to nobody but the caller: nothing here touches `pyplot`, a global setting or the screen.
The colors are Okabe and Ito's, distinct to color-blind readers; validation is told from training by its dashes too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.drawing import figure_class
from fluxion.drawing import file_kind as _kind
from fluxion.drawing import write_figure as _written
from fluxion.errors import ArgumentError, ShapeError
from fluxion.train.metrics import finite_pair, regression_report, square_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fluxion.train.history import History

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
INK, PALE = "#262626", "#DDDDDD"
VALIDATION = "validation_"
SCATTERED = 3000  # more points than this are counted in cells
# What a history holds beside losses and metrics; drawn only when asked for by name.
NOT_CURVES = ("epoch", "learning_rate", "seconds", "samples_per_second")


def plot_history(
    history: History, path: str | os.PathLike[str] | None = None, *, names: Iterable[str] | None = None
) -> Figure:
    """The loss and each metric over the epochs, a panel for each: training solid, validation dashed in the same color.

    A panel is logarithmic where its values are positive and span two decades.

    Arguments:
        history: what `fit` returned.
        path: where to write the figure, if anywhere; `.png` or `.svg`.
        names: what to draw, in order; the loss and all metrics unless given.

    Errors: `ArgumentError` for an empty history, a name it does not have, or another kind of file.

    >>> import fluxion as fx
    >>> from fluxion.train.plots import plot_history
    >>> history = fx.History({"epoch": i, "loss": 1 / i, "accuracy": 1 - 1 / i} for i in range(1, 9))
    >>> [axes.get_ylabel() for axes in plot_history(history).axes]
    ['loss', 'accuracy']
    """
    kind = _kind("plot_history", path)
    chosen = _panels(history, names)
    columns = 2 if len(chosen) == 4 else min(3, len(chosen))
    lines = math.ceil(len(chosen) / columns)
    figure = _figure(4.2 * columns, 3.2 * lines)
    for i, name in enumerate(chosen):
        axes = figure.add_subplot(lines, columns, i + 1)
        _curves(axes, history, name, PALETTE[i % len(PALETTE)])
    return _written(figure, path, kind)


def plot_loss(history: History, path: str | os.PathLike[str] | None = None) -> Figure:
    """The loss over the epochs, training solid and validation dashed. See `plot_history`.

    >>> import fluxion as fx
    >>> from fluxion.train.plots import plot_loss
    >>> figure = plot_loss(fx.History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]))
    >>> figure.axes[0].get_ylabel()
    'loss'
    """
    return plot_history(history, path, names=["loss"])


def plot_metric(history: History, name: str, path: str | os.PathLike[str] | None = None) -> Figure:
    """One metric over the epochs, training solid and validation dashed. See `plot_history`.

    >>> import fluxion as fx
    >>> from fluxion.train.plots import plot_metric
    >>> history = fx.History([{"epoch": 1, "accuracy": 0.5, "validation_accuracy": 0.4}])
    >>> len(plot_metric(history, "accuracy").axes[0].lines)
    2
    """
    return plot_history(history, path, names=[name])


def plot_lines(
    caller: str,
    x: np.ndarray,
    curves: Mapping[str, np.ndarray],
    names: tuple[str, str],
    path: str | os.PathLike[str] | None = None,
    *,
    logarithmic: bool = False,
    mark: float | None = None,
) -> Figure:
    """Curves over one axis, told apart by a legend where there are several.

    Arguments:
        caller: for errors.
        x: shape `(N,)`.
        curves: arrays of the same shape, by name.
        names: those of the two axes.
        path: where to write the figure, if anywhere; `.png` or `.svg`.
        logarithmic: whether `x` is drawn so.
        mark: a place on the axis to point out.

    >>> import numpy as np
    >>> from fluxion.train.plots import plot_lines
    >>> plot_lines("mine", np.arange(3), {"y": np.arange(3)}, ("x", "y")).axes[0].get_xlabel()
    'x'
    """
    kind = _kind(caller, path)
    figure = _figure(5.6, 3.6)
    axes = figure.add_subplot()
    for i, (name, y) in enumerate(curves.items()):
        axes.plot(x, y, color=PALETTE[i % len(PALETTE)], linewidth=1.8, label=name)
    if mark is not None:
        axes.axvline(mark, color=VERMILION, linewidth=1.2, linestyle=(0, (4, 2)), label=f"{mark:.2g}")
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(names[0], fontsize=10, color=INK)
    axes.set_ylabel(names[1], fontsize=10, color=INK)
    if len(curves) > 1 or mark is not None:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    _plain(axes)
    return _written(figure, path, kind)


def plot_confusion(
    matrix: Any, classes: int | Sequence[Hashable], path: str | os.PathLike[str] | None = None
) -> Figure:
    """A confusion matrix: counts in the cells, colored by the share of their row, the examples of one true class.

    Shapes: `matrix` `(classes, classes)`, rows true, columns predicted, as `fx.confusion_matrix` returns it.

    Arguments:
        matrix: the counts.
        classes: the names of the classes, or their number.
        path: where to write the figure, if anywhere; `.png` or `.svg`.

    Errors: `ShapeError` where matrix and classes do not fit, `ArgumentError` for another kind of file.

    >>> from fluxion.train.plots import plot_confusion
    >>> plot_confusion([[8, 2], [1, 9]], ["cat", "dog"]).axes[0].get_xlabel()
    'predicted class'
    """
    kind = _kind("plot_confusion", path)
    counts = square_counts("plot_confusion", matrix)
    names = [_short(str(name)) for name in (range(classes) if isinstance(classes, int) else classes)]
    if len(names) != len(counts):
        raise ShapeError(
            f"plot_confusion: expected as many classes as the matrix has rows, {len(counts)}, got {len(names)}."
        )
    size, longest = len(names), max(map(len, names))
    rotated = longest > (10 if size <= 4 else 3)
    cell = 0.9 if size <= 4 else max(0.3, min(0.62, 7.0 / size))
    side = cell * size
    figure = _figure(side + 1.7 + 0.075 * longest, side + 0.9 + (0.06 * longest if rotated else 0.0))
    axes = figure.add_subplot()
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)

    # The longest count must fit its cell: a digit is some 0.6 of the font's size wide, a point 1/72 inch.
    texts = [f"{count:,}" if cell > 0.5 else str(count) for count in counts.flat]
    font = min(11.0, 0.8 * cell * 72 / (0.6 * max(map(len, texts))))
    for place, text in enumerate(texts):
        row, column = divmod(place, size)
        empty = counts[row, column] == 0
        color = "white" if shares[row, column] > 0.55 else ("#9A9A9A" if empty else INK)
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=font)

    label_font = 10 if size <= 12 else 8
    axes.set_xticks(range(size), names, fontsize=label_font, color=INK)
    axes.set_yticks(range(size), names, fontsize=label_font, color=INK)
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        label.set_parse_math(False)  # a dollar in a name is a dollar
    if rotated:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlabel("predicted class", fontsize=11, color=INK)
    axes.set_ylabel("true class", fontsize=11, color=INK)
    axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = _scale(figure, axes, image, "share of the true class", 0.16 / side)
    bar.set_ticks([0, 0.5, 1], labels=["0", "50 %", "100 %"])
    return _written(figure, path, kind)


def plot_regression(prediction: Any, target: Any, path: str | os.PathLike[str] | None = None) -> Figure:
    """Predicted over true values, with the diagonal on which a perfect model puts them, and MAE, RMSE and R^2.

    Shapes: both `(n,)`, or both `(n, ...)`, whose columns are drawn alike.

    Arguments:
        prediction, target: finite numbers in the same units.
        path: where to write the figure, if anywhere; `.png` or `.svg`.

    Errors: `ShapeError` where the shapes differ, `DataError` for NaN or infinity, `ArgumentError` for another file.

    >>> from fluxion.train.plots import plot_regression
    >>> plot_regression([1.1, 1.9, 3.2], [1.0, 2.0, 3.0]).axes[0].get_ylabel()
    'predicted value'
    """
    kind = _kind("plot_regression", path)
    p, t = finite_pair("plot_regression", prediction, target)
    report = regression_report(p, t)
    figure = _figure(4.4 if p.size <= SCATTERED else 5.1, 4.2)
    axes = figure.add_subplot()
    low, high = float(min(p.min(), t.min())), float(max(p.max(), t.max()))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin
    axes.plot([low, high], [low, high], color=VERMILION, linewidth=1.2, dashes=(4, 2), zorder=2.5)
    if p.size <= SCATTERED:
        few = min(1.0, 60 / p.size)  # fewer points are larger and more solid
        axes.scatter(t, p, s=8 + 20 * few, alpha=0.35 + 0.45 * few, color=BLUE, linewidths=0, zorder=2)
    else:  # more of them would run into one blot
        cells = axes.hexbin(t.ravel(), p.ravel(), gridsize=55, bins="log", mincnt=1, cmap=_blues(), zorder=2)
        cells.set(linewidth=0.1, edgecolor="face")
        _scale(figure, axes, cells, "examples per cell", 0.045)
    numbers = [f"R² = {report['r2']:.3f}", f"RMSE = {report['rmse']:.3g}", f"MAE = {report['mae']:.3g}"]
    text = "\n".join(numbers[1:] if math.isnan(report["r2"]) else numbers)
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2}
    axes.text(
        0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=9, color=INK, linespacing=1.4, bbox=box, zorder=3
    )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel("true value", fontsize=10, color=INK)
    axes.set_ylabel("predicted value", fontsize=10, color=INK)
    _plain(axes)
    return _written(figure, path, kind)


def _panels(history: History, names: Iterable[str] | None) -> list[str]:
    """The training names to draw; a validation name is drawn with its training name, or alone if it has none."""
    if len(history) == 0:
        raise ArgumentError("plot: expected a history with at least one epoch, got none. Train first.")
    if isinstance(names, str):
        raise ArgumentError(f"plot: expected a list of names, got {names!r}. Write [{names!r}].")
    if names is not None:
        chosen = list(dict.fromkeys(names))
        for name in chosen:
            if VALIDATION + name not in history.names:
                history[name]  # raises for a name that is not there
    else:
        curves = [name for name in history.names if name not in NOT_CURVES]
        chosen = list(dict.fromkeys(_base(name) for name in curves))
        chosen.sort(key=lambda name: name != "loss")
    if not chosen:
        raise ArgumentError(f"plot: expected something to draw, got none of {', '.join(map(repr, history.names))}.")
    return chosen


def _base(name: str) -> str:
    return name.removeprefix(VALIDATION)


def _curves(axes: Axes, history: History, name: str, color: str) -> None:
    epochs = np.array(history["epoch"] if "epoch" in history.names else range(1, len(history) + 1), dtype=float)
    curves = []
    for column, label, dash in ((name, "training", "-"), (VALIDATION + name, "validation", (0, (4, 1.6)))):
        if column in history.names:
            curves.append((np.array(history[column], dtype=float), label, dash))
    if name.startswith(VALIDATION):
        curves = [(curves[0][0], "validation", (0, (4, 1.6)))]
    for values, label, dash in curves:
        finite = np.isfinite(values)  # a gap in validation is bridged
        few = finite.sum() <= 12
        axes.plot(
            epochs[finite],
            values[finite],
            color=color,
            linestyle=dash,
            linewidth=1.8,
            marker="o" if few else None,
            markersize=4,
            markerfacecolor=color if label == "training" else "white",
            label=label,
        )
    seen = np.concatenate([values[np.isfinite(values)] for values, *_ in curves])
    if seen.size and seen.min() > 0 and seen.max() / seen.min() >= 100:
        axes.set_yscale("log")
    title = name.replace("_", " ")
    axes.set_xlabel("epoch", fontsize=10, color=INK)
    axes.set_ylabel({"seconds": "time (s)"}.get(name, title), fontsize=10, color=INK)
    _whole_epochs(axes, epochs)
    _plain(axes)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, handlelength=2.6)


def _whole_epochs(axes: Axes, epochs: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    if epochs.min() == epochs.max():
        axes.set_xlim(epochs.min() - 1, epochs.max() + 1)


def _plain(axes: Axes) -> None:
    """No frame at the top and right, light grid lines behind the data, small ticks."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#8C8C8C")
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color="#8C8C8C", labelcolor=INK, length=3)


def _scale(figure: Figure, axes: Axes, drawn: Any, label: str, width: float) -> Any:
    """A color bar exactly as high as `axes`, `width` times as wide."""
    bar = figure.colorbar(drawn, cax=axes.inset_axes((1.0 + 0.75 * width, 0, width, 1)))
    bar.set_label(label, fontsize=9, color=INK)
    bar.ax.tick_params(which="both", length=0, labelsize=9, labelcolor=INK)
    bar.outline.set_visible(False)
    return bar


def _blues() -> Any:
    """From a blue that is seen on white to a dark one."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("blues", ["#A9CFEA", BLUE, "#08204A"])


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09, wspace=0.02, hspace=0.02)
    figure = figure_class()(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure
