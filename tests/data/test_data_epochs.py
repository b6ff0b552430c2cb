"""Several passes over the data as one stretch of batches."""

import itertools

import numpy as np
import pytest

import fluxion as fx


def loader(seed=3, **options):
    return fx.DataLoader(np.arange(10), **({"batch_size": 4, "shuffle": True, "seed": seed} | options))


def test_they_are_the_epochs_of_a_loop():
    plain = loader()
    expected = [batch.tolist() for _ in range(3) for batch in plain]
    data = loader()
    epochs = fx.Epochs(data, 3)
    assert [batch.tolist() for batch in epochs] == expected
    assert len(epochs) == 9 and data.epoch == 3
    assert [batch.tolist() for batch in epochs] == [batch.tolist() for _ in range(3) for batch in plain]  # 3, 4, 5


@pytest.mark.parametrize("start", range(10))
def test_they_begin_at_any_batch(start):
    expected = [batch.tolist() for batch in fx.Epochs(loader(), 3)]
    data = loader()
    assert [batch.tolist() for batch in fx.Epochs(data, 3).batches(start)] == expected[start:]
    assert data.epoch == (3 if start < 9 else 0)
    assert list(fx.Epochs(["a", "b"], 2).batches(min(start, 4))) == ["a", "b", "a", "b"][start:]


def test_using_the_loader_meanwhile_changes_no_order():
    expected = [batch.tolist() for batch in fx.Epochs(loader(), 3)]
    data, got = loader(), []
    for batch in fx.Epochs(data, 3):
        got.append(batch.tolist())
        next(iter(data))
    assert got == expected


def test_without_a_count_they_have_no_end():
    epochs = fx.Epochs([1, 2, 3])
    assert list(itertools.islice(epochs, 7)) == [1, 2, 3, 1, 2, 3, 1]
    with pytest.raises(fx.DTypeError, match="have no end"):
        len(epochs)
    assert repr(epochs) == "Epochs([1, 2, 3], None)"


def test_what_cannot_be_repeated_is_refused():
    with pytest.raises(fx.DataError, match="got a generator, which lasts for one pass"):
        fx.Epochs((i for i in range(3)), 2)
    assert list(fx.Epochs(iter([1, 2]), 1)) == [1, 2]
    with pytest.raises(fx.DataError, match="at least one batch in pass 0"):
        list(fx.Epochs([]))
    with pytest.raises(fx.DTypeError, match="iterable of batches, got int"):
        fx.Epochs(3)
    with pytest.raises(fx.ArgumentError, match="count"):
        fx.Epochs([1], -1)
    assert list(fx.Epochs([1], 0)) == []
