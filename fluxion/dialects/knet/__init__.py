"""Knet's habits over Fluxion's engine: parameters found by use, training as a lazy iterator, a bar around any iterator.

    from fluxion.dialects.knet import adam, minibatch, progress, repeat

    dtrn = minibatch(xtrn, ytrn, 10, shuffle=True)
    progress(adam(model, repeat(dtrn, 100))).run()

Names, defaults and formulas are those of Knet.jl 1.4; labels count from 0, arrays are batch first, and what Julia marks
with `!` is `.run()`.
"""

from fluxion.dialects.knet.files import load, save
from fluxion.dialects.knet.iterators import converge, minibatch, progress, repeat
from fluxion.dialects.knet.losses import accuracy, bce, logistic, nll, zeroone
from fluxion.dialects.knet.parameters import diff, grad, param, param0, params, value
from fluxion.dialects.knet.search import goldensection, hyperband
from fluxion.dialects.knet.training import (
    adadelta,
    adagrad,
    adam,
    minimize,
    momentum,
    nesterov,
    rmsprop,
    sgd,
)
from fluxion.ops.initializers import glorot_normal as xavier_normal
from fluxion.ops.initializers import glorot_uniform as xavier_uniform
from fluxion.transform.randomness import seed as setseed
from fluxion.tree.layer import Param

xavier = xavier_uniform

__all__ = [
    "Param",
    "accuracy",
    "adadelta",
    "adagrad",
    "adam",
    "bce",
    "converge",
    "diff",
    "goldensection",
    "grad",
    "hyperband",
    "load",
    "logistic",
    "minibatch",
    "minimize",
    "momentum",
    "nesterov",
    "nll",
    "param",
    "param0",
    "params",
    "progress",
    "repeat",
    "rmsprop",
    "save",
    "setseed",
    "sgd",
    "value",
    "xavier",
    "xavier_normal",
    "xavier_uniform",
    "zeroone",
]
