"""The bar in a terminal, a log and a notebook; batches, repetition, convergence."""

import io
import itertools
import sys
import types

import numpy as np
import pytest
from knet_help import iris

import fluxion as fx
from fluxion.dialects.knet import Param, adam, bar, converge, minibatch, progress, repeat, sgd


class Clock:
    """A clock that goes on by `step` at each look."""

    def __init__(self, step=0.0):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bar, "time", clock)
    return clock


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    return Screen()


def ticking(clock, items, seconds):
    for item in items:
        clock.now += seconds
        yield item


class Known:
    """An iterable of known length."""

    def __init__(self, items, length):
        self.items, self.length = items, length

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return self.length


def lines(screen):
    """What a terminal shows one after the other, each over the one before."""
    return [line.removesuffix("\x1b[K") for line in screen.getvalue().rstrip("\n").split("\r")[1:]]


def test_the_line_is_knets(terminal, clock):
    items = Known(ticking(clock, np.linspace(0.5, 0.012345, 1040), 96 / 902), 1040)
    for i, _ in enumerate(progress(items, stream=terminal), 1):
        if i == 903:
            break
    assert lines(terminal)[-1] == "┣█████████████████▎  ┫ [86.83%, 903/1040, 01:36/01:51, 9.40i/s] 0.07665"
    assert terminal.getvalue().count("\n") <= 1  # one line, rewritten
    assert 90 <= len(lines(terminal)) <= 98  # about every second


def test_the_line_ends_once_and_says_all(terminal, clock):
    assert list(progress(Known(ticking(clock, [3, 2, 1], 2.0), 3), stream=terminal)) == [3, 2, 1]
    assert terminal.getvalue().endswith("┣████████████████████┫ [100.00%, 3/3, 00:04/00:04, 2.00s/i] 1\x1b[K\n")
    assert lines(terminal)[0] == "┣██████▋             ┫ [33.33%, 1/3, 00:00/?] 3"


def test_of_unknown_length_there_is_no_bar(terminal, clock):
    for _ in progress(ticking(clock, "abc", 0.25), stream=terminal):
        pass
    assert lines(terminal)[-1] == "[3, 00:00, 4.00i/s]"  # no number at the end: the items are none


def test_nothing_is_written_for_nothing(terminal):
    assert list(progress([], stream=terminal)) == []
    assert terminal.getvalue() == ""


def test_a_narrow_terminal_keeps_one_line(terminal, clock, monkeypatch):
    for columns in (60, 45, 20):
        monkeypatch.setenv("COLUMNS", str(columns))
        list(progress(Known(ticking(clock, range(5), 2.0), 5), msg="training", stream=terminal))
        assert max(map(len, lines(terminal)[-4:])) < columns
    assert "┣██" in lines(terminal)[2] and "┣" not in lines(terminal)[-1]


def test_steps_and_seconds(clock):
    log = io.StringIO()
    list(progress(ticking(clock, range(10), 0.5), steps=4, stream=log))
    assert [line.split(",")[0] for line in log.getvalue().splitlines()] == ["[1", "[5", "[9", "[10"]
    log = io.StringIO()
    list(progress(ticking(clock, range(10), 0.5), seconds=2, stream=log))
    assert [line.split(",")[0] for line in log.getvalue().splitlines()] == ["[5", "[9", "[10"]


def test_a_log_hears_of_it_now_and_then_without_control_characters(clock):
    log = io.StringIO()
    list(progress(Known(ticking(clock, range(200), 1.0), 200), stream=log))
    assert [line.split()[-1] for line in log.getvalue().splitlines()] == ["60", "120", "180", "199"]
    assert "\r" not in log.getvalue() and "\x1b" not in log.getvalue()
    dumb = io.StringIO()
    list(progress(range(3), stream=dumb))
    assert dumb.getvalue().count("\n") == 1


def test_a_stream_of_few_signs_gets_these():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    list(progress(range(4), steps=2, stream=stream))
    assert raw.getvalue().decode("ascii").splitlines()[0] == "|#####               | [25.00%, 1/4, 00:00/?] 0"
    stream.detach()


def test_a_notebook_has_one_line_that_changes(monkeypatch, clock):
    shown = []
    handle = types.SimpleNamespace(update=lambda html: shown.append(html.data))
    display = types.ModuleType("IPython.display")
    display.HTML = lambda data: types.SimpleNamespace(data=data)
    display.display = lambda html, display_id: handle
    package = types.ModuleType("IPython")
    package.get_ipython = type("ZMQInteractiveShell", (), {})
    package.display = display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    list(progress(Known(ticking(clock, [0.5, 0.25, 0.125], 1.0), 3), msg="<a>"))
    assert len(shown) == 4
    assert "&lt;a&gt; ┣████████████████████┫ [100.00%, 3/3, 00:02/00:02, 1.00i/s] 0.125" in shown[-1]


def test_a_message_is_made_of_the_last_item(clock, terminal):
    list(progress(ticking(clock, ["a", "b"], 1.0), msg=lambda item: f"seen {item}", stream=terminal))
    assert lines(terminal)[-1].endswith("] seen b")


def test_an_error_or_a_break_completes_the_line(terminal):
    def failing():
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        list(progress(failing(), stream=terminal))
    assert terminal.getvalue().endswith("\n")
    screen = Screen()
    next(progress(range(3), stream=screen))
    assert screen.getvalue().endswith("\n")  # forgotten at once


def test_it_goes_around_anything():
    assert list(progress({"a": 1}, stream=io.StringIO())) == ["a"]
    assert list(progress(zip("ab", "cd", strict=True), stream=io.StringIO())) == [("a", "c"), ("b", "d")]
    assert progress(iter([1.0, 2.0]), stream=io.StringIO()).run().tolist() == [1.0, 2.0]
    assert len(progress(range(7), stream=io.StringIO())) == 7
    with pytest.raises(fx.DTypeError, match="iterable, got int"):
        progress(3)
    with pytest.raises(fx.ArgumentError, match="steps"):
        progress([], steps=0)
    with pytest.raises(fx.ArgumentError, match="seconds"):
        progress([], seconds=-1)


def test_run_is_what_a_loop_is(terminal):
    model, dtrn, _ = iris()
    expected = list(progress(adam(model, repeat(dtrn, 5)), stream=io.StringIO()))
    model, dtrn, _ = iris()
    losses = progress(adam(model, repeat(dtrn, 5)), stream=terminal).run()
    np.testing.assert_array_equal(losses, np.float32(expected))
    last = lines(terminal)[-1]
    assert last.startswith("┣████████████████████┫ [100.00%, 35/35, ") and last.endswith(f" {expected[-1]:.4g}")
    model, dtrn, _ = iris()
    begun = progress(adam(model, repeat(dtrn, 5)), stream=io.StringIO())
    first = [next(begun) for _ in range(10)]
    np.testing.assert_array_equal([*first, *begun.run()], expected)


def test_a_failure_shows_how_far_it_came(terminal):
    w = Param(1.0)
    with pytest.raises(fx.FluxionError):
        progress(sgd(lambda x: (w - x) ** 2, [np.float32(0), np.float32(np.nan)]), stream=terminal).run()
    assert terminal.getvalue().endswith("\n")
    assert w[()] == pytest.approx(0.8)


# ------------------------------------------------------------------------------------------------------ batches


def test_minibatch_drops_the_short_batch_unless_told():
    x, y = np.arange(105 * 4.0).reshape(105, 4), np.arange(105)
    dtrn = minibatch(x, y, 10)
    assert len(dtrn) == 10 and all(xs.shape == (10, 4) and ys.shape == (10,) for xs, ys in dtrn)
    assert [len(batch[1]) for batch in minibatch(x, y, 10, partial=True)] == [10] * 10 + [5]
    assert len(next(iter(minibatch(y, 10)))) == 10


def test_minibatch_shuffles_anew_in_every_epoch():
    dtrn = minibatch(np.arange(30), 10, shuffle=True)
    first, second = (np.concatenate(list(dtrn)) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(30))
    assert list(first) != list(second) != list(range(30))
    assert list(np.concatenate(list(minibatch(np.arange(30), 10)))) == list(range(30))


def test_minibatch_converts():
    xs, ys = next(iter(minibatch(np.zeros((4, 2)), [1, 2, 0, 1], 2, xtype=np.float32, ytype=np.int8)))
    assert xs.dtype == np.float32 and ys.dtype == np.int8


def test_minibatch_refuses():
    with pytest.raises(fx.ArgumentError, match="size of a batch"):
        minibatch(np.zeros(3))
    with pytest.raises(fx.ShapeError):
        minibatch(np.zeros(3), np.zeros(4), 2)
    with pytest.raises(fx.DataError):
        minibatch(np.zeros(3), 4)
    with pytest.raises(fx.ArgumentError, match="ytype"):
        minibatch(np.zeros(3), 2, ytype=int)


def test_repeat_has_a_new_order_in_each_pass():
    dtrn = minibatch(np.arange(30), 10, shuffle=True, seed=0)
    passes = np.concatenate(list(repeat(dtrn, 3))).reshape(3, 30)
    assert len({tuple(p) for p in passes.tolist()}) == 3 and dtrn.epoch == 3
    assert len(list(itertools.islice(repeat(dtrn), 10))) == 10
    assert list(repeat([1, 2], 2)) == [1, 2, 1, 2]


# ----------------------------------------------------------------------------------------------------- converge


def knets_converge(values, alpha):
    """Knet's formula, written down once more."""
    mean, rise, out = np.inf, 0.0, []
    for x in values:
        mean = x if mean == np.inf else mean
        p = x - mean
        mean = alpha * x + (1 - alpha) * mean
        rise = alpha * p + (1 - alpha) * rise
        if rise > 0:
            break
        out.append(x)
    return out


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5, 1.0])
def test_converge_ends_where_knets_formula_ends(alpha):
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.05, 0.3):
        values = (np.exp(-np.arange(300) / 30) + np.arange(300) / 900 + noise * rng.normal(size=300)).tolist()
        assert list(converge(values, alpha=alpha)) == knets_converge(values, alpha)


def test_converge_runs_on_where_nothing_rises_and_stops_at_nan():
    assert len(list(converge([1.0] * 50))) == len(list(converge(range(50, 0, -1)))) == 50
    assert list(converge([2.0, 1.0, float("nan"), 0.0])) == [2.0, 1.0]
    over = converge([1.0, 2.0, 0.0])
    assert list(over) == [1.0] and next(over, None) is None
    with pytest.raises(fx.ArgumentError, match="alpha"):
        converge([], alpha=2)
