"""The user's cache folder, and what Fluxion keeps there."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path


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


@functools.cache
def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in the cache folder, so that a second process starts without compiling.

    Called before the first program is compiled, never at import. Does nothing where JAX has been given a folder
    already (`JAX_COMPILATION_CACHE_DIR`), or where the cache folder is off or cannot be written.
    """
    import jax

    folder = cache_folder()
    if folder is None or jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    folder = folder / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written: compile every time
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
