"""The page of a comparison: whole HTML that asks for nothing, names everything, and escapes what it did not write."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import made_up
import pytest
from typer.testing import CliRunner

from fluxion.cli import app
from fluxion.compare import markdown, pictures, report
from fluxion.errors import FileFormatError

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Every tag that is opened is closed, in order; what is found on the way is kept."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.links, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [(name, key, attributes[key]) for key in ("href", "src") if key in attributes]
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.handle_starttag(name, attributes)
        if name not in VOID:
            self.open.pop()

    def handle_endtag(self, name):
        assert self.open.pop() == name, name

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def first_screen(text):
    return text[: text.index("What was measured")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report of a comparison in which all happened that can happen."""
    folder = tmp_path_factory.mktemp("report")
    document = made_up.results(wrong=("torch",), failing=("keras-tf",), absent=("flax",), modes={
        **made_up.MODES, "flax": ("Flax NNX", {"jit": 1e-3})
    })  # fmt: skip
    report.write_report(document, folder, {"iris": "JAX is faster <because>.\n\nAnd so on."})
    page = (folder / "report.html").read_text()
    return folder, page, Reader(page)


def page(document):
    return Reader(report.page(document, {}, {})).text


def test_page_is_whole_and_asks_for_nothing(written):
    _, page, read = written
    assert page.startswith("<!DOCTYPE html>") and read.tags[:2] == ["html", "head"]
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    assert all(key == "href" and link.startswith("#") for _, key, link in read.links)
    assert not re.search(r"url\((?!#)|@import|https?:", page)
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for _, _, link in read.links} <= set(read.ids)


def test_page_names_every_framework_verdict_and_version(written):
    *_, read = written
    for name in ("fluxion train", "fluxion fit", "jax jit", "torch eager", "torch compile", "keras-tf fit", "Flax NNX"):
        assert name in read.text
    for text in ("same work", "not the same work, no ratio given", "failed", "fluxion compare setup flax", "no flax",
                 "What was measured", "What it shows", "What it does not", "1.0 <rc>", "A & B <CPU>", "avx2",
                 "other: it cannot", "3 lines", "def train(batches)", "e948a5ab", "300 MB"):  # fmt: skip
        assert text in read.text, text


def test_first_screen_says_where_fluxion_is_slower(written):
    *_, read = written
    top = first_screen(read.text)
    assert re.search(r"Fluxion is slower than jax jit on iris \(1\.\d\d times as long\)", top)
    assert "slower than 1 of 1 other" in top  # torch did other work, keras-tf failed
    assert "JAX is faster <because>. And so on." in top.replace("  ", " ")
    assert "Not run here: Flax NNX" in top


def test_what_comes_from_outside_is_escaped(written):
    _, page, read = written
    assert "<script" not in page and "<because>" not in page and "<CPU>" not in page and "<rc>" not in page
    assert "\x1b" not in page and "boom <script>\ufffd[31m" in read.text
    assert "'<b>' if batches else \"&\"" in read.text.replace("' <b> '", "'<b>'")


def test_pictures_are_in_the_page_and_beside_it(written):
    folder, page, read = written
    names = {path.stem for path in (folder / "pictures").glob("*.png")}
    wanted = ("step", "first", "import", "epoch", "evaluation", "memory", "losses", "deviation", "accuracy", "seconds")
    assert names == {f"iris-{name}" for name in wanted} == {p.stem for p in (folder / "pictures").glob("*.svg")}
    assert read.tags.count("svg") == len(names) and page.count('role="img"') == len(names)
    for name in names:
        ElementTree.parse(folder / "pictures" / f"{name}.svg")
        assert (folder / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    step = (folder / "pictures" / "iris-step.svg").read_text()
    assert "fluxion train" in step and "torch compile" in step  # text, not outlines
    drawn = page[page.index("<svg") : page.rindex("</svg>")]
    assert "var(--blue)" in drawn and not re.search("#[0-9a-f]{6}", drawn)  # the colors are those of the page


def test_numbers_in_pictures_are_whole(tmp_path):
    document = made_up.results(modes={"fluxion": ("Fluxion", {"train 0.12345 #0072b2": 1e-5})}, runs=1)
    document["workloads"]["iris"]["band"] = [0.98765, 1.0]
    picture = next(p for p in pictures.pictures(document, "iris") if p.name == "iris-accuracy")
    text = pictures.inline(pictures.write(picture, tmp_path), picture.name, "")
    assert ">expected: at least 0.98765<" in text and ">fluxion train 0.12345 #0072b2<" in text
    assert not re.search(r'[xy]="\d+\.\d{3}', text)  # places need no more than two digits


def test_names_from_a_file_stay_text_in_pictures(tmp_path):
    name = r"<img src=x>-->$a$\1\"#0072b2"
    document = made_up.results(
        modes={"fluxion": ("Fluxion", {"train": 1e-5}), "torch": ("PyTorch", {name: 1e-4})}, runs=1
    )
    picture = pictures.pictures(document, "iris")[0]
    read = Reader(report.page(document, {picture.name: pictures.write(picture, tmp_path)}, {}))
    assert "img" not in read.tags and read.tags.count("svg") == 1
    assert "torch <img src=x>-->$a$" in read.text
    ElementTree.parse(tmp_path / "iris-step.svg")


def test_workload_from_a_file_cannot_lead_elsewhere(tmp_path):
    name = '../../a" onload="b'
    modes = {"fluxion": ("Fluxion", {"train": 1e-5})}
    document = made_up.results((name,), modes, runs=1, trained=False)
    assert {picture.name for picture in pictures.pictures(document, name)} >= {"a-onload-b-step"}
    picture = pictures.pictures(document, name)[0]
    text = report.page(document, {picture.name: pictures.write(picture, tmp_path)}, {})
    assert 'onload="' not in text and Reader(text)


def test_same_picture_is_the_same_file(written, tmp_path):
    folder, *_ = written
    document = made_up.results(wrong=("torch",), failing=("keras-tf",))
    picture = pictures.pictures(document, "iris")[0]
    assert pictures.write(picture, tmp_path) == (folder / "pictures" / "iris-step.svg").read_text()


def test_synthetic_and_quick_are_marked_first():
    text = page(made_up.results(data="synthetic", quick=True))
    assert "SYNTHETIC DATA: " in first_screen(text) and "QUICK: " in first_screen(text)
    assert "accuracy on random data says nothing" in text
    plain = page(made_up.results())
    assert "SYNTHETIC" not in plain and "QUICK" not in plain


def test_fastest_is_said_with_the_nearest():
    modes = {"fluxion": ("Fluxion", {"train": 1e-5}), "torch": ("PyTorch", {"eager": 1e-4, "compile": 5e-5})}
    top = first_screen(page(made_up.results(modes=modes)))
    assert "iris: Fluxion is the fastest of 2" in top
    assert re.search(r"Faster than 1: a step of torch compile takes \d\.\d\d times as long", top)
    assert "In no step that was compared is Fluxion slower than another framework" in top


def test_where_fluxion_is_behind_beside_steps_is_said_on_the_first_screen():
    document = made_up.results(modes={"fluxion": ("Fluxion", {"train": 1e-5}), "torch": ("PyTorch", {"eager": 1e-4})})
    for measurement in document["measurements"]:
        if measurement["framework"] == "torch" and measurement["part"] == "timing":
            measurement["times"]["first"], measurement["memory"] = [0.07], 100_000_000
    top = first_screen(page(made_up.summarized(document)))
    assert "in other columns it is, as said below" in top
    assert re.search(r"the first step \(\d+\.\d times that of torch eager\)", top)
    assert "memory (3.00 times that of torch eager)" in top


def test_differences_within_the_spread_are_called_so():
    modes = {"fluxion": ("Fluxion", {"train": 1e-5}), "torch": ("PyTorch", {"eager": 1e-5})}
    assert "the middle halves of their runs overlap" in first_screen(page(made_up.results(modes=modes)))


def test_single_framework():
    text = page(made_up.results(modes={"fluxion": ("Fluxion", {"train": 1e-5})}))
    assert "no other framework to compare with" in text and "slower" not in first_screen(text)


def test_no_ratio_without_fluxion():
    text = page(made_up.results(wrong=("fluxion",)))
    assert "no ratio to Fluxion" in text and "fluxion train: not the same work" in first_screen(text)


def test_all_failed():
    document = made_up.results(failing=tuple(made_up.MODES))
    assert pictures.pictures(document, "iris") == []
    text = page(document)
    assert "Nothing could be measured" in text and "torch eager: failed: boom" in first_screen(text)


def test_nothing_was_measured():
    text = page(made_up.results(absent=tuple(made_up.MODES)))
    assert "0 frameworks" in text and "fluxion compare setup torch" in text


def test_missing_values_are_left_out():
    document = made_up.results()
    for measurement in document["measurements"]:
        if measurement["framework"] == "torch" and measurement["part"] == "timing":
            for column in ("epoch", "evaluation", "batches"):
                del measurement["times"][column]
        if measurement["framework"] == "jax":  # what was NaN is null in the file
            if measurement["part"] == "timing":
                measurement["losses"][20:] = [None] * 30
            else:
                for curve in measurement["curves"]:
                    curve["test accuracy"][5:] = [None] * 25
    document = made_up.summarized(document)
    assert "jax jit: not the same work" in page(document)
    drawn = {picture.name: picture.draw() for picture in pictures.pictures(document, "iris")}
    assert "torch eager" not in [t.get_text() for t in drawn["iris-epoch"].axes[0].get_yticklabels()]
    assert "torch eager" in [t.get_text() for t in drawn["iris-step"].axes[0].get_yticklabels()]
    for name in ("iris-losses", "iris-deviation", "iris-accuracy"):
        drawn[name].draw_without_rendering()


def test_runs_that_are_not_there_yet_are_named():
    document = made_up.results()
    document["settings"]["runs"] = 10
    assert "Not complete: some modes ran 3 of 10 times" in first_screen(page(document))


def test_as_published_stands_beside_what_was_published():
    document = made_up.as_published()
    text = page(document)
    assert "1 of 1 training as published came to an end" in text
    assert "Softmax twice." in text and "0.9199" in text
    (picture,) = pictures.pictures(document, "mnist-fcn")
    assert picture.name == "mnist-fcn-published-0"
    assert [t.get_text() for t in picture.draw().axes[0].texts] == ["torch", "published"]


def test_labels_are_moved_apart_as_little_as_it_takes():
    assert pictures.spaced([], 0.1) == []
    assert pictures.spaced([0.5], 0.1) == [0.5]
    assert pictures.spaced([1.0, 1.0, 1.0], 0.1) == [0.8, 0.9, 1.0]
    assert pictures.spaced([0.0, 0.0], 0.1) == [0.0, 0.1]
    assert pictures.spaced([0.1, 0.2, 0.9], 0.1) == [0.1, 0.2, 0.9]


# ------------------------------------------------------------------------------------------------ Markdown


def test_markdown_has_a_row_for_each_framework():
    document = made_up.results(("iris", "mnist|mlp"), wrong=("torch",), failing=("keras-tf",))
    lines = markdown.front_page([document]).splitlines()
    assert lines[0] == r"| a training step | iris | mnist\|mlp |" and lines[1] == "|---|---:|---:|"
    rows = dict(line.strip("| ").split(" | ", 1) for line in lines[2:6])
    assert re.fullmatch(r"[\d.]+ µs \(1\.00\) \| [\d.]+ µs \(1\.00\)", rows["Fluxion"])
    assert rows["JAX"].count("**") == 4 and "(0." in rows["JAX"]
    assert rows["PyTorch"] == "not the same work | not the same work"
    assert rows["Keras on TensorFlow"] == "failed | failed"
    assert lines[7].startswith("Fluxion is slower than jax jit on iris (1.")
    assert "&lt;CPU&gt;" in lines[-1] and "2026-11-22" in lines[-1]


def test_markdown_of_several_results_marks_synthetic_ones():
    modes = {"fluxion": ("Fluxion", {"train": 1e-5}), "torch": ("PyTorch", {"eager": 1e-4})}
    text = markdown.front_page([made_up.results(modes=modes), made_up.results(("cifar",), modes, data="synthetic")])
    assert "| iris | cifar (synthetic data) |" in text and "Fluxion is slower than none of them." in text


def test_markdown_goes_between_its_marks(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(f"# A\n\n{markdown.BEGIN}\nold\n{markdown.END}\n\nrest\n")
    for text in ("first", "| a |\n"):
        markdown.put(file, text)
    assert file.read_text() == f"# A\n\n{markdown.BEGIN}\n| a |\n{markdown.END}\n\nrest\n"


@pytest.mark.parametrize(
    "text", ["", markdown.BEGIN, f"{markdown.END}{markdown.BEGIN}", markdown.BEGIN * 2 + markdown.END]
)
def test_markdown_leaves_a_file_without_marks_alone(tmp_path, text):
    file = tmp_path / "README.md"
    file.write_text(text)
    with pytest.raises(FileFormatError, match="once each"):
        markdown.put(file, "x")
    assert file.read_text() == text


# ---------------------------------------------------------------------------------------------- the command


def test_command_writes_the_report_anew(tmp_path):
    modes = {"fluxion": ("Fluxion", {"train": 1e-5})}
    (tmp_path / "results.json").write_text(json.dumps(made_up.results(modes=modes, trained=False)))
    (tmp_path / "notes.md").write_text("# iris\n\nBecause.\n")
    result = CliRunner().invoke(app, ["compare", "report", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "Because." in (tmp_path / "report.html").read_text() and (tmp_path / "results.csv").is_file()
    table = CliRunner().invoke(app, ["compare", "report", str(tmp_path), "--markdown", "-"])
    assert table.stdout.startswith("| a training step | iris |")


@pytest.mark.parametrize(
    "text, told",
    [
        ("{", "expected the results"),
        ("[]", "another file"),
        ('{"format": "fluxion.compare", "version": 2}', "version 1"),
        ('{"format": "fluxion.compare", "version": 1}', "there is no protocol"),
    ],
)
def test_command_refuses_what_is_no_comparison(tmp_path, text, told):
    (tmp_path / "results.json").write_text(text)
    result = CliRunner().invoke(app, ["compare", "report", str(tmp_path)])
    assert result.exit_code == 1 and told in " ".join(result.stderr.split())
    assert CliRunner().invoke(app, ["compare", "report"]).exit_code == 2
