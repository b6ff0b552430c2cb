"""How much memory it takes to stream a table that is several times larger.

    python benchmarks/stream_memory.py [--gigabytes 2] [--folder FOLDER]

Makes a table of 18 numbers, a date and a text in a temporary folder, as Parquet (several files) and as CSV (one), and
goes through it by `fx.stream_table` in processes of their own; the last one reads the Parquet files whole, for
comparison. Peaks are `ru_maxrss`, less what the process takes after importing Fluxion and polars.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

COLUMNS = 18
FILES = 8

RUN = """
import json, resource, sys, time
import fluxion as fx, polars as pl, numpy as np
pattern, how, sample = sys.argv[1:]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
encoder = fx.TableEncoder.from_json(json.loads(open(sample).read()))
started, rows = time.perf_counter(), 0
if how == "whole":
    import glob
    frame = pl.concat([fx.read_table(file) for file in sorted(glob.glob(pattern))])
    x, y = encoder.arrays(frame)
    rows = len(x)
else:
    for x, y in fx.stream_table(pattern, batch_size=512, encoder=encoder, shuffle=how == "shuffled", seed=0):
        rows += len(x)
print(json.dumps({"rows": rows, "seconds": time.perf_counter() - started, "peak": peak() - before}))
"""


def make(folder: Path, gigabytes: float) -> None:
    """The table, in files of rows that never are in memory together."""
    import numpy as np
    import polars as pl

    import fluxion as fx

    rows = int(gigabytes * 1e9 / (8 * COLUMNS + 8 + 8)) // FILES
    rng = np.random.default_rng(0)
    with (folder / "table.csv").open("wb") as text:
        for i in range(FILES):
            x = rng.normal(size=(rows, COLUMNS))
            days = (np.datetime64("2000-01-01") + rng.integers(0, 9000, rows)).astype("datetime64[D]")
            frame = pl.DataFrame(x, schema=[f"x{k}" for k in range(COLUMNS)]).with_columns(
                pl.Series("day", days),
                pl.Series("kind", rng.choice(["red", "green", "blue"], rows)),
                pl.Series("y", np.where(x[:, 0] + x[:, 1] > 0, "yes", "no")),
            )
            frame.write_parquet(folder / f"part{i}.parquet", row_group_size=100_000)
            frame[: rows // 2].write_csv(text, include_header=i == 0, float_precision=6)
            if i == 0:
                encoder = fx.TableEncoder.fit(frame[:100_000], "y")
                (folder / "encoder.json").write_text(json.dumps(encoder.to_json()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of the table in memory (2)")
    parser.add_argument("--folder", help="where the temporary folder is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(folder, options.gigabytes))
        maker.start()  # in a process of its own: the memory of a process counts in the peaks of its children
        maker.join()
        print("| what | on disk (MB) | rows | seconds | million rows / s | peak (MB) |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for pattern, how, what in (
            ("part*.parquet", "in order", "Parquet, in order"),
            ("part*.parquet", "shuffled", "Parquet, shuffled"),
            ("table.csv", "in order", "CSV, in order"),
            ("table.csv", "shuffled", "CSV, shuffled"),
            ("part*.parquet", "whole", "Parquet, read whole"),
        ):
            size = sum(file.stat().st_size for file in folder.glob(pattern)) / 1e6
            arguments = [str(folder / pattern), how, str(folder / "encoder.json")]
            done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True)
            if done.returncode:
                print(f"| {what} | {size:.0f} | | | | {(done.stderr.strip().splitlines() or ['killed'])[-1][:60]} |")
                continue
            got = json.loads(done.stdout)
            pace = got["rows"] / got["seconds"] / 1e6
            print(f"| {what} | {size:.0f} | {got['rows']:,} | {got['seconds']:.1f} | {pace:.2f} | {got['peak']:.0f} |")


if __name__ == "__main__":
    main()
