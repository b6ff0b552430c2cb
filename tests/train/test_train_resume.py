"""Runs that are interrupted anywhere and go on: bit for bit those that never were."""

import numpy as np
import pytest
from resume_help import Stop, X, Y, assert_equal, loader, noisy, run
from training_help import in_batches

import fluxion as fx
from fluxion.train import steps as steps_module
from fluxion.train.runfolder import RunFolder
from fluxion.train.step import Training


class Again:
    """Batches that can only be read from the first one on, and draw from the default stream."""

    def __init__(self, left=1000):
        self.left = left

    def __iter__(self):
        for x, y in in_batches(X, Y):
            if self.left == 0:
                raise Stop
            self.left -= 1
            yield x + np.asarray(fx.randn(4))[None], y


def cosine(step):
    return 0.02 / (1 + step)


@pytest.fixture
def killed(monkeypatch):
    """As if the process ended right after the checkpoint of a step was written."""
    keep, at = RunFolder.keep, [0]

    def kept(self, context, moment):
        keep(self, context, moment)
        if context.step in at:
            raise Stop

    monkeypatch.setattr(RunFolder, "keep", kept)
    monkeypatch.setattr(RunFolder, "keep_after", lambda *args: None)
    return at


class Memory(fx.Callback):
    """A callback with a memory that draws from the default stream."""

    def __init__(self):
        self.seen, self.sum = [], np.zeros(3, np.float32)

    def on_fit_begin(self, context):
        fx.randn(3)

    def on_epoch_begin(self, context):
        self.seen.append(["epoch", context.epoch])

    def on_epoch_end(self, context):
        self.seen.append([context.step, float(fx.randn(1)[0]), len(context.history), context.loss])
        self.sum = self.sum + np.asarray(context.model[4].bias)

    def state(self):
        return {"seen": list(self.seen)}

    def load_state(self, state):
        self.seen = list(state["seen"])

    def arrays(self):
        return {"sum": self.sum}

    def load_arrays(self, arrays):
        self.sum = arrays["sum"]


class Steps(Memory):
    """And one that looks at every step, and raises in the middle of one."""

    def __init__(self, before=0, after=0):
        super().__init__()
        self.before, self.after = before, after

    def on_step_begin(self, context):
        self.seen.append(["before", context.step])
        if self.before and context.step == self.before:
            raise Stop

    def on_step_end(self, context):
        self.seen.append(["after", context.step, context.loss])
        if self.after and context.step == self.after:
            raise Stop


def test_interrupted_anywhere_it_goes_on_bit_for_bit(tmp_path):
    memory, options = Memory(), {"loss": noisy, "metrics": [], "schedule": cosine}
    whole = run(tmp_path / "whole", loader(), callbacks=[memory], **options)
    for at in (1, 3, 5, 7, 12, 19):
        folder, again = tmp_path / str(at), Memory()
        with pytest.raises(Stop):
            run(folder, loader(left=at), callbacks=[Memory()], **options)
        assert_equal(run(folder, loader(), callbacks=[again], **options), whole)
        assert again.seen == memory.seen
        np.testing.assert_array_equal(again.sum, memory.sum)


def test_many_interruptions_are_as_none(tmp_path):
    whole = run(tmp_path / "whole", loader(), epochs=2)
    for _ in range(9):  # a step each
        with pytest.raises(Stop):
            run(tmp_path / "a", loader(left=1), epochs=2)
    assert_equal(run(tmp_path / "a", loader(), epochs=2), whole)


@pytest.mark.slow
def test_interrupted_at_every_step_it_goes_on_bit_for_bit(tmp_path):
    options = {"loss": noisy, "metrics": [], "schedule": cosine, "epochs": 3}
    whole = run(tmp_path / "whole", loader(), **options)
    for at in range(15):
        with pytest.raises(Stop):
            run(tmp_path / str(at), loader(left=at), **options)
        assert_equal(run(tmp_path / str(at), loader(), **options), whole)


@pytest.mark.parametrize("size", [2**10, 2])
def test_killed_after_a_checkpoint_among_blocks_of_steps(tmp_path, killed, monkeypatch, size):
    monkeypatch.setattr(steps_module, "BLOCK_STEPS", size)
    options = {"batch_size": 8, "loss": noisy, "metrics": [], "validation": None}
    whole = run(tmp_path / "whole", (X, Y), **options)
    for every, step in ((1, 4), (3, 9), (5, 15), (7, 14)):
        folder, killed[:] = tmp_path / str(every), [step]
        for _ in range(2):
            with pytest.raises(Stop):
                run(folder, (X, Y), callbacks=[fx.Checkpoint(every=every)], **options)
            (folder / "checkpoints" / f"step-{step:09}.safetensors").unlink()  # to do some of it twice
        killed[:] = [0]
        assert_equal(run(folder, (X, Y), callbacks=[fx.Checkpoint(every=every)], **options), whole)


def test_ctrl_c_keeps_the_steps_that_are_under_way(tmp_path, monkeypatch):
    options = {"batch_size": 8, "validation": None}
    whole = run(tmp_path / "whole", (X, Y), **options)
    settle, calls = Training.settle, []

    def interrupted(self):
        calls.append(self.accepted)
        if len(calls) == 3:
            raise KeyboardInterrupt
        settle(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "settle", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "a", (X, Y), **options)
    assert RunFolder(tmp_path / "a", None).saved().description["step"] > calls[-1]
    assert_equal(run(tmp_path / "a", (X, Y), **options), whole)


def test_a_list_of_batches_goes_on_within_its_blocks(tmp_path, killed):
    options = {"validation": None, "callbacks": [fx.Checkpoint(every=3)]}
    batches = in_batches(X, Y)
    whole = run(tmp_path / "whole", batches, **options)
    killed[:] = [12]
    with pytest.raises(Stop):
        run(tmp_path / "a", batches, **options)
    killed[:] = [0]
    assert_equal(run(tmp_path / "a", batches, **options), whole)


def test_other_iterables_are_read_again_up_to_the_place(tmp_path):
    whole = run(tmp_path / "whole", Again())
    with pytest.raises(Stop):
        run(tmp_path / "a", Again(left=8))
    assert_equal(run(tmp_path / "a", Again()), whole)


def test_interrupted_in_a_callback(tmp_path):
    memory = Steps()
    whole = run(tmp_path / "whole", loader(), callbacks=[memory], epochs=3)
    for at in ({"before": 7}, {"after": 7}, {"before": 10}, {"after": 10}, {"after": 15}):
        folder, again = tmp_path / str(at), Steps()
        with pytest.raises(Stop):
            run(folder, loader(), callbacks=[Steps(**at)], epochs=3)
        assert_equal(run(folder, loader(), callbacks=[again], epochs=3), whole)
        assert again.seen == memory.seen
