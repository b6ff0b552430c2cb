"""The same experiment in three styles: one curve of losses, and the time of an epoch.

python examples/three_dialects/compare.py iris
python examples/three_dialects/compare.py mnist_mlp
python examples/three_dialects/compare.py mnist_fcn mnist_train.csv mnist_test.csv
python examples/three_dialects/compare.py cifar10
"""

from __future__ import annotations

import importlib
import sys
import time

import numpy as np

import fluxion as fx

STYLES = ("flux", "knet", "keras")


def main(name: str, *files: str, **options: int) -> dict[str, list[float]]:
    """Run an experiment in the three styles; the mean loss of each epoch, by style."""
    curves, seconds = {}, {}
    for style in STYLES:
        program = importlib.import_module(f"{name}_{style}")
        started = time.perf_counter()
        curves[style] = np.asarray(program.main(*files, **options))
        seconds[style] = time.perf_counter() - started
    print("epoch" + "".join(f"{style:>12}" for style in STYLES))
    epochs = len(curves["flux"])
    for epoch in sorted({0, 1, 2, 3, epochs // 2, epochs - 1} & set(range(epochs))):
        print(f"{epoch + 1:5}" + "".join(f"{curves[style][epoch]:12.6f}" for style in STYLES))
    furthest = max(np.abs(curves[style] - curves["flux"]).max() for style in STYLES)
    print(f"largest difference {furthest:.1e}")
    print("seconds, reading and compiling included: " + ", ".join(f"{s} {seconds[s]:.2f}" for s in STYLES))
    return curves


if __name__ == "__main__":
    fx.keep_memory()
    main(*sys.argv[1:])
