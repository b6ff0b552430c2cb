"""Tables from CSV, TSV and Parquet files.

Files come from outside and are not trusted: what is wrong with one is said in one line that names it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from fluxion.data.tabletypes import MISSING, as_type, check_types, guessed, without_markers
from fluxion.data.untrusted import UnpackedFile
from fluxion.errors import ArgumentError, DataError, FileFormatError, nearest

if TYPE_CHECKING:
    import polars

GZIP = b"\x1f\x8b"
_PACKED = {b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz"}
_COMMON = "Save it as UTF-8 text with one header line."
_SAMPLE = 1000  # lines from which the types are guessed first; all lines where a later one does not fit


def read_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    types: Mapping[str, Any] | None = None,
    missing: Sequence[str] = (),
    header: bool | Sequence[str] = True,
) -> polars.DataFrame:
    """Read a CSV, TSV or Parquet file into a polars table with typed columns; `fx.overview` prints what was guessed.

    The file's first bytes tell Parquet and gzip from text; in text, the header line tells the separator (`,`, tab, `;`
    or `|`). A cell that is empty, `NA`, `?`, `NaN`, `null` or the like is missing, in columns of numbers too; a line
    without any value is left out. Spaces around cells are removed.

    A column of text becomes truth values (true, false), whole numbers, numbers, dates, times of day, or stays text:
    the first of these that every cell is. Dates are of ISO form (2020-12-31, 2020-12, 2020-12-31T23:59:00Z) or like
    31.12.2020, 31/12/2020, 12/31/2020, 31 Dec 2020. Where days and months can be told in two ways in every cell
    (1/2/2020), the column stays text: say which comes first by `types`.

    Arguments:
        path: the file. Text is UTF-8.
        columns: the columns to keep, in this order; all if not given.
        types: the types of columns that are not to be guessed: "text" (keeps the zeros of 01234), "number", "whole",
            "boolean" (also yes/no, y/n, t/f, on/off, 1/0), "date", "dmy" and "mdy" (day or month first), "time", or a
            type of polars.
        missing: more markers of missing cells, such as "-" or "-999".
        header: whether the first line of a text holds the names of the columns, or these names themselves. Without
            them the columns are column_1, column_2, ...

    Errors: `DataError` for an absent or empty file, no rows, columns that are not there, and cells that are not of the
    type asked for; `FileFormatError` for lines of unequal length, repeated or absent headers, text that is not UTF-8,
    damaged files, and gzip that unpacks to more than 256 MB and 100 times its size.

    >>> import fluxion as fx
    >>> fx.read_table(fx.datasets.path("iris"), columns=["species", "petal_width"]).shape
    (150, 2)
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: expected a CSV, TSV or Parquet file, {what_is_there(file)}")
    markers = check_missing(missing, f"{file}")
    if is_parquet(file):
        frame = _read_parquet(file, columns, types, markers)
    else:
        frame = _read_text(file, types, markers, header)
    if frame.height == 0:
        raise DataError(f"{file}: expected rows, the table has columns {', '.join(frame.columns)} and no rows.")
    if columns is not None:
        for name in columns:
            check_column(frame, name, f"{file}")
        frame = frame.select(list(columns))
    return frame


def is_parquet(file: Path) -> bool:
    """Whether a file is Parquet rather than text (packed or not); an error where it is neither."""
    with file.open("rb") as stream:
        magic = stream.read(8)
    if not magic:
        raise DataError(f"{file}: expected a table, the file is empty.")
    for start, packer in _PACKED.items():
        if magic.startswith(start):
            raise FileFormatError(f"{file}: expected a table, got a file packed with {packer}. Unpack it first.")
    return magic.startswith(b"PAR1") or file.suffix.lower() in (".parquet", ".pq")


def is_gzip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == GZIP


def check_missing(missing: Sequence[str], where: str) -> list[str]:
    """All markers of missing cells, with those of the argument `missing`."""
    if isinstance(missing, str) or not all(isinstance(marker, str) for marker in missing):
        raise ArgumentError(f'{where}: expected missing as a list of strings such as ["-", "-999"], got {missing!r}.')
    return [*MISSING, *missing]


def check_column(frame: polars.DataFrame, name: str, where: str) -> None:
    """Raise a `DataError` that lists the columns unless `frame` has one called `name`."""
    check_name(frame.columns, name, where)


def check_name(names: Sequence[str], name: str, where: str) -> None:
    if name not in names:
        known = ", ".join(names[:30]) + (f", ... ({len(names)} in all)" if len(names) > 30 else "")
        raise DataError(f"{where}: expected a column {name!r}, the columns are {known}.{nearest(str(name), names)}")


def _read_parquet(
    file: Path, columns: Sequence[str] | None, types: Mapping[str, Any] | None, markers: list[str]
) -> polars.DataFrame:
    import polars as pl
    from polars.exceptions import PanicException, PolarsError

    try:
        scan = pl.scan_parquet(file, glob=False)
        known = scan.collect_schema().names()
        for name in columns or ():
            check_name(known, name, f"{file}")
        frame = (scan if columns is None else scan.select(list(columns))).collect()
    except (PolarsError, OSError, PanicException) as error:
        raise FileFormatError(f"{file}: expected a Parquet file, it is damaged ({first_line(error)}).") from error
    return with_types(frame, check_types(types, known, f"{file}"), markers, f"{file}")


def with_types(frame: polars.DataFrame, asked: dict[str, Any], markers: list[str], where: str) -> polars.DataFrame:
    """A table of typed columns with NaN and the added markers missing, and the types asked for."""
    import polars as pl

    more = markers[len(MISSING) :]
    numbers = [float(marker) for marker in more if _is_number(marker)]
    changed = []
    for column in without_nan(frame):
        if more and column.dtype == pl.String:
            column = without_markers(column, more)
        elif numbers and column.dtype.is_numeric():
            column = column.set(column.cast(pl.Float64).is_in(numbers).fill_null(False), None)
        if column.name in asked:
            column = as_type(column, asked[column.name], where)
        changed.append(column)
    return frame.with_columns(changed)


class TextFile:
    """A table in a text file, packed by gzip or not."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.unpacked = _unpacked(file) if is_gzip(file) else None

    @property
    def source(self) -> Path | bytes:
        """What polars reads."""
        return self.file if self.unpacked is None else self.unpacked

    def open(self) -> IO[bytes]:
        return self.file.open("rb") if self.unpacked is None else io.BytesIO(self.unpacked)

    def header(self, header: bool | Sequence[str] | None = True) -> Header:
        with self.open() as stream:
            return read_header(stream, self.file, header)

    def check_lines(self, separator: str) -> None:
        check_lines(self.open(), f"{self.file}", separator)


def check_lines(stream: IO[bytes], where: str, separator: str, width: int = 0) -> None:
    """Raise for the first line that has not `width` cells, or not as many as the first line, or is not UTF-8."""
    try:
        with io.TextIOWrapper(stream, newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(_without_nul(text), delimiter=separator)
            for row in reader:
                width = width or len(row)
                if row and len(row) != width and not (len(row) == 1 and not row[0].strip()):
                    raise FileFormatError(
                        f"{where}: expected {width} cells in every line, as in the header, got {len(row)} in line "
                        f"{reader.line_num}. Quote cells that hold {separator!r}."
                    )
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where}: expected UTF-8 text, got other bytes ({error.reason}). {_COMMON}") from error
    except csv.Error as error:
        raise FileFormatError(f"{where}: expected a CSV file, in line {reader.line_num}: {error}.") from error


def _read_text(
    file: Path, types: Mapping[str, Any] | None, markers: list[str], header: bool | Sequence[str]
) -> polars.DataFrame:
    import polars as pl
    from polars.exceptions import ComputeError, PanicException, PolarsError

    text = TextFile(file)
    head = text.header(header)
    asked = check_types(types, head.names, f"{file}")
    try:
        frame = parsed(text.source, head, asked, markers)
    except (PolarsError, PanicException) as error:
        text.check_lines(head.separator)
        kind = "text" if isinstance(error, ComputeError) else "a table"
        raise FileFormatError(
            f"{file}: expected {kind} that can be read, got an error: {first_line(error)}."
        ) from error
    # A line that is too short is filled up with missing values: look at the lines where that may have happened.
    if frame.height and frame[:, -1].null_count() > 0:
        text.check_lines(head.separator)
    if frame.width > 1 and frame.height and min(frame.null_count().row(0)) > 0:  # lines without any value
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    frame = frame.with_columns([guessed(c) for c in frame if c.dtype == pl.String and c.name not in asked])
    return without_nan(frame.with_columns([as_type(frame[name], kind, f"{file}") for name, kind in asked.items()]))


def parsed(source: Path | bytes, head: Header, asked: Mapping[str, Any], markers: list[str]) -> polars.DataFrame:
    """The lines of a text as a table: columns of numbers and truth values, and text without markers.

    Columns with a type asked for are text.
    """
    import polars as pl
    from polars.exceptions import ComputeError

    texts = {raw: pl.String for raw, name in zip(head.raw, head.names, strict=True) if name in asked}
    options: dict[str, Any] = {
        "separator": head.separator,
        "has_header": head.in_file,
        "glob": False,
        "schema_overrides": texts,
    }
    try:
        # The quick way: a marker among numbers is an error, or makes them text if it comes early.
        frame = pl.read_csv(source, infer_schema_length=_SAMPLE, null_values=markers[len(MISSING) :] or None, **options)
    except ComputeError:
        frame = pl.read_csv(source, infer_schema_length=None, null_values=markers, **options)
    if frame.width != len(head.names):
        raise ComputeError(f"expected {len(head.names)} cells in every line, got {frame.width}")
    frame = frame.rename(dict(zip(frame.columns, head.names, strict=True)))
    return frame.with_columns([without_markers(c, markers) for c in frame if c.dtype == pl.String])


def without_nan(frame: polars.DataFrame) -> polars.DataFrame:
    import polars.selectors as cs

    return frame.with_columns(cs.float().fill_nan(None))


def _unpacked(file: Path) -> bytes:
    """What is in a gzip file, refused where it is out of proportion."""
    with UnpackedFile.open(file, "a table") as stream:
        return b"".join(stream.rest())


def damaged_gzip(file: Path, error: Exception) -> FileFormatError:
    return FileFormatError(f"{file}: expected a file packed with gzip, it is damaged ({first_line(error)}).")


class Header(NamedTuple):
    """How the lines of a text are read."""

    names: list[str]  # of the columns
    raw: list[str]  # as they stand in the file, or as polars calls columns without names
    separator: str
    in_file: bool  # whether the first line holds them

    def below(self) -> Header:
        """That of the lines after it."""
        raw = [f"column_{i + 1}" for i in range(len(self.names))]
        return self._replace(raw=raw, in_file=False)


def read_header(stream: IO[bytes], file: Path, header: bool | Sequence[str] | None = True) -> Header:
    """The names of the columns and the separator of a text; an error unless the names are different.

    `header` is the argument of `read_table`; None takes a first line of numbers as the first row.
    """
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
    if ".tsv" in (suffix.lower() for suffix in file.suffixes) and "\t" in bare:
        separator = "\t"
    cells = next(csv.reader([line], delimiter=separator))
    numbers = all(_is_number(cell) for cell in cells)
    if header is True or (header is None and not numbers):
        names = [name.strip() for name in cells]
        _check_names(names, file)
        if numbers:
            raise FileFormatError(
                f"{file}: expected column names in the first line, got numbers ({line[:60]}). "
                "Add a header, or read it with header=False."
            )
        return Header(names, cells, separator, True)
    raw = [f"column_{i + 1}" for i in range(len(cells))]
    if not header:
        return Header(raw, raw, separator, False)
    if isinstance(header, str) or len(header) != len(cells):
        raise ArgumentError(f"{file}: expected header as {len(cells)} names of columns, got {header!r:.60}.")
    _check_names(list(header), file)
    return Header(list(header), raw, separator, False)


def _check_names(names: list[str], file: Path) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            what = f"{name!r} for columns {names.index(name) + 1} and {i + 1}" if name else f"none for column {i + 1}"
            raise FileFormatError(f"{file}: expected different column names in the header line, got {what}.")


def _without_nul(lines: Iterator[str]) -> Iterator[str]:
    return (line.replace("\x00", "") for line in lines)


def what_is_there(file: Path) -> str:
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


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")[:200]
