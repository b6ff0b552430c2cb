"""What training refuses, how it says so, and that model and optimizer are then those of the last completed step."""

import random
import re
import signal
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from training_help import assert_same, classes, cross, everything_model, in_batches, snapshot

import fluxion as fx
from fluxion.tree import load_state
from fluxion.tree.graph import Graph

X, Y = classes(24)


def mlp(*more):
    return fx.Chain(fx.Dense(4, 5, fx.relu), fx.Dense(5, 3), *more)


def refused(expected, match, batches=None, *, model=None, loss=cross, done=0, check=True):
    """Training raises `expected` after `done` steps, and leaves what these steps alone give; returns the message."""
    model = mlp() if model is None else model
    batches = in_batches(X, Y) if batches is None else batches
    start = fx.state(model)
    opt, again = fx.setup(fx.Adam(1e-2), model), fx.setup(fx.Adam(1e-2), model)
    opt.seed = again.seed = 7
    with pytest.raises(expected, match=match) as caught:
        fx.train(loss, model, batches, opt, check=check)
    got = snapshot(model, opt)
    load_state(model, start)
    fx.train(loss, model, batches[:done], again, check=check)
    assert got[1] == done
    assert_same(got, snapshot(model, again))
    return str(caught.value)


def spoiled(part, index, value, at):
    """The batches with one value replaced in batch number `at`."""
    batches = in_batches(X, Y)
    parts = [np.array(p, copy=True) for p in batches[at]]
    parts[part][index] = value
    batches[at] = tuple(parts)
    return batches


# ------------------------------------------------------------------------------------------- values in the batch


@pytest.mark.parametrize("at", [0, 2])
def test_nan_in_the_input_is_named(at):
    batches = spoiled(0, (3, 1), np.nan, at)
    message = refused(fx.DataError, rf"^batch\[0\] of step {at} holds nan at index \(3, 1\)", batches, done=at)
    assert "1 of its 32 values are not finite. Clean the data, or pass check=False." in message
    where = r"model\.layers\[0\] Dense\(4, 5, relu\), whose input was not finite already"
    refused(fx.NonFiniteError, where, batches, done=at, check=False)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize(("label", "shown"), [(3, "3"), (-1, "-1")])
def test_a_label_out_of_range_is_named(at, label, shown):
    message = rf"logitcrossentropy: label {shown} at index \(5,\) is outside \[0, 3\)"
    refused(fx.DataError, message, spoiled(1, 5, label, at), done=at)


def test_an_unchecked_label_out_of_range_is_still_not_learned():
    refused(fx.NonFiniteError, "the loss of step 1 is nan", spoiled(1, 5, 3, 1), done=1, check=False)


def test_labels_that_are_no_integers_are_refused():
    batches = [(x, y.astype(np.float32)) for x, y in in_batches(X, Y)]
    refused(fx.DTypeError, r"expected integer class labels of shape \(8,\), got float32", batches)


def test_text_is_refused():
    refused(fx.DTypeError, r"batch\[1\]: expected numbers, got an array of <U1", [(X[:8], np.array(list("abcdefgh")))])
    refused(fx.DTypeError, r"batch\[1\]: expected numbers, got str", [(X[:8], "label")])


def squares(m, x, y):
    return fx.mse(m(x), y)


@pytest.mark.parametrize("at", [0, 1])
def test_nan_in_a_target_is_named(at):
    batches = [(x, np.eye(3, dtype=np.float32)[y]) for x, y in in_batches(X, Y)]
    batches[at][1][2, 0] = np.nan
    refused(fx.DataError, rf"batch\[1\] of step {at} holds nan at index \(2, 0\)", batches, loss=squares, done=at)


def test_a_column_against_a_vector_is_refused():
    batches = [(x, y.astype(np.float32)) for x, y in in_batches(X, Y)]
    model = fx.Dense(4, 1)
    message = r"mse: expected a target of shape \(8, 1\), got \(8,\)\. Reshape one of them; losses never broadcast"
    refused(fx.ShapeError, message, batches, model=model, loss=squares)


def test_probabilities_and_logits_are_told_apart():
    refused(fx.DataError, "expected logits, got probabilities", model=mlp(fx.softmax))
    fx.train(cross, (model := mlp(fx.softmax)), in_batches(X, Y), fx.setup(fx.Adam(), model), check=False)

    def loss(m, x, y):
        return fx.crossentropy(m(x), y)

    refused(fx.DataError, r"crossentropy: prediction .* is outside \[0, 1\]. Apply softmax", loss=loss)
    binary = [(x, (y > 0)[:, None].astype(np.float32)) for x, y in in_batches(X, Y)]
    refused(
        fx.DataError,
        r"binarycrossentropy: prediction .* is outside \[0, 1\]. Apply sigmoid",
        binary,
        model=fx.Dense(4, 1),
        loss=lambda m, x, y: fx.binarycrossentropy(m(x), y),
    )


# ---------------------------------------------------------------------------------------------- the autopsy


def overflow(h):
    return jnp.exp(1e4 * abs(h))


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (lambda: fx.Chain(jnp.log, fx.Dense(4, 3)), r"model\.layers\[0\] log\."),
        (lambda: fx.Chain(fx.Dense(4, 5), fx.Chain(overflow, fx.Dense(5, 3))), r"model\.layers\[1\]\.layers\[0\] over"),
        (lambda: fx.Chain(fx.Dense(4, 5), fx.Dense(5, 3, overflow)), r"model\.layers\[1\] Dense\(5, 3, overflow\)\."),
        (lambda: fx.Chain(a=fx.Dense(4, 3), b=overflow), r"model\.layers\['b'\] overflow\."),
        (lambda: {"net": fx.Chain(fx.Dense(4, 3), overflow)}, r"model\['net'\]\.layers\[1\] overflow\."),
    ],
)  # fmt: skip
def test_the_first_layer_that_was_not_finite_is_named(model, place):
    model = model()
    message = refused(
        fx.NonFiniteError,
        "the loss of step 0 is .*; the step was not applied",
        model=model,
        loss=lambda m, x, y: fx.logitcrossentropy((m["net"] if isinstance(m, dict) else m)(x), y),
    )
    assert re.search("The first layer whose output is not finite is " + place, message), message


def test_a_layer_in_a_closure_is_named():
    def make():
        first, second = fx.Dense(4, 5), fx.Dense(5, 3, overflow)
        return lambda x: second(first(x))

    refused(fx.NonFiniteError, r"not finite is model\.second Dense\(5, 3, overflow\)", model=make())


def test_the_loss_itself_is_named():
    refused(
        fx.NonFiniteError,
        "Every layer's output is finite: it became so in the loss itself",
        loss=lambda m, x, y: jnp.log(-(m(x) ** 2).sum()),
    )


def test_a_gradient_that_is_not_finite_is_not_applied_and_names_its_parameters():
    model = mlp()
    model.layers[0].bias = jnp.zeros(5)
    message = refused(
        fx.NonFiniteError,
        r"the gradient of step 0 is not finite, although the loss is .*: it is in layers\[0\]\.bias\.",
        model=model,
        loss=lambda m, x, y: cross(m, x, y) + jnp.sqrt(m.layers[0].bias).sum(),
    )
    assert "derivative that is infinite" in message


def test_buffers_of_a_step_that_was_not_finite_are_not_applied():
    model = fx.Chain(fx.BatchNorm(4), fx.Dense(4, 3))
    refused(fx.NonFiniteError, "step 2", spoiled(0, (0, 0), np.inf, 2), model=model, done=2, check=False)


# ----------------------------------------------------------------------------------- exceptions from outside


def test_an_exception_of_the_data_iterator_leaves_the_steps_before():
    def data(batches, done):
        yield from batches[:done]
        raise OSError("disk gone")

    class Failing(list):
        def __iter__(self):
            return data(list.copy(self), 2)

    refused(OSError, "disk gone", Failing(in_batches(X, Y)), done=2)


def test_an_error_of_the_loss_for_a_later_shape_leaves_the_steps_before():
    batches = [*in_batches(X, Y)[:2], (X[:8, :3], Y[:8])]
    message = r"model\.layers\[0\] Dense\(4, 5, relu\): expected .*4.*, got .*\(8, 3\)"
    refused(fx.ShapeError, message, batches, done=2)


def test_an_error_of_the_users_code_passes_through_as_it_is():
    def loss(m, x, y):
        if len(x) == 4:
            raise KeyError("mine")
        return cross(m, x, y)

    refused(KeyError, "mine", in_batches(X[:20], Y[:20]), loss=loss, done=2)


def test_after_a_failure_everything_goes_on():
    model = everything_model()
    opt = fx.setup(fx.Adam(1e-2), model)
    with pytest.raises(fx.DataError):
        fx.train(cross, model, spoiled(1, 5, 3, 1), opt)
    assert opt.step == 1
    assert np.isfinite(fx.predict(model, X)).all()
    assert np.isfinite(model(X)).all()
    fx.train(cross, model, in_batches(X, Y), opt)
    assert opt.step == 4


# ------------------------------------------------------------------------------------------------- interrupts


class Injection:
    """Raises KeyboardInterrupt at one line, chosen by number, of those that Fluxion's own code runs."""

    def __init__(self, at=None):
        self.at = at
        self.count = 0

    def __enter__(self):
        sys.settrace(self.call)

    def __exit__(self, *_):
        sys.settrace(None)

    def call(self, frame, event, arg):
        return self.line if "/fluxion/" in frame.f_code.co_filename else None

    def line(self, frame, event, arg):
        if event == "line":
            self.count += 1
            if self.count == self.at:
                raise KeyboardInterrupt
        return self.line


def states_by_step(model, opt, batches):
    states = [snapshot(model, opt)]
    for batch in batches:
        fx.trainstep(cross, model, batch, opt)
        states.append(snapshot(model, opt))
    return states


@pytest.fixture(scope="module")
def interruptible():
    """A model, its optimizer, batches, what resets both, and the states after each number of steps."""
    fx.seed(0)
    model = everything_model()
    opt = fx.setup(fx.AdamW(1e-2), model)
    fx.freeze(opt, opt.paths[-1])
    opt.seed = 3
    batches = in_batches(X, Y)
    start, memory = fx.state(model), opt.snapshot()

    def reset():
        load_state(model, start)
        opt.restore(memory)

    states = states_by_step(model, opt, batches * 2)
    return model, opt, batches, reset, states


def lines_of(run, reset):
    """How many lines of Fluxion a warm call runs."""
    for _ in range(2):
        reset()
        with (counting := Injection()):
            run()
    return counting.count


def interrupted(run, point):
    """Run with an interrupt at a line; returns the exception, or None where it came in a callback that swallows it."""
    try:
        with Injection(point):
            run()
    except KeyboardInterrupt as error:
        return error
    return None


@pytest.mark.parametrize(("as_data", "points"), [(iter, 90), (list, 40)], ids=["step by step", "in a loop"])
def test_an_interrupt_at_any_line_of_train_leaves_a_whole_step(interruptible, as_data, points):
    model, opt, batches, reset, states = interruptible

    def run():
        fx.train(cross, model, as_data(batches), opt)

    count = lines_of(run, reset)
    assert_same(snapshot(model, opt), states[3])
    steps_seen, raised = set(), 0
    for point in random.Random(0).sample(range(1, count), points):
        reset()
        raised += interrupted(run, point) is not None
        assert_same(snapshot(model, opt), states[opt.step])
        steps_seen.add(opt.step)
    assert steps_seen >= ({0, 1, 2, 3} if as_data is iter else {0, 3})
    assert raised > 0.8 * points


def test_an_interrupt_at_any_line_of_fit_leaves_a_whole_step(interruptible):
    model, opt, batches, reset, states = interruptible

    class Every(fx.Callback):
        def on_step_end(self, context):
            assert_same(snapshot(context.model, context.opt), states[context.step])

    for callbacks, points in (((), 50), ([Every()], 20)):

        def run():
            fx.fit(model, batches, loss=cross, optimizer=opt, epochs=2, callbacks=callbacks, progress=False)

        count = lines_of(run, reset)
        assert_same(snapshot(model, opt), states[6])
        for point in random.Random(1).sample(range(1, count), points):
            reset()
            error = interrupted(run, point)
            assert_same(snapshot(model, opt), states[opt.step])
            assert len(getattr(error, "history", ())) <= 2


# Where the collector of garbage swallows the interrupt, Python only warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_by_signal_leave_a_whole_step(interruptible):
    model, opt, batches, reset, states = interruptible

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    choose = random.Random(2)
    hit = 0
    try:
        for _ in range(60):
            reset()
            try:
                signal.setitimer(signal.ITIMER_REAL, choose.uniform(1e-4, 6e-3))
                fx.train(cross, model, batches * 2, opt)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                hit += 1
            assert_same(snapshot(model, opt), states[opt.step])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hit


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal: a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_waits_until_the_model_is_whole(interruptible, ctrl_c, monkeypatch):
    model, opt, batches, reset, states = interruptible
    reset()

    def data():
        yield from batches
        signal.raise_signal(signal.SIGINT)

    assign = Graph.assign

    def interrupted_assign(graph, leaves):
        signal.raise_signal(signal.SIGINT)
        assign(graph, leaves)

    monkeypatch.setattr(Graph, "assign", interrupted_assign)
    with pytest.raises(KeyboardInterrupt):
        fx.train(cross, model, data(), opt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same(snapshot(model, opt), states[3])


def test_training_in_a_thread_works(interruptible):
    model, opt, batches, reset, states = interruptible
    reset()
    failures = []

    def work():
        try:
            with pytest.raises(fx.DataError):
                fx.train(cross, model, [*batches, (X[:8], Y[:8] + 5)], opt)
        except BaseException as error:  # shown by the test, for a thread has nobody to tell
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures
    assert_same(snapshot(model, opt), states[3])


# -------------------------------------------------------------------------------------------- wrong arguments


def test_wrong_arguments_are_explained():
    model = mlp()
    opt = fx.setup(fx.Adam(), model)
    batches = in_batches(X, Y)
    with pytest.raises(fx.ArgumentError, match=r"expected an optimizer, got Adam\(0.001\). Call opt = fx.setup"):
        fx.train(cross, model, batches, fx.Adam())
    with pytest.raises(fx.ArgumentError, match="a tuple of 2 arrays, the parts of one batch"):
        fx.train(cross, model, (X, Y), opt)
    with pytest.raises(fx.ArgumentError, match="expected an iterable of batches, got dict"):
        fx.train(cross, model, {"x": X}, opt)
    with pytest.raises(fx.ArgumentError, match="expected a loss function"):
        fx.train(model.layers, cross, batches, opt)
    with pytest.raises(fx.StateError, match=r"layers\[0\].weight was float32\(4, 5\) and is float32\(4, 6\)"):
        fx.train(cross, fx.Chain(fx.Dense(4, 6), fx.Dense(6, 3)), batches, opt)
    with pytest.raises(fx.StateError, match=r"layers\[1\].weight is gone"):
        fx.train(cross, fx.Chain(fx.Dense(4, 5)), batches, opt)
    with pytest.raises(fx.ShapeError, match=r"expected the function to return a scalar, got shape \(8, 3\)"):
        fx.train(lambda m, x, y: m(x), model, batches, opt)
    with pytest.raises(fx.ShapeError, match="rows of several lengths"):
        fx.train(cross, model, [([[1, 2, 3, 4], [1, 2]], [0, 1])], opt)
    assert opt.step == 0
