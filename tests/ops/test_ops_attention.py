"""Attention: torch's numbers over shapes, masks and groups; empty rows, gradients of any order, precision, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx

randomized = settings(
    max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
INSTALLED = "torch is the outside reference"


@randomized
@given(data=st.data())
def test_dot_product_attention_is_torchs(x64, data):
    torch = pytest.importorskip("torch", reason=INSTALLED)
    size = st.integers(1, 4)
    batch, queries, keys, features, values = (data.draw(size) for _ in range(5))
    key_heads, group = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    heads, causal = key_heads * group, data.draw(st.booleans())
    keys = queries + keys - 1 if causal else keys
    scale = data.draw(st.sampled_from([None, 0.3]))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    query, key = (
        random.normal(size=(batch, queries, heads, features)),
        random.normal(size=(batch, keys, key_heads, features)),
    )
    value = random.normal(size=(batch, keys, key_heads, values))
    full = (batch, heads, queries, keys)
    shape = data.draw(st.sampled_from([full[2:], full, (batch, 1, 1, keys), (1, heads, queries, 1)]))
    mask = random.random(size=shape) < 0.7
    bias = random.normal(size=data.draw(st.sampled_from([full[2:], full, (1, heads, 1, keys)])))
    use_mask, use_bias = data.draw(st.booleans()), data.draw(st.booleans())

    def ours(query, key, value, mask, bias):
        options = {"mask": mask if use_mask else None, "bias": bias if use_bias else None}
        return fx.dot_product_attention(query, key, value, causal=causal, scale=scale, **options)

    def theirs(query, key, value, mask, bias):
        keep = torch.ones(full, dtype=torch.bool)
        keep = keep & mask if use_mask else keep
        if causal:
            keep = keep & torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        added = (bias + torch.zeros(full) if use_bias else torch.zeros(full)).double().masked_fill(~keep, -1e300)
        y = torch.nn.functional.scaled_dot_product_attention(
            *(a.transpose(1, 2) for a in (query, key, value)), attn_mask=added, scale=scale, enable_gqa=True
        )
        some = keep.any(-1, keepdim=True)  # theirs averages all where nothing may be seen; ours is 0
        return torch.where(some, y, 0.0).transpose(1, 2)

    same_as_torch(ours, theirs, query, key, value, mask, bias)


def arrays(*lengths, heads=2, features=3, dtype=float):
    random = np.random.default_rng(0)
    return [jnp.asarray(random.normal(size=(2, n, heads, features)), dtype) for n in lengths]


def test_second_derivatives_and_rows_that_see_nothing(x64):
    mask = jnp.array([[True, False, True], [False, False, False]])

    def attend(given):
        return fx.dot_product_attention(*given, mask=mask, return_weights=True)

    def loss(given):
        return (jnp.sin(jnp.arange(24.0)).reshape(2, 2, 2, 3) * attend(given)[0]).sum()

    @jax.jit
    def compute(given, way):
        return attend(given), *jax.jvp(jax.grad(loss), (given,), (way,)), loss(given)

    at, way = arrays(2, 3, 3), arrays(2, 3, 3)[::-1][:2] + arrays(3)
    way[0] = way[0][:, :2]
    (y, weights), gradient, second, _ = compute(at, way)
    np.testing.assert_array_equal(y[:, 1], 0)
    np.testing.assert_array_equal(weights[..., 1, :], 0)
    np.testing.assert_array_equal(weights[..., 1], 0)
    np.testing.assert_allclose(weights[..., 0, :].sum(-1), 1)
    np.testing.assert_array_equal(gradient[0][:, 1], 0)
    np.testing.assert_array_equal(gradient[2][:, 1], 0)  # a key that nobody looks at
    ahead, behind = (compute([a + h * d for a, d in zip(at, way, strict=True)], way) for h in (1e-5, -1e-5))
    slope = sum((g * d).sum() for g, d in zip(gradient, way, strict=True))
    np.testing.assert_allclose(slope, (ahead[3] - behind[3]) / 2e-5, rtol=1e-7)
    for found, g, h in zip(second, ahead[1], behind[1], strict=True):
        np.testing.assert_allclose(found, (g - h) / 2e-5, rtol=1e-6, atol=1e-8)


def test_no_keys_no_queries_no_batch():
    query, key, value = arrays(2, 3, 3)
    mask = jnp.array([[[True, False, True]], [[False, True, True]]])  # by head

    @jax.jit
    def compute():
        together = fx.dot_product_attention(query, key, value, mask=mask[None], causal=True, return_weights=True)
        options = {"mask": mask, "causal": True, "return_weights": True}
        alone = fx.dot_product_attention(query[1], key[1], value[1], **options)
        return fx.dot_product_attention(*arrays(2, 0, 0)), fx.dot_product_attention(*arrays(0, 3, 3)), together, alone

    no_keys, no_queries, together, alone = compute()
    np.testing.assert_array_equal(no_keys, np.zeros((2, 2, 2, 3)))
    assert no_queries.shape == (2, 0, 2, 3)
    for one, all_ in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, all_[1], rtol=1e-6)


def test_half_precision():
    def compute(given):
        bias = jnp.zeros((3, 4))
        return fx.dot_product_attention(*given, bias=bias, return_weights=True)

    def both(given):
        gradient = jax.grad(lambda given: compute(given)[0].astype(jnp.float32).sum())(given)
        return compute(given), gradient, compute([a.astype(jnp.float32) for a in given])[0]

    query, key, value = arrays(3, 4, 4)
    wide = [query * 200, key * 200, value]  # float16 ends at 65504
    given = [[a.astype(dtype) for a in wide] for dtype in (jnp.float16, jnp.bfloat16)]
    for arrays_, results in zip(given, jax.jit(lambda all_: [both(g) for g in all_])(given), strict=True):
        (y, weights), gradient, exact = results
        assert {y.dtype, weights.dtype, *(g.dtype for g in gradient)} == {arrays_[0].dtype}
        np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=2e-2)
        assert all(jnp.isfinite(g).all() for g in gradient)


def test_dropped_weights():
    given = arrays(30, 50, 50)

    @jax.jit
    def compute(key):
        _, weights = fx.dot_product_attention(*given, return_weights=True)
        with fx.randomness(key):
            return weights, *fx.dot_product_attention(*given, dropout=0.25, return_weights=True)

    weights, y, dropped = map(np.asarray, compute(jax.random.key(0)))
    kept = dropped > 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(dropped, np.where(kept, weights / 0.75, 0), rtol=1e-6)
    np.testing.assert_allclose(y, np.einsum("bhqk,bkhd->bqhd", dropped, given[2]), rtol=1e-4, atol=1e-6)


def test_causal_mask():
    np.testing.assert_array_equal(fx.causal_mask(3), np.tril(np.ones((3, 3), bool)))
    np.testing.assert_array_equal(fx.causal_mask(1, 3), np.ones((1, 3), bool))
    with pytest.raises(fx.ShapeError, match=r"at least as many keys as queries in causal attention, got 2 keys and 3"):
        fx.causal_mask(3, 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mask": np.ones((2, 5), bool)}, fx.ShapeError, r"a mask \(3, 5\) or \(2, 4, 3, 5\), where any size may be 1, "
         r"got \(2, 5\)\. Use mask\[:, None, None, :\]"),
        ({"mask": np.ones((2, 3, 5), bool)}, fx.ShapeError, r"got \(2, 3, 5\)\. Use mask\[:, None\] for one that goes"),
        ({"mask": np.ones((3, 5))}, fx.DTypeError, "expected a boolean mask, .* got float.*are given as bias"),
        ({"bias": np.ones((3, 5), bool)}, fx.DTypeError, "expected a bias of floats, .* got bool.*given as mask"),
        ({"bias": np.ones((3, 4, 5))}, fx.ShapeError, r"expected a bias \(3, 5\) or .* got \(3, 4, 5\)\. Use bias\["),
        ({"key": np.ones((3, 5, 2, 8))}, fx.ShapeError, r"same batch everywhere, got query \(2, 3, 4, 8\), key \(3"),
        ({"value": np.ones((2, 4, 2, 8))}, fx.ShapeError, "expected a key and a value for each place and head"),
        ({"key": np.ones((2, 5, 2, 7))}, fx.ShapeError, "as many features as each other"),
        ({"query": np.ones((2, 3, 5, 8))}, fx.ShapeError, "key heads that divides that of query heads"),
        ({"query": np.ones((3, 4, 8))}, fx.ShapeError, "all with or all without the batch"),
        ({"query": np.ones((2, 3, 4, 8)) * 1j}, fx.DTypeError, "expected real input, got dtype complex"),
        ({"query": np.ones((2, 6, 4, 8)), "causal": True}, fx.ShapeError, "got 5 keys and 6 queries"),
        ({"dropout": 1.5}, fx.ArgumentError, "dropout: expected a probability p between 0 and 1, got 1.5"),
    ],
)  # fmt: skip
def test_refusals(change, error, message):
    given = {"query": np.ones((2, 3, 4, 8)), "key": np.ones((2, 5, 2, 8)), "value": np.ones((2, 5, 2, 8)), **change}
    with pytest.raises(error, match=message):
        fx.dot_product_attention(given.pop("query"), given.pop("key"), given.pop("value"), **given)
