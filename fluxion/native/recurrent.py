"""Whole sequences of a long short-term memory as primitives of JAX; on a CPU the functions of `recurrent.cpp`.

Arrays are batch first. `forward` runs the loop. Its derivative is `tangent`, linear in the changes of what enters, and
the transpose of that is `back`, the loop that goes back in time. In C++ there are `forward` and `back`, of which a
gradient is made; the products with the input are part of them, for what enters the gates is four times as large.
Forward mode, second derivatives, other devices and a weight of its own for each example take the plain form of the
three, which is stated here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from fluxion.native.lowering import define

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

forward = Primitive("fluxion_lstm_forward")
tangent = Primitive("fluxion_lstm_tangent")
back = Primitive("fluxion_lstm_back")


def lstm(
    weight: Float[Array, "in gates"],
    recurrent_weight: Float[Array, "out gates"],
    bias: Float[Array, " gates"],
    x: Float[Array, "n time in"],
    h: Float[Array, "n out"],
    c: Float[Array, "n out"],
    keep: Bool[Array, "n time"] | None = None,
    *,
    reverse: bool = False,
) -> tuple[Float[Array, "n time out"], Float[Array, "n out"]]:
    """`h` after each step, and `c` after the last, of float32 arrays none of which is empty; where `keep` is false both
    stay as they were.
    """
    keep = jnp.zeros((len(x), 0), bool) if keep is None else keep
    hs, cs, _ = forward.bind(weight, recurrent_weight, bias, x, h, c, keep, reverse=reverse, all=False)
    return hs, cs[:, 0]


# The plain forms, where `w` and `u` are the weights of the input and of the state. Of what `forward` returns, `cs` and
# `gates` are those of all steps, or, without `all`, the last `cs` and none.


def _loop(step: Any, state: Any, keep: Any, reverse: bool, *arrays: Any) -> tuple[Any, Any]:
    """`state, out = step(state, *arrays[:, t])` over time, the state kept where `keep` is false; the last state, and
    the states and outputs of all steps.
    """

    def body(state: Any, at: Any) -> tuple[Any, Any]:
        kept, arrays = at
        new, out = step(state, *arrays)
        if kept is not None:
            new = jax.tree.map(lambda a, b: jnp.where(kept[:, None], a, b), new, state)
        return new, (*new, out)

    first = [jnp.moveaxis(a, 1, 0) for a in arrays]
    state, outputs = jax.lax.scan(body, state, (keep.T if keep.shape[1] else None, first), reverse=reverse)
    return state, [jnp.moveaxis(a, 0, 1) for a in outputs if a is not None]


def _forward(w: Any, u: Any, bias: Any, x: Any, h: Any, c: Any, keep: Any, *, reverse: bool, all: bool) -> list[Any]:
    def step(state: Any, one: Any) -> tuple[Any, Any]:
        h, c = state
        i, f, g, o = jnp.split(one + h @ u, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        c = f * c + i * g
        return (o * jnp.tanh(c), c), jnp.concatenate([i, f, g, o], axis=-1)

    (_, last), (hs, cs, gates) = _loop(step, (h, c), keep, reverse, x @ w + bias[None, None])
    return [hs, cs, gates] if all else [hs, last[:, None], gates[:, :0]]


def _tangent(
    w: Any,
    u: Any,
    x: Any,
    h: Any,
    c: Any,
    keep: Any,
    hs: Any,
    cs: Any,
    gates: Any,
    dw: Any,
    du: Any,
    d_bias: Any,
    dx: Any,
    dh: Any,
    dc: Any,
    *,
    reverse: bool,
) -> list[Any]:
    """Changes of `hs` and of the last `c`, for changes of weights, bias, `x`, `h` and `c`."""
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    out = jnp.tanh(cs)
    slopes = jnp.concatenate([g * i * (1 - i), _before(cs, c, reverse) * f * (1 - f), i * (1 - g * g)], axis=-1)
    d_sums = dx @ w + x @ dw + _before(hs, h, reverse) @ du + d_bias[None, None]

    def step(state: Any, d_sum: Any, slope: Any, f: Any, of_o: Any, of_c: Any) -> tuple[Any, Any]:
        dh, dc = state
        d_sum = d_sum + dh @ u
        size = dc.shape[-1]
        dc = f * dc + sum(jnp.split(slope * d_sum[:, : 3 * size], 3, axis=-1))
        return (of_o * d_sum[:, 3 * size :] + of_c * dc, dc), None

    of_o, of_c = out * o * (1 - o), o * (1 - out * out)
    (_, last), (hs, _) = _loop(step, (dh, dc), keep, reverse, d_sums, slopes, f, of_o, of_c)
    return [hs, last]


def _back(
    w: Any,
    u: Any,
    x: Any,
    h: Any,
    c: Any,
    keep: Any,
    hs: Any,
    cs: Any,
    gates: Any,
    d_hs: Any,
    d_c: Any,
    *,
    reverse: bool,
    of_x: bool,
) -> list[Any]:
    """Gradients by weights, bias, `x`, `h` and `c`, from those by `hs` and the last `c`."""
    linear = functools.partial(_tangent, w, u, x, h, c, keep, hs, cs, gates, reverse=reverse)
    *others, dx, dh, dc = jax.linear_transpose(linear, w, u, u[0], x, h, c)([d_hs, d_c])
    return [*others, dx if of_x else dx[:, :0], dh, dc]


def _before(states: Any, first: Any, reverse: bool) -> Any:
    """The state before each step, of the states after each."""
    first = first[:, None]
    return jnp.concatenate([states[:, 1:], first] if reverse else [first, states[:, :-1]], axis=1)


# Derivatives


def _forward_jvp(primals: Any, tangents: Any, *, reverse: bool, all: bool) -> tuple[Any, Any]:
    if all:
        return _plain_jvp(_forward, primals, tangents, reverse=reverse, all=all)
    w, u, _, *rest = primals
    hs, cs, gates = forward.bind(*primals, reverse=reverse, all=True)
    changes = map(ad.instantiate_zeros, tangents[:-1])
    d_hs, d_last = tangent.bind(w, u, *rest, hs, cs, gates, *changes, reverse=reverse)
    last, none = cs[:, :1] if reverse else cs[:, -1:], gates[:, :0]
    return [hs, last, none], [d_hs, d_last[:, None], jnp.zeros_like(none)]


def _plain_jvp(plain: Callable[..., Any], primals: Any, tangents: Any, **options: Any) -> tuple[Any, Any]:
    return jax.jvp(functools.partial(plain, **options), primals, tuple(map(ad.instantiate_zeros, tangents)))


def _tangent_transpose(gradients: Any, *arrays: Any, reverse: bool) -> list[Any]:
    residuals, changes = arrays[:9], arrays[9:]
    wanted = [ad.is_undefined_primal(a) for a in changes]
    found = back.bind(*residuals, *map(ad.instantiate_zeros, gradients), reverse=reverse, of_x=wanted[3])
    return [None] * 9 + [a if asked else None for a, asked in zip(found, wanted, strict=True)]


ad.primitive_jvps[forward] = _forward_jvp
ad.primitive_jvps[tangent] = functools.partial(_plain_jvp, _tangent)
ad.primitive_jvps[back] = functools.partial(_plain_jvp, _back)
ad.primitive_transposes[tangent] = _tangent_transpose


# Shapes of the results, and the functions in C++


def _forward_shapes(w: Any, u: Any, bias: Any, x: Any, h: Any, *_: Any, all: bool, **__: Any) -> Any:
    n, time, _ = x.shape
    return (n, time, h.shape[1]), (n, time if all else 1, h.shape[1]), (n, time if all else 0, u.shape[1])


def _tangent_shapes(w: Any, u: Any, x: Any, h: Any, c: Any, keep: Any, hs: Any, *_: Any, **__: Any) -> Any:
    return hs.shape, c.shape


def _back_shapes(w: Any, u: Any, x: Any, h: Any, c: Any, *_: Any, of_x: bool, **__: Any) -> Any:
    n, time, size = x.shape
    return w.shape, u.shape, u.shape[1:], (n, time if of_x else 0, size), h.shape, c.shape


def _native_forward(*arrays: Any, reverse: bool, all: bool) -> list[Any]:
    shapes = _forward_shapes(*arrays, all=all)
    call = jax.ffi.ffi_call(forward.name, [jax.ShapeDtypeStruct(s, arrays[0].dtype) for s in shapes])
    return list(call(*arrays, reverse=reverse))


def _native_back(*arrays: Any, reverse: bool, of_x: bool) -> list[Any]:
    gates = arrays[8]
    shapes = (gates.shape, *_back_shapes(*arrays, of_x=of_x))
    call = jax.ffi.ffi_call(
        back.name,
        [jax.ShapeDtypeStruct(s, gates.dtype) for s in shapes],
        input_output_aliases={8: 0},  # the gradients of the sums take the place of the gates
    )
    return list(call(*arrays, reverse=reverse))[1:]


def _forward_batched(arrays: Any, axes: Any, **options: Any) -> tuple[Any, Any]:
    """A batch of the sequences alone becomes part of the batch that there is."""
    if any(axis is not None for axis in axes[:3]):
        return _plain_batched(_forward, arrays, axes, **options)
    many = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)
    others = [
        jnp.broadcast_to(a, (many, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(arrays[3:], axes[3:], strict=True)
    ]
    outputs = forward.bind(*arrays[:3], *(a.reshape(many * a.shape[1], *a.shape[2:]) for a in others), **options)
    return [a.reshape(many, len(a) // many, *a.shape[1:]) for a in outputs], (0,) * 3


def _plain_batched(plain: Callable[..., Any], arrays: Any, axes: Any, **options: Any) -> tuple[Any, Any]:
    outputs = jax.vmap(functools.partial(plain, **options), in_axes=tuple(axes))(*arrays)
    return outputs, (0,) * len(outputs)


def _define(primitive: Primitive, plain: Callable[..., Any], shapes: Callable[..., Any], native: Any = None) -> None:
    """Shapes, evaluation, batching and lowering of one of the three."""
    primitive.multiple_results = True

    def kinds(*arrays: Any, **options: Any) -> list[Any]:
        return [jax.core.ShapedArray(shape, arrays[0].dtype) for shape in shapes(*arrays, **options)]

    define(primitive, plain, native or plain)
    primitive.def_abstract_eval(kinds)
    batching.primitive_batchers[primitive] = functools.partial(_plain_batched, plain)


_define(forward, _forward, _forward_shapes, _native_forward)
_define(tangent, _tangent, _tangent_shapes)
_define(back, _back, _back_shapes, _native_back)
batching.primitive_batchers[forward] = _forward_batched
