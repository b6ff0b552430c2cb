"""What a person sees while a model trains.

In a terminal: a line per epoch, and below it one that moves. In a notebook: the same in one output area. Anywhere
else (a file, a pipe, a CI log): plain lines, no control characters.

Lines stay few: all epochs up to 20, of more of them some 20 evenly spaced, the last one always, and any epoch that
ends more than ten seconds after the last line. In a log an epoch under way is heard of once a minute.

A step costs a few additions and a look at the clock. What moves is drawn at most ten times a second, and shows the
loss that was given at the drawing before: by now the device has it, and nobody waits.
"""

from __future__ import annotations

import html
import math
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from fluxion.train.history import Number, shown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.text import Text

Loss = float | Callable[[], Any] | None

REDRAW = 0.1  # seconds between two drawings of what moves
ALIVE = 60.0  # seconds after which a log hears of an epoch under way
LINE = 10.0  # seconds after which any epoch is worth a line
LINES = 20  # epochs that get a line however short they are
VALIDATION = "validation_"


class Progress:
    """The display of one run, used as a context manager; leaving it, by an exception too, restores the terminal.

    Arguments:
        epochs: the number of the last epoch.
        steps_per_epoch: None where it is not known; that of the epoch before is then taken.
        enabled: False shows nothing.
        stream: where to write; standard output, or a notebook's output area, unless given.

    >>> import sys
    >>> from fluxion.train.progress import Progress
    >>> with Progress(2, 1, stream=sys.stdout) as progress:
    ...     for epoch in (1, 2):
    ...         progress.start_epoch(epoch)
    ...         progress.step(0.5, samples=32)
    ...         progress.end_epoch({"epoch": epoch, "loss": 0.5, "validation_loss": 0.6, "seconds": 1.0})
    epoch 1/2  loss 0.5000  | validation loss 0.6000  | 1.00 s
    epoch 2/2  loss 0.5000  | validation loss 0.6000  | 1.00 s
    """

    def __init__(
        self, epochs: int, steps_per_epoch: int | None, enabled: bool = True, stream: TextIO | None = None
    ) -> None:
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.enabled = enabled
        self._stream = stream
        self._screen: _Screen = _Nothing()
        self._epoch = 0
        self._done = 0  # steps of this epoch
        self._samples = 0  # of this epoch, counted since `_since`
        self._since: float | None = None  # the end of this epoch's first step, or its start if all is compiled
        self._first_end: float | None = None  # the end of the run's first step, in which it is compiled
        self._run_steps = 0  # steps since then
        self._loss: Loss = None
        self._older_loss: Loss = None  # of the drawing before, so that it is known by now
        self._known_loss: float | None = None
        self._row: Mapping[str, Number] | None = None  # of an epoch that has not been given a line
        self._next_draw = float("inf")  # nothing is drawn outside the with block

    def __enter__(self) -> Self:
        if self.enabled:
            self._screen = _screen(self._stream)
            self._screen.open(self)
            self._last_line = time.monotonic()
            self._next_draw = 0.0
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._next_draw = float("inf")
        try:
            if self._row is not None:  # the last epoch of a run that was stopped early
                self._print_row(self._row)
        finally:
            self._screen.close()

    def say(self, text: str) -> None:
        """A line of its own, to stay."""
        self._screen.line([text])

    def start_epoch(self, epoch: int, done: int = 0) -> None:
        """Epoch number `epoch`, from 1, begins; `done` of its steps were made before the run was resumed."""
        self._epoch, self._done, self._samples = epoch, done, 0
        now = time.monotonic()
        self._since = now if self._first_end is not None else None
        if now >= self._next_draw:
            self._draw(now)

    def step(self, loss: Loss = None, samples: int = 0, steps: int = 1) -> None:
        """One more step is under way, or several: the loss, a number or a function that waits for it, the samples."""
        self._done += steps
        self._loss = loss
        now = time.monotonic()
        if self._since is None:  # compiling says nothing about speed
            self._since = now
            if self._first_end is None:
                self._first_end = now
        else:
            self._samples += samples
            self._run_steps += steps
        if now >= self._next_draw:
            self._draw(now)

    def end_epoch(self, row: Mapping[str, Number]) -> None:
        """The epoch is over; `row` is its row of the history."""
        if self.steps_per_epoch is None or self._done > self.steps_per_epoch:
            self.steps_per_epoch = self._done
        if not self.enabled:
            return
        every = max(1, math.ceil(self.epochs / LINES))
        worth_it = (
            self._epoch in (1, self.epochs) or self._epoch % every == 0 or time.monotonic() - self._last_line >= LINE
        )
        self._row = row
        if worth_it:
            self._print_row(row)

    def fields(self) -> list[str]:
        """What is known of the epoch under way, most important first: epoch, loss, time left, steps, speed."""
        now = time.monotonic()
        fields = [_epoch_field(self._epoch, self.epochs)]
        if self._done == 0 and self._first_end is None:
            return [*fields, "compiling"]
        if self._known_loss is not None:
            fields.append(f"loss {shown('loss', self._known_loss)}")
        left = self._seconds_left(now)
        if left is not None:
            fields.append(f"{f'{left:.0f} s' if left < 59.5 else duration(left)} left")
        fields.append(f"step {self._done}/{self.steps_per_epoch}" if self.steps_per_epoch else f"step {self._done}")
        if self._since is not None and self._samples and now > self._since:
            fields.append(f"{self._samples / (now - self._since):,.0f} samples/s")
        return fields

    def read_loss(self) -> None:
        """Read the loss that `fields` tells; apart from them, for a terminal also redraws when others print."""
        if self._older_loss is not None:
            self._known_loss = float(self._older_loss() if callable(self._older_loss) else self._older_loss)

    @property
    def fraction(self) -> float | None:
        """How much of the epoch is done, if its length is known."""
        return min(1.0, self._done / self.steps_per_epoch) if self.steps_per_epoch else None

    def _seconds_left(self, now: float) -> float | None:
        if self.steps_per_epoch is None or self._first_end is None or self._run_steps == 0:
            return None
        remaining = (self.epochs - self._epoch) * self.steps_per_epoch + max(0, self.steps_per_epoch - self._done)
        return remaining * (now - self._first_end) / self._run_steps

    def _draw(self, now: float) -> None:
        self._next_draw = now + self._screen.moves(now)
        self._older_loss = self._loss

    def _print_row(self, row: Mapping[str, Number]) -> None:
        self._row = None
        self._last_line = time.monotonic()
        self._screen.line(_row_fields(row, self.epochs))


# The four places to show it


class _Screen(Protocol):
    """A place to show progress."""

    def open(self, progress: Progress) -> None: ...

    def moves(self, now: float) -> float:
        """Draw what moves; returns the seconds until that is wanted again."""

    def line(self, fields: list[str]) -> None:
        """Show the finished epoch, to stay."""

    def close(self) -> None: ...


class _Nothing:
    """`progress=False`."""

    def open(self, progress: Progress) -> None:
        pass

    def moves(self, now: float) -> float:
        return float("inf")

    def line(self, fields: list[str]) -> None:
        pass

    def close(self) -> None:
        pass


class _Log:
    """A file, a pipe, a CI log: plain lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def open(self, progress: Progress) -> None:
        self.progress = progress
        self.silent_since = time.monotonic()

    def moves(self, now: float) -> float:
        if now - self.silent_since >= ALIVE:
            self.progress.read_loss()
            self.line(self.progress.fields())
        return 1.0

    def line(self, fields: list[str]) -> None:
        self.silent_since = time.monotonic()
        self.stream.write("  ".join(fields) + "\n")
        self.stream.flush()

    def close(self) -> None:
        pass


class _Terminal:
    """A terminal: rich keeps the moving line at the bottom, below whatever callbacks print."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None

    def open(self, progress: Progress) -> None:
        from rich.live import Live

        self.progress = progress
        self.live = Live(_MovingLine(progress), console=self.console, auto_refresh=False, transient=True)
        self.live.start()

    def moves(self, now: float) -> float:
        self.progress.read_loss()
        if self.live is not None:
            self.live.refresh()
        return REDRAW

    def line(self, fields: list[str]) -> None:
        self.console.print(_wrapped(fields, self.console.width), soft_wrap=True)

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()


class _Notebook:
    """A Jupyter output area, without widgets, so that the text is kept in the saved notebook."""

    # An area of more lines would be scrolled, and the moving one out of sight.
    KEPT = 30

    def open(self, progress: Progress) -> None:
        from IPython.display import HTML, display

        self.html = HTML
        self.progress = progress
        self.lines: list[str] = []
        self.handle = display(HTML(""), display_id=True)

    def moves(self, now: float) -> float:
        self.progress.read_loss()
        fraction = self.progress.fraction
        bar = "" if fraction is None else f"{_bar(fraction, 24)}  "
        self._show([*self.lines, bar + "  ".join(self.progress.fields())])
        return 2 * REDRAW

    def line(self, fields: list[str]) -> None:
        self.lines = [*self.lines, "  ".join(fields)][-self.KEPT :]
        self._show(self.lines)

    def close(self) -> None:
        self._show(self.lines)

    def _show(self, lines: list[str]) -> None:
        text = html.escape("\n".join(lines))
        self.handle.update(self.html(f'<pre style="margin: 0; white-space: pre-wrap">{text}</pre>'))


class _MovingLine:
    """The line of the epoch under way: as many of its fields as there is room for, and a bar in the room left."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        room = options.max_width - 1  # some terminals wrap once the last column is filled
        fields = self.progress.fields()
        while len(fields) > 2 and len("  ".join(fields)) > room:
            fields.pop()
        text = Text("  ".join(fields[:1]), style="bold", no_wrap=True, overflow="crop")
        length = len("  ".join(fields)) + 2
        fraction = self.progress.fraction
        if fraction is not None and room - length >= 8:
            text.append("  ")
            text.append_text(_colored_bar(fraction, min(30, room - length), options.ascii_only))
        for field in fields[1:]:
            text.append("  " + field, style="not bold" if field.startswith("loss") else "not bold dim")
        text.truncate(room, overflow="crop")
        yield text


# Helpers


def _screen(stream: TextIO | None) -> _Screen:
    from rich.console import Console

    if stream is None:
        if Console().is_jupyter:
            return _Notebook()
        stream = sys.stdout
    console = Console(file=stream, force_jupyter=False, highlight=False)
    # `isatty`, not rich's `is_terminal`: FORCE_COLOR in a CI job must not bring control characters into its log.
    if stream.isatty() and not console.is_dumb_terminal:
        return _Terminal(console)
    return _Log(stream)


def _row_fields(row: Mapping[str, Number], epochs: int) -> list[str]:
    """A row of the history as words; the learning rate is left out, for it rarely changes."""
    fields = [_epoch_field(int(row.get("epoch", 0)), epochs)]
    names = [name for name in row if name not in ("epoch", "learning_rate", "seconds", "samples_per_second")]
    training = [name for name in names if not name.startswith(VALIDATION)]
    validation = [name for name in names if name.startswith(VALIDATION)]
    fields += [f"{name} {shown(name, row[name])}" for name in training]
    words = [f"{name.removeprefix(VALIDATION)} {shown(name, row[name])}" for name in validation]
    fields += [f"| validation {words[0]}", *words[1:]] if words else []
    if "seconds" in row:
        fields.append(f"| {duration(row['seconds'])}")
    if "samples_per_second" in row:
        fields.append(f"{shown('samples_per_second', row['samples_per_second'])} samples/s")
    return fields


def _wrapped(fields: list[str], width: int) -> Text:
    """The fields, two blanks apart, broken between them where a line of `width` is full; the speed goes first."""
    from rich.text import Text

    if fields[-1].endswith("samples/s") and len("  ".join(fields)) > width:
        fields = fields[:-1]
    lines, indent = [fields[0]], " " * (len(fields[0]) + 2)
    for field in fields[1:]:
        if len(lines[-1]) + 2 + len(field) <= width:
            lines[-1] += "  " + field
        else:
            bare = field.removeprefix("| ")
            lines.append((indent if len(indent) + len(bare) <= width else "  ") + bare)
    text = Text("\n".join(lines))
    text.stylize("bold", 0, len(fields[0]))
    return text


def _colored_bar(fraction: float, width: int, ascii_only: bool) -> Text:
    from rich.text import Text

    full = int(fraction * width)
    heavy, light = ("#", "-") if ascii_only else ("━", "━")
    return Text.assemble((heavy * full, "cyan"), (light * (width - full), "bright_black"))


def _bar(fraction: float, width: int) -> str:
    full = int(fraction * width)
    return "█" * full + "░" * (width - full)


def _epoch_field(epoch: int, epochs: int) -> str:
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}"


def duration(seconds: float) -> str:
    """`12 ms`, `0.25 s`, `12.3 s`, `2:05`, `1:02:05`, `3 d 04:00`.

    >>> from fluxion.train.progress import duration
    >>> duration(0.25), duration(125), duration(3725)
    ('0.25 s', '2:05', '1:02:05')
    """
    if seconds != seconds or seconds == float("inf"):
        return "?"
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        text = f"{seconds:.2f}" if seconds < 9.995 else f"{seconds:.1f}"
        return f"{text} s" if text != "60.0" else "1:00"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
