"""What can be done with a function of models: differentiate, compile, ask for shapes; modes and randomness."""

from fluxion.transform.compile import jit
from fluxion.transform.gradient import gradient, hessian, jacobian, params, pullback, withgradient
from fluxion.transform.modes import istraining, within_gradient
from fluxion.transform.randomness import randomness, seed
from fluxion.transform.sizes import autosize, outputsize

__all__ = [
    "autosize",
    "gradient",
    "hessian",
    "istraining",
    "jacobian",
    "jit",
    "outputsize",
    "params",
    "pullback",
    "randomness",
    "seed",
    "withgradient",
    "within_gradient",
]
