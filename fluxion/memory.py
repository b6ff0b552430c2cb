"""An explicit switch for the C library's allocator: keep freed memory in the process."""

from __future__ import annotations

import ctypes
import os

# Environment variable of glibc, number of the parameter in `mallopt`, value.
SETTINGS = (
    ("MALLOC_ARENA_MAX", -8, 1),  # one pool for all threads: only the first may hold blocks of more than 64 MB
    ("MALLOC_MMAP_THRESHOLD_", -3, 1 << 30),
    ("MALLOC_TRIM_THRESHOLD_", -1, (1 << 31) - 1),
)


def keep_memory() -> bool:
    """Keep the memory that arrays free for the next ones, rather than give it back to the system.

    A training step takes memory for its intermediate results and frees it. The C library of Linux gives large blocks
    back to the system at once, and gets them again in the next step, page by page and filled with zeros: with large
    batches that takes as long as the arithmetic. The price of keeping them: the process stays as large as it ever was,
    and gets larger than without, by up to several times the largest block, because what is kept does not always fit.
    The first ten or twenty steps, in which the pool grows, gain less.

    Call it at the start of a program, before the first array is made: threads that run already keep pools of their own,
    which give blocks of more than 64 MB back. Returns whether it took effect for all memory: False with another C
    library than glibc (macOS, Windows, musl), and where there are such threads.

    `MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483647`, as environment variables,
    do the same to any program.

    >>> import fluxion as fx
    >>> fx.keep_memory() in (True, False)
    True
    """
    if not _has_glibc():
        return False
    library = ctypes.CDLL(None)
    accepted = [library.mallopt(parameter, value) == 1 for _, parameter, value in SETTINGS]
    return all(accepted) and _pools(library) == 1


def _has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):  # not Unix, or another library
        return False


def _pools(library: ctypes.CDLL) -> int:
    """How many arenas the allocator has, as `malloc_info` tells."""
    library.open_memstream.restype = ctypes.c_void_p
    text, size = ctypes.c_void_p(), ctypes.c_size_t()
    stream = ctypes.c_void_p(library.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    library.malloc_info(0, stream)
    library.fclose(stream)
    try:
        return ctypes.string_at(text, size.value).count(b"<heap ")
    finally:
        library.free(text)
