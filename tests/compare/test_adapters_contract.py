"""Every adapter keeps the contract of `fluxion/compare/adapters/__init__.py`; those whose framework is here are run."""

import ast
import re
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from fluxion.compare import environments, programs, reference, workloads
from fluxion.compare import parts as w
from fluxion.compare.adapters import julia_programs, with_flux_jl

ADAPTERS = environments.adapters()
DENSE = w.Workload("dense", "", w.mlp(6, 5, 3), (6,), batch=4, classes=3, examples=24, kind="compare")
IMAGES = w.Workload(
    "images", "",
    (w.Conv(3, 2, 4, "relu"), w.MaxPool(), w.Flatten((3, 3, 4)), w.Dense(36, 5, "tanh"), w.Dense(5, 3)),
    (8, 8, 2), batch=4, classes=3, optimizer=w.Momentum(0.05, 0.9), examples=24, kind="compare",
)  # fmt: skip
TEXT = w.Workload(
    "text", "", (w.Embedding(7, 4), w.LSTM(4, 5), w.Dense(5, 7)), (6,), batch=4, classes=7, optimizer=w.SGD(0.5),
    examples=24, kind="compare",
)  # fmt: skip
DROPPED = w.Workload(
    "dropped", "", (w.Dense(6, 50, "relu"), w.Dropout(0.5), w.Dense(50, 3)), (6,), batch=4, classes=3, examples=24,
    kind="compare",
)  # fmt: skip
TINY = (DENSE, IMAGES, TEXT, DROPPED)
ALL_PARTS = w.Workload(
    "every part", "",
    (
        w.Conv(3, 3, 8, same=True, bias=False), w.BatchNorm(8), w.Residual(8, 8), w.Residual(8, 16, 2), w.SpatialMean(),
        w.Dense(16, 10),
    ),
    (16, 16, 3), batch=4, kind="train",
)  # fmt: skip
GPT = w.Workload(
    "gpt", "", (w.Embedding(9, 8), w.Positions(6, 8), w.Block(8, 2, True), w.LayerNorm(8), w.Dense(8, 9)), (6,), 4, 9
)


def described():
    """Every workload of the command with its variants, and small ones with every part, kind and loss."""
    found = list(TINY)
    for comparison in map(workloads.find, workloads.names()):
        found += [comparison.fair, *(variant.workload for variant in comparison.variants)]
    found += [replace(DENSE, loss=loss, penalty=penalty) for loss in w.LOSSES for penalty in (0.0, 1e-4)]
    found += [replace(DENSE, optimizer=rule) for rule in (w.SGD(0.1), w.Adam(2e-4, 0.8, 0.99, 1e-7))]
    found += [replace(one, kind=kind) for one in (DENSE, IMAGES, TEXT, ALL_PARTS, GPT) for kind in ("train", "infer")]
    return found


@pytest.fixture(scope="module")
def rendered():
    """Every program that an adapter says it has: {(adapter, number, mode): text}."""
    return {
        (name, number, mode): adapter.program(workload, mode)
        for name, adapter in ADAPTERS.items()
        for number, workload in enumerate(described())
        for mode in adapter.MODES
        if adapter.supports(workload, mode) is True
    }


@pytest.mark.parametrize("name", ADAPTERS)
def test_declared(name):
    adapter = ADAPTERS[name]
    assert name == adapter.NAME
    assert adapter.TITLE
    assert adapter.__doc__
    assert adapter.NEEDS or adapter.PROGRAMS
    assert all(isinstance(text, str) for text in (*adapter.NEEDS, *adapter.PIP))
    assert all(title for title in adapter.MODES.values())
    for method in ("prepare", "losses", "train", "epochs", "evaluate", "inputs", "forward", "restart"):
        assert callable(getattr(adapter.Session, method)), method
    for workload in described():
        for mode in adapter.MODES:
            said = adapter.supports(workload, mode)
            assert said is True or (isinstance(said, str) and said), (workload, mode, said)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_importable_without_its_framework(name):
    """Nothing but the standard library, NumPy and its neighbors is imported at the top of the file."""
    adapter = ADAPTERS[name]
    tree = ast.parse(Path(adapter.__file__).read_text())
    allowed = {*sys.stdlib_module_names, "numpy", "__future__"}
    for node in tree.body:
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.partition(".")[0] in allowed


def test_each_adapter_does_the_simplest_workload(rendered):
    for name, adapter in ADAPTERS.items():
        assert any((name, 0, mode) in rendered for mode in adapter.MODES), name


def test_programs_are_as_a_user_would_write_them(rendered, tmp_path):
    """No unknown name, no unused import, formatted, short."""
    for (name, number, mode), text in rendered.items():
        assert 5 < programs.lines_of(text) < 150
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        if "jl" not in name:
            compile(text, name, "exec")
            (tmp_path / f"{name}-{number}-{mode.replace(' ', '-')}.py").write_text(text)
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--isolated", "--line-length", "120", "--quiet", str(tmp_path)]
    rules = "E,F,W,I,B,PIE,RET"
    checked = subprocess.run(
        [*ruff, "check", "--select", rules, "--ignore", "B905", *options], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout[:3000]
    formatted = subprocess.run([*ruff, "format", "--diff", *options], capture_output=True, text=True)
    assert formatted.returncode == 0, formatted.stdout[:3000]


def test_every_activation_is_in_the_program(rendered):
    """Where a framework cannot be run here, at least nothing is left out of its text."""
    cases = described()
    for (name, number, mode), text in rendered.items():
        wanted = [programs.activation(part) for part in cases[number].network]
        for activation in ("relu", "tanh"):
            written = len(re.findall(rf"\b(nn\.)?{activation}\b", text, re.IGNORECASE))
            least = wanted.count(activation)
            assert written >= (min(least, 1) if name == "sklearn" else least), (name, mode, cases[number].name)


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name.endswith("jl")])
def test_julia_closes_what_it_opens(rendered, name):
    """Brackets by their kind; `end` for each block. Inside brackets these words mean something else."""
    for (adapter, number, mode), text in rendered.items():
        if adapter == name:
            depth, blocks = [], 0
            code = re.sub(r'"[^"]*"|#.*', "", text + ADAPTERS[name].GLUE + julia_programs.SERVER)
            for token in re.findall(r"\w+|[()\[\]{}]", code):
                if token in "([{":
                    depth.append(token)
                elif token in ")]}":
                    assert depth.pop() + token in ("()", "[]", "{}"), (number, mode)
                elif not depth and token in ("function", "for", "while", "if", "struct", "do"):
                    blocks += 1
                elif not depth and token == "end":
                    blocks -= 1
                    assert blocks >= 0, (number, mode)
            assert not depth
            assert blocks == 0, (number, mode)


# ------------------------------------------------------------------------------------------------- real runs


def data(workload):
    random = np.random.default_rng(2)
    count = 48
    if programs.is_text(workload):
        x = random.integers(0, workload.classes, (count, *workload.shape)).astype(np.int32)
        return x, np.roll(x, -1, 1)
    x = random.normal(size=(count, *workload.shape)).astype(np.float32)
    return x, random.integers(0, workload.classes, count).astype(np.int32)


def runs():
    """Those that the tests' interpreter has: the default mode on everything, the others on one workload."""
    for name, adapter in ADAPTERS.items():
        if name in ("jax", "torch") or name.startswith("fluxion"):
            for number, mode in enumerate(adapter.MODES):
                able = [one for one in TINY if adapter.supports(one, mode) is True and mode != "compile"]
                yield from ((name, mode, workload) for workload in able[: 1 if number else None])


RUNS = list(runs())


@pytest.mark.parametrize(("name", "mode", "workload"), RUNS, ids=[f"{n}-{m}-{t.name}" for n, m, t in RUNS])
def test_the_same_work_as_by_hand(name, mode, workload):
    x, y = data(workload)
    with jax.numpy_rank_promotion("allow"):  # a program of plain JAX adds a bias as its documentation does
        session = ADAPTERS[name].Session(workload, workload.weights(3), mode)
        batches = w.batches(x, y, workload.batch, 15)
        if workload is DROPPED:
            losses = np.concatenate([session.losses(session.prepare(batches)) for _ in range(3)])
            assert np.isfinite(losses).all()
            assert losses.std() > 1e-3
        else:
            expected = reference.losses(workload, workload.weights(3), batches)
            np.testing.assert_allclose(session.losses(session.prepare(batches)), expected, rtol=3e-5)
        outputs = np.asarray(session.forward(session.inputs(x)), np.float64)
        logs = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
        chosen = np.take_along_axis(logs, y[..., None], -1)
        loss, accuracy = session.evaluate(x, y)  # nothing is dropped
        np.testing.assert_allclose([loss, accuracy], [-chosen.mean(), (outputs.argmax(-1) == y).mean()], rtol=1e-4)
        session.train(session.prepare(batches[:3]))
        session.epochs(x[:24], y[:24], 2)
        assert session.evaluate(x, y)[0] != loss


@pytest.mark.parametrize("loss", list(w.LOSSES)[1:])
@pytest.mark.parametrize("name", ["fluxion", "fluxion-keras", "fluxion-knet"])
def test_the_losses_of_posts(name, loss):
    """Fluxion refuses probabilities where logits belong; its programs still say what the posts computed."""
    workload, adapter = replace(DENSE, loss=loss), ADAPTERS[name]
    batches = w.batches(*data(workload), 4, 3)
    session = adapter.Session(workload, workload.weights(3), next(iter(adapter.MODES)))
    expected = reference.losses(workload, workload.weights(3), batches)
    np.testing.assert_allclose(session.losses(session.prepare(batches)), expected, rtol=3e-5)


@pytest.mark.parametrize("name", ["fluxion", "fluxion-keras", "fluxion-knet", "jax", "torch"])
def test_restart_forgets_the_state_of_the_optimizer(name):
    """The step after it is Adam's first one: each weight moves by the learning rate, whatever the gradient."""
    workload = replace(DENSE, optimizer=w.Adam(1e-3, epsilon=1e-12), network=w.mlp(6, 3))
    adapter = ADAPTERS[name]
    x, y = data(workload)
    with jax.numpy_rank_promotion("allow"):
        session = adapter.Session(workload, workload.weights(), next(iter(adapter.MODES)))
        session.losses(session.prepare(w.batches(x, y, 4, 5)))
        before = np.asarray(session.forward(session.inputs(np.eye(6, dtype=np.float32))))
        zeros = np.asarray(session.forward(session.inputs(np.zeros((1, 6), np.float32))))
        session.restart()
        session.losses(session.prepare(w.batches(x, y, 4, 6)[5:]))
        after = np.asarray(session.forward(session.inputs(np.eye(6, dtype=np.float32))))
        bias = np.asarray(session.forward(session.inputs(np.zeros((1, 6), np.float32))))
    moved = np.abs((after - bias) - (before - zeros))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-2)


# ------------------------------------------------------------------------------------------- Julia, told apart


@pytest.fixture
def julia(tmp_path, monkeypatch):
    """A `julia` that reads what the session writes, and answers sums of the arrays that it finds."""

    def install(body):
        text = f"""#!{sys.executable}
import sys, numpy as np
def arrays(path):
    with open(path, "rb") as file:
        while head := file.readline().split():
            sizes = [int(size) for size in head[1:]]
            kind = {{b"Float32": "f4", b"Int32": "i4"}}[head[0]]
            yield np.frombuffer(file.read(4 * int(np.prod(sizes))), kind).reshape(sizes, order="F")
{textwrap.dedent(body)}
"""
        file = tmp_path / "julia"
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return install


def test_julia_gets_the_arrays_in_its_order(julia):
    julia("""
        sums = []
        for line in sys.stdin:
            command, *given = line.split()
            if command == "prepare":
                x, y = arrays(given[0])
                assert x.shape == (8, 8, 2, 4) and y.shape == (4,), (x.shape, y.shape)
                sums.append((x[0, 1, 0, 2], x[1, 0, 0, 2]))  # width, height, channel, image
                print("ok", len(sums), flush=True)
            elif command == "losses":
                print("a warning\\nok", *sums[int(given[0]) - 1], flush=True)
            else:
                if command == "load":
                    conv, bias, *dense = arrays(given[0])
                    assert conv.shape == (3, 3, 2, 4) and dense[0].shape == (5, 36)
                print("ok", flush=True)
    """)
    x, y = data(IMAGES)
    session = with_flux_jl.Session(IMAGES, IMAGES.weights(), "zygote")
    found = session.losses(session.prepare([(x[:4], y[:4])]))
    np.testing.assert_allclose(found, [x[2, 1, 0, 0], x[2, 0, 1, 0]], rtol=1e-6)


def test_julia_that_fails_says_why(julia):
    julia('sys.exit("ERROR: Package Flux not found")')
    with pytest.raises(RuntimeError, match="Package Flux not found"):
        with_flux_jl.Session(DENSE, DENSE.weights(), "zygote")
    with pytest.raises(RuntimeError, match="julia has no Flux"):
        with_flux_jl.versions()
