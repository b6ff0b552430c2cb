"""Recurrent cells and layers: torch's numbers, masks, states, any cell in a loop, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.transform.sizes import autosize, outputsize
from fluxion.tree.layer import observing
from fluxion.tree.model import set_trainables, state, trainables, with_trainables
from fluxion.tree.walk import scan

randomized = functools.partial(
    settings, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
KINDS = ["RNN", "relu", "LSTM", "GRU"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def ours_of(kind, *sizes, **options):
    """A layer or cell, by torch's name of it; `relu` is an RNN with that activation."""
    if kind.startswith("relu"):
        return getattr(fx, kind.replace("relu", "RNN"))(*sizes, fx.relu, **options)
    return getattr(fx, kind)(*sizes, **options)


def theirs_of(kind, *sizes, **options):
    import torch

    if kind.startswith("relu"):
        options, kind = {"nonlinearity": "relu", **options}, kind.replace("relu", "RNN")
    return getattr(torch.nn, kind)(*sizes, dtype=torch.float64, **options)


def arrays_of_cell(kind, weight, recurrent_weight, bias=None, other=None):
    """The arrays of a cell of ours from those of torch's, in the order of `trainables`."""
    arrays = [weight.T, recurrent_weight.T]
    if bias is not None and kind.startswith("GRU"):
        out = len(bias) // 3
        both = jnp.concatenate([other[: 2 * out], jnp.zeros(out)])
        arrays += [bias + both, other[2 * out :]]
    elif bias is not None:
        arrays.append(bias + other)
    return arrays


def tracers_in(model):
    return [leaf for leaf in scan(model).leaves if isinstance(leaf, jax.core.Tracer)]


# torch's numbers


@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_torchs(kind, x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    cell, theirs = ours_of(kind + "Cell", 3, 2), theirs_of(kind + "Cell", 3, 2)
    names = [name for name, _ in theirs.named_parameters()]
    states = 2 if kind == "LSTM" else 1

    def ours(x, *rest):
        start, parameters = rest[:states], rest[states:]
        m = with_trainables(cell, arrays_of_cell(kind, *parameters))
        _, end = m(x, start if kind == "LSTM" else start[0])
        _, again = m(x)  # from zeros
        return jax.tree.leaves((end, again))

    def reference(x, *rest):
        start, parameters = rest[:states], dict(zip(names, rest[states:], strict=True))
        call = functools.partial(torch.func.functional_call, theirs, parameters)
        ends = call((x, start if kind == "LSTM" else start[0])), call((x,))
        return [part for end in ends for part in (end if kind == "LSTM" else [end])]

    given_state = [normal(4, 2, seed=i) for i in range(states)]
    same_as_torch(ours, reference, normal(4, 3), *given_state, *(p.detach().numpy() for p in theirs.parameters()))


@randomized(max_examples=4)
@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_sequences_are_torchs(x64, kind, sizes, num_layers, bidirectional, bias, ragged, given_state):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    batch, time, inputs, out = sizes
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    layer = ours_of(kind, inputs, out, return_state=True, **options)
    theirs = theirs_of(kind, inputs, out, batch_first=True, **options)
    names = [name for name, _ in theirs.named_parameters()]
    cells = num_layers * (1 + bidirectional)
    per_cell = 4 if bias else 2
    lengths = np.random.default_rng(0).integers(1, time + 1, batch) if ragged else None
    states = (2 if kind == "LSTM" else 1) * given_state

    def ours(x, *rest):
        start, parameters = rest[:states], rest[states:]
        groups = [parameters[i : i + per_cell] for i in range(0, len(parameters), per_cell)]
        m = with_trainables(layer, [a for group in groups for a in arrays_of_cell(kind, *group)])
        start = [tuple(s[i] for s in start) if kind == "LSTM" else start[0][i] for i in range(cells)] if start else []
        y, end = m(x, (tuple(start) if cells > 1 else start[0]) if start else None, lengths=lengths)
        ends = jax.tree.leaves(end)
        parts = [jnp.stack(ends[0::2]), jnp.stack(ends[1::2])] if kind == "LSTM" else [jnp.stack(ends)]
        return [y, *parts]

    def reference(x, *rest):
        start, parameters = rest[:states], dict(zip(names, rest[states:], strict=True))
        start = None if not start else start if kind == "LSTM" else start[0]
        if ragged:
            x = torch.nn.utils.rnn.pack_padded_sequence(
                x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
            )
        y, end = torch.func.functional_call(theirs, parameters, (x, start))
        if ragged:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=time)
        return [y, *(end if kind == "LSTM" else [end])]

    given_arrays = [normal(cells, batch, out, seed=i) for i in range(states)]
    parameters = [p.detach().numpy() for p in theirs.parameters()]
    same_as_torch(ours, reference, normal(batch, time, inputs), *given_arrays, *parameters)


def test_gru_as_it_first_was(x64):
    """The forms of GRU that torch has not: `reset_after=False` (Cho et al. 2014); Flux's, without the second bias."""
    x, h = normal(4, 3), normal(4, 2, seed=1)

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    for reset_after in (True, False):
        cell = fx.GRUCell(3, 2, reset_after=reset_after)
        arrays = [normal(*a.shape, seed=i) for i, a in enumerate(trainables(cell))]
        assert len(arrays) == 3 + reset_after
        if reset_after:
            arrays[3] *= 0
        set_trainables(cell, arrays)
        (wr, wz, wn), (ur, uz, un), (br, bz, bn) = (np.split(a, 3, -1) for a in arrays[:3])
        r, z = sigmoid(x @ wr + h @ ur + br), sigmoid(x @ wz + h @ uz + bz)
        n = np.tanh(x @ wn + (r * (h @ un) if reset_after else (r * h) @ un) + bn)
        out, _ = cell(x, h)
        np.testing.assert_allclose(out, (1 - z) * n + z * h, rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fx.GRU(2, 2),
        lambda: fx.LSTM(2, 2, bidirectional=True),
        lambda: fx.RNN(2, 2, fx.Scale(2, activation=fx.tanh)),
    ],
)
def test_second_derivatives(make, x64):
    """Reverse over reverse and forward over reverse, beside differences of the gradient."""
    layer = make()
    lengths = np.array([3, 1])

    def f(parameters):
        return with_trainables(layer, parameters)(normal(2, 3, 2), lengths=lengths).sum()

    @jax.jit
    def derivatives(at, way):
        def slope(at):
            return sum(jnp.vdot(g, v) for g, v in zip(jax.grad(f)(at), way, strict=True))

        return jax.grad(f)(at), jax.grad(slope)(at), jax.jvp(jax.grad(f), (at,), (way,))[1]

    at = trainables(layer)
    way = [normal(*a.shape, seed=i) for i, a in enumerate(at)]
    _, reverse, forward = derivatives(at, way)
    ahead, behind = (derivatives([a + h * v for a, v in zip(at, way, strict=True)], way)[0] for h in (1e-5, -1e-5))
    for i in range(len(at)):
        np.testing.assert_allclose(reverse[i], (ahead[i] - behind[i]) / 2e-5, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(forward[i], reverse[i], rtol=1e-10, atol=1e-12)


def test_gates_start_as_in_flux():
    sizes = []

    def init(*size):
        sizes.append(size)
        return np.zeros(size, np.float32)

    cell = fx.LSTMCell(30, 20, recurrent_init=init)
    limit = (6 / (30 + 80)) ** 0.5
    assert 0.95 * limit < float(abs(cell.weight).max()) <= limit
    assert cell.bias.shape == (80,) and not cell.bias.any()
    assert sizes == [(20, 80)]


# States, masks, lengths


def test_a_sequence_in_two_parts_is_the_sequence(x64):
    for layer in (fx.LSTM(3, 2, return_state=True), fx.RNN(3, 2, num_layers=2, return_state=True)):
        for x in (normal(4, 5, 3), normal(5, 3)):
            whole, end = layer(x)
            first, between = layer(x[..., :2, :])
            second, last = layer(x[..., 2:, :], between)
            np.testing.assert_allclose(jnp.concatenate([first, second], -2), whole, rtol=1e-12)
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), last, end)
            again, _ = layer(x, layer.initial_state(x.shape[:-2]))
            np.testing.assert_array_equal(again, whole)


@pytest.mark.parametrize("make", [lambda: fx.LSTM(3, 2), lambda: fx.Recurrence(fx.LSTMCell(3, 2))])
def test_masked_steps_are_as_if_they_were_not_there(make, x64):
    layer, x = make(), normal(3, 5, 3)
    layer.return_state = True
    mask = np.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]], bool)
    out, (h, c) = layer(x, mask=mask)
    assert not out[~mask].any()
    for i in range(3):
        if mask[i].any():
            alone, (last, cell) = layer(x[i, mask[i]])
            np.testing.assert_allclose(out[i, mask[i]], alone, rtol=1e-12)
            np.testing.assert_allclose(h[i], last, rtol=1e-12)
            np.testing.assert_allclose(c[i], cell, rtol=1e-12)
    assert not h[1].any()

    def loss(m, x):
        out, state = m(x, mask=mask)
        return (out**2).sum() + (state[1] ** 2).sum()

    spoiled = np.where(mask[..., None], x, np.nan)
    clean, dirty = (fx.gradient(loss, layer, x) for x in (x, spoiled))
    for a, b in zip([*trainables(clean[0]), clean[1]], [*trainables(dirty[0]), dirty[1]], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not clean[1][~mask].any()
    one, _ = jax.vmap(lambda x, mask: layer(x, mask=mask))(x, mask)  # single sequences
    np.testing.assert_allclose(one, out, rtol=1e-12)


def test_lengths_under_a_trace():
    layer = fx.RNN(2, 3, return_state=True)
    x = fx.ones(4, 3, 2)
    out, end = jax.jit(lambda n: layer(x, lengths=n))(jnp.array([0, 4, 2, -1]))
    assert np.isnan(out).all((1, 2)).tolist() == np.isnan(end).all(1).tolist() == [False, True, False, True]
    assert not out[0].any() and not out[2, 2:].any() and (out[2, :2] == layer(x)[0][2, :2]).all()


def test_no_steps_at_all():
    for layer in (fx.LSTM(3, 2, bidirectional=True), fx.Recurrence(fx.LSTMCell(3, 2))):
        layer.return_state = True
        start = jax.tree.map(lambda a: a + 1, layer.initial_state(4))
        out, end = layer(jnp.zeros((4, 0, 3)), start)
        assert out.shape[:2] == (4, 0)
        assert jax.tree.map(lambda a, b: bool((a == b).all()), start, end) == jax.tree.map(lambda _: True, start)


def test_dropout_between_layers_in_training_only():
    layer = fx.RNN(3, 64, num_layers=2, dropout=0.5)
    x = fx.randn(2, 4, 3)
    quiet = layer(x)
    np.testing.assert_array_equal(layer(x), quiet)
    fx.trainmode(layer)

    def run(seed):
        with fx.randomness(jax.random.key(seed)):
            return layer(x)

    loud = run(0)
    assert loud.all() and not np.allclose(loud, quiet)
    np.testing.assert_array_equal(run(0), loud)
    assert not np.allclose(run(1), loud)


def test_eager_calls_compile_once():
    class Counting:  # with `__del__`, it is no part of a model: it may count
        traces = 0

        def __call__(self, x):
            self.traces += 1
            return jnp.tanh(x)

        def __del__(self):
            pass

    layer = fx.RNN(2, 3, Counting())
    x = fx.ones(4, 5, 2)
    layer(x)
    fx.gradient(lambda m: m(x).sum(), layer)
    before = layer.cells[0].activation.traces
    for _ in range(3):
        layer(x + 1)
        fx.gradient(lambda m: m(x + 1).sum(), layer)
    assert layer.cells[0].activation.traces == before


# Any cell


def test_recurrence_of_a_cell_is_the_layer(x64):
    layer = fx.LSTM(3, 2)
    repeated = fx.Recurrence(layer.cells[0])
    for x in (normal(4, 5, 3), normal(5, 3)):
        np.testing.assert_allclose(repeated(x), layer(x), rtol=1e-12)
    gradient = fx.gradient(lambda m: (m(normal(4, 5, 3)) ** 2).sum(), repeated)[0]
    expected = fx.gradient(lambda m: (m(normal(4, 5, 3)) ** 2).sum(), layer)[0]
    np.testing.assert_allclose(gradient.cell.recurrent_weight, expected.cells[0].recurrent_weight, rtol=1e-12)


def test_recurrence_of_a_function():
    """Without `initial_state` the cell makes its first state; outputs and states may be trees."""
    gain = fx.Param(2.0)

    def cell(x, state):
        total = x if state is None else state["total"] + x
        return {"twice": gain * total, "both": (total, -total)}, {"total": total}

    layer = fx.Recurrence(cell, return_state=True)
    x = jnp.arange(12.0).reshape(2, 3, 2)
    out, end = layer(x)
    np.testing.assert_allclose(out["twice"], 2 * np.cumsum(x, 1))
    np.testing.assert_allclose(out["both"][1], -np.cumsum(x, 1))
    np.testing.assert_allclose(end["total"], x.sum(1))
    more, _ = layer(x, {"total": np.zeros((2, 2), int)})  # takes the dtype that a step returns
    np.testing.assert_allclose(more["twice"], out["twice"])
    g = fx.gradient(lambda: layer(x)[0]["twice"].sum(), fx.params(gain))
    np.testing.assert_allclose(g[gain], np.cumsum(x, 1).sum())
    pictures = fx.Recurrence(lambda x, s: (x.mean((1, 2)), s))(fx.ones(2, 3, 4, 5, 1), jnp.zeros(2))
    assert pictures.shape == (2, 3, 1)


class Noisy(fx.Layer):
    """A cell with dropout, statistics and a counter of its own."""

    buffers = ("steps",)

    def __init__(self):
        self.drop, self.norm, self.steps = fx.Dropout(0.5), fx.BatchNorm(2), jnp.zeros((), jnp.int32)

    def initial_state(self, batch_shape):
        return jnp.zeros((*batch_shape, 2))

    def __call__(self, x, state):
        self.steps = self.steps + 1
        state = state + self.norm(x)
        return self.drop(jnp.ones_like(x)), state


def test_random_numbers_and_statistics_of_a_cell():
    x = fx.randn(64, 5, 2) * 3 + 1
    looped = fx.trainmode(Noisy())
    total = looped.initial_state((64,))
    for t in range(5):
        _, total = looped(x[:, t], total)

    def run(how, seed=0):
        layer = fx.Recurrence(Noisy(), return_state=True)
        with fx.randomness(jax.random.key(seed)):
            if how == "gradient":
                drop, end = fx.withgradient(lambda m: ((result := m(x))[0].sum() * 0, *result), layer).value[1:]
            elif how == "observed":  # how a failed step is looked into: the same numbers, layer by layer
                seen = []
                with observing(lambda part, _, out: seen.append(part)):
                    drop, end = fx.trainmode(layer)(x)
                assert layer.cell.norm in seen and seen[-1] is layer
            else:
                drop, end = (fx.jit(fx.trainmode(layer)) if how == "jit" else fx.trainmode(layer))(x)
        assert not tracers_in(layer)
        assert layer.cell.steps == 5
        np.testing.assert_allclose(layer.cell.norm.mean, looped.norm.mean, rtol=1e-5)
        np.testing.assert_allclose(layer.cell.norm.var, looped.norm.var, rtol=1e-5)
        np.testing.assert_allclose(end, total, atol=1e-4)
        return drop

    drop = run("eager")
    steps = np.asarray(drop).swapaxes(0, 1)
    assert all(0.3 < (a != b).mean() < 0.7 for i, a in enumerate(steps) for b in steps[:i])
    for how in ("gradient", "observed"):
        np.testing.assert_array_equal(run(how), drop)
    run("jit")
    assert (run("eager", seed=1) != drop).any()


def test_recurrence_refuses():
    class Changing(fx.Layer):
        def __init__(self, how):
            self.how, self.kept = how, jnp.zeros(2)

        def __call__(self, x, state):
            if self.how == "new":
                self.last = x
            elif self.how == "count":
                self.how = self.how + "!"
            elif self.how == "shape":
                self.kept = x
            elif self.how == "state":
                return x, (state, state)
            elif self.how == "dtype":
                return x, state.astype({"float32": "float16", "float16": "bfloat16"}.get(state.dtype.name, "float32"))
            elif self.how == "one":
                return x
            elif self.how == "object":
                return x, object()
            elif self.how == "mask":
                self.kept = self.kept + 1
            return x, state

    x, start = fx.ones(3, 4, 2), jnp.zeros((3, 2))
    for how, error, match in [
        ("new", fx.StateError, "the cell assigned to last, which held no array before"),
        ("count", fx.StateError, "the cell assigned to how, which"),
        ("shape", fx.ShapeError, r"to keep kept float32\(2,\), got float32\(3, 2\)"),
        ("state", fx.ShapeError, r"of shapes \(3, 2\), got \(\(3, 2\), \(3, 2\)\)"),
        ("dtype", fx.DTypeError, "a state of the dtypes it is given"),
        ("one", fx.DTypeError, r"the pair \(output, state\), got a \w+\."),
        ("object", fx.DTypeError, "a state of arrays in tuples, lists or dicts, got a object"),
        ("mask", fx.StateError, "kept changes at every step, at the masked ones too"),
    ]:
        layer = fx.Recurrence(Changing(how))
        options = {"mask": jnp.ones((3, 4), bool)} if how == "mask" else {}
        with pytest.raises(error, match=match) as caught:
            layer(x, start, **options)
        assert str(caught.value).startswith("model Recurrence(")
        assert not tracers_in(layer) and not hasattr(layer.cell, "last")
    assert layer(x, start).shape == x.shape and layer.cell.kept.tolist() == [4.0, 4.0]

    add = fx.Recurrence(lambda x, state: (x, x if state is None else state + x))
    with pytest.raises(fx.StateError, match=r"an initial state beside mask or lengths. Give the cell a method initial"):
        add(x, lengths=[1, 2, 3])
    with pytest.raises(fx.ShapeError, match="at least one step for a cell whose state is not known"):
        add(x[:, :0])
    with pytest.raises(fx.StateError, match="the cell has no method initial_state"):
        add.initial_state(3)
    with pytest.raises(fx.ShapeError, match=r"that begin with the axes \(3,\) of the batch, got \(\)"):
        fx.Recurrence(lambda x, count: (x, count + 1))(x, 0, lengths=[1, 2, 3])
    with pytest.raises(fx.DTypeError, match="Recurrence: expected a layer as its cell, got the class LSTMCell"):
        fx.Recurrence(fx.LSTMCell)


def test_an_error_in_a_cell_names_it():
    class Deep(fx.Layer):
        def __init__(self):
            self.inner = fx.Recurrence(fx.GRUCell(3, 2))

        def __call__(self, x, state):
            return self.inner(x[:, None]), state

    model = fx.Chain(fx.identity, fx.Recurrence(Deep()))
    for run in (model, fx.jit(model)):
        with pytest.raises(fx.ShapeError) as caught:
            run(fx.ones(2, 4, 5))
        assert str(caught.value).startswith(
            "model.layers[1].cell.inner.cell GRUCell(3, 2): expected input (..., 3), got (2, 5). Use GRUCell(5, 2)"
        )


# Sizes, forms, refusals


def test_sizes_of_sequences():
    model = fx.Chain(fx.GRU(None, 4, num_layers=2, bidirectional=True), fx.LSTM(None, 3), lambda y: y[:, -1])
    assert repr(model[0]) == "GRU(None, 4, num_layers=2, bidirectional=True)"
    autosize(model, (None, 7, 5))
    assert repr(model[:2]) == "Chain(GRU(5, 4, num_layers=2, bidirectional=True), LSTM(8, 3))"
    assert outputsize(model, (None, 7, 5)) == (None, 3)
    assert [path for path in state(model[0]) if "weight" in path][:2] == [
        "cells[0].weight",
        "cells[0].recurrent_weight",
    ]
    assert repr(fx.RNN(3, 2, fx.relu, bias=False)) == "RNN(3, 2, relu, bias=False)"
    assert repr(fx.GRUCell(3, 2, reset_after=False)) == "GRUCell(3, 2, reset_after=False)"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fx.LSTM(3, 2, num_layers=0), "^LSTM: expected a positive whole number for num_layers, got 0"),
        (lambda: fx.LSTM(3, 2, dropout=1.0), r"^LSTM: expected dropout in \[0, 1\), got 1.0"),
        (lambda: fx.GRU(3, 2, dropout=0.5), "^GRU: expected dropout=0 for one layer, got 0.5: it acts between layers"),
        (lambda: fx.RNN(0, 2), "^RNN: expected a positive whole number for in_features, got 0"),
        (lambda: fx.RNN(3, 2, "tanh"), "^RNN: expected a function for activation, got 'tanh'"),
        (lambda: fx.GRUCell(3, 2.5), "^GRUCell: expected a positive whole number for out_features, got 2.5"),
        (lambda: fx.LSTM(3, 2, recurrent_init=1), "^LSTM: expected a function for recurrent_init, got 1"),
    ],
)
def test_constructors_refuse(make, match):
    with pytest.raises(fx.FluxionError, match=match):
        make()


X = np.ones((4, 5, 3), np.float32)
H = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda m: m(X[0, 0]),
            r"expected input \(batch, time, features\), or \(time, features\) for one .* got \(3,\)",
        ),
        (lambda m: m(X[None]), r"got \(1, 4, 5, 3\)"),
        (lambda m: m(X, H), r"of shapes \(\(4, 2\), \(4, 2\)\), got \(4, 2\)\. initial_state\(4\) gives one of zeros"),
        (lambda m: m(X, (H, H[:1])), r"got \(\(4, 2\), \(1, 2\)\)"),
        (lambda m: m(X, (H, None)), r"got \(\(4, 2\), 'NoneType'\)"),
        (lambda m: m(X[0], (H, H)), r"of shapes \(\(2,\), \(2,\)\), got .* initial_state\(\(\)\) gives"),
        (lambda m: m(X, lengths=[1, 2, 6, 3]), "lengths from 0 to 5, the number of steps, got 6 for sequence 2. Pad"),
        (lambda m: m(X, lengths=[1, -1, 5, 3]), "got -1 for sequence 1"),
        (lambda m: m(X, lengths=[1, 2]), r"lengths of shape \(4,\), one for each sequence, got \(2,\)"),
        (lambda m: m(X, lengths=np.ones(4)), "lengths that are integers, got float64. Use lengths.astype"),
        (lambda m: m(X, mask=np.ones((4, 5, 1), bool)), r"a mask of shape \(4, 5\), \(batch, time\) of the input, got"),
        (
            lambda m: m(X, mask=np.ones((4, 5))),
            "a mask of booleans, true at the steps that count, got float64. Use mask",
        ),
        (lambda m: m(X, mask=np.ones((4, 5), bool), lengths=[1, 1, 1, 1]), "mask or lengths, got both"),
    ],
)
def test_calls_refuse(call, match):
    with pytest.raises(fx.FluxionError, match=match) as caught:
        call(fx.LSTM(3, 2))
    assert str(caught.value).startswith("model LSTM(3, 2): expected")


def test_cells_refuse():
    for call in (lambda m: m(X[0], H), lambda m: m(X[0], (H, H[:4, :1]))):
        with pytest.raises(
            fx.ShapeError, match=r"^model LSTMCell\(3, 2\): expected a state of shapes \(\(5, 2\), \(5,"
        ):
            call(fx.LSTMCell(3, 2))
    with pytest.raises(fx.ShapeError, match=r"expected a state of shapes \(2,\), got \(4, 2\)\. initial_state\(\(\)\)"):
        fx.GRUCell(3, 2)(X[0, 0], H)
    with pytest.raises(fx.ShapeError, match=r"expected input \(\.\.\., 3\), got \(\)\. Give it features\."):
        fx.GRUCell(3, 2)(1.0)
