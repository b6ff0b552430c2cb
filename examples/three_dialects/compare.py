"""The same experiment in three styles: one curve of losses, and the time of an epoch.

    python examples/three_dialects/compare.py iris
    python examples/three_dialects/compare.py mnist_mlp
    python examples/three_dialects/compare.py mnist_fcn mnist_train.csv mnist_test.csv
    python examples/three_dialects/compare.py cifar10

Each style trains twice, the first time for one epoch only, so that everything is read and compiled.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

import numpy as np

import fluxion as fx

STYLES = ("flux", "knet", "keras")


def main(name: str, *files: str, **options: Any) -> dict[str, np.ndarray]:
    """Train in the three styles and print what comes of it; the mean loss of each epoch, by style."""
    programs = {style: importlib.import_module(f"{name}_{style}") for style in STYLES}
    curves, seconds = {}, {}
    for style, program in programs.items():
        program.main(*files, **(options | {"epochs": 1}))
        started = time.perf_counter()
        curves[style] = np.asarray(program.main(*files, **options))
        seconds[style] = (time.perf_counter() - started) / len(curves[style])
    epochs = len(curves["flux"])
    print(f"\n{'epoch':>12}" + "".join(f"{style:>12}" for style in STYLES))
    for epoch in sorted({0, 1, 2, epochs // 2, epochs - 1} & set(range(epochs))):
        print(f"{epoch + 1:12}" + "".join(f"{curves[style][epoch]:12.6f}" for style in STYLES))
    print(f"{'ms per epoch':>12}" + "".join(f"{1e3 * seconds[style]:12.1f}" for style in STYLES))
    furthest = max(np.abs(curves[style] - curves["flux"]).max() for style in STYLES)
    print(f"The curves differ by {furthest:.1e} at most.")
    return curves


if __name__ == "__main__":
    fx.keep_memory()
    main(*sys.argv[1:])
