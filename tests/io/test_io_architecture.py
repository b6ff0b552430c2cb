"""A model as plain data and back: every layer of the catalogue, functions, values, and what cannot be described."""

import functools
import inspect
import json
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
import fluxion.layers
from fluxion.io.architecture import build, describe
from fluxion.io.catalogue import catalogue
from fluxion.transform.randomness import next_key
from fluxion.tree.model import aliases
from fluxion.tree.walk import scan


def rebuilt(model):
    """The model of the description, with the arrays of this one."""
    document = json.loads(json.dumps(describe(model)))
    arrays = fx.state(model)
    graph, names = build(document, arrays, aliases(model))
    return graph.rebuilt([arrays[name] for name in names])


# One or more of each layer, with options other than the defaults. Looked up only for names that the catalogue has.
EXAMPLES = {
    "AlphaDropout": lambda: [fx.AlphaDropout(0.3)],
    "BatchNorm": lambda: [fx.BatchNorm(3, fx.relu, momentum=0.2), fx.BatchNorm(3, affine=False, track_stats=False)],
    "Bilinear": lambda: [fx.Bilinear((2, 3), 4, fx.tanh, bias=False)],
    "Chain": lambda: [fx.Chain(), fx.Chain(fx.Dense(2, 3), fx.relu), fx.Chain(a=fx.Dense(2, 3), b=fx.flatten)],
    "Dense": lambda: [fx.Dense(2, 3), fx.Dense(2, 3, jax.nn.relu, bias=False, init=fx.kaiming_uniform(gain=1.0))],
    "Dropout": lambda: [fx.Dropout(0.3, axis=(0, -1)), fx.trainmode(fx.Dropout(0.3))],
    "Embedding": lambda: [fx.Embedding(5, 3, padding_index=1)],
    "EmbeddingBag": lambda: [fx.EmbeddingBag(5, 3, "sum"), fx.EmbeddingBag(5, 3, jnp.max)],
    "LayerNorm": lambda: [fx.LayerNorm(3, 4, eps=1e-3), fx.LayerNorm(3, affine=False)],
    "Maxout": lambda: [fx.Maxout(fx.Dense(2, 3), fx.Dense(2, 3))],
    "PairwiseFusion": lambda: [fx.PairwiseFusion(operator.add, fx.Dense(2, 2), fx.tanh)],
    "Parallel": lambda: [fx.Parallel(jnp.add, fx.Dense(2, 3), fx.Dense(2, 3)), fx.Parallel(jnp.multiply, a=fx.relu)],
    "TableEmbedding": lambda: [fx.TableEmbedding(3, [(1, 5, 2)]), fx.TableEmbedding(2, [])],
    "Scale": lambda: [fx.Scale(2, 3, activation=fx.gelu, bias=False)],
    "SkipConnection": lambda: [fx.SkipConnection(fx.Dense(2, 2), jnp.add)],
    "Conv": lambda: [fx.Conv((3, 3), 2, 4, fx.relu, stride=2, padding="same"), fx.Conv((3,), 2, 4, groups=2)],
    "ConvTranspose": lambda: [fx.ConvTranspose((3, 3), 2, 4, stride=2)],
    "DepthwiseConv": lambda: [fx.DepthwiseConv((3, 3), 2, 4)],
    "LpPool": lambda: [fx.LpPool(2), fx.LpPool((2, 3), 1.5, stride=1)],
    "Pad": lambda: [fx.Pad(1), fx.Pad(((1, 0), (0, 2)), "reflect")],
    "MaxPool": lambda: [fx.MaxPool((2, 2), stride=1), fx.MaxPool(2, padding=((0, 1), (1, 0)))],
    "MeanPool": lambda: [fx.MeanPool((2, 2)), fx.MeanPool(3, padding="same", count_padding=False)],
    "WeightNorm": lambda: [fx.WeightNorm(fx.Dense(2, 3)), fx.WeightNorm(fx.Conv((2,), 2, 3), "weight", axis=None)],
    "Repeated": lambda: [fx.Repeated(fx.Dense(2, 2), fx.Dense(2, 2))],
    "Recurrence": lambda: [fx.Recurrence(fx.LSTMCell(2, 3))],
    "LSTM": lambda: [fx.LSTM(2, 3, num_layers=2, bidirectional=True, dropout=0.1, return_state=True)],
    "GRU": lambda: [fx.GRU(2, 3, reset_after=False, bias=False)],
    "RNN": lambda: [fx.RNN(2, 3, fx.relu)],
    "MultiHeadAttention": lambda: [
        fx.MultiHeadAttention(4, num_heads=2, num_key_heads=1, positions=functools.partial(fx.rotary, base=100.0)),
        fx.MultiHeadAttention(3, num_heads=2, key_features=5, head_features=2, out_features=6, dropout=0.1, bias=False),
    ],
    "TransformerBlock": lambda: [
        fx.TransformerBlock(4, num_heads=2, hidden=5, causal=True, cross=True, positions=fx.rotary),
        fx.TransformerBlock(4, num_heads=2, activation=fx.relu, norm_first=False, dropout=0.1, eps=1e-6, bias=False),
    ],
    "Upsample": lambda: [fx.Upsample(1.5, mode="bilinear", align_corners=True), fx.Upsample(size=(3, 4))],
    "GroupNorm": lambda: [fx.GroupNorm(4, 2, fx.relu), fx.GroupNorm(4, 1, affine=False, eps=1e-3)],
    "InstanceNorm": lambda: [fx.InstanceNorm(3, affine=True), fx.InstanceNorm(3, fx.relu, track_stats=True)],
    "RMSNorm": lambda: [fx.RMSNorm(3, 4, eps=1e-3), fx.RMSNorm(3, affine=False)],
    "StochasticDepth": lambda: [fx.trainmode(fx.StochasticDepth(0.3, mode="batch"))],
}

# For a layer that is not in the table: arguments by name.
ARGUMENTS = {
    "in_features": 4,
    "out_features": 4,
    "features": 4,
    "channels": 4,
    "in_channels": 4,
    "out_channels": 4,
    "hidden_features": 4,
    "width": 4,
    "num_heads": 2,
    "groups": 2,
    "size": (2, 2),
    "output_size": (2, 2),
    "scale": 2,
    "factor": 2,
    "kernel": (3, 3),
    "p": 0.3,
    "length": 6,
    "max_length": 6,
}


def examples(name):
    if name in EXAMPLES:
        return EXAMPLES[name]()
    cls = catalogue().layers[name]
    signature = inspect.signature(cls).parameters.values()
    needed = [p for p in signature if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    unknown = [p.name for p in needed if p.name not in ARGUMENTS]
    if unknown:
        pytest.fail(f"add an example of {name} to EXAMPLES, or say what {unknown} are in ARGUMENTS")
    return [cls(**{p.name: ARGUMENTS[p.name] for p in needed})]


@pytest.mark.parametrize("name", [name for name in fluxion.layers.__all__ if name in catalogue().layers])
def test_every_layer_survives(name, tmp_path):
    for layer in examples(name):
        for model in (layer, fx.bf16(layer)):
            fx.save(tmp_path / "layer", model)
            again = fx.load(tmp_path / "layer")
            assert repr(again) == repr(model)
            before, after = fx.state(model), fx.state(again)
            assert list(before) == list(after)
            for path, array in before.items():
                assert after[path].dtype == array.dtype
                assert np.asarray(after[path]).tobytes() == np.asarray(array).tobytes()
            assert scan(again).key() == scan(model).key()  # the same program: every static value, too


def test_every_name_of_the_catalogue_is_its_own():
    known = catalogue()
    assert {"relu", "flatten", "glorot_uniform", "jax.numpy.tanh", "jax.nn.relu", "operator.add"} <= set(
        known.functions
    )
    assert "nfan" not in known.initializers and "orthogonal" in known.initializers
    assert not {"eval", "exec", "operator.call", "operator.attrgetter", "builtins.eval"} & set(known.functions)
    for name, function in known.functions.items():
        if name not in known.initializers:
            assert rebuilt(fx.Chain(function))[0] is function, name


@pytest.mark.parametrize(
    "init", [fx.glorot_uniform, fx.sparse_init(sparsity=0.5, std=0.1), fx.zeros, fx.rand(dtype=float)]
)
def test_initializers(init):
    class Keeps(fx.Layer):  # a layer that keeps its initializer, in a catalogue of its own
        def __init__(self, size, *, init=fx.glorot_uniform):
            self.size, self.init = size, init
            self.weight = init(size, size)

    layers = catalogue().layers
    layers["Keeps"] = Keeps
    try:
        model = Keeps(3, init=init)
        assert rebuilt(model).init == init
        with pytest.raises(fx.StateError, match=r"model\[0\].init is none of the library's initializers"):
            model.init = jnp.add
            describe([model])
    finally:
        del layers["Keeps"]


def test_values():
    class Holds(fx.Layer):
        def __init__(self, *items, **named):
            self.items, self.named = items, named

        def config(self):
            return {"items": self.items, "named": self.named}

    layers = catalogue().layers
    layers["Holds"] = Holds
    try:
        values = (
            None,
            True,
            -3,
            2**62,
            0.1,
            float("inf"),
            "é\n",
            (1, (2,)),
            [3, []],
            {"a": (1,)},
            jnp.dtype("bfloat16"),
        )
        again = rebuilt(Holds(*values, last=functools.partial(jnp.mean, axis=1)))
        assert again.items == values and [type(v) for v in again.items] == [type(v) for v in values]
        partial = again.named["last"]
        assert (partial.func, partial.args, partial.keywords) == (jnp.mean, (), {"axis": 1})
        assert rebuilt(Holds(np.float32(0.5), np.int64(3))).items == (0.5, 3)
        assert np.isnan(rebuilt(Holds(float("nan"))).items[0])
        assert rebuilt(Holds(jnp.arange(3))).items[0].tolist() == [0, 1, 2]
        for bad, reason in [
            ({1: 2}, r"model.items\[0\] is a dict with keys that are no strings"),
            ({1, 2}, r"model.items\[0\] is of a class of yours or of another library, set"),
            (functools.partial(fx.glorot_uniform, 3), "another library, partial"),
            (eval, "is a function of yours, eval"),
            (fx.Dense(1, 1).__call__, "is a function of yours, __call__"),
        ]:
            with pytest.raises(fx.StateError, match=reason):
                describe(Holds(bad))
        holds = Holds()
        holds.items = (holds,)
        with pytest.raises(fx.StateError, match=r"model.items\[0\] contains itself"):
            describe(holds)
    finally:
        del layers["Holds"]


def test_building_draws_nothing_and_allocates_nothing():
    fx.seed(3)
    expected = jax.random.key_data(next_key())
    fx.seed(3)
    document = describe(fx.Chain(fx.Dense(1, 1)))
    fx.seed(3)
    document["layers"][0]["arguments"] |= {"in_features": 10**9, "out_features": 10**9}
    shapes = {
        "layers[0].weight": jax.ShapeDtypeStruct((10**9, 10**9), np.float32),
        "layers[0].bias": jax.ShapeDtypeStruct((10**9,), np.float32),
    }
    graph, _ = build(document, shapes, {})
    assert graph.leaves[0].shape == (10**9, 10**9)
    assert (jax.random.key_data(next_key()) == expected).all()


def test_an_argument_that_came_later():
    """A file of an older version, without an option that a layer has now, takes its default."""
    document = describe(fx.LayerNorm(3, eps=1e-3))
    del document["layers"][0]["arguments"]["eps"]
    layer = fx.LayerNorm(3)
    graph, _ = build(document, fx.state(layer), {})
    assert repr(graph.rebuilt(graph.leaves)) == "LayerNorm(3)"
