"""Knet's line of progress, in a terminal, a notebook or a log."""

from __future__ import annotations

import html
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from numbers import Real
from typing import Any, Protocol

CELLS = 20  # of the bar
EIGHTHS = " ▏▎▍▌▋▊▉"
LIVE, LOG = 1.0, 60.0  # seconds between two lines


class Bar:
    """The line about items that come one by one (`item`) or in numbers (`at`).

    The last item has a line, the first one too where it will be written over, and in between one is drawn every so many
    steps or seconds. The clock starts with the first item, before which a training is compiled.

    >>> from fluxion.dialects.knet.bar import Bar
    >>> import sys
    >>> bar = Bar(None, "epoch", None, None, sys.stdout)
    >>> bar.item(0.5); bar.close()
    epoch [1, 00:00] 0.5
    """

    def __init__(
        self,
        length: int | None,
        msg: str | Callable[[Any], object] | None,
        steps: int | None,
        seconds: float | None,
        stream: Any,
    ) -> None:
        self.length = length
        self.msg = msg
        self.steps = steps
        self.seconds = seconds
        self.stream = stream
        self.screen: _Screen | None = None  # opened by the first item
        self.count = 0
        self.last: Any = None
        self.line_count = 0  # items at the last line
        self.next_time = 0.0

    def item(self, item: Any) -> None:
        """One more item."""
        self.at(self.count + 1, item)

    def at(self, count: int, last: Any) -> None:
        """So many items are done, this one last."""
        if count == self.count:  # the end of what was told already
            self.last = last
            return
        now = time.monotonic()
        if self.screen is None:
            self.screen = _screen(sys.stderr if self.stream is None else self.stream, notebook=self.stream is None)
            if self.seconds is None and self.steps is None:
                self.seconds = self.screen.seconds
            self.started = self.line_time = now
            self.count, self.last = count, last
            if self.screen.live or self.steps is not None:
                self.draw(now)
            else:
                self.next_time = now + (self.seconds or 0)
            return
        self.count, self.last = count, last
        if (self.steps is not None and count >= self.line_count + self.steps) or now >= self.next_time:
            self.draw(now)

    def draw(self, now: float, *, closing: bool = False) -> None:
        """Write the line as of now."""
        assert self.screen is not None
        since, items = (self.started, self.count - 1) if closing else (self.line_time, self.count - self.line_count)
        speed = items / (now - since) if now > since and items else 0.0
        self.screen.show(self.line(now, speed, self.screen.width()), closing)
        self.line_count, self.line_time = self.count, now
        self.next_time = math.inf if self.seconds is None else now + self.seconds

    def close(self) -> None:
        """Write the last line; nothing if there was no item."""
        if self.screen is not None:
            if self.screen.live or self.line_count < self.count:
                self.draw(time.monotonic(), closing=True)
            self.screen = None

    def line(self, now: float, speed: float, width: int) -> str:
        """`┣████    ┫ [86.83%, 903/1040, 01:36/01:50, 9.42i/s] 0.012`, shortened where the screen is narrow."""
        taken = now - self.started
        told = f", {speed:.2f}i/s" if speed >= 1 else f", {1 / speed:.2f}s/i" if speed else ""
        front = f"{self.msg} " if isinstance(self.msg, str) else ""
        end = self.end()
        if self.length is None:
            return f"{front}[{self.count}, {_clock(taken)}{told}]{end}"[:width]
        share = min(1.0, self.count / max(1, self.length))
        total = taken * (self.length - 1) / (self.count - 1) if self.count > 1 else math.inf
        text = f"[{100 * share:.2f}%, {self.count}/{self.length}, {_clock(taken)}/{_clock(total)}{told}]{end}"
        cells = min(CELLS, width - len(front) - len(text) - 3)
        bar = f"┣{_filled(share, cells)}┫ " if cells >= 4 else ""
        return f"{front}{bar}{text}"[:width]

    def end(self) -> str:
        """What stands behind the bracket."""
        if callable(self.msg):
            return f" {self.msg(self.last)}"
        number = self.last.item() if getattr(self.last, "ndim", None) == 0 else self.last
        if isinstance(number, Real) and not isinstance(number, bool):
            return f" {number:.4g}" if isinstance(number, float) else f" {number}"
        return ""


class _Screen(Protocol):
    """A place to show the line."""

    live: bool  # whether it is written over
    seconds: float  # between two lines

    def width(self) -> int: ...

    def show(self, line: str, closing: bool) -> None: ...


class _Terminal:
    """The line is written over the one before."""

    live, seconds = True, LIVE

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def width(self) -> int:
        return shutil.get_terminal_size().columns - 1  # some terminals wrap once the last column is filled

    def show(self, line: str, closing: bool) -> None:
        self.stream.write(f"\r{_written(line, self.stream)}\x1b[K" + ("\n" if closing else ""))
        self.stream.flush()


class _Log:
    """A file, a pipe: lines, no control characters."""

    live, seconds = False, LOG

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def width(self) -> int:
        return 10_000

    def show(self, line: str, closing: bool) -> None:
        self.stream.write(_written(line, self.stream) + "\n")
        self.stream.flush()


class _Notebook:
    """The output area of a cell, without widgets, so that the text is kept in the saved notebook."""

    live, seconds = True, LIVE

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self.html = HTML
        self.handle = display(HTML(""), display_id=True)

    def width(self) -> int:
        return 120

    def show(self, line: str, closing: bool) -> None:
        self.handle.update(self.html(f'<pre style="margin: 0; white-space: pre-wrap">{html.escape(line)}</pre>'))


def _screen(stream: Any, *, notebook: bool) -> _Screen:
    if notebook and _in_notebook():
        return _Notebook()
    terminal = getattr(stream, "isatty", bool)() and os.environ.get("TERM") != "dumb"
    return _Terminal(stream) if terminal else _Log(stream)


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _written(line: str, stream: Any) -> str:
    """The line in signs that the stream can write."""
    try:
        line.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        line = line.translate(str.maketrans("┣┫█" + EIGHTHS[1:], "||#" + " " * 7))
    return line


def _filled(share: float, cells: int) -> str:
    eighths = int(8 * cells * share)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8])[:cells].ljust(cells)


def _clock(seconds: float) -> str:
    """`01:36`, `1:01:36`."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
