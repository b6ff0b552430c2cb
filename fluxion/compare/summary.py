"""What the measurements say together: spreads over the runs, the verdict, the ratio, accuracy over the seeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxion.compare.environments import OWN

SAME, OTHER, FAILED = "same work", "not the same work", "failed"
STRICT = 10  # steps, of which the losses have to agree closely; later ones have drifted by rounding
COMPILING = ("build", "first")  # where programs kept from an earlier process would save time
COLUMNS = ("import", "data", "build", "first", "step", "batches", "epoch", "evaluation")


def summarize(document: dict[str, Any]) -> list[dict[str, Any]]:
    """An entry for each mode of each framework on each workload, or variant of it, that was measured.

    Its fields: `workload`, `variant`, `framework`, `mode`; `verdict` and `why`; `deviation` of the losses from the
    reference, the largest of the first ten steps and of all; `times` in seconds and `memory` in bytes, each with `min`,
    `q1`, `median`, `q3`, `max` and `n` over the processes; `ratio` of the median step to Fluxion's best; `accuracy`.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for m in document["measurements"]:
        groups.setdefault((m["workload"], m["variant"], m["framework"], m["mode"]), []).append(m)
    order: list[tuple[str, ...]] = [
        (name, mode) for name, facts in document["frameworks"].items() for mode in facts["modes"]
    ]
    keys = sorted(groups, key=lambda key: (key[:2], order.index(key[2:]) if key[2:] in order else len(order)))
    entries = [_entry(document, key, groups[key]) for key in keys]
    for entry in entries:
        best = baseline(entries, entry["workload"])
        if best is not None and entry["verdict"] == SAME and "step" in entry["times"]:
            entry["ratio"] = entry["times"]["step"]["median"] / best["times"]["step"]["median"]
    return entries


def baseline(entries: list[dict[str, Any]], workload: str) -> dict[str, Any] | None:
    """What the ratios of a workload are to: Fluxion's own way with the smallest median step."""
    own = [
        e
        for e in entries
        if e["workload"] == workload
        and e["framework"].startswith(OWN)
        and e["verdict"] == SAME
        and "step" in e["times"]
    ]
    return min(own, key=lambda e: e["times"]["step"]["median"], default=None)


def _entry(document: dict[str, Any], key: tuple[str, ...], found: list[dict[str, Any]]) -> dict[str, Any]:
    workload, variant, *_ = key
    label = f"{workload}/{variant}" if variant else workload
    timed = [m for m in found if m["part"] == "timing" and "error" not in m]
    trained = [curve for m in found if m["part"] == "accuracy" and "error" not in m for curve in m["curves"]]
    times = {}
    for column in COLUMNS:
        counted = [m for m in timed if column in m["times"] and (m["cold"] or column not in COMPILING)]
        if counted:
            times[column] = spread([float(np.median(m["times"][column])) for m in counted])
    entry: dict[str, Any] = {
        **dict(zip(("workload", "variant", "framework", "mode"), key, strict=True)),
        "errors": [m["error"] for m in found if "error" in m],
        "times": times,
        "memory": spread([m["memory"] for m in timed]) if timed else None,
        "ratio": None,
        "accuracy": _accuracy(trained, document["workloads"][workload]["band"], document, label),
    }
    told = document["runs"].get(label, {}).get("reference")
    return entry | _verdict(timed, trained, told, entry["errors"])


def _verdict(
    timed: list[dict[str, Any]], trained: list[Any], reference: dict[str, Any] | None, errors: list[str]
) -> dict[str, Any]:
    if not timed and not trained:
        return {"verdict": FAILED, "why": errors[0] if errors else "nothing was measured", "deviation": None}
    if reference is None or not timed:
        return {"verdict": "", "why": "", "deviation": None}
    found = [deviations(m["losses"], reference["losses"]) for m in timed]
    first = max(float(d[:STRICT].max()) for d in found)
    whole = max(float(d.max()) for d in found)
    why = ""
    if not first <= reference["tolerance"]:
        why = (
            f"a loss of the first {STRICT} steps is {first:.1e} of its size off; {reference['tolerance']:g} is allowed"
        )
    elif not whole <= reference["drift"]:
        why = f"a loss of the first {len(reference['losses'])} steps is {whole:.1e} of its size off; "
        why += f"{reference['drift']:g} is allowed"
    return {"verdict": OTHER if why else SAME, "why": why, "deviation": {"first": first, "all": whole}}


def deviations(losses: list[float], reference: list[float]) -> np.ndarray:
    """How far each loss is from the reference, as part of its size, or of the mean of all if that is more.

    What is no number is infinitely far.
    """
    a, b = np.array(losses, float), np.array(reference[: len(losses)])
    off = np.abs(a - b) / np.maximum(np.abs(b), np.abs(reference).mean())
    return np.where(np.isfinite(off), off, np.inf)


def _accuracy(
    trained: list[dict[str, Any]], band: list[float] | None, document: dict[str, Any], label: str
) -> dict[str, Any] | None:
    if not trained:
        return None
    values = np.array([curve["test accuracy"][-1] for curve in trained], float).tolist()  # None is NaN
    whole = document["runs"].get(label, {}).get("data") == "real" and document["settings"]["epochs"] is None
    judged = band is not None and whole and not document["settings"]["quick"] and document["protocol"] == "fair"
    seconds = [second for curve in trained for second in curve["seconds"][1:] or curve["seconds"]]
    return {
        **spread(values),
        "train loss": spread([curve["train loss"][-1] for curve in trained]),
        "seconds": spread(seconds),  # of an epoch by the table of batches, without the first, which compiles
        "in band": all(band[0] <= value <= band[1] for value in values) if judged and band else None,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Smallest, quartiles, largest and number of some values.

    >>> from fluxion.compare.summary import spread
    >>> spread([3.0, 1.0, 2.0])
    {'min': 1.0, 'q1': 1.5, 'median': 2.0, 'q3': 2.5, 'max': 3.0, 'n': 3}
    """
    known = np.array(values, float)  # what was NaN is None in a file
    numbers = dict(zip(("min", "q1", "median", "q3", "max"), np.quantile(known, [0, 0.25, 0.5, 0.75, 1]), strict=True))
    return {**{name: float(value) for name, value in numbers.items()}, "n": len(values)}


def duration(seconds: float) -> str:
    """Seconds as people read them.

    >>> from fluxion.compare.summary import duration
    >>> duration(12.34), duration(0.0567), duration(0.00001234)
    ('12.3 s', '56.7 ms', '12.3 µs')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 0.9995:
            return f"{three(seconds * scale)} {unit}"
    return f"{three(seconds * 1e6)} µs"


def three(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
