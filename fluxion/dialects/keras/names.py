"""Names as Keras users write them: strings that choose one of a table, arguments that exist, automatic layer names."""

from __future__ import annotations

import functools
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import ParamSpec, TypeVar

from fluxion.errors import ArgumentError, nearest, user_frames

T = TypeVar("T")
P = ParamSpec("P")


def choose(kind: str, value: str, table: Mapping[str, T]) -> T:
    """`table[value]`; an `ArgumentError` with the nearest name and the whole list where there is none.

    >>> from fluxion.dialects.keras.names import choose
    >>> choose("optimizer", "adm", {"adam": 1, "sgd": 2})
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: optimizer: got 'adm'. Did you mean 'adam'? There are: adam, sgd.
    """
    if isinstance(value, str) and value in table:
        return table[value]
    hint = nearest(value, table) if isinstance(value, str) else ""
    raise ArgumentError(f"{kind}: got {value!r}.{hint} There are: {', '.join(table)}.")


def unknown_argument(owner: str, given: Iterable[str], accepted: Iterable[str]) -> ArgumentError:
    """The error for arguments that `owner` does not take."""
    names = [name for name in accepted if name not in ("self", "args", "kwargs")]
    first = next(iter(given))
    takes = f"It takes {', '.join(names)}." if names else "It takes none."
    return ArgumentError(f"{owner}: there is no argument {first!r}.{nearest(first, names)} {takes}")


def known_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function or an `__init__`: a keyword it does not take is an `ArgumentError` that lists those it takes.

    >>> from fluxion.dialects.keras.names import known_arguments
    >>> @known_arguments
    ... def to_categorical(x, num_classes=None): ...
    >>> to_categorical([1], num_clases=3)
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: to_categorical: there is no argument 'num_clases'. Did you mean 'num_classes'?
    It takes x, num_classes.
    """
    parameters = inspect.signature(function).parameters
    owner = function.__qualname__.removesuffix(".__init__").split(".")[-1]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        extra = [name for name in kwargs if name not in parameters]
        if extra:
            raise unknown_argument(owner, extra, parameters)
        return function(*args, **kwargs)

    return user_frames(checked)


def accepted_by(cls: type) -> list[str]:
    """The arguments that constructing `cls` takes, its own first, then those it hands on as `**kwargs`."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        names |= dict.fromkeys(
            name for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        )
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return [name for name in names if name != "self"]


# -------------------------------------------------------------------------------------------- automatic names

_used: Counter[str] = Counter()


def snake_case(name: str) -> str:
    """`MaxPooling2D` as Keras names such a layer: `max_pooling2d`.

    >>> from fluxion.dialects.keras.names import snake_case
    >>> snake_case("MaxPooling2D"), snake_case("LSTM"), snake_case("MyLayer")
    ('max_pooling2d', 'lstm', 'my_layer')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def automatic_name(base: str) -> str:
    """`dense`, then `dense_1`, `dense_2` ... in the order of construction."""
    number = _used[base]
    _used[base] += 1
    return f"{base}_{number}" if number else base


def forget_names() -> None:
    """Start counting anew, as `keras.utils.clear_session` does."""
    _used.clear()
