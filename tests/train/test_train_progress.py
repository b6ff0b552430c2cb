"""What is shown where: a terminal is emulated by a pseudo-terminal, a notebook by a stand-in for IPython."""

import io
import itertools
import re
import sys
import types

import pytest

from fluxion.train import progress as progress_file
from fluxion.train.progress import Progress, duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_file, "time", clock)
    return clock


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS", "JUPYTER_LINES"):
        monkeypatch.delenv(name, raising=False)

    def size(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", "24")
        return Screen()

    return size


def row(epoch, seconds=1.5):
    return {
        "epoch": epoch,
        "loss": 1 / epoch,
        "accuracy": 0.5,
        "validation_loss": 2.0,
        "validation_accuracy": 0.25,
        "learning_rate": 0.1,
        "seconds": seconds,
        "samples_per_second": 12345.6,
    }


def train(progress, epochs, steps=4, clock=None, seconds=1.0, loss=0.5, first=1):
    for epoch in range(first, epochs + 1):
        progress.start_epoch(epoch)
        for _ in range(steps):
            if clock is not None:
                clock.now += seconds
            progress.step(loss, 32)
        progress.end_epoch(row(epoch))


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_log_gets_plain_lines():
    log = io.StringIO()
    with Progress(2, 4, stream=log) as progress:
        train(progress, 2)
    assert log.getvalue() == (
        "epoch 1/2  loss 1.0000  accuracy 0.5000  | validation loss 2.0000  accuracy 0.2500  | 1.50 s  "
        "12,346 samples/s\n"
        "epoch 2/2  loss 0.5000  accuracy 0.5000  | validation loss 2.0000  accuracy 0.2500  | 1.50 s  "
        "12,346 samples/s\n"
    )


def test_force_color_does_not_reach_a_log(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    log = io.StringIO()
    with Progress(3, 4, stream=log) as progress:
        train(progress, 3)
    assert log.getvalue().isascii() and "\x1b" not in log.getvalue() and "\r" not in log.getvalue()


@pytest.mark.parametrize("epochs", [1, 5, 20, 21, 39, 300, 10_000])
def test_lines_stay_few(clock, epochs):
    log = io.StringIO()
    with Progress(epochs, 1, stream=log) as progress:
        train(progress, epochs, steps=1, clock=clock, seconds=0.001)
    shown = [int(line.split("/")[0].split()[1]) for line in log.getvalue().splitlines()]
    assert shown[0] == 1 and shown[-1] == epochs and len(shown) <= 22
    assert epochs > 20 or shown == list(range(1, epochs + 1))
    gaps = [b - a for a, b in itertools.pairwise(shown)]
    assert max(gaps, default=0) <= epochs / 20 + 1


def test_long_epochs_all_have_their_line_and_a_sign_of_life(clock):
    log = io.StringIO()
    with Progress(100, 100, stream=log) as progress:
        train(progress, 2, steps=100, clock=clock, seconds=1.0)
    lines = log.getvalue().splitlines()
    assert [line[:13] for line in lines] == ["epoch   1/100"] * 2 + ["epoch   2/100"] * 2
    assert lines[0] == "epoch   1/100  loss 0.5000  2:45:40 left  step 60/100  32 samples/s"


def test_a_run_that_was_stopped_shows_its_last_epoch(clock):
    log = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(1000, 4, stream=log) as progress:
        train(progress, 7)
        raise KeyboardInterrupt
    assert [line[:15] for line in log.getvalue().splitlines()] == ["epoch    1/1000", "epoch    7/1000"]


def test_disabled_is_silent_and_reads_nothing(capsys):
    with Progress(2, 4, enabled=False) as progress:
        train(progress, 2, loss=lambda: pytest.fail("the loss was read"))
    assert capsys.readouterr() == ("", "")


def test_standard_output_is_the_default(capsys):
    with Progress(1, 4) as progress:
        train(progress, 1)
    out, err = capsys.readouterr()
    assert out.startswith("epoch 1/1  loss") and err == ""


def test_terminal_draws_seldom_and_waits_for_no_loss(clock, terminal):
    screen, reads = terminal(100), []

    def losses():
        for i in range(10_000):
            yield lambda i=i: reads.append((i, clock.now)) or i / 10

    with Progress(1, 1000, stream=screen) as progress:
        progress.start_epoch(1)
        for _, loss in zip(range(1000), losses(), strict=False):
            clock.now += 0.001
            progress.step(loss, 32)
        progress.end_epoch(row(1))
    assert 0 < len({when for _, when in reads}) <= 11  # one second of training
    last = [(index, when) for index, when in reads if when > 0.2]
    assert all(index < 1000 * (when - 0.08) for index, when in last)  # of the drawing before
    text = plain(screen.getvalue())
    assert "compiling" in text and "step 900/1000" in text and "samples/s" in text
    assert "epoch 1/1  loss 1.0000" in text and "accuracy 0.2500  | 1.50 s" in text


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 200])
def test_terminal_lines_fit(clock, terminal, width):
    screen = terminal(width)
    with Progress(3, 40, stream=screen) as progress:
        train(progress, 3, steps=40, clock=clock)
    lines = [line for part in plain(screen.getvalue()).splitlines() for line in part.split("\r")]
    longest = max(map(len, lines))
    assert longest <= max(width, len("  validation loss 2.0000"))
    assert any(line.startswith("epoch 2/3  loss 0.5000"[: width - 1]) for line in lines)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_terminal_is_left_sane(terminal, error):
    screen, before = terminal(80), (sys.stdout, sys.stderr)
    try:
        with Progress(3, 4, stream=screen) as progress:
            progress.start_epoch(1)
            progress.step(0.5, 32)
            if error is not None:
                raise error
    except (KeyboardInterrupt, ValueError) as raised:
        assert type(raised) is error
    text = screen.getvalue()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") > -1  # the cursor is shown again
    assert (sys.stdout, sys.stderr) == before


def test_a_loss_that_fails_leaves_the_terminal_sane(clock, terminal):
    screen = terminal(80)

    def broken():
        raise FloatingPointError("NaN")

    with pytest.raises(FloatingPointError), Progress(1, 4, stream=screen) as progress:
        train(progress, 1, clock=clock, loss=broken)
    assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l")


def test_old_terminals(clock, terminal, monkeypatch):
    screen = terminal(60)
    screen.encoding = "ascii"
    with Progress(1, 10, stream=screen) as progress:
        train(progress, 1, steps=10, clock=clock)
    assert screen.getvalue().isascii() and "###" in screen.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    dumb = Screen()
    with Progress(1, 10, stream=dumb) as progress:
        train(progress, 1, steps=10)
    assert "\x1b" not in dumb.getvalue()


def test_names_in_brackets_are_no_markup(terminal):
    screen = terminal(100)
    with Progress(1, 1, stream=screen) as progress:
        progress.start_epoch(1)
        progress.end_epoch({"epoch": 1, "loss[red]": float("nan")})
    assert "loss[red] nan" in plain(screen.getvalue())


def test_unknown_length_is_learned(clock):
    with Progress(3, None, stream=io.StringIO()) as progress:
        progress.start_epoch(1)
        clock.now += 1
        progress.step(0.5, 32)
        assert progress.fraction is None and not any("left" in field for field in progress.fields())
        for _ in range(9):
            clock.now += 1
            progress.step(0.5, 32)
        progress.end_epoch(row(1))
        progress.start_epoch(2)
        assert progress.fraction == 0 and "20 s left" in progress.fields()


def test_resumed_runs_and_time_left(clock):
    with Progress(10, 100, stream=io.StringIO()) as progress:
        progress.start_epoch(9, done=50)
        clock.now += 60  # compiling must not count
        progress.step(0.5, 10)
        for _ in range(9):
            clock.now += 2
            progress.step(0.5, 10)
        assert progress.fields() == [
            "epoch  9/10",
            "4:40 left",
            "step 60/100",
            "5 samples/s",
        ]


def test_notebook(clock, monkeypatch):
    shown = []

    class Handle:
        def update(self, page):
            shown.append(page)

    display = types.ModuleType("IPython.display")
    display.HTML = str
    display.display = lambda page, display_id: Handle()
    shell = type("ZMQInteractiveShell", (), {})
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("builtins.get_ipython", shell, raising=False)
    import rich.console

    monkeypatch.setattr(rich.console, "get_ipython", shell, raising=False)
    with Progress(2, 10) as progress:
        train(progress, 2, steps=10, clock=clock)
    assert any("██" in page and "step 5/10" in page for page in shown)
    final = re.sub("<[^>]*>", "", shown[-1]).splitlines()
    assert [line[:22] for line in final] == ["epoch 1/2  loss 1.0000", "epoch 2/2  loss 0.5000"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.1, "0.10 s"),
        (9.999, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00"),
        (60, "1:00"),
        (3599.6, "1:00:00"),
        (86400 * 3 + 3660, "3 d 01:01"),
        (float("nan"), "?"),
        (float("inf"), "?"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
