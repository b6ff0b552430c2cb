"""A comparison as `results.csv`, and as tables and sentences in a terminal."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from fluxion.compare.summary import COLUMNS, FAILED, SAME, baseline, duration, three
from fluxion.files import atomic_write

FIELDS = ("workload", "variant", "framework", "mode", "verdict", "quantity", "unit", "n", "min", "q1", "median", "q3",
          "max")  # fmt: skip


def write_csv(document: dict[str, Any], path: Path) -> None:
    """One line for each quantity of each entry of the summary."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    for entry in document["summary"]:
        label = {name: entry[name] for name in FIELDS[:5]}
        told = [(column, "s", entry["times"].get(column)) for column in COLUMNS]
        accuracy = entry["accuracy"] or {}
        told += [("memory", "bytes", entry["memory"]), ("test accuracy", "", entry["accuracy"])]
        told += [("train loss", "", accuracy.get("train loss")), ("epoch by the table", "s", accuracy.get("seconds"))]
        if entry["ratio"] is not None:
            told.append(("ratio", "", {"n": 1, "median": entry["ratio"]}))
        for quantity, unit, values in told:
            if values:
                kept = {name: values[name] for name in FIELDS[7:] if name in values}
                writer.writerow({**label, "quantity": quantity, "unit": unit, **kept})
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))


# ------------------------------------------------------------------------------------------- for a terminal


def heading(document: dict[str, Any], name: str) -> list[str]:
    """What is compared, on what: sentences."""
    told = document["workloads"][name]
    runs = {label: run for label, run in document["runs"].items() if label.partition("/")[0] == name}
    kinds = {run["data"] for run in runs.values()}
    machine, settings = document["machine"], document["settings"]
    lines = [f"{name}: {told['network']}", f"{told['post']}.", f"Data: {told['split']}."]
    if "synthetic" in kinds:
        lines.append(
            "SYNTHETIC DATA: the set is not on this computer, random data of its shapes stand in. The times are what "
            "they would be, accuracy is not. fluxion datasets list shows how to get the set."
        )
    if told["about"] and document["protocol"] == "fair":
        lines.append(told["about"])
    cores = "threads" if settings["threads"] > 1 else "thread"
    lines.append(f"{machine['processor']}, {machine['cores']} cores, {settings['threads']} {cores} for each framework; "
                 f"{machine['system']}.")  # fmt: skip
    if document["protocol"] == "fair" and not settings["quick"]:
        many = "processes" if settings["runs"] > 1 else "process"
        lines.append(
            f"Times are of {settings['runs']} fresh {many} for each way, the ways in random order: a step as least, "
            "quartiles and median over them, the rest as medians."
        )
    if settings["quick"]:
        lines.append("QUICK: one sample of everything on a little data, to see that all works. No time here counts.")
    return lines


def speed(document: dict[str, Any], name: str) -> tuple[list[str], list[list[str]]]:
    """The table of steps: what the verdict is about."""
    rows = []
    for entry in of(document, name):
        step = entry["times"].get("step")
        if entry["verdict"] == FAILED or step is None:
            rows.append([label(entry), "", "", "", "", "", entry["verdict"] or "not timed"])
            continue
        ratio = "none" if entry["ratio"] is None else three(entry["ratio"])
        cells = [duration(step[at]) for at in ("median", "min", "q1", "q3")]
        rows.append([label(entry), *cells, ratio, entry["verdict"]])
    return ["framework", "a step", "least", "1st q.", "3rd q.", "ratio", "verdict"], rows


START = {"import": "import", "data": "data", "build": "build", "first": "1st step"}
REST = {"batches": "batch", "epoch": "epoch", "evaluation": "eval"}


def start(document: dict[str, Any], name: str) -> tuple[list[str], list[list[str]]]:
    """Medians of what comes before the second step."""
    return _medians(document, name, START)


def rest(document: dict[str, Any], name: str) -> tuple[list[str], list[list[str]]]:
    """Medians of what comes around the steps, and of memory."""
    return _medians(document, name, REST)


def _medians(document: dict[str, Any], name: str, columns: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for entry in of(document, name):
        if entry["times"]:
            cells = [duration(t["median"]) if (t := entry["times"].get(column)) else "" for column in columns]
            memory = [f"{entry['memory']['median'] / 1e6:.0f} MB"] if columns is REST else []
            rows.append([label(entry), *cells, *memory])
    return ["framework", *columns.values(), *(["memory"] if columns is REST else [])], rows


def accuracies(document: dict[str, Any], name: str) -> tuple[list[str], list[list[str]]]:
    """Test accuracy after training, over the seeds."""
    rows = []
    for entry in of(document, name):
        if found := entry["accuracy"]:
            inside = {True: "inside", False: "OUTSIDE", None: ""}[found["in band"]]
            values = [number(found[at]) for at in ("min", "median", "max")]
            loss, seconds = number(found["train loss"]["median"]), duration(found["seconds"]["median"])
            rows.append([label(entry), str(found["n"]), *values, loss, seconds, inside])
    return ["framework", "seeds", "least", "median", "most", "train loss", "epoch", "band"], rows


def published(document: dict[str, Any], name: str) -> tuple[list[str], list[list[str]]]:
    """What came out of each post's own settings, beside what was published."""
    rows = []
    for entry in of(document, name):
        if found := entry["accuracy"]:
            told = document["runs"].get(f"{name}/{entry['variant']}", {}).get("published", {})
            curve = told.get("train loss", "")
            seconds = told.get("seconds per epoch")
            rows.append([
                entry["variant"], entry["framework"],
                number(found["median"]), f"{told['test accuracy']:.4f}" if "test accuracy" in told else "",
                number(found["train loss"]["median"], ".4g"), f"{curve[-1]:.4g}" if curve else "",
                duration(found["seconds"]["median"]), duration(seconds) if seconds else "",
            ])  # fmt: skip
    head = ["post's", "run by", "accuracy", "published", "train loss", "published", "epoch", "published"]
    return head, rows


def conclusions(document: dict[str, Any], name: str) -> list[str]:
    """What the tables say, in sentences; as published, how each post's settings differ."""
    failed = [f"{label(e)}: {e['errors'][0]}" for e in of(document, name) if e["errors"]]
    if document["protocol"] == "as-published":
        runs = {run.partition("/")[2]: facts for run, facts in document["runs"].items() if run.startswith(f"{name}/")}
        return [*(f"{variant}: {facts['faults']}" for variant, facts in runs.items()), *failed]
    entries = [e for e in of(document, name) if e["times"].get("step")]
    best = baseline(document["summary"], name)
    lines = []
    if best is not None:
        rivals = [e for e in entries if e["ratio"] is not None and not e["framework"].startswith("fluxion")]
        if not rivals:
            lines.append("No other framework was run.")
        for faster in (e for e in rivals if e["ratio"] < 1):
            lines.append(
                f"Fluxion is slower than {faster['framework']} {faster['mode']}: its step takes "
                f"{three(1 / faster['ratio'])} times as long."
            )
        slower = [e for e in rivals if e["ratio"] >= 1]
        if slower:
            nearest = min(slower, key=lambda e: e["ratio"])
            others = "the others" if len(slower) > 1 else "its step"
            told = f"{nearest['framework']} {nearest['mode']} takes {three(nearest['ratio'])} times as long as Fluxion"
            lines.append(f"{told}{f', {others} longer' if len(slower) > 1 else ''}.")
        lines.append(f"Ratio: the median step over that of {best['framework']} {best['mode']}, Fluxion's best.")
    wrong = [e for e in entries if e["verdict"] not in (SAME, "")]
    lines += [f"{e['framework']} {e['mode']}: {e['verdict']}, no ratio given: {e['why']}." for e in wrong]
    return [*lines, *failed]


def number(value: float | None, digits: str = ".4f") -> str:
    """A number that may be none, as that of a training that diverged is."""
    return "not a number" if value is None else format(value, digits)


def of(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The entries of a workload."""
    return [entry for entry in document["summary"] if entry["workload"] == name]


def label(entry: dict[str, Any]) -> str:
    return f"{entry['framework']} {entry['mode']}"
