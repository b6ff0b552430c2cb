import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx


def test_onehot_agrees_with_torch():
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    values = np.random.default_rng(0).integers(0, 5, (3, 4))
    expected = torch.nn.functional.one_hot(torch.tensor(values), 5).numpy()
    np.testing.assert_array_equal(fx.onehotbatch(values, 5), expected)
    onto_device = fx.onehotbatch(jnp.asarray(values), 5)
    assert isinstance(onto_device, jax.Array) and onto_device.dtype == np.float32
    np.testing.assert_array_equal(onto_device, expected)
    np.testing.assert_array_equal(jax.jit(lambda v: fx.onehotbatch(v, 5))(values), expected)


@given(st.lists(st.sampled_from(["a", "bb", "c"]), max_size=6))
@settings(max_examples=20, deadline=None)
def test_onecold_undoes_onehotbatch(values):
    labels = ["c", "bb", "a"]
    assert fx.onecold(fx.onehotbatch(values, labels), labels).tolist() == values


def test_onehot_takes_values_of_many_kinds():
    assert fx.onehot(2, 3).tolist() == [0, 0, 1] and fx.onehot(np.int64(1), [1, 2]).tolist() == [1, 0]
    assert fx.onehot(2.0, 3).tolist() == [0, 0, 1]
    assert fx.onehot(jnp.asarray(1), 2).tolist() == [0, 1]
    assert fx.onehotbatch("ba", "ab").tolist() == [[0, 1], [1, 0]]
    assert fx.onehotbatch([1, "a"], ["a", 1]).tolist() == [[0, 1], [1, 0]]
    assert fx.onehotbatch([], 3).shape == (0, 3)
    assert fx.onehotbatch([True, False], [False, True]).tolist() == [[0, 1], [1, 0]]
    assert fx.onehotbatch(["x", "q"], ["x", "y"], default="y").tolist() == [[1, 0], [0, 1]]
    assert fx.onehotbatch([(1, 2), "a"], ["a", (1, 2)]).tolist() == [[0, 1], [1, 0]]
    polars = pytest.importorskip("polars")
    assert fx.onehotbatch(polars.Series(["u", "v"]), polars.Series(["v", "u"])).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        ([0, 1, 3], 3, r"expected one of the labels 0, ..., 2, got 3 at index 2"),
        ([-1], 3, "got -1 at index 0"),
        ([0.5], 3, "got 0.5 at index 0"),
        ([np.nan], 3, "got nan at index 0"),
        ([[0, 1], [2, 7]], 3, r"got 7 at index \(1, 1\)"),
        (["cat", None], ["cat"], "got None at index 1"),
        (jnp.array([0, 9]), 3, "got 9 at index 1"),
        (["z"], "abcdefghijklmno", r"'j', ... \(15 in all\), got 'z'"),
    ],
)
def test_unknown_labels_are_named(values, labels, message):
    with pytest.raises(fx.DataError, match=message):
        fx.onehotbatch(values, labels)
    with pytest.raises(fx.DataError, match=r"^onehot: expected one of the labels 'a', got 'b'\. Add"):
        fx.onehot("b", "a")


def test_unknown_labels_inside_jit_become_nan():
    y = jax.jit(lambda v: fx.onehotbatch(v, 3))(jnp.array([1, 3, -1]))
    np.testing.assert_array_equal(y, [[0, 1, 0], [np.nan] * 3, [np.nan] * 3])
    y = jax.jit(lambda v: fx.onehotbatch(v, [5, 7], default=7))(jnp.array([5, 6]))
    np.testing.assert_array_equal(y, [[1, 0], [0, 1]])
    with pytest.raises(fx.DTypeError, match="numbers as labels inside jit"):
        jax.jit(lambda v: fx.onehotbatch(v, "ab"))(jnp.array([0]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fx.onehot([1], 0), fx.ArgumentError, "a number of labels of at least 1, got 0"),
        (lambda: fx.onehot(1, True), fx.DTypeError, "got True"),
        (lambda: fx.onehot(1, []), fx.ArgumentError, "at least one label"),
        (lambda: fx.onehot(1, [1, 2, 1]), fx.ArgumentError, "different labels, got 1 twice"),
        (lambda: fx.onehot(1, [[1], [2]]), fx.DTypeError, "numbers or strings as labels"),
        (lambda: fx.onehot(1, 2.5), fx.DTypeError, "labels as a sequence or a number"),
        (lambda: fx.onehot(1, [1, 2], default=3), fx.ArgumentError, "a default among the labels 1, 2, got 3"),
        (lambda: fx.onehot(np.array([1]), 2), fx.ShapeError, "Use onehotbatch"),
        (lambda: fx.onehotbatch(3, 4), fx.DTypeError, "Use onehot for one"),
        (lambda: fx.onecold(np.array([[1.0, 2.0], [np.nan, 1.0]])), fx.DataError, r"NaN at index \(1, 0\)"),
        (lambda: fx.onecold(np.ones((2, 3)), "ab"), fx.ShapeError, r"expected 3 labels .* got 2"),
        (lambda: fx.onecold(np.ones((2, 0))), fx.ShapeError, "along axis -1"),
        (lambda: fx.onecold(np.float32(1)), fx.ShapeError, "along axis -1"),
        (lambda: fx.onecold(np.ones(3), axis=1), fx.ShapeError, "along axis 1"),
        (lambda: fx.onecold(np.array(["a"])), fx.DTypeError, "an array of real numbers"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_onecold():
    y = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]], np.float32)
    assert fx.onecold(y).tolist() == [1, 0]
    assert fx.onecold(y, axis=0).tolist() == [1, 0, 0]
    assert fx.onecold(y[0], ["a", "b", "c"]) == "b"
    assert fx.onecold(y, ["a", 1, None]).tolist() == [1, "a"]
    assert fx.onecold(y, 3).tolist() == [1, 0] and fx.onecold([[0, 1]]).tolist() == [1]
    assert fx.onecold(jnp.asarray(y), "abc").tolist() == ["b", "a"]
    assert isinstance(fx.onecold(jnp.asarray(y)), jax.Array)
    traced = jax.jit(fx.onecold)(jnp.array([[0.0, 1.0], [jnp.nan, 0.0]]))
    assert traced.tolist() == [1, -1]
    with pytest.raises(fx.DTypeError, match="labels=None inside jit"):
        jax.jit(lambda v: fx.onecold(v, "ab"))(jnp.ones((1, 2)))
