"""`trainstep` and `train`: the visible loop.

    opt = fx.setup(fx.Adam(1e-3), model)
    for epoch in range(10):
        fx.train(lambda m, x, y: fx.logitcrossentropy(m(x), y), model, loader, opt)

The compiled step is found again by what the loss *is*: the lambda above is made ten times and compiled once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.errors import ArgumentError, user_frames

if TYPE_CHECKING:
    from fluxion.optim.optimizer import Optimizer
    from fluxion.train.step import Training


@user_frames
def trainstep(loss: Callable[..., Any], model: Any, batch: Any, opt: Optimizer, *, check: bool = True) -> float:
    """Take one step on one batch; returns the loss before the step. Changes `model` and `opt`.

    `loss(model, *batch)` for a batch that is a tuple or list, `loss(model, batch)` for any other; it returns a scalar,
    or a tuple whose first element is the loss. Forward, backward and update are one compiled program.
    `check=False` leaves out the checks of values (finite inputs, labels in range); see `train` for the errors.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> model = fx.Dense(1, 1, bias=False, init=fx.ones)
    >>> opt = fx.setup(fx.Descent(0.1), model)
    >>> x, y = jnp.ones((4, 1)), jnp.zeros((4, 1))
    >>> fx.trainstep(lambda m, x, y: fx.mse(m(x), y), model, (x, y), opt)
    1.0
    >>> round(model.weight.item(), 4)
    0.8
    """
    training = _training(loss, model, opt, check)
    training.run([batch])
    return float(training.results[0][0, 0])


@user_frames
def train(
    loss: Callable[..., Any], model: Any, data: Iterable[Any], opt: Optimizer, *, check: bool = True
) -> np.ndarray:
    """One pass over `data`: a step on each batch; returns the losses of the steps. Changes `model` and `opt`.

    `loss` and batches are as for `trainstep`; `data` is a `DataLoader`, several passes over one as
    `fx.Epochs(loader, 10)`, a list of batches, or any iterable.

    A step whose loss or gradient is not finite is not applied and raises NonFiniteError, which names the step and
    the first layer that produced it; labels out of range, NaN in a batch and the like raise DataError with value and
    index. After any exception, Ctrl-C included, model and optimizer are those of the last completed step.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> model = fx.Dense(1, 1, bias=False, init=fx.ones)
    >>> opt = fx.setup(fx.Descent(0.1), model)
    >>> x, y = jnp.ones((4, 1)), jnp.zeros((4, 1))
    >>> print(fx.train(lambda m, x, y: fx.mse(m(x), y), model, [(x, y), (x, y)], opt).round(2))
    [1.   0.64]
    """
    from fluxion.data.epochs import Epochs

    training = _training(loss, model, opt, check)
    first = data.first if isinstance(data, Epochs) else 0
    try:
        training.run(_batches(loss, data))
    except BaseException:
        if isinstance(data, Epochs):
            data.stopped(first, len(training.values()))
        raise
    return training.values()[:, 0]


def _training(loss: Callable[..., Any], model: Any, opt: Optimizer, check: bool) -> Training:
    from fluxion.train.step import Objective, Training  # here, because `import fluxion` imports this file

    return Training(Objective(loss), model, opt, check=check)


def _batches(loss: Callable[..., Any], data: Any) -> Iterable[Any]:
    """`data`, refused where it is one batch rather than many."""
    if isinstance(data, (dict, str)) or not hasattr(data, "__iter__"):
        raise ArgumentError(
            f"train: expected an iterable of batches, got {type(data).__name__}. "
            "Write [batch] for one batch, or fx.DataLoader(data, batch_size=32)."
        )
    if isinstance(data, tuple) and len(data) > 1 and all(hasattr(part, "shape") for part in data):
        parameters = inspect.signature(loss).parameters.values()
        if sum(p.default is p.empty for p in parameters) == 1 + len(data):
            raise ArgumentError(
                f"train: expected an iterable of batches, got a tuple of {len(data)} arrays, the parts of one batch. "
                "Write [(x, y)] for one batch, or fx.DataLoader((x, y), batch_size=32)."
            )
    return data
