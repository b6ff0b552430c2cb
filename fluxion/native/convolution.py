"""Convolution over two axes as three primitives of JAX, each linear in both of its arguments.

Of `y = forward(x, w)`, `x = input_gradient(y, w)` and `w = weight_gradient(x, y)`, each is the transpose of the other
two, so that derivatives of any order and direction are made of these three again. A fourth, `biased`, is `forward`
with a bias and relu in the same pass; its derivative is made of the three too. On a CPU they are the C++ functions of
`kernels.cpp`; on other devices, on several at once, and batched over the weights, they are XLA's convolution and its
transposes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from fluxion.native.lowering import define

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    Stride = tuple[int, ...]
    Ends = tuple[tuple[int, int], ...]

forward = Primitive("fluxion_conv_forward")
biased = Primitive("fluxion_conv_biased")
input_gradient = Primitive("fluxion_conv_input_gradient")
weight_gradient = Primitive("fluxion_conv_weight_gradient")


def convolution(
    x: Float[Array, "n height width in"],
    weight: Float[Array, "down right in_of_group out"],
    stride: Stride,
    padding: Ends,
    bias: Float[Array, " out"] | None = None,
    relu: bool = False,
    dilation: Stride = (1, 1),
    groups: int = 1,
) -> Float[Array, "n rows columns out"]:
    """Cross-correlation of float32 arrays, as `ops.conv` has it; negative padding crops. `relu` goes with a bias.

    Along an axis either the stride or the dilation is 1.
    """
    windows = tuple(
        max((size + low + high - (kernel - 1) * apart - 1) // step + 1, 0)
        for size, kernel, step, (low, high), apart in zip(
            x.shape[1:3], weight.shape[:2], stride, padding, dilation, strict=True
        )
    )
    shape = (x.shape[0], *windows, weight.shape[3])
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "shape": shape}
    if bias is None:
        return forward.bind(x, weight, **options)
    return biased.bind(x, weight, bias, relu=relu, **options)


def transposed(
    y: Float[Array, "n rows columns out"],
    weight: Float[Array, "down right in_of_group out"],
    stride: Stride,
    padding: Ends,
    cells: tuple[int, ...],
    dilation: Stride = (1, 1),
    groups: int = 1,
) -> Float[Array, "n height width in"]:
    """The transpose of `convolution` by its `x`, of so many cells along each axis."""
    shape = (y.shape[0], *cells, weight.shape[2] * groups)
    return input_gradient.bind(y, weight, stride=stride, padding=padding, dilation=dilation, groups=groups, shape=shape)


def _xla_forward(
    x: Any, w: Any, *, stride: Stride, padding: Ends, dilation: Stride, groups: int, shape: tuple[int, ...]
) -> Any:
    return jax.lax.conv_general_dilated(
        x,
        w,
        stride,
        padding,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _xla_biased(x: Any, w: Any, bias: Any, *, relu: bool, **options: Any) -> Any:
    y = _xla_forward(x, w, **options) + bias[None, None, None]
    return jax.nn.relu(y) if relu else y


def _xla_input_gradient(y: Any, w: Any, *, shape: tuple[int, ...], **options: Any) -> Any:
    x = jax.ShapeDtypeStruct(shape, y.dtype)
    return jax.linear_transpose(lambda x: _xla_forward(x, w, shape=y.shape, **options), x)(y)[0]


def _xla_weight_gradient(x: Any, y: Any, *, shape: tuple[int, ...], **options: Any) -> Any:
    w = jax.ShapeDtypeStruct(shape, y.dtype)
    return jax.linear_transpose(lambda w: _xla_forward(x, w, shape=y.shape, **options), w)(y)[0]


def _native(name: str) -> Callable[..., Any]:
    """The C++ function of that name."""

    def run(
        *arrays: Any,
        stride: Stride,
        padding: Ends,
        dilation: Stride,
        groups: int,
        shape: tuple[int, ...],
        **options: Any,
    ) -> Any:
        lists = {"stride": stride, "padding": np.ravel(padding), "dilation": dilation}
        numbers = {name: np.array(values, np.int64) for name, values in lists.items()}
        call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(shape, arrays[0].dtype))
        return call(*arrays, groups=np.int64(groups), **numbers, **options)

    return run


def _transpose(primitive: Primitive, first: tuple[Primitive, bool], second: tuple[Primitive, bool]) -> None:
    """How the gradient of a result goes to each argument: by which function, and whether it is the first one there."""

    def to_first(gradient: Any, a: Any, b: Any, *, shape: tuple[int, ...], **options: Any) -> Any:
        rule, leads = first
        pair = (gradient, b) if leads else (b, gradient)
        return rule.bind(*pair, shape=a.aval.shape, **options)

    def to_second(gradient: Any, a: Any, b: Any, *, shape: tuple[int, ...], **options: Any) -> Any:
        rule, leads = second
        pair = (gradient, a) if leads else (a, gradient)
        return rule.bind(*pair, shape=b.aval.shape, **options)

    ad.defbilinear(primitive, to_first, to_second)


def _define(primitive: Primitive, plain: Callable[..., Any], *, folds: bool) -> None:
    """Shape, evaluation, batching and lowering of one of them.

    `folds`: whether a batch of the first argument alone can become part of its first axis, and so of the result's.
    """

    def batched(arguments: Any, axes: Any, *, shape: tuple[int, ...], **options: Any) -> tuple[Any, int]:
        (a, *others), (axis, *other_axes) = arguments, axes
        if not folds or any(other is not None for other in other_axes):
            return jax.vmap(functools.partial(plain, shape=shape, **options), in_axes=tuple(axes))(*arguments), 0
        a = jax.numpy.moveaxis(a, axis, 0)
        many, n = a.shape[:2]
        flat = primitive.bind(a.reshape(many * n, *a.shape[2:]), *others, shape=(many * n, *shape[1:]), **options)
        return flat.reshape(many, *shape), 0

    define(primitive, plain, _native(primitive.name))
    primitive.def_abstract_eval(lambda a, *_, shape, **options: jax.core.ShapedArray(shape, a.dtype))
    batching.primitive_batchers[primitive] = batched


def _biased_jvp(primals: Any, tangents: Any, *, relu: bool, **options: Any) -> tuple[Any, Any]:
    (x, w, bias), (dx, dw, dbias) = primals, tangents
    y = biased.bind(x, w, bias, relu=relu, **options)
    terms = []
    if not isinstance(dx, ad.Zero):
        terms.append(forward.bind(dx, w, **options))
    if not isinstance(dw, ad.Zero):
        terms.append(forward.bind(x, dw, **options))
    if not isinstance(dbias, ad.Zero):
        terms.append(jax.numpy.broadcast_to(dbias, y.shape))
    total = functools.reduce(jax.numpy.add, terms)
    return y, jax.numpy.where(y > 0, total, 0) if relu else total


_define(biased, _xla_biased, folds=True)
_define(forward, _xla_forward, folds=True)
_define(input_gradient, _xla_input_gradient, folds=True)
_define(weight_gradient, _xla_weight_gradient, folds=False)
_transpose(forward, (input_gradient, True), (weight_gradient, False))
_transpose(input_gradient, (forward, True), (weight_gradient, True))
_transpose(weight_gradient, (input_gradient, False), (forward, False))
ad.primitive_jvps[biased] = _biased_jvp
