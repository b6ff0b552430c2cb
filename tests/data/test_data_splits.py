import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx


class Squares:
    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

    def __getitem__(self, i):
        self.read.append(i)
        return i * i


@given(
    labels=st.lists(st.integers(0, 3), min_size=8, max_size=60),
    at=st.sampled_from([0.7, 0.5, 0.9, (0.6, 0.2), (0.7, 0.15, 0.15), (0.25, 0.25, 0.25, 0.25)]),
    shuffle=st.booleans(),
    stratify=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_parts_are_disjoint_whole_and_in_proportion(labels, at, shuffle, stratify):
    n, labels = len(labels), np.array(labels)
    shares = [*at] if isinstance(at, tuple) else [at]
    if sum(shares) < 0.999:
        shares.append(1 - sum(shares))
    try:
        parts = fx.splitobs(np.arange(n), at, shuffle=shuffle, stratified=labels if stratify else None, seed=1)
    except fx.DataError as error:  # small data need not reach every part
        assert "got none for part" in str(error) and (stratify or n * min(shares) < 1)
        return
    assert len(parts) == len(shares)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for part, share in zip(parts, shares, strict=True):
        for label in set(labels.tolist()) if stratify else ():
            expected = round(share * (labels == label).sum())
            assert abs((labels[part] == label).sum() - expected) <= 1
        assert abs(len(part) - share * n) <= (len(shares) if stratify else 1)
        assert shuffle or (np.diff(part) > 0).all()
    if len(shares) == 2:
        assert len(parts[0]) == np.floor(shares[0] * n + 0.5)


def test_iris_is_split_evenly():
    x, y = fx.datasets.iris()
    (xtrain, ytrain), (xtest, ytest) = fx.splitobs((x, y), 0.7, shuffle=True, stratified=y, seed=0)
    assert np.bincount(ytrain).tolist() == [35, 35, 35] and np.bincount(ytest).tolist() == [15, 15, 15]
    assert xtrain.shape == (105, 4) and xtest.shape == (45, 4)
    counted = fx.splitobs(y, (90, 30, 30), stratified=y)
    assert [np.bincount(part).tolist() for part in counted] == [[30] * 3, [10] * 3, [10] * 3]


@pytest.mark.parametrize(
    ("count", "at", "sizes"),
    [
        (5, 0.5, [3, 2]),  # a half goes to the earlier part
        (50, 0.29, [15, 35]),  # 14.5, although 0.29 * 50 is a little less in floating point
        (10, 3, [3, 7]),
        (10, (3, 3), [3, 3, 4]),
        (10, (3, 7), [3, 7]),
        (10, (0.3, 0.7), [3, 7]),
        (3, (0.5, 0.25), [1, 1, 1]),
    ],
)
def test_sizes(count, at, sizes):
    assert [len(part) for part in fx.splitobs(np.arange(count), at)] == sizes


def test_many_small_classes_do_not_drift():
    labels = np.repeat(np.arange(200), 5)
    train, test = fx.splitobs(labels, 0.9, stratified=labels)
    assert (len(train), len(test)) == (900, 100)


def test_order_and_container():
    data = {"x": np.arange(10), "y": (jnp.arange(10), list("abcdefghij"))}
    first, second = fx.splitobs(data, 0.6)
    assert first["x"].tolist() == [0, 1, 2, 3, 4, 5] and second["y"][1] == list("ghij")
    assert np.shares_memory(first["x"], data["x"]) and isinstance(second["y"][0], jax.Array)
    mixed = fx.splitobs(np.arange(10), 0.6, shuffle=True, seed=4)
    again = fx.splitobs(np.arange(10), 0.6, shuffle=True, seed=4)
    assert all((a == b).all() for a, b in zip(mixed, again, strict=True))
    np.testing.assert_array_equal(
        np.concatenate(mixed), np.random.Generator(np.random.PCG64(np.random.SeedSequence([4]))).permutation(10)
    )
    fx.seed(1)
    one = fx.splitobs(np.arange(30), shuffle=True)[0]
    fx.seed(1)
    np.testing.assert_array_equal(one, fx.splitobs(np.arange(30), shuffle=True)[0])


def test_a_data_set_is_not_read_until_asked():
    data = Squares()
    first, second = fx.splitobs(data, 0.8)
    assert data.read == [] and len(first) == 8
    assert [*second] == [64, 81] and second[0] == 64 and data.read == [8, 9, 8]
    assert repr(second) == "Subset(Squares)  # 2 of 10 observations"
    assert next(iter(fx.DataLoader(second, batch_size=2))).tolist() == [64, 81]
    polars = pytest.importorskip("polars")
    a, b = fx.splitobs(polars.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"]}), 2, shuffle=True, seed=0)
    assert a.height == 2 and b.height == 1 and sorted([*a["a"], *b["a"]]) == [1, 2, 3]


@given(n=st.integers(2, 40), k=st.integers(2, 6), shuffle=st.booleans(), stratify=st.booleans(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_folds_cover_everything_once(n, k, shuffle, stratify, data):
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    if n < k or (stratify and np.unique(labels, return_counts=True)[1].min() < k):
        return
    folds = fx.kfolds(n, k, shuffle=shuffle, stratified=labels if stratify else None, seed=0)
    assert len(folds) == k
    held = np.concatenate([validation for _, validation in folds])
    assert sorted(held.tolist()) == list(range(n))
    sizes = [len(validation) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1
    for train, validation in folds:
        assert sorted([*train, *validation]) == list(range(n))
        assert shuffle or ((np.diff(train) > 0).all() and (np.diff(validation) > 0).all())
    if stratify:
        ones = [labels[validation].sum() for _, validation in folds]
        assert max(ones) - min(ones) <= 1
    elif not shuffle:
        assert [len(part) for part in np.array_split(np.arange(n), k)] == sizes
        np.testing.assert_array_equal(held, np.arange(n))


def test_kfolds_of_data():
    x, y = fx.datasets.iris()
    for train, validation in fx.kfolds((x, y), 5, shuffle=True, stratified=y, seed=0):
        assert train[0].shape == (120, 4) and np.bincount(validation[1]).tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: fx.splitobs(x, 0.0), fx.ArgumentError, r"between 0 and 1 .* got at=0.0"),
        (lambda x: fx.splitobs(x, 1.0), fx.ArgumentError, "got at=1.0"),
        (lambda x: fx.splitobs(x, (0.7, 0.4)), fx.ArgumentError, r"at most 1, got at=\(0.7, 0.4\)"),
        (lambda x: fx.splitobs(x, 10), fx.ArgumentError, "leave some of 10, got at=10"),
        (lambda x: fx.splitobs(x, (0, 4)), fx.ArgumentError, "positive numbers of observations"),
        (lambda x: fx.splitobs(x, ()), fx.ArgumentError, "at least one share"),
        (lambda x: fx.splitobs(x, float("nan")), fx.ArgumentError, "got at=nan"),
        (lambda x: fx.splitobs(x, "0.7"), fx.DTypeError, "got '0.7'"),
        (lambda x: fx.splitobs(x, True), fx.DTypeError, "got True"),
        (lambda x: fx.splitobs(x, 0.01), fx.DataError, "got none for part 0 of 10 at 0.01"),
        (lambda x: fx.splitobs(x, stratified=[1, 2]), fx.ShapeError, r"each of 10 observations, got shape \(2,\)"),
        (lambda x: fx.splitobs(x, stratified=[1] * 9 + [None]), fx.DTypeError, "mixed or missing"),
        (lambda x: fx.splitobs(x, stratified=x / x), fx.DataError, "NaN at index 0"),
        (lambda x: fx.splitobs((x, x[:3])), fx.ShapeError, r"got 10 in data\[0\] and 3"),
        (lambda x: fx.splitobs(x, seed=-1), fx.ArgumentError, "splitobs: seed"),
        (lambda x: fx.splitobs("ab"), fx.DTypeError, "splitobs: expected an array"),
        (lambda x: fx.kfolds(x, 1), fx.ArgumentError, "a number of folds between 2 and 10, got 1"),
        (lambda x: fx.kfolds(x, 11), fx.ArgumentError, "between 2 and 10, got 11"),
        (lambda x: fx.kfolds(1, 2), fx.ArgumentError, "a number of observations of at least 2"),
        (lambda x: fx.kfolds(x[:1], 2), fx.DataError, "at least 2 observations for 2 folds, got 1"),
        (lambda x: fx.kfolds(x, 3, stratified=[0] * 8 + [7] * 2), fx.DataError, "at least 3 members .* got 2 of 7"),
    ],
)
def test_refused(call, error, message):
    with np.errstate(invalid="ignore"), pytest.raises(error, match=message):
        call(np.arange(10.0))
