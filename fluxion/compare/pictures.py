"""The pictures of a comparison, from its results document: figures, their files, and SVG that a page takes in.

The figures are so narrow that they can be read on a telephone. What is drawn is named beside it, not in a legend.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fluxion.compare.environments import OWN
from fluxion.compare.summary import OTHER, STRICT, deviations, duration, spread
from fluxion.drawing import write_figure
from fluxion.files import atomic_write
from fluxion.train.plots import BLUE, GREEN, INK, ORANGE, PALE, PURPLE, SKY, VERMILION, _figure, _plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 3.75  # inches
GRAY = "#6B7280"  # of what is neither Fluxion nor wrong
COLORS = {INK: "ink", "#000000": "ink", "#ffffff": "page", PALE: "pale", "#8C8C8C": "gray", GRAY: "gray", BLUE: "blue",
          ORANGE: "orange", GREEN: "green", PURPLE: "purple", SKY: "sky", VERMILION: "red"}  # fmt: skip
LINES = [
    (color, dash) for dash in ("-", (0, (5, 1.5)), (0, (1.5, 1.2))) for color in (GREEN, ORANGE, PURPLE, SKY, GRAY)
]
FLOOR = 1e-9  # relative deviations below are drawn there
TIMES = {
    "step": ("A training step", "Steady state: batches lie ready, compilation is over."),
    "first": ("The first step", "With all compilation that it causes."),
    "import": ("Import", "From a fresh process to a framework that can be used."),
    "epoch": ("An epoch", "The framework's own loop over arrays, with the shuffling and the making of batches."),
    "evaluation": ("Evaluation", "Loss and accuracy of the whole test set, in batches of 1000."),
}


class Picture(NamedTuple):
    """`name` is that of its files; `about` is a sentence for below it, `alt` what it shows for who cannot see it."""

    name: str
    title: str
    about: str
    alt: str
    draw: Callable[[], Figure]


def pictures(document: dict[str, Any], workload: str) -> list[Picture]:
    """Those of a workload for which there are measurements; they are drawn when their `draw` is called."""
    entries = [e for e in document["summary"] if e["workload"] == workload]
    found: list[Picture] = []
    start = slug(workload)
    for column, (title, about) in TIMES.items():
        found += _range(f"{start}-{column}", title, about, [(e, e["times"].get(column)) for e in entries], duration)
    found += _range(f"{start}-memory", "Peak memory", "Of the whole process, training included.",
                    [(e, e["memory"]) for e in entries], megabytes)  # fmt: skip
    found += _loss_pictures(document, workload, entries)
    return found + _accuracy_pictures(document, workload, entries)


def write(picture: Picture, folder: Path) -> str:
    """A picture as `NAME.png` and `NAME.svg` in a folder; the SVG."""
    figure = picture.draw()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the places found just now are those of both files
    folder.mkdir(parents=True, exist_ok=True)
    write_figure(figure, folder / f"{picture.name}.png", "png")
    text = svg(figure, picture.name)
    atomic_write(folder / f"{picture.name}.svg", lambda file: file.write(text.encode()))
    return text


def svg(figure: Figure, name: str) -> str:
    """A figure as SVG with real text, the same for the same figure; `name` tells its ids from those of others."""
    import matplotlib

    image = io.StringIO()
    # The only way to ask for text instead of outlines; the settings of the caller are back afterwards.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(image, format="svg", metadata={"Date": None, "Creator": None})
    return image.getvalue()


def inline(text: str, name: str, alt: str) -> str:
    """SVG as a part of a page: its colors and its font are the page's, its ids begin with `name`, places are cut short.

    `name` is of the kind that `slug` makes. `alt` is put in as it is: escape it before.
    """

    def rewritten(found: re.Match[str]) -> str:  # a tag: what stands between tags is text, and stays as it is
        tag = re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", found[0].replace("xlink:href", "href"))
        tag = re.sub(r"#[0-9a-fA-F]{6}", lambda color: COLOR_NAMES.get(color[0].lower(), color[0]), tag)
        tag = re.sub(r"(font: [^';\"]*?px) [^;\"]*", r"\1 var(--font)", re.sub(r"font-family: [^;\"]*;?", "", tag))
        return re.sub(r"(\d\.\d\d)\d+", r"\1", tag)

    box = text.partition('viewBox="')[2].partition('"')[0]
    text = text[text.index(">", text.index("<svg")) + 1 :]
    left_out = r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>|<g id=\"[^\"]*\"/>|(?<=<g) id=\"[^\"]*\""
    text = re.sub("<[^>]*>", rewritten, re.sub(left_out, "", text, flags=re.DOTALL))
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"<g>\s*</g>", "", text)).strip()
    return f'<svg viewBox="{box}" role="img" aria-label="{alt}">{text}'


COLOR_NAMES = {color.lower(): f"var(--{name})" for color, name in COLORS.items()}


def megabytes(size: float) -> str:
    """Bytes as people read them.

    >>> from fluxion.compare.pictures import megabytes
    >>> megabytes(123_456_789)
    '123 MB'
    """
    return f"{size / 1e6:.0f} MB"


def slug(text: str) -> str:
    """A name for files and places of a page: letters, digits and hyphens.

    >>> from fluxion.compare.pictures import slug
    >>> slug("../Mine & yours")
    'mine-yours'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def named(entry: dict[str, Any]) -> str:
    """Framework and mode, as `--with` and the table call them."""
    return f"{entry['framework']} {entry['mode']}"


# ------------------------------------------------------------------------------- one dot for each mode


def _range(
    name: str, title: str, about: str, spreads: list[tuple[dict[str, Any], Any]], text: Callable[[float], str]
) -> list[Picture]:
    known = sorted(((e, s) for e, s in spreads if s), key=lambda pair: pair[1]["median"])
    if not known:
        return []
    alt = f"{title}: " + ", ".join(f"{named(e)} {text(s['median'])}" for e, s in known)
    return [Picture(name, title, about, alt, lambda: _range_figure(known, text))]


def _range_figure(known: list[tuple[dict[str, Any], dict[str, float]]], text: Callable[[float], str]) -> Figure:
    """A dot at the median, a bar over the middle half, a tick at the smallest; the fastest above."""
    figure = _figure(WIDTH, 0.55 + 0.235 * len(known))
    axes = figure.add_subplot()
    least = min(s["min"] for _, s in known)
    most = max(s["q3"] for _, s in known)
    logarithmic = 0 < least * 8 < most
    for row, (entry, s) in enumerate(known):
        wrong = entry["verdict"] == OTHER
        color = VERMILION if wrong else BLUE if entry["framework"].startswith(OWN) else GRAY
        axes.plot([s["q1"], s["q3"]], [row, row], color=color, linewidth=5, alpha=0.35, solid_capstyle="butt")
        axes.plot(s["min"], row, marker="|", markersize=7, color=color, markeredgewidth=1.3)
        face = "white" if wrong else color
        axes.plot(s["median"], row, marker="o", markersize=5.5, color=color, markerfacecolor=face)
        axes.text(
            1.02, row, text(s["median"]), transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color=INK
        )
    axes.set_yticks(range(len(known)), [named(e) for e, _ in known])
    axes.set_ylim(len(known) - 0.4, -0.6)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(least / 1.25, most * 1.25)
    else:
        axes.set_xlim(0, most * 1.06 or 1)
    _plain(axes)
    axes.tick_params(axis="y", labelsize=8.5, length=0)
    axes.tick_params(axis="x", labelsize=8.5)
    for label, (entry, _) in zip(axes.get_yticklabels(), known, strict=True):
        label.set(parse_math=False, color=BLUE if entry["framework"].startswith(OWN) else INK)
    axes.spines["left"].set_visible(False)
    _few_ticks(axes, logarithmic, text)
    return figure


def _few_ticks(axes: Axes, logarithmic: bool, text: Callable[[float], str]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if logarithmic:
        low, high = axes.get_xlim()
        subs = (1.0, 3.0) if high / low < 100 else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == 0 else _round(text(value))))


def _round(text: str) -> str:
    """A number and its unit without zeros that say nothing: `1.00 ms` is `1 ms`."""
    value, _, unit = text.partition(" ")
    return f"{float(value):g} {unit}"


# ----------------------------------------------------------------------------------- losses of the first steps


def _loss_pictures(document: dict[str, Any], workload: str, entries: list[dict[str, Any]]) -> list[Picture]:
    reference = document["runs"].get(workload, {}).get("reference")
    if not reference:
        return []
    known = [(e, losses) for e in entries if (losses := _losses(document, e)) is not None]
    if not known:
        return []
    wrong = [named(e) for e, _ in known if e["verdict"] == OTHER]
    count = len(reference["losses"])
    drawn = f"Losses of the first {count} steps of {len(known)} modes over those of {reference['what']}"
    alt = f"{drawn}; " + (f"not the same: {', '.join(wrong)}" if wrong else "all agree")
    about = f"Thick: {reference['what']}. Blue: Fluxion; gray: the others; red: not the same work."
    far = "How far each loss is from the reference, as a part of its size; the dashed line is what is allowed."
    return [
        Picture(f"{slug(workload)}-losses", f"Loss of the first {count} steps", about, alt,
                lambda: _loss_figure(known, reference)),
        Picture(f"{slug(workload)}-deviation", "Distance from the reference", far, f"{alt}; the distance of each",
                lambda: _deviation_figure(known, reference)),
    ]  # fmt: skip


def _losses(document: dict[str, Any], entry: dict[str, Any]) -> list[float] | None:
    """The losses of the process that made the most steps."""
    fields = ("workload", "variant", "framework", "mode")
    found = [
        m["losses"]
        for m in document["measurements"]
        if m["part"] == "timing" and "error" not in m and all(m[f] == entry[f] for f in fields)
    ]
    return max(found, key=len, default=None)


def _loss_figure(known: list[tuple[dict[str, Any], list[float]]], reference: dict[str, Any]) -> Figure:
    figure = _figure(WIDTH, 2.5)
    axes = figure.add_subplot()
    told = np.array(reference["losses"], float)
    axes.plot(np.arange(1, len(told) + 1), told, color=PALE, linewidth=6, solid_capstyle="round")
    ends = []
    for entry, losses in _drawn_last(known):
        values = np.array(losses, float)
        color, wide = _look(entry)
        axes.plot(np.arange(1, len(values) + 1), values, color=color, linewidth=wide)
        if entry["verdict"] == OTHER:
            ends.append((len(values), values, named(entry), color))
    _plain(axes)
    _named_axes(axes, "step", "loss")
    _label_ends(axes, ends)
    return figure


def _deviation_figure(known: list[tuple[dict[str, Any], list[float]]], reference: dict[str, Any]) -> Figure:
    figure = _figure(WIDTH, max(2.5, 0.6 + 0.165 * len(known)))
    axes = figure.add_subplot()
    axes.set_yscale("log")
    count = len(reference["losses"])
    allowed = [reference["tolerance"]] * min(STRICT, count) + [reference["drift"]] * max(0, count - STRICT)
    axes.step(np.arange(1, count + 1), allowed, where="mid", color=VERMILION, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.text(1, allowed[0] * 1.5, "allowed", fontsize=8.5, color=VERMILION)
    ends = []
    for entry, losses in _drawn_last(known):
        off = np.maximum(deviations(losses, reference["losses"]), FLOOR)
        color, wide = _look(entry)
        axes.plot(np.arange(1, len(off) + 1), off, color=color, linewidth=wide)
        ends.append((len(off), off, named(entry), color))
    low = axes.get_ylim()[0]
    axes.set_ylim(max(low, FLOOR / 2), max(2 * axes.get_ylim()[1], allowed[-1] * 8))
    _plain(axes)
    _named_axes(axes, "step", "relative deviation")
    _label_ends(axes, ends)
    return figure


def _drawn_last(known: list[tuple[dict[str, Any], Any]]) -> list[tuple[dict[str, Any], Any]]:
    """Fluxion and what is wrong above the others."""
    return sorted(known, key=lambda pair: (pair[0]["framework"].startswith(OWN), pair[0]["verdict"] == OTHER))


def _look(entry: dict[str, Any]) -> tuple[str, float]:
    if entry["verdict"] == OTHER:
        return VERMILION, 1.4
    return (BLUE, 1.6) if entry["framework"].startswith(OWN) else (GRAY, 0.9)


# --------------------------------------------------------------------------------------------- accuracy


def _accuracy_pictures(document: dict[str, Any], workload: str, entries: list[dict[str, Any]]) -> list[Picture]:
    known = [(e, curves) for e in entries if (curves := curves_of(document, e))]
    if not known:
        return []
    if any(e["variant"] for e, _ in known):  # one framework each, beside the numbers of its post
        return _published_pictures(document, workload, known)
    band = document["workloads"][workload]["band"] if document["runs"].get(workload, {}).get("data") == "real" else None
    about = "The median over the seeds; the shade is from the lowest to the highest."
    last = ", ".join(f"{named(e)} {_percent(np.median(c['test accuracy'][:, -1]))}" for e, c in known)
    accuracy = Picture(f"{slug(workload)}-accuracy", "Accuracy on the test set", about, f"Accuracy in the end: {last}",
                     lambda: _curve_figure(known, band))  # fmt: skip
    level = common_level(entries)
    if level is None:
        return [accuracy]
    seconds = "Training alone, the compilation included; without import and evaluation."
    spreads = [(e, spread(times) if (times := time_to(c, level)) else None) for e, c in known]
    title = f"Time to {_percent(level)} accuracy"
    return [accuracy, *_range(f"{slug(workload)}-seconds", title, seconds, spreads, duration)]


def common_level(entries: list[dict[str, Any]]) -> float | None:
    """An accuracy that all who were trained reach: 98 % of the lowest median in the end."""
    ends = [e["accuracy"]["median"] for e in entries if e["accuracy"] and e["accuracy"]["median"] is not None]
    return 0.98 * min(ends) if ends else None


def curves_of(document: dict[str, Any], entry: dict[str, Any]) -> dict[str, np.ndarray]:
    """Arrays of shape (seeds, epochs): `seconds`, `train loss`, `test accuracy`; empty where nothing was trained."""
    fields = ("workload", "variant", "framework", "mode")
    curves = [
        curve
        for m in document["measurements"]
        if m["part"] == "accuracy" and "error" not in m and all(m[f] == entry[f] for f in fields)
        for curve in m["curves"]
    ]
    if not curves:
        return {}
    epochs = min(len(curve["test accuracy"]) for curve in curves)
    names = ("seconds", "train loss", "test accuracy")
    return {name: np.array([curve[name][:epochs] for curve in curves], float) for name in names}


def time_to(curves: dict[str, np.ndarray], level: float) -> list[float]:
    """Seconds of training until the accuracy first reaches a level, of each seed that does."""
    passed = np.cumsum(curves["seconds"], 1)
    return [float(p[a >= level][0]) for p, a in zip(passed, curves["test accuracy"], strict=True) if (a >= level).any()]


def _curve_figure(known: list[tuple[dict[str, Any], dict[str, np.ndarray]]], band: list[float] | None) -> Figure:
    figure = _figure(WIDTH, max(2.6, 0.6 + 0.165 * len(known)))
    axes = figure.add_subplot()
    looks = iter(LINES * (1 + len(known) // len(LINES)))
    ends = []
    for entry, curves in known:
        own = entry["framework"].startswith(OWN)
        color, dash = (BLUE, "-") if own else next(looks)
        values = curves["test accuracy"]
        middle, x = np.median(values, 0), np.arange(1, values.shape[1] + 1)
        axes.plot(x, middle, color=color, linestyle=dash, linewidth=1.9 if own else 1.2, markersize=3,
                  marker="o" if len(x) <= 12 else None, zorder=3 if own else 2)  # fmt: skip
        if len(values) > 1:
            axes.fill_between(x, values.min(0), values.max(0), color=color, alpha=0.1, linewidth=0)
        ends.append((x[-1], middle, named(entry), color))
    if band:
        axes.axhline(band[0], color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.text(0.99, band[0], f"expected: at least {band[0]:g}", transform=axes.get_yaxis_transform(), ha="right",
                  va="top", fontsize=8, color=INK,
                  bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1})  # fmt: skip
    _plain(axes)
    _named_axes(axes, "epoch", "test accuracy")
    _label_ends(axes, ends)
    return figure


def _published_pictures(
    document: dict[str, Any], workload: str, known: list[tuple[dict[str, Any], dict[str, np.ndarray]]]
) -> list[Picture]:
    """The training loss of each post's own settings, beside the one that it published."""
    found = []
    for number, (entry, curves) in enumerate(known):
        told = document["runs"].get(f"{workload}/{entry['variant']}", {}).get("published", {}).get("train loss")
        if not told:
            continue
        title = f"{entry['variant']}: training loss"
        alt = f"{title} by {entry['framework']}, and as published: {told[-1]:g} in the end"
        found.append(
            Picture(f"{slug(workload)}-published-{number}", title, "Solid: measured here. Dashed: as published.", alt,
                    functools.partial(_published_figure, entry, curves, told))
        )  # fmt: skip
    return found


def _published_figure(entry: dict[str, Any], curves: dict[str, np.ndarray], told: list[float]) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = _figure(WIDTH, 2.4)
    axes = figure.add_subplot()
    middle = np.median(curves["train loss"], 0)
    axes.plot(np.arange(1, len(middle) + 1), middle, color=BLUE, linewidth=1.8)
    axes.plot(np.arange(1, len(told) + 1), told, color=VERMILION, linewidth=1.5, linestyle=(0, (4, 2)))
    if min(np.nanmin(middle), *told) > 0 and max(np.nanmax(middle), *told) > 30 * min(np.nanmin(middle), *told):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _plain(axes)
    _named_axes(axes, "epoch", "training loss")
    ends = [(len(middle), middle, entry["framework"], BLUE), (len(told), np.array(told), "published", VERMILION)]
    _label_ends(axes, ends)
    return figure


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


# ------------------------------------------------------------------------------------------------- shared


def _named_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8.5, color=INK)
    axes.set_ylabel(y, fontsize=8.5, color=INK)
    axes.tick_params(labelsize=8.5)
    if axes.get_xscale() == "linear" and x in ("step", "epoch"):
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _label_ends(axes: Axes, ends: Sequence[tuple[float, np.ndarray, str, str]]) -> None:
    """The name of each curve right of the axes, near its end, none over another."""
    axes.get_xlim(), axes.get_ylim()  # brings the limits, and with them transData, up to date
    placed: list[tuple[float, Any, str, str]] = []
    for x, values, name, color in ends:
        finite = values[np.isfinite(values)]
        if len(finite):
            place = axes.transAxes.inverted().transform(axes.transData.transform((x, finite[-1])))
            placed.append((float(np.clip(place[1], 0, 1)), place, name, color))
    placed.sort(key=lambda label: label[0])
    height = axes.figure.bbox.height / axes.figure.dpi - 0.55  # in inches, about that of the axes
    gap = min(0.155 / height, 1 / max(1, len(placed)))
    heights = spaced([label[0] for label in placed], gap)
    for y, (_, place, name, color) in zip(heights, placed, strict=True):
        axes.plot([min(place[0], 1), 1.03], [np.clip(place[1], 0, 1), y], color=color, linewidth=0.5, clip_on=False,
                  transform=axes.transAxes)  # fmt: skip
        axes.text(1.04, y, name, transform=axes.transAxes, va="center", fontsize=8, color=color, parse_math=False)


def spaced(heights: list[float], gap: float) -> list[float]:
    """Ascending numbers between 0 and 1, moved apart by at least `gap`, as little as that takes.

    >>> from fluxion.compare.pictures import spaced
    >>> spaced([0.2, 0.2, 0.9], 0.1)
    [0.15, 0.25, 0.9]
    """
    groups: list[list[float]] = []  # the lowest place of a group, and what its members would like to be
    for height in heights:
        groups.append([height, height, 1])  # start, sum of wishes for the start, members
        while len(groups) > 1 and groups[-2][0] + gap * groups[-2][2] > groups[-1][0]:
            _, wishes, members = groups.pop()
            before = groups[-1]
            before[1] += wishes - gap * before[2] * members
            before[2] += members
            before[0] = before[1] / before[2]
    result = [start + gap * i for start, _, members in groups for i in range(int(members))]
    for i, value in enumerate(result):
        result[i] = max(value, gap * i)
    for i in range(len(result)):
        result[-1 - i] = min(result[-1 - i], 1 - gap * i)
    return [round(value, 6) for value in result]
