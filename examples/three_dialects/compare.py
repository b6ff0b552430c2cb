"""The same experiment in three styles: one curve of losses, and the time of an epoch.

    python examples/three_dialects/compare.py iris
    python examples/three_dialects/compare.py mnist_mlp
    python examples/three_dialects/compare.py mnist_fcn mnist_train.csv mnist_test.csv
    python examples/three_dialects/compare.py cifar10

Each style trains twice for one epoch and twice for all; the second time nothing is left to be read or compiled. What
all epochs then take longer than one is the time of the others.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fluxion as fx

STYLES = ("flux", "knet", "keras")


def main(name: str, *files: str, **options: Any) -> dict[str, np.ndarray]:
    """Train in the three styles and print what comes of it; the mean loss of each epoch, by style."""
    programs = {style: importlib.import_module(f"{name}_{style}") for style in STYLES}
    curves, seconds = {}, {}
    for style, program in programs.items():
        for _ in range(2):
            _, one = timed(program.main, *files, **(options | {"epochs": 1}))
            curve, all_ = timed(program.main, *files, **options)
        curves[style] = np.asarray(curve)
        seconds[style] = (all_ - one) / (len(curve) - 1)
    epochs = len(curves["flux"])
    print(f"\n{'epoch':>12}" + "".join(f"{style:>12}" for style in STYLES))
    for epoch in sorted({0, 1, 2, epochs // 2, epochs - 1} & set(range(epochs))):
        print(f"{epoch + 1:12}" + "".join(f"{curves[style][epoch]:12.6f}" for style in STYLES))
    print(f"{'ms per epoch':>12}" + "".join(f"{1e3 * seconds[style]:12.1f}" for style in STYLES))
    furthest = max(np.abs(curves[style] - curves["flux"]).max() for style in STYLES)
    print(f"The curves differ by {furthest:.1e} at most.")
    return curves


def timed(main: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, float]:
    """What it returns, and the seconds that it takes."""
    started = time.perf_counter()
    result = main(*args, **options)
    return result, time.perf_counter() - started


if __name__ == "__main__":
    fx.keep_memory()
    main(*sys.argv[1:])
