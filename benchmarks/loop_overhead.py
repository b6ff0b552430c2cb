"""What a training loop costs beside its arithmetic: small networks, whole epochs, interleaved in one process.

python benchmarks/loop_overhead.py [rounds]      writes benchmarks/loop_overhead.md

Peers: a hand-written `jax.jit` loop (optax Adam, batches gathered by NumPy), the same over batches that were cut
beforehand (so nothing but the steps), and torch eager with its fused Adam, where it is installed. All shuffle anew in
every epoch except the loops over lists; all keep the losses of the steps.
"""

import platform
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fluxion as fx

RATE = 1e-3


def cross(model: Any, x: Any, y: Any) -> Any:
    return fx.logitcrossentropy(model(x), y)


def data(count: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, features)).astype(np.float32), rng.integers(0, classes, count)


def network(sizes: list[int]) -> fx.Chain:
    fx.seed(0)
    hidden = [fx.Dense(a, b, fx.relu) for a, b in pairwise(sizes[:-1])]
    return fx.Chain(*hidden, fx.Dense(sizes[-2], sizes[-1]))


def batches(x: np.ndarray, y: np.ndarray, size: int) -> list[Any]:
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def by_train(sizes: list[int], x: np.ndarray, y: np.ndarray, size: int, listed: bool = False) -> Callable[[int], Any]:
    model = network(sizes)
    opt = fx.setup(fx.Adam(RATE), model)
    loader = batches(x, y, size) if listed else fx.DataLoader((x, y), batch_size=size, shuffle=True, seed=0)

    def run(epochs: int) -> float:
        for _ in range(epochs):
            losses = fx.train(cross, model, loader, opt)
        return float(losses[-1])

    return run


def by_fit(sizes: list[int], x: np.ndarray, y: np.ndarray, size: int, accuracy: bool) -> Callable[[int], Any]:
    model = network(sizes)
    opt = fx.setup(fx.Adam(RATE), model)
    loader = fx.DataLoader((x, y), batch_size=size, shuffle=True, seed=0)
    metrics = [fx.accuracy] if accuracy else []
    return lambda epochs: fx.fit(
        model, loader, loss=fx.logitcrossentropy, optimizer=opt, metrics=metrics, epochs=epochs, progress=False
    )


def by_jit(sizes: list[int], x: np.ndarray, y: np.ndarray, size: int, listed: bool = False) -> Callable[[int], Any]:
    rule = optax.adam(RATE)
    params = [(jnp.array(layer.weight), jnp.array(layer.bias)) for layer in network(sizes)]
    state = rule.init(params)
    rng = np.random.default_rng(0)
    cut = batches(x, y, size)

    def loss(params: Any, x: Any, y: Any) -> Any:
        for weight, bias in params[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        weight, bias = params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ weight + bias, y).mean()

    @jax.jit
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, state = rule.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    def run(epochs: int) -> float:
        nonlocal params, state
        for _ in range(epochs):
            losses = []
            order = rng.permutation(len(x))
            for i, batch in enumerate(cut):
                rows = order[i * size : (i + 1) * size]
                a, b = batch if listed else (x[rows], y[rows])
                params, state, value = step(params, state, a, b)
                losses.append(value)
            last = np.array(losses)[-1]
        return float(last)

    return run


def by_torch(sizes: list[int], x: np.ndarray, y: np.ndarray, size: int) -> Callable[[int], Any] | None:
    try:
        import torch
    except ImportError:
        return None
    layers: list[Any] = []
    for a, b in pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    inputs, labels = torch.tensor(x), torch.tensor(y).long()

    def run(epochs: int) -> float:
        for _ in range(epochs):
            losses = []
            for rows in torch.randperm(len(inputs)).split(size):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            last = torch.stack(losses)[-1]
        return float(last)

    return run


def workloads() -> dict[str, tuple[int, int, dict[str, Callable[[int], Any] | None]]]:
    """By name: epochs, steps per epoch, and the ways to run it."""
    found: dict[str, Any] = {}
    x, y = (np.asarray(part) for part in fx.datasets.iris())
    for size in (8, 15, 32):
        args = ([4, 10, 3], x.astype(np.float32), y, size)
        ways = {"jit": by_jit(*args), "jit, list": by_jit(*args, listed=True), "torch": by_torch(*args)}
        ours = {"train": by_train(*args), "fit": by_fit(*args, accuracy=False), "train, list": by_train(*args, True)}
        found[f"Iris 4-10-3 b{size}, 100 epochs"] = (100, -(-150 // size), ways | ours)
    args = ([784, 32, 10], *data(6400, 784, 10), 32)
    ways = {"jit": by_jit(*args), "jit, list": by_jit(*args, listed=True), "torch": by_torch(*args)}
    ours = {"train": by_train(*args), "fit": by_fit(*args, accuracy=True), "train, list": by_train(*args, True)}
    found["MLP 784-32-10 b32, fit with accuracy"] = (1, 200, ways | ours)
    args = ([784, 128, 10], *data(60000, 784, 10), 128)
    ways = {"jit": by_jit(*args), "jit, list": by_jit(*args, listed=True), "torch": by_torch(*args)}
    ours = {"train": by_train(*args), "fit": by_fit(*args, accuracy=False)}
    found["MLP 784-128-10 b128, 60000 images"] = (1, 469, ways | ours)
    return found


def main(rounds: int = 9) -> None:
    lines = [
        "# Overhead of the loop",
        "",
        f"`python benchmarks/loop_overhead.py {rounds}`: medians of {rounds} interleaved rounds in one process, after "
        f"two to warm up; in brackets the fastest. Default allocator. Python {platform.python_version()}, "
        f"jax {jax.__version__}, {jax.default_backend()}, {platform.machine()}.",
        "",
        "`ratio`: median to that of the best peer that shuffles (`jit`, `torch`); `list` is a loop over batches cut "
        "beforehand, compared with `jit, list`.",
        "",
        "| workload | way | µs per step | ratio |",
        "|---|---|---|---|",
    ]
    for name, (epochs, steps, ways) in workloads().items():
        present = {way: run for way, run in ways.items() if run is not None}
        for run in present.values():
            run(2)
            run(epochs)
        times: dict[str, list[float]] = {way: [] for way in present}
        for _ in range(rounds):
            for way, run in present.items():
                started = time.perf_counter()
                run(epochs)
                times[way].append((time.perf_counter() - started) / (epochs * steps) * 1e6)
        median = {way: statistics.median(values) for way, values in times.items()}
        best = min(median[way] for way in ("jit", "torch") if way in median)
        for way, value in median.items():
            ratio = value / (median["jit, list"] if way.endswith("list") else best)
            lines.append(f"| {name} | {way} | {value:.1f} ({min(times[way]):.1f}) | {ratio:.2f} |")
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
