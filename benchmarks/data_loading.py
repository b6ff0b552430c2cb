"""How fast data come: batches of arrays beside torch's `DataLoader`, a CSV file beside pandas, pictures by processes.

python benchmarks/data_loading.py                                  prints the tables
python benchmarks/data_loading.py --only arrays --epochs 9
python benchmarks/data_loading.py --out benchmarks/data_loading.md

The ways of a section run in one process, epoch by epoch in a new random order; the first epoch of each is not counted.
Every batch is touched. The pictures are made for the occasion: noise that is smooth, so that files have a usual size.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("fluxion-ml", "jax", "numpy", "pillow", "polars", "pandas", "pyarrow", "torch")
Epoch = Callable[[], Iterable[Any]]


def timed(ways: dict[str, Epoch], epochs: int) -> dict[str, list[float]]:
    """Seconds per batch of each way, one number for each epoch."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in range(epochs + 1):
        for name in random.sample(list(ways), len(ways)):
            count = 0
            started = time.perf_counter()
            for batch in ways[name]():
                first = batch[0]
                first[0, 0].item() if first.ndim == 2 else first[0, 0, 0, 0].item()
                count += 1
            if epoch:
                times[name].append((time.perf_counter() - started) / count)
    return times


# ----------------------------------------------------------------------------------------------- arrays


def arrays(epochs: int) -> list[str]:
    """Shuffled batches of 128 from 60000 x 784 float32 with labels."""
    import fluxion as fx

    rng = np.random.default_rng(0)
    x, y = rng.random((60000, 784), dtype=np.float32), rng.integers(0, 10, 60000)
    loader = fx.DataLoader((x, y), batch_size=128, shuffle=True, seed=0)
    ways: dict[str, Epoch] = {"fx.DataLoader": lambda: loader}
    try:
        import torch
        from torch.utils.data import BatchSampler, RandomSampler, TensorDataset
        from torch.utils.data import DataLoader as TorchLoader
    except ImportError:
        pass
    else:
        data = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        theirs = TorchLoader(data, batch_size=128, shuffle=True)
        whole = TorchLoader(data, sampler=BatchSampler(RandomSampler(data), 128, False), batch_size=None)

        def indexed() -> Iterable[Any]:
            order = torch.randperm(60000)
            return ((data.tensors[0][rows], data.tensors[1][rows]) for rows in order.split(128))

        ways |= {
            "torch DataLoader(TensorDataset)": lambda: theirs,
            "torch DataLoader, whole batches by a BatchSampler": lambda: whole,
            "torch tensors, indexed by hand": indexed,
        }
    times = timed(ways, epochs)
    return [
        "## Arrays",
        "",
        "Shuffled batches of 128 from a 60000 x 784 float32 array and 60000 labels.",
        "",
        *table(times, "torch DataLoader(TensorDataset)"),
    ]


# -------------------------------------------------------------------------------------------------- CSV


def csv(epochs: int) -> list[str]:
    """From a file like MNIST's to float32 arrays of pixels between 0 and 1 and of labels."""
    import fluxion as fx
    from fluxion.data.pixels import write_pixels

    rng = np.random.default_rng(0)
    inked = rng.random((60000, 28, 28)) < 0.19  # the share of pixels that MNIST has ink in
    images = rng.integers(1, 256, inked.shape, dtype=np.uint8) * inked
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.csv"
        write_pixels(file, images, rng.integers(0, 10, 60000, dtype=np.uint8))

        def by_table() -> Any:
            numbers = fx.read_table(file).to_numpy()
            return numbers[:, 1:].astype(np.float32) / 255, numbers[:, 0]

        ways: dict[str, Callable[[], Any]] = {"fx.read_pixels": lambda: fx.read_pixels(file), "fx.read_table": by_table}
        try:
            import pandas
            import pyarrow  # noqa: F401
        except ImportError:
            pass
        else:

            def by_pandas(**options: Any) -> Any:
                frame = pandas.read_csv(file, **options)
                return frame.iloc[:, 1:].to_numpy(np.float32) / 255, frame["label"].to_numpy()

            ways |= {
                "pandas, engine='pyarrow'": lambda: by_pandas(engine="pyarrow"),
                "pandas, engine='pyarrow', dtype_backend='pyarrow'": lambda: by_pandas(
                    engine="pyarrow", dtype_backend="pyarrow"
                ),
            }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for epoch in range(epochs + 1):
            for name in random.sample(list(ways), len(ways)):
                started = time.perf_counter()
                x, _ = ways[name]()
                taken = time.perf_counter() - started
                assert x.size == images.size and abs(float(x[-1].reshape(-1)[-1]) - images[-1, -1, -1] / 255) < 1e-6
                if epoch:
                    times[name].append(taken)
    lines = [
        "## A CSV file",
        "",
        "60000 lines of a label and 784 pixels, to float32 arrays. `ratio` is to the faster way of pandas.",
        "",
        "| | seconds | ratio |",
        "|---|---|---|",
    ]
    best = min((statistics.median(v) for name, v in times.items() if name.startswith("pandas")), default=None)
    for name, values in times.items():
        low, median, high = quartiles(values)
        ratio = f"{median / best:.2f}" if best else ""
        lines.append(f"| {name} | {median:.2f} [{low:.2f}, {high:.2f}] | {ratio} |")
    return lines


# ---------------------------------------------------------------------------------------------- workers


class Pictures:
    """Files that are decoded, made smaller and turned into floats when they are read."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        from PIL import Image

        with Image.open(self.files[i]) as picture:
            small = picture.convert("RGB").resize((64, 64))
        return np.asarray(small, dtype=np.float32) / 255, i % 10


def write_pictures(folder: Path, count: int, suffix: str) -> list[str]:
    from PIL import Image

    rng = np.random.default_rng(0)
    files = []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        files.append(str(folder / f"{i}.{suffix}"))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(files[-1])
    return files


def workers(epochs: int) -> list[str]:
    """Pictures decoded and made smaller by 0, 1 and 2 processes, which are kept between epochs."""
    import fluxion as fx

    lines = [
        "## Worker processes",
        "",
        "Batches of 32 from 768 pictures of 256 x 256, decoded and resized to 64 x 64 with Pillow, in random order. "
        "The processes are kept between epochs; `ratio` is to Fluxion without workers.",
        "",
    ]
    for suffix in ("png", "jpg"):
        with tempfile.TemporaryDirectory() as folder:
            data = Pictures(write_pictures(Path(folder), 768, suffix))
            ways: dict[str, Epoch] = {}
            for count in (0, 1, 2):
                loader = fx.DataLoader(data, batch_size=32, shuffle=True, seed=0, workers=count)
                ways[f"{suffix}, fx.DataLoader, workers={count}"] = lambda loader=loader: loader
            try:
                from torch.utils.data import DataLoader as TorchLoader
            except ImportError:
                pass
            else:
                for count in (0, 1, 2):
                    options: dict[str, Any] = {"persistent_workers": True} if count else {}
                    theirs = TorchLoader(data, batch_size=32, shuffle=True, num_workers=count, **options)
                    ways[f"{suffix}, torch DataLoader, num_workers={count}"] = lambda theirs=theirs: theirs
            times = timed(ways, epochs)
            base = f"{suffix}, fx.DataLoader, workers=0"
            rows = table(times, base)
            lines += rows if suffix == "png" else rows[2:]
    return lines


# ----------------------------------------------------------------------------------------------- tables


def table(times: dict[str, list[float]], base: str) -> list[str]:
    """A row for each way; `ratio` is how many times the batches per second of `base` it gives."""
    lines = ["| | ms per batch | batches per second | ratio |", "|---|---|---|---|"]
    for name, values in times.items():
        low, median, high = quartiles(values)
        ratio = f"{statistics.median(times[base]) / median:.2f}" if base in times else ""
        lines.append(
            f"| {name} | {median * 1e3:.3f} [{low * 1e3:.3f}, {high * 1e3:.3f}] | {1 / median:.0f} | {ratio} |"
        )
    return lines


def quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4) if len(values) > 1 else values * 3


def versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join([*found, f"Python {platform.python_version()}"])


SECTIONS = {"arrays": arrays, "csv": csv, "workers": workers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help=",".join(SECTIONS))
    parser.add_argument("--epochs", type=int, default=11, help="epochs of each way")
    parser.add_argument("--out", type=Path, help="file of the table, such as benchmarks/data_loading.md")
    options = parser.parse_args()
    lines = [
        "# Data loading",
        "",
        f"`python benchmarks/data_loading.py`: medians of {options.epochs} epochs, with quartiles. {os.cpu_count()} "
        f"cores, {platform.machine()}; {versions()}.",
        "",
    ]
    for name in options.only.split(","):
        lines += [*SECTIONS[name](options.epochs), ""]
    text = "\n".join(lines[:-1]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
