"""TableEmbedding: rows of its weights beside the numbers, and no code that is clamped, wrapped or cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import fluxion as fx

TABLE = np.array([[2.0, 0.5, 0, -1], [0, 1.5, 3, 2], [2, 2.5, 1, 0]], np.float32)


def test_output_and_gradients_are_those_of_torch():
    layer = fx.TableEmbedding(4, [(2, 4, 3), (0, 3, 2)], init=fx.randn)
    weights = [torch.tensor(np.asarray(w), requires_grad=True) for w in layer.weights]
    x = torch.tensor(TABLE)
    expected = torch.cat([weights[0][x[:, 2].long()], weights[1][x[:, 0].long()], x[:, [1, 3]]], 1)
    np.testing.assert_array_equal(layer(TABLE), expected.detach())
    (expected**2).sum().backward()
    gradients = fx.gradient(lambda layer: (layer(TABLE) ** 2).sum(), layer)[0]
    for ours, theirs in zip(gradients.weights, weights, strict=True):
        np.testing.assert_allclose(ours, theirs.grad, rtol=1e-6)


def test_codes_that_are_none():
    layer = fx.TableEmbedding(2, [(0, 5, 3)])
    for code in (-1, 5, 1.5, np.nan):
        x = np.array([[code, 1.0]], np.float32)
        with pytest.raises(fx.DataError, match=r"TableEmbedding\(2, \[\(0, 5, 3\)\]\): index"):
            layer(x)
        assert np.isnan(jax.jit(layer)(x)[0, :3]).all()
    with pytest.raises(fx.DTypeError, match="that can hold the codes 0 to 299, got bfloat16"):
        fx.TableEmbedding(1, [(0, 300, 2)])(jnp.ones((1, 1), jnp.bfloat16))
    assert fx.TableEmbedding(1, [(0, 256, 2)])(jnp.full((1, 1), 255, jnp.bfloat16)).shape == (1, 2)


def test_codes_alone_and_in_integers():
    layer = fx.TableEmbedding(1, [(0, 5, 3)])
    np.testing.assert_array_equal(layer(np.array([[4], [0]])), layer.weights[0][np.array([4, 0])])
    assert layer(np.zeros((2, 7, 1), int)).shape == (2, 7, 3)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([(2, 5, 3)], "different places between 0 and 1, got 2"),
        ([(0, 5, 3), (0, 5, 3)], "different places between 0 and 1, got 0"),
        ([(0, 5)], r"codes as \(place, vocabulary, features\), got \(0, 5\)"),
        ([(True, 5, 3)], "got True"),
    ],
)
def test_refused(codes, message):
    with pytest.raises(fx.ArgumentError, match="TableEmbedding: .*" + message):
        fx.TableEmbedding(2, codes)


def test_it_comes_back_from_a_file(tmp_path):
    model = fx.Chain(fx.TableEmbedding(4, [(2, 4, 3)]), fx.Dense(6, 2))
    fx.save(tmp_path / "m.safetensors", model)
    np.testing.assert_array_equal(fx.load(tmp_path / "m.safetensors")(TABLE), model(TABLE))
