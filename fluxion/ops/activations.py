"""Activation functions: plain functions from an array to an array of the same shape.

All of them let NaN through, keep the dtype of float16, bfloat16, float32 and float64 arrays (integers become
the default float, except where the values stay whole: `relu`, `relu6`, `hardtanh`, `trelu`, `identity`), and
have finite first and second derivatives everywhere. At a kink the derivative is the one `torch` gives: `relu`
has slope 0 at 0. Formulas are NNlib's, the numbers `torch.nn.functional`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError
from fluxion.transform.modes import within_gradient
from fluxion.transform.randomness import next_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


def identity(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """`x`, unchanged: the activation of a layer that has none.

    >>> import fluxion as fx
    >>> fx.identity(3)
    3
    """
    return x


# Smooth, S-shaped


def tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Hyperbolic tangent, `(exp(x) - exp(-x)) / (exp(x) + exp(-x))`, elementwise, between -1 and 1.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.tanh(jnp.array([-1e4, 0.0, 1e4])))
    [-1.  0.  1.]
    """
    return jnp.tanh(x)


def sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Logistic function, `1 / (1 + exp(-x))`, elementwise, between 0 and 1.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.sigmoid(jnp.array([-1e4, 0.0, 1e4])))
    [0.  0.5 1. ]
    """
    return jax.lax.logistic(_floating(x))


def logsigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`log(sigmoid(x)) = -softplus(-x)`, elementwise, without the underflow of writing it in two steps.

    >>> import fluxion as fx
    >>> float(fx.logsigmoid(-200.0))
    -200.0
    """
    return -softplus(-_floating(x))


def softsign(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x / (1 + |x|)`, elementwise, between -1 and 1. Source: Turian et al. 2009.

    >>> import fluxion as fx
    >>> float(fx.softsign(3.0))
    0.75
    """
    return _softsign(_floating(x))


@jax.custom_jvp
def _softsign(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return x / (1 + jnp.abs(x))


# The derivative is stated: the quotient rule squares the denominator, which in float16 overflows from 255 on.
_softsign.defjvps(lambda dx, _, x: dx * (1 / (1 + jnp.abs(x))) ** 2)


def hardsigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`relu6(x + 3) / 6`, elementwise: the sigmoid made of three straight pieces. As in `torch` and Keras 3.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.hardsigmoid(jnp.array([-4.0, 0.0, 4.0])))
    [0.  0.5 1. ]
    """
    return relu6(_floating(x) + 3) / 6


def hardtanh(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """`x` held between -1 and 1, elementwise; slope 0 at and beyond both ends.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.hardtanh(jnp.array([-4.0, 0.5, 4.0])))
    [-1.   0.5  1. ]
    """
    return _between(x, -1, 1)


# Rectifiers


def relu(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """Rectified linear unit, `max(0, x)`, elementwise; slope 0 at 0.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.relu(jnp.array([-1.0, 0.0, 2.0])))
    [0. 0. 2.]
    """
    return jax.nn.relu(x)


def relu6(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """`min(max(0, x), 6)`, elementwise; slope 0 at 0 and 6. Source: Krizhevsky 2010.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.relu6(jnp.array([-1.0, 3.0, 8.0])))
    [0. 3. 6.]
    """
    return _between(x, 0, 6)


def leakyrelu(x: Float[Array, "*shape"], slope: float = 0.01) -> Float[Array, "*shape"]:
    """`x` where positive, `slope * x` elsewhere. Source: Maas et al. 2013; `torch` calls `slope` negative_slope.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.leakyrelu(jnp.array([-10.0, 5.0]), 0.25))
    [-2.5  5. ]
    """
    x = _floating(x)
    return jnp.where(x > 0, x, slope * x)


def rrelu(x: Float[Array, "*shape"], low: float = 1 / 8, high: float = 1 / 3) -> Float[Array, "*shape"]:
    """`leakyrelu` whose slope is drawn per element from U(low, high) inside a gradient, and is their mean outside.

    Arguments: `low <= high` bound the slope. The key comes from `fx.randomness` if there is such a block around
    the call, else from the default stream. Errors: `ArgumentError` when `low > high`. Source: Xu et al. 2015.

    >>> import fluxion as fx
    >>> float(fx.rrelu(-1.0, 0.25, 0.75))
    -0.5
    """
    if low > high:
        raise ArgumentError(f"rrelu: expected low <= high, got low={low} and high={high}. Swap them.")
    x = _floating(x)
    if not within_gradient():
        return leakyrelu(x, (low + high) / 2)
    return jnp.where(x > 0, x, jax.random.uniform(next_key(), x.shape, x.dtype, low, high) * x)


def trelu(x: Shaped[Array, "*shape"], theta: float = 1.0) -> Shaped[Array, "*shape"]:
    """Thresholded ReLU: `x` where `x > theta`, 0 elsewhere. Source: Konda et al. 2014.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.trelu(jnp.array([0.5, 1.0, 1.5])))
    [0.  0.  1.5]
    """
    return jnp.where(jnp.asarray(x) <= theta, 0, x)


def elu(x: Float[Array, "*shape"], alpha: float = 1.0) -> Float[Array, "*shape"]:
    """Exponential linear unit: `x` where positive, `alpha * (exp(x) - 1)` elsewhere. Source: Clevert et al. 2015.

    >>> import fluxion as fx
    >>> float(fx.elu(-1e4, 2.0))
    -2.0
    """
    x = _floating(x)
    return jnp.where(x > 0, x, alpha * jnp.expm1(_negative(x)))


def celu(x: Float[Array, "*shape"], alpha: float = 1.0) -> Float[Array, "*shape"]:
    """`x` where positive, `alpha * (exp(x / alpha) - 1)` elsewhere: `elu` with slope 1 at 0 for every `alpha`.

    Errors: `ArgumentError` unless `alpha > 0`. Source: Barron 2017.

    >>> import fluxion as fx
    >>> float(fx.celu(-1e4, 2.0))
    -2.0
    """
    if alpha <= 0:
        raise ArgumentError(f"celu: expected alpha > 0, got {alpha}.")
    x = _floating(x)
    return jnp.where(x > 0, x, alpha * jnp.expm1(_negative(x) / alpha))


def selu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`1.0507... * elu(x, 1.6732...)`: keeps mean 0 and variance 1 through a deep net. Source: Klambauer et al. 2017.

    >>> import fluxion as fx
    >>> round(float(fx.selu(1.0)), 4), round(float(fx.selu(-1e4)), 4)
    (1.0507, -1.7581)
    """
    return 1.0507009873554805 * elu(x, 1.6732632423543778)


# Smooth rectifiers


def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`log(1 + exp(x))`, elementwise, without overflow.

    `torch` replaces it by `x` above 20, where the two differ by 2e-9.

    >>> import fluxion as fx
    >>> round(float(fx.softplus(0.0)), 4), float(fx.softplus(1e4))
    (0.6931, 10000.0)
    """
    return jnp.logaddexp(_floating(x), 0)


def gelu(x: Float[Array, "*shape"], approximate: bool = True) -> Float[Array, "*shape"]:
    """Gaussian error linear unit, `x * P(Z <= x)` for a standard normal Z. Source: Hendrycks and Gimpel 2016.

    Arguments: `approximate=True` (the default, as in Flux and JAX) is
    `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`; `approximate=False` (the default of `torch` and Keras)
    is the exact `x/2 * (1 + erf(x / sqrt(2)))`. They differ by less than 5e-4.

    >>> import fluxion as fx
    >>> round(float(fx.gelu(1.0)), 5), round(float(fx.gelu(1.0, approximate=False)), 5)
    (0.84119, 0.84134)
    """
    x = _floating(x)
    if not approximate:
        return 0.5 * x * jax.lax.erfc(-(0.5**0.5) * x)
    return _gelu(x)


def _gelu_gate(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    # Beyond +-10 the gate is 0 or 1 in every dtype; there the cube would overflow in float16.
    z = jnp.clip(x, -10, 10)
    # (1 + tanh(u)) / 2 is sigmoid(2u), which does not cancel for negative u.
    return jax.lax.logistic(1.5957691216057308 * (z + 0.044715 * z * z * z)), z


@jax.custom_jvp
def _gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return x * _gelu_gate(x)[0]


@_gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Stated, so that the backward pass keeps one array, the slope: of a transformer's, these are the largest.
    (x,), (dx,) = primals, tangents
    gate, z = _gelu_gate(x)
    inner = 1.5957691216057308 * (1 + 0.134145 * z * z)
    return x * gate, (gate + z * (gate * (1 - gate)) * inner) * dx


def swish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x * sigmoid(x)`, elementwise; `torch` calls it silu. Source: Ramachandran et al. 2017.

    >>> import fluxion as fx
    >>> round(float(fx.swish(1.0)), 4)
    0.7311
    """
    return x * sigmoid(x)


def hardswish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x * hardsigmoid(x)`, elementwise. Source: Howard et al. 2019 (MobileNetV3).

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.hardswish(jnp.array([-3.0, 3.0])))
    [-0.  3.]
    """
    return x * hardsigmoid(x)


def mish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x * tanh(softplus(x))`, elementwise. Source: Misra 2019.

    >>> import fluxion as fx
    >>> round(float(fx.mish(1.0)), 4)
    0.8651
    """
    x = _floating(x)
    return x * jnp.tanh(softplus(jnp.minimum(x, 20)))  # see lisht


# Even functions, and shrinkers


def logcosh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`log(cosh(x))`, elementwise, without overflow, and exact near 0; its derivative is `tanh(x)`.

    >>> import fluxion as fx
    >>> float(fx.logcosh(0.0)), round(float(fx.logcosh(-1e4)), 2)
    (0.0, 9999.31)
    """
    return _logcosh(_floating(x))


@jax.custom_jvp
def _logcosh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    size = jnp.abs(x)
    small = jnp.log1p(2 * jnp.sinh(x / 2) ** 2)
    large = size + jnp.log1p(jnp.exp(-2 * size)) - 0.6931471805599453
    return jnp.where(size < 1, small, large)


# The derivative is stated: through |x| the second one would be 0 at 0, where it is 1.
_logcosh.defjvps(lambda dx, _, x: dx * jnp.tanh(x))


def lisht(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x * tanh(x)`, elementwise. Source: Roy et al. 2019.

    >>> import fluxion as fx
    >>> float(fx.lisht(-1e4))
    10000.0
    """
    x = _floating(x)
    # Beyond +-20 tanh is +-1; its derivative, a rounding there, must not be multiplied by a large x.
    return x * jnp.tanh(jnp.clip(x, -20, 20))


def tanhshrink(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x - tanh(x)`, elementwise.

    >>> import fluxion as fx
    >>> float(fx.tanhshrink(100.0))
    99.0
    """
    return x - jnp.tanh(x)


def softshrink(x: Float[Array, "*shape"], threshold: float = 0.5) -> Float[Array, "*shape"]:
    """`x` moved towards 0 by `threshold`, and 0 where `|x| <= threshold`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.softshrink(jnp.array([-2.0, 0.3, 2.0])))
    [-1.5  0.   1.5]
    """
    x = _floating(x)
    return jnp.where(jnp.abs(x) <= threshold, 0, x - threshold * jnp.sign(x))


# Over an axis


def softmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """`exp(x) / sum(exp(x))` along `axis`: nonnegative, sums to 1. Shape in = shape out.

    Adding a constant along `axis` changes nothing; no size of `x` overflows. A row with +inf is NaN, as in `torch`.
    Errors: `ShapeError` for a number, or an `axis` that `x` does not have.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.softmax(jnp.array([[0.0, 0.0], [1e4, 0.0]])))
    [[0.5 0.5]
     [1.  0. ]]
    """
    x = _floating(x)
    return jax.nn.softmax(x, axis=_axis("softmax", x, axis))


def logsoftmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """`x - log(sum(exp(x)))` along `axis`: the logarithm of `softmax`, without underflow. Shape in = shape out.

    Errors: `ShapeError` for a number, or an `axis` that `x` does not have.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.logsoftmax(jnp.array([1e4, 0.0])))
    [     0. -10000.]
    """
    x = _floating(x)
    return jax.nn.log_softmax(x, axis=_axis("logsoftmax", x, axis))


def glu(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Gated linear unit, `a * sigmoid(b)` for the two halves `a, b` of `x` along `axis`. Source: Dauphin et al. 2017.

    Shapes: `(..., 2n) -> (..., n)`. Errors: `ShapeError` for an odd size along `axis`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> print(fx.glu(jnp.array([1.0, 2.0, 0.0, 0.0])))
    [0.5 1. ]
    """
    x = _floating(x)
    axis = _axis("glu", x, axis)
    if x.shape[axis] % 2:
        raise ShapeError(f"glu: expected an even size along axis {axis}, got shape {x.shape}. Half of it is the gate.")
    value, gate = jnp.split(x, 2, axis)
    return value * sigmoid(gate)


def _floating(x: Shaped[Array, "*shape"]) -> Float[Array, "*shape"]:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def _negative(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """0 where `x` is positive: the branch of a `where` that is not taken must not overflow in the gradient."""
    return jnp.where(x > 0, 0, x)


def _between(x: Shaped[Array, "*shape"], low: int, high: int) -> Shaped[Array, "*shape"]:
    x = jnp.asarray(x)
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x))


def _axis(name: str, x: Shaped[Array, "*shape"], axis: int) -> int:
    if x.ndim == 0:
        raise ShapeError(f"{name}: expected an array, got the number {x}. It works along an axis, not on one value.")
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"{name}: expected an axis of an array of shape {x.shape}, got axis={axis}.")
    return axis
