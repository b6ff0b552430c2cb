"""Functions called less often: at most once in some time, or only after some patience."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from fluxion.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")


def throttle(
    f: Callable[P, R], seconds: float, *, leading: bool = True, trailing: bool = False
) -> Callable[P, R | None]:
    """`f`, called at most once in `seconds`; calls that come too soon return the last result.

    Arguments:
        f: any function.
        seconds: the length of the pause after each call.
        leading: whether the first call of a pause goes through at once.
        trailing: whether the last call of a pause is made up for at its end. It then runs in a thread of its own, and
            is lost if the program ends first.

    Errors: `ArgumentError` for a negative time, or if neither `leading` nor `trailing`.

    As Flux's `throttle`, except that both options off is an error.

    >>> import fluxion as fx
    >>> say = fx.throttle(print, 60)
    >>> for i in range(1000):
    ...     say(i)
    0
    """
    seconds = check_number("throttle", "seconds", seconds, 0.0)
    if not (leading or trailing):
        raise ArgumentError("throttle: expected leading=True or trailing=True, got neither; nothing would be called.")
    lock = threading.RLock()
    ready_at = float("-inf")
    waiting: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    timer: threading.Timer | None = None
    result: R | None = None

    def make_up() -> None:
        nonlocal ready_at, waiting, timer, result
        with lock:
            timer = None
            if waiting is not None:
                (args, kwargs), waiting = waiting, None
                ready_at = time.monotonic() + seconds
                result = f(*args, **kwargs)

    @functools.wraps(f)
    def throttled(*args: P.args, **kwargs: P.kwargs) -> R | None:
        nonlocal ready_at, waiting, timer, result
        with lock:
            now = time.monotonic()
            if now >= ready_at and timer is None:
                ready_at = now + seconds
                if leading:
                    result = f(*args, **kwargs)
                    return result
            if trailing:
                waiting = (args, kwargs)
                if timer is None:
                    timer = threading.Timer(max(ready_at - now, 0.0), make_up)
                    timer.daemon = True
                    timer.start()
            return result

    return throttled


def patience(predicate: Callable[P, object], wait: int) -> Callable[P, bool]:
    """A function that is true once `predicate` has been true `wait` times in a row.

    Errors: `ArgumentError` unless `wait` is a whole number, 1 or greater. As Flux's `patience`.

    >>> import fluxion as fx
    >>> high = fx.patience(lambda loss: loss > 1, 2)
    >>> [high(loss) for loss in (3, 0, 2, 2, 2)]
    [False, False, False, True, True]
    """
    check_count("patience", "wait", wait)
    count = 0

    @functools.wraps(predicate)
    def patient(*args: P.args, **kwargs: P.kwargs) -> bool:
        nonlocal count
        count = count + 1 if predicate(*args, **kwargs) else 0
        return count >= wait

    return patient


def check_count(caller: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{caller}: expected {name} to be a whole number, 1 or greater, got {value!r}.")
    return value


def check_number(caller: str, name: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise ArgumentError(f"{caller}: expected {name} to be a finite number, {least:g} or greater, got {value!r}.")
    return float(value)
