"""The examples run, and reach what they promise."""

import importlib
import importlib.util
import os
import statistics
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fluxion as fx
from fluxion.data.pixels import write_pixels

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needs(folder):
    if not (Path(os.environ.get("FLUXION_DATA", "")) / folder).is_dir():
        pytest.skip(f"set FLUXION_DATA to the folder that holds {folder}/")


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
def test_tables_reach_their_accuracies_in_cross_validation():
    """What scikit-learn's MLPClassifier of as many units reaches is 0.817 and 0.994."""
    needs("titanic")
    needs("penguins")
    example = load("table_crossvalidation.py")
    assert 0.79 <= statistics.mean(example.titanic()) <= 0.85
    assert statistics.mean(example.penguins()) >= 0.98


def test_a_table_is_cross_validated(capsys):
    table = fx.read_table(fx.datasets.path("iris"))
    accuracies = load("table_crossvalidation.py").cross_validate(table, "species", folds=2, epochs=40)
    assert len(accuracies) == 2 and min(accuracies) > 0.8
    assert capsys.readouterr().out.splitlines()[-2].startswith("species: accuracy 0.")


@pytest.mark.slow
def test_mnist_reaches_its_accuracy():
    needs("mnist")
    assert load("mnist_mlp.py").main(progress=False) >= 0.975


@pytest.mark.slow
def test_a_convolutional_network_reaches_its_accuracy_on_mnist():
    needs("mnist")
    assert load("mnist_cnn.py").main(progress=False) >= 0.989


@pytest.mark.slow
def test_cifar_reaches_what_was_published():
    needs("cifar-10")
    example = load("cifar10.py")
    curve, classes = example.main()
    assert len(curve) == 10
    assert 0.47 <= curve[-1] <= 0.52
    assert abs(np.mean(classes) - np.mean(example.CLASSES)) < 0.03
    assert np.corrcoef(classes, example.CLASSES)[0, 1] > 0.7  # birds, cats and deer are the hard ones


@pytest.mark.slow
def test_crops_and_flips_help(tmp_path):
    needs("cifar-10")
    assert load("cifar_augmentation.py").main(seeds=1, picture=tmp_path / "a.png") > 0.01


@pytest.mark.slow
def test_a_folder_of_pngs_is_the_published_file(tmp_path):
    needs("fashion-mnist")
    published, folder = load("image_folder.py").main(folder=tmp_path)
    assert published == folder > 0.7


@pytest.mark.slow
def test_an_autoencoder_is_better_than_principal_components(tmp_path):
    needs("fashion-mnist")
    example = load("autoencoder.py")
    train, test = fx.datasets.fashion_mnist(), fx.datasets.fashion_mnist("test")
    error = example.main(picture=tmp_path / "a.png", progress=False)
    assert error < 0.9 * example.linear_error(train.images, test.images)


@pytest.mark.slow
def test_a_variational_autoencoder_reaches_its_bound(tmp_path):
    needs("fashion-mnist")
    assert load("vae.py").main(picture=tmp_path / "a.png", progress=False) > -242


@pytest.mark.slow
def test_an_lstm_reads_digits_row_by_row():
    needs("mnist")
    assert load("mnist_lstm.py").main(progress=False) >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_characters_are_learned(name, capsys):
    needs("tinyshakespeare")
    assert load("characters.py").main(name, progress=False) < 2.0
    assert "ROMEO:" in capsys.readouterr().out


def pictures(kind, n, seed=0):
    """A data set like `kind` of n small pictures: a stripe per class, and noise."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % 10
    images = generator.uniform(0, 0.2, (n, 32, 32, 3) if kind is fx.datasets.CIFAR10 else (n, 28, 28, 1))
    images[np.arange(n), 2 * labels + 4] = 1
    return kind(images.astype(np.float32), labels)


def is_png(file):
    return file.read_bytes().startswith(b"\x89PNG\r\n")


def size(model):
    return sum(array.size for array in fx.trainables(model))


def test_a_convolutional_network_learns_stripes(monkeypatch, capsys):
    example = load("mnist_cnn.py")
    model = example.network()
    assert size(model) == 1_199_882  # as Keras counts them
    monkeypatch.setattr(example, "network", lambda: model)
    counts = {"train": 100, "test": 10}
    monkeypatch.setattr(fx.datasets, "mnist", lambda split="train": pictures(fx.datasets.MNIST, counts[split]))
    assert 0 <= example.main(epochs=1, progress=False) <= 1
    assert capsys.readouterr().out.startswith("test accuracy ")


def test_stripes_from_csv_are_learned(tmp_path, capsys):
    files = [tmp_path / "train.csv", tmp_path / "test.csv"]
    for file, count in zip(files, (100, 10), strict=True):
        images, labels = pictures(fx.datasets.MNIST, count)
        write_pixels(file, np.uint8(images[..., 0] * 255), np.uint8(labels))
    assert 0 <= load("mnist_cnn.py").main(*files, epochs=1, progress=False) <= 1
    assert capsys.readouterr().out.startswith("test accuracy ")


@pytest.fixture
def three_dialects(monkeypatch):
    """The programs of `examples/three_dialects`, which import each other by name."""
    monkeypatch.syspath_prepend(EXAMPLES / "three_dialects")
    jax.config.update("jax_numpy_rank_promotion", "allow")  # as it is where the examples are run
    yield importlib.import_module
    jax.config.update("jax_numpy_rank_promotion", "raise")
    for file in (EXAMPLES / "three_dialects").glob("*.py"):
        sys.modules.pop(file.stem, None)


def is_one_curve(curves, epochs):
    for curve in curves.values():
        assert len(curve) == epochs
        np.testing.assert_allclose(curve, curves["flux"], rtol=0, atol=1e-5)
    assert curves["flux"][-1] < curves["flux"][0]


def test_iris_in_three_styles_is_one_curve(three_dialects, capsys):
    is_one_curve(three_dialects("compare").main("iris"), 100)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "test accuracy" in line]
    assert {line[0] for line in lines} == {"Flux", "Knet", "Keras"} and len({line[-1] for line in lines[1::2]}) == 1


@pytest.mark.parametrize(("name", "rows"), [("mnist_mlp", 640), ("cifar10", 2000)])
def test_networks_in_three_styles_are_one_curve(three_dialects, name, rows, monkeypatch):
    """On stripes, which stand for the real images."""
    data = three_dialects("data")
    images, labels = pictures(fx.datasets.CIFAR10 if name == "cifar10" else fx.datasets.MNIST, rows)
    images = images if name == "cifar10" else images.reshape(rows, 784)
    monkeypatch.setattr(data, name.removesuffix("_mlp"), lambda: ((images, labels), (images[:1000], labels[:1000])))
    is_one_curve(three_dialects("compare").main(name, epochs=2), 2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), [("mnist_mlp", "mnist"), ("mnist_fcn", "mnist"), ("cifar10", "cifar-10")])
def test_the_posts_experiments_in_three_styles_are_one_curve(three_dialects, name, folder, tmp_path, capsys):
    needs(folder)
    files = [tmp_path / "train.csv", tmp_path / "test.csv"] if name == "mnist_fcn" else []
    for file, split in zip(files, ("train", "test"), strict=False):
        write_pixels(file, *fx.datasets.mnist_bytes("mnist", split))
    epochs = {"mnist_mlp": 5, "mnist_fcn": 10, "cifar10": 10}[name]
    is_one_curve(three_dialects("compare").main(name, *files), epochs)
    found = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if "test accuracy" in line]
    assert min(found[1::2]) >= {"mnist_mlp": 0.975, "mnist_fcn": 0.978, "cifar10": 0.47}[name]


def test_the_cifar_example_prints_its_tables(capsys):
    example = load("cifar10.py")
    train, model = pictures(fx.datasets.CIFAR10, 20), example.network()
    assert size(model) == 39_558  # as published
    curve = example.learn(model, train, train, batch_size=10, epochs=10)
    classes = example.by_class(model, train)
    assert curve[-1] == pytest.approx(np.mean(classes))
    lines = capsys.readouterr().out.splitlines()
    assert lines[10].split() == ["10", f"{curve[-1]:.3f}", "0.508"]
    assert lines[-1].split() == ["mean", f"{np.mean(classes):.4f}", "0.4946"]  # as the post's own table has it


def test_augmentation_is_compared_with_none(monkeypatch, tmp_path, capsys):
    example = load("cifar_augmentation.py")
    monkeypatch.setattr(example, "network", lambda: fx.Chain(fx.flatten, fx.Dense(3072, 10)))
    monkeypatch.setattr(fx.datasets, "cifar10", lambda split="train": pictures(fx.datasets.CIFAR10, 60))
    gain = example.main(seeds=1, epochs=1, images=50, batch_size=25, picture=tmp_path / "a" / "b.png")
    assert is_png(tmp_path / "a" / "b.png")
    row = capsys.readouterr().out.splitlines()[2].split()
    assert row[0] == "0" and float(row[4]) - float(row[2]) == pytest.approx(float(row[5]), abs=2e-3)
    assert float(row[5]) == pytest.approx(gain, abs=1e-3)


def test_a_folder_of_pngs_trains_like_the_arrays_it_was_made_from(monkeypatch, tmp_path, capsys):
    example = load("image_folder.py")
    data = pictures(fx.datasets.FashionMNIST, 40)
    data = type(data)(np.rint(data.images * 255).astype(np.float32) / 255, data.labels)
    monkeypatch.setattr(fx.datasets, "fashion_mnist", lambda split="train": data)
    monkeypatch.setattr(example, "network", lambda: fx.Chain(fx.flatten, fx.Dense(784, 10)))
    published, folder = example.main(everything=True, epochs=1, folder=tmp_path)
    assert published == folder
    assert len(list(tmp_path.glob("*/t-shirt or top/*.png"))) == 8
    assert "pixels and labels are equal" in capsys.readouterr().out


def test_an_autoencoder_draws_its_picture(monkeypatch, tmp_path):
    example = load("autoencoder.py")
    data = pictures(fx.datasets.FashionMNIST, 60)
    monkeypatch.setattr(fx.datasets, "fashion_mnist", lambda split="train": data)
    assert 0 < example.main(epochs=1, picture=tmp_path / "a" / "b.png", progress=False) < 1
    assert is_png(tmp_path / "a" / "b.png")
    x = data.images.reshape(60, -1).astype(np.float64)
    lost = np.linalg.svd(x - x.mean(0, keepdims=True), compute_uv=False)[32:] ** 2  # of 784 principal components
    assert example.linear_error(data.images, data.images) == pytest.approx(lost.sum() / x.size, rel=1e-4)


def test_a_variational_autoencoder_runs_twice_the_same(monkeypatch, tmp_path):
    example = load("vae.py")
    data = pictures(fx.datasets.FashionMNIST, 100)
    monkeypatch.setattr(fx.datasets, "fashion_mnist", lambda split="train": data)
    files = [tmp_path / name for name in ("a.png", "b.png")]
    first, second = (example.main(epochs=2, picture=file, progress=False) for file in files)
    assert first == second
    assert is_png(files[0]) and files[0].read_bytes() == files[1].read_bytes()


def test_the_divergence_and_the_bound_are_torchs(x64):
    torch = pytest.importorskip("torch", reason="torch.distributions is the outside reference")
    from torch.distributions import Bernoulli, Normal, kl_divergence

    example = load("vae.py")
    mean, log_variance = np.random.default_rng(0).normal(size=(2, 5, 3))
    q = Normal(torch.tensor(mean), torch.tensor(np.exp(log_variance / 2)))
    divergence = kl_divergence(q, Normal(0.0, 1.0)).sum(1)
    np.testing.assert_allclose(example.divergence(mean, log_variance), divergence, rtol=1e-12)

    x = pictures(fx.datasets.MNIST, 5).images.round()
    logits = np.random.default_rng(1).normal(size=x.shape)
    bound = Bernoulli(logits=torch.tensor(logits)).log_prob(torch.tensor(x)).sum((1, 2, 3)) - divergence
    loss = example.negative_elbo(lambda x: (logits, mean, log_variance), x)
    np.testing.assert_allclose(loss, -bound.mean(), rtol=1e-6)


def test_characters_are_written_one_by_one_as_they_are_read_at_once():
    example = load("characters.py")
    tokens = np.random.default_rng(0).integers(0, 9, (1, 12), np.int32)
    for model in (example.GPT(9, width=8, depth=2), example.CharLSTM(9, width=8)):
        expected = model(tokens)
        first, memory = model.resume(tokens[:, :7], model.memory())
        rest, _ = model.resume(tokens[:, 7:], memory)
        np.testing.assert_allclose(np.concatenate([first, rest], 1), expected, atol=1e-5)
    characters = fx.Characters("abcdefghi")
    written = example.write(model, characters, "cab", 10)
    assert written[:3] == "cab" and len(written) == 10 and set(written) <= set(characters.alphabet)
