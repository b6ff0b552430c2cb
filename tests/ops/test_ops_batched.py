"""Products of batches of matrices: torch's numbers and gradients; batches shared, and batches refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fluxion as fx

torch = pytest.importorskip("torch", reason="torch is the outside reference")
randomized = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # to shrink a failure would compile for minutes
)
size = st.integers(1, 4)


@randomized
@given(
    st.tuples(size, size, size),
    st.lists(st.tuples(size, st.sampled_from(["both", "first", "second"])), max_size=2),
    st.sampled_from(["both", "first", "second"]),
    st.integers(0, 2**32 - 1),
)
def test_products_are_torchs(x64, sizes, batch, present, seed):
    n, m, k = sizes
    first = tuple(b if who != "second" else 1 for b, who in batch) if present != "second" else ()
    second = tuple(b if who != "first" else 1 for b, who in batch) if present != "first" else ()
    random = np.random.default_rng(seed)
    a, b, x = (random.normal(size=s) for s in ((*first, n, m), (*second, m, k), (*second, m)))

    def ours(a, b, x):
        return fx.batched_mul(a, b), fx.batched_vec(a, x), fx.batched_transpose(a) ** 2

    def theirs(a, b, x):
        whole = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        flat = [y.expand(*whole, *y.shape[-2:]).reshape(-1, *y.shape[-2:]) for y in (a, b, x[..., None])]
        return (
            torch.bmm(flat[0], flat[1]).reshape(*whole, n, k),
            torch.bmm(flat[0], flat[2]).reshape(*whole, n),
            a.transpose(-1, -2) ** 2,
        )

    same_as_torch(ours, theirs, a, b, x)


def test_dtypes_and_empty_batches():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.int32, jnp.complex64):
        a = jnp.arange(6).reshape(1, 2, 3).astype(dtype)
        assert fx.batched_mul(a, fx.batched_transpose(a)).dtype == dtype
    assert fx.batched_mul(np.ones((0, 2, 3)), np.ones((0, 3, 4))).shape == (0, 2, 4)
    assert fx.batched_mul(np.ones((5, 2, 0)), np.ones((5, 0, 4))).tolist() == np.zeros((5, 2, 4)).tolist()
    assert fx.batched_vec(np.ones((1, 2, 3)), np.ones((0, 3))).shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fx.batched_mul(np.ones((4, 2, 3)), np.ones((5, 3, 2))),
            r"batched_mul: expected batch axes that are equal, 1, or left out, got \(4,\) of \(4, 2, 3\) and \(5,\) of",
        ),
        (  # @ would take it
            lambda: fx.batched_mul(np.ones((4, 2, 3)), np.ones((5, 4, 3, 2))),
            r"equal, 1, or left out, got \(4,\) of \(4, 2, 3\) and \(5, 4\) of \(5, 4, 3, 2\). Reshape one",
        ),
        (
            lambda: fx.batched_mul(np.ones((4, 2, 3)), np.ones((4, 5, 3))),
            r"the same m, got \(4, 2, 3\) and \(4, 5, 3\). Use batched_transpose on the second.",
        ),
        (
            lambda: fx.batched_mul(np.ones((4, 3, 2)), np.ones((4, 3, 5))),
            r"got \(4, 3, 2\) and \(4, 3, 5\). Use batched_transpose on the first.",
        ),
        (lambda: fx.batched_mul(np.ones((4, 2, 3)), np.ones((4, 5, 6))), r"got \(4, 2, 3\) and \(4, 5, 6\).$"),
        (lambda: fx.batched_mul(np.ones((2, 3)), np.ones(3)), r"got \(2, 3\) and \(3,\). Use batched_vec for vectors."),
        (lambda: fx.batched_vec(np.ones((4, 2, 3)), np.ones((4, 2))), r"batched_vec: .* got \(4, 2, 3\) and \(4, 2\)"),
        (lambda: fx.batched_vec(np.ones((4, 2, 3)), np.ones((5, 3))), r"batched_vec: expected batch axes"),
        (lambda: fx.batched_transpose(np.ones(3)), r"batched_transpose: expected matrices .* got \(3,\)"),
        (lambda: fx.batched_transpose(np.ones((2, 3), bool)), r"expected arrays of numbers, got dtype bool"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(fx.FluxionError, match=message):
        call()
