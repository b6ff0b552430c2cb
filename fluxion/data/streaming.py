"""Tables larger than memory, read piece by piece.

A piece is some rows of a Parquet file, or some lines of a text file, of a few megabytes. Memory holds one piece at a
time, or, where rows are shuffled, as many as a pool has room for. Which batches come depends on the files, the seed
and the epoch alone.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import io
import itertools
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fluxion.data.arrays import check_whole, permutation
from fluxion.data.tablefiles import (
    check_lines,
    check_missing,
    check_name,
    damaged_gzip,
    first_line,
    is_gzip,
    is_parquet,
    parsed,
    read_header,
    what_is_there,
    with_types,
    without_nan,
)
from fluxion.data.tables import TableEncoder
from fluxion.data.tabletypes import MISSING, as_type, check_types, dates, guessed, without_markers
from fluxion.errors import ArgumentError, DataError, DTypeError, FileFormatError
from fluxion.transform.randomness import next_seed

if TYPE_CHECKING:
    import polars

PIECE = 1 << 23  # bytes of a piece, about
POOL = 8  # pieces whose rows are shuffled together
_LONGEST_LINE = 1 << 26


def stream_table(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    batch_size: int,
    encoder: TableEncoder | None = None,
    columns: Sequence[str] | None = None,
    types: Mapping[str, Any] | None = None,
    missing: Sequence[str] = (),
    shuffle: bool = False,
    seed: int | None = None,
) -> TableStream:
    """Batches of the rows of CSV, TSV or Parquet files that need not fit into memory.

    `for x, y in stream` goes through the rows once. With an `encoder` batches are `(features, targets)`, without rows
    whose target is missing; without one they are polars tables. All batches but the last have `batch_size` rows.

    An order is drawn anew each epoch with `shuffle`: that of the pieces of the files, about 8 MB each, and then that
    of the rows of eight pieces at a time. It is a function of the seed and the epoch alone. As with a `DataLoader`,
    a `for` loop runs epoch `stream.epoch` and moves it on, and `stream.batches(epoch, start)` runs a given epoch from
    a given batch. The number of batches is not known.

    To fit an encoder, take a sample: `sample = next(iter(fx.stream_table(path, batch_size=100_000, shuffle=True)))`.

    Arguments:
        path: a file, a pattern such as "logs/*.parquet", or a list of files, all with the same columns; in the order of
            their names. Text has a header line and may be packed by gzip; it is read from the beginning then.
        batch_size: rows per batch.
        encoder: what turns rows into features and targets; only its columns are read.
        columns: the columns of tables without an encoder; all if not given.
        types, missing: as for `read_table`. The types of a text file are guessed from its first piece; columns of
            numbers of the encoder are numbers.
        shuffle: whether rows come in a random order.
        seed: the number that decides the orders; `None` draws one from the default stream (`fx.seed`).

    Errors: those of `read_table`, where they come to light; `DataError` for a cell that is not of the type its column
    has in the first piece.

    >>> import fluxion as fx
    >>> encoder = fx.TableEncoder.fit(fx.read_table(fx.datasets.path("iris")), "species")
    >>> stream = fx.stream_table(fx.datasets.path("iris"), batch_size=64, encoder=encoder, shuffle=True, seed=0)
    >>> [(x.shape, y.shape) for x, y in stream]
    [((64, 4), (64,)), ((64, 4), (64,)), ((22, 4), (22,))]
    """
    files = _files(path)
    if encoder is not None and not isinstance(encoder, TableEncoder):
        raise DTypeError(f"stream_table: expected a TableEncoder, got {type(encoder).__name__}.")
    if encoder is not None and columns is not None:
        raise ArgumentError("stream_table: expected columns or an encoder, which has its own, got both.")
    if not isinstance(shuffle, bool):
        raise DTypeError(f"stream_table: expected shuffle as True or False, got {shuffle!r}.")
    kinds = {is_parquet(file) for file in files}
    if len(kinds) > 1:
        raise ArgumentError(f"stream_table: expected files of one kind, got Parquet and text in {path!r:.60}.")
    if encoder is not None:
        columns = [column.name for column in encoder.columns] + [encoder.target.name]
    reader: _Reader
    if kinds.pop():
        reader = _Parquet(files, columns, types, missing)
    else:
        reader = _Text(files, columns, types, missing, encoder, shuffle)
    return TableStream(reader, check_whole(batch_size, "stream_table: batch_size", 1), encoder, shuffle, seed)


class TableStream:
    """What `stream_table` gives."""

    def __init__(
        self, reader: _Reader, batch_size: int, encoder: TableEncoder | None, shuffle: bool, seed: int | None
    ) -> None:
        self.reader = reader
        self.batch_size = batch_size
        self.encoder = encoder
        self.shuffle = shuffle
        if seed is not None:
            seed = check_whole(seed, "stream_table: seed", 0)
        elif shuffle:
            seed = next_seed()
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        self.epoch = epoch + 1
        return self.batches(epoch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of `epoch` from number `start` on; those before are read and left out."""
        epoch = check_whole(epoch, "stream_table: epoch", 0)
        start = check_whole(start, "stream_table: start", 0)
        return itertools.islice(self._batches(epoch), start, None)

    def example(self) -> Any:
        """The first batch of epoch 0."""
        return next(self.batches(0))

    def _batches(self, epoch: int) -> Iterator[Any]:
        size, rest, found = self.batch_size, None, False
        for frame in self._shuffled(epoch) if self.shuffle else self.reader.pieces():
            rows = self._rows(frame)
            rest = rows if rest is None else _joined(rest, rows)
            count, at = _count(rest), 0
            for at in range(0, count - size + 1, size):
                yield _part(rest, at, at + size)
            rest = _part(rest, count - count % size, count)
            found = found or count > 0
        if not found:
            raise DataError(f"{self.reader}: expected rows, there are none{' with a target' if self.encoder else ''}.")
        if _count(rest):
            yield rest

    def _shuffled(self, epoch: int) -> Iterator[polars.DataFrame]:
        import polars as pl

        assert self.seed is not None
        order = permutation(self.reader.count(), self.seed, epoch)
        for number, chosen in enumerate(np.array_split(order, range(POOL, len(order), POOL))):
            pool = pl.concat([self.reader.piece(int(i)) for i in chosen])
            yield pool[permutation(pool.height, self.seed, epoch, number)]

    def _rows(self, frame: polars.DataFrame) -> Any:
        """The rows of a piece as they come in batches."""
        return frame if self.encoder is None else self.encoder.arrays(frame)

    def __repr__(self) -> str:
        options = f"batch_size={self.batch_size}"
        if self.encoder is not None:
            options += f", encoder={repr(self.encoder).partition('  #')[0]}"
        if self.shuffle:
            options += f", shuffle=True, seed={self.seed}"
        return f"stream_table({str(self.reader)!r}, {options})"


def _count(rows: Any) -> int:
    return len(rows[0]) if isinstance(rows, tuple) else rows.height


def _part(rows: Any, start: int, stop: int) -> Any:
    return tuple(part[start:stop] for part in rows) if isinstance(rows, tuple) else rows[start:stop]


def _joined(rows: Any, more: Any) -> Any:
    import polars as pl

    if not _count(rows):
        return more
    if isinstance(rows, tuple):
        return tuple(np.concatenate(pair) for pair in zip(rows, more, strict=True))
    return pl.concat([rows, more])


# --------------------------------------------------------------------------------------------------- files


class _Reader:
    """The pieces of some files."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def pieces(self) -> Iterator[polars.DataFrame]:
        """All pieces, in order."""
        return map(self.piece, range(self.count()))

    def count(self) -> int:
        """How many pieces there are."""
        raise NotImplementedError

    def piece(self, i: int) -> polars.DataFrame:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{self.files[0]}" + (f" and {len(self.files) - 1} more" if len(self.files) > 1 else "")


class _Parquet(_Reader):
    """Rows of Parquet files."""

    def __init__(
        self, files: list[Path], columns: Sequence[str] | None, types: Mapping[str, Any] | None, missing: Sequence[str]
    ) -> None:
        import polars as pl

        super().__init__(files)
        self.markers = check_missing(missing, "stream_table")
        self.scans: list[polars.LazyFrame] = []
        self.places: list[tuple[int, int, int]] = []  # file, first row, number of rows
        for number, file in enumerate(files):
            with _about(file):
                scan = pl.scan_parquet(file, glob=False)
                schema = scan.collect_schema()
                names = list(schema) if columns is None else list(columns)
                for name in names:
                    check_name(list(schema), name, f"{file}")
                self.scans.append(scan.select(names))
                rows = scan.select(pl.len()).collect().item()
            if number == 0:
                self.names, self.schema = names, [schema[name] for name in names]
                self.asked = check_types(types, names, f"{file}")
            if names != self.names or [schema[name] for name in names] != self.schema:
                raise DataError(f"{file}: expected the columns and types of {files[0]}, got others.")
            size = max(1, PIECE // max(1, sum(map(_bytes, self.schema))))
            self.places += [(number, at, size) for at in range(0, rows, size)]

    def count(self) -> int:
        return len(self.places)

    def piece(self, i: int) -> polars.DataFrame:
        number, at, size = self.places[i]
        file = self.files[number]
        with _about(file):
            frame = self.scans[number].slice(at, size).collect()
        return with_types(frame, self.asked, self.markers, f"{file}, rows from {at}")


class _Text(_Reader):
    """Lines of text files."""

    def __init__(
        self,
        files: list[Path],
        columns: Sequence[str] | None,
        types: Mapping[str, Any] | None,
        missing: Sequence[str],
        encoder: TableEncoder | None,
        shuffle: bool,
    ) -> None:
        super().__init__(files)
        self.markers = check_missing(missing, "stream_table")
        self.starts = []  # of the lines after the header
        self.places: list[tuple[int, int, int]] | None = None  # of the pieces, once they are looked for
        for file in files:
            if shuffle and is_gzip(file):
                raise ArgumentError(f"{file}: expected a file that is not packed for shuffle=True. Unpack it first.")
            with _opened(file) as stream, _unpacking(file):
                head = read_header(stream, file)
                self.starts.append(stream.tell())
            if file == files[0]:
                self.head = head
            if head.names != self.head.names:
                raise DataError(f"{file}: expected the columns of {files[0]}, got others.")
        self.columns = head.names if columns is None else list(columns)
        for name in self.columns:
            check_name(self.head.names, name, f"{files[0]}")
        self.asked = self._types(encoder) | check_types(types, self.head.names, f"{files[0]}")

    def pieces(self) -> Iterator[polars.DataFrame]:
        for number, file in enumerate(self.files):
            for start, content in self._blocks(number):
                yield self._table(content, f"{file}, after byte {start}")

    def count(self) -> int:
        if self.places is None:
            self.places = [
                (number, start, start + len(content))
                for number in range(len(self.files))
                for start, content in self._blocks(number)
            ]
        return len(self.places)

    def piece(self, i: int) -> polars.DataFrame:
        assert self.places is not None
        number, start, stop = self.places[i]
        with self.files[number].open("rb") as stream:
            stream.seek(start)
            return self._table(stream.read(stop - start), f"{self.files[number]}, after byte {start}")

    def _blocks(self, number: int) -> Iterator[tuple[int, bytes]]:
        """The lines after the header in blocks, each with the byte where it begins."""
        file, at = self.files[number], self.starts[number]
        left = b""
        with _opened(file) as stream, _unpacking(file):
            stream.seek(at)
            while True:
                more = stream.read(PIECE)
                content = left + more
                end = _end_of_lines(content) if more else len(content)
                if end:
                    yield at, content[:end]
                if not more:
                    return
                at, left = at + end, content[end:]
                if len(left) > _LONGEST_LINE:
                    raise FileFormatError(
                        f"{file}: expected lines, at byte {at} one begins that is longer than {_LONGEST_LINE:,} bytes. "
                        "A quotation mark may be without its second."
                    )

    def _types(self, encoder: TableEncoder | None) -> dict[str, str]:
        """The type of each column, by the first piece and by the encoder."""
        content = next((content for _, content in self._blocks(0)), b"")
        if not content.strip():
            names = ", ".join(self.head.names)
            raise DataError(f"{self.files[0]}: expected rows, the table has columns {names} and no rows.")
        found = {}
        check_lines(io.BytesIO(content), f"{self.files[0]}", self.head.separator, len(self.head.names))
        with _about(self.files[0]):
            frame = parsed(content, self.head.below(), {}, self.markers)
        for column in frame.select(self.columns):
            found[column.name] = _type_of(column)
        if encoder is not None:
            wanted = {column.name: column.kind for column in encoder.columns} | {encoder.target.name: _kind(encoder)}
            for name, kind in wanted.items():
                if kind == "number":
                    found[name] = "number"
                elif kind in ("category", "boolean") and found[name] != "boolean":
                    found[name] = "text"
        return found

    def _table(self, content: bytes, where: str) -> polars.DataFrame:
        """The lines of a piece as a table."""
        import polars as pl
        from polars.exceptions import ComputeError

        quick = {"whole": pl.Int64, "number": pl.Float64, "boolean": pl.Boolean}
        schema = {name: quick.get(self.asked.get(name, "text"), pl.String) for name in self.head.names}
        options: dict[str, Any] = {"has_header": False, "separator": self.head.separator}
        width = len(self.head.names)
        with _about(where):
            try:
                more = self.markers[len(MISSING) :] or None
                frame = pl.read_csv(content, schema=schema, null_values=more, **options)
            except ComputeError:  # missing cells among numbers, or something else than numbers
                check_lines(io.BytesIO(content), where, self.head.separator, width)
                frame = pl.read_csv(content, schema=dict.fromkeys(schema, pl.String), **options)
        if frame.height and frame[:, -1].null_count() > 0:
            check_lines(io.BytesIO(content), where, self.head.separator, width)
        if frame.width > 1 and frame.height and min(frame.null_count().row(0)) > 0:
            frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
        frame = frame.select(self.columns)
        texts = [without_markers(column, self.markers) for column in frame if column.dtype == pl.String]
        typed = [as_type(column, self.asked[column.name], where) for column in texts]
        return without_nan(frame.with_columns(typed))


def _end_of_lines(content: bytes) -> int:
    """Where the last line ends that does not end inside quotation marks; 0 if there is none."""
    end = content.rfind(b"\n") + 1
    quotes = content.count(b'"', 0, end)
    while quotes % 2:
        before = content.rfind(b"\n", 0, end - 1) + 1
        quotes -= content.count(b'"', before, end)
        end = before
    return end


def _type_of(column: polars.Series) -> str:
    """One of `TYPES`, by the cells of the first piece."""
    import polars as pl

    dtype = (guessed(column) if column.dtype == pl.String else column).dtype
    if dtype in (pl.Date, pl.Datetime):
        typed = guessed(column)
        return next(order for order in ("dmy", "mdy") if _same(dates(column, order), typed))
    if dtype.is_numeric():
        return "whole" if dtype.is_integer() else "number"
    return "boolean" if dtype == pl.Boolean else "time" if dtype == pl.Time else "text"


def _same(one: polars.Series | None, other: polars.Series) -> bool:
    return one is not None and one.dtype == other.dtype and one.equals(other, null_equal=True)


def _kind(encoder: TableEncoder) -> str:
    """What the cells of the target are: a number, or something that is compared as text."""
    example = encoder.classes[0] if encoder.classes else 0
    return "number" if isinstance(example, int | float) and not isinstance(example, bool) else "category"


def _bytes(dtype: Any) -> int:
    """The bytes of a cell, about."""
    return 8 if dtype.is_numeric() or dtype.is_temporal() else 32


def _files(path: Any) -> list[Path]:
    """The files that the argument names, in the order of their names."""
    if isinstance(path, list | tuple):
        files = [Path(one) for one in path]
    elif Path(path).is_file() or not glob.has_magic(os.fspath(path)):
        files = [Path(path)]
    else:
        files = [Path(one) for one in glob.glob(os.fspath(path), recursive=True) if os.path.isfile(one)]
    if not files:
        raise DataError(f"stream_table: expected files, there are none like {path!r}.")
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: expected a CSV, TSV or Parquet file, {what_is_there(file)}")
    return sorted(files)


def _opened(file: Path) -> IO[bytes]:
    return gzip.open(file) if is_gzip(file) else file.open("rb")  # type: ignore[return-value]


@contextlib.contextmanager
def _unpacking(file: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damaged_gzip(file, error) from error


@contextlib.contextmanager
def _about(where: Path | str) -> Iterator[None]:
    """Say of what goes wrong inside the block that it is about this file."""
    from polars.exceptions import PanicException, PolarsError

    try:
        yield
    except (PolarsError, PanicException) as error:
        raise FileFormatError(f"{where}: expected a table, it is damaged ({first_line(error)}).") from error
