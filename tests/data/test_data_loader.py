from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx


class Pair(NamedTuple):
    x: object
    y: object


class Squares:
    """A data set that is read one observation at a time."""

    def __len__(self):
        return 7

    def __getitem__(self, i):
        if not 0 <= i < 7:
            raise IndexError(i)
        return np.array([i, i * i]), i


@given(
    count=st.integers(1, 30),
    size=st.integers(1, 12),
    shuffle=st.booleans(),
    partial=st.booleans(),
    epoch=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_batches_hold_every_observation_once(count, size, shuffle, partial, epoch):
    if not partial and size > count:
        return
    data = (np.arange(count), np.arange(count)[:, None] * 10)
    loader = fx.DataLoader(data, batch_size=size, shuffle=shuffle, partial=partial, seed=3)
    batches = list(loader.batches(epoch))
    assert len(batches) == len(loader) == (-(-count // size) if partial else count // size)
    assert all(len(x) == size for x, _ in batches[: count // size])
    xs = np.concatenate([x for x, _ in batches])
    np.testing.assert_array_equal(xs, loader.indices(epoch)[: len(xs)])
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), xs[:, None] * 10)
    assert len(set(xs.tolist())) == len(xs) and (not partial or len(xs) == count)
    for start in range(len(loader) + 1):
        rest = list(loader.batches(epoch, start))
        assert [x.tolist() for x, _ in rest] == [x.tolist() for x, _ in batches[start:]]


def test_order_is_numpys_and_depends_on_seed_and_epoch():
    loader = fx.DataLoader(np.arange(50), batch_size=50, shuffle=True, seed=5)
    for epoch in range(3):
        expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([5, epoch]))).permutation(50)
        assert loader.epoch == epoch
        np.testing.assert_array_equal(next(iter(loader)), expected)
    loader.epoch = 1
    np.testing.assert_array_equal(next(iter(loader)), loader.indices(1))
    assert loader.epoch == 2
    other = fx.DataLoader(np.arange(50), shuffle=True, seed=6)
    assert (other.indices(0) != loader.indices(0)).any() and (loader.indices(0) != loader.indices(1)).any()


def test_leaving_early_moves_on_and_batches_do_not():
    loader = fx.DataLoader(np.arange(10), shuffle=True, seed=0)
    for _ in loader:
        break
    assert loader.epoch == 1
    list(loader.batches(7))
    assert loader.epoch == 1


def test_seed_comes_from_the_default_stream():
    fx.seed(1)
    first = fx.DataLoader(np.arange(9), shuffle=True)
    second = fx.DataLoader(np.arange(9), shuffle=True)
    fx.seed(1)
    assert fx.DataLoader(np.arange(9), shuffle=True).seed == first.seed != second.seed
    fx.seed(1)
    assert fx.DataLoader(np.arange(9)).seed is None  # an order that is not random draws nothing
    assert fx.DataLoader(np.arange(9), shuffle=True).seed == first.seed


def test_a_batch_has_the_container_of_the_data():
    x, y = np.arange(8.0).reshape(4, 2), np.arange(4)
    for data in [(x, y), (x,), Pair(x, y), {"x": x, "y": y}, [x, y], {"in": (x, [x]), "y": Pair(y, y)}]:
        for shuffle in (False, True):
            batch = next(iter(fx.DataLoader(data, batch_size=3, shuffle=shuffle, seed=0)))
            assert jax.tree.structure(batch) == jax.tree.structure(data)
            assert all(len(leaf) == 3 for leaf in jax.tree.leaves(batch))
    assert isinstance(next(iter(fx.DataLoader(x, batch_size=3))), np.ndarray)


def test_jax_arrays_stay_jax_arrays():
    x = jnp.arange(12.0).reshape(6, 2)
    for shuffle in (False, True):
        loader = fx.DataLoader((x, np.arange(6)), batch_size=4, shuffle=shuffle, seed=1)
        for a, b in loader:
            assert isinstance(a, jax.Array) and isinstance(b, np.ndarray)
            np.testing.assert_array_equal(a, np.asarray(x)[b])


def test_observations_of_a_data_set_are_stacked():
    x, y = list(fx.DataLoader(Squares(), batch_size=4))[1]
    np.testing.assert_array_equal(x, [[4, 16], [5, 25], [6, 36]])
    assert y.tolist() == [4, 5, 6]
    words = fx.DataLoader((["a", "b", "c"], np.arange(3)), batch_size=2, shuffle=True, seed=0)
    for letters, places in words:
        assert letters == ["abc"[i] for i in places]
    assert next(iter(fx.DataLoader([1.5, 2.5], batch_size=2))).tolist() == [1.5, 2.5]
    pairs = [(np.ones(2) * i, i) for i in range(3)]
    x, y = next(iter(fx.DataLoader(pairs, batch_size=3)))
    assert x.shape == (3, 2) and y.tolist() == [0, 1, 2]
    with pytest.raises(fx.ShapeError, match=r"got \(1,\) in observation 0\[0\] and \(2,\) in observation 1"):
        list(fx.DataLoader([(np.ones(1),), (np.ones(2),)], batch_size=2))


def test_collate_sees_observations():
    data = (np.arange(5), np.arange(5) * 2)
    assert [len(b) for b in fx.DataLoader(data, batch_size=2, collate=list)] == [2, 2, 1]
    assert next(iter(fx.DataLoader(data, batch_size=2, collate=list))) == [(0, 0), (1, 2)]
    total = fx.DataLoader(data, batch_size=5, shuffle=True, seed=2, collate=lambda obs: sum(y - x for x, y in obs))
    assert list(total) == [10]


def test_tables_give_tables():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    loader = fx.DataLoader(frame, batch_size=2, shuffle=True, seed=0)
    rows = [row for batch in loader for row in batch.rows()]
    assert rows == [frame.row(i) for i in loader.indices(0)]


@pytest.mark.parametrize(
    ("data", "options", "text"),
    [
        (np.zeros((6, 2), np.float32), {}, "DataLoader(float32(6, 2))  # 6 observations in 6 batches"),
        (
            Pair(np.zeros(6), jnp.zeros((6, 1))),
            {"batch_size": 4, "shuffle": True, "seed": 2, "partial": False},
            "DataLoader(Pair(x=float64(6,), y=float32(6, 1)), batch_size=4, shuffle=True, seed=2, partial=False)"
            "  # 6 observations in 1 batch",
        ),
        ({"x": np.zeros(2, int)}, {"collate": list}, "DataLoader({'x': int64(2,)}, collate=list)  # 2 obs"),
        ((Squares(),), {"batch_size": 7}, "DataLoader((Squares,), batch_size=7)  # 7 observations in 1 batch"),
        ([np.zeros(2)], {}, "DataLoader([float64(2,)])"),
    ],
)
def test_repr(data, options, text):
    assert repr(fx.DataLoader(data, **options)).startswith(text)


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ((np.ones(3), np.ones(2)), {}, fx.ShapeError, r"^DataLoader: .* got 3 in data\[0\] and 2 in data\[1\]"),
        (np.ones((0, 2)), {}, fx.DataError, "at least one observation, got none"),
        ([], {}, fx.DataError, "at least one observation, got none"),
        ("abc", {}, fx.DTypeError, "^DataLoader: expected an array"),
        (1.5, {}, fx.DTypeError, "^DataLoader: expected an array"),
        ((iter([1]), [1]), {}, fx.DTypeError, "Make a list of it first"),
        (np.ones(3), {"batch_size": 0}, fx.ArgumentError, "batch_size: expected a whole number of at least 1, got 0"),
        (np.ones(3), {"batch_size": 2.0}, fx.DTypeError, r"batch_size: expected a whole number, got 2.0 of type float"),
        (np.ones(3), {"batch_size": True}, fx.DTypeError, "got True"),
        (np.ones(3), {"batch_size": 4, "partial": False}, fx.DataError, "at least 4 observations .* got 3"),
        (np.ones(3), {"seed": -1}, fx.ArgumentError, "seed: expected a whole number of at least 0"),
        (np.ones(3), {"seed": "x"}, fx.DTypeError, "seed"),
        (np.ones(3), {"shuffle": 1}, fx.DTypeError, "shuffle as True or False, got 1"),
        (np.ones(3), {"collate": 3}, fx.DTypeError, "collate as a function"),
    ],
)
def test_refused(data, options, error, message):
    with pytest.raises(error, match=message):
        fx.DataLoader(data, **options)


def test_bad_positions_are_refused():
    loader = fx.DataLoader(np.ones(3))
    with pytest.raises(fx.ArgumentError, match="start: expected a whole number between 0 and 3, got 4"):
        loader.batches(0, 4)
    with pytest.raises(fx.ArgumentError, match="epoch"):
        loader.epoch = -1
    with pytest.raises(fx.DTypeError, match="epoch"):
        loader.indices(0.5)


def test_another_seed_gives_its_orders():
    loader = fx.DataLoader(np.arange(20), batch_size=20, shuffle=True, seed=1)
    first = next(loader.batches(0))
    loader.seed = 2
    expected = next(fx.DataLoader(np.arange(20), batch_size=20, shuffle=True, seed=2).batches(0))
    np.testing.assert_array_equal(next(loader.batches(0)), expected)
    assert (first != expected).any()
    with pytest.raises(fx.ArgumentError, match="DataLoader: seed"):
        loader.seed = -1
