"""How long a training step of an LSTM, of a transformer block and of a small GPT takes, beside torch; and what
`predict`, `jit(model)` and `evaluate` add to a compiled call.

    python benchmarks/sequence_layers.py              # every row, each in processes of its own, to sequence_layers.md
    python benchmarks/sequence_layers.py lstm gpt     # some rows, printed only

A step is forward, backward and Adam. Ours is one `jax.jit` function of the model's arrays with optax's Adam, so that
the layers alone are measured; torch is eager with fused Adam. Ours and torch's run in processes of their own, in turns,
each with the C library's allocator as it comes ("default") and with blocks kept rather than returned ("tuned", see
`TUNED`). Shown are the minimum and the median of the wall clock per step in ms, and the median of the CPU time.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

TUNED = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_ARENA_MAX": "1",
}
STEPS = {
    "lstm": "LSTM 64 -> 128, 50 steps, batch 64",
    "lstm16": "LSTM 64 -> 128, 50 steps, batch 16",
    "gru": "GRU 64 -> 128, 50 steps, batch 64",
    "block": "transformer block, 128 wide, 4 heads, 64 tokens, batch 32",
    "gpt": "GPT of examples/characters.py, window 128, batch 8",
}
SECONDS, TURNS = 2.0, 1


def measured(step, seconds=SECONDS):
    """Wall and CPU times of the calls of `step` in some seconds, in ms."""
    for _ in range(3):
        step()
    wall, cpu = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(wall) < 3:
        t, u = time.perf_counter(), time.process_time()
        step()
        wall.append((time.perf_counter() - t) * 1e3)
        cpu.append((time.process_time() - u) * 1e3)
    return wall, cpu


def data(name):
    import numpy as np

    rng = np.random.default_rng(0)
    if name == "gpt":
        return rng.integers(0, 65, (8, 128)), rng.integers(0, 65, (8, 128))
    batch, *shape = {"block": (32, 64, 128), "lstm16": (16, 50, 64)}.get(name, (64, 50, 64))
    return rng.normal(size=(batch, *shape)).astype("f4"), rng.integers(0, 10, batch)


def our_step(name):
    import jax
    import jax.numpy as jnp
    import optax

    import fluxion as fx

    if name == "gpt":
        sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
        from characters import GPT

        model = GPT(65)
    elif name == "block":
        block = fx.TransformerBlock(128, num_heads=4)
        model = fx.Chain(block, lambda x: x.mean(1), fx.Dense(128, 10))
    else:
        layer = fx.GRU(64, 128) if name == "gru" else fx.LSTM(64, 128)
        model = fx.Chain(layer, lambda x: x[:, -1], fx.Dense(128, 10))
    parameters, structure = jax.tree.flatten(model)
    optimizer = optax.adam(1e-3)

    def loss(parameters, x, y):
        return fx.logitcrossentropy(jax.tree.unflatten(structure, parameters)(x), y)

    @jax.jit
    def step(parameters, state, x, y):
        value, gradient = jax.value_and_grad(loss)(parameters, x, y)
        update, state = optimizer.update(gradient, state)
        return optax.apply_updates(parameters, update), state, value

    x, y = map(jnp.asarray, data(name))
    held = [parameters, optimizer.init(parameters)]

    def run():
        *held[:], value = step(*held, x, y)
        float(value)

    return run


def torch_step(name):
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            if name in ("block", "gpt"):
                width, depth, out = (64, 4, 65) if name == "gpt" else (128, 1, 10)
                self.body = nn.ModuleList(
                    nn.TransformerEncoderLayer(
                        width,
                        4,
                        4 * width,
                        dropout=0.0,
                        activation=nn.GELU(approximate="tanh"),
                        batch_first=True,
                        norm_first=True,
                    )
                    for _ in range(depth)
                )
                self.head = nn.Linear(width, out)
            else:
                self.body = (nn.GRU if name == "gru" else nn.LSTM)(64, 128, batch_first=True)
                self.head = nn.Linear(128, 10)
            if name == "gpt":
                self.token, self.position, self.norm = nn.Embedding(65, 64), nn.Embedding(128, 64), nn.LayerNorm(64)
                self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(128))

        def forward(self, x):
            if name == "block":
                return self.head(self.body[0](x).mean(1))
            if name != "gpt":
                return self.head(self.body(x)[0][:, -1])
            x = self.token(x) + self.position.weight
            for block in self.body:
                x = block(x, src_mask=self.mask, is_causal=True)
            return self.head(self.norm(x))

    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    x, y = map(torch.tensor, data(name))

    def run():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x).flatten(0, -2), y.flatten())
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def inference():
    """Times of ways to call a model, as ratios to a call compiled by hand; all in one process, in turns."""
    import jax
    import numpy as np

    import fluxion as fx

    mlp = fx.Chain(fx.Dense(784, 128, fx.relu), fx.Dense(128, 10))
    lenet = fx.Chain(
        *(fx.Conv((5, 5), 1, 20, fx.relu), fx.MaxPool(2), fx.Conv((5, 5), 20, 50, fx.relu), fx.MaxPool(2)),
        *(fx.flatten, fx.Dense(800, 500, fx.relu), fx.Dense(500, 10)),
    )
    for name, model, shape in (("MLP 784-128-10", mlp, (784,)), ("LeNet", lenet, (28, 28, 1))):
        leaves, structure = jax.tree.flatten(model)
        raw, fast = jax.jit(lambda leaves, x, s=structure: jax.tree.unflatten(s, leaves)(x)), fx.jit(model)
        for count in (1, 256, 10000):
            x = np.random.default_rng(0).normal(size=(count, *shape)).astype("f4")
            y = np.zeros(count, int)
            ways = {
                "raw": lambda f=raw, leaves=leaves, x=x: [
                    np.asarray(f(leaves, x[i : i + 256])) for i in range(0, len(x), 256)
                ],
                "jit": lambda f=fast, x=x: [np.asarray(f(x[i : i + 256])) for i in range(0, len(x), 256)],
                "predict": lambda m=model, x=x: fx.predict(m, x),
                "evaluate": lambda m=model, x=x, y=y: fx.evaluate(
                    m, (x, y), loss=fx.logitcrossentropy, metrics=[fx.accuracy]
                ),
            }
            times = {way: [] for way in ways}
            for _ in range(5):
                for way, call in ways.items():
                    times[way] += measured(call, 0.2)[0]
            best = {way: min(t) for way, t in times.items()}
            row = " | ".join(f"{best[w]:.3f} ({best[w] / best['raw']:.2f})" for w in ("jit", "predict", "evaluate"))
            print(f"| {name} [{count}] | {best['raw']:.3f} | {row} |", flush=True)


def child(*arguments, tuned=False):
    environment = {**os.environ, "FLUXION_CACHE": "off", **(TUNED if tuned else {})}
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def row(name):
    """One line of the table for each allocator."""
    import numpy as np

    lines = []
    for allocator in ("default", "tuned"):
        times = {who: ([], []) for who in ("ours", "torch")}
        for _ in range(TURNS):
            for who, (wall, cpu) in times.items():
                a, b = child("--one", who, name, tuned=allocator == "tuned").splitlines()
                wall += map(float, a.split())
                cpu += map(float, b.split())
        said = {w: f"{min(t):.1f} / {np.median(t):.1f} / {np.median(c):.1f}" for w, (t, c) in times.items()}
        ratios = [f(times["ours"][i]) / f(times["torch"][i]) for f, i in ((min, 0), (np.median, 0), (np.median, 1))]
        ratio = " / ".join(f"{r:.2f}" for r in ratios)
        lines.append(f"| {STEPS[name]} | {allocator} | {said['ours']} | {said['torch']} | {ratio} |")
        print(lines[-1], flush=True)
    return lines


def main(*names):
    if names[:1] == ("--one",):
        _, who, name = names
        for times in measured((our_step if who == "ours" else torch_step)(name)):
            print(*(f"{t:.3f}" for t in times))
        return
    if names == ("--inference",):
        inference()
        return
    head = ["| step | allocator | ours, ms: min / median / CPU | torch | ratio |", "|---|---|---|---|---|"]
    table = head + [line for name in names or STEPS for line in row(name)]
    if names:
        return
    import jax
    import torch

    calls = child("--inference").splitlines()
    print(*calls, sep="\n")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((n.split(":")[1].strip() for n in lines if n.startswith("model name")), "unknown CPU")
    machine = f"{cpu}, {os.cpu_count()} cores; jax {jax.__version__}, torch {torch.__version__}; {time.strftime('%F')}."
    columns = ["| model [observations] | raw `jax.jit` | `fx.jit` | `predict` | `evaluate` |", "|---|---|---|---|---|"]
    words = __doc__.split("\n\n")
    text = [
        "# Sequence layers, and the cost of a call\n",
        "`python benchmarks/sequence_layers.py` writes this table.\n",
        words[-1].strip() + "\n",
        f"{machine} Ratios below 1: ours is faster. Load average at the end: {os.getloadavg()[0]:.1f}.\n",
        *table,
        "\n## A call in test mode: ms, minimum (ratio to raw); batches of 256\n",
        *columns,
        *calls,
        "",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(text))


if __name__ == "__main__":
    main(*sys.argv[1:])
