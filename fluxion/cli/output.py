"""What every command shares: where text goes, tables, JSON, and how a failure ends the process.

Text from files (column names, classes) is shown with its control characters escaped: a table from a stranger must not
steer the terminal.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, TextIO

import typer

from fluxion.errors import FluxionError

if TYPE_CHECKING:
    from rich.console import Console

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
LEAST = 14  # characters to which a text in a table is cut at most
JSON = Annotated[bool, typer.Option("--json", help="Write one JSON object to standard output, the rest to stderr.")]


@contextlib.contextmanager
def failures(debug: bool) -> Iterator[None]:
    """End the process as shells expect: one line on stderr and exit code 1 for an error, 130 for Ctrl-C."""
    try:
        yield
    except (typer.Exit, typer.BadParameter, BrokenPipeError):
        raise  # known to typer
    except KeyboardInterrupt:
        warn("Interrupted.")
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            raise
        if isinstance(error, (FluxionError, OSError)):
            warn(f"Error: {error}")
        else:  # nobody foresaw it
            warn(f"Error: {type(error).__name__}: {error} (Run again with --debug to see where.)")
        raise typer.Exit(1) from None


@contextlib.contextmanager
def only_result(wanted: bool) -> Iterator[Any]:
    """Keep standard output for the result alone: inside the block, whatever is printed goes to stderr if `wanted`.

    Yields the stream for the result.
    """
    stream = sys.stdout
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield stream


class CtrlC:
    """A block in which Ctrl-C is never lost: `check` raises KeyboardInterrupt if it came and was swallowed.

    Python only prints, and goes on after, an exception that is raised in a finalizer or a callback of the garbage
    collector, of which a training has many.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> Self:
        self.handler, self.hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
        self.active = callable(self.handler) and threading.current_thread() is threading.main_thread()
        if self.active:  # a background job ignores Ctrl-C
            signal.signal(signal.SIGINT, self._press)
            sys.unraisablehook = self._swallowed
        return self

    def __exit__(self, *error: object) -> None:
        if self.active:
            signal.signal(signal.SIGINT, self.handler)
            sys.unraisablehook = self.hook

    def check(self) -> None:
        if self.pressed:
            raise KeyboardInterrupt

    def _press(self, number: int, frame: object) -> None:
        self.pressed = True
        raise KeyboardInterrupt

    def _swallowed(self, event: Any) -> None:
        if not issubclass(event.exc_type, KeyboardInterrupt):
            self.hook(event)


def write_json(stream: Any, value: dict[str, Any]) -> None:
    """One JSON object; numbers that JSON does not have (NaN, infinity) become null."""
    stream.write(json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")
    stream.flush()


def say(text: str = "", *, indent: int = 0) -> None:
    """A sentence on standard output: broken between words in a terminal, one whole line elsewhere."""
    _say(sys.stdout, text, indent)


def show(text: str) -> None:
    """A line to copy (a path, a command) on standard output, never broken."""
    print(clean(text))


def warn(text: str) -> None:
    """A sentence on standard error, likewise."""
    _say(sys.stderr, " ".join(text.splitlines()), 0)


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True, texts: Sequence[str] = ()
) -> None:
    """A table on standard output; all columns but the first hold numbers, to the right, unless told otherwise.

    The columns `texts` hold text, of which the longest is cut where a line is too short for the table.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[clean(cell) for cell in row] for row in [header, *rows]]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    flexible = [i for i, name in enumerate(header) if name in texts and sizes[i] > LEAST]
    while flexible and sum(sizes) + 2 * (len(sizes) - 1) > width():
        longest = max(flexible, key=lambda i: sizes[i])
        sizes[longest] -= 1
        flexible = [i for i in flexible if sizes[i] > LEAST]
    cells = [[cut(cell, size) for cell, size in zip(row, sizes, strict=True)] for row in cells]
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for i, name in enumerate(cells[0]):
        left = i == 0 or not numbers or header[i] in texts
        grid.add_column(Text(name), justify="left" if left else "right", overflow="fold")
    for row in cells[1:]:
        grid.add_row(*map(Text, row))
    _console(sys.stdout).print(grid)


def cut(text: str, size: int) -> str:
    """`text` in at most so many characters.

    >>> from fluxion.cli.output import cut
    >>> cut("abc", 3), cut("abcdef", 3)
    ('abc', 'ab…')
    """
    return text if len(text) <= size else text[: size - 1] + "…"


def percent(part: int, whole: int) -> str:
    """A share in whole percents, but `<1 %` where it is not 0."""
    return f"{100 * part / whole:.0f} %" if part == 0 or 100 * part >= whole else "<1 %"


def width() -> int:
    """The number of characters in a line of standard output; without bound in a file or a pipe."""
    return _console(sys.stdout).width


def size(count: int | None) -> str:
    """A number of bytes as people read it; nothing for None."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def clean(text: str) -> str:
    """`text` with control characters written as escapes.

    >>> from fluxion.cli.output import clean
    >>> clean("red" + chr(27) + "[31m")
    'red\\\\x1b[31m'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _say(stream: TextIO, text: str, indent: int) -> None:
    text = clean(text)
    if not stream.isatty() or not text:
        print(" " * indent + text, file=stream, flush=True)
        return
    from rich.padding import Padding
    from rich.text import Text

    _console(stream).print(Padding(Text(text), (0, 0, 0, indent), expand=False))


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    if stream.isatty():
        return Console(file=stream, highlight=False, markup=False, emoji=False)
    return Console(file=stream, width=10_000, force_terminal=False, color_system=None)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
