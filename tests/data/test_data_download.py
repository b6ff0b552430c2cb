"""Downloads from a server in this process, whose mirrors misbehave."""

import errno
import hashlib
import http.server
import io
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request

import numpy as np
import pytest

import fluxion as fx
from fluxion.data import catalogue, download
from fluxion.data.download import Patience

DATA = np.random.default_rng(0).bytes(700_000)
SHA = hashlib.sha256(DATA).hexdigest()
HASTY = Patience(stall=0.3, pauses=(0.01, 0.01))


class Mirrors(http.server.BaseHTTPRequestHandler):
    """A path `/KIND/file` is served by the method KIND; `log` has each request's kind and range."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        kind, _, rest = self.path[1:].partition("/")
        self.server.log.append((kind, self.headers.get("Range")))
        getattr(self, kind)(rest)

    def send(self, data, status=200, sent=None, headers=()):
        self.send_response(status)
        for name, value in (("Content-Length", len(data)), *headers):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data[:sent])
        if sent is not None:
            self.wfile.flush()
            self.close_connection = True

    def range(self, sent=None, total=None):
        given = self.headers.get("Range")
        if given is None:
            self.send(DATA, sent=sent)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", given)[1])
        total = len(DATA) if total is None else total
        self.send(DATA[start:], 206, sent, [("Content-Range", f"bytes {start}-{total - 1}/{total}")])

    def good(self, rest):
        self.range()

    def truncates(self, rest):
        self.range(sent=200_000)

    def no_range(self, rest):
        self.send(DATA)

    def truncates_no_range(self, rest):
        self.send(DATA, sent=300_000)

    def other_total(self, rest):
        self.range(total=len(DATA) + 1)

    def stalls(self, rest):
        self.range_stalled(0)

    def stalls_after(self, rest):
        self.range_stalled(250_000)

    def range_stalled(self, count):
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA[:count])
        self.wfile.flush()
        self.server.closing.wait(5)
        self.close_connection = True

    def drips(self, rest):
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        for i in range(200):
            try:
                self.wfile.write(DATA[i : i + 1])
                self.wfile.flush()
            except OSError:
                break
            if self.server.closing.wait(0.05):
                break
        self.close_connection = True

    def wrong(self, rest):
        self.send(bytes(len(DATA)))

    def longer(self, rest):
        self.send(DATA + b"x")

    def endless(self, rest):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        except OSError:
            pass
        self.close_connection = True

    def page(self, rest):
        self.send(b"<html>Please log in</html>")

    def busy(self, rest):
        self.send(b"", 503)

    def absent(self, rest):
        self.send(b"", 404)

    def nonsense(self, rest):
        self.wfile.write(b"nonsense\r\n\r\n")
        self.close_connection = True

    def hangs_up(self, rest):
        self.close_connection = True

    def moved(self, rest):
        self.send(b"", 302, headers=[("Location", "/" + rest)])

    def to_file(self, rest):
        self.send(b"", 302, headers=[("Location", f"file://{__file__}")])

    def to_ftp(self, rest):
        self.send(b"", 301, headers=[("Location", "ftp://127.0.0.1/file")])

    def in_circles(self, rest):
        self.send(b"", 302, headers=[("Location", self.path)])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirrors)
    server.daemon_threads, server.log, server.closing = True, [], threading.Event()
    server.at = lambda *kinds: [f"http://127.0.0.1:{server.server_port}/{kind}/file" for kind in kinds]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


def get(urls, file, **options):
    options = {"size": len(DATA), "sha256": SHA, "patience": HASTY, "progress": False} | options
    download.download(urls, file, **options)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "kinds",
    [
        ["good"],
        ["truncates"],  # goes on where it broke off, as often as it takes
        ["stalls", "good"],
        ["drips", "good"],
        ["stalls_after", "good"],
        ["wrong", "good"],
        ["longer", "good"],
        ["endless", "good"],
        ["page", "good"],
        ["busy", "good"],
        ["absent", "good"],
        ["nonsense", "good"],
        ["hangs_up", "good"],
        ["to_file", "good"],
        ["to_ftp", "good"],
        ["in_circles", "good"],
        ["moved/good"],
        ["moved/moved/good"],
        ["truncates_no_range", "no_range"],  # starts again
        ["truncates", "other_total", "good"],
    ],
    ids=" then ".join,
)
def test_a_file_comes_whole(server, tmp_path, kinds):
    get(server.at(*kinds), tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == DATA
    assert files(tmp_path / "new") == [".lock", "file"]


def test_a_broken_download_goes_on_with_another_mirror(server, tmp_path):
    get(server.at("truncates", "busy", "good"), tmp_path / "file")
    assert server.log == [("truncates", None), ("busy", "bytes=200000-"), ("good", "bytes=200000-")]


def test_a_server_that_ignores_the_range_starts_again(server, tmp_path):
    (tmp_path / "file.part").write_bytes(DATA[:1000])
    get(server.at("no_range"), tmp_path / "file")
    assert server.log == [("no_range", "bytes=1000-")]
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "answered 404 Not Found"),
        ("busy", "answered 503 Service Unavailable"),
        ("stalls", r"broke off at 0 of 700000 bytes \(timed out\)"),
        ("drips", "stalled at .* of 700000 bytes"),
        ("wrong", "sent other bytes than expected"),
        ("longer", "has a file of 700001 bytes, expected 700000"),
        ("endless", "sends more than 700000 bytes"),
        ("page", "has a file of 26 bytes, expected 700000"),
        ("nonsense", "cannot be reached .*nonsense"),
        ("to_file", "302.*file:.*not allowed"),
        ("to_ftp", "redirects to 'ftp://127.0.0.1/file', which is not followed"),
        ("in_circles", "302.*infinite loop"),
    ],
)
def test_what_is_said_when_no_mirror_serves(server, tmp_path, kind, message):
    with pytest.raises(fx.DataError, match=message) as caught:
        get(server.at(kind), tmp_path / "file", patience=HASTY._replace(pauses=()))
    said = str(caught.value)
    assert said.startswith("file: no mirror served it: http://127.0.0.1:") and "\n" not in said
    assert f"put the file into {tmp_path} yourself" in said and not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("start", "target", "followed"),
    [
        ("http://a.org/x", "https://b.org/y", True),
        ("https://a.org/x", "https://b.org/y", True),
        ("https://a.org/x", "http://b.org/y", False),
        ("https://a.org/x", "file:///etc/passwd", False),
        ("http://a.org/x", "data:,x", False),
    ],
)
def test_where_redirects_may_lead(start, target, followed):
    request = urllib.request.Request(start, headers={"Range": "bytes=5-"})
    if not followed:
        with pytest.raises(download._UselessError, match="which is not followed"):
            download._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, target)
        return
    new = download._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, target)
    assert new.full_url == target and new.get_header("Range") == "bytes=5-"


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: connections are refused
        with pytest.raises(fx.DataError, match=r"cannot be reached .*refused"):
            get([f"http://127.0.0.1:{taken.getsockname()[1]}/file"], tmp_path / "file")


def test_pauses_between_rounds(server, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(fx.DataError):
        get(server.at("busy", "absent"), tmp_path / "file", patience=Patience(0.3, (1, 4)))
    assert slept == [1, 4]
    assert [kind for kind, _ in server.log] == ["busy", "absent", "busy", "busy"]  # 404 is final


def test_a_part_of_other_bytes_is_thrown_away(server, tmp_path):
    (tmp_path / "file.part").write_bytes(bytes(1000))
    get(server.at("good"), tmp_path / "file")
    assert server.log == [("good", "bytes=1000-"), ("good", None)]
    (tmp_path / "other.part").write_bytes(bytes(len(DATA) + 5))
    get(server.at("good"), tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == (tmp_path / "file").read_bytes() == DATA


def test_a_whole_part_needs_no_server(tmp_path):
    (tmp_path / "file.part").write_bytes(DATA)
    get(["http://127.0.0.1:1/file"], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_full_disk(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=600_000))
    with pytest.raises(fx.DataError, match=r"file: expected 0\.7 MB of free space, the disk has 0\.6 MB\. Make room"):
        get(server.at("good"), tmp_path / "file")
    (tmp_path / "file.part").write_bytes(DATA[:200_000])
    get(server.at("good"), tmp_path / "file")  # the rest has room


def test_a_disk_that_fills_up_meanwhile(server, tmp_path, monkeypatch):
    def full(response, out, *args):
        out.write(DATA[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(fx.DataError, match=r"the disk says: No space left on device. Make room"):
        get(server.at("good"), tmp_path / "file")
    assert (tmp_path / "file.part").stat().st_size == 100


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(fx.DataError, match=r"expected to write it, the disk says: .*Set|set FLUXION_CACHE"):
        get([], tmp_path / "a" / "file")


def test_progress_in_a_log(server, tmp_path, capsys):
    get(server.at("truncates"), tmp_path / "file", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and err == "Downloading file, 0.7 MB\nfile: 0.7 of 0.7 MB\n"


def test_progress_in_a_terminal(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    get(server.at("good"), tmp_path / "file", progress=True)
    assert "700.0/700.0 kB" in capsys.readouterr().err


CHILD = """
    import sys, time
    from pathlib import Path
    from fluxion.data import download
    copy = download._copy
    def slow(response, out, *args):
        print("started", flush=True)
        time.sleep({pause})
        copy(response, out, *args)
    download._copy = slow
    download.download([{url!r}], Path({file!r}), size={size}, sha256={sha!r}, progress=False)
    print("done", flush=True)
"""


def child(server, file, pause, kind="good"):
    code = CHILD.format(pause=pause, url=server.at(kind)[0], file=str(file), size=len(DATA), sha=SHA)
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once(server, tmp_path):
    """The second one waits, and finds the file there."""
    other = child(server, tmp_path / "file", 0.5)
    assert other.stdout.readline() == "started\n"
    get(server.at("good"), tmp_path / "file")
    out, err = other.communicate(timeout=60)
    assert (out, other.returncode) == ("done\n", 0), err
    assert server.log == [("good", None)] and files(tmp_path) == [".lock", "file"]


def test_threads_at_once(server, tmp_path):
    errors = []

    def one():
        try:
            get(server.at("truncates"), tmp_path / "file")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and (tmp_path / "file").read_bytes() == DATA
    assert len(server.log) == 4  # as many as one thread needs


def test_ctrl_c_leaves_what_has_come(server, tmp_path):
    other = child(server, tmp_path / "file", 0, "stalls_after")
    assert other.stdout.readline() == "started\n"
    limit = time.monotonic() + 30
    while not ((part := tmp_path / "file.part").exists() and part.stat().st_size >= 0) and time.monotonic() < limit:
        time.sleep(0.02)
    time.sleep(0.3)
    other.send_signal(signal.SIGINT)
    _, err = other.communicate(timeout=60)
    assert "KeyboardInterrupt" in err and not (tmp_path / "file").exists()
    have = part.stat().st_size
    assert 0 < have <= 250_000
    server.log.clear()
    get(server.at("good"), tmp_path / "file")
    assert server.log == [("good", f"bytes={have}-")]


# Where a data set is looked for


@pytest.fixture
def small_set(monkeypatch, tmp_path):
    """A text of the catalogue, and folders for data and cache."""
    file = catalogue.File("names.txt", len(DATA), SHA, ("http://127.0.0.1:1/",))
    monkeypatch.setitem(catalogue.CATALOGUE, "first_names", catalogue.Entry("names", (file,), "names"))
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FLUXION_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_data_then_cache_then_download(server, small_set, monkeypatch):
    monkeypatch.setenv("FLUXION_MIRROR", server.at("good")[0].removesuffix("/file"))
    expected = small_set / "cache" / "datasets" / "names" / "names.txt"
    assert catalogue.find("first_names", "names.txt") == expected and expected.read_bytes() == DATA
    assert catalogue.find("first_names", "names.txt") == expected and len(server.log) == 1
    given = small_set / "data" / "names" / "names.txt"
    given.parent.mkdir(parents=True)
    given.write_text("my own")
    assert catalogue.find("first_names", "names.txt") == given


def test_downloads_can_be_turned_off(small_set, monkeypatch):
    monkeypatch.setenv("FLUXION_MIRROR", "off")
    with pytest.raises(
        fx.DataError, match=r"first_names: expected names.txt in .*data/names or .*because FLUXION_MIRROR"
    ):
        fx.datasets.first_names()
    monkeypatch.setenv("FLUXION_MIRROR", "/srv/data")
    with pytest.raises(
        fx.DataError, match=r"FLUXION_MIRROR: expected a URL that begins with https:// .*got '/srv/data'"
    ):
        fx.datasets.first_names()
    monkeypatch.delenv("FLUXION_MIRROR")
    with pytest.raises(fx.DataError, match=r"airline-passengers.csv in .*, and no public copy of it is known\. Put it"):
        fx.datasets.airline_passengers()


def test_an_error_names_the_data_set(server, small_set, monkeypatch):
    monkeypatch.setenv("FLUXION_MIRROR", server.at("absent")[0].removesuffix("/file") + "/")
    with pytest.raises(
        fx.DataError, match=r"^datasets.first_names: names.txt: no mirror .*/names/names.txt answered 404"
    ):
        fx.datasets.first_names()
