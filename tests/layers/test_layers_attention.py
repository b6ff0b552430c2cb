"""MultiHeadAttention and positions: torch's numbers, rotary's closed forms, the cache, modes, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.tree.model import with_trainables

randomized = settings(
    max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@randomized
@given(data=st.data())
def test_multi_head_attention_is_torchs(x64, data):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    size = st.integers(1, 4)
    batch, length, other = (data.draw(size) for _ in range(3))
    heads = data.draw(st.integers(1, 3))
    features = heads * data.draw(st.integers(1, 3))
    kind = data.draw(st.sampled_from(["self", "cross", "three", "narrow"]))
    bias, causal, padded = (data.draw(st.booleans()) for _ in range(3))
    other = length if kind == "self" else other
    causal = causal and kind == "self"
    inner = features + 1 if kind == "narrow" else features
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    inputs = [random.normal(size=(batch, length, features))]
    inputs += [] if kind == "self" else [random.normal(size=(batch, other, inner))]
    inputs += [random.normal(size=(batch, other, inner))] if kind == "three" else []
    hidden = random.random(size=(batch, other)) < 0.5
    hidden[:, 0] = False
    module = torch.nn.MultiheadAttention(
        features, heads, bias=bias, kdim=inner, vdim=inner, batch_first=True, dtype=torch.float64
    )
    narrow = {"key_features": inner} if kind == "narrow" else {}
    layer = jax.eval_shape(lambda: fx.MultiHeadAttention(features, num_heads=heads, bias=bias, **narrow))
    weights = [random.normal(size=p.shape) for p in fx.trainables(layer)]  # query, key, value, out; weight before bias
    step = 2 if bias else 1

    def ours(hidden, *arrays):
        xs, parameters = arrays[: len(inputs)], arrays[len(inputs) :]
        m = with_trainables(layer, parameters)
        mask = ~hidden[:, None, None, :] if padded else None
        return m(*xs, mask=mask, causal=causal, return_weights=True)

    def theirs(hidden, *arrays):
        xs, parameters = arrays[: len(inputs)], arrays[len(inputs) :]
        kernels = [w.T for w in parameters[::step]]
        given = {"out_proj.weight": kernels[3]}
        if kind == "narrow":
            given |= dict(zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), kernels, strict=False))
        else:
            given["in_proj_weight"] = torch.cat(kernels[:3])
        if bias:
            given |= {"in_proj_bias": torch.cat(parameters[1:6:2]), "out_proj.bias": parameters[7]}
        query, key, value = (xs[0], xs[-1] if len(xs) < 3 else xs[1], xs[-1])
        options = {
            "key_padding_mask": hidden if padded else None,
            "attn_mask": ~torch.ones(length, length, dtype=torch.bool).tril() if causal else None,
            "average_attn_weights": False,
        }
        return torch.func.functional_call(module, given, (query, key, value), options)

    same_as_torch(ours, theirs, hidden, *inputs, *weights)


def test_grouped_heads_are_repeated_heads(x64):
    """With each key head's weights repeated, a layer of equal heads is the grouped one."""
    grouped, equal = fx.MultiHeadAttention(8, num_heads=4, num_key_heads=2), fx.MultiHeadAttention(8, num_heads=4)
    equal.query, equal.out = grouped.query, grouped.out
    for small, large in ((grouped.key, equal.key), (grouped.value, equal.value)):
        large.weight = jnp.asarray(np.repeat(np.asarray(small.weight).reshape(8, 2, 2), 2, axis=1).reshape(8, 8))
    x = fx.randn(2, 3, 8)
    np.testing.assert_allclose(*jax.jit(lambda: (grouped(x), equal(x)))(), rtol=1e-12)
    assert grouped.cache(1, 5).key.size == equal.cache(1, 5).key.size // 2


def test_dropout_in_training_only():
    layer, x = fx.MultiHeadAttention(4, num_heads=2, dropout=0.5), jnp.ones((2, 3, 4))
    for mode, draws in ((fx.testmode, 0), (fx.trainmode, 1)):
        with fx.randomness(jax.random.key(0)) as stream:
            jax.eval_shape(lambda mode=mode: mode(layer)(x))
        assert stream.count == draws


# Positions


def test_sinusoids_are_the_papers(x64):
    expected = np.zeros((7, 6))
    for p in range(7):
        for i in range(3):
            expected[p, 2 * i] = np.sin(p / 10000 ** (2 * i / 6))
            expected[p, 2 * i + 1] = np.cos(p / 10000 ** (2 * i / 6))
    np.testing.assert_allclose(fx.sinusoidal_positions(7, 6), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(fx.SinusoidalPositions()(jnp.ones((2, 3, 6)), 4)[1], 1 + expected[4:], rtol=1e-12)


def test_rotary_turns_complex_numbers(x64):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 5, 3, 6))
    place = np.array([[0, 1, 2, 3, 4], [7, 100, 3, 2, 90000]])
    turned = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * place[..., None, None] * 500.0 ** (-np.arange(3) / 3))
    expected = np.concatenate([turned.real, turned.imag], -1)
    found, first, alone = jax.jit(
        lambda x: (fx.rotary(x, place, base=500.0), fx.rotary(x, base=500.0)[0], fx.rotary(x[0], place[0], base=500.0))
    )(x)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(first, expected[0], rtol=1e-12)
    np.testing.assert_allclose(alone, expected[0], rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-12)


def test_rotary_scores_know_distances_alone(x64):
    query, key = fx.randn(1, 2, 8), fx.randn(1, 2, 8)

    @jax.jit
    def scores(m, n):
        return (fx.rotary(query, m[None]) * fx.rotary(key, n[None])).sum(-1)

    def at(m, n):
        return np.asarray(scores(jnp.array(m), jnp.array(n)))

    np.testing.assert_allclose(at(3, 1), at(503, 501), rtol=1e-9)
    assert abs(at(3, 1) - at(3, 2)).min() > 1e-3


def test_learned_positions():
    layer = fx.LearnedPositions(6, 2)
    x = fx.randn(3, 4, 2)
    weight = np.asarray(layer.weight)
    np.testing.assert_array_equal(layer(x), x + weight[None, :4])
    for start in (3, -1, jnp.array(3)):
        with pytest.raises(fx.ShapeError, match=r"expected positions below 6, got"):
            layer(x, start)
    compute = jax.jit(layer)
    np.testing.assert_array_equal(compute(x, jnp.array(2)), x + weight[None, 2:])
    np.testing.assert_array_equal(np.isnan(compute(x, jnp.array(3))).any((0, 2)), [False, False, False, True])
    with pytest.raises(fx.DTypeError, match=r"expected one whole number for start, got float"):
        layer(x, 1.5)
    for dtype in (jnp.bfloat16, jnp.float16):
        half = jax.ShapeDtypeStruct((2, 3, 4), dtype)
        assert jax.eval_shape(fx.SinusoidalPositions(), half).dtype == dtype
        assert jax.eval_shape(fx.rotary, half).dtype == dtype


# The cache


@pytest.mark.parametrize("options", [{"num_key_heads": 2, "positions": fx.rotary}, {}])
def test_token_by_token_is_all_at_once(options, x64):
    layer = fx.MultiHeadAttention(8, num_heads=4, **options)
    x = fx.randn(2, 6, 8)
    padding = jnp.array([[True] * 6, [False] + [True] * 5])[:, None, None, :]
    whole, weights = jax.jit(lambda: layer(x, mask=padding, causal=True, return_weights=True))()

    @jax.jit
    def step(layer, x, cache):
        return layer(x, mask=padding, causal=True, cache=cache, return_weights=True)

    cache = layer.cache(2, 6)
    assert cache.key.shape == (2, 6, layer.key_heads, 2) and cache.key.dtype == jnp.float64
    found, seen = [], []
    for piece in (x[:, :2], *(x[:, i : i + 1] for i in range(2, 6))):  # a prompt first
        y, w, cache = step(layer, piece, cache)
        found.append(y)
        seen.append(w)
    assert step._cache_size() == 2 and int(cache.length) == 6
    np.testing.assert_allclose(np.concatenate(found, 1), whole, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.concatenate(seen, 2), weights, rtol=1e-12, atol=1e-12)

    y, _, after = step(layer, x[:, :1], cache)  # full, and it cannot be known
    assert jnp.isnan(y).all()
    y, *_ = step(layer, x[:, :1], after)
    assert jnp.isnan(y).all()
    with pytest.raises(fx.ShapeError, match=r"expected at most 0 positions more, for the cache has 6 in all, got 1\."):
        layer(x[:, :1], causal=True, cache=cache)
    with pytest.raises(fx.ShapeError, match=r"at most 6 positions more.* got 7\. Make it with cache\(max_length=7, "):
        jax.jit(lambda c: layer(jnp.ones((2, 7, 8)), causal=True, cache=c))(layer.cache(2, 6))


def test_a_cache_of_half_precision():
    layer = fx.bf16(fx.MultiHeadAttention(4, num_heads=2))
    cache = layer.cache(1, 3)
    assert cache.value.dtype == jnp.bfloat16
    y, cache = jax.jit(lambda x, cache: layer(x, causal=True, cache=cache))(jnp.ones((1, 2, 4)), cache)
    assert y.dtype == cache.key.dtype == jnp.bfloat16 and repr(cache).startswith(
        "KeyValueCache(key=array(bf16[1,3,2,2])"
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(jnp.ones((1, 2, 4)), cache=m.cache(1, 3)), fx.ArgumentError, "expected causal=True with a cache"),
        (lambda m: m(jnp.ones((2, 2, 4)), causal=True, cache=m.cache(1, 3)), fx.ShapeError,
         r"expected a cache for a batch of 2 and 2 heads of 2 features, got one for 1, 2 and 2\. Make it with cache"),
        (lambda m: m(jnp.ones((1, 2, 4)), jnp.ones((1, 2, 4)), causal=True, cache=m.cache(1, 3)), fx.ArgumentError,
         "expected no key and value with a cache"),
        (lambda m: m(jnp.ones((2, 4)), causal=True, cache=m.cache(1, 3)), fx.ShapeError, r"Use x\[None\]"),
        (lambda m: m(jnp.ones((1, 2, 4)), mask=jnp.ones((2, 2), bool), causal=True, cache=m.cache(1, 3)), fx.ShapeError,
         r"expected a mask \(2, 3\) or \(1, 2, 2, 3\)"),
        (lambda m: m(jnp.ones((3, 2, 4)), jnp.ones((2, 2, 4))), fx.ShapeError,
         r"model MultiHeadAttention\(4, num_heads=2\): expected key and value \(3, length, 4\) for query \(3, 2, 4\)"),
        (lambda m: m(jnp.ones((3, 2, 4)), jnp.ones((3, 2, 5))), fx.ShapeError, "Give key_features"),
        (lambda m: m(jnp.ones((3, 2, 4)), jnp.ones((3, 5, 4)), jnp.ones((3, 6, 4))), fx.ShapeError,
         r"expected a value for each key, got key \(3, 5, 4\) and value \(3, 6, 4\)"),
        (lambda m: m(jnp.ones((3, 2, 4)), mask=jnp.ones((2, 2))), fx.DTypeError, "expected a boolean mask"),
        (lambda m: m(jnp.ones(4)), fx.ShapeError, r"got \(4,\)"),
        (lambda m: m(jnp.ones((3, 5, 4)) * 1j), fx.DTypeError, "expected real input, got dtype complex64"),
        (lambda m: fx.MultiHeadAttention(None).cache(1, 3), fx.StateError, "Call fx.autosize"),
        (lambda m: fx.MultiHeadAttention(10, num_heads=4), fx.ArgumentError,
         "expected a num_heads that divides features=10, got 4. Use num_heads=2, or give head_features"),
        (lambda m: fx.MultiHeadAttention(8, num_key_heads=3), fx.ArgumentError,
         "expected a num_key_heads that divides num_heads=8, got 3. Use 2."),
        (lambda m: fx.MultiHeadAttention(8, positions=True), fx.DTypeError, "expected a function for positions"),
        (lambda m: fx.MultiHeadAttention(6, num_heads=2, positions=fx.rotary)(jnp.ones((1, 2, 6))), fx.ShapeError,
         "with an even number of features"),
        (lambda m: fx.rotary(jnp.ones((1, 2, 3, 4)), jnp.arange(3)), fx.ShapeError, r"positions \(2,\) or \(1, 2\)"),
        (lambda m: fx.rotary(jnp.ones((1, 2, 3, 4)), base=0), fx.ArgumentError, "rotary: expected base > 0, got 0"),
        (lambda m: fx.sinusoidal_positions(2, 3), fx.ArgumentError, "an even number of features, got 3"),
        (lambda m: fx.LearnedPositions(5, 4)(jnp.ones((2, 3, 6))), fx.ShapeError, r"Use LearnedPositions\(5, 6\)\."),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(fx.MultiHeadAttention(4, num_heads=2))


def test_inferred_sizes_and_partial_positions():
    turn = functools.partial(fx.rotary, base=100.0)
    model = fx.autosize(fx.Chain(fx.MultiHeadAttention(None, num_heads=2, positions=turn)), (None, 5, 8))
    assert repr(model) == "Chain(MultiHeadAttention(8, num_heads=2, positions=partial(rotary, base=100.0)))"
    with pytest.raises(fx.ArgumentError, match="features=7, got 2"):
        fx.autosize(fx.MultiHeadAttention(None, num_heads=2), (None, 5, 7))
