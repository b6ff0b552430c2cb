"""The lines that Keras prints: `Epoch 1/5`, and a bar with steps, time, and the numbers so far.

In a terminal and a notebook the bar moves, at most twenty times a second; in a file there is one line an epoch, without
control characters.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from fluxion.dialects.keras.names import choose

WIDTH = 20  # of the bar
INTERVAL = 0.05  # seconds between two drawings


def check_verbose(verbose: Any) -> int:
    """0, 1 or 2, of what Keras takes: these numbers, their texts, and "auto"."""
    known = {"auto": 1, "0": 0, "1": 1, "2": 2, "True": 1, "False": 0}
    return choose("verbose", str(verbose), known)


class Bar:
    """One bar: of an epoch, of an evaluation, of a prediction.

    Arguments:
      target: the number of steps, None where it is not known.
      verbose: 1 for the bar, 2 for one line in the end, 0 for nothing.

    >>> from fluxion.dialects.keras.display import line
    >>> line(422, 422, 2.4, 0.0043, {"accuracy": 0.91563, "loss": 0.00021})
    '422/422 ━━━━━━━━━━━━━━━━━━━━ 2s 4ms/step - accuracy: 0.9156 - loss: 2.1000e-04'
    """

    def __init__(self, target: int | None, verbose: int, stream: TextIO | None = None) -> None:
        self.target, self.verbose = target, verbose
        self.stream = sys.stdout if stream is None else stream
        self.moving = verbose == 1 and is_live(self.stream)
        self.started = time.monotonic()
        self.first_end: float | None = None  # after the first step, in which much is compiled
        self.done = 0
        self.shown = 0  # how many characters are on the line
        self.next_draw = self.started

    def step(self, steps: int, numbers: Callable[[], Mapping[str, float]]) -> None:
        """So many more steps are done; the numbers are asked for only where they are drawn."""
        now = time.monotonic()
        self.done += steps
        if self.first_end is None and self.done == steps:
            self.first_end, self.first_steps = now, steps
        if self.moving and now >= self.next_draw:
            self.next_draw = now + INTERVAL
            self.draw(now, numbers())

    def draw(self, now: float, numbers: Mapping[str, float], last: bool = False) -> None:
        left = None if last or not self.target else self.pace(now) * max(0, self.target - self.done)
        plain = line(self.done, self.target, now - self.started, self.pace(now), numbers, left)
        colored = line(self.done, self.target, now - self.started, self.pace(now), numbers, left, colors=True)
        self.stream.write("\r" + colored + " " * max(0, self.shown - len(plain)) + ("\n" if last else ""))
        self.stream.flush()
        self.shown = len(plain)

    def pace(self, now: float) -> float:
        """The seconds that a step takes, the first one left out where there are others."""
        if self.first_end is not None and self.done > self.first_steps:
            return (now - self.first_end) / (self.done - self.first_steps)
        return (now - self.started) / max(self.done, 1)

    def end(self, numbers: Mapping[str, float], seconds: float | None = None) -> None:
        """All steps are done; `seconds` is how long it took, if not from here."""
        now = time.monotonic() if seconds is None else self.started + seconds
        self.target = self.target or self.done
        if self.verbose == 1 and self.moving:
            self.draw(now, numbers, last=True)
        elif self.verbose:
            pace = self.pace(now) if seconds is None else seconds / max(self.done, 1)
            text = line(self.done, self.target, now - self.started, pace, numbers, bar=self.verbose == 1)
            self.stream.write(text + "\n")
            self.stream.flush()

    def abandon(self) -> None:
        """Leave the line, after an exception."""
        if self.moving and self.shown:
            self.stream.write("\n")


class Epochs:
    """The display of `fit`, as the engine's loop tells it how things go."""

    def __init__(
        self,
        epochs: int,
        steps: int | None,
        verbose: int,
        means: Callable[[], Mapping[str, float]],
        logs: Callable[[Mapping[str, Any]], Mapping[str, float]],
    ) -> None:
        self.epochs, self.steps, self.verbose = epochs, steps, verbose
        self.means, self.logs = means, logs
        self.bar = Bar(steps, 0)

    def start_epoch(self, epoch: int, done: int = 0) -> None:
        """The epoch begins."""
        self.bar = Bar(self.steps, self.verbose)
        if self.verbose and self.epochs > 1:
            self.bar.stream.write(f"Epoch {epoch}/{self.epochs}\n")
            self.bar.stream.flush()

    def step(self, loss: Any = None, samples: int = 0, steps: int = 1) -> None:
        """More steps are under way."""
        self.bar.step(steps, self.means)

    def end_epoch(self, row: Mapping[str, Any]) -> None:
        """The epoch is over."""
        self.steps = self.bar.target = self.steps or self.bar.done
        at_once = time.monotonic() - self.bar.started < row["seconds"]  # one of several epochs in one call
        self.bar.end(self.logs(row), row["seconds"] if at_once else None)


def line(
    done: int,
    target: int | None,
    seconds: float,
    pace: float,
    numbers: Mapping[str, float],
    left: float | None = None,
    *,
    bar: bool = True,
    colors: bool = False,
) -> str:
    """One line: steps, bar, time, time per step, numbers."""

    def styled(code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if colors and text else text

    steps = f"{done:>7}/Unknown" if not target else f"{done:>{int(math.log10(target)) + 1}}/{target}"
    when = f"{seconds:.0f}s" if left is None else duration(left)
    fields = [f"{name}: {shown(value)}" for name, value in numbers.items()]
    if not bar:
        return " - ".join([steps, when, per_step(pace), *fields])
    full = int(WIDTH * done / target) if target else 0
    drawn = " " + styled("32", "━" * full) + styled("37", "━" * (WIDTH - full)) if target else ""
    return " - ".join([f"{styled('1', steps)}{drawn} {styled('1', when)} {per_step(pace)}", *fields])


def shown(value: float) -> str:
    """A number with four decimals, of either kind."""
    return f"{value:.4f}" if abs(value) > 1e-3 else f"{value:.4e}"


def per_step(seconds: float) -> str:
    """`4ms/step`."""
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s/step"
    return f"{seconds * 1e3:.0f}ms/step" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us/step"


def duration(seconds: float) -> str:
    """`12s`, `2:05`, `1:02:05`."""
    whole = int(seconds)
    if whole > 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
    return f"{whole // 60}:{whole % 60:02}" if whole > 60 else f"{whole}s"


def is_live(stream: TextIO) -> bool:
    """Whether a line can be written over."""
    if "ipykernel" in sys.modules:
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"
