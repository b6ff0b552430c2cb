"""What a process waits for before it trains: import, building LeNet with its optimizer, the first step on 128 images.

python benchmarks/start_time.py [runs]      writes benchmarks/start_time.md

Fresh processes in random order, files in the page cache. *Cold*: nothing was compiled before; *warm*: another process
compiled the same programs and left them in the cache folder.
"""

import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

PEERS = {
    "torch": {},
    "jax, by hand": {},
    "fluxion": {},
    "fluxion, FLUXION_NATIVE=off": {"FLUXION_NATIVE": "off"},
}


def with_fluxion(batch):
    start = perf_counter()
    import fluxion as fx

    imported = perf_counter()
    fx.seed(0)
    model = fx.Chain(
        fx.Conv((5, 5), 1, 20, fx.relu),
        fx.MaxPool((2, 2)),
        fx.Conv((5, 5), 20, 50, fx.relu),
        fx.MaxPool((2, 2)),
        fx.flatten,
        fx.Dense(800, 500, fx.relu),
        fx.Dense(500, 10),
    )
    opt = fx.setup(fx.Adam(), model)
    built = perf_counter()
    fx.train(lambda m, x, y: fx.logitcrossentropy(m(x), y), model, [batch], opt)
    return start, imported, built, perf_counter()


def with_torch(batch):
    start = perf_counter()
    import torch
    from torch import nn

    imported = perf_counter()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )
    opt = torch.optim.Adam(model.parameters(), fused=True)
    built = perf_counter()
    x, y = torch.from_numpy(batch[0].transpose(0, 3, 1, 2).copy()), torch.from_numpy(batch[1])
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    loss.item()
    return start, imported, built, perf_counter()


def with_jax(batch):
    start = perf_counter()
    import jax
    import jax.numpy as jnp

    imported = perf_counter()
    shapes = [(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)]
    glorot = jax.nn.initializers.glorot_uniform()
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = [(glorot(key, shape), jnp.zeros(shape[-1])) for key, shape in zip(keys, shapes, strict=True)]
    state = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)
    jax.block_until_ready((params, state))
    built = perf_counter()

    def loss(params, x, y):
        for w, b in params[:2]:
            x = jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
            x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(len(x), -1)
        (w1, b1), (w2, b2) = params[2:]
        logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()

    @jax.jit
    def step(params, state, t, x, y):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state[0], grads)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state[1], grads)

        def moved(p, m, v):
            return p - 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)

        return jax.tree.map(moved, params, mean, square), (mean, square), value

    float(step(params, state, 1.0, *batch)[2])
    return start, imported, built, perf_counter()


def child(peer):
    import numpy as np

    rng = np.random.default_rng(0)
    batch = rng.random((128, 28, 28, 1), np.float32), rng.integers(0, 10, 128)
    run = {"torch": with_torch, "jax": with_jax, "fluxion": with_fluxion}[peer.split(",")[0]]
    start, imported, built, stepped = run(batch)
    print(imported - start, built - imported, stepped - built)


def seconds(peer, folder):
    """Seconds of import, build and first step of a fresh process that keeps its programs in `folder`."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="", FLUXION_CACHE=folder, **PEERS[peer])
    if peer.startswith("jax"):
        environment |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    command = [sys.executable, __file__, "--one", peer]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


def main(runs: int = 5) -> None:
    times: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    seconds("torch", ""), seconds("fluxion", tempfile.mkdtemp())  # files into the page cache
    for _ in range(runs):
        for peer in random.sample(list(PEERS), len(PEERS)):
            with tempfile.TemporaryDirectory() as folder:
                for cache in ("",) if peer == "torch" else ("cold", "warm"):
                    times.setdefault((peer, cache), []).append(seconds(peer, folder))
    base = statistics.median(map(sum, times["torch", ""]))
    lines = [
        "# Start: import, build, first step",
        "",
        f"`python benchmarks/start_time.py`: LeNet (20-50, 5x5; 800-500-10) with Adam on 128 images, {runs} fresh "
        "processes each, in random order, files in the page cache; medians in seconds. "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores. Torch loads its compiler "
        "when the optimizer is made, which is the larger part of its build.",
        "",
        "| | cache | import | build | first step | all | interquartile range | ratio to torch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (peer, cache), values in sorted(times.items(), key=lambda item: (list(PEERS).index(item[0][0]), item[0][1])):
        parts = [statistics.median(column) for column in zip(*values, strict=True)]
        low, median, high = statistics.quantiles(map(sum, values), n=4)
        split = " | ".join(f"{part:.2f}" for part in parts)
        lines.append(f"| {peer} | {cache} | {split} | {median:.2f} | {low:.2f} to {high:.2f} | {median / base:.2f} |")
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        child(sys.argv[2])
    else:
        main(*map(int, sys.argv[1:]))
