"""Products of many matrices at once: the leading axes count the matrices, the last two are each one's rows and columns.

`@` broadcasts leading axes as JAX broadcasts everything else. Here a batch meets an equal batch, a batch of one, or a
plain matrix that all share; whatever else comes is a mistake and is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped


def batched_mul(a: Shaped[Array, "*batch n m"], b: Shaped[Array, "*batch m k"]) -> Shaped[Array, "*batch n k"]:
    """`a[i] @ b[i]` for each `i` of the batch.

    Shapes: `(*batch, n, m)` and `(*batch, m, k)` in, `(*batch, n, k)` out, for any number of batch axes; one of size 1
    stands for the whole axis, and a plain matrix, without batch axes, is used with every matrix of the other.

    Errors: ShapeError for other batch sizes and for inner sizes that differ. The numbers are those of `torch.bmm`; as
    `NNlib.batched_mul`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.batched_mul(jnp.ones((10, 2, 3)), jnp.ones((10, 3, 4))).shape
    (10, 2, 4)
    >>> fx.batched_mul(jnp.ones((2, 3)), jnp.ones((10, 3, 4))).shape
    (10, 2, 4)
    """
    a, b = _numbers("batched_mul", a), _numbers("batched_mul", b)
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(
            f"batched_mul: expected matrices (*batch, n, m) and (*batch, m, k), got {a.shape} and {b.shape}. "
            "Use batched_vec for vectors."
        )
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"batched_mul: expected matrices (*batch, n, m) and (*batch, m, k) with the same m, "
            f"got {a.shape} and {b.shape}.{_transposed(a, b)}"
        )
    _meet("batched_mul", a.shape, a.shape[:-2], b.shape, b.shape[:-2])
    return jnp.matmul(a, b)


def batched_vec(a: Shaped[Array, "*batch n m"], x: Shaped[Array, "*batch m"]) -> Shaped[Array, "*batch n"]:
    """`a[i] @ x[i]` for each `i` of the batch: a matrix times a vector.

    Shapes: `(*batch, n, m)` and `(*batch, m)` in, `(*batch, n)` out, for any number of batch axes; one of size 1 stands
    for the whole axis, and a plain matrix or vector, without batch axes, is used with each of the other.

    Errors: ShapeError as for `batched_mul`. As `NNlib.batched_vec`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.batched_vec(jnp.ones((10, 2, 3)), jnp.ones((10, 3))).shape
    (10, 2)
    """
    a, x = _numbers("batched_vec", a), _numbers("batched_vec", x)
    if a.ndim < 2 or x.ndim < 1 or a.shape[-1] != x.shape[-1]:
        raise ShapeError(
            f"batched_vec: expected a matrix (*batch, n, m) and a vector (*batch, m) with the same m, "
            f"got {a.shape} and {x.shape}."
        )
    _meet("batched_vec", a.shape, a.shape[:-2], x.shape, x.shape[:-1])
    return jnp.matmul(a, x[..., None])[..., 0]


def batched_transpose(x: Shaped[Array, "*batch n m"]) -> Shaped[Array, "*batch m n"]:
    """`x` with its last two axes exchanged; the conjugate of it is the adjoint.

    Shapes: `(*batch, n, m)` in, `(*batch, m, n)` out. Errors: ShapeError for fewer than two axes.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.batched_transpose(jnp.ones((10, 2, 3))).shape
    (10, 3, 2)
    """
    x = _numbers("batched_transpose", x)
    if x.ndim < 2:
        raise ShapeError(f"batched_transpose: expected matrices (*batch, n, m), got {x.shape}.")
    return jnp.swapaxes(x, -1, -2)


def _numbers(name: str, x: Any) -> Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.number):
        raise DTypeError(f"{name}: expected arrays of numbers, got dtype {x.dtype}. Convert it first.")
    return x


def _meet(
    name: str, first: tuple[int, ...], first_batch: tuple[int, ...], second: tuple[int, ...], batch: tuple[int, ...]
) -> None:
    """Refuse batches that are neither equal, nor of size 1, nor absent."""
    if not first_batch or not batch:
        return
    if len(first_batch) == len(batch) and all(1 in (n, m) or n == m for n, m in zip(first_batch, batch, strict=True)):
        return
    raise ShapeError(
        f"{name}: expected batch axes that are equal, 1, or left out, got {first_batch} of {first} and {batch} of "
        f"{second}. Reshape one of them."
    )


def _transposed(a: Array, b: Array) -> str:
    if a.shape[-2] == b.shape[-2]:
        return " Use batched_transpose on the first."
    if a.shape[-1] == b.shape[-1]:
        return " Use batched_transpose on the second."
    return ""
