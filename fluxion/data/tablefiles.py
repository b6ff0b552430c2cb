"""Tables from CSV, TSV and Parquet files.

Files come from outside and are not trusted: what is wrong with one is said in one line that names it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fluxion.errors import DataError, FileFormatError, nearest

if TYPE_CHECKING:
    import polars

MISSING = ("", "NA", "?", "NaN", "null")
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz"}
_COMMON = "Save it as UTF-8 text with one header line."


def read_table(path: str | os.PathLike[str], *, columns: Sequence[str] | None = None) -> polars.DataFrame:
    """Read a CSV, TSV or Parquet file into a polars table with typed columns.

    The file's first bytes tell Parquet from text; in text, the header line tells the separator (`,`, tab, `;` or `|`).
    A cell that is empty, `NA`, `?`, `NaN` or `null` is missing, in numeric columns too; a line without any value is
    left out. Spaces around cells are removed; dates and months in ISO form (1949-01)
    become dates.

    Arguments:
        path: the file. Text is UTF-8 and has a header line.
        columns: the columns to keep, in this order; all if not given.

    Errors: `DataError` for an absent or empty file, no rows, and columns that are not there; `FileFormatError` for
    lines of unequal length, repeated or absent headers, text that is not UTF-8, packed or damaged files.

    >>> import fluxion as fx
    >>> fx.read_table(fx.datasets.path("iris"), columns=["species", "petal_width"]).shape
    (150, 2)
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: expected a CSV, TSV or Parquet file, {_what_is_there(file)}")
    with file.open("rb") as stream:
        magic = stream.read(8)
    if not magic:
        raise DataError(f"{file}: expected a table, the file is empty.")
    for start, packer in _PACKED.items():
        if magic.startswith(start):
            raise FileFormatError(f"{file}: expected a table, got a file packed with {packer}. Unpack it first.")
    if magic.startswith(b"PAR1") or file.suffix.lower() in (".parquet", ".pq"):
        frame = _read_parquet(file)
    else:
        frame = _read_text(file)
    if frame.height == 0:
        raise DataError(f"{file}: expected rows, the table has columns {', '.join(frame.columns)} and no rows.")
    if columns is not None:
        for name in columns:
            check_column(frame, name, f"{file}")
        frame = frame.select(list(columns))
    return frame


def check_column(frame: polars.DataFrame, name: str, where: str) -> None:
    """Raise a `DataError` that lists the columns unless `frame` has one called `name`."""
    if name not in frame.columns:
        known = ", ".join(frame.columns[:30]) + (f", ... ({frame.width} in all)" if frame.width > 30 else "")
        hint = nearest(str(name), frame.columns)
        raise DataError(f"{where}: expected a column {name!r}, the columns are {known}.{hint}")


def _read_parquet(file: Path) -> polars.DataFrame:
    import polars as pl
    from polars.exceptions import PanicException, PolarsError

    try:
        frame = pl.read_parquet(file)
    except (PolarsError, OSError, PanicException) as error:
        raise FileFormatError(f"{file}: expected a Parquet file, it is damaged ({_line(error)}).") from error
    return _without_nan(frame)


def _read_text(file: Path) -> polars.DataFrame:
    import polars as pl
    from polars.exceptions import ComputeError, PanicException, PolarsError

    separator = _check_header(file)
    try:
        frame = pl.read_csv(
            file, separator=separator, null_values=list(MISSING), infer_schema_length=None, try_parse_dates=True
        )
    except (PolarsError, PanicException) as error:
        _check_lines(file, separator)
        kind = "text" if isinstance(error, ComputeError) else "a table"
        raise FileFormatError(f"{file}: expected {kind} that can be read, got an error: {_line(error)}.") from error
    # A line that is too short is filled up with missing values: look at the lines where that may have happened.
    if frame.height and frame[:, -1].null_count() > 0:
        _check_lines(file, separator)
    frame = frame.rename({name: name.strip() for name in frame.columns})
    if frame.width > 1 and frame.height:
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    return _without_nan(frame.with_columns([_tidy(column) for column in frame if column.dtype == pl.String]))


def _tidy(column: polars.Series) -> polars.Series:
    """Text without surrounding spaces; numbers, truth values or months where every cell that is not missing is one."""
    import polars as pl

    stripped = column.str.strip_chars()
    stripped = stripped.set(stripped.is_in(list(MISSING)).fill_null(False), None)
    if not stripped.equals(column, null_equal=True) and stripped.null_count() < len(stripped):
        truths = stripped.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None)
        for typed in (truths, *(stripped.cast(dtype, strict=False) for dtype in (pl.Int64, pl.Float64))):
            if typed.null_count() == stripped.null_count():
                return typed
    months = (stripped + "-01").str.to_date("%Y-%m-%d", strict=False)
    return months if months.null_count() == stripped.null_count() < len(stripped) else stripped


def _without_nan(frame: polars.DataFrame) -> polars.DataFrame:
    import polars.selectors as cs

    return frame.with_columns(cs.float().fill_nan(None))


def _check_header(file: Path) -> str:
    """The separator of the file; an error unless its first line holds different column names."""
    with file.open("rb") as stream:
        first = stream.readline(1 << 20)
        while first and not first.strip():
            first = stream.readline(1 << 20)
    try:
        line = first.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file}: expected UTF-8 text, got other bytes in the header line. {_COMMON}") from error
    if not line.strip():
        raise DataError(f"{file}: expected a table, the file holds only empty lines.")
    if any(character < " " and character != "\t" for character in line):
        raise FileFormatError(f"{file}: expected text, got binary data. Give a CSV, TSV or Parquet file.")
    bare = "".join(line.split('"')[::2])  # what stands outside quotes
    separator = max(",\t;|", key=bare.count)
    if file.suffix.lower() == ".tsv" and "\t" in bare:
        separator = "\t"
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    for i, name in enumerate(names):
        if name in names[:i]:
            what = f"{name!r} for columns {names.index(name) + 1} and {i + 1}" if name else f"none for column {i + 1}"
            raise FileFormatError(f"{file}: expected different column names in the header line, got {what}.")
    if all(_is_number(name) for name in names):
        raise FileFormatError(
            f"{file}: expected column names in the first line, got numbers ({line[:60]}). Add a header."
        )
    return separator


def _check_lines(file: Path, separator: str) -> None:
    """Raise for the first line that has not as many cells as the header, or is not UTF-8."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(_without_nul(stream), delimiter=separator)
            width = 0
            for row in reader:
                width = width or len(row)
                if row and len(row) != width and not (len(row) == 1 and not row[0].strip()):
                    raise FileFormatError(
                        f"{file}: expected {width} cells in every line, as in the header, got {len(row)} in line "
                        f"{reader.line_num}. Quote cells that hold {separator!r}."
                    )
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file}: expected UTF-8 text, got other bytes ({error.reason}). {_COMMON}") from error
    except csv.Error as error:
        raise FileFormatError(f"{file}: expected a CSV file, in line {reader.line_num}: {error}.") from error


def _without_nul(lines: Iterator[str]) -> Iterator[str]:
    return (line.replace("\x00", "") for line in lines)


def _what_is_there(file: Path) -> str:
    if file.is_dir():
        return "got a folder."
    if file.parent.is_dir():
        return f"there is none of that name.{nearest(file.name, [other.name for other in file.parent.iterdir()])}"
    return f"there is no folder {file.parent}."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _line(error: BaseException) -> str:
    """The first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")[:200]
