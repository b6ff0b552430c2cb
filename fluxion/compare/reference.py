"""The losses that every framework must show: the same steps in plain NumPy, in float64, by the formulas alone.

It shares no code with any framework, Fluxion included, and rounds a billion times finer than they do. So it says of
each of them, one by one, whether it does the work that was described; a majority would only say who is alone.

The gradients are written out by hand. A part is two functions: `forward(part, weights, x)` gives the output and what
`backward` needs, `backward(part, weights, kept, dy)` the gradient by x and those by the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fluxion.compare import parts as w
from fluxion.errors import ArgumentError

Arrays = dict[str, np.ndarray]
PARTS = (w.Dense, w.Conv, w.MaxPool, w.Flatten, w.LSTM, w.LastStep, w.Embedding)


def losses(workload: w.Workload, weights: Arrays, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The loss of each batch before the step on it.

    >>> import numpy as np
    >>> from fluxion.compare import parts, reference
    >>> workload = parts.Workload("two", "", parts.mlp(1, 2), (1,), batch=1, classes=2, optimizer=parts.SGD(1.0))
    >>> zeros = {"0.weight": np.zeros((1, 2)), "0.bias": np.zeros(2)}
    >>> batch = np.ones((1, 1)), np.array([0])
    >>> reference.losses(workload, zeros, [batch, batch]).round(3)  # log 2, then log(1 + exp(-2))
    array([0.693, 0.127])

    Errors: `ArgumentError` for a network with parts that are not in `PARTS`.
    """
    if odd := [part for part in workload.network if not isinstance(part, PARTS)]:
        raise ArgumentError(f"reference: there are no formulas here for {odd[0]}.")
    arrays = {name: array.astype(np.float64) for name, array in weights.items()}
    update = _update(workload.optimizer)
    found = []
    for x, y in batches:
        loss, gradients = loss_and_gradients(workload, arrays, x, y)
        update(arrays, gradients)
        found.append(loss)
    return np.array(found)


def loss_and_gradients(workload: w.Workload, arrays: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[float, Arrays]:
    """The loss of a batch and its gradient by each array."""
    x = x if np.issubdtype(x.dtype, np.integer) else x.astype(np.float64)
    kept = []
    for i, part in enumerate(workload.network):
        own = {name: arrays[f"{i}.{name}"] for name in part.shapes()}
        x, needed = _forward(part, own, x)
        kept.append((i, part, own, needed))
    loss, dy = LOSSES[workload.loss](x, y)
    gradients: Arrays = {}
    for i, part, own, needed in reversed(kept):
        dy, by_weights = _backward(part, own, needed, dy, i == 0)
        gradients |= {f"{i}.{name}": array for name, array in by_weights.items()}
    for name, array in arrays.items():
        if workload.penalty and not name.endswith("bias"):
            loss += workload.penalty * float((array**2).sum())
            gradients[name] = gradients[name] + 2 * workload.penalty * array
    return loss, gradients


# --------------------------------------------------------------------------------------- losses, optimizers


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _cross_entropy(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    p, hot = _softmax(x), np.eye(x.shape[-1])[y]
    return -float(np.log(p[hot == 1]).mean()), (p - hot) / y.size


def _through_softmax(loss: Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]) -> Any:
    def applied(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        p = _softmax(x)
        value, dp = loss(p, y)
        return value, p * (dp - (dp * p).sum(-1, keepdims=True))

    return applied


def _squared_error(p: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    difference = p - np.eye(p.shape[-1])[y]
    return float((difference**2).mean()), 2 * difference / difference.size


LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]] = {
    "cross entropy": _cross_entropy,
    "cross entropy of softmax": _through_softmax(_cross_entropy),
    "squared error of softmax": _through_softmax(_squared_error),
}


def _update(rule: w.Optimizer) -> Callable[[Arrays, Arrays], None]:
    """A step of the optimizer, which changes the arrays in place."""
    m: Arrays = {}
    v: Arrays = {}
    t = 0

    def step(arrays: Arrays, gradients: Arrays) -> None:
        nonlocal t
        t += 1
        for name, g in gradients.items():
            match rule:
                case w.SGD(rate):
                    arrays[name] -= rate * g
                case w.Momentum(rate, rho):
                    v[name] = rho * v.get(name, 0.0) + g
                    arrays[name] -= rate * v[name]
                case w.Adam(rate, beta1, beta2, epsilon):
                    m[name] = beta1 * m.get(name, 0.0) + (1 - beta1) * g
                    v[name] = beta2 * v.get(name, 0.0) + (1 - beta2) * g**2
                    root = np.sqrt(v[name] / (1 - beta2**t)) + epsilon
                    arrays[name] -= rate * m[name] / (1 - beta1**t) / root

    return step


# -------------------------------------------------------------------------------------------------- parts


def _forward(part: w.Part, own: Arrays, x: np.ndarray) -> tuple[np.ndarray, Any]:
    match part:
        case w.Dense():
            y = _activated(part.activation, x @ own["weight"] + own["bias"])
            return y, (x, y)
        case w.Conv():
            windows = _windows(part, x)
            rows = windows.reshape(-1, part.kernel**2 * part.inputs)  # a copy: several times faster for three products
            y = rows @ own["weight"].reshape(-1, part.outputs) + own.get("bias", 0.0)
            y = _activated(part.activation, y.reshape(*windows.shape[:3], -1))
            return y, (x.shape, rows, y)
        case w.MaxPool():
            cells = _cells(x)
            y = cells.max((2, 4))
            return y, (x.shape, cells, y)
        case w.Flatten():
            return x.reshape(len(x), -1), x.shape
        case w.LastStep():
            return x[:, -1], x.shape
        case w.Embedding():
            return own["weight"][x], x
        case w.LSTM():
            return _lstm(own, x)
    raise AssertionError(part)


def _backward(part: w.Part, own: Arrays, kept: Any, dy: np.ndarray, first: bool) -> tuple[np.ndarray, Arrays]:
    """The gradient by the input, which nobody needs of the first part, and those by the weights."""
    match part:
        case w.Dense():
            x, y = kept
            dy = dy * _slope(part.activation, y)
            flat = dy.reshape(-1, part.outputs)
            return dy @ own["weight"].T, {"weight": x.reshape(-1, part.inputs).T @ flat, "bias": flat.sum(0)}
        case w.Conv():
            shape, rows, y = kept
            dy = dy * _slope(part.activation, y)
            flat = dy.reshape(-1, part.outputs)
            gradients = {"weight": (rows.T @ flat).reshape(own["weight"].shape)}
            if part.bias:
                gradients["bias"] = flat.sum(0)
            if first:
                return dy, gradients
            drows = flat @ own["weight"].reshape(-1, part.outputs).T
            return _spread(part, shape, drows.reshape(*dy.shape[:3], part.kernel, part.kernel, -1)), gradients
        case w.MaxPool():
            shape, cells, y = kept
            largest = cells == y[:, :, None, :, None]
            dx = np.zeros(shape)
            given = dy[:, :, None, :, None] * largest / largest.sum((2, 4), keepdims=True)
            dx[:, : cells.shape[1] * 2, : cells.shape[3] * 2] = given.reshape(
                len(dx), cells.shape[1] * 2, cells.shape[3] * 2, -1
            )
            return dx, {}
        case w.Flatten():
            return dy.reshape(kept), {}
        case w.LastStep():
            dx = np.zeros(kept)
            dx[:, -1] = dy
            return dx, {}
        case w.Embedding():
            gradient = np.zeros_like(own["weight"])
            np.add.at(gradient, kept, dy)
            return np.zeros(0), {"weight": gradient}
        case w.LSTM():
            return _lstm_backward(own, kept, dy)
    raise AssertionError(part)


def _activated(name: str, x: np.ndarray) -> np.ndarray:
    if name == "relu":
        return np.maximum(x, 0)
    return np.tanh(x) if name == "tanh" else x


def _slope(name: str, y: np.ndarray) -> Any:
    """The derivative of an activation, from its output."""
    if name == "relu":
        return y > 0
    return 1 - y**2 if name == "tanh" else 1.0


def _windows(part: w.Conv, x: np.ndarray) -> np.ndarray:
    """(batch, height, width, kernel, kernel, channels)."""
    p, k, s = part.padding, part.kernel, part.stride
    padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), (1, 2))[:, ::s, ::s]
    return windows.transpose(0, 1, 2, 4, 5, 3)


def _spread(part: w.Conv, shape: tuple[int, ...], dwindows: np.ndarray) -> np.ndarray:
    """What `_windows` took, added up in the place it came from."""
    p, k, s = part.padding, part.kernel, part.stride
    n, height, width, channels = shape
    dx = np.zeros((n, height + 2 * p, width + 2 * p, channels))
    rows, columns = dwindows.shape[1:3]
    for i in range(k):
        for j in range(k):
            dx[:, i : i + s * rows : s, j : j + s * columns : s] += dwindows[:, :, :, i, j]
    return dx[:, p : p + height, p : p + width]


def _cells(x: np.ndarray) -> np.ndarray:
    """(batch, height / 2, 2, width / 2, 2, channels); a row or column left over is dropped."""
    n, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _lstm(own: Arrays, x: np.ndarray) -> tuple[np.ndarray, Any]:
    h = c = np.zeros((len(x), own["recurrent_weight"].shape[0]))
    steps, outputs = [], []
    for t in range(x.shape[1]):
        a = x[:, t] @ own["weight"] + h @ own["recurrent_weight"] + own["bias"]
        i, f, g, o = np.split(a, 4, axis=1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        before = (h, c)
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append((*before, i, f, g, o, c))
        outputs.append(h)
    return np.stack(outputs, 1), (x, steps)


def _lstm_backward(own: Arrays, kept: Any, dy: np.ndarray) -> tuple[np.ndarray, Arrays]:
    x, steps = kept
    gradients = {name: np.zeros_like(array) for name, array in own.items()}
    dx = np.zeros(x.shape)
    dh = dc = np.zeros_like(steps[0][0])
    for t in reversed(range(len(steps))):
        h, c, i, f, g, o, new = steps[t]
        dh = dh + dy[:, t]
        root = np.tanh(new)
        dc = dc + dh * o * (1 - root**2)
        parts = (dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh * root * o * (1 - o))
        da = np.concatenate(parts, 1)
        gradients["weight"] += x[:, t].T @ da
        gradients["recurrent_weight"] += h.T @ da
        gradients["bias"] += da.sum(0)
        dx[:, t] = da @ own["weight"].T
        dh = da @ own["recurrent_weight"].T
        dc = dc * f
    return dx, gradients
