"""What a `DataLoader` does beside cutting arrays: training gives the numbers of the batches written out."""

import jax
import numpy as np
import pytest

import fluxion as fx

X = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)


class Rows:
    """An iterable of observations."""

    def __iter__(self):
        return zip(X, Y, strict=True)


def model():
    fx.seed(1)
    return fx.Chain(fx.Dense(5, 8, fx.relu), fx.Dropout(0.2), fx.Dense(8, 2))


def weights(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model)]


def cross_entropy(model, x, y):
    return fx.logitcrossentropy(model(x), y)


def trained(*parts):
    net = model()
    opt = fx.setup(fx.Adam(0.01), net)
    opt.seed = 5
    losses = [fx.train(cross_entropy, net, part, opt) for part in parts]
    return np.concatenate(losses), weights(net)


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def noisy(x, y):
    return x + 0.1 * fx.randn(*x.shape), y


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": fx.BalancedSampler(Y, count=40), "batch_size": 16},
        {"sampler": fx.LengthSampler(np.arange(48) % 7, 16)},
        {"shuffle": True, "batch_size": 16, "augment": noisy},
    ],
    ids=["balanced", "by length", "augment"],
)
def test_training_on_a_loader_is_training_on_its_batches(options):
    loader = fx.DataLoader((X, Y), seed=3, **options)
    whole = trained(loader, loader)
    loader.epoch = 0
    one_by_one = trained(*[[batch] for _ in range(2) for batch in loader])
    same(whole, one_by_one)
    # left in the middle of the second epoch, and gone on from there
    same(whole, trained(loader.batches(0), list(loader.batches(1))[:1], loader.batches(1, start=1)))


def test_streams_and_data_sets_train_as_arrays_do():
    arrays = trained(fx.DataLoader((X, Y), batch_size=16))
    same(arrays, trained(fx.DataLoader(Rows(), batch_size=16)))
    same(arrays, trained(fx.DataLoader(fx.mapobs(tuple, (X, Y)), batch_size=16)))


def test_fit_takes_a_stream_and_augmentation():
    net = fx.Chain(fx.Dense(None, 8, fx.relu), fx.Dense(8, 2))  # sizes from the first batch
    history = fx.fit(
        net,
        fx.DataLoader(Rows(), batch_size=16, augment=noisy, seed=0),
        loss=fx.logitcrossentropy,
        epochs=2,
        validation=fx.DataLoader((X, Y), batch_size=48),
        progress=False,
    )
    assert len(history) == 2 and net.layers[0].weight.shape == (5, 8)
    assert history["loss"][1] < history["loss"][0]


def test_windows_of_an_array_train_without_being_copied_whole():
    series = np.sin(np.arange(60, dtype=np.float32))
    windows = fx.slidingwindow(series, 6)
    loader = fx.DataLoader((windows[:, :5], np.arange(55) % 2), batch_size=11, shuffle=True, seed=2)
    same(trained(loader), trained(list(loader.batches(0))))
