"""The speed scoreboard: every workload with every framework, side by side.

    python benchmarks/scoreboard.py --runs 1                      the board in its shortest form: two hours
    python benchmarks/scoreboard.py --all                         each workload with each framework: many hours
    python benchmarks/scoreboard.py --only lenet,mlp-small --peers fluxion,torch --runs 3
    python benchmarks/scoreboard.py --python keras-tf=/envs/tf/bin/python --python flax=/envs/flax/bin/python
    python benchmarks/scoreboard.py --table                       only write the table anew

Measurements go to `build/scoreboard/results.json` one by one: stop it with Ctrl-C and call it again to continue. The
table goes to standard output, or to the file that `--out` names. `README.md` says what is measured and how.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import shlex
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import arithmetic
import board
from rows import CONVOLUTIONS, SAMPLE, TESTS, WORKLOADS, Row

from fluxion.compare import processes
from fluxion.compare.results import Results
from fluxion.compare.worker import BATCHES

FOLDER = Path(__file__).parent.parent / "build" / "scoreboard"
UNEQUAL = "not the same work"


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    results = board.open_results(options.results, options.fresh)
    if not options.table:
        try:
            run(options, results)
        except KeyboardInterrupt:
            print("\nstopped; the same command continues", file=sys.stderr)
    if not results.measurements:
        print("nothing is measured yet", file=sys.stderr)
        return 1
    command = shlex.join(["python", "benchmarks/scoreboard.py", *arguments])
    peak = None if options.quick else board.peak(options.results.parent, options.threads)
    text = report(results.measurements, options.only, command, peak)
    if options.out:
        options.out.write_text(text)
    else:
        print(text)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: text.split(",")  # noqa: E731
    everything = [name for name in WORKLOADS if name not in TESTS]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--only", type=listed, default=everything, help=f"workloads: {','.join(WORKLOADS)}")
    parser.add_argument("--peers", type=listed, default=list(board.PEERS), help=",".join(board.PEERS))
    parser.add_argument("--modes", type=listed, help="only these modes of the peers")
    parser.add_argument("--all", action="store_true", help="every workload with every framework and both allocators")
    parser.add_argument("--runs", type=int, help="fresh processes per measurement: 3, or 1 with --quick")
    parser.add_argument("--allocator", type=listed, default=list(board.ALLOCATORS), help="default,tuned")
    parser.add_argument("--threads", type=int, default=cores, help="cores for every peer")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one process")
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH", help="the interpreter of a peer")
    parser.add_argument("--quick", action="store_true", help="one sample of each time: only to see that all works")
    parser.add_argument("--results", type=Path, help="where measurements are kept; build/scoreboard/results.json")
    parser.add_argument("--fresh", action="store_true", help="forget earlier measurements")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, help="file of the table, such as benchmarks/RESULTS.md")
    options = parser.parse_args(arguments)
    options.runs = options.runs or (1 if options.quick else 3)
    options.results = options.results or FOLDER / ("quick.json" if options.quick else "results.json")
    for name, given, known in (
        ("--only", options.only, WORKLOADS),
        ("--peers", options.peers, board.PEERS),
        ("--allocator", options.allocator, board.ALLOCATORS),
        ("--python", [text.partition("=")[0] for text in options.python], board.PEERS),
    ):
        for value in given:
            if value not in known:
                parser.error(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    return options


def run(options: argparse.Namespace, results: Results) -> None:
    pythons = dict(text.split("=", 1) for text in options.python)
    peers = [dataclasses.replace(p, python=pythons.get(p.name, p.python)) for p in map(board.PEERS.get, options.peers)]
    abilities = {peer.name: board.modes(peer) for peer in peers}
    for name, ability in abilities.items():
        if "missing" in ability:
            print(f"{name}: left out: {ability['missing']} (see --python)", file=sys.stderr)
    tasks = board.plan(peers, options.only, options.allocator, options.runs, abilities, options.all)
    if options.modes:
        tasks = [task for task in tasks if task.mode in options.modes]
    measured = board.carry_out(tasks, results, options.results.parent, options.threads, options.limit, options.quick)
    for number, (task, found) in enumerate(measured, 1):
        said = found.get("error") or next(
            f"{statistics.median(found['times'][key]) * 1e3:.3g} ms {label}"
            for key, label in (("epoch", "a step"), ("start", "to the first step"), (f"batch {BATCHES[0]}", "a call"))
            if key in found["times"]
        )
        name = f"{task.workload} {task.peer.name} {task.mode} {task.allocator}"
        print(f"{number:4} of {len(tasks)}: {name}: {said}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------- table


@dataclasses.dataclass
class Entry:
    """What the runs of one mode of one peer on one workload gave together."""

    peer: str
    mode: str
    runs: list[dict[str, Any]]  # those that ended well
    errors: list[str]
    verdict: str = ""  # why no ratio is given

    def values(self, name: str) -> list[float]:
        """Seconds, or bytes of memory."""
        if name == "memory":
            return [run["memory"] for run in self.runs]
        return [value for run in self.runs for value in run["times"].get(name, ())]

    def measured(self, name: str) -> float:
        return statistics.median(self.values(name))


@dataclasses.dataclass(frozen=True)
class Column:
    """A quantity that Fluxion and its peers are compared by."""

    name: str  # in the measurements
    unit: str
    scale: float  # seconds or bytes to that unit
    goal: float | None = 1.0  # where the workload does not say


EPOCH, STEP = Column("epoch", "ms per step", 1e3), Column("step", "ms per step", 1e3)
EVALUATION, MEMORY, START = Column("evaluation", "ms", 1e3), Column("memory", "MB", 1e-6), Column("start", "s", 1.0)
CALLS = {size: Column(f"batch {size}", "ms per call", 1e3) for size in BATCHES}


def entries(measurements: list[dict[str, Any]], workload: str, allocator: str) -> list[Entry]:
    """In the order of the peers, each with the verdict whether it did the work that Fluxion did."""
    found: dict[tuple[str, str], Entry] = {}
    for m in measurements:
        if m["workload"] == workload and m["allocator"] == allocator:
            entry = found.setdefault((m["peer"], m["mode"]), Entry(m["peer"], m["mode"], [], []))
            if "error" in m:
                entry.errors.append(m["error"])
            else:
                entry.runs.append(m)
    listed = sorted(found.values(), key=lambda e: (list(board.PEERS).index(e.peer), e.mode))
    reference = next((e.runs[0]["outputs"] for e in listed if e.peer == "fluxion" and e.runs), None)
    same = functools.partial(processes.same_work, tolerance=WORKLOADS[workload].tolerance)
    for entry in listed:
        if not entry.runs:
            entry.verdict = entry.errors[0]
        elif reference is not None and not all(same(r["outputs"], reference) for r in entry.runs):
            entry.verdict = UNEQUAL
    return listed


def best(listed: Iterable[Entry], column: Column) -> Entry | None:
    counted = (e for e in listed if not e.verdict and e.values(column.name))
    return min(counted, key=lambda e: e.measured(column.name), default=None)


def report(measurements: list[dict[str, Any]], only: list[str], command: str, peak: float | None = None) -> str:
    lines = ["# Speed, side by side", "", f"`{command}`", "", *explanation(measurements, peak)]
    for allocator, settings in board.ALLOCATORS.items():
        chosen = [(WORKLOADS[n], listed) for n in only if (listed := entries(measurements, n, allocator))]
        if not chosen:
            continue
        shown = " ".join(f"{k}={v}" for k, v in settings.items())
        given = f"all frameworks with `{shown}`" if shown else "all frameworks with the system's settings"
        lines += ["", f"## Allocator {allocator}: {given}"]
        trained = [pair for pair in chosen if pair[0].kind == "train"]
        inferred = [pair for pair in chosen if pair[0].kind == "infer"]
        lines += training(trained)
        evaluated = [pair for pair in trained if pair[0].evaluation]
        lines += table("Evaluation of 10000 images: loss and accuracy, batches of 1000", evaluated, EVALUATION)
        for size, column in CALLS.items():
            lines += table(f"Inference, batch {size}: one call, outputs computed", inferred, column)
        lines += table(
            "Start: import, build and first step of LeNet, together",
            [pair for pair in chosen if pair[0].kind == "start"],
            START,
        )
        lines += table("Peak memory of the process in training", trained, MEMORY)
        if peak:
            lines += limits([*trained, *inferred], peak)
        lines += ["", "### Every measurement"]
        for workload, listed in chosen:
            lines += ["", *details(workload, listed)]
    return "\n".join(lines) + "\n"


def explanation(measurements: list[dict[str, Any]], peak: float | None) -> list[str]:
    machine = processes.machine()
    versions = {k: v for m in measurements for k, v in m.get("versions", {}).items()}
    threads = ", ".join(map(str, sorted({m["threads"] for m in measurements})))
    runs = max(m["run"] for m in measurements) + 1
    ability = f" Matrix products reach {peak / 1e9:.0f} GFLOP/s in float32." if peak else ""
    return [
        f"{machine['processor']} ({machine['family']}; {machine['vectors']}), {machine['cores']} cores, {threads} used "
        f"by every framework; {machine['system']}; Python {machine['python']}.{ability} "
        + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        + ".",
        "",
        f"float32; {runs} fresh process{'es' if runs > 1 else ''} per measurement, the frameworks in random order; the "
        "times are medians over all samples, at least ten in each process (four of what is slow), with the quartiles "
        "in brackets.",
        "",
        "A ratio is Fluxion's value over that of the best mode of the best peer: below 1 Fluxion is better. Each of "
        "Fluxion's own ways has its ratio. *Whole epochs* are what a user trains: arrays in memory, shuffled anew in "
        "each epoch, batched by the framework's own fast way (Fluxion: a DataLoader); the goals are about them. "
        "*Prebuilt batches* are the same steps without that. Compilation is in neither. No ratio is given where the "
        "losses of the first steps, or the outputs, differ by more than 0.0001 of their size (ResNet-18: 0.002). "
        "Memory is the largest the process had until training ended, interpreter, libraries and data included. "
        "Evaluation is timed from the second on: the first compiles.",
        "",
        f"Keras on JAX, Flax NNX and Equinox are run on {', '.join(f'`{n}`' for n in SAMPLE)}; Keras on TensorFlow "
        f"also on {', '.join(f'`{n}`' for n in CONVOLUTIONS)}; every workload has torch and a loop of plain JAX. "
        "[NOTES.md](NOTES.md) says of each goal that is missed what was tried and what the profile shows.",
    ]


def training(chosen: list[tuple[Row, list[Entry]]]) -> list[str]:
    """The table that the goals are about."""
    if not chosen:
        return []
    heading = "workload | Fluxion, ms per step | best peer | ratio, whole epochs | goal | met | ratio, prebuilt batches"
    lines = ["", "### Training", "", f"| {heading} |", "|---|---|---|---|---|---|---|"]
    for workload, listed in chosen:
        lines.append(f"| {' | '.join([*compared(workload, listed, EPOCH), compared(workload, listed, STEP)[3]])} |")
    return lines


def table(title: str, chosen: list[tuple[Row, list[Entry]]], column: Column) -> list[str]:
    if not chosen:
        return []
    heading = f"| workload | Fluxion, {column.unit} | best peer | ratio | goal | met |"
    rows = [f"| {' | '.join(compared(*pair, column))} |" for pair in chosen]
    return ["", f"### {title}", "", heading, "|---|---|---|---|---|---|", *rows]


def compared(workload: Row, listed: list[Entry], column: Column) -> list[str]:
    """The cells of a row: workload, Fluxion by mode, best peer, ratios, goal, met or not."""
    own = [e for e in listed if e.peer == "fluxion" and not e.verdict and e.values(column.name)]
    others = [e for e in listed if e.peer != "fluxion"]
    rival = best([e for e in others if workload.against in ("", e.peer) or column is MEMORY], column)
    ratios = {e.mode: e.measured(column.name) / rival.measured(column.name) for e in own} if rival else {}
    odd = sorted({f"{e.peer} {e.mode}" for e in others if e.verdict == UNEQUAL})
    goal = column.goal if column in (EVALUATION, MEMORY) else workload.goal
    if odd:  # without them the ratio would be to the best of the rest
        ratios, text = {}, f"none: {', '.join(odd)} {UNEQUAL}"
    else:
        text = by_mode({mode: f"**{ratio:.2f}**" for mode, ratio in ratios.items()})
    return [
        titled(workload, listed),
        by_mode({e.mode: spread(e.values(column.name), column.scale) for e in own}),
        f"{spread(rival.values(column.name), column.scale)} {rival.peer} {rival.mode}" if rival else "none",
        text,
        "" if goal is None else f"{goal:g}",
        met(workload, ratios, goal),
    ]


def by_mode(texts: dict[str, str]) -> str:
    return "<br>".join(f"{text} {mode}" for mode, text in texts.items()) or "none"


def met(workload: Row, ratios: dict[str, float], goal: float | None) -> str:
    """Whether the goal is met, and by which modes if not by all."""
    if goal is None or not ratios:
        return ""
    good = [mode for mode, ratio in ratios.items() if ratio <= goal]
    if len(good) == len(ratios):
        return "yes"
    said = f"by {', '.join(good)}" if good else "no"
    return f"{said}, [notes](NOTES.md#{workload.name})" if f"## {workload.name}\n" in notes() else said


@functools.cache
def notes() -> str:
    file = Path(__file__).parent / "NOTES.md"
    return file.read_text() if file.exists() else ""


def titled(workload: Row, listed: list[Entry]) -> str:
    data = next((r["data"] for e in listed for r in e.runs), "")
    return workload.title + (" (synthetic data)" if data == "synthetic" and workload.data != "random" else "")


def limits(chosen: list[tuple[Row, list[Entry]]], peak: float) -> list[str]:
    """How far the times are from what the arithmetic alone would take."""
    lines = [
        "",
        "### Arithmetic limit",
        "",
        "What the additions and multiplications of the products and convolutions would take at the speed of a large "
        "matrix product, and how much of that speed is reached by whole epochs, or by calls of batch "
        f"{BATCHES[-1]}.",
        "",
        "| workload | GFLOP | limit, ms | Fluxion, ms | of the peak | best peer, ms | of the peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for workload, listed in chosen:
        column = EPOCH if workload.training else CALLS[BATCHES[-1]]
        operations = arithmetic.work(workload, workload.batch)
        cells = [workload.title, f"{operations / 1e9:.3g}", f"{operations / peak * 1e3:.3g}"]
        for group in ([e for e in listed if e.peer == "fluxion"], [e for e in listed if e.peer != "fluxion"]):
            entry = best(group, column)
            seconds = entry.measured(column.name) if entry else float("nan")
            said = f"{seconds * 1e3:.3g} {entry.peer} {entry.mode}" if entry else "none"
            cells += [said, f"{operations / peak / seconds:.0%}" if entry else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def details(workload: Row, listed: list[Entry]) -> list[str]:
    timed = {
        "train": (EPOCH, STEP, EVALUATION),
        "infer": tuple(CALLS.values()),
        "start": (START,),
    }[workload.kind]
    heads = {EPOCH: "in an epoch, ms", STEP: "prebuilt, ms", EVALUATION: "evaluation, ms", START: "together, s"}
    columns = [heads.get(column, f"{column.name}, ms") for column in timed]
    firsts = ["first"] if workload.kind != "infer" else [f"first {size}" for size in BATCHES]
    head = ["", "import s", "build s", *(f"{name} s" for name in firsts), *columns, "memory MB", "runs", ""]
    lines = [
        f"<details><summary>{workload.title}</summary>",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    for entry in listed:
        times = [spread(entry.values(name), 1) for name in ("import", "build", *firsts)]
        times += [spread(entry.values(column.name), column.scale) for column in timed]
        failed = f"{len(entry.errors)} failed: {entry.errors[0]}" if entry.errors and entry.runs else entry.verdict
        memory = spread(entry.values("memory"), MEMORY.scale)
        cells = [f"{entry.peer} {entry.mode}", *times, memory, str(len(entry.runs)), failed.replace("|", "/")]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "</details>"]


def spread(values: list[float], scale: float) -> str:
    """The median, with the quartiles where there are enough values."""
    if not values:
        return ""
    scaled = [value * scale for value in values]
    text = f"{statistics.median(scaled):.3g}"
    if len(scaled) >= 4:
        low, _, high = statistics.quantiles(scaled, n=4)
        text += f" [{low:.3g}, {high:.3g}]"
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
