"""The learning rate of every step, and what TensorBoard is told."""

import builtins
import struct
from pathlib import Path

import numpy as np
import pytest
from resume_help import Stop, X, Y, loader

import fluxion as fx


def halving(step):
    return 0.1 / (1 + step)


def fit(*, epochs=3, data=None, model=None, **options):
    fx.seed(0)
    model = fx.Chain(fx.Dense(4, 5), fx.Dense(5, 3)) if model is None else model
    data = loader() if data is None else data
    return fx.fit(model, data, loss=fx.logitcrossentropy, epochs=epochs, seed=1, progress=False, **options)


def test_the_rates_of_a_schedule_are_those_of_its_steps(tmp_path):
    logger = fx.LearningRateLogger()
    history = fit(schedule=halving, callbacks=[logger])
    assert logger.steps.tolist() == list(range(15))
    np.testing.assert_array_equal(logger.rates["learning_rate"], [halving(step) for step in range(15)])
    assert history["learning_rate"] == [halving(5), halving(10), halving(15)]
    assert logger.plot(tmp_path / "rates.png").axes[0].get_xlabel() == "step"
    assert (tmp_path / "rates.png").stat().st_size > 1000


def test_rates_that_callbacks_and_groups_change(tmp_path):
    logger = fx.LearningRateLogger()

    def change(context):
        if context.epoch == 1:
            fx.adjust(context.opt, 0.5, at="layers[1]")

    with pytest.raises(fx.ArgumentError, match="expected at least one epoch"):
        logger.plot()
    fit(optimizer=fx.Descent(0.25), epochs=2, callbacks=[change, logger])
    np.testing.assert_array_equal(logger.rates["learning_rate"], [0.25] * 5 + [np.nan] * 5)
    np.testing.assert_array_equal(logger.rates["layers[1]"], [np.nan] * 5 + [0.5] * 5)
    np.testing.assert_array_equal(logger.rates["**"], [np.nan] * 5 + [0.25] * 5)


def test_a_resumed_run_has_all_rates(tmp_path):
    logger = fx.LearningRateLogger()
    with pytest.raises(Stop):
        fit(run=tmp_path / "a", schedule=halving, data=loader(left=7), callbacks=[fx.LearningRateLogger()])
    fit(run=tmp_path / "a", schedule=halving, callbacks=[logger])
    np.testing.assert_array_equal(logger.rates["learning_rate"], [halving(step) for step in range(15)])


def events(folder):
    """The scalars of all event files, in order, read by the layout of TFRecord: length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found, starts = [], []
    for path in sorted(Path(folder).iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            starts += [event.step] if event.session_log.status == event.session_log.START else []
    return found, starts


def test_tensorboard_gets_the_rows(tmp_path):
    pytest.importorskip("tensorboardX")
    history = fit(callbacks=[fx.TensorBoard(tmp_path / "logs")], validation=(X, Y), epochs=2)
    found, starts = events(tmp_path / "logs")
    expected = [
        (row["epoch"], name, np.float32(value)) for row in history for name, value in row.items() if name != "epoch"
    ]
    assert found == expected and not starts


def test_tensorboard_forgets_what_a_resumed_run_makes_again(tmp_path):
    pytest.importorskip("tensorboardX")
    options = {"run": tmp_path / "a", "callbacks": [fx.TensorBoard(tmp_path / "logs")]}
    with pytest.raises(Stop):
        fit(data=loader(left=12), **options)
    fit(**options)
    found, starts = events(tmp_path / "logs")
    assert [step for step, tag, _ in found if tag == "loss"] == [1, 2, 3]
    assert starts == [3]


def test_without_tensorboardx_it_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "tensorboardX":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'pip install "fluxion-ml\[tensorboard\]"'):
        fit(callbacks=[fx.TensorBoard(tmp_path)])
