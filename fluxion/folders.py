"""The user's cache folder, and what Fluxion keeps there."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shutil
import sys
from pathlib import Path

log = logging.getLogger("fluxion")

SPACE = 10**8  # bytes that must be free on the disk


def cache_folder() -> Path | None:
    """Where Fluxion may keep files between runs: `FLUXION_CACHE` (`off` for nowhere), or the system's place."""
    chosen = os.environ.get("FLUXION_CACHE")
    if chosen:
        return None if chosen == "off" else Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~\\AppData\\Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fluxion"


def programs_folder() -> Path | None:
    """Where compiled programs are kept: for each kind of processor apart, as they hold its instructions."""
    folder = cache_folder()
    return None if folder is None else folder / "compiled" / _processor()


def programs_limit() -> int:
    """How many bytes of compiled programs are kept: `FLUXION_CACHE_MB`, or 512 MB."""
    given = os.environ.get("FLUXION_CACHE_MB", "512")
    try:
        return max(0, int(float(given) * 1e6))
    except (ValueError, OverflowError):
        log.warning("fluxion: FLUXION_CACHE_MB: expected a number of megabytes, got %r. It is not used.", given)
        return 512_000_000


@functools.cache
def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in the cache folder, so that a second process starts without compiling.

    Called before the first program is compiled, never at import. Does nothing where JAX has been given a folder
    already (`JAX_COMPILATION_CACHE_DIR`), or where the cache is off. Of a folder that has grown over its limit it
    deletes what has not been used for longest. A folder that cannot be used gives a warning, and nothing is kept.
    """
    import jax

    folder = programs_folder()
    if folder is None or jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    limit = programs_limit()
    if limit == 0:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        delete_oldest(folder.parent, limit)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written")
        if shutil.disk_usage(folder).free < SPACE:
            raise OSError(f"the disk of {folder} is full")
    except OSError as error:
        log.warning(
            "fluxion: compiled programs are not kept, every process will compile its own: %s. Set FLUXION_CACHE to "
            "another folder, or to off.",
            error,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def sizes(folder: Path) -> list[tuple[float, int, str]]:
    """Time of last use, size and path of each file below a folder, in the order of time."""
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # another process may tidy up meanwhile
                entry = os.lstat(path := os.path.join(root, name))
                found.append((max(entry.st_atime, entry.st_mtime), entry.st_size, path))
    return sorted(found)


def delete_oldest(folder: Path, limit: int) -> None:
    """Delete the files that have not been used for longest, until `limit` bytes are left.

    Several processes may do so at once. Programs are read whole before they are used, and one that is gone is compiled.
    """
    files = sizes(folder)
    excess = sum(size for _, size, _ in files) - limit
    for _, size, path in files:
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        excess -= size


@functools.cache
def _processor() -> str:
    """A name for this kind of processor: JAX's own keys do not tell the instruction sets of two machines apart."""
    known = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        lines = [line for line in first.splitlines() if line.split(":")[0].strip() in known]
    except OSError:  # not Linux
        lines = [platform.processor()]
    name = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    return f"{platform.machine() or 'unknown'}-{name}"
