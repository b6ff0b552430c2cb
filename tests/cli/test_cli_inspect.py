"""`fluxion inspect`: what is printed, drawn and refused. What is found is tested in tests/data."""

import json

import numpy as np
import pytest
from PIL import Image
from small_tables import animals, write_csv

from fluxion.cli.output import cut, table


@pytest.fixture
def zoo(tmp_path):
    """A table with an identifier, missing cells and a column that gives the target away."""
    header, rows = animals(60)
    code = {"ant": 11, "bee": 22, "cat": 33}
    return write_csv(tmp_path / "zoo.csv", [*header, "code"], [[*row, code[row[-1]]] for row in rows])


def album(folder):
    draw = np.random.default_rng(0)
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(draw.integers(0, 256, (6, 6), np.uint8)).save(folder / name / f"{i}.png")
    (folder / "test/dog/copy.png").write_bytes((folder / "train/dog/0.png").read_bytes())
    (folder / "train/cat/5.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def test_a_table_is_shown_and_drawn(cli, zoo, tmp_path):
    result = cli("inspect", "zoo.csv", "--target", "kind", "--out", "zoo.png")
    assert result.exit_code == 0, result.output
    said = result.stdout
    assert "zoo.csv: 60 rows, 5 columns" in said and "\x1b" not in said
    words = " ".join(said.split())
    assert "column type missing different values alone" in words and "wings text 6 (10 %) 2 no (" in words
    assert "- id: counts the rows" in said
    assert "- code: predicts kind perfectly by itself: was it known beforehand?" in said
    assert "ant     20  33.3 %" in said and "Drawn in zoo.png" in said
    assert (tmp_path / "zoo.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_one_object_alone(cli, zoo):
    result = cli("inspect", "zoo.csv", "--target", "kind", "--json")
    found = json.loads(result.stdout)
    assert found["rows"] == 60 and found["classes"] == {"ant": 20, "bee": 20, "cat": 20}
    assert {"kind": "identifier", "where": "id", "text": "counts the rows"} in found["findings"]
    assert "To look at before training" in result.stderr


def test_the_target_may_be_left_out(cli, zoo):
    said = cli("inspect", "zoo.csv").stdout
    assert "No target: --target COLUMN shows its classes" in said and "predicts" not in said
    said = cli("inspect", "iris").stdout
    assert "The target is taken to be species" in said and "1 row repeats an earlier one" in said


def test_a_folder_of_images_is_shown_and_drawn(cli, tmp_path):
    album(tmp_path / "pets")
    result = cli("inspect", "pets", "--out", "pets.svg")
    assert result.exit_code == 0, result.output
    said = result.stdout
    words = " ".join(said.split())
    assert "train test images 11 13 size 6x6x1 6x6x1 classes 2 2" in words
    assert "- train: 1 image is damaged: cat/5.png: " in said
    assert "- test: 1 image is also in train: dog/copy.png is dog/0.png" in said
    assert (tmp_path / "pets.svg").read_text().startswith("<?xml")
    said = cli("inspect", "pets/train", "--test", "pets/test").stdout
    assert "dog/copy.png is dog/0.png" in said


def test_images_of_a_table(cli, tmp_path):
    draw = np.random.default_rng(0)
    names = ["label", *(f"pixel{i}" for i in range(64))]
    write_csv(tmp_path / "p.csv", names, [[i % 3, *draw.integers(0, 256, 64)] for i in range(30)])
    said = cli("inspect", "p.csv").stdout
    assert "65 columns read as images of 8x8x1, labels in label" in said and "Nothing suspicious was found." in said
    assert "30 rows, 65 columns" in cli("inspect", "p.csv", "--images", "no").stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["gone.csv"], 1, "gone.csv: expected a CSV, TSV or Parquet file"),
        (["empty"], 1, "empty: expected images, or a folder of them for each class, there are none."),
        (["zoo.csv", "--target", "knd"], 2, "zoo.csv has no column 'knd'. Did you mean 'kind'?"),
        (["zoo.csv", "--out", "a.pdf"], 2, "expected a file that ends in .png or .svg, got a.pdf."),
        (["zoo.csv", "--out", "no/a.png"], 2, "there is no folder no."),
        (["zoo.csv", "--test", "empty"], 1, "empty: expected subfolders"),
        (["empty", "--test", "zoo.csv"], 2, "expected a folder of images, like empty; zoo.csv is none."),
    ],
)
def test_errors(cli, zoo, tmp_path, args, code, message):
    (tmp_path / "empty").mkdir()
    result = cli("inspect", *args)
    assert result.exit_code == code, result.output
    assert message in result.stderr and result.stdout == ""


def test_texts_are_cut_to_the_width_of_a_terminal(capsys, monkeypatch):
    from fluxion.cli import output

    monkeypatch.setattr(output, "width", lambda: 60)
    table(["name", "n", "values"], [["short", "12", "x" * 90], ["y" * 40, "3", "z"]], texts=("name", "values"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, (line.rstrip() for line in lines))) <= 60 and all("…" in line for line in lines[1:2])
    assert cut("abcdef", 4) == "abc…"
