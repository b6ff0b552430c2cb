"""What the primitives of the C++ library have in common: evaluation, and lowering by platform."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import mlir


def define(primitive: Primitive, plain: Callable[..., Any], native: Callable[..., Any]) -> None:
    """Evaluation and lowering: `native` on a CPU, `plain` JAX elsewhere, and where several devices share the work."""

    @functools.cache
    def compiled(**options: Any) -> Callable[..., Any]:
        return jax.jit(functools.partial(primitive.bind, **options))

    lower_plain = mlir.lower_fun(plain, multiple_results=primitive.multiple_results)
    lower_native = mlir.lower_fun(native, multiple_results=primitive.multiple_results)

    def lower_cpu(context: Any, *arrays: Any, **options: Any) -> Any:
        # A call of C++ cannot be divided among devices; XLA's operations can.
        several = getattr(context.module_context.axis_context, "num_devices", 1) != 1
        return (lower_plain if several else lower_native)(context, *arrays, **options)

    primitive.def_impl(lambda *arrays, **options: compiled(**options)(*arrays))
    mlir.register_lowering(primitive, lower_plain)
    mlir.register_lowering(primitive, lower_cpu, platform="cpu")
