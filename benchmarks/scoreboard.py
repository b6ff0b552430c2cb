"""The speed scoreboard: every workload with every framework, side by side.

    python benchmarks/scoreboard.py                               all of it: hours
    python benchmarks/scoreboard.py --only lenet,mlp-small --peers fluxion,torch --runs 3
    python benchmarks/scoreboard.py --python keras-tf=/envs/tf/bin/python --python flax=/envs/flax/bin/python
    python benchmarks/scoreboard.py --table                       only write the table anew

Measurements go to `build/scoreboard/results.json` one by one: stop it with Ctrl-C and call it again to continue. The
table goes to standard output, or to the file that `--out` names. `README.md` says what is measured and how.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness
from workloads import WORKLOADS, Workload

FOLDER = Path(__file__).parent.parent / "build" / "scoreboard"
UNEQUAL = "not the same work"


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    results = harness.Results(options.results, options.fresh)
    if not options.table:
        try:
            run(options, results)
        except KeyboardInterrupt:
            print("\nstopped; the same command continues", file=sys.stderr)
    if not results.measurements:
        print("nothing is measured yet", file=sys.stderr)
        return 1
    text = report(results.measurements, options.only, shlex.join(["python", "benchmarks/scoreboard.py", *arguments]))
    if options.out:
        options.out.write_text(text)
    else:
        print(text)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: text.split(",")  # noqa: E731
    everything = [name for name in WORKLOADS if name != "tiny"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--only", type=listed, default=everything, help=f"workloads: {','.join(WORKLOADS)}")
    parser.add_argument("--peers", type=listed, default=list(harness.PEERS), help=",".join(harness.PEERS))
    parser.add_argument("--modes", type=listed, help="only these modes of the peers")
    parser.add_argument("--runs", type=int, default=5, help="fresh processes per measurement")
    parser.add_argument("--allocator", type=listed, default=list(harness.ALLOCATORS), help="default,tuned")
    parser.add_argument("--threads", type=int, default=cores, help="cores for every peer")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one process")
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH", help="the interpreter of a peer")
    parser.add_argument("--results", type=Path, default=FOLDER / "results.json", help="where measurements are kept")
    parser.add_argument("--fresh", action="store_true", help="forget earlier measurements")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, help="file of the table, such as benchmarks/RESULTS.md")
    options = parser.parse_args(arguments)
    for name, given, known in (
        ("--only", options.only, WORKLOADS),
        ("--peers", options.peers, harness.PEERS),
        ("--allocator", options.allocator, harness.ALLOCATORS),
        ("--python", [text.partition("=")[0] for text in options.python], harness.PEERS),
    ):
        for value in given:
            if value not in known:
                parser.error(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    return options


def run(options: argparse.Namespace, results: harness.Results) -> None:
    pythons = dict(text.split("=", 1) for text in options.python)
    peers = [
        dataclasses.replace(p, python=pythons.get(p.name, p.python)) for p in map(harness.PEERS.get, options.peers)
    ]
    abilities = {peer.name: harness.modes(peer) for peer in peers}
    for name, ability in abilities.items():
        if "missing" in ability:
            print(f"{name}: left out: {ability['missing']} (see --python)", file=sys.stderr)
    tasks = harness.plan(peers, options.only, options.allocator, options.runs, abilities)
    if options.modes:
        tasks = [task for task in tasks if task.mode in options.modes]
    measured = harness.carry_out(tasks, results, options.results.parent, options.threads, options.limit)
    for number, (task, found) in enumerate(measured, 1):
        said = found.get("error") or f"{statistics.median(found['times']['step']) * 1e3:.3f} ms per step"
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

    def seconds(self, name: str) -> list[float]:
        return [value for run in self.runs for value in run["times"].get(name, ())]

    def measured(self, workload: Workload) -> float:
        return statistics.median(self.seconds(workload.measure))


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
    listed = sorted(found.values(), key=lambda e: (list(harness.PEERS).index(e.peer), e.mode))
    reference = next((e.runs[0]["outputs"] for e in listed if e.peer == "fluxion" and e.runs), None)
    for entry in listed:
        if not entry.runs:
            entry.verdict = entry.errors[0]
        elif reference is not None and not all(harness.same_work(r["outputs"], reference) for r in entry.runs):
            entry.verdict = UNEQUAL
    return listed


def best(listed: Iterable[Entry], workload: Workload) -> Entry | None:
    return min((e for e in listed if not e.verdict), key=lambda e: e.measured(workload), default=None)


def report(measurements: list[dict[str, Any]], only: list[str], command: str) -> str:
    machine = harness.machine()
    versions = {k: v for m in measurements for k, v in m.get("versions", {}).items()}
    threads = sorted({m["threads"] for m in measurements})
    lines = [
        "# Speed, side by side",
        "",
        f"`{command}`",
        "",
        f"{machine['processor']} ({machine['family']}; {machine['vectors']}), {machine['cores']} cores, "
        f"{', '.join(map(str, threads))} used by every framework; {machine['system']}; Python {machine['python']}. "
        + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        + ". float32. The times are medians over all blocks of all runs, with the quartiles in brackets.",
        "",
        "The ratio is that of Fluxion's time to the best mode of the best peer: below 1 Fluxion is faster. No ratio is "
        f"given where the losses of the first steps differ by more than {harness.TOLERANCE:g} of their size.",
    ]
    for allocator, settings in harness.ALLOCATORS.items():
        chosen = [WORKLOADS[n] for n in only if entries(measurements, n, allocator)]
        if not chosen:
            continue
        shown = " ".join(f"{k}={v}" for k, v in settings.items())
        given = f"all frameworks with `{shown}`" if shown else "all frameworks with the system's settings"
        lines += ["", f"## Allocator {allocator}: {given}", ""]
        lines += ["| workload | ms | Fluxion | best peer | ratio | goal |", "|---|---|---|---|---|---|"]
        lines += [summary(w, entries(measurements, w.name, allocator)) for w in chosen]
        for workload in chosen:
            lines += ["", *details(workload, entries(measurements, workload.name, allocator))]
    return "\n".join(lines) + "\n"


def summary(workload: Workload, listed: list[Entry]) -> str:
    own = best((e for e in listed if e.peer == "fluxion"), workload)
    rivals = [e for e in listed if e.peer != "fluxion" and workload.against in ("", e.peer)]
    rival = best(rivals, workload)
    ratio = f"**{own.measured(workload) / rival.measured(workload):.2f}**" if own and rival else "none"
    odd = sorted({e.peer for e in rivals if e.verdict == UNEQUAL})
    if odd:  # without them the ratio would be to the best of the rest
        ratio = f"none: {', '.join(odd)} {UNEQUAL}"
    goal = "" if workload.goal is None else f"{workload.goal:g}"
    data = next((r["data"] for e in listed for r in e.runs), "")
    title = workload.title + (" (synthetic data)" if data == "synthetic" and workload.data != "random" else "")
    cells = [title, f"per {workload.unit}", shown(own, workload), shown(rival, workload), ratio, goal]
    return "| " + " | ".join(cells) + " |"


def shown(entry: Entry | None, workload: Workload) -> str:
    return f"{spread(entry.seconds(workload.measure))} ({entry.peer} {entry.mode})" if entry else "none"


def details(workload: Workload, listed: list[Entry]) -> list[str]:
    lines = [
        f"<details><summary>{workload.title}</summary>",
        "",
        "| | import s | build s | first step s | step ms | in an epoch ms | evaluation ms | memory MB | runs | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in listed:
        times = [spread(entry.seconds(name), 1) for name in ("import", "build", "first")]
        times += [spread(entry.seconds(name)) for name in ("step", "epoch", "evaluation")]
        memory = f"{statistics.median(r['memory'] for r in entry.runs) / 1e6:.0f}" if entry.runs else ""
        failed = f"{len(entry.errors)} failed: {entry.errors[0]}" if entry.errors and entry.runs else entry.verdict
        note = failed.replace("|", "/")
        lines.append(
            "| " + " | ".join([f"{entry.peer} {entry.mode}", *times, memory, str(len(entry.runs)), note]) + " |"
        )
    return [*lines, "", "</details>"]


def spread(seconds: list[float], scale: float = 1e3) -> str:
    """The median, with the quartiles where there are enough values."""
    if not seconds:
        return ""
    values = [value * scale for value in seconds]
    text = f"{statistics.median(values):.3g}"
    if len(values) >= 4:
        low, _, high = statistics.quantiles(values, n=4)
        text += f" [{low:.3g}, {high:.3g}]"
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
