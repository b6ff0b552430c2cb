"""Outputs and all gradients of a function of ours beside those of the same function of torch's, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def same_as_torch(ours, theirs, *arrays, tolerance=1e-10):
    """Hold `ours(*arrays)` and its gradients to `theirs(*tensors)`. To be run under the `x64` fixture.

    `arrays` are NumPy arrays; floating ones become float64 and are differentiated, others are passed on as they are.
    Both functions take them in *our* layout and return one array or a tuple of arrays in our layout: what transposes
    for torch stands in `theirs`, where torch differentiates it as well. `ours` is compiled, once.

    The gradients are those of a weighted sum: a plain one would hide errors where outputs sum to a constant.
    """
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    arrays = [np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else np.asarray(a) for a in arrays]
    floating = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]

    def loss(some):
        every = list(map(jnp.asarray, arrays))
        for i, a in zip(floating, some, strict=True):
            every[i] = a
        out = ours(*every)
        return sum((jnp.asarray(weights(y.shape)) * y).sum() for y in jax.tree.leaves(out)), out

    compute = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, found), gradients = compute([jnp.asarray(arrays[i]) for i in floating])

    tensors = [torch.tensor(a, requires_grad=i in floating) for i, a in enumerate(arrays)]
    expected = theirs(*tensors)
    expected = list(expected) if isinstance(expected, tuple | list) else [expected]
    total = sum((torch.tensor(weights(tuple(y.shape))) * y).sum() for y in expected)
    wanted = torch.autograd.grad(total, [tensors[i] for i in floating], allow_unused=True)

    found = jax.tree.leaves(found)
    assert len(found) == len(expected)
    for y, reference in zip(found, expected, strict=True):
        compare("output", y, reference.detach().numpy(), tolerance)
    for i, gradient, reference in zip(floating, gradients, wanted, strict=True):
        reference = np.zeros(arrays[i].shape) if reference is None else reference.numpy()
        compare(f"gradient of argument {i}", gradient, reference, tolerance)


def weights(shape):
    return np.sin(np.arange(np.prod(shape, dtype=int)) + 1.0).reshape(shape)


def compare(what, found, expected, tolerance):
    assert found.shape == expected.shape, f"{what}: {found.shape} is not {expected.shape}"
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=what)
