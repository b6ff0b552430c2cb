"""What a call costs beside its arithmetic: inference at batch 1 and 256, a training step, an epoch of few steps.

python benchmarks/call_overhead.py [rounds]      writes benchmarks/call_overhead.md

The networks and the peers' forms of them are those of the scoreboard (`fluxion/compare`). JAX and Fluxion are
interleaved in one process; torch, whose threads wait by spinning, has processes of its own, in turn with these.
`jax.jit` is Fluxion's own model as a pure function of a list of arrays: the same arithmetic, the floor.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fluxion.compare import parts as w

HERE = Path(__file__)
SECONDS = 0.05  # of a block of calls
PAUSE = 3e-5  # seconds between calls
NETWORKS = {
    "MLP 784-128-10": (w.mlp(784, 128, 10), (784,)),
    "LeNet": (w.lenet(), (28, 28, 1)),
    "LSTM 128, 50 steps": ((w.LSTM(128, 128), w.LastStep(), w.Dense(128, 10)), (50, 128)),
    "Transformer block 128, 64 tokens": ((w.Block(128, 4, causal=False), w.LastStep(), w.Dense(128, 10)), (64, 128)),
    "20 Dense layers of 64": (w.mlp(*[64] * 20, 10), (64,)),
}
BATCHES = (1, 256)
Ways = dict[str, Callable[[], Any]]


def workload(name: str, batch: int) -> w.Workload:
    network, shape = NETWORKS[name]
    return w.Workload(name, name, network, shape, batch, kind="infer")


def example(load: w.Workload) -> np.ndarray:
    return np.random.default_rng(0).random((load.batch, *load.shape), dtype=np.float32)


def ways_of_fluxion(load: w.Workload) -> Ways:
    import jax

    import fluxion as fx
    from fluxion.compare.adapters import with_fluxion

    session = with_fluxion.Session(load, load.weights(), "jit")
    x = example(load)
    on_device = jax.numpy.asarray(x)
    leaves, structure = jax.tree.flatten(session.model)
    pure = jax.jit(lambda leaves, x: jax.tree.unflatten(structure, leaves)(x))
    return {
        "jax.jit": lambda: pure(leaves, on_device).block_until_ready(),
        "fx.jit": lambda: session.compiled(on_device).block_until_ready(),
        "jax.jit, NumPy": lambda: np.asarray(pure(leaves, x)),
        "fx.predict": lambda: fx.predict(session.model, x),
    }


def ways_of_torch(load: w.Workload) -> Ways:
    from fluxion.compare.adapters import with_torch

    with_torch.threads(THREADS)
    found: Ways = {}
    for mode in ("eager", "channels_last"):
        if with_torch.supports(load, mode):
            session = with_torch.Session(load, load.weights(), mode)
            x = session.inputs(example(load))
            found[f"torch {mode}"] = lambda session=session, x=x: session.forward(x)
    return found


def steps_of_fluxion() -> dict[str, Ways]:
    """A training step of MLP 784-32-10, batch 32, and an epoch of Iris, 4 whole batches of 32."""
    import jax
    import optax

    import fluxion as fx

    def cross(model: Any, x: Any, y: Any) -> Any:
        return fx.logitcrossentropy(model(x), y)

    def raw(model: Any) -> Callable[[Any, Any], Any]:
        leaves, structure = jax.tree.flatten(model)
        rule = optax.adam(1e-3)
        state = rule.init(leaves)

        @jax.jit
        def step(leaves: Any, state: Any, x: Any, y: Any) -> Any:
            value, grads = jax.value_and_grad(lambda leaves: cross(jax.tree.unflatten(structure, leaves), x, y))(leaves)
            updates, state = rule.update(grads, state)
            return optax.apply_updates(leaves, updates), state, value

        def run(x: Any, y: Any) -> Any:
            nonlocal leaves, state
            leaves, state, value = step(leaves, state, x, y)
            return value

        return run

    rng = np.random.default_rng(0)
    x, y = rng.random((32, 784), dtype=np.float32), rng.integers(0, 10, 32)
    model = fx.Chain(fx.Dense(784, 32, fx.relu), fx.Dense(32, 10))
    opt, by_hand = fx.setup(fx.Adam(), model), raw(model)
    iris_x, iris_y = (np.asarray(part)[:128] for part in fx.datasets.iris())
    iris_x = iris_x.astype(np.float32)
    small = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
    small_opt, small_by_hand = fx.setup(fx.Adam(), small), raw(small)
    loader = fx.DataLoader((iris_x, iris_y), batch_size=32, shuffle=True, seed=0)

    def epoch() -> Any:
        order = rng.permutation(128)
        losses = [small_by_hand(iris_x[rows], iris_y[rows]) for rows in order.reshape(4, 32)]
        return np.array(losses)

    return {
        "step, MLP 784-32-10, batch 32": {
            "jax.jit": lambda: float(by_hand(x, y)),
            "fx.trainstep": lambda: fx.trainstep(cross, model, (x, y), opt),
        },
        "epoch, Iris, 4 steps of 32": {
            "jax.jit": epoch,
            "fx.train": lambda: fx.train(lambda m, x, y: cross(m, x, y), small, loader, small_opt),
        },
    }


def measure(ways: Ways) -> dict[str, float]:
    """Microseconds per call: the median of single calls, interleaved in blocks of a twentieth of a second.

    Between calls the program does something else for a moment, as programs do. Called without a pause, XLA's threads
    are still awake from the last call, and a call of a few microseconds takes half as long.
    """
    times: dict[str, list[float]] = {way: [] for way in ways}
    for block in range(6):
        for way, call in ways.items():
            if not block:
                call()  # compiled
            until = time.perf_counter() + SECONDS
            while time.perf_counter() < until:
                pause = time.perf_counter() + PAUSE
                while time.perf_counter() < pause:
                    pass
                started = time.perf_counter()
                call()
                if block:
                    times[way].append((time.perf_counter() - started) * 1e6)
    return {way: statistics.median(values) for way, values in times.items()}


def worker(framework: str) -> None:
    ways_of = {"fluxion": ways_of_fluxion, "torch": ways_of_torch}[framework]
    found = {
        f"{name}, batch {batch}": measure(ways_of(workload(name, batch))) for name in NETWORKS for batch in BATCHES
    }
    if framework == "fluxion":
        found |= {name: measure(ways) for name, ways in steps_of_fluxion().items()}
    print(json.dumps(found))


def main(rounds: int = 5) -> None:
    times: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for framework in ("fluxion", "torch"):
            command = [sys.executable, str(HERE), "--worker", framework]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for name, found in json.loads(output.splitlines()[-1]).items():
                for way, value in found.items():
                    times.setdefault(name, {}).setdefault(way, []).append(value)
    lines = [
        "# What a call costs",
        "",
        f"`python benchmarks/call_overhead.py {rounds}`: medians of {rounds} round(s), microseconds per call, result "
        f"included. {THREADS} threads, default allocator, Python {platform.python_version()}, {platform.machine()}.",
        "",
        "Between calls the program does something else for 30 µs: called without a pause, XLA's threads are still "
        "awake from the last call, and a call that computes a few microseconds takes half as long.",
        "",
        "`over` is what Fluxion takes beside the same program called by hand (`jax.jit` before `fx.jit`, the same with "
        "NumPy in and out before `fx.predict`), `ratio` the time to that of the best mode of torch.",
        "",
        "| | way | µs | over | ratio |",
        "|---|---|---|---|---|",
    ]
    for name, found in times.items():
        median = {way: statistics.median(values) for way, values in found.items()}
        torch = min((value for way, value in median.items() if way.startswith("torch")), default=None)
        for way, value in median.items():
            floor = "jax.jit, NumPy" if way == "fx.predict" else "jax.jit"
            over = f"{value - median[floor]:.0f}" if way.startswith("fx.") else ""
            ratio = "" if torch is None or way.startswith("torch") else f"{value / torch:.2f}"
            lines.append(f"| {name} | {way} | {value:.1f} | {over} | {ratio} |")
    text = "\n".join(lines) + "\n"
    HERE.with_suffix(".md").write_text(text)
    print(text)


THREADS = 2

if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main(*map(int, sys.argv[1:]))
