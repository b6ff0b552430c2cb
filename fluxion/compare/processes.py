"""How a framework is run: in a fresh process of its own interpreter, with a time limit, and what that process answers.

A framework that is missing, crashes or hangs gives `{"error": why}`, and the others go on. `worker.py` is what runs in
the process; it does not import `fluxion`, which that interpreter may not have.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fluxion.compare import parts, worker

HERE = Path(__file__).parent
ASK = 120  # seconds in which a framework says what it can do


@dataclass(frozen=True)
class Peer:
    """`module` is `adapters/with_<module>.py`, `python` the interpreter that has the framework."""

    name: str
    module: str
    needs: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable


def abilities(peer: Peer, workloads: Iterable[parts.Workload]) -> dict[str, Any]:
    """What a framework can do here: `{"missing": why}` where its interpreter does not have it.

    Otherwise `{"modes": {workload: [mode, ...]}, "reasons": {workload: {mode: why not}}}`.
    """
    spec = {"module": peer.module, "needs": peer.needs, "workloads": [parts.to_json(w) for w in workloads]}
    result = worker.abilities(spec) if peer.python == sys.executable else _work(peer, "abilities", spec, {}, ASK, None)
    return {"missing": result["error"]} if "error" in result else result


def measure(
    peer: Peer,
    workload: parts.Workload,
    mode: str,
    file: Path | str,
    *,
    threads: int,
    limit: float,
    environment: dict[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What `worker.measure` says of one mode of one framework on the arrays in `file`, in a fresh process."""
    described = parts.to_json(workload)
    spec = {"module": peer.module, "workload": described, "mode": mode, "file": str(file), "threads": threads}
    return _work(peer, "measure", {**spec, **options}, environment or {}, limit, threads)


def _work(
    peer: Peer, action: str, spec: dict[str, Any], environment: dict[str, str], limit: float, threads: int | None
) -> dict[str, Any]:
    # The programs of an environment are found as if it were activated.
    path = os.pathsep.join((str(Path(peer.python).parent), os.environ.get("PATH", os.defpath)))
    settings = {"PATH": path} | peer.environment | environment
    if "fluxion" in peer.needs and peer.python == sys.executable:  # the same Fluxion as here, wherever it was found
        above = [str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
        settings = {"PYTHONPATH": os.pathsep.join(filter(None, above)), **settings}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(spec, file)
        file.flush()
        return answer([peer.python, str(HERE / "worker.py"), action, file.name], settings, limit, threads)


def several(call: Any, warm: bool, times: int) -> dict[str, Any]:
    """One result of several fresh processes, each with an empty cache of compiled programs, or with a filled one.

    `call(environment)` runs one of them.
    """
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as shared:
        for _ in range(times + warm):
            with tempfile.TemporaryDirectory() as own:
                results.append(call(caches(Path(shared if warm else own))))
            if "error" in results[-1]:
                return results[-1]
    counted = results[warm:]
    joined = {name: [t for r in counted for t in r["times"][name]] for name in counted[0]["times"]}
    return {**counted[-1], "times": joined}


def caches(folder: Path) -> dict[str, str]:
    """The environment in which a framework keeps compiled programs there: Fluxion, JAX, torch."""
    jax = {"JAX_COMPILATION_CACHE_DIR": str(folder / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {"FLUXION_CACHE": str(folder), "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", **jax,
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch")}  # fmt: skip


def answer(command: list[str], environment: dict[str, str], limit: float, threads: int | None = None) -> dict[str, Any]:
    """The JSON that a fresh process prints last, or `{"error": why}`."""
    fixed = {"FLUXION_CACHE": "off", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    settings = os.environ | fixed | environment
    if threads is not None:
        settings |= {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, env=settings, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    except OSError as error:
        return {"error": f"cannot run {command[0]}: {error.strerror}"}
    with process:
        try:
            out, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return {"error": f"no answer within {limit:g} s", "hung": True}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the processes that it started, too
    lines = out.strip().splitlines()
    if process.returncode or not lines:
        return {"error": (errors.strip().splitlines() or [f"ended with code {process.returncode}"])[-1][:300]}
    try:
        return json.loads(lines[-1])
    except ValueError:
        return {"error": f"expected JSON, got {lines[-1][:200]!r}"}


def same_work(outputs: list[float], reference: list[float], tolerance: float = 1e-4) -> bool:
    """Whether the losses of the first steps, or the outputs, agree: each to that part of its size, or of their mean's.

    >>> from fluxion.compare.processes import same_work
    >>> same_work([1.0, 0.5], [1.0, 0.50001]), same_work([1.0, 0.5], [1.0, 0.501]), same_work([1.0], [1.0, 0.5])
    (True, False, False)
    """
    a, b = np.array(outputs), np.array(reference)
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance * np.maximum(np.abs(b).mean(), np.abs(b))))


def fingerprint(peer: Peer) -> str:
    """A hash of the code that a measurement depends on: worker and adapter, and Fluxion itself for Fluxion."""
    shared = ("worker.py", "parts.py", "programs.py")
    files = [*(HERE / name for name in shared), HERE / "adapters" / f"with_{peer.module}.py"]
    files += [file for file in sorted(HERE.glob("adapters/*.py")) if not file.name.startswith("with_")]  # shared ones
    if "fluxion" in peer.needs:
        package = [file for file in HERE.parent.rglob("*") if file.suffix in (".py", ".cpp", ".h", ".so")]
        files += sorted(file for file in package if file.relative_to(HERE.parent).parts[0] not in ("compare", "cli"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def machine() -> dict[str, Any]:
    """Processor, its widest vectors, cores, system, interpreter."""
    info = Path("/proc/cpuinfo")
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line) if info.exists() else {}
    lines = {name.strip(): value.strip() for name, value in lines.items()}
    flags = lines.get("flags", "").split()
    return {
        "processor": lines.get("model name", platform.processor() or platform.machine()),
        "family": f"family {lines.get('cpu family', '?')} model {lines.get('model', '?')}",
        "vectors": ", ".join(f for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if f in flags),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
