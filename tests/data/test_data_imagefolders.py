"""Folders of images: what is read is what Pillow and the formulas say, what is wrong is refused by name."""

import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fluxion as fx
from fluxion.data.picturefiles import MAX_PIXELS, picture_shape, read_picture

RANDOM = np.random.default_rng(0)
COLORS = RANDOM.integers(0, 256, (5, 7, 4), dtype=np.uint8)


def save(path, picture=None, **options):
    """A picture at `path`, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = COLORS[..., 0] if picture is None else picture
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(path, **options)
    return path


def pillow(file, mode=None, size=None):
    """What Pillow alone makes of a file."""
    with Image.open(file) as picture:
        picture = picture.convert(mode) if mode else picture
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR) if size else picture
        return np.asarray(picture) / np.float32(255)


@pytest.fixture
def folder(tmp_path):
    """Two classes, of two pictures and one."""
    for i, name in enumerate(("cat/b.png", "cat/a.png", "dog/c.png")):
        save(tmp_path / name, COLORS[..., i])
    return tmp_path


# ------------------------------------------------------------------------------------------------- one file


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.bmp", {}), ("a.gif", {}), ("a.webp", {"lossless": True}), ("a.jpg", {}), ("a.JPEG", {})],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_file_is_read_as_pillow_does(tmp_path, name, options, channels):
    file = save(tmp_path / name, COLORS[..., 0] if channels == 1 else COLORS[..., :3], **options)
    image = read_picture(file, channels=channels)
    expected = pillow(file, "L" if channels == 1 else "RGB")
    np.testing.assert_array_equal(image, expected.reshape(5, 7, channels))
    assert image.dtype == np.float32
    if name not in ("a.jpg", "a.JPEG", "a.gif") and channels == 3:
        np.testing.assert_array_equal(image, COLORS[..., :3].astype(np.float32) / 255)


def test_channels_of_every_mode(tmp_path):
    rgba = Image.fromarray(COLORS, "RGBA")
    rgb = rgba.convert("RGB")
    palette = rgb.quantize(8)
    seen_through = palette.copy()
    seen_through.info["transparency"] = bytes([0, 128, 255])
    modes = {
        "L": (rgb.convert("L"), 1),
        "1": (rgb.convert("1"), 1),
        "LA": (rgba.convert("LA"), 4),
        "RGB": (rgb, 3),
        "RGBA": (rgba, 4),
        "P": (palette, 3),
        "P seen through": (seen_through, 4),
    }
    for name, (picture, own) in modes.items():
        file = save(tmp_path / f"{name}.png", picture)
        with Image.open(file) as again:
            full = again.convert("RGBA")
        expected = {3: full.convert("RGB"), 4: full, 1: full.convert("L")}
        assert picture_shape(file) == (5, 7, own), name
        assert read_picture(file).shape == (5, 7, own), name
        for channels, converted in expected.items():
            image = read_picture(file, channels=channels)
            np.testing.assert_array_equal(
                image[..., 0] if channels == 1 else image, np.asarray(converted) / np.float32(255)
            )
    cmyk = save(tmp_path / "cmyk.jpg", rgb.convert("CMYK"), quality=100)
    np.testing.assert_array_equal(read_picture(cmyk), pillow(cmyk, "RGB"))
    assert read_picture(cmyk, channels=1).shape == (5, 7, 1) and read_picture(cmyk, channels=4).min(-1).shape == (5, 7)


def test_sixteen_bits_of_gray_are_kept(tmp_path):
    deep = RANDOM.integers(0, 2**16, (6, 4), dtype=np.uint16)
    file = save(tmp_path / "a.png", deep)
    exact = (deep / 65535).astype(np.float32)[..., None]
    np.testing.assert_allclose(read_picture(file), exact, rtol=1e-6)
    np.testing.assert_allclose(read_picture(file, channels=3), np.repeat(exact, 3, -1), rtol=1e-6)
    assert (read_picture(file, channels=4)[..., 3] == 1).all()
    half = read_picture(file, size=(3, 2))
    small = np.asarray(Image.fromarray(exact[..., 0]).resize((2, 3), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(half[..., 0], small, rtol=1e-5)


def test_pictures_stand_as_the_camera_was_held(tmp_path):
    pixels = COLORS[..., :3]
    turned = {  # what undoes each orientation of the EXIF standard
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }
    for orientation, expected in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for name, options in (("a.png", {}), ("a.webp", {"lossless": True})):
            file = save(tmp_path / name, pixels, exif=exif, **options)
            np.testing.assert_array_equal(read_picture(file), expected / np.float32(255))
            assert picture_shape(file) == expected.shape


def test_resizing_is_pillows(tmp_path):
    file = save(tmp_path / "a.png", COLORS[..., :3])
    np.testing.assert_array_equal(read_picture(file, (3, 4)), pillow(file, size=(3, 4)))
    np.testing.assert_array_equal(read_picture(file, (5, 7)), read_picture(file))

    smooth = Image.fromarray(COLORS[..., :3]).resize((700, 500), Image.Resampling.BICUBIC)
    file = save(tmp_path / "b.jpg", smooth, quality=95)
    whole = pillow(file, size=(50, 70))
    assert np.abs(read_picture(file, (50, 70)) - whole).mean() < 0.01  # decoded at a quarter, then halved
    exif = Image.Exif()
    exif[0x0112] = 6
    file = save(tmp_path / "c.jpg", smooth, quality=95, exif=exif)
    assert np.abs(read_picture(file, (70, 50)) - np.rot90(whole, -1)).mean() < 0.02


def png_of(width, height):
    """A PNG whose header promises more than the file has."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(2**13 + 1, 2**13), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("default")
def test_bombs_are_refused_by_their_header(tmp_path, width, height):
    assert width * height > MAX_PIXELS
    file = tmp_path / "bomb.png"
    file.write_bytes(png_of(width, height))
    with pytest.raises(fx.FileFormatError, match=r"bomb\.png: "):
        read_picture(file)


def test_what_is_no_picture_is_refused(tmp_path):
    file = tmp_path / "a.png"
    file.write_text("no picture at all")
    with pytest.raises(
        fx.FileFormatError, match=r"a\.png: expected a picture, PNG, JPEG, BMP, GIF or WebP; it is none"
    ):
        read_picture(file)
    save(file, COLORS[..., :3], format="TIFF")  # a kind that is not read, whatever the name
    with pytest.raises(fx.FileFormatError, match="it is none"):
        read_picture(file)
    save(file, COLORS[..., :3], format="BMP")  # one that is
    assert read_picture(file).shape == (5, 7, 3)
    with pytest.raises(fx.DataError, match=r"gone\.png: expected a picture, there is no such file"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(fx.DataError, match="no such file"):
        read_picture(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.webp"])
def test_truncated_files_are_refused(tmp_path, name):
    picture = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    file = save(tmp_path / name, picture)
    data = file.read_bytes()
    for share in (0.02, 0.5, 0.9):
        file.write_bytes(data[: int(share * len(data))])
        with pytest.raises(fx.FileFormatError, match=f"{name}: "):
            read_picture(file)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_a_picture_or_an_error_about_the_file(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    kind = data.draw(st.sampled_from(["png", "jpg", "bmp", "gif", "webp"]))
    file = save(folder / f"a.{kind}", COLORS[..., :3])
    bytes_ = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes_[: data.draw(st.integers(0, len(bytes_)))] if data.draw(st.booleans()) else bytes_)
    for size in (None, (4, 4)):
        try:
            image = read_picture(file, size)
        except fx.FileFormatError as error:
            assert str(error).startswith(str(file))
        else:
            assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1


# ------------------------------------------------------------------------------------------------- folders


def test_a_folder_is_its_classes_and_files_in_order(folder):
    save(folder / "dog" / "young" / "b.PNG", COLORS[..., 3])
    data = fx.ImageFolder(folder)
    assert data.classes == ("cat", "dog")
    assert data.files == ("cat/a.png", "cat/b.png", "dog/c.png", "dog/young/b.PNG")
    assert data.labels.tolist() == [0, 0, 1, 1] and data.labels.dtype == np.int32
    assert len(data) == 4 and data.shape == (5, 7, 1) and data.skipped == 0
    for i, channel in enumerate((1, 0, 2, 3)):
        image, label = data[i]
        np.testing.assert_array_equal(image[..., 0], COLORS[..., channel] / np.float32(255))
        assert label == data.labels[i] and label.dtype == np.int32
    np.testing.assert_array_equal(data[-4][0], data[0][0])
    for index in (4, -5):
        with pytest.raises(IndexError):
            data[index]
    assert len(list(data)) == 4
    assert repr(data) == f"ImageFolder('{folder}')  # 4 images (5, 7, 1) in 2 classes"


def test_all_at_once_is_one_by_one(folder, monkeypatch):
    lazy, data = fx.ImageFolder(folder), fx.read_images(folder)
    images, labels = data
    np.testing.assert_array_equal(images, np.stack([image for image, _ in lazy]))
    assert images.dtype == np.float32 and labels.dtype == np.int32 and labels.tolist() == [0, 0, 1]
    assert data.classes == ("cat", "dog") and data._fields == ("images", "labels")
    monkeypatch.setattr(fx.data.imagefolders, "_SMALL", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    np.testing.assert_array_equal(fx.read_images(folder).images, images)  # by several threads
    np.testing.assert_array_equal(fx.read_images(folder, size=3).images, fx.read_images(folder, size=(3, 3)).images)
    (folder / "dog" / "c.png").write_bytes(b"")
    (folder / "cat" / "b.png").write_bytes(b"")
    with pytest.raises(fx.FileFormatError, match=r"b\.png"):
        fx.read_images(folder)


def test_classes_stay_with_parts_batches_and_copies(folder):
    data = fx.read_images(folder)
    first, rest = fx.splitobs(data, 1)
    batch = next(iter(fx.DataLoader(data, batch_size=2)))
    copy = pickle.loads(pickle.dumps(data))
    for part in (first, rest, batch, copy):
        assert part.classes == ("cat", "dog") and isinstance(part, fx.data.datasets.Images)
    assert type(fx.read_images(folder)) is type(data) is type(copy)  # so that a compiled step knows it again
    np.testing.assert_array_equal(copy.images, data.images)


def test_a_loader_reads_the_files_of_its_batches(folder):
    lazy = fx.ImageFolder(folder)
    images, labels = next(iter(fx.DataLoader(lazy, batch_size=3)))
    np.testing.assert_array_equal(images, fx.read_images(folder).images)
    assert images.dtype == np.float32 and labels.tolist() == [0, 0, 1] and labels.dtype == np.int32
    again = pickle.loads(pickle.dumps(lazy))
    np.testing.assert_array_equal(again[2][0], lazy[2][0])
    assert len(pickle.dumps(lazy)) < 1000  # names, not pictures


def test_what_is_no_image_is_left_out_and_counted(folder):
    for name in (".hidden.png", "cat/.b.png", ".git/x/a.png", "cat/Thumbs.db", "__MACOSX/a.png", "cat/desktop.ini"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    assert fx.ImageFolder(folder).skipped == 0
    for name in ("README.txt", "cat/labels.csv", "dog/notes.txt"):
        (folder / name).write_text("")
    os.mkfifo(folder / "dog" / "pipe.png")  # to open it would wait for a writer
    data = fx.ImageFolder(folder)
    assert len(data) == 3 and data.skipped == 4
    assert repr(data).endswith("3 images (5, 7, 1) in 2 classes, 4 other files skipped (.csv, .png, .txt)")


def test_pictures_of_different_sizes_and_channels_need_a_word(folder):
    save(folder / "dog" / "d.png", COLORS[:3, :, 0])
    for read in (fx.read_images, lambda *args, **options: list(fx.ImageFolder(*args, **options))):
        with pytest.raises(
            fx.ShapeError, match=r"\(5, 7, 1\) from cat/a.png and \(3, 7, 1\) from dog/d.png. Give size="
        ):
            read(folder)
    assert fx.read_images(folder, size=(4, 6)).images.shape == (4, 4, 6, 1)
    save(folder / "dog" / "d.png", COLORS[..., :3])
    with pytest.raises(fx.ShapeError, match=r"\(5, 7, 3\) from dog/d.png. Give channels="):
        fx.read_images(folder)
    assert fx.read_images(folder, channels=3).images.shape == (4, 5, 7, 3)
    assert fx.ImageFolder(folder, size=4, channels=1).shape == (4, 4, 1)
    assert "size=(4, 4), channels=1)" in repr(fx.ImageFolder(folder, size=4, channels=1))


def test_folders_that_are_none(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(fx.DataError, match=r"expected subfolders, one for each class.*got 0 subfolders and 0 images"):
        fx.ImageFolder(empty)
    with pytest.raises(fx.DataError, match=r"gone: expected a folder .*, there is none"):
        fx.read_images(empty / "gone")
    save(empty / "a.png")
    with pytest.raises(fx.DataError, match="got 0 subfolders and 1 images outside of them"):
        fx.ImageFolder(empty)
    (folder / "bird").mkdir()
    (folder / "bird" / "a.tif").write_text("")
    with pytest.raises(fx.DataError, match="bird: expected images of the class 'bird'"):
        fx.ImageFolder(folder)
    with pytest.raises(fx.ArgumentError, match="expected channels to be 1, 3 or 4, got 2"):
        fx.ImageFolder(folder, channels=2)
    for size in (0, (3, 4, 5), 2**20):
        with pytest.raises(fx.ArgumentError, match="size"):
            fx.ImageFolder(folder, size=size)
    with pytest.raises(fx.DTypeError, match="size"):
        fx.ImageFolder(folder, size=2.5)


def test_links_stay_inside_unless_they_are_allowed_out(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    save(outside / "x.png")
    (folder / "dog" / "same.png").symlink_to(folder / "cat" / "a.png")
    assert len(fx.ImageFolder(folder)) == 4  # it leads to where the others are
    link = folder / "dog" / "out.png"
    link.symlink_to(outside / "x.png")
    with pytest.raises(fx.DataError, match=r"out\.png: expected what is inside .* allow it by follow_links=True"):
        fx.ImageFolder(folder)
    allowed = fx.ImageFolder(folder, follow_links=True)
    assert len(allowed) == 5 and ", follow_links=True)" in repr(allowed)
    link.unlink()
    (folder / "fox").symlink_to(outside)
    with pytest.raises(fx.DataError, match="fox: expected what is inside"):
        fx.read_images(folder)
    assert fx.read_images(folder, follow_links=True).classes == ("cat", "dog", "fox")
    (folder / "fox").unlink()
    link.symlink_to(outside / "gone.png")
    with pytest.raises(fx.DataError, match="leads to nothing"):
        fx.ImageFolder(folder)
    link.unlink()
    (folder / "dog" / "again").symlink_to(folder)
    for follow in (False, True):
        with pytest.raises(fx.DataError, match="expected no circle, the link leads back"):
            fx.ImageFolder(folder, follow_links=follow)
    whole = tmp_path_factory.mktemp("elsewhere") / "link"
    (folder / "dog" / "again").unlink()
    whole.symlink_to(folder)
    assert len(fx.ImageFolder(whole)) == 4  # the folder itself may be a link
