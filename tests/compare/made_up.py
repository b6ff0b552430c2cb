"""Made-up results of comparisons, with the fields that real ones have."""

from __future__ import annotations

import random
from typing import Any

from fluxion.compare.results import finite
from fluxion.compare.summary import summarize

REFERENCE = [2.3 * 0.97**step + 0.05 * (step % 5) for step in range(50)]
MODES = {
    "fluxion": ("Fluxion", {"train": 20e-6, "fit": 30e-6}),
    "jax": ("JAX", {"jit": 18e-6}),
    "torch": ("PyTorch", {"eager": 130e-6, "compile": 90e-6}),
    "keras-tf": ("Keras on TensorFlow", {"fit": 4e-3, "graph xla": 60e-6}),
}
PROGRAM = "import numpy as np\n\n\ndef train(batches):  # one step on each\n    return '<b>' if batches else \"&\"\n"


def results(
    names: tuple[str, ...] = ("iris",),
    modes: dict[str, tuple[str, dict[str, float]]] = MODES,
    data: str = "real",
    quick: bool = False,
    runs: int = 3,
    wrong: tuple[str, ...] = (),
    failing: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    trained: bool = True,
) -> dict[str, Any]:
    """A fair comparison: seconds of a step by framework and mode; some do other work, fail, or are not there."""
    chance = random.Random(0)
    measurements: list[dict[str, Any]] = []
    for name in names:
        for framework, (_, own) in modes.items():
            if framework in absent:
                continue
            for mode, seconds in own.items():
                which = {"workload": name, "variant": "", "framework": framework, "mode": mode, "code": "0"}
                for run in range(runs):
                    if framework in failing:
                        measurements.append({**which, "part": "timing", "run": run, "error": "boom <script>\x1b[31m"})
                    else:
                        measurements.append({**which, **_timing(chance, run, seconds, framework in wrong)})
                if trained and framework not in failing and mode == next(iter(own)):
                    measurements.append({**which, **_accuracy(chance, seconds)})
    document = {
        "format": "fluxion.compare",
        "version": 1,
        "protocol": "fair",
        "date": "2026-11-22T04:42:09+00:00",
        "fluxion": "0.1.0",
        "machine": {"processor": "A & B <CPU>", "family": "family 1 model 2", "vectors": "avx2", "cores": 2,
                    "system": "Linux", "python": "3.11.7"},
        "settings": {"names": list(names), "frameworks": list(modes), "pythons": {}, "protocol": "fair", "runs": runs,
                     "seeds": 2, "threads": 1, "epochs": None, "limit": 60.0, "quick": quick},
        "workloads": {
            name: {"title": f"Data {name}", "network": f"{name}, MLP 4-10-3", "post": "A post", "split": "105 and 45",
                   "about": "Small.", "band": [0.8, 1.0]}
            for name in names
        },
        "runs": {
            name: {"data": data, "hashes": {"x": "e948a5ab"}, "description": {}, "parameters": 83,
                   "reference": {"what": "plain NumPy", "losses": REFERENCE, "tolerance": 1e-4, "drift": 2e-2}}
            for name in names
        },
        "frameworks": {
            framework: {
                "title": title,
                "python": "python",
                "modes": {name: list(own) for name in names},
                **({"missing": f"no {framework}", "remedy": f"fluxion compare setup {framework}"}
                   if framework in absent else
                   {"reasons": {name: {"other": "it cannot"} for name in names}, "versions": {framework: "1.0 <rc>"}}),
            }
            for framework, (title, own) in modes.items()
        },
        "programs": [
            {"workload": name, "framework": framework, "mode": mode, "title": title, "lines": 3, "text": PROGRAM}
            for name in names
            for framework, (title, own) in modes.items()
            if framework not in absent
            for mode in own
        ],
        "measurements": measurements,
    }  # fmt: skip
    return summarized(document)


def summarized(document: dict[str, Any]) -> dict[str, Any]:
    """The document as it is in a file, with a summary of what it holds now."""
    return finite({**document, "summary": summarize(document)})


def as_published() -> dict[str, Any]:
    """One post's own settings, of which it published numbers."""
    document = results(("mnist-fcn",), {"torch": ("PyTorch", {"eager": 1e-3})}, runs=0)
    run = {key: value for key, value in document["runs"]["mnist-fcn"].items() if key != "reference"}
    told = {"published": {"train loss": [1.7, 1.5, 1.4], "test accuracy": 0.9199}, "faults": "Softmax twice."}
    measurements = [{**m, "variant": "TensorFlow"} for m in document["measurements"]]
    runs = {"mnist-fcn/TensorFlow": run | told}
    return summarized({**document, "protocol": "as-published", "measurements": measurements, "runs": runs})


def _timing(chance: random.Random, run: int, seconds: float, wrong: bool) -> dict[str, Any]:
    def times(about: float) -> list[float]:
        return [about * chance.uniform(0.9, 1.3) for _ in range(5)]

    losses = [loss * (1 + chance.uniform(-1e-6, 1e-6)) * (1.05 if wrong else 1) for loss in REFERENCE]
    columns = {"import": 0.8, "data": 0.001, "build": 0.2, "first": 0.7, "step": seconds, "batches": 2e-5,
               "epoch": seconds * 9, "evaluation": 2e-4}  # fmt: skip
    measured = {column: times(about) for column, about in columns.items()}
    return {
        "part": "timing",
        "run": run,
        "cold": run > 0,
        "times": measured,
        "memory": 300_000_000 + run,
        "losses": losses,
    }


def _accuracy(chance: random.Random, seconds: float) -> dict[str, Any]:
    curves = []
    for seed in range(2):
        values = [min(0.97, 0.35 + 0.03 * epoch + chance.uniform(0, 0.02)) for epoch in range(30)]
        taken = [0.5 + 7 * seconds, *[7 * seconds * chance.uniform(1, 2) for _ in range(29)]]
        losses = [1 / (1 + epoch) for epoch in range(30)]
        curves.append({"seed": seed, "seconds": taken, "train loss": losses, "test loss": losses,
                       "test accuracy": values})  # fmt: skip
    return {"part": "accuracy", "run": 0, "times": {"import": [0.8]}, "curves": curves}
