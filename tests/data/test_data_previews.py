"""Previews: the right images with the right words, nothing consumed, and a sentence for what is no picture."""

import numpy as np
import pytest
from PIL import Image

import fluxion as fx

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((20, 6, 4, 3)).astype(np.float32)
LABELS = np.arange(20, dtype=np.int32) % 3
NAMES = ("cat", "dog", "fox")


def words(figure):
    """The lines below the images, and the note at the bottom."""
    *lines, note = (text.get_text() for text in figure.texts)
    return lines, note


def shown(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def test_a_batch_is_drawn_with_its_labels(tmp_path):
    file = tmp_path / "a.png"
    figure = fx.preview((IMAGES, LABELS), file, classes=NAMES)
    lines, note = words(figure)
    assert lines == [NAMES[i] for i in LABELS]
    assert note.startswith("float32 (20, 6, 4, 3), values 0.00")
    np.testing.assert_array_equal(shown(figure), IMAGES)
    with Image.open(file) as picture:
        assert picture.format == "PNG" and picture.width == round(200 * figure.get_figwidth())
    again = fx.preview((IMAGES, LABELS), tmp_path / "b.png", classes=NAMES)
    assert file.read_bytes() == (tmp_path / "b.png").read_bytes()
    assert again._repr_png_().startswith(b"\x89PNG")


def test_a_data_set_is_drawn_all_over():
    data = fx.datasets.CIFAR10(IMAGES, np.sort(LABELS))
    figure = fx.preview(data, count=3)
    assert words(figure)[0] == ["airplane", "automobile", "bird"]
    assert words(figure)[1].endswith("3 of 20 images")
    part, _ = fx.splitobs(data, 10)
    assert words(fx.preview(part, count=1))[0] == ["airplane"]


def test_a_folder_has_the_names_of_its_classes(tmp_path):
    for i, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 4), 100 * i, np.uint8)).save(tmp_path / name / "a.png")
    folder = fx.ImageFolder(tmp_path)
    for data in (folder, fx.read_images(tmp_path), fx.DataLoader(folder, batch_size=2), fx.splitobs(folder, 2)[0]):
        lines, _ = words(fx.preview(data, count=2))
        assert lines in (["cat", "dog"], ["cat", "fox"])


def test_a_loader_stays_where_it_is():
    loader = fx.DataLoader((IMAGES, LABELS), batch_size=6, shuffle=True, seed=0)
    next(iter(loader))
    figure = fx.preview(loader, count=9)
    assert loader.epoch == 1
    first, second, *_ = loader.batches(1)
    np.testing.assert_array_equal(shown(figure), np.concatenate([first[0], second[0]])[:9])
    assert words(figure)[0] == [str(i) for i in np.concatenate([first[1], second[1]])[:9]]
    np.testing.assert_array_equal(shown(fx.preview(list(loader.batches(1)), count=9)), shown(figure))


def test_labels_of_every_kind():
    mixed = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.02, 0.0, 0.98], [0.4, 0.35, 0.25]], np.float32)
    lines, _ = words(fx.preview((IMAGES[:4], mixed), classes=NAMES))
    assert lines == ["cat 0.70", "dog 0.30", "dog", "fox", "cat 0.40", "dog 0.35", "fox 0.25"]
    assert words(fx.preview((IMAGES[:2], np.eye(3, dtype=np.int32)[:2]), classes=NAMES))[0] == ["cat", "dog"]
    assert words(fx.preview((IMAGES[:2], np.array([0.5, 12.25]))))[0] == ["0.5", "12.2"]
    assert words(fx.preview({"name": ["a$b", "long" * 9], "image": IMAGES[:2]}))[0] == ["a$b", "longlonglonglongl…"]
    assert words(fx.preview((IMAGES[:1], np.array([7])), classes=NAMES))[0] == ["7"]
    assert words(fx.preview(IMAGES))[0] == []


def test_values_are_brought_between_black_and_white():
    z = fx.normalize_channels(IMAGES, 0.5, 0.25)
    figure = fx.preview(z)
    low, high = z.min(), z.max()
    np.testing.assert_allclose(shown(figure), (z - low) / (high - low), atol=1e-6)
    assert f"; shown with {low:.3g} as black, {high:.3g} as white" in words(figure)[1]
    whole = (IMAGES * 255).astype(np.uint8)
    np.testing.assert_allclose(shown(fx.preview(whole)), whole / 255, atol=1e-6)
    broken = IMAGES.copy()
    broken[0, 0, 0] = np.nan
    assert words(fx.preview(broken))[1].endswith("3 values are not finite")
    for channels in (1, 4):
        assert len(fx.preview(np.ones((2, 3, 9, channels), np.float16)).axes) == 2


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ((np.ones((5, 3)), np.ones(5)), fx.ShapeError, r"expected images .* got float64\(5, 3\), float64\(5,\)"),
        (np.ones((5, 20, 3)), fx.ShapeError, "Tables and series are no pictures"),
        (np.ones((5, 4, 4, 2)), fx.ShapeError, "with 1, 3 or 4 channels"),
        (fx.datasets.iris(), fx.ShapeError, "expected images"),
        (fx.DataLoader(fx.datasets.iris(), batch_size=5), fx.ShapeError, "expected images"),
        (iter([IMAGES]), fx.DTypeError, "expected data that can be read again, got a list_iterator"),
        (3, fx.DTypeError, "expected a DataLoader, a batch or a data set, got a int"),
        (IMAGES[:0], fx.DataError, "expected at least one image"),
        ([], fx.DataError, "expected at least one"),
    ],
)
def test_what_is_no_picture_is_refused(data, error, match):
    with pytest.raises(error, match=match):
        fx.preview(data)


def test_arguments_are_checked(tmp_path):
    with pytest.raises(fx.ArgumentError, match=r"expected a path that ends in \.png or \.svg"):
        fx.preview(IMAGES, tmp_path / "a.jpg")
    with pytest.raises(fx.ArgumentError, match="count"):
        fx.preview(IMAGES, count=0)
