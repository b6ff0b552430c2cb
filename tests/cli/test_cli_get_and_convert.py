"""`fluxion datasets`, on small files in the place of the published ones."""

import gzip
import http.server
import json
import threading

import numpy as np
import pytest

import fluxion as fx
from fluxion.data.idx import read_idx, write_idx


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder for FLUXION_DATA with a small MNIST; no cache, no mirrors."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for start, count in (("train", 30), ("t10k", 7)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        write_idx(folder / f"{start}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{start}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path / "data"))
    return folder


def test_the_list_shows_what_is_where(cli, small):
    said = cli("datasets", "list").stdout
    for name in fx.datasets.names():
        assert name in said
    assert (
        f"mnist                   11.6 MB   handwritten digits, 60000 and 10000                       {small}" in said
    )
    assert "comes with Fluxion" in said and "not here, and no public copy is known" in said
    found = json.loads(cli("datasets", "list", "--json").stdout)
    rows = {row["name"]: row for row in found["datasets"]}
    assert rows["mnist"]["found"] == [str(small)] and rows["mnist"]["bytes"] == 11_594_722
    assert rows["titanic"]["found"] == [] and rows["titanic"]["public"] and not rows["airline_passengers"]["public"]
    assert found["folders"] == [str(small.parent)]


def test_get_shows_the_files(cli, small):
    result = cli("datasets", "get", "mnist", "iris")
    assert result.exit_code == 0 and result.stdout.split()[0] == str(small / "train-images-idx3-ubyte.gz")
    assert len(result.stdout.split()) == 5 and result.stdout.split()[4].endswith("iris.csv")
    result = cli("datasets", "get", "titanic")
    assert result.exit_code == 1 and "FLUXION_CACHE is off" in result.stderr
    result = cli("datasets", "get", "tytanic")
    assert result.exit_code == 2 and "Did you mean 'titanic'?" in result.stderr


def test_get_downloads(cli, tmp_path, monkeypatch, shared_titanic):
    class Mirror(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/titanic/titanic.csv" else 404)
            self.end_headers()
            self.wfile.write(shared_titanic)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("FLUXION_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("FLUXION_MIRROR", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("FLUXION_DATA", raising=False)
        result, again = cli("datasets", "get", "titanic"), cli("datasets", "get", "titanic")
        server.shutdown()
        thread.join()
    assert result.stdout == again.stdout == f"{tmp_path}/cache/datasets/titanic/titanic.csv\n"
    assert result.stderr == "Downloading titanic.csv, 0.1 MB\ntitanic.csv: 0.1 of 0.1 MB\n" and again.stderr == ""
    assert fx.datasets.titanic().shape == (891, 12)


@pytest.fixture
def shared_titanic():
    import os
    from pathlib import Path

    folder = Path(os.environ.get("FLUXION_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (folder / "titanic" / "titanic.csv").is_file():
        pytest.skip(f"no Titanic in {folder}")
    return (folder / "titanic" / "titanic.csv").read_bytes()


def unpacked(file):
    return gzip.decompress(file.read_bytes())


@pytest.mark.parametrize("csv", ["a.csv", "a.csv.gz"])
def test_mnist_to_csv_and_back(cli, small, tmp_path, csv):
    result = cli("datasets", "convert", "mnist", csv, "--split", "test")
    assert result.exit_code == 0 and result.stdout == f"7 images of 28 x 28 pixels, with labels:\n{csv}\n"
    text = unpacked(tmp_path / csv) if csv.endswith("gz") else (tmp_path / csv).read_bytes()
    lines = text.decode().split("\n")
    images = read_idx(small / "t10k-images-idx3-ubyte.gz")
    assert lines[0].startswith("label,1x1,1x2,") and lines[0].endswith(",28x27,28x28")
    assert [[int(cell) for cell in line.split(",")] for line in lines[1:-1]] == [
        [i, *images[i].ravel().tolist()] for i in range(7)
    ]
    assert lines[-1] == "" and len(lines) == 9
    result = cli("datasets", "convert", csv, "back-images-idx3-ubyte.gz")
    assert result.exit_code == 0, result.stderr
    for part in ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"):
        assert unpacked(tmp_path / f"back-{part}") == unpacked(small / f"t10k-{part}")
    assert cli("datasets", "convert", "back-images-idx3-ubyte.gz", "again.csv").exit_code == 0
    assert (tmp_path / "again.csv").read_bytes() == text


def test_nothing_is_overwritten_unless_asked(cli, small, tmp_path):
    (tmp_path / "a.csv").write_text("mine")
    result = cli("datasets", "convert", "mnist", "a.csv")
    assert result.exit_code == 1 and "a.csv: is there already. Use --overwrite" in result.stderr
    assert (tmp_path / "a.csv").read_text() == "mine"
    assert cli("datasets", "convert", "mnist", "a.csv", "--overwrite").exit_code == 0
    result = cli("datasets", "convert", "a.csv", "digits.idx")
    assert result.exit_code == 1 and "has images-idx3-ubyte in it, so that the labels have a name" in result.stderr
    result = cli("datasets", "convert", "a.csv", "none/a-images-idx3-ubyte")
    assert result.exit_code == 1 and "expected an existing folder" in result.stderr
    result = cli("datasets", "convert", "mnist", "b.csv", "--split", "tset")
    assert result.exit_code == 1 and "Did you mean 'test'?" in result.stderr and not (tmp_path / "b.csv").exists()
