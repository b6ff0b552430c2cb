"""What happens to batches beside being cut: streams, batches made ahead, augmentation."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.data.ahead import END, made_ahead, on_device


class Lines:
    """An iterable that begins anew in every epoch."""

    def __init__(self, count):
        self.count = count
        self.read = 0

    def __iter__(self):
        for i in range(self.count):
            self.read += 1
            yield np.array([i, -i]), i


class Reading:
    """A data set that remembers what was read, and by which thread."""

    def __init__(self, count, bad=None):
        self.count, self.bad = count, bad
        self.read, self.threads = [], set()

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.read.append(i)
        self.threads.add(threading.current_thread().name)
        if i == self.bad:
            raise OSError(f"picture {i} is broken")
        return np.full(2, i), np.asarray(fx.rand(1))


def background_threads():
    return [t for t in threading.enumerate() if t.name.startswith("fluxion-data")]


@pytest.mark.parametrize("prefetch", [0, 3])
def test_an_iterable_is_taken_as_it_comes(prefetch):
    loader = fx.DataLoader(Lines(7), batch_size=3, prefetch=prefetch)
    for _ in range(2):
        assert [y.tolist() for _, y in loader] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [y.tolist() for _, y in loader.batches(0, 1)] == [[3, 4, 5], [6]]
    assert [x.tolist() for x in fx.DataLoader(iter(range(3)), batch_size=2, prefetch=prefetch)] == [[0, 1], [2]]
    short = fx.DataLoader(Lines(7), batch_size=3, partial=False, prefetch=prefetch, collate=len)
    assert list(short) == [3, 3] and loader.epoch == 2
    assert repr(loader).startswith("DataLoader(Lines, batch_size=3") and repr(loader).endswith("# batches as they come")
    with pytest.raises(TypeError, match="the number of batches of a Lines is not known"):
        len(loader)


def test_batches_of_an_iterable_pass_through():
    batches = [(np.zeros((2, 3)), np.ones(2)), (np.zeros((1, 3)), np.ones(1))]
    loader = fx.DataLoader(batches, batch_size=None)
    assert [len(x) for x, _ in loader] == [2, 1] and next(iter(loader))[0] is batches[0][0]
    assert [len(x) for x, _ in loader.batches(0, 1)] == [1]
    assert repr(loader) == "DataLoader(list, batch_size=None)  # batches as they come"


def test_an_iterator_lasts_for_one_epoch():
    loader = fx.DataLoader((i for i in range(4)), batch_size=2)
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3]]
    with pytest.raises(fx.DataError, match="a generator can be read once, and has been"):
        list(loader)
    unsized = fx.Chain(fx.Dense(None, 1))
    pairs = fx.DataLoader(((np.ones(2), np.ones(1)) for _ in range(2)), batch_size=2)
    with pytest.raises(fx.DataError, match=r"Infer sizes by fx.autosize\(model, shape\)"):
        fx.fit(unsized, pairs, loss=fx.mse, progress=False)


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (
            Lines(3),
            {"shuffle": True},
            fx.ArgumentError,
            "shuffle is for data with __len__ and __getitem__, got a Lines",
        ),
        (Lines(3), {"workers": 2}, fx.ArgumentError, "workers is for data with"),
        (Lines(3), {"sampler": fx.BalancedSampler([0, 1])}, fx.ArgumentError, "sampler is for data with"),
        (Lines(3), {"batch_size": None, "collate": list}, fx.ArgumentError, "collate is for observations"),
        ((np.ones(3), np.ones(3)), {"batch_size": None}, fx.ArgumentError, "is for an iterable of batches, got tuple"),
        (3, {"batch_size": None}, fx.ArgumentError, "is for an iterable of batches, got int"),
        (np.ones(3), {"workers": -1}, fx.ArgumentError, "workers: expected a whole number of at least 0"),
        (np.ones(3), {"prefetch": 1.5}, fx.DTypeError, "prefetch: expected a whole number"),
        (np.ones(3), {"augment": 1}, fx.DTypeError, "augment as a function of the parts of a batch, got 1"),
    ],
)
def test_refused(data, options, error, message):
    with pytest.raises(error, match=message):
        fx.DataLoader(data, **options)


def test_a_stream_has_no_indices():
    with pytest.raises(fx.DTypeError, match="a Lines has no indices"):
        fx.DataLoader(Lines(3)).indices(0)


def test_batches_are_made_ahead_in_the_background():
    data = Reading(20)
    batches = iter(fx.DataLoader(data, batch_size=2, prefetch=3))
    next(batches)
    deadline = time.monotonic() + 20
    while len(data.read) < 8 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert data.read == list(range(8))  # the batch in use and three more, no further
    assert data.threads == {t.name for t in background_threads()} and len(data.threads) == 1
    batches.close()
    assert not background_threads()
    here = Reading(4)
    next(iter(fx.DataLoader(here, batch_size=2, prefetch=0)))
    assert here.read == [0, 1] and here.threads == {threading.current_thread().name}


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_an_exception_comes_at_its_batch_with_the_index(prefetch):
    data = Reading(20, bad=9)
    loader = fx.DataLoader(data, batch_size=2, prefetch=prefetch)
    seen = []
    with pytest.raises(OSError, match="picture 9 is broken") as caught:
        for x, _ in loader:
            seen.append(x[0, 0])
    assert seen == [0, 2, 4, 6] and not background_threads()
    assert caught.value.__notes__ == ["This came from observation 9 of the Reading."]
    with pytest.raises(OSError) as caught:
        list(fx.DataLoader((data, np.arange(20)), batch_size=20, prefetch=prefetch, collate=list))
    assert caught.value.__notes__ == ["This came from observation 9 of the Reading."]
    with pytest.raises(OSError) as caught:
        list(fx.DataLoader(fx.splitobs(data, (0.4, 0.6))[1], prefetch=prefetch))
    assert caught.value.__notes__[0] == "This came from observation 9 of the Reading."
    assert caught.value.__notes__[1] == "This came from observation 1 of the Subset."


def test_arrays_need_no_thread():
    for data in (np.arange(6), {"a": jnp.arange(6)}):
        batches = iter(fx.DataLoader(data, batch_size=2, shuffle=True, seed=0))
        next(batches)
        assert not background_threads()


def test_random_numbers_of_a_batch_depend_on_seed_epoch_and_number_alone():
    def numbers(prefetch, seed, epoch, start=0):
        loader = fx.DataLoader(Reading(9), batch_size=2, shuffle=True, seed=seed, prefetch=prefetch)
        return [np.asarray(r).ravel().tolist() for _, r in loader.batches(epoch, start)]

    whole = numbers(0, 1, 0)
    fx.rand(3)  # draws from the default stream do not count
    assert numbers(2, 1, 0) == whole and numbers(4, 1, 0, 3) == whole[3:]
    assert len({x for batch in whole for x in batch}) == 9
    for other in (numbers(0, 1, 1), numbers(0, 2, 0)):
        assert all(a != b for a, b in zip(whole, other, strict=True))


def test_made_ahead_in_order_with_several_threads():
    def make(i):
        time.sleep(0.002 * (i % 3 == 0))
        return END if i == 40 else i

    assert list(made_ahead(make, range(100), count=6, threads=4)) == list(range(40))
    begun, release = threading.Event(), threading.Event()

    def wait(i):
        if i == 1:
            begun.set()
            assert release.wait(20)
        return i

    batches = made_ahead(wait, range(9), count=2, stop=release.set)
    assert next(batches) == 0 and begun.wait(20)
    batches.close()  # ends the call under way, and waits for it
    assert release.is_set() and not background_threads()


class Elsewhere:
    """A device that is no CPU, as far as it matters here."""

    platform = "tpu"


def test_numbers_go_to_an_accelerator_and_the_rest_stays(monkeypatch):
    batch = (np.ones(2, np.float32), np.arange(2), ["a", "b"], np.array([True]), jnp.ones(1))
    assert on_device(batch, jax.devices()[0]) is batch
    monkeypatch.setattr(jax, "device_put", lambda x, device: (type(device).__name__, x.dtype.name))
    there = on_device(batch, Elsewhere())
    assert there[0] == ("Elsewhere", "float32") and there[3] == ("Elsewhere", "bool")
    assert there[1] is batch[1] and there[2] == ["a", "b"] and there[4] is batch[4]  # int64 would be narrowed


def noisy(x, y):
    return x + fx.rand(*x.shape), y


def test_augment_is_a_function_of_seed_epoch_and_batch():
    x, y = np.zeros((10, 3), np.float32), np.arange(10)

    def run(epoch, start=0, seed=3, data=(x, y)):
        loader = fx.DataLoader(data, batch_size=4, shuffle=True, seed=seed, augment=noisy)
        return [np.asarray(a) for a, _ in loader.batches(epoch, start)]

    first = run(0)
    assert [a.shape for a in first] == [(4, 3), (4, 3), (2, 3)]
    assert len(np.unique(np.concatenate(first))) == 30 and min(a.min() for a in first) >= 0
    for a, b in zip(run(0, 1), first[1:], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.intersect1d(run(1)[0], first[0]).size and not np.intersect1d(run(0, seed=4)[0], first[0]).size
    pairs = list(zip(x, y, strict=True))
    for a, b in zip(run(0, data=pairs), first, strict=True):  # made by Python, in the background
        np.testing.assert_array_equal(a, b)


def test_augment_takes_the_batch_as_it_is():
    x = np.arange(4.0, dtype=np.float32)
    loader = fx.DataLoader({"x": x}, batch_size=2, augment=lambda batch: {"x": batch["x"] * 2})
    assert [b["x"].tolist() for b in loader] == [[0, 2], [4, 6]]
    loader = fx.DataLoader(x, batch_size=4, augment=noisy)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        list(loader)
    doubled = fx.DataLoader(x, batch_size=4, augment=lambda x: x * 2)
    assert repr(doubled) == "DataLoader(float32(4,), batch_size=4, augment=<lambda>)  # 4 observations in 1 batch"
    assert doubled.example().tolist() == [0, 2, 4, 6]


def test_augment_is_compiled_once_per_shape():
    traced = []

    def shifted(x):
        traced.append(x.shape)
        return x + 1

    loader = fx.DataLoader(np.zeros((9, 2), np.float32), batch_size=4, augment=shifted)
    for _ in range(3):
        list(loader)
    assert sorted(set(traced)) == [(1, 2), (4, 2)] and len(traced) <= 4
