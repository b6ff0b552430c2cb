"""Batches made ahead: by background threads while the step computes, and put on the device there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import jax
import numpy as np

END = object()  # what `make` returns when there is nothing more to make


def made_ahead(
    make: Callable[[int], Any],
    numbers: Iterable[int],
    *,
    count: int,
    threads: int = 1,
    stop: Callable[[], None] | None = None,
) -> Iterator[Any]:
    """`make(i)` for the numbers in turn, up to `count` of them ahead of the one that is being used.

    An exception comes out where its batch would have. When the iteration is left early, `stop` is called, which should
    make the calls under way end soon; after it no thread runs.

    >>> list(made_ahead(lambda i: i * i, range(4), count=2))
    [0, 1, 4, 9]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fluxion-data")
    remaining = iter(numbers)
    waiting: deque[Future[Any]] = deque()
    try:
        while True:
            waiting.extend(pool.submit(make, i) for i in islice(remaining, max(count, 1) - len(waiting)))
            if not waiting:
                return
            result = waiting.popleft().result()
            if result is END:
                return
            waiting.extend(pool.submit(make, i) for i in islice(remaining, count - len(waiting)))
            yield result
    finally:
        for future in waiting:
            future.cancel()
        if stop is not None and not all(future.done() for future in waiting):
            stop()
        pool.shutdown()


def one_by_one(make: Callable[[int], Any], numbers: Iterable[int]) -> Iterator[Any]:
    """`make(i)` for the numbers in turn, each when it is asked for.

    >>> list(one_by_one(lambda i: END if i == 3 else i, range(9)))
    [0, 1, 2]
    """
    for i in numbers:
        made = make(i)
        if made is END:
            return
        yield made


def default_device() -> jax.Device:
    """The device that arrays of this thread are put on."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if isinstance(device, str):
        return jax.devices(device)[0]
    return jax.devices()[0] if device is None else device


def on_device(batch: Any, device: jax.Device) -> Any:
    """The batch with its numeric NumPy arrays on the device; those in types that JAX would narrow stay as they are.

    On a CPU there is nothing to do: the step reads NumPy arrays where they are.
    """
    if device.platform == "cpu":
        return batch
    return jax.tree.map(lambda part: jax.device_put(part, device) if _fits(part) else part, batch)


def _fits(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind in "biuf" and _narrowed(part.dtype) == part.dtype


def _narrowed(dtype: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(dtype)
