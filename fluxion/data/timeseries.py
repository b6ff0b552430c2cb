"""Windows of a time series: what a model sees, and what it is to say next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fluxion.data.arrays import check_whole, is_table
from fluxion.data.tablefiles import check_name
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError


def timeseries_windows(
    series: Any,
    length: int,
    *,
    horizon: int = 1,
    step: int = 1,
    target: str | int | Sequence[str] | Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a time series, each with the values that come next.

    `x[i] = series[i * step : i * step + length]` and
    `y[i] = series[i * step + length : i * step + length + horizon]`: nothing in `y[i]` is older than what is in
    `x[i]`, and only whole windows are given. Both are views of the series, not to be written to, which take no memory
    of their own.

    Windows overlap: cut the series into its training and its test part first, and make windows of each.

    Shapes: `(T,)` -> `x (N, length, 1)`, `y (N, horizon)`; `(T, features)` -> `x (N, length, features)`,
    `y (N, horizon, features)`, with `N = (T - length - horizon) // step + 1`. With one `target` `y` is `(N, horizon)`,
    with k of them `(N, horizon, k)`.

    Arguments:
        series: an array whose first axis is time, oldest first, or a polars table or column of numbers.
        length: how many values a window has.
        horizon: how many values come after it.
        step: how far one window begins after the other.
        target: the feature that is predicted, by place or (of a table) by name, or a list of them; all if not given.

    Errors: `DataError` for a series that is too short and a column that is not there, `DTypeError` for what is no
    numbers, `ShapeError` for more than two axes, `ArgumentError` for numbers below 1.

    >>> import fluxion as fx, numpy as np
    >>> x, y = fx.timeseries_windows(np.arange(6.0), 3, horizon=2)
    >>> x[:, :, 0].tolist(), y.tolist()
    ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [[3.0, 4.0], [4.0, 5.0]])
    """
    length = check_whole(length, "timeseries_windows: length", 1)
    horizon = check_whole(horizon, "timeseries_windows: horizon", 1)
    step = check_whole(step, "timeseries_windows: step", 1)
    names = series.columns if is_table(series) and hasattr(series, "columns") else None
    values = series.to_numpy() if is_table(series) else np.asarray(series)
    if values.dtype.kind not in "biuf":
        raise DTypeError(f"timeseries_windows: expected numbers, got dtype {values.dtype}. Choose columns of numbers.")
    if values.ndim not in (1, 2):
        raise ShapeError(f"timeseries_windows: expected a series of shape (T,) or (T, features), got {values.shape}.")
    count = (len(values) - length - horizon) // step + 1
    if len(values) < length + horizon:
        raise DataError(
            f"timeseries_windows: expected at least {length + horizon} values for a window of {length} and a horizon "
            f"of {horizon}, got {len(values)}."
        )
    table = values if values.ndim == 2 else values[:, None]
    chosen = values if target is None else table[:, _places(target, names, table.shape[1])]
    x = _windows(table, length)[::step][:count]
    y = _windows(chosen[length:], horizon)[::step][:count]
    return x, y


def _windows(values: np.ndarray, length: int) -> np.ndarray:
    """All `values[i : i + length]`, as a view."""
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(values, length, axis=0), -1, 1)


def _places(target: Any, names: list[str] | None, features: int) -> Any:
    """The place of one target, or the list of places of several."""
    if isinstance(target, list | tuple):
        return [_places(one, names, features) for one in target]
    if isinstance(target, str):
        if names is None:
            raise ArgumentError(f"timeseries_windows: expected target as a place in an array, got {target!r}.")
        check_name(names, target, "timeseries_windows: target")
        return names.index(target)
    return check_whole(target, "timeseries_windows: target", 0, features - 1, "the place of a feature")
