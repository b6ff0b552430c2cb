"""The product of two matrices by the library's kernels for convolutions, whose windows here are single cells.

Two primitives of JAX, each linear in both of its arguments: `product(x, w) = x @ w`, and what its gradient with respect
to the weights is made of, `gram(x, y) = x.T @ y`. The third product, `y @ w.T`, is XLA's, which is as quick at it. So
derivatives of any order and direction are made of these three.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from fluxion.native.convolution import forward, weight_gradient
from fluxion.native.lowering import define

product = Primitive("fluxion_product")
gram = Primitive("fluxion_gram")

WINDOWS = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}


def _plain_product(x: Any, w: Any) -> Any:
    return x @ w


def _plain_gram(x: Any, y: Any) -> Any:
    return x.T @ y


def _native_product(x: Any, w: Any) -> Any:
    rows, columns = x.shape[0], w.shape[1]
    return forward.bind(x[None, None], w[None, None], shape=(1, 1, rows, columns), **WINDOWS)[0, 0]


def _native_gram(x: Any, y: Any) -> Any:
    shape = (1, 1, x.shape[1], y.shape[1])
    return weight_gradient.bind(x[None, None], y[None, None], shape=shape, **WINDOWS)[0, 0]


def _define(primitive: Primitive, plain: Any, native: Any, shape: Any) -> None:
    def batched(arguments: Any, axes: Any) -> tuple[Any, int]:
        (a, b), (axis, other) = arguments, axes
        if primitive is product and other is None:  # more rows
            a = jnp.moveaxis(a, axis, 0)
            many, rows = a.shape[:2]
            return product.bind(a.reshape(many * rows, -1), b).reshape(many, rows, -1), 0
        return jax.vmap(plain, in_axes=tuple(axes))(a, b), 0

    define(primitive, plain, native)
    primitive.def_abstract_eval(lambda a, b: jax.core.ShapedArray(shape(a, b), a.dtype))
    batching.primitive_batchers[primitive] = batched


_define(product, _plain_product, _native_product, lambda x, w: (x.shape[0], w.shape[1]))
_define(gram, _plain_gram, _native_gram, lambda x, y: (x.shape[1], y.shape[1]))
ad.defbilinear(product, lambda y, x, w: y @ w.T, lambda y, x, w: gram.bind(x, y))
ad.defbilinear(gram, lambda w, x, y: y @ w.T, lambda w, x, y: product.bind(x, w))
