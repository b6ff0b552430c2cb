"""The examples run, and reach what they promise."""

import importlib.util
import os
import statistics
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_iris_written_four_ways_is_one_experiment(capsys):
    names = ("flux_style", "explicit_gradients", "layer_subclass", "with_fit")
    curves = [load(f"iris/{name}.py").main(seed=0) for name in names]
    for curve in curves:
        assert len(curve) == 100
        np.testing.assert_allclose(curve, curves[0], atol=1e-5)
    assert curves[0][-1] < 0.5 < curves[0][0]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test accuracy")]
    assert len(set(lines)) == 1
    assert len(lines) == 4


def test_iris_over_seeds_prints_a_table(capsys):
    accuracies = load("iris/twenty_seeds.py").main(seeds=3)
    assert statistics.median(accuracies) >= 0.93
    assert capsys.readouterr().out.splitlines()[0] == "seed  test accuracy"


@pytest.mark.slow
def test_iris_over_twenty_seeds():
    assert statistics.median(load("iris/twenty_seeds.py").main()) >= 0.93


def test_a_closure_learns_a_cubic():
    assert load("closure.py").main() < 1e-3


@pytest.mark.slow
def test_mnist_reaches_its_accuracy():
    if not (Path(os.environ.get("FLUXION_DATA", "")) / "mnist").is_dir():
        pytest.skip("set FLUXION_DATA to the folder that holds mnist/")
    assert load("mnist_mlp.py").main(progress=False) >= 0.975
