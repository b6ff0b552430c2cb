"""Training as a lazy iterator: each `next` takes one step and gives its loss; `run` takes all that are left at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fluxion.data.epochs import Epochs, can_seek
from fluxion.dialects.knet.parameters import as_model, trained
from fluxion.errors import ArgumentError, StateError, user_frames
from fluxion.optim import AdaDelta, AdaGrad, Adam, ClipNorm, Descent, Momentum, Nesterov, OptimizerChain, RMSProp
from fluxion.optim.optimizer import Optimizer, setup
from fluxion.train.step import Objective, Training, as_arguments, as_batch
from fluxion.train.steps import CALL_SECONDS, Block, feed
from fluxion.transform.sizes import infer_by_call
from fluxion.tree.model import first_unsized
from fluxion.tree.printing import compact
from fluxion.tree.walk import scan


class Minimize:
    """The iterator that `minimize` and the optimizers return: what it has done is in the model, the rest is to come.

    `opt` is the optimizer, from the first step on: `fx.adjust(training.opt, 1e-4)` changes the learning rate of the
    steps to come, `fx.freeze(training.opt, "model.layers[0]")` keeps a part as it is. `len` is the number of steps in
    all, where the data have a length.

    >>> from fluxion.dialects.knet import Param, sgd
    >>> w = Param(1.0)
    >>> training = sgd(lambda x: (w - x) ** 2, [0.0, 0.0, 0.0])
    >>> next(training), round(float(w), 2)
    (1.0, 0.8)
    >>> print(training.run().round(2))
    [0.64 0.41]
    """

    @user_frames
    def __init__(self, loss: Callable[..., Any], data: Any, opt: Any, params: Any, caller: str) -> None:
        if not callable(loss):
            raise ArgumentError(
                f"{caller}: expected a function or a model, got {compact(loss)}. The order is loss, data."
            )
        if isinstance(data, dict | str) or not hasattr(data, "__iter__"):
            raise ArgumentError(
                f"{caller}: expected an iterable of batches, got {type(data).__name__}. "
                "Write [batch] for one batch, or minibatch(x, y, 32)."
            )
        self.caller = caller
        self.loss = loss
        self.params = params
        self.owners = trained(loss, params, caller)
        self.model = as_model(self.owners)
        self.opt: Any = opt
        one_pass = not isinstance(data, Epochs) and (can_seek(data) or type(data) in (list, tuple))
        self.data = Epochs(data, 1) if one_pass else data
        self.done = 0  # the batches that are behind it
        self.first: int | None = None  # the epoch of the loader with which it began
        self.batches: Iterator[Any] | None = None
        self.training: Training | None = None
        self.known: Any = None  # the program that the owners were found for

    def __iter__(self) -> Minimize:
        return self

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        known = isinstance(self.data, Epochs) and self.data.sized and self.data.count is not None
        return f"{self.caller}({compact(self.loss)}, ...)  # {self.done} of {len(self) if known else 'unknown'} steps"

    @user_frames
    def __next__(self) -> float:
        if self.batches is None:
            self.batches = self.rest()
        batch = next(self.batches)
        self.done += 1
        training = self.ready(batch)
        training.run([batch])
        return float(training.results[0][0, 0])

    @user_frames
    def run(self) -> np.ndarray:
        """Take all steps that are left, many in one call where the data allow it; returns their losses.

        After an exception, Ctrl-C included, the model is that of the last completed step, and the iterator goes on
        behind it.
        """
        return self.exhaust()

    def exhaust(self, watch: Callable[[int, float | None], object] | None = None) -> np.ndarray:
        """`run`, with a call of `watch(steps, a late loss)` every tenth of a second or so."""
        before, training = self.done, None
        try:
            for piece in self.pieces():
                training = training or self.ready(piece.batch(piece.first) if isinstance(piece, Block) else piece)
                at, count = (piece.first, piece.count) if isinstance(piece, Block) else (0, 1)
                while at < count:
                    if isinstance(piece, Block):
                        end = count if watch is None else min(count, at + _tenth_of_a_second(training, piece))
                        training.steps(piece, at, end)
                    else:
                        end = count
                        training.step(piece)
                    self.done += end - at
                    at = end
                    if watch is not None:
                        watch(self.done, training.last_loss())
            if training is not None:
                training.finish()
                training.sync()
        except BaseException as error:
            completed = 0
            if training is not None:
                training.recover()
                completed = len(training.values())
            self.done = before + completed + isinstance(error, Exception)  # a batch that cannot be used is passed over
            if self.seeks:
                self.batches = None
                self.data.stopped(self.first or 0, self.done)
            raise
        self.batches = iter(())
        return np.zeros(0) if training is None else training.values()[:, 0]

    @property
    def seeks(self) -> bool:
        """Whether the data can begin at any batch, so that the place to go on from is known by its number."""
        return isinstance(self.data, Epochs) and not isinstance(self.data.data, Iterator) and self.data.sized

    def rest(self) -> Iterator[Any]:
        """The batches that are left, one by one."""
        if not self.seeks:
            return iter(self.data)
        self.first = self.data.first if self.first is None else self.first
        return self.data.batches(self.done, self.first)

    def pieces(self) -> Iterator[Any]:
        """The batches that are left, in blocks where they have them."""
        if not self.seeks:
            self.batches = self.rest() if self.batches is None else self.batches
            return self.batches
        self.first = self.data.first if self.first is None else self.first
        self.data.first = self.first
        return feed(self.data, self.done)

    def ready(self, batch: Any) -> Training:
        """What takes the steps, with the model and the optimizer as they are now."""
        training = self.training
        if training is None:
            if any(first_unsized(scan(owner)) is not None for owner in self.owners.values()):
                infer_by_call(self.loss, tuple(map(_abstract, as_arguments(as_batch(batch)))))
            if not isinstance(self.opt, Optimizer):
                self.opt = setup(self.opt, self.model)
            training = self.training = Training(Objective(_of_model(self.loss)), self.model, self.opt)
        else:
            training.attach()
            training.again()
            if training.program is not self.known:
                self.check_owners()
        self.known = training.program
        return training

    def check_owners(self) -> None:
        """Refuse to go on with parameters that the loss no longer uses."""
        now = trained(self.loss, self.params, self.caller)
        if [id(owner) for owner in now.values()] != [id(owner) for owner in self.owners.values()]:
            raise StateError(
                f"{self.caller}: the parameters that the loss reaches are others than when the training began: "
                f"{', '.join(now)} instead of {', '.join(self.owners)}. Begin a new {self.caller}(loss, data)."
            )


def _of_model(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss as the engine calls it; the model's objects are those that the loss reaches by itself."""
    return lambda model, *batch: loss(*batch)


def _abstract(part: Any) -> Any:
    return jax.tree.map(jax.typeof, part)


def _tenth_of_a_second(training: Training, block: Block) -> int:
    """The number of steps that take about as long; one while their pace is not known."""
    pace = training.pace(block)
    return max(1, int(CALL_SECONDS / pace)) if pace else 1


# ------------------------------------------------------------------------------------------------ optimizers


def minimize(loss: Callable[..., Any], data: Any, opt: Any = None, *, params: Any = None) -> Minimize:
    """An iterator over the losses of `loss(*batch) for batch in data`, each followed by a step that lowers it.

    Nothing happens until it is asked for a loss; then one step is made, and the model is up to date. It can be sliced,
    zipped, wrapped, left in the middle and taken up again; `run` makes all steps at once, at the speed of `fx.train`.

    Trained are the `Param`s and the layers that `loss` reaches: by attributes, by the variables it closes over, and by
    the globals that its code names. A Knet model, whose call `model(x, y)` is the loss, is such a function.

    Arguments:
        loss: takes the parts of a batch (a tuple or list is several parts) and returns a scalar.
        data: batches: `minibatch(x, y, 32)`, `repeat(data, 10)`, a list, any iterable.
        opt: a rule, `fx.Adam()` if not given; or the `opt` of an earlier iterator, which is continued.
        params: a `Param`, a layer, or a list of them: what is trained alone.

    Errors: `StateError` where there is nothing to train, where `params` lists what the loss does not reach, and where
    the loss has come to use other parameters. Those of `fx.train`; then the model is that of the step before.

    >>> from fluxion.dialects.knet import Param, minimize
    >>> import fluxion as fx
    >>> w = Param([3.0, 4.0])
    >>> training = minimize(lambda x: ((w - x) ** 2).sum(), [1.0, 1.0, 1.0], fx.Descent(0.25))
    >>> [next(training), next(training)], w.value.tolist()
    ([13.0, 3.25], [1.5, 1.75])
    """
    return Minimize(loss, data, Adam() if opt is None else opt, params, "minimize")


def sgd(loss: Callable[..., Any], data: Any, *, lr: float = 0.1, gclip: float = 0, params: Any = None) -> Minimize:
    """`minimize` by gradient descent, `w <- w - lr * g`.

    In all optimizers here, `gclip` is the norm to which the gradient of each array is scaled down; 0 leaves it alone.

    >>> from fluxion.dialects.knet import Param, sgd
    >>> w = Param(1.0)
    >>> print(sgd(lambda: w**2, [(), ()]).run().round(2))
    [1.   0.64]
    """
    return Minimize(loss, data, _clipped(Descent(lr), gclip), params, "sgd")


def momentum(
    loss: Callable[..., Any], data: Any, *, lr: float = 0.05, gamma: float = 0.95, gclip: float = 0, params: Any = None
) -> Minimize:
    """`minimize` by gradient descent with momentum: `v <- gamma * v + lr * g`, `w <- w - v`.

    >>> from fluxion.dialects.knet import Param, momentum
    >>> w = Param(1.0)
    >>> print(momentum(lambda: w**2, [(), ()]).run().round(2))
    [1.   0.81]
    """
    return Minimize(loss, data, _clipped(Momentum(lr, gamma), gclip), params, "momentum")


def nesterov(
    loss: Callable[..., Any], data: Any, *, lr: float = 0.05, gamma: float = 0.95, gclip: float = 0, params: Any = None
) -> Minimize:
    """`minimize` by Nesterov's momentum: `v <- gamma * v + lr * g`, `w <- w - gamma * v - lr * g`.

    >>> from fluxion.dialects.knet import Param, nesterov
    >>> w = Param(1.0)
    >>> print(nesterov(lambda: w**2, [(), ()]).run().round(3))
    [1.    0.648]
    """
    return Minimize(loss, data, _clipped(Nesterov(lr, gamma), gclip), params, "nesterov")


def adagrad(
    loss: Callable[..., Any], data: Any, *, lr: float = 0.05, eps: float = 1e-6, gclip: float = 0, params: Any = None
) -> Minimize:
    """`minimize` by AdaGrad: `s <- s + g^2`, `w <- w - lr * g / sqrt(s + eps)`.

    >>> from fluxion.dialects.knet import Param, adagrad
    >>> w = Param(1.0)
    >>> print(adagrad(lambda: w**2, [(), ()]).run().round(4))
    [1.     0.9025]
    """
    return Minimize(loss, data, _clipped(AdaGrad(lr, eps, eps_in_root=True), gclip), params, "adagrad")


def rmsprop(
    loss: Callable[..., Any],
    data: Any,
    *,
    lr: float = 0.01,
    rho: float = 0.9,
    eps: float = 1e-6,
    gclip: float = 0,
    params: Any = None,
) -> Minimize:
    """`minimize` by RMSProp: `s <- rho * s + (1 - rho) * g^2`, `w <- w - lr * g / sqrt(s + eps)`.

    >>> from fluxion.dialects.knet import Param, rmsprop
    >>> w = Param(1.0)
    >>> print(rmsprop(lambda: w**2, [(), ()]).run().round(4))
    [1.     0.9378]
    """
    return Minimize(loss, data, _clipped(RMSProp(lr, rho, eps, eps_in_root=True), gclip), params, "rmsprop")


def adadelta(
    loss: Callable[..., Any],
    data: Any,
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    gclip: float = 0,
    params: Any = None,
) -> Minimize:
    """`minimize` by AdaDelta, whose steps are as large as recent steps were.

    `s <- rho * s + (1 - rho) * g^2`, `d = g * sqrt(u + eps) / sqrt(s + eps)`, `w <- w - lr * d`,
    `u <- rho * u + (1 - rho) * d^2`.

    >>> from fluxion.dialects.knet import Param, adadelta
    >>> w = Param(1.0)
    >>> print(adadelta(lambda: w**2, [(), ()]).run().round(4))
    [1.     0.9937]
    """
    return Minimize(loss, data, _clipped(AdaDelta(rho, eps, lr), gclip), params, "adadelta")


def adam(
    loss: Callable[..., Any],
    data: Any,
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    gclip: float = 0,
    params: Any = None,
) -> Minimize:
    """`minimize` by Adam: `fx.Adam(lr, beta=(beta1, beta2), eps=eps)`.

    >>> from fluxion.dialects.knet import adam, minibatch, nll, progress, repeat
    >>> import fluxion as fx
    >>> fx.seed(0)
    >>> model = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
    >>> x, y = fx.datasets.iris()
    >>> dtrn = minibatch(x, y, 15, shuffle=True, seed=0)
    >>> losses = adam(lambda x, y: nll(model(x), y), repeat(dtrn, 20)).run()
    >>> len(losses), bool(losses[-10:].mean() < losses[:10].mean())
    (200, True)
    """
    return Minimize(loss, data, _clipped(Adam(lr, (beta1, beta2), eps), gclip), params, "adam")


def _clipped(rule: Any, gclip: float) -> Any:
    return OptimizerChain(ClipNorm(gclip), rule) if gclip else rule
