"""Writing files so that a crash, a full disk or Ctrl-C leaves the old file whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Replace the file at `path` by what `write(file)` writes, wholly or not at all.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the place of the old file
    in one rename. The file keeps the permissions it had; a symbolic link stays and its target is replaced. What is no
    regular file (`/dev/null`, a pipe) is written to directly.

    Arguments:
        path: the file to write; its folder must exist.
        write: is given the open binary file.

    Errors: `FileNotFoundError` where the folder does not exist; whatever `write` raises, and `OSError` from the disk.
    The temporary file is then removed, and the old file is as it was.

    >>> import pathlib, tempfile
    >>> from fluxion.files import atomic_write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "note.txt")
    ...     atomic_write(path, lambda file: file.write(b"done"))
    ...     path.read_text()
    'done'
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"cannot write {os.fspath(path)}: expected an existing folder", folder)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "expected the path of a file, got a folder", os.fspath(path))
    old = os.stat(target) if os.path.exists(target) else None
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(target, "wb") as special:
            write(special)
        return

    # Not `tempfile`: its files are private to the user, while these are to have the usual permissions.
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with naming(path), open(descriptor, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            os.chmod(temporary, stat.S_IMODE(old.st_mode))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # the rename itself is on the disk once the folder is
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have an error of the disk, such as a full one, say which file it was about; by itself it does not.

    >>> from fluxion.files import naming
    >>> with naming("log.csv"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
        ...
    OSError: [Errno 28] No space left on device: 'log.csv'
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise
