"""Mistakes people make with shapes: each is answered with path, expected, received and remedy, in a few lines.

The message is the same when the model is called, compiled, or trained.
"""

import re
import traceback

import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx

REMEDY = re.compile(r"(Let|Pad|Use|Give|Add|Call|Keep|Leave out|Convert|Make|Choose|Reshape) ")


def mistake(make, shape, where, expected, got, remedy):
    return make, shape, where, expected, got, remedy


# A model, the shape of an input that does not fit, and what the message holds.
CALLS = {
    "features after flatten": mistake(
        lambda: fx.Chain(fx.Conv((3, 3), 1, 8), fx.flatten, fx.Dense(999, 10)),
        (2, 6, 6, 1),
        "model.layers[2] Dense(999, 10)",
        "(..., 999)",
        "(2, 128)",
        "Use Dense(128, 10) or Dense(None, 10).",
    ),
    "features of a nested layer": mistake(
        lambda: fx.Chain(body=fx.SkipConnection(fx.Chain(fx.Dense(4, 4), fx.Dense(5, 4)), jnp.add)),
        (2, 4),
        "model.layers['body'].layer.layers[1] Dense(5, 4)",
        "(..., 5)",
        "(2, 4)",
        "Use Dense(4, 4)",
    ),
    "channels of a convolution": mistake(
        lambda: fx.Chain(fx.Conv((3, 3), 3, 16)),
        (8, 28, 28, 1),
        "model.layers[0] Conv((3, 3), 3, 16)",
        "3)",
        "(8, 28, 28, 1)",
        "Use Conv((3, 3), 1, 16)",
    ),
    "channels first": mistake(
        lambda: fx.Chain(fx.Conv((3, 3), 3, 16)), (8, 3, 28, 28), "model.layers[0] Conv", "3)", "(8, 3, 28, 28)", "28"
    ),
    "no batch axis": mistake(
        lambda: fx.Chain(fx.Conv((3, 3), 3, 16)), (28, 28, 3), "model.layers[0] Conv", "batch", "(28, 28, 3)", "x[None]"
    ),
    "no channel axis": mistake(
        lambda: fx.Chain(fx.Conv((3, 3), 1, 16)),
        (8, 28, 28),
        "model.layers[0] Conv",
        "batch",
        "(8, 28, 28)",
        "x[..., None]",
    ),
    "a kernel larger than the picture": mistake(
        lambda: fx.Chain(fx.Conv((5, 5), 1, 4), fx.Conv((5, 5), 4, 4)),
        (2, 8, 8, 1),
        "model.layers[1] Conv",
        "(5, 5)",
        "(4, 4)",
        "smaller kernel",
    ),
    "channels of a transposed convolution": mistake(
        lambda: fx.Chain(fx.ConvTranspose((2, 2), 8, 4)),
        (2, 5, 5, 3),
        "model.layers[0] ConvTranspose((2, 2), 8, 4)",
        "8)",
        "(2, 5, 5, 3)",
        "Use ConvTranspose((2, 2), 3, 4)",
    ),
    "one pooling layer too many": mistake(
        lambda: fx.Chain(fx.Scale(1), *[fx.MaxPool((2, 2)) for _ in range(3)]),
        (2, 6, 6, 1),
        "model.layers[3] MaxPool((2, 2))",
        "(2, 2)",
        "(1, 1)",
        "fewer pooling layers",
    ),
    "padding as large as the window": mistake(
        lambda: fx.Chain(fx.Scale(1), fx.MaxPool((2, 2), padding=2)),
        (2, 6, 6, 1),
        "model.layers[1] MaxPool((2, 2), padding=2)",
        "every window to reach into the input",
        "(2, 6, 6, 1)",
        "Pad by half the kernel at most.",
    ),
    "pooling a sequence with a kernel for pictures": mistake(
        lambda: fx.Chain(fx.Scale(3), fx.MaxPool((2, 2))),
        (2, 6, 3),
        "model.layers[1] MaxPool",
        "expected",
        "(2, 6, 3)",
        "",
    ),
    "a pool larger than its input": mistake(
        lambda: fx.Chain(fx.Scale(3), fx.AdaptiveMeanPool((4, 4))),
        (2, 3, 3, 3),
        "model.layers[1] AdaptiveMeanPool",
        "expected",
        "3",
        "",
    ),
    "channels of a BatchNorm": mistake(
        lambda: fx.Chain(fx.Conv((3, 3), 1, 8), fx.BatchNorm(16)),
        (2, 6, 6, 1),
        "model.layers[1] BatchNorm(16)",
        "(..., 16)",
        "(2, 4, 4, 8)",
        "Use BatchNorm(8)",
    ),
    "a batch of one for BatchNorm": mistake(
        lambda: fx.trainmode(fx.Chain(fx.Dense(3, 4), fx.BatchNorm(4))),
        (1, 3),
        "model.layers[1] BatchNorm(4)",
        "more than one value per channel",
        "(1, 4)",
        "Use larger batches",
    ),
    "an empty batch for BatchNorm": mistake(
        lambda: fx.trainmode(fx.Chain(fx.Dense(3, 4), fx.BatchNorm(4))),
        (0, 3),
        "model.layers[1] BatchNorm(4)",
        "more than one value per channel",
        "(0, 4)",
        "Use larger batches",
    ),
    "channels of a GroupNorm": mistake(
        lambda: fx.Chain(fx.Scale(6), fx.GroupNorm(4, 2)),
        (2, 5, 6),
        "model.layers[1] GroupNorm(4, 2)",
        "4)",
        "(2, 5, 6)",
        "",
    ),
    "sizes of a LayerNorm": mistake(
        lambda: fx.Chain(fx.LayerNorm(4, 5)),
        (2, 5, 4),
        "model.layers[0] LayerNorm(4, 5)",
        "(..., 4, 5)",
        "(2, 5, 4)",
        "Use LayerNorm(5, 4)",
    ),
    "features of an LSTM": mistake(
        lambda: fx.Chain(fx.LSTM(28, 16)),
        (2, 7, 27),
        "model.layers[0] LSTM(28, 16)",
        "28)",
        "(2, 7, 27)",
        "Use LSTM(27, 16)",
    ),
    "a picture for an LSTM": mistake(
        lambda: fx.Chain(fx.LSTM(28, 16)), (2, 28, 28, 1), "model.layers[0] LSTM", "time", "(2, 28, 28, 1)", ""
    ),
    "features of an attention": mistake(
        lambda: fx.Chain(fx.MultiHeadAttention(8, num_heads=2)),
        (2, 5, 6),
        "model.layers[0] MultiHeadAttention(8, num_heads=2)",
        "8)",
        "(2, 5, 6)",
        "",
    ),
    "features of a transformer": mistake(
        lambda: fx.Chain(fx.TransformerBlock(8, num_heads=2)), (2, 5, 6), "model.layers[0]", "8)", "(2, 5, 6)", ""
    ),
    "a text longer than its positions": mistake(
        lambda: fx.Chain(fx.LearnedPositions(4, 3)), (2, 5, 3), "model.layers[0] LearnedPositions(4, 3)", "4", "5", ""
    ),
    "channels to shuffle": mistake(
        lambda: fx.Chain(fx.Scale(6), fx.PixelShuffle(2)),
        (2, 3, 3, 6),
        "model.layers[1] PixelShuffle(2)",
        "4",
        "(2, 3, 3, 6)",
        "",
    ),
    "features under a weight norm": mistake(
        lambda: fx.Chain(fx.WeightNorm(fx.Dense(3, 4))), (2, 5), "Dense(3, 4)", "(..., 3)", "(2, 5)", "Use Dense(5, 4)"
    ),
    "floats for an embedding": mistake(
        lambda: fx.Chain(fx.Embedding(9, 4)),
        (2, 5),
        "model.layers[0] Embedding(9, 4)",
        "integer",
        "(2, 5)",
        "astype(int)",
    ),
    "three inputs for two layers": mistake(
        lambda: fx.Chain(lambda x: (x, x, x), fx.Parallel(jnp.add, fx.Dense(3, 2), fx.Dense(3, 2))),
        (2, 3),
        "model.layers[1] Parallel",
        "expected 1 or 2 inputs",
        "3",
        "Give",
    ),
}

# What a constructor refuses; the name of the class, expected and got, and the remedy.
CONSTRUCTIONS = {
    "groups that do not divide": (lambda: fx.Conv((3, 3), 6, 8, groups=4), "Conv", "4"),
    "stride 0": (lambda: fx.Conv((3, 3), 1, 8, stride=0), "Conv", "stride"),
    "negative padding": (lambda: fx.Conv((3, 3), 1, 8, padding=-1), "Conv", "padding"),
    "padding in another word": (lambda: fx.Conv((3, 3), 1, 8, padding="SAME"), "Conv", '"same"'),
    "a kernel without axes": (lambda: fx.Conv(3, 1, 8), "Conv", "(3, 3)"),
    "heads that do not divide": (lambda: fx.MultiHeadAttention(10, num_heads=4), "MultiHeadAttention", "4"),
    "groups of channels": (lambda: fx.GroupNorm(6, 4), "GroupNorm", "4"),
    "no layers": (lambda: fx.LSTM(3, 4, num_layers=0), "LSTM", "num_layers"),
    "no features": (lambda: fx.Dense(0, 4), "Dense", "in_features"),
    "a probability above 1": (lambda: fx.Dropout(1.5), "Dropout", "between 0 and 1"),
    "an unknown mode": (lambda: fx.Upsample(2, mode="bilinea"), "Upsample", "'bilinear'"),
    "both a scale and a size": (lambda: fx.Upsample(2, size=(4, 4)), "Upsample", "size"),
    "a name for a function": (lambda: fx.Dense(3, 4, "relu"), "Dense", "fx.relu"),
    "a depthwise multiple": (lambda: fx.DepthwiseConv((3, 3), 4, 6), "DepthwiseConv", "multiple"),
}


def refused(f, *args):
    """The error of `f(*args)`, and how many lines of traceback it would print (`^^^^` not counted)."""
    with pytest.raises(fx.FluxionError) as caught:
        f(*args)
    frames = "".join(traceback.format_tb(caught.value.__traceback__))
    return caught.value, [line for line in frames.splitlines() if line.strip(" ^~")]


@pytest.mark.parametrize("name", CALLS)
def test_a_call(name):
    make, shape, where, expected, got, remedy = CALLS[name]
    model = make()
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    error, lines = refused(model, x)
    message = str(error)
    assert message.startswith("model.layers[") and where in message.split(": expected")[0]
    sentence = message.split(": ", 1)[1]
    assert expected in sentence.split("got")[0], message
    assert got in sentence.split("got", 1)[1], message
    assert remedy in message and REMEDY.search(message), message
    assert len(lines) <= 6, lines
    step = (lambda m, x: m(x).sum(), model, (x,), fx.setup(fx.Descent(), model))
    for again, lines in (refused(fx.jit(model), x), refused(fx.trainstep, *step)):
        assert str(again) == message
        assert type(again) is type(error)
        assert len(lines) <= 6, lines


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_a_construction(name):
    make, layer, word = CONSTRUCTIONS[name]
    error, lines = refused(make)
    assert re.match(rf"{layer}: expected .*got .*", str(error)), str(error)
    assert word in str(error)
    assert len(lines) <= 6, lines
