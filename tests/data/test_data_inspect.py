"""What `inspect_table` and `inspect_images` find, beside the same numbers found by hand."""

import json
from collections import Counter
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from PIL import Image

import fluxion as fx
from fluxion.data.inspect import inspect_table
from fluxion.data.inspectimages import ImageArrays, image_files, inspect_images


def kinds(found):
    return {(finding.kind, finding.where) for finding in found.findings}


def text_of(found, kind):
    return next(finding.text for finding in found.findings if finding.kind == kind)


@pytest.fixture
def table():
    """300 rows of two classes in which nothing is wrong."""
    draw = np.random.default_rng(0)
    y = np.arange(300) % 2
    return pl.DataFrame(
        {
            "size": draw.normal(y, 1.0),
            "town": draw.choice(["A", "B", "C"], 300),
            "y": np.array(["no", "yes"])[y],
        }
    )


def test_an_innocent_table_is_left_alone(table):
    found = inspect_table(table, "y")
    assert found.findings == () and found.classes == {"no": 150, "yes": 150} and found.task == "classification"
    json.dumps(found.to_json())


def test_columns_are_counted_as_numpy_counts_them():
    values = [3.5, None, -1.0, 8.25, 3.5]
    frame = pl.DataFrame({"x": values, "w": ["b", "a", "b", None, "b"], "n": [1, 2, 2, 2, 3]})
    x, w, n = inspect_table(frame).columns
    known = np.array([value for value in values if value is not None])
    assert (x.type, x.missing, x.different) == ("number", 1, 3)
    assert (x.low, x.median, x.high) == (known.min(), np.median(known), known.max())
    assert (x.mean, x.std) == (pytest.approx(known.mean()), pytest.approx(known.std()))
    assert (w.type, w.missing, w.different, w.top) == ("text", 1, 2, (("b", 3), ("a", 1)))
    assert n.type == "whole" and n.top[0] == ("2", 3)


def left_out_share(values, labels):
    """The same as `alone` for categories, row by row."""
    right = 0
    for i, value in enumerate(values):
        others = Counter(labels[j] for j in range(len(values)) if j != i and values[j] == value)
        best = others.most_common(2)
        right += bool(best) and best[0][0] == labels[i] and (len(best) == 1 or best[1][1] < best[0][1])
    base = Counter(labels).most_common(1)[0][1] / len(labels)
    return max(0.0, (right / len(values) - base) / (1 - base))


def test_what_a_column_tells_alone_is_what_it_tells_of_rows_left_out():
    draw = np.random.default_rng(3)
    for classes in (2, 4):
        y = draw.integers(0, classes, 200)
        words = [f"w{(label if draw.random() < 0.7 else draw.integers(0, 6))}" for label in y]
        names = [f"c{label}" for label in y]
        found = inspect_table(pl.DataFrame({"word": words, "y": names}), "y")
        assert found.columns[0].alone == pytest.approx(left_out_share(words, names))


def test_a_column_that_gives_the_target_away_is_found(table):
    y = table["y"]
    draw = np.random.default_rng(1)
    positive = (y == "yes").to_numpy()
    leaks = {
        "copy": y,
        "coded": positive.astype(float) * 3 - 1,
        "threshold": np.where(positive, draw.uniform(5, 9, 300), draw.uniform(0, 4.9, 300)),
        "absent": pl.Series([None if p else f"boat {i % 7}" for i, p in enumerate(positive)]),
    }
    for name, column in leaks.items():
        found = inspect_table(table.with_columns(pl.Series(name, column)), "y")
        assert ("leak", name) in kinds(found), name
        assert len([f for f in found.findings if f.kind == "leak"]) == 1
    found = inspect_table(table.with_columns(noise=pl.Series(draw.permutation(300)).cast(pl.String)), "y")
    assert ("leak", "noise") not in kinds(found)  # another text in every row tells nothing of the others


def test_leaks_of_a_regression():
    draw = np.random.default_rng(2)
    y = draw.normal(size=400)
    frame = pl.DataFrame({"y": y, "scaled": 3 * y - 7, "ranks": np.exp(3 * y), "half": y + draw.normal(size=400)})
    found = inspect_table(frame, "y")
    assert {where for kind, where in kinds(found) if kind == "leak"} == {"scaled", "ranks"}
    half = next(column for column in found.columns if column.name == "half")
    assert half.alone == pytest.approx(np.corrcoef(y, frame["half"])[0, 1] ** 2, abs=0.1)


def test_suspicious_columns(table):
    count = table.height
    draw = np.random.default_rng(5)
    frame = table.with_columns(
        fixed=pl.lit("x"),
        empty=pl.lit(None, dtype=pl.Float64),
        id=pl.int_range(1, count + 1),
        ticket=pl.Series([f"T{i * 37}" for i in range(count)]),
        user_id=pl.Series(draw.choice(10**6, count, replace=False)),
        gaps=pl.Series([1.0 * i if i % 3 == 0 else None for i in range(count)]),
        almost=pl.Series([7] * (count - 1) + [8]),
        marked=pl.Series(np.where(np.arange(count) % 20 == 0, -999.0, draw.normal(40, 5, count))),
        size_again=table["size"],
        size_in_inches=table["size"] * 2.54,
        spelled=pl.Series([("Red", "red ", "blue")[i % 3] for i in range(count)]),
        numbers=pl.Series(["n/k" if i == 4 else str(i // 2 % 40) for i in range(count)]),
        far=pl.Series([np.inf if i == 9 else float(i % 50) for i in range(count)]),
    )
    assert kinds(inspect_table(frame, "y")) == {
        ("constant", "fixed"),
        ("empty", "empty"),
        ("identifier", "id"),
        ("identifier", "ticket"),
        ("identifier", "user_id"),
        ("mostly missing", "gaps"),
        ("nearly constant", "almost"),
        ("far value", "marked"),
        ("same column", "size_again"),
        ("same column", "size_in_inches"),
        ("spellings", "spelled"),
        ("numbers as text", "numbers"),
        ("infinite", "far"),
    } | ({("many categories", "numbers")} & kinds(inspect_table(frame, "y")))
    assert "-999 (15 times)" in text_of(inspect_table(frame, "y"), "far value")


def test_rows_that_are_there_twice(table):
    twice = pl.concat([table, table[:3]])
    found = inspect_table(twice.with_columns(id=pl.int_range(twice.height)), "y")
    assert "3 rows repeat an earlier one (id aside)" in text_of(found, "repeated rows")
    other = table[:2].with_columns(y=pl.Series(["yes", "no"]))
    assert "2 rows differ from another one in y alone" in text_of(
        inspect_table(pl.concat([table, other]), "y"), "contradicting rows"
    )


def test_classes_of_very_different_sizes():
    frame = pl.DataFrame({"x": np.arange(100.0) ** 1.5, "y": ["common"] * 97 + ["rare"] * 3})
    found = inspect_table(frame, "y")
    assert "common is 32 times as frequent as rare" in text_of(found, "imbalance")
    assert text_of(found, "rare class") == "fewer than 5 of rare"


def test_a_table_beside_its_test_table(table):
    test = table[:5].with_columns(town=pl.Series(["A", "Z", "A", "A", "A"]))
    found = inspect_table(table, "y", test=test.drop("y").with_columns(size=pl.col("size").cast(pl.String)))
    assert {("other type", "size"), ("new category", "town")} <= kinds(found)
    assert "2 rows" in text_of(inspect_table(table, "y", test=table[:2]), "in both")
    assert "not in the test table: size" in text_of(inspect_table(table, "y", test=table.drop("size")), "absent column")


def test_tables_of_every_type_and_hardly_any_rows():
    days = [date(2020, 1, 1) + timedelta(i) for i in range(2)]
    frame = pl.DataFrame({"d": days, "b": [True, None], "l": [[1], [2]], "n": [None, None], "y": [0.5, 1.5]})
    found = inspect_table(frame, "y")
    assert [column.type for column in found.columns] == ["date", "boolean", "list(int64)", "empty", "number"]
    assert found.columns[0].low == (days[0] - date(1970, 1, 1)).days
    with pytest.raises(fx.DataError, match="expected a column 'z'"):
        inspect_table(frame, "z")
    with pytest.raises(fx.DataError, match="all are missing"):
        inspect_table(frame, "n")


@pytest.fixture
def album(tmp_path):
    """Two classes of four gray images of 6x6, all different."""
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.fromarray(draw.integers(0, 256, (6, 6), np.uint8)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_images_are_counted_as_pillow_and_numpy_count_them(album):
    found = inspect_images(image_files(album))
    assert found.findings == ()
    (part,) = found.parts
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(album.rglob("*.png"))]) / 255
    assert (part.images, part.shapes, part.classes) == (10, {"6x6x1": 10}, {"cat": 5, "dog": 5})
    assert part.mean[0] == pytest.approx(pixels.mean(), rel=1e-6) and part.std[0] == pytest.approx(
        pixels.std(), rel=1e-6
    )
    assert (part.low, part.high) == (pytest.approx(pixels.min()), pytest.approx(pixels.max()))
    json.dumps(found.to_json())


def test_suspicious_files(album):
    whole = (album / "cat/0.png").read_bytes()
    (album / "cat/broken.png").write_bytes(whole[: len(whole) // 2])
    (album / "dog/text.png").write_text("no picture")
    (album / "dog/twin.png").write_bytes(whole)
    (album / "dog/zz.png").write_bytes((album / "dog/1.png").read_bytes())
    Image.fromarray(np.full((6, 6), 90, np.uint8)).save(album / "cat/flat.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)).save(album / "cat/color.png")
    (album / "empty").mkdir()
    found = inspect_images(image_files(album))
    assert "2 images are damaged: cat/broken.png: not a whole picture" in text_of(found, "damaged")
    assert text_of(found, "repeated") == (
        "2 images are the same as an earlier one: dog/twin.png is cat/0.png; dog/zz.png is dog/1.png"
    )
    assert text_of(found, "contradicting") == "1 image is the same as one of another class: dog/twin.png is cat/0.png"
    assert text_of(found, "flat") == "1 image is of nearly one color: cat/flat.png"
    assert "2 sizes from 6x6 to 9x7" in text_of(found, "sizes") and "13 gray, 1 color" in text_of(found, "kinds")
    assert text_of(found, "empty class") == "no images of empty"


def test_images_that_are_in_both_parts():
    images = np.random.default_rng(0).random((30, 4, 4, 3), np.float32)
    train = ImageArrays("train", images[:20], np.arange(20) % 2, ("a", "b"))
    test = ImageArrays("test", images[18:], np.arange(12) % 2, ("a", "b"))
    found = inspect_images(train, test)
    assert [part.images for part in found.parts] == [20, 12]
    assert text_of(found, "in both") == "2 images are also in train: image 0 is image 18; image 1 is image 19"
    with pytest.raises(fx.DataError, match="none: expected images, there are none"):
        inspect_images(ImageArrays("none", images[:0], np.zeros(0), ()))
