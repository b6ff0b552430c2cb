"""Files from public mirrors: resumed where they broke off, checked before they are used, whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from fluxion.errors import DataError

_CHUNK = 1 << 18
_SLOWEST = 1000  # bytes a second; less than that is a stall


class Patience(NamedTuple):
    """How long a download waits, in seconds."""

    stall: float = 20  # for an answer, and for the next bytes
    pauses: Sequence[float] = (1, 4)  # between one round over the mirrors and the next


PATIENCE = Patience()


def download(
    urls: Sequence[str],
    file: Path,
    *,
    size: int,
    sha256: str,
    patience: Patience = PATIENCE,
    progress: bool = True,
) -> None:
    """Get a file of known size and checksum from the first of its mirrors that serves it.

    What has come is kept in `FILE.part` and goes on from there, with this mirror or another, now or in a later call,
    also after Ctrl-C. The file appears under its name when its checksum is right, and not before. A second process that
    wants the same folder waits for the first.

    Arguments:
        urls: of the mirrors, `http` or `https`, in the order of preference.
        file: where to put it; folders are made.
        size: in bytes; no more are read.
        sha256: in hexadecimal digits.
        patience: how long to wait for a mirror, and between the rounds over all of them.
        progress: whether to show on standard error what is done.

    Errors: `DataError` with the reason of each mirror, or where the disk is full or cannot be written.
    """
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(file.parent, progress):
            if file.is_file():  # another process got it meanwhile
                return
            _check_space(file, size - _size(part))
            with _progress(file.name, size) if progress else contextlib.nullcontext(_silent) as report:
                _get(urls, part, size, sha256, patience, report)
            os.replace(part, file)
    except OSError as error:  # those of the network have been dealt with
        raise DataError(
            f"{file}: expected to write it, the disk says: {error.strerror or error}. Make room, or set FLUXION_CACHE "
            "to another folder."
        ) from error


def _get(
    urls: Sequence[str],
    part: Path,
    size: int,
    sha256: str,
    patience: Patience,
    report: Callable[[int], None],
) -> None:
    """Fill the file `part`, over all mirrors and some rounds."""
    mirrors, pauses = list(urls), list(patience.pauses)
    reasons: dict[str, str] = {}
    while True:
        before = _size(part)
        for url in list(mirrors):
            try:
                start = _fetch(url, part, size, patience.stall, report)
                if _checksum(part) == sha256:
                    return
                part.unlink()
                kind = _BrokenError if start else _UselessError  # the beginning may be another mirror's
                raise kind(f"sent other bytes than expected (SHA-256 is not {sha256[:12]}...)")
            except (_BrokenError, _UselessError) as error:
                reasons[url] = " ".join(str(error).split())
                if isinstance(error, _UselessError):
                    mirrors.remove(url)
        if _size(part) - before > size // 100:  # it is slow, but it comes
            pauses = list(patience.pauses)
        if not mirrors or not pauses:
            break
        time.sleep(pauses.pop(0))
    told = "; ".join(f"{url} {reason}" for url, reason in reasons.items())
    raise DataError(
        f"{part.stem}: no mirror served it: {told}. Try again, and it goes on where it broke off; or put the file into "
        f"{part.parent} yourself."
    )


class _BrokenError(Exception):
    """A mirror failed, and may do better next time."""


class _UselessError(Exception):
    """A mirror has not the file."""


def _fetch(url: str, part: Path, size: int, stall: float, report: Callable[[int], None]) -> int:
    """Add to the file `part` what it lacks of its `size`; returns where that begins."""
    have = _size(part)
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return have
    headers = {"User-Agent": "fluxion", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=stall)
    except urllib.error.HTTPError as error:
        error.close()
        kind = _BrokenError if error.code in (408, 425, 429) or error.code >= 500 else _UselessError
        raise kind(f"answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"cannot be reached ({getattr(error, 'reason', None) or error})") from error
    with response:
        start = _start(response, have, size)
        with part.open("r+b" if start else "wb") as out:
            out.seek(start)
            _copy(response, out, size, stall, report)
            out.flush()
            os.fsync(out.fileno())
    return start


def _start(response: http.client.HTTPResponse, have: int, size: int) -> int:
    """Where the bytes of an answer belong, after a look at how many it promises."""
    start = 0
    if response.status == 206:
        given = response.headers.get("Content-Range", "")
        if given != f"bytes {have}-{size - 1}/{size}":
            raise _UselessError(f"answered with {given or 'no range'}, expected bytes {have}-{size - 1}/{size}")
        start = have
    promised = response.headers.get("Content-Length")
    if promised is not None and promised != str(size - start):
        raise _UselessError(f"has a file of {promised} bytes, expected {size - start}")
    return start


def _copy(
    response: http.client.HTTPResponse, out: BinaryIO, size: int, stall: float, report: Callable[[int], None]
) -> None:
    since, before = time.monotonic(), out.tell()
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(f"broke off at {out.tell()} of {size} bytes ({error})") from error
        if not chunk:
            break
        if out.tell() + len(chunk) > size:
            raise _UselessError(f"sends more than {size} bytes")
        out.write(chunk)
        report(out.tell())
        if (now := time.monotonic()) - since > stall:
            if out.tell() - before < _SLOWEST * (now - since):
                raise _BrokenError(f"stalled at {out.tell()} of {size} bytes")
            since, before = now, out.tell()
    if out.tell() < size:
        raise _BrokenError(f"broke off at {out.tell()} of {size} bytes")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a mirror to another place on the web, never to a file, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            fp.close()
            raise _UselessError(f"redirects to {newurl[:200]!r}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """What opens `http` and `https`, through the proxies of the environment, and nothing else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_space(file: Path, missing: int) -> None:
    free = shutil.disk_usage(file.parent).free
    if free < missing:
        raise DataError(
            f"{file}: expected {missing / 1e6:.1f} MB of free space, the disk has {free / 1e6:.1f} MB. Make room, or "
            "set FLUXION_CACHE to another folder."
        )


@contextlib.contextmanager
def _alone_in(folder: Path, progress: bool) -> Iterator[None]:
    """Wait until no other process downloads into the folder. The system ends a lock with its process."""
    with (folder / ".lock").open("ab") as lock:
        told = not progress
        while not _locked(lock):
            if not told:
                print(f"Waiting for another process, which downloads into {folder}.", file=sys.stderr, flush=True)
                told = True
            time.sleep(0.1)
        yield


def _locked(file: BinaryIO) -> bool:
    """Whether the file could be locked; it is until it is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def _silent(done: int) -> None:
    pass


@contextlib.contextmanager
def _progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal; in a log, a line at the beginning, every half minute, and at the end."""
    if not sys.stderr.isatty():
        print(f"Downloading {name}, {size / 1e6:.1f} MB", file=sys.stderr, flush=True)
        last = time.monotonic()

        def report(done: int) -> None:
            nonlocal last
            if done == size or time.monotonic() - last > 30:
                last = time.monotonic()
                print(f"{name}: {done / 1e6:.1f} of {size / 1e6:.1f} MB", file=sys.stderr, flush=True)

        yield report
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns: list[Any] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(name, total=size)
        yield lambda done: bar.update(task, completed=done)
