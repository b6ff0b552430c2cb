"""A run that shows whether it was resumed exactly, shared by the tests of resuming."""

import jax
import numpy as np
from training_help import Tied, classes

import fluxion as fx
from fluxion.transform.randomness import next_key

X, Y = classes(37)  # 5 batches of 8


def net():
    """Dropout, BatchNorm, tied weights, a buffer that counts."""
    fx.seed(5)
    return fx.Chain(Tied(4), fx.Dense(4, 6), fx.BatchNorm(6, fx.relu), fx.Dropout(0.3), fx.Dense(6, 3))


def noisy(m, x, y):
    """A loss with the randomness of an augmentation."""
    return fx.logitcrossentropy(m(x + 0.1 * jax.random.normal(next_key(), x.shape)), y)


class Stop(Exception):
    """What interrupts a run."""


class Single(fx.DataLoader):
    """Of a class of its own, so that its steps are taken one by one; a batch more than `left` raises."""

    left = 1000

    def batches(self, epoch, start=0):
        for batch in super().batches(epoch, start):
            if self.left == 0:
                raise Stop
            self.left -= 1
            yield batch


def loader(left=1000, **options):
    made = Single((X, Y), **({"batch_size": 8, "shuffle": True, "seed": 4} | options))
    made.left = left
    return made


def run(folder, data, model=None, *, epochs=4, callbacks=(), rule=None, **options):
    """One call of `fit` on a fresh model; everything that must be the same afterwards."""
    model = net() if model is None else model
    opt = fx.setup(rule or fx.OptimizerChain(fx.ClipNorm(1.0), fx.Adam(1e-2)), model)
    fx.seed(77)
    options = {"loss": fx.logitcrossentropy, "metrics": [fx.accuracy], "seed": 9, "validation": (X, Y)} | options
    history = fx.fit(
        model, data, optimizer=opt, epochs=epochs, run=folder, callbacks=callbacks, progress=False, **options
    )
    arrays = {**fx.state(model), **dict(enumerate(jax.tree.leaves(opt.state)))}
    arrays = {name: np.array(array) for name, array in arrays.items()}
    return (
        arrays,
        opt.step,
        opt.learning_rate,
        untimed(history.csv_text()),
        untimed((folder / "metrics.csv").read_text()),
    )


def untimed(text):
    """CSV without the columns of time."""
    rows = [line.split(",") for line in text.splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if name not in ("seconds", "samples_per_second")]
    return [[row[i] for i in kept] for row in rows]


def assert_equal(got, expected):
    assert got[1:] == expected[1:]
    assert got[0].keys() == expected[0].keys()
    for name, array in expected[0].items():
        np.testing.assert_array_equal(got[0][name], array, err_msg=str(name))
