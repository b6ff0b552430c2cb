"""How cost grows: with the batch, the depth, the width and the data set, as tables and pictures.

    python benchmarks/growth.py                  measures, then writes benchmarks/growth.md and growth-*.png
    python benchmarks/growth.py --draw           only draws and writes what build/growth.json holds
    python benchmarks/growth.py --only depth,width

Each framework goes through the sizes of a series in a fresh process, the smallest first, so that the peak of its memory
is that of the size it is at. The networks and the ways to train them are the scoreboard's (`fluxion/compare/adapters`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "fluxion" / "compare"))
import worker  # noqa: E402  without fluxion, whose memory is not to be in that of the others

w = worker.parts
KEPT = HERE.parent / "build" / "growth.json"
LONG = 3.0  # seconds of one step, after which a series is not continued
REPEATED = "train, Repeated"  # the equal layers as one `fx.Repeated`
WAYS = (("fluxion", "train"), ("fluxion", REPEATED), ("torch", "channels_last"), ("torch", "eager"), ("jax", "jit"))


@dataclasses.dataclass(frozen=True)
class Series:
    title: str
    axis: str
    sizes: tuple[int, ...]
    quantities: dict[str, str]  # what is drawn, by its name in the measurements


SERIES = {
    "batch": Series(
        "LeNet, batch 1 to 4096",
        "batch",
        (1, 4, 16, 64, 256, 1024, 4096),
        {"step": "ms per step", "memory": "peak memory, MB"},
    ),
    "depth": Series(
        "Dense(128) 2 to 64 times, batch 64",
        "layers",
        (2, 4, 8, 16, 32, 64),
        {"step": "ms per step", "first": "first step with compilation, ms"},
    ),
    "width": Series(
        "MLP 784-w-w-10, w 16 to 2048, batch 128",
        "width",
        (16, 32, 64, 128, 256, 512, 1024, 2048),
        {"step": "ms per step", "memory": "peak memory, MB"},
    ),
    "rows": Series(
        "MLP 32-64-10, data sets of 1000 to 1000000 rows, batch 128",
        "rows",
        (1000, 10_000, 100_000, 1_000_000),
        {"epoch": "epoch, ns per row", "memory": "peak memory, MB"},
    ),
}


def workload(name: str, size: int) -> w.Workload:
    """The workload of a series at one size, on random data."""
    if name == "batch":
        return w.Workload(name, "", w.lenet(), (28, 28, 1), size, examples=size)
    sizes = {"depth": (784, *(128,) * size, 10), "width": (784, size, size, 10), "rows": (32, 64, 10)}[name]
    batch = 64 if name == "depth" else 128
    examples = size if name == "rows" else batch
    return w.Workload(name, "", w.mlp(*sizes), sizes[:1], batch, examples=examples)


def measure(name: str, module: str, mode: str) -> dict[int, dict[str, float]]:
    """In this process: every size of a series, until one takes too long."""
    peer = worker.adapter(module)
    found: dict[int, dict[str, float]] = {}
    measure_one(
        peer, mode, w.Workload("tiny", "", w.mlp(6, 5, 3), (6,), 4, classes=3, examples=24), False
    )  # what happens once in a process
    for size in SERIES[name].sizes:
        found[size] = measure_one(peer, mode, workload(name, size), name == "rows")
        if found[size]["first"] > 60 or found[size].get("step", 0) > LONG:
            break
    return found


def measure_one(peer: Any, mode: str, at: w.Workload, whole: bool) -> dict[str, float]:
    """The first step, then whole epochs or steps on prebuilt batches, and the memory until now."""
    random = np.random.default_rng(0)
    x = random.random((at.examples, *at.shape), np.float32)
    y = random.integers(0, at.classes, at.examples, np.int32)
    session = repeated(peer, at) if mode == REPEATED else peer.Session(at, at.weights(), mode)
    one = session.prepare(w.batches(x, y, at.batch, 1))
    found = {"first": seconds(lambda: session.losses(one))}
    if whole:
        session.epochs(x, y, 1)
        epochs = [seconds(lambda: session.epochs(x, y, 1)) for _ in range(7)]
        found["epoch"] = statistics.median(epochs) / at.examples * 1e9  # ns per row
    else:
        session.train(one)
        count = max(4, min(200, int(0.2 / seconds(lambda: session.train(one)))))
        session.train(one * count)
        found["step"] = statistics.median(seconds(lambda: session.train(one * count)) / count for _ in range(7))
    return found | {"memory": float(worker.peak_memory())}


def repeated(peer: Any, at: w.Workload) -> Any:
    """A session of Fluxion's in which the layers between the first and the last are one loop."""
    import fluxion as fx

    session = peer.Session(at, at.weights(), "train")
    first, *equal, last = session.model
    if len(equal) > 1:
        session.model = fx.Chain(first, fx.Repeated(*equal), last)
        session.opt = fx.setup(fx.Adam(1e-3), session.model)
    return session


def seconds(f: Any) -> float:
    started = time.perf_counter()
    f()
    return time.perf_counter() - started


def collect(only: list[str], kept: dict[str, Any]) -> None:
    from fluxion.compare import processes

    for name in only:
        for module, mode in WAYS:
            if module == "torch" and (mode == "channels_last") != (name == "batch"):
                continue  # the mode that is the faster one with and without convolutions
            if mode == REPEATED and name != "depth":
                continue
            command = [sys.executable, __file__, "--measure", name, module, mode]
            found = processes.answer(command, {"FLUXION_CACHE": "off"}, limit=400)
            kept.setdefault(name, {})[f"{module} {mode}"] = found
            print(name, module, mode, found.get("error", "measured"), file=sys.stderr)
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            KEPT.write_text(json.dumps(kept, indent=0))


# -------------------------------------------------------------------------------------- pictures and text

SCALES = {"step": 1e3, "first": 1e3, "memory": 1e-6, "epoch": 1.0}


def draw(name: str, measured: dict[str, Any]) -> Path:
    """A panel for each quantity, logarithmic both ways, each line with its name at its end."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

    from fluxion.train.plots import INK, PALE, PALETTE, _figure

    series = SERIES[name]
    figure = _figure(5.2 * len(series.quantities), 3.8)
    for i, (key, label) in enumerate(series.quantities.items()):
        axes = figure.add_subplot(1, len(series.quantities), i + 1)
        ends = []
        for color, (way, points) in zip(PALETTE, lines(measured), strict=False):
            sizes, values = list(points), [point[key] * SCALES[key] for point in points.values()]
            axes.loglog(sizes, values, color=color, linewidth=1.8, marker="o", markersize=3.5)
            ends.append((sizes[-1], values[-1], way, color))
        low, high = axes.get_ylim()
        axes.set_ylim(low, high)  # and with that, where the names are
        name_ends(axes, ends, high / low)
        axes.set_xlim(series.sizes[0] / 1.3, series.sizes[-1] * (series.sizes[-1] / series.sizes[0]) ** 0.28)
        axes.xaxis.set_major_locator(FixedLocator(series.sizes[:: 1 if len(series.sizes) < 8 else 2]))
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        for axis, form in ((axes.xaxis, "{x:,.0f}"), (axes.yaxis, "{x:,g}")):
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(StrMethodFormatter(form))
        axes.set_xlabel(series.axis, color=INK)
        axes.set_title(label, loc="left", fontsize=10, color=INK)
        axes.grid(color=PALE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=8)
    figure.suptitle(series.title, x=0.01, ha="left", fontsize=11, color=INK)
    file = HERE / f"growth-{name}.png"
    figure.savefig(file, dpi=110)
    return file


def name_ends(axes: Any, ends: list[tuple[float, float, str, str]], span: float) -> None:
    """The names beside the last points, moved up where they would touch."""
    heights: dict[float, float] = {}  # of the topmost name, by the place of its point
    for x, y, way, color in sorted(ends, key=lambda end: end[1]):
        heights[x] = max(y, heights.get(x, 0.0) * span**0.07)
        placed = {"textcoords": "offset points", "annotation_clip": False, "va": "center"}
        axes.annotate(way, (x, heights[x]), (6, 0), color=color, fontsize=9, **placed)


def lines(measured: dict[str, Any]) -> list[tuple[str, dict[int, dict[str, float]]]]:
    return [
        (way, {int(size): values for size, values in points.items()})
        for way, points in measured.items()
        if "error" not in points
    ]


def text(kept: dict[str, Any]) -> str:
    from fluxion.compare import processes

    machine = processes.machine()
    found = [
        "# How cost grows",
        "",
        f"`python benchmarks/growth.py` on {machine['processor']} ({machine['family']}), {machine['cores']} cores; one "
        "fresh process for each line, medians of seven, float32, default allocator. The steps are on prebuilt batches, "
        "the epochs over shuffled arrays; the memory is the largest of the process so far, libraries included.",
    ]
    for name, measured in kept.items():
        series, drawn = SERIES[name], lines(measured)
        found += ["", f"## {series.title}", "", f"![{series.title}](growth-{name}.png)"]
        for key, label in series.quantities.items():
            found += ["", f"| {label}, {series.axis}: | " + " | ".join(f"{size:,}" for size in series.sizes) + " |"]
            found.append("|---|" + "---|" * len(series.sizes))
            for way, points in drawn:
                cells = [f"{points[s][key] * SCALES[key]:.3g}" if s in points else "" for s in series.sizes]
                found.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(found) + "\n"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--measure"]:
        print(json.dumps(measure(*arguments[1:])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SERIES), help=",".join(SERIES))
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if not options.draw:
        collect(options.only, kept)
    for name in kept:
        draw(name, kept[name])
    (HERE / "growth.md").write_text(text(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
