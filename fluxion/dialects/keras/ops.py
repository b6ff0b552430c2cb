"""`keras.ops`: functions on arrays, variables and symbolic tensors.

Most are functions of `jax.numpy` and `jax.nn` under Keras' argument names: the tables below say which. On a symbolic
tensor an operation becomes part of the functional model. Names are looked up by `__getattr__`, so that one that does
not exist is answered with the nearest that does.

>>> from fluxion.dialects.keras import ops
>>> ops.mean(ops.array([[1.0, 3.0]]), axis=1).tolist()
[2.0]
>>> ops.maen
Traceback (most recent call last):
    ...
AttributeError: keras.ops has no 'maen'. Did you mean 'mean'?
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fluxion.dialects.keras.names import unknown_argument
from fluxion.dialects.keras.symbolic import KerasTensor, Operation, is_symbolic, symbolic_call
from fluxion.dialects.keras.variables import Box, plain
from fluxion.errors import ArgumentError, nearest
from fluxion.ops import activations as fa
from fluxion.ops.conv import conv as fluxion_conv
from fluxion.ops.pooling import max_pool as fluxion_max_pool
from fluxion.ops.pooling import mean_pool as fluxion_mean_pool

# Arguments without a default are handed on by position, the others by name.
_NUMPY = """
absolute(x) arccos(x) arccosh(x) arcsin(x) arcsinh(x) arctan(x) arctanh(x) cbrt(x) ceil(x) conj(x) cos(x) cosh(x)
deg2rad(x) diagflat(x, k=0) exp(x) exp2(x) expm1(x) fabs(x) fliplr(x) flipud(x) floor(x) imag(x) isfinite(x) isinf(x)
isnan(x) isneginf(x) isposinf(x) log(x) log10(x) log1p(x) log2(x) logical_not(x) negative(x) rad2deg(x) ravel(x) real(x)
reciprocal(x) sign(x) signbit(x) sin(x) sinc(x) sinh(x) sqrt(x) square(x) tan(x) trunc(x) copy(x)
add(x1, x2) arctan2(x1, x2) divide(x1, x2) dot(x1, x2) equal(x1, x2) floor_divide(x1, x2) fmax(x1, x2) fmin(x1, x2)
fmod(x1, x2) gcd(x1, x2) greater(x1, x2) greater_equal(x1, x2) heaviside(x1, x2) hypot(x1, x2) inner(x1, x2)
kron(x1, x2) lcm(x1, x2) less(x1, x2) less_equal(x1, x2) logaddexp(x1, x2) logaddexp2(x1, x2) logical_and(x1, x2)
logical_or(x1, x2) logical_xor(x1, x2) matmul(x1, x2) maximum(x1, x2) minimum(x1, x2) mod(x1, x2) multiply(x1, x2)
not_equal(x1, x2) outer(x1, x2) power(x1, x2) subtract(x1, x2) true_divide(x1, x2) vdot(x1, x2)
bitwise_and(x, y) bitwise_or(x, y) bitwise_xor(x, y) bitwise_not(x) left_shift(x, y) right_shift(x, y)
isclose(x1, x2, rtol=1e-05, atol=1e-08, equal_nan=False) allclose(x1, x2, rtol=1e-05, atol=1e-08, equal_nan=False)
isin(x1, x2, assume_unique=False, invert=False) tensordot(x1, x2, axes=2) append(x1, x2, axis=None)
all(x, axis=None, keepdims=False) amax(x, axis=None, keepdims=False) amin(x, axis=None, keepdims=False)
any(x, axis=None, keepdims=False) max(x, axis=None, keepdims=False, initial=None) mean(x, axis=None, keepdims=False)
median(x, axis=None, keepdims=False) min(x, axis=None, keepdims=False, initial=None) ptp(x, axis=None, keepdims=False)
prod(x, axis=None, keepdims=False, dtype=None) std(x, axis=None, keepdims=False) sum(x, axis=None, keepdims=False)
var(x, axis=None, keepdims=False) argmax(x, axis=None, keepdims=False) argmin(x, axis=None, keepdims=False)
nanmax(x, axis=None, keepdims=False) nanmean(x, axis=None, keepdims=False) nanmin(x, axis=None, keepdims=False)
nanstd(x, axis=None, keepdims=False) nansum(x, axis=None, keepdims=False) nanvar(x, axis=None, keepdims=False)
count_nonzero(x, axis=None) quantile(x, q, axis=None, method="linear", keepdims=False)
percentile(x, q, axis=None, method="linear", keepdims=False) average(x, axis=None, weights=None)
argsort(x, axis=-1) sort(x, axis=-1) cumsum(x, axis=None, dtype=None) cumprod(x, axis=None, dtype=None)
diff(a, n=1, axis=-1) flip(x, axis=None) roll(x, shift, axis=None) repeat(x, repeats, axis=None) tile(x, repeats)
reshape(x, newshape) transpose(x, axes=None) swapaxes(x, axis1, axis2) moveaxis(x, source, destination)
expand_dims(x, axis) squeeze(x, axis=None) broadcast_to(x, shape) concatenate(xs, axis=0) stack(x, axis=0) hstack(xs)
vstack(xs) dstack(xs) split(x, indices_or_sections, axis=0) array_split(x, indices_or_sections, axis=0)
hsplit(x, indices_or_sections) vsplit(x, indices_or_sections) take(x, indices, axis=None)
take_along_axis(x, indices, axis=None) diag(x, k=0) diagonal(x, offset=0, axis1=0, axis2=1)
trace(x, offset=0, axis1=0, axis2=1) tril(x, k=0) triu(x, k=0) rot90(array, k=1, axes=(0, 1)) round(x, decimals=0)
clip(x, x_min, x_max) nan_to_num(x, nan=0.0, posinf=None, neginf=None) digitize(x, bins)
searchsorted(sorted_sequence, values, side="left") cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None)
bincount(x, weights=None, minlength=0) nonzero(x) histogram(x, bins=10, range=None) corrcoef(x)
correlate(x1, x2, mode="valid") vander(x, N=None, increasing=False) unravel_index(indices, shape)
array(x, dtype=None) zeros_like(x, dtype=None) ones_like(x, dtype=None) full_like(x, fill_value, dtype=None)
empty_like(x, dtype=None)
"""
# These make arrays, from numbers.
_MAKING = """
arange(start, stop=None, step=None, dtype=None) empty(shape, dtype=None) eye(N, M=None, k=0, dtype=None)
full(shape, fill_value, dtype=None) geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0)
identity(n, dtype=None) linspace(start, stop, num=50, endpoint=True, dtype=None, axis=0)
logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0) ones(shape, dtype=None)
tri(N, M=None, k=0, dtype=None) zeros(shape, dtype=None)
bartlett(x) blackman(x) hamming(x) hanning(x) kaiser(x, beta)
"""
_OTHER_NAMES = {"abs": "absolute", "conjugate": "conj"}


def _last_axes(layout: str | None) -> None:
    if layout not in (None, "channels_last"):
        raise ArgumentError(
            f'expected data_format="channels_last", got {layout!r}. Move the channels to the last axis.'
        )


def _sizes(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value)


def _padding(padding: str) -> Any:
    if padding not in ("valid", "same"):
        raise ArgumentError(f'expected padding "valid" or "same", got {padding!r}.')
    return 0 if padding == "valid" else "same"


def _conv(
    inputs: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: Any = None, dilation_rate: Any = 1
) -> Any:
    _last_axes(data_format)
    dims = inputs.ndim - 2
    groups = inputs.shape[-1] // kernel.shape[-2]
    s, d = _sizes(strides, dims), _sizes(dilation_rate, dims)
    return fluxion_conv(inputs, kernel, stride=s, padding=_padding(padding), dilation=d, groups=groups)


def _depthwise_conv(
    inputs: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: Any = None, dilation_rate: Any = 1
) -> Any:
    channels, multiplier = kernel.shape[-2:]
    kernel = kernel.reshape(*kernel.shape[:-2], 1, channels * multiplier)
    return _conv(inputs, kernel, strides, padding, data_format, dilation_rate)


def _pool(pool: Callable[..., Any]) -> Callable[..., Any]:
    def pooled(
        inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: Any = None
    ) -> Any:
        _last_axes(data_format)
        dims = inputs.ndim - 2
        k = _sizes(pool_size, dims)
        s = k if strides is None else _sizes(strides, dims)
        counting = {"count_padding": False} if pool is fluxion_mean_pool else {}
        return pool(inputs, k, stride=s, padding=_padding(padding), **counting)

    return pooled


_EPSILON = 1e-7  # between which and 1 - which Keras clips probabilities


def _log_probabilities(output: Any, from_logits: bool, axis: int) -> Any:
    if from_logits:
        return fa.logsoftmax(output, axis)
    return jnp.log(jnp.clip(output / output.sum(axis, keepdims=True), _EPSILON, 1 - _EPSILON))


def _categorical(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    return -(target * _log_probabilities(output, from_logits, axis)).sum(axis)


def _sparse_categorical(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = target.squeeze(-1)
    one_hot = jax.nn.one_hot(target.astype(int), output.shape[axis], axis=axis, dtype=output.dtype)
    return -(one_hot * _log_probabilities(output, from_logits, axis)).sum(axis)


def _binary(target: Any, output: Any, from_logits: bool = False) -> Any:
    if from_logits:
        return -(target * fa.logsigmoid(output) + (1 - target) * fa.logsigmoid(-output))
    output = jnp.clip(output, _EPSILON, 1 - _EPSILON)
    return -(target * jnp.log(output) + (1 - target) * jnp.log(1 - output))


def _one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None) -> Any:
    return jax.nn.one_hot(x, num_classes, axis=axis, dtype=dtype or "float32")


def _multi_hot(inputs: Any, num_classes: int, axis: int = -1, dtype: Any = None) -> Any:
    return jax.nn.one_hot(inputs, num_classes, dtype=dtype or "float32").max(axis - 1 if axis < 0 else axis)


def _where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    return jnp.where(condition, x1, x2)


def _pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    options = {} if constant_values is None else {"constant_values": constant_values}
    return jnp.pad(x, pad_width, mode=mode, **options)


def _unstack(x: Any, num: int | None = None, axis: int = 0) -> Any:
    return [part.squeeze(axis) for part in jnp.split(x, x.shape[axis], axis)]


def _moments(x: Any, axes: Any, keepdims: bool = False) -> Any:
    return jnp.mean(x, axes, keepdims=keepdims), jnp.var(x, axes, keepdims=keepdims)


def _normalize(x: Any, axis: int = -1, order: Any = 2, epsilon: float | None = None) -> Any:
    norm = jnp.linalg.norm(x, order, axis, keepdims=True)
    return x / jnp.maximum(norm, _EPSILON if epsilon is None else epsilon)


def _top_k(x: Any, k: int, sorted: bool = True) -> Any:
    return lax.top_k(x, k)


def _in_top_k(targets: Any, predictions: Any, k: int) -> Any:
    own = jnp.take_along_axis(predictions, targets[:, None], axis=1)
    return (predictions > own).sum(1) < k


def _einsum(subscripts: str, *operands: Any) -> Any:
    return jnp.einsum(subscripts, *operands)


def _slice(inputs: Any, start_indices: Any, shape: Any) -> Any:
    return lax.dynamic_slice(inputs, start_indices, shape)


def _slice_update(inputs: Any, start_indices: Any, updates: Any) -> Any:
    return lax.dynamic_update_slice(inputs, updates, start_indices)


def _scatter(indices: Any, values: Any, shape: Any) -> Any:
    return jnp.zeros(shape, values.dtype).at[tuple(jnp.moveaxis(indices, -1, 0))].add(values)


def _scatter_update(inputs: Any, indices: Any, updates: Any) -> Any:
    return jnp.asarray(inputs).at[tuple(jnp.moveaxis(jnp.asarray(indices), -1, 0))].set(updates)


def _as_tensor(x: Any, dtype: Any = None) -> Any:
    return jnp.asarray(x, dtype=dtype)


def _divide_no_nan(x1: Any, x2: Any) -> Any:
    zero = x2 == 0
    return jnp.where(zero, 0.0, jnp.divide(x1, jnp.where(zero, 1, x2)))


def _dot_product_attention(
    query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: Any = None, is_causal: bool = False
) -> Any:
    return jax.nn.dot_product_attention(query, key, value, bias, mask, scale=scale, is_causal=is_causal)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    # arrays
    "cast": lambda x, dtype: jnp.asarray(x, dtype=dtype),
    "convert_to_tensor": _as_tensor,
    "stop_gradient": lambda variable: lax.stop_gradient(variable),
    "get_item": lambda x, key: x[key],
    "where": _where,
    "pad": _pad,
    "unstack": _unstack,
    "einsum": _einsum,
    "slice": _slice,
    "slice_update": _slice_update,
    "scatter": _scatter,
    "scatter_update": _scatter_update,
    "divide_no_nan": _divide_no_nan,
    "meshgrid": lambda *x, indexing="xy": jnp.meshgrid(*x, indexing=indexing),
    "rsqrt": lambda x: lax.rsqrt(x),
    "segment_sum": lambda data, segment_ids, num_segments=None: jax.ops.segment_sum(data, segment_ids, num_segments),
    "segment_max": lambda data, segment_ids, num_segments=None: jax.ops.segment_max(data, segment_ids, num_segments),
    "logsumexp": lambda x, axis=None, keepdims=False: jax.nn.logsumexp(x, axis, keepdims=keepdims),
    "erf": lambda x: jax.scipy.special.erf(x),
    "erfinv": lambda x: jax.scipy.special.erfinv(x),
    # linear algebra
    "norm": lambda x, ord=None, axis=None, keepdims=False: jnp.linalg.norm(x, ord, axis, keepdims),
    "inv": lambda x: jnp.linalg.inv(x),
    "det": lambda x: jnp.linalg.det(x),
    "solve": lambda a, b: jnp.linalg.solve(a, b),
    "cholesky": lambda x, upper=False: jnp.linalg.cholesky(x, upper=upper),
    "qr": lambda x, mode="reduced": jnp.linalg.qr(x, mode),
    "svd": lambda x, full_matrices=True, compute_uv=True: jnp.linalg.svd(x, full_matrices, compute_uv),
    "eigh": lambda x: jnp.linalg.eigh(x),
    # networks
    "relu": lambda x: fa.relu(x),
    "relu6": lambda x: fa.relu6(x),
    "leaky_relu": lambda x, negative_slope=0.2: fa.leakyrelu(x, negative_slope),
    "elu": lambda x, alpha=1.0: fa.elu(x, alpha),
    "celu": lambda x, alpha=1.0: fa.celu(x, alpha),
    "selu": lambda x: fa.selu(x),
    "gelu": lambda x, approximate=True: fa.gelu(x, approximate),
    "silu": lambda x: fa.swish(x),
    "swish": lambda x: fa.swish(x),
    "sigmoid": lambda x: fa.sigmoid(x),
    "log_sigmoid": lambda x: fa.logsigmoid(x),
    "hard_sigmoid": lambda x: fa.hardsigmoid(x),
    "hard_silu": lambda x: fa.hardswish(x),
    "hard_swish": lambda x: fa.hardswish(x),
    "hard_tanh": lambda x: fa.hardtanh(x),
    "softplus": lambda x: fa.softplus(x),
    "softsign": lambda x: fa.softsign(x),
    "soft_shrink": lambda x, threshold=0.5: fa.softshrink(x, threshold),
    "tanh": lambda x: fa.tanh(x),
    "tanh_shrink": lambda x: fa.tanhshrink(x),
    "softmax": lambda x, axis=-1: jax.nn.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: jax.nn.log_softmax(x, axis),
    "glu": lambda x, axis=-1: fa.glu(x, axis),
    "one_hot": _one_hot,
    "multi_hot": _multi_hot,
    "top_k": _top_k,
    "in_top_k": _in_top_k,
    "moments": _moments,
    "normalize": _normalize,
    "conv": _conv,
    "depthwise_conv": _depthwise_conv,
    "max_pool": _pool(fluxion_max_pool),
    "average_pool": _pool(fluxion_mean_pool),
    "categorical_crossentropy": _categorical,
    "sparse_categorical_crossentropy": _sparse_categorical,
    "binary_crossentropy": _binary,
    "dot_product_attention": _dot_product_attention,
}

# -------------------------------------------------------------------------------- what is known of the tensor at once


def shape(x: Any) -> tuple[int | None, ...]:
    """The shape, in which unknown sizes of a symbolic tensor are None."""
    return tuple(x.shape) if hasattr(x, "shape") else jnp.shape(x)


def ndim(x: Any) -> int:
    """The number of axes."""
    return len(shape(x))


def size(x: Any) -> int | None:
    """The number of elements; None where a size is not known."""
    sizes = shape(x)
    return None if None in sizes else int(np.prod(sizes))  # type: ignore[arg-type]


def dtype(x: Any) -> str:
    """The name of the dtype."""
    return str(x.dtype)


def is_tensor(x: Any) -> bool:
    """Whether `x` is an array of JAX, a variable or a symbolic tensor."""
    return isinstance(x, (jax.Array, Box, KerasTensor))


def convert_to_numpy(x: Any) -> np.ndarray:
    """`x` as a numpy array."""
    return np.asarray(plain(x))


# ------------------------------------------------------------------------------------------------ control flow


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """`true_fn()` or `false_fn()`, decided where the model runs."""
    return lax.cond(plain(pred), true_fn, false_fn)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`."""
    return lax.switch(plain(index), branches, *map(plain, operands))


def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    """`loop_vars = body(*loop_vars)` while `cond(*loop_vars)`.

    >>> from fluxion.dialects.keras import ops
    >>> [int(v) for v in ops.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s + i), (0, 0))]
    [4, 6]
    """
    single = not isinstance(loop_vars, (list, tuple))
    start = (loop_vars,) if single else tuple(loop_vars)

    def step(state: Any) -> Any:
        out = body(*state[1])
        return state[0] + 1, (out,) if single else tuple(out)

    def goes_on(state: Any) -> Any:
        more = cond(*state[1])
        return more if maximum_iterations is None else more & (state[0] < maximum_iterations)

    _, out = lax.while_loop(goes_on, step, (0, start))
    return out[0] if single else out


def fori_loop(lower: int, upper: int, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """`value = body_fun(i, value)` for `i` from `lower` up to, not including, `upper`."""
    return lax.fori_loop(lower, upper, body_fun, init_val)


def scan(
    f: Callable[[Any, Any], Any], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
) -> Any:
    """`carry, y = f(carry, x)` along the first axis of `xs`; returns the last carry and the stacked `y`."""
    return lax.scan(f, init, xs, length, reverse)


def map(f: Callable[[Any], Any], xs: Any) -> Any:
    """`f(x)` for each `x` along the first axis, stacked."""
    return lax.map(f, xs)


def vectorized_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """`function` on all elements along the first axis at once."""
    return jax.vmap(function)(elements)


# --------------------------------------------------------------------------------------------------- the table


def _named(function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """`function` of `jax.numpy`, called as `signature` says."""

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        positional = [value for name, value in bound.arguments.items() if name in required]
        return function(*positional, **{n: value for n, value in bound.arguments.items() if n not in required})

    required = {name for name, p in signature.parameters.items() if p.default is p.empty}
    return call


def _operation(name: str, function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    class_name = "".join(part.capitalize() for part in name.split("_"))

    def op(*args: Any, **kwargs: Any) -> Any:
        extra = [key for key in kwargs if key not in signature.parameters]
        if extra and not takes_any:
            raise unknown_argument(f"keras.ops.{name}", extra, signature.parameters)
        if any(is_symbolic(leaf) for leaf in jax.tree.leaves((args, kwargs))):
            return symbolic_call(Operation(name, function, class_name), args, kwargs)
        args, kwargs = jax.tree.map(plain, (args, kwargs), is_leaf=lambda leaf: isinstance(leaf, Box))
        return function(*args, **kwargs)

    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"`{name}{signature}` on arrays, variables and symbolic tensors."
    op.__signature__ = signature  # type: ignore[attr-defined]
    return op


def _signature(text: str) -> inspect.Signature:
    """The signature written as `x, axis=None`."""
    arguments = ast.parse(f"lambda {text}: 0", mode="eval").body.args  # type: ignore[attr-defined]
    names = [argument.arg for argument in arguments.args]
    defaults = dict(zip(reversed(names), [ast.literal_eval(d) for d in reversed(arguments.defaults)], strict=False))
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    return inspect.Signature([inspect.Parameter(n, kind, default=defaults.get(n, empty)) for n in names])


@functools.cache
def table() -> dict[str, Callable[..., Any]]:
    """The operations by name."""
    found: dict[str, Callable[..., Any]] = {}
    for text in (_NUMPY, _MAKING):
        for name, parameters in re.findall(r"(\w+)\(((?:[^()]|\([^()]*\))*)\)", text):
            signature = _signature(parameters)
            found[name] = _operation(name, _named(getattr(jnp, name), signature), signature)
    for name, function in _FUNCTIONS.items():
        found[name] = _operation(name, function, inspect.signature(function))
    for name, other in _OTHER_NAMES.items():
        found[name] = found[other]
    return found


def __getattr__(name: str) -> Any:
    if name in table():
        return table()[name]
    own = [n for n in globals() if not n.startswith("_")]
    raise AttributeError(f"keras.ops has no {name!r}.{nearest(name, [*table(), *own])}")


def __dir__() -> list[str]:
    return sorted([*globals(), *table()])
