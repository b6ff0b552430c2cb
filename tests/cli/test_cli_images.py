"""Training on images: folders, tables of pixels, data sets; then `evaluate` and `predict`, by hand from the weights."""

import json
import math

import numpy as np
import polars as pl
import pytest
from PIL import Image
from safetensors.numpy import load_file

import fluxion as fx
from fluxion.cli import models
from fluxion.cli.images import ImageEncoder
from fluxion.io.files import read_metadata

KINDS = ("bar", "hill")


def picture(kind, draw, side=8):
    """Noise with a bright column or a bright middle, bytes."""
    image = draw.integers(0, 90, (side, side))
    if kind == "bar":
        image[:, draw.integers(0, side)] += 150
    else:
        image[side // 4 : -side // 4, side // 4 : -side // 4] += 120
    return image.astype(np.uint8)


def make_folder(folder, count=12, seed=0, side=8):
    draw = np.random.default_rng(seed)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(picture(kind, draw, side)).save(folder / kind / f"{i:02}.png")
    return folder


def make_table(path, count=30, seed=0, header=True, label=True):
    draw = np.random.default_rng(seed)
    names = [*(["label"] if label else []), *(f"pixel{i}" for i in range(64))]
    rows = [[*([i % 2] if label else []), *picture(KINDS[i % 2], draw).ravel()] for i in range(count)]
    lines = [",".join(map(str, row)) for row in ([names] if header else []) + rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A folder with parts for training and testing, and a run of a linear model on it."""
    from conftest import run

    folder = tmp_path_factory.mktemp("album")
    make_folder(folder / "shapes/train", 20)
    make_folder(folder / "shapes/test", 5, seed=1)
    result = run("train", folder / "shapes", "--model", "linear", "--epochs", 20, "--out", folder / "run", "--json")
    assert result.exit_code == 0, result.output
    (folder / "said.txt").write_text(result.stderr)
    (folder / "result.json").write_text(result.stdout)
    return folder


def by_hand(run, images):
    """Probabilities of the linear model for images in [0, 1], in float64."""
    weights = load_file(run / "model.safetensors")
    encoder = read_metadata(run / "model.safetensors")["encoder"]
    x = ((images - np.array(encoder["mean"])) / np.array(encoder["std"])).reshape(len(images), -1)
    scores = x @ weights["layers[1].weight"].astype(float) + weights["layers[1].bias"]
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


def pixels(files):
    return np.stack([np.asarray(Image.open(file), float)[..., None] / 255 for file in files])


def test_a_folder_says_what_it_is_and_keeps_what_predicting_needs(album):
    said = (album / "said.txt").read_text()
    assert "40 images of 8x8x1" in said and "36 images for training, 4 for validation (every class in prop" in said
    assert "class: classification with 2 classes (bar 18, hill 18)" in said
    assert "test has 10 images for testing, which take no part in training" in said
    assert "40 steps, which are few" in said and "on the test part" in said
    run = album / "run"
    names = {"config.json", "metrics.csv", "model.safetensors", "loss.png", "accuracy.png", "confusion.png"}
    assert names <= {path.name for path in run.iterdir()} <= names | {"mistakes.png"}
    config = json.loads((run / "config.json").read_text())
    assert config["rows"] == {"training": 36, "validation": 4, "test": 10} and config["shape"] == [8, 8, 1]
    assert config["model"] == {"kind": "linear"} and config["classes"] == ["bar", "hill"]
    result = json.loads((album / "result.json").read_text())
    assert result["test"]["rows"] == 10 and result["parameters"] == 64 * 2 + 2


def test_mean_and_deviation_are_those_of_the_training_part(album):
    encoder = ImageEncoder.from_json(read_metadata(album / "run/model.safetensors")["encoder"])
    everything = pixels(sorted((album / "shapes/train").rglob("*.png")))
    assert encoder.shape == (8, 8, 1) and encoder.target.counts == (18, 18)
    # Of 36 of the 40 images; a tenth of them cannot move it further.
    assert encoder.mean[0] == pytest.approx(everything.mean(), abs=0.02) and encoder.mean[0] != everything.mean()
    assert encoder.std[0] == pytest.approx(everything.std(), abs=0.02)


def test_predictions_for_a_folder_a_file_and_a_table(cli, album, tmp_path):
    test = album / "shapes/test"
    result = cli("predict", album / "run", test, "--out", "p.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout == "10 predictions of class are in p.csv\n"
    written = pl.read_csv(tmp_path / "p.csv")
    assert written.columns == ["file", "class", "probability", "probability_bar", "probability_hill"]
    assert written["file"].to_list()[:2] == ["bar/00.png", "bar/01.png"]
    expected = by_hand(album / "run", pixels([test / file for file in written["file"]]))
    assert np.abs(written[:, 3:].to_numpy() - expected).max() < 1e-5
    assert written["class"].to_list() == [KINDS[i] for i in expected.argmax(1)]
    assert np.abs(written["probability"].to_numpy() - expected.max(1)).max() < 1e-5

    alone = pl.read_csv(cli("predict", album / "run", test / "hill/03.png", "--out", "-").stdout.encode())
    among = written.filter(pl.col("file") == "hill/03.png")
    assert alone.height == 1 and alone["class"].to_list() == among["class"].to_list()
    np.testing.assert_allclose(alone[:, 2:].to_numpy(), among[:, 2:].to_numpy(), rtol=1e-5)

    for header, label in ((True, False), (False, False), (True, True), (False, True)):
        table = make_table(tmp_path / "new.csv", 6, seed=3, header=header, label=label)
        result = cli("predict", album / "run", table, "--out", "-")
        rows = pl.read_csv(result.stdout.encode())
        draw = np.random.default_rng(3)
        images = np.stack([picture(KINDS[i % 2], draw) for i in range(6)])[..., None] / 255
        assert rows["row"].to_list() == list(range(6))
        assert np.abs(rows[:, 3:].to_numpy() - by_hand(album / "run", images)).max() < 1e-5


def test_evaluate_takes_the_test_part_and_agrees_with_the_predictions(cli, album):
    result = cli("evaluate", album / "run", album / "shapes", "--json")
    assert result.exit_code == 0 and "the images in" in result.stderr
    found = json.loads(result.stdout)
    likely = by_hand(album / "run", pixels(sorted((album / "shapes/test").rglob("*.png"))))
    truth = np.repeat([0, 1], 5)
    assert found["metrics"]["accuracy"] == pytest.approx((likely.argmax(1) == truth).mean())
    assert found["metrics"]["loss"] == pytest.approx(-np.log(likely[np.arange(10), truth]).mean(), rel=1e-4)
    assert found == {**found, "rows": 10, "target": "class"}
    again = json.loads((album / "result.json").read_text())["test"]
    assert again["metrics"]["loss"] == pytest.approx(found["metrics"]["loss"], rel=1e-6)


def test_a_table_of_pixels_trains_with_and_without_header(cli, tmp_path):
    runs = []
    for name, header in (("a", True), ("b", False)):
        make_table(tmp_path / f"{name}.csv", header=header)
        result = cli("train", f"{name}.csv", "--model", "linear", "--epochs", 2, "--out", name)
        assert result.exit_code == 0, result.output
        assert "65 columns read as images of 8x8x1, labels in" in result.stdout
        assert "30 images of 8x8x1" in result.stdout and "2 classes (0 12, 1 12)" in result.stdout
        runs.append(load_file(tmp_path / name / "model.safetensors")["layers[1].weight"])
    assert (runs[0] == runs[1]).all()
    result = cli("train", "a.csv", "--images", "4x4x3", "--model", "linear")
    assert result.exit_code == 1 and "pixels" in result.stderr
    result = cli("train", "a.csv", "--images", "no", "--target", "label", "--model", "linear", "--epochs", 1)
    assert result.exit_code == 0 and "30 rows, 65 columns" in result.stdout


def test_a_table_with_a_number_that_is_no_pixel_is_a_table(cli, tmp_path):
    table = make_table(tmp_path / "a.csv")
    table.write_text(table.read_text().replace("\n0,", "\n0,300,", 1).replace(",300,", ",300.5,", 1))
    lines = table.read_text().splitlines()
    lines[1] = ",".join(lines[1].split(",")[:65])
    table.write_text("\n".join(lines) + "\n")
    result = cli("train", "a.csv", "--target", "label", "--epochs", 1, "--model", "linear")
    assert result.exit_code == 0, result.output
    assert "Not read as images, but as a table" in result.stderr and "30 rows, 65 columns" in result.stdout


def test_a_data_set_brings_its_own_test_images(cli, monkeypatch):
    draw = np.random.default_rng(0)

    def small(split):
        count = 30 if split == "train" else 7
        images = np.stack([picture(KINDS[i % 2], draw) for i in range(count)])[..., None] / np.float32(255)
        return fx.datasets.MNIST(images.astype(np.float32), np.arange(count, dtype=np.int32) % 2)

    monkeypatch.setattr(fx.datasets, "mnist", small)
    result = cli("train", "mnist", "--model", "linear", "--epochs", 1, "--json", "--out", "r")
    assert result.exit_code == 0, result.output
    assert "mnist comes with 7 test images, which take no part in training" in result.stderr
    found = json.loads(result.stdout)
    assert [found[part]["rows"] for part in ("training", "validation", "test")] == [27, 3, 7]
    result = cli("evaluate", "r", "mnist", "--json")
    assert json.loads(result.stdout)["rows"] == 7 and "the test images of mnist" in result.stderr


def test_images_of_other_sizes_and_kinds_are_brought_to_one(cli, tmp_path):
    folder = make_folder(tmp_path / "f", 6)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "bar" / "big.jpg")
    options = ("--model", "linear", "--epochs", 1, "--validation", 0)
    result = cli("train", "f", *options)
    assert result.exit_code == 0, result.output
    assert "13 images of 64x64x3" in result.stdout
    assert "images of 2 sizes, 8x8 to 20x30, brought to 64x64; --size HxW for another" in result.stdout
    result = cli("train", "f", *options, "--size", "6x5", "--channels", 1)
    assert "13 images of 6x5x1" in result.stdout and "images brought to 6x5" in result.stdout


def test_augmentation_changes_the_training_alone(cli, tmp_path):
    make_folder(tmp_path / "f", 6)
    weights = []
    for augment in ((), ("--augment", "crop,flip"), ("--augment", "crop,flip")):
        out = tmp_path / f"r{len(weights)}"
        result = cli("train", "f", "--model", "linear", "--epochs", 2, "--out", out, *augment)
        assert result.exit_code == 0, result.output
        weights.append(load_file(out / "model.safetensors")["layers[1].weight"])
    assert "images changed by crop and flip" in result.stdout
    assert (weights[0] != weights[1]).any() and (weights[1] == weights[2]).all()
    assert json.loads((out / "config.json").read_text())["augment"] == ["crop", "flip"]


MODEL = """
import fluxion as fx

def make(inputs, outputs):
    height, width, channels = inputs
    return fx.Chain(fx.flatten, fx.Dense(height * width * channels, outputs))
"""


def test_a_function_of_ones_own_is_given_the_shape(cli, tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    make_folder(tmp_path / "f", 5)
    result = cli("train", "f", "--model", "model.py:make", "--epochs", 1, "--out", "r")
    assert result.exit_code == 0, result.output
    assert cli("evaluate", "r", "f").exit_code == 0


@pytest.mark.parametrize(
    ("kind", "shape", "parameters"),
    [
        ("linear", (28, 28, 1), 7850),
        ("mlp", (28, 28, 1), 784 * 64 + 64 + 64 * 32 + 32 + 330),
        ("fcn", (28, 28, 1), 535_818),  # the published Keras network
        ("lenet", (28, 28, 1), 44_426),
        ("lenet", (32, 32, 3), 62_006),
        ("cnn", (28, 28, 1), 320 + 18_496 + (49 * 64 * 128 + 128) + 1290),
        ("cnn", (32, 32, 3), 896 + 18_496 + 73_856 + (16 * 128 * 128 + 128) + 1290),
        ("cnn", (5, 4, 1), 320 + (2 * 2 * 32 * 128 + 128) + 1290),
        ("cnn", (1, 1, 3), 896 + (32 * 128 + 128) + 1290),
    ],
)
def test_models_have_the_layers_they_are_said_to_have(kind, shape, parameters):
    model = models.build_model(models.parse_model(kind, None), shape, 10)
    assert sum(array.size for array in fx.trainables(model)) == parameters
    assert fx.outputsize(model, (None, *shape)) == (None, 10)


def test_the_picture_of_mistakes_shows_the_images_themselves(tmp_path):
    from fluxion.cli import report, runs

    images = np.random.default_rng(0).random((6, 4, 4, 1), np.float32)
    encoder = ImageEncoder.fit(images, np.arange(6) % 2, "class", ("a", "b"))
    part = report.Part(encoder.encode(images), np.arange(6) % 2, np.arange(6) % 2)
    assert np.abs(encoder.decode(part.inputs) - images).max() < 1e-6
    found = report.Report(
        "class", ("a", "b"), {}, np.array([0, 0, 0, 1, 0, 1]), part.truth, np.eye(2), "images", np.arange(6.0)
    )
    runs.draw_mistakes(found, part, encoder, tmp_path / "m.png")
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["f", "--task", "regression"], 2, "images are told apart by class"),
        (["f", "--model", "lenet"], 2, "lenet takes images of at least 16x16, these are 8x8."),
        (["f", "--augment", "crop,flop"], 2, "got 'flop'. Did you mean 'flip'?"),
        (["f", "--size", "8"], 2, "expected a size such as 28x28, got '8'."),
        (["f", "--channels", "2"], 2, "expected 1 (gray) or 3 (color), got 2."),
        (["iris", "--model", "cnn"], 2, "cnn is for images, these data are a table."),
        (["iris", "--augment", "flip"], 2, "it is for images, iris is a table."),
        (["iris", "--size", "8x8"], 2, "it is for a folder of images, iris is none."),
        (["iris", "--validation", "f"], 2, "expected a table, like iris; f is not."),
        (["f", "--validation", "iris"], 2, "expected images, like f; iris is not."),
        (["one"], 1, "expected images of two or more classes, each in a subfolder, got only bar."),
        (["flat"], 1, "flat: expected subfolders, one for each class, and the images in them"),
        (["empty"], 1, "empty: expected subfolders, one for each class"),
        (["damaged"], 1, "bar/00.png: not a whole picture"),
        (["f", "--validation", "others"], 1, "others: expected images of the classes bar, hill, got some of 'barn'."),
        (["f", "--validation", "0.001"], 1, "f: splitobs: expected observations for every part"),
    ],
)
def test_errors_of_training(cli, tmp_path, args, code, message):
    make_folder(tmp_path / "f", 4)
    for name in ("one", "others", "damaged"):
        make_folder(tmp_path / name, 2)
    for file in (tmp_path / "one" / "hill").iterdir():
        file.unlink()
    (tmp_path / "one" / "hill").rmdir()
    (tmp_path / "others" / "bar").rename(tmp_path / "others" / "barn")
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "flat/a.png")
    whole = (tmp_path / "damaged/bar/00.png").read_bytes()
    (tmp_path / "damaged/bar/00.png").write_bytes(whole[:60])
    result = cli("train", *args)
    assert result.exit_code == code, result.output
    assert message in result.stderr and "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        ("predict", ["gone.png"], "gone.png: expected an image, there is none."),
        ("predict", ["empty"], "empty: expected images (.png"),
        ("predict", ["iris"], "iris: expected images, as in training, got a table."),
        ("predict", ["short.csv"], "expected rows of 64 pixels"),
        ("predict", ["{album}/shapes/test", "--keep", "a"], "--keep a: images have no columns to keep."),
        ("predict", ["{album}/shapes/test", "--out", "no/such.csv"], "no/such.csv"),
        ("evaluate", ["{album}/shapes/test/bar"], "expected subfolders, one for each class"),
        ("evaluate", ["unlabeled.csv"], "expected images with their classes"),
    ],
)
def test_errors_of_predicting(cli, album, tmp_path, command, args, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.csv").write_text("label,a1,a2\n1,2,3\n")
    make_table(tmp_path / "unlabeled.csv", 3, label=False)
    result = cli(command, album / "run", *(arg.format(album=album) for arg in args))
    assert result.exit_code == 1, result.output
    assert message in result.stderr and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_a_run_of_a_table_refuses_images(cli, album, shelf):
    result = cli("predict", shelf / "animals", album / "shapes/test")
    assert result.exit_code == 1 and "expected a table, as in training, got images." in result.stderr


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("version", 7),
        ("shape", [8, 8]),
        ("shape", [8, 0, 1]),
        ("mean", ["x"]),
        ("std", [0.0]),
        ("std", [math.nan]),
        ("classes", ["a", "a"]),
        ("counts", [1, -1.5]),
        ("target", None),
    ],
)
def test_an_encoder_from_elsewhere_is_checked(entry, value):
    images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    document = ImageEncoder.fit(images, np.arange(4) % 2, "class", ("a", "b")).to_json()
    assert ImageEncoder.from_json(json.loads(json.dumps(document))).to_json() == document
    with pytest.raises(fx.FileFormatError, match=f"ImageEncoder.from_json: .*{entry}"):
        ImageEncoder.from_json({**document, entry: value})


@pytest.mark.slow
def test_mnist_from_csv_reaches_what_the_post_reached(cli, tmp_path):
    """E-POLYDLOT: 784-512-.2-256-.2-10, batches of 128, 54000 to train on, 10 epochs; published 0.978 to 0.9805."""
    for split in ("train", "test"):
        images, labels = fx.datasets.mnist(split)
        rows = np.column_stack([labels, np.rint(images.reshape(len(labels), -1) * 255).astype(int)])
        np.savetxt(tmp_path / f"{split}.csv", rows, fmt="%d", delimiter=",")
    options = ("--model", "fcn", "--batch-size", 128, "--validation", 0.1, "--no-standardize", "--out", "r")
    assert cli("train", "train.csv", *options).exit_code == 0
    found = json.loads(cli("evaluate", "r", "test.csv", "--json").stdout)
    assert found["rows"] == 10_000 and found["metrics"]["accuracy"] >= 0.978
