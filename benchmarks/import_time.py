"""What `import fluxion` costs beside `import jax` and `import torch`: fresh processes, interleaved, medians.

python benchmarks/import_time.py [runs]      writes benchmarks/import_time.md
"""

import platform
import random
import statistics
import subprocess
import sys
from pathlib import Path

MODULES = ("jax", "fluxion", "torch")


def seconds(module: str) -> float:
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main(runs: int = 15) -> None:
    present = [m for m in MODULES if subprocess.run([sys.executable, "-c", f"import {m}"]).returncode == 0]
    times: dict[str, list[float]] = {module: [] for module in present}
    for _ in range(runs):
        for module in random.sample(present, len(present)):
            times[module].append(seconds(module))
    base = statistics.median(times["jax"])
    lines = [
        "# Import time",
        "",
        f"`python benchmarks/import_time.py`: {runs} fresh processes each, in random order, files in the page cache. "
        f"Python {platform.python_version()}, {platform.machine()}.",
        "",
        "| import | median s | interquartile range | ratio to jax |",
        "|---|---|---|---|",
    ]
    for module, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        lines.append(f"| `{module}` | {median:.3f} | {low:.3f} to {high:.3f} | {median / base:.2f} |")
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
