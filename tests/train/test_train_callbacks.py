"""When training stops, slows, and what is remembered."""

import json
import math
import threading

import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.train import throttle as throttle_file
from fluxion.train.callbacks import Callbacks

NAN, INF = math.nan, math.inf


def run(callback, scores, name="validation_loss", *, model=None, opt=None, epochs=None, context=None, end=True):
    """What fit does, with given scores in the place of training; returns the context."""
    if context is None:
        context = fx.FitContext(model=model, opt=opt, epochs=epochs or len(scores))
        callback.on_fit_begin(context)
    for score in scores:
        context.epoch += 1
        callback.on_epoch_begin(context)
        if model is not None:
            model["w"] = jnp.array([float(context.epoch)])
        context.logs = {"epoch": context.epoch, "loss": 0.5, name: score}
        context.history.append(context.logs)
        callback.on_epoch_end(context)
        if context.stopping:
            break
    if end:
        callback.on_fit_end(context)
    return context


@pytest.mark.parametrize(
    ("scores", "stops_after"),
    [
        ([3, 2, 1, 0], None),
        ([1, 1, 1, 1, 1], 3),  # flat is no improvement
        ([1, NAN, NAN, 0], 3),
        ([NAN, NAN, NAN], 2),  # never anything but NaN
        ([NAN, 1, 0.5, 0.4], None),
        ([1, 2, 0.5, 2, 0.6], 5),
        ([INF, INF, INF], 3),
        ([INF, 5, 4], None),
    ],
)
def test_early_stopping(scores, stops_after):
    context = run(fx.EarlyStopping(patience=2), scores)
    assert (context.epoch if context.stopping else None) == stops_after
    upward = run(fx.EarlyStopping("auc", patience=2, mode="max"), [-s for s in scores], "auc")
    assert (upward.epoch if upward.stopping else None) == stops_after


def test_min_delta_is_what_a_gain_must_exceed():
    assert run(fx.EarlyStopping(patience=1, min_delta=0.5), [2.0, 1.5]).stopping
    assert not run(fx.EarlyStopping(patience=1, min_delta=0.5), [2.0, 1.25]).stopping


def test_the_reason_names_value_and_epoch():
    context = run(fx.EarlyStopping(patience=1), [0.25, 0.5])
    assert context.stop_reason == "EarlyStopping: no better validation_loss since epoch 1 (0.25)"
    assert run(fx.EarlyStopping(patience=1), [NAN]).stop_reason == "EarlyStopping: no better validation_loss ever"
    context.stop("later")
    assert "later" not in context.stop_reason


@pytest.mark.parametrize("scores", [[3, 1, 2, 2], [3, 1, 2]])  # stopped early, and run to the end
def test_restore_best(scores):
    model = {"w": jnp.zeros(1)}
    run(fx.EarlyStopping(patience=2, restore_best=True), scores, model=model)
    assert model["w"].tolist() == [2.0]
    run(fx.EarlyStopping(patience=2), scores, model=model)
    assert model["w"].tolist() == [len(scores)]


def test_restored_arrays_outlive_donation():
    """A compiled step gives its input's memory away; what was kept must not be that memory."""
    model, stopping = {"w": jnp.zeros(1)}, fx.EarlyStopping(patience=1, restore_best=True)
    run(stopping, [1], model=model, end=False)
    model["w"].delete()
    model["w"] = jnp.zeros(1)
    for _ in range(2):  # nor may the restored array be the kept one
        stopping.on_fit_end(fx.FitContext(model, None, epoch=2))
        assert model["w"].tolist() == [1.0]
        model["w"].delete()
        model["w"] = jnp.zeros(1)


def test_a_new_run_starts_anew():
    stopping = fx.EarlyStopping(patience=2)
    assert run(stopping, [0, 1, 1]).epoch == 3
    assert not run(stopping, [9, 8]).stopping
    assert stopping.best == 8


def test_reduce_on_plateau_has_the_rates_of_torch():
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    rng = np.random.default_rng(0)
    scores = [*rng.normal(size=20).tolist(), NAN, *[-9.0] * 6, 3.0]
    theirs = torch.optim.SGD([torch.zeros(1)], lr=0.8)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, factor=0.5, patience=2, threshold=0.1, threshold_mode="abs", min_lr=0.01, eps=0
    )
    opt = fx.setup(fx.Descent(0.8), [jnp.zeros(1)])
    ours = fx.ReduceOnPlateau(patience=3, factor=0.5, min_delta=0.1, min_learning_rate=0.01)
    context = fx.FitContext(None, opt)
    ours.on_fit_begin(context)
    for score in scores:
        run(ours, [score], context=context, end=False)
        scheduler.step(score)
        assert opt.learning_rate == pytest.approx(theirs.param_groups[0]["lr"])
    assert opt.learning_rate < 0.2


def test_reduce_on_plateau_refuses_what_it_cannot_change():
    model = [jnp.zeros(1), jnp.zeros(1)]
    scheduled = fx.setup(fx.Descent(lambda step: 0.1), model)
    with pytest.raises(fx.StateError, match="one learning rate, a number, got a schedule"):
        fx.ReduceOnPlateau().on_fit_begin(fx.FitContext(model, scheduled))
    grouped = fx.setup({"[0]": fx.Descent(0.1), "**": fx.Descent(0.2)}, model)
    with pytest.raises(fx.StateError, match=r"got \{'\[0\]': 0.1, '\*\*': 0.2\}"):
        fx.ReduceOnPlateau().on_fit_begin(fx.FitContext(model, grouped))


@pytest.mark.parametrize("make", [fx.EarlyStopping, fx.ReduceOnPlateau])
def test_monitors_refuse(make):
    with pytest.raises(fx.ArgumentError, match=r"'epoch', 'loss'.*'validation_loss'.*Give fit validation data"):
        run(make(), [0.5], "accuracy", opt=fx.setup(fx.Descent(0.1), [jnp.zeros(1)]))
    with pytest.raises(fx.ArgumentError, match="Did you mean 'accuracy'"):
        run(make("acuracy", mode="max"), [0.5], "accuracy", opt=fx.setup(fx.Descent(0.1), [jnp.zeros(1)]))
    with pytest.raises(fx.ArgumentError, match=f"{make.__name__}: expected mode=.*for 'validation_accuracy', got None"):
        make("validation_accuracy")
    for options in ({"patience": 0}, {"patience": 1.5}, {"min_delta": -1.0}, {"min_delta": NAN}, {"mode": "best"}):
        with pytest.raises(fx.ArgumentError, match=f"{make.__name__}: expected {next(iter(options))}"):
            make(**options)


def test_reduce_refuses_factors():
    for factor in (0.0, 1.0, -1, NAN, "half"):
        with pytest.raises(fx.ArgumentError, match="factor"):
            fx.ReduceOnPlateau(factor=factor)


def test_an_epoch_without_validation_does_not_count():
    stopping = fx.EarlyStopping(patience=1)
    context = run(stopping, [1.0], end=False, epochs=5)
    context.logs = {"epoch": 2, "loss": 0.5}
    context.epoch = 2
    stopping.on_epoch_end(context)
    assert not context.stopping


@pytest.mark.parametrize("cut", range(7))
def test_resume_is_exact(cut):
    scores = [3, 2, NAN, 2, 1, 1, 1]

    def make():
        return Callbacks([fx.EarlyStopping(patience=3, restore_best=True), fx.ReduceOnPlateau(patience=2), print_it])

    def print_it(context):
        pass

    def start(step_model):
        return step_model, fx.setup(fx.Descent(0.8), step_model)

    whole_model, whole_opt = start({"w": jnp.zeros(1)})
    whole = make()
    run(whole, scores, model=whole_model, opt=whole_opt)

    model, opt = start({"w": jnp.zeros(1)})
    first = make()
    context = run(first, scores[:cut], model=model, opt=opt, end=False)
    kept = json.loads(json.dumps(first.state(), allow_nan=False))
    arrays = {name: np.asarray(array) for name, array in first.arrays().items()}
    second = make()
    resumed = fx.FitContext(model, opt, epoch=context.epoch, epochs=7, history=fx.History(context.history.rows))
    second.on_fit_begin(resumed)
    second.load_state(kept)
    second.load_arrays(arrays)
    run(second, scores[cut:], model=model, context=resumed)
    assert second.state() == whole.state()
    assert opt.learning_rate == whole_opt.learning_rate
    assert model["w"].tolist() == whole_model["w"].tolist() == [5.0]


def test_state_of_other_callbacks_is_refused():
    saved = Callbacks([fx.EarlyStopping(), print]).state()
    with pytest.raises(fx.StateError, match=r"\[EarlyStopping, function\], got \[function, EarlyStopping\]"):
        Callbacks([print, fx.EarlyStopping()]).load_state(saved)


def test_callbacks_are_called_in_order_and_functions_at_the_end_of_epochs():
    seen = []

    class Spy(fx.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                seen.append(name)
            return super().__getattribute__(name)

    context = fx.FitContext(None, None)
    both = Callbacks([Spy(), lambda c: seen.append("function")])
    moments = ["fit_begin", "epoch_begin", "step_begin", "step_end", "epoch_end", "fit_end", "exception"]
    for moment in moments:
        getattr(both, f"on_{moment}")(context)
    assert [name for name in seen if name != "function"] == [f"on_{moment}" for moment in moments]
    assert seen.index("function") == seen.index("on_epoch_end") + 1 and seen.count("function") == 1


def test_every_step_only_if_wanted():
    class Steps(fx.Callback):
        def on_step_end(self, context):
            pass

    class Inherits(Steps):
        pass

    assert Inherits().every_step and Callbacks([fx.EarlyStopping(), Steps()]).every_step
    assert not Callbacks([fx.EarlyStopping(), fx.CSVLogger("a"), print]).every_step
    assert not Callbacks().every_step


def test_a_failing_on_exception_does_not_silence_the_others():
    seen = []

    class Fails(fx.Callback):
        def on_exception(self, context):
            seen.append("fails")
            raise OSError("disk")

    class Cleans(fx.Callback):
        def on_exception(self, context):
            seen.append(context.error)

    error = ValueError("first")
    with pytest.raises(OSError, match="disk"):
        Callbacks([Fails(), Cleans()]).on_exception(fx.FitContext(None, None, error=error))
    assert seen == ["fails", error]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([fx.EarlyStopping], r"got the class EarlyStopping. Write EarlyStopping\(\)"),
        ([3], "a Callback or a function of the context, got 3"),
        (fx.EarlyStopping(), "expected a list of callbacks"),
        (print, "expected a list of callbacks"),
    ],
)
def test_callbacks_refuse(given, message):
    with pytest.raises(fx.ArgumentError, match=message):
        Callbacks(given)


# CSVLogger


def test_csv_logger_keeps_every_finished_epoch(tmp_path):
    path = tmp_path / "log.csv"
    logger = fx.CSVLogger(path)
    context = fx.FitContext(None, None)
    logger.on_fit_begin(context)
    assert len(fx.History.from_csv(path)) == 0
    run(logger, [0.1, 1 / 3], context=context)
    assert fx.History.from_csv(path).rows == context.history.rows
    run(logger, [0.3], "auc", context=context)  # a column more
    assert fx.History.from_csv(path).names == ["epoch", "loss", "validation_loss", "auc"]
    assert fx.History.from_csv(path).rows == context.history.rows


def test_csv_logger_mends_a_torn_line_and_drops_rows_after_the_checkpoint(tmp_path):
    path = tmp_path / "log.csv"
    context = run(fx.CSVLogger(path), [0.1, 0.2, 0.3])
    path.write_bytes(path.read_bytes() + b"4,0.")
    resumed = fx.FitContext(None, None, epoch=2, history=fx.History(context.history.rows[:2]))
    logger = fx.CSVLogger(path)
    logger.on_fit_begin(resumed)
    run(logger, [0.9], context=resumed)
    assert fx.History.from_csv(path)["validation_loss"] == [0.1, 0.2, 0.9]


def test_csv_logger_fails_before_training(tmp_path):
    with pytest.raises(FileNotFoundError, match="existing folder"):
        fx.CSVLogger(tmp_path / "no" / "log.csv").on_fit_begin(fx.FitContext(None, None))


# throttle, patience


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(throttle_file, "time", clock)
    return clock


def test_throttle_lets_the_first_call_through(clock):
    calls = []
    slow = fx.throttle(lambda x: calls.append(x) or len(calls), 10)
    assert [slow(1), slow(2)] == [1, 1]
    clock.now += 9.9
    assert slow(3) == 1
    clock.now += 0.1
    assert slow(4) == 2
    assert calls == [1, 4]


def test_throttle_makes_up_for_the_last_call():
    for leading in (True, False):
        done, calls = threading.Event(), []

        def f(x, calls=calls, done=done):
            calls.append(x)
            if x == 3:
                done.set()

        slow = fx.throttle(f, 0.2, leading=leading, trailing=True)
        for x in (1, 2, 3):
            slow(x)
        assert calls == [1] * leading
        assert done.wait(30)
        assert calls == [1] * leading + [3]


def test_throttle_refuses():
    with pytest.raises(fx.ArgumentError, match="nothing would be called"):
        fx.throttle(print, 1, leading=False)
    with pytest.raises(fx.ArgumentError, match="seconds to be a finite number, 0 or greater, got -1"):
        fx.throttle(print, -1)


def test_patience_counts_in_a_row():
    trigger = fx.patience(lambda x: x, 3)
    assert [trigger(x) for x in (1, 1, 0, 1, 1, 1, 1, 0)] == [False] * 5 + [True, True, False]
    with pytest.raises(fx.ArgumentError, match="patience: expected wait to be a whole number"):
        fx.patience(print, 0)
