"""What the figures show; how they look was judged by eye."""

import sys
import xml.etree.ElementTree

import matplotlib
import numpy as np
import pytest

import fluxion as fx
from fluxion.train.plots import plot_confusion, plot_history, plot_loss, plot_metric, plot_regression


@pytest.fixture
def history():
    return fx.History(
        {
            "epoch": i,
            "accuracy": 1 - 1 / i,
            "loss": 1 / i,
            "validation_loss": 2 / i,
            "learning_rate": 0.1,
            "seconds": 1.0,
            "samples_per_second": 100.0,
        }
        for i in range(1, 6)
    )


def test_history_has_a_panel_for_the_loss_and_each_metric(history):
    loss, accuracy = history.plot().axes
    assert (loss.get_ylabel(), loss.get_xlabel(), accuracy.get_ylabel()) == ("loss", "epoch", "accuracy")
    training, validation = loss.lines
    np.testing.assert_array_equal(training.get_xydata(), [[i, 1 / i] for i in range(1, 6)])
    np.testing.assert_array_equal(validation.get_xydata(), [[i, 2 / i] for i in range(1, 6)])
    assert training.get_linestyle() == "-" and validation.get_linestyle() == "--"
    assert training.get_color() == validation.get_color() != accuracy.lines[0].get_color()
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    assert accuracy.get_legend() is None


def test_names_choose(history):
    assert [axes.get_ylabel() for axes in history.plot(names=["learning_rate", "loss"]).axes] == [
        "learning rate",
        "loss",
    ]
    assert len(history.plot(names=["validation_loss"]).axes[0].lines) == 1
    assert len(plot_loss(history).axes[0].lines) == 2
    assert plot_metric(history, "accuracy").axes[0].get_ylabel() == "accuracy"
    only = fx.History([{"epoch": 1, "validation_auc": 0.5}])
    assert [axes.get_ylabel() for axes in only.plot().axes] == ["auc"]


def test_gaps_nan_and_scales():
    gaps = fx.History({"loss": 10.0**-i} | ({"validation_loss": 1.0} if i % 2 else {}) for i in range(4))
    gaps.append({"loss": float("nan")})
    axes = plot_loss(gaps).axes[0]
    assert axes.get_yscale() == "log"
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4]  # without "epoch", rows are counted
    assert axes.lines[1].get_xdata().tolist() == [2, 4]
    negative = fx.History([{"loss": -1.0}, {"loss": 1000.0}])
    assert plot_loss(negative).axes[0].get_yscale() == "linear"
    plot_loss(fx.History([{"loss": float("nan")}]))


@pytest.mark.parametrize("suffix", ["png", "svg", "PNG"])
def test_files(history, tmp_path, suffix):
    path = tmp_path / f"curves.{suffix}"
    history.plot(path)
    if suffix == "svg":
        assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
    else:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_plots_refuse(history, tmp_path):
    with pytest.raises(fx.ArgumentError, match=r"\.png or \.svg, got '.*curves.pdf'"):
        history.plot(tmp_path / "curves.pdf")
    with pytest.raises(fx.ArgumentError, match=r"got 'acuracy'\. Did you mean 'accuracy'"):
        history.plot(names=["acuracy"])
    with pytest.raises(fx.ArgumentError, match="at least one epoch"):
        fx.History().plot()
    with pytest.raises(fx.ArgumentError, match="a list of names"):
        history.plot(names="loss")
    with pytest.raises(fx.ArgumentError, match="something to draw"):
        fx.History([{"epoch": 1}]).plot()
    with pytest.raises(fx.ShapeError, match="2, got 3"):
        plot_confusion([[1, 0], [0, 1]], ["a", "b", "c"])
    with pytest.raises(fx.ShapeError, match=r"got \(2, 3\)"):
        plot_confusion(np.zeros((2, 3)), 2)
    with pytest.raises(fx.DataError, match="NaN"):
        plot_regression([np.nan], [1.0])
    assert list(tmp_path.iterdir()) == []


def test_nothing_global_is_touched(history):
    before, pyplot = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    figure = plot_history(history)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


@pytest.mark.parametrize("size", [2, 5, 20])
def test_confusion_keeps_everything_inside(size):
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 20, (size, size)) + np.diag(rng.integers(0, 20000, size))
    matrix[1] = 0  # a class without examples
    names = [f"class ${i}$ {'x' * i}" for i in range(size)]
    figure = plot_confusion(matrix, names)
    axes = figure.axes[0]
    assert [int(text.get_text().replace(",", "")) for text in axes.texts] == matrix.ravel().tolist()
    shares = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shares.sum(1), np.arange(size) != 1)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    for text in axes.texts:  # no count is wider than its cell
        assert text.get_window_extent(renderer).width < axes.get_window_extent(renderer).width / size
    inside = figure.get_tightbbox(renderer)
    width, height = figure.get_size_inches()
    assert inside.x0 >= 0 and inside.y0 >= 0 and inside.x1 <= width and inside.y1 <= height


@pytest.mark.parametrize("n", [1, 30, 4000])
def test_regression(n):
    target = np.linspace(-1, 1, n)
    figure = plot_regression(target + 0.1, target)
    axes = figure.axes[0]
    assert axes.get_xlim() == axes.get_ylim()
    assert ("R²" in axes.texts[0].get_text()) == (n > 1)
    assert "MAE = 0.1" in axes.texts[0].get_text()
    points = axes.collections[0]
    if n > 3000:
        assert points.get_array().sum() == n
    else:
        np.testing.assert_allclose(points.get_offsets(), np.stack([target, target + 0.1], 1))
    plot_regression(np.zeros((n, 2)), np.zeros((n, 2))).canvas.draw()
