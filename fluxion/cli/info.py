"""`fluxion info`: versions, devices, native kernels and caches, for a report of a bug or a look at a new machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from fluxion.cli.output import JSON, Debug, failures, only_result, say, size, table, write_json
from fluxion.folders import cache_folder, programs_folder, programs_limit, sizes

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "safetensors", "polars", "matplotlib", "rich", "typer")
OPTIONAL = ("grain", "orbax-checkpoint", "jax2onnx", "onnxruntime")


def info(json: JSON = False, debug: Debug = False) -> None:
    """Show versions, devices and caches."""
    with failures(debug), only_result(json) as stream:
        found = _info()
        if json:
            write_json(stream, found)
            return
        table(
            ["versions", ""],
            [[name, version or "not installed"] for name, version in found["versions"].items()],
            numbers=False,
        )
        say()
        if found["devices_error"]:
            say(f"devices: {found['devices_error']}")
        rows = [[f"{d['platform']}:{d['id']}", d["kind"], size(d["memory"])] for d in found["devices"]]
        table(["devices", "kind", "memory"], rows, numbers=False)
        say()
        say(f"native kernels: {found['native_kernels']}")
        say()
        rows = [
            [
                what,
                entry["path"] or entry["why"],
                str(entry["files"] or ""),
                size(entry["bytes"]),
                size(entry["limit"]),
            ]
            for what, entry in found["caches"].items()
        ]
        table(["caches", "folder", "files", "size", "limit"], rows, numbers=False)


def _info() -> dict[str, Any]:
    import jax

    from fluxion import native
    from fluxion.version import __version__

    versions: dict[str, str | None] = {
        "fluxion": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    versions |= {name: _version(name) for name in (*PACKAGES, *OPTIONAL)}
    devices: list[dict[str, Any]] = []
    problem = None
    try:
        for device in jax.devices():
            memory = (device.memory_stats() or {}).get("bytes_limit")
            devices.append({"platform": device.platform, "id": device.id, "kind": device.device_kind, "memory": memory})
    except RuntimeError as error:  # a driver that does not work is what this command is asked about
        problem = str(error)
    given = getattr(jax.config, "jax_compilation_cache_dir", None)
    own = programs_folder()
    folder = Path(given) if given else own and own.parent  # the limit is for those of all processors
    data, cache = os.environ.get("FLUXION_DATA"), cache_folder()
    return {
        "versions": versions,
        "devices": devices,
        "devices_error": problem,
        "cpu_cores": os.cpu_count(),
        "native_kernels": native.status(),
        "caches": {
            "compiled programs": _folder(folder, "off (FLUXION_CACHE)", None if given else programs_limit()),
            "data sets": _folder(Path(data) if data else None, "FLUXION_DATA is not set"),
            "downloads": _folder(cache and cache / "datasets", "off (FLUXION_CACHE)"),
        },
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folder(path: Path | None, why: str, limit: int | None = None) -> dict[str, Any]:
    if path is None:
        return {"path": None, "why": why, "files": None, "bytes": None, "limit": None}
    found = sizes(path)
    return {"path": str(path), "why": None, "files": len(found), "bytes": sum(n for _, n, _ in found), "limit": limit}
