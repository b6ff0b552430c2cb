"""TransformerBlock: torch's encoder and decoder layers; a language model with caches, compiled once; refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.transform.compile import _programs
from fluxion.tree.model import with_trainables

ACTIVATIONS = {
    "relu": fx.relu,
    "gelu": functools.partial(fx.gelu, approximate=False),
    "tanh": fx.gelu,
}


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_blocks_are_torchs(x64, data):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    batch, length, other, heads = (data.draw(st.integers(1, 3)) for _ in range(4))
    features, hidden = heads * data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    cross, causal, padded, norm_first = (data.draw(st.booleans()) for _ in range(4))
    name = data.draw(st.sampled_from(sorted(ACTIVATIONS)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, memory = random.normal(size=(batch, length, features)), random.normal(size=(batch, other, features))
    absent, unseen = random.random((batch, length)) < 0.4, random.random((batch, other)) < 0.4
    absent[:, 0] = unseen[:, 0] = False

    theirs_of = torch.nn.TransformerDecoderLayer if cross else torch.nn.TransformerEncoderLayer
    gelu = functools.partial(torch.nn.functional.gelu, approximate="tanh")
    module = theirs_of(
        features,
        heads,
        hidden,
        dropout=0.0,
        activation=gelu if name == "tanh" else name,
        layer_norm_eps=1e-4,
        batch_first=True,
        norm_first=norm_first,
        dtype=torch.float64,
    )
    options = {"num_heads": heads, "hidden": hidden, "activation": ACTIVATIONS[name], "eps": 1e-4}
    options |= {"causal": causal, "cross": cross, "norm_first": norm_first}
    block = jax.eval_shape(lambda: fx.TransformerBlock(features, **options))
    named = fx.trainables(block, path=True)
    weights = [random.normal(size=array.shape) for _, array in named]

    def ours(absent, unseen, x, memory, *parameters):
        m = with_trainables(block, parameters)
        mask, memory_mask = (~a[:, None, None, :] if padded else None for a in (absent, unseen))
        return m(x, memory, mask=mask, memory_mask=memory_mask) if cross else m(x, mask=mask)

    def theirs(absent, unseen, x, memory, *parameters):
        p = {path: a.T if a.ndim == 2 else a for (path, _), a in zip(named, parameters, strict=True)}
        norms = ["attention_norm", "cross_norm", "feed_norm"] if cross else ["attention_norm", "feed_norm"]
        given = {}
        for i, norm in enumerate(norms):
            given |= {f"norm{i + 1}.weight": p[f"{norm}.scale"], f"norm{i + 1}.bias": p[f"{norm}.bias"]}
        parts = {"self_attn": "attention"} | ({"multihead_attn": "cross_attention"} if cross else {})
        for kind in ("weight", "bias"):
            for part, own in parts.items():
                given[f"{part}.in_proj_{kind}"] = torch.cat([p[f"{own}.{n}.{kind}"] for n in ("query", "key", "value")])
                given[f"{part}.out_proj.{kind}"] = p[f"{own}.out.{kind}"]
            given |= {f"linear1.{kind}": p[f"feed.layers[0].{kind}"], f"linear2.{kind}": p[f"feed.layers[2].{kind}"]}
        future = ~torch.ones(length, length, dtype=torch.bool).tril() if causal else None
        absent, unseen = (absent, unseen) if padded else (None, None)
        if cross:
            options = {"tgt_mask": future, "tgt_key_padding_mask": absent, "memory_key_padding_mask": unseen}
            return torch.func.functional_call(module, given, (x, memory), options)
        return torch.func.functional_call(module, given, (x,), {"src_mask": future, "src_key_padding_mask": absent})

    same_as_torch(ours, theirs, absent, unseen, x, memory, *weights)


class LanguageModel(fx.Layer):
    """Tokens in, scores of the next token out; with caches, of which there is one per block, `(scores, caches)`."""

    def __init__(self, vocabulary, length, features, count, **options):
        self.length = length
        self.tokens = fx.Embedding(vocabulary, features)
        self.positions = fx.LearnedPositions(length, features)
        self.blocks = [fx.TransformerBlock(features, causal=True, **options) for _ in range(count)]
        self.norm = fx.LayerNorm(features)
        self.head = fx.Dense(features, vocabulary)

    def caches(self, batch):
        return tuple(block.cache(batch, self.length) for block in self.blocks)

    def __call__(self, tokens, caches=None):
        x = self.positions(self.tokens(tokens), 0 if caches is None else caches[0].length)
        if caches is None:
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))
        after = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, cache=cache)
            after.append(cache)
        return self.head(self.norm(x)), tuple(after)


def test_a_language_model_generates_what_it_computes_at_once(x64):
    options = {"num_heads": 2, "num_key_heads": 1, "positions": fx.rotary}
    model = LanguageModel(11, 7, 8, 2, **options)
    tokens = np.random.default_rng(0).integers(0, 11, (3, 7))
    step, caches = fx.jit(model), model.caches(3)
    found = []
    for i in range(7):
        logits, caches = step(jnp.asarray(tokens[:, i : i + 1]), caches)
        found.append(logits)
        compiled = compiled_programs() if i == 0 else compiled
        assert compiled_programs() == compiled
    np.testing.assert_allclose(np.concatenate(found, 1), step(jnp.asarray(tokens)), rtol=1e-12, atol=1e-12)
    logits, _ = step(jnp.asarray(tokens[:, :1]), caches)  # one more than there is room for
    assert jnp.isnan(logits).all()
    with pytest.raises(fx.ShapeError, match=r"model.positions LearnedPositions\(7, 8\): expected positions below 7"):
        model(jnp.asarray(tokens[:, :1]), caches)


def compiled_programs():
    return len(_programs.programs), sum(program.traces for program in _programs.programs.values())


def test_dropout_in_training_only():
    block, x = fx.TransformerBlock(4, num_heads=2, dropout=0.5, cross=True), jnp.ones((2, 3, 4))
    for mode, draws in ((fx.testmode, 0), (fx.trainmode, 6)):  # weights and sum of two attentions, hidden and sum
        with fx.randomness(jax.random.key(0)) as stream:
            jax.eval_shape(lambda mode=mode: mode(block)(x, x))
        assert stream.count == draws


def test_precision():
    block = fx.TransformerBlock(4, num_heads=2)
    for dtype in (jnp.bfloat16, jnp.float16, jnp.int32):
        assert jax.eval_shape(block, jax.ShapeDtypeStruct((1, 2, 4), dtype)).dtype == jnp.float32
    assert jax.eval_shape(fx.bf16(block), jnp.ones((1, 2, 4))).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: b(jnp.ones((1, 2, 5))), fx.ShapeError, r"expected input \(batch, length, 4\) or \(length, 4\), got "
         r"\(1, 2, 5\)\. Use TransformerBlock\(5, \.\.\.\)"),
        (lambda b: b(jnp.ones((1, 2, 4)), jnp.ones((1, 2, 4))), fx.ArgumentError, r"expected block\(x\), got a memory"),
        (lambda b: b(jnp.ones((1, 2, 4)), cache=b.cache(1, 3)), fx.ArgumentError, r"\(\.\.\., causal=True"),
        (lambda b: b(jnp.ones((1, 2, 4)), mask=jnp.ones((3, 2), bool)), fx.ShapeError,
         r"model\.attention MultiHeadAttention\(4, num_heads=2\): expected a mask \(2, 2\) or \(1, 2, 2, 2\)"),
        (lambda b: fx.TransformerBlock(None).cache(1, 2), fx.StateError, "Call fx.autosize"),
        (lambda b: fx.TransformerBlock(10), fx.ArgumentError, r"features=10, got 8\. Use num_heads=5"),
        (lambda b: fx.TransformerBlock(8, activation="gelu"), fx.DTypeError, "Block: expected a function for"),
        (lambda b: fx.TransformerBlock(8, eps=-1.0), fx.ArgumentError, "TransformerBlock: expected eps >= 0"),
        (lambda b: fx.TransformerBlock(8, dropout=2), fx.ArgumentError, "TransformerBlock: expected a probability"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(fx.TransformerBlock(4, num_heads=2))
