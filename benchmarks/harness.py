"""How a peer is run: in a fresh process, interleaved with the others, with a time limit, and checked.

Nothing here knows the scoreboard's table: `measurements` are dicts, one per process, kept in a JSON file that a second
call continues. A peer that is missing, crashes or hangs gives a measurement that says so, and the others go on.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from workloads import CONVOLUTIONS, SAMPLE, WORKLOADS, prepare

HERE = Path(__file__).parent
STARTS = 5  # fresh processes for one measurement of a start

ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "tuned": {  # the setting of `fx.keep_memory`: pages are not given back and asked for again in every step
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
    },
}


@dataclass(frozen=True)
class Peer:
    """`module` is `peers/with_<module>.py`, `python` the interpreter that has the framework."""

    name: str
    module: str
    needs: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable
    rows: tuple[str, ...] | None = None  # the workloads it is run on unless all is asked for; None: every one


KERAS_JAX = {"KERAS_BACKEND": "jax"}
KERAS_TF = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
PEERS = {
    peer.name: peer
    for peer in (
        Peer("fluxion", "fluxion", ("fluxion",)),
        Peer("jax", "jax", ("jax",)),
        Peer("torch", "torch", ("torch",)),
        Peer("keras-jax", "keras", ("keras", "jax"), KERAS_JAX, rows=SAMPLE),
        Peer("keras-tf", "keras", ("keras", "tensorflow"), KERAS_TF, rows=SAMPLE + CONVOLUTIONS),
        Peer("flax", "flax", ("flax", "optax"), rows=SAMPLE),
        Peer("equinox", "equinox", ("equinox", "optax"), rows=SAMPLE),
    )
}
TUNED_PEERS = ("fluxion", "jax", "torch")  # run with the tuned allocator, on SAMPLE, unless all is asked for


@dataclass(frozen=True)
class Task:
    """One measurement to make."""

    workload: str
    peer: Peer
    mode: str
    allocator: str
    run: int

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        return self.workload, self.peer.name, self.mode, self.allocator, self.run


# ------------------------------------------------------------------------------------------ one process


def modes(peer: Peer) -> dict[str, Any]:
    """What a peer can do here: `{"modes": {workload: [mode, ...]}}`, or `{"missing": why}`."""
    code = (
        f"import json, sys; sys.path.insert(0, {str(HERE)!r})\n"
        f"import importlib.util as u; absent = [n for n in {peer.needs!r} if u.find_spec(n) is None]\n"
        "if absent: print(json.dumps({'missing': 'no ' + ', '.join(absent)})); sys.exit()\n"
        f"import peers.with_{peer.module} as p; from workloads import WORKLOADS as all\n"
        "print(json.dumps({'modes': {n: [m for m in p.MODES[w.kind] if p.supports(w, m)] for n, w in all.items()}}))"
    )
    result = answer([peer.python, "-c", code], peer.environment, limit=120)
    return {"missing": result["error"]} if "error" in result else result


def measure(task: Task, folder: Path, threads: int, limit: float, quick: bool = False) -> dict[str, Any]:
    workload = WORKLOADS[task.workload]
    prepared = prepare(workload, folder)
    spec = {
        "workload": task.workload,
        "module": task.peer.module,
        "mode": task.mode,
        "file": prepared["file"],
        "threads": threads,
        "quick": quick,
    }
    command = [task.peer.python, str(HERE / "worker.py"), json.dumps(spec)]
    environment = task.peer.environment | ALLOCATORS[task.allocator]
    if workload.kind == "start":
        result = starts(command, environment, limit, threads, workload.cache == "warm", 1 if quick else STARTS)
    else:
        result = answer(command, environment, limit, threads)
    names = ("workload", "peer", "mode", "allocator", "run")
    return {**dict(zip(names, task.key, strict=True)), "data": prepared["data"], "threads": threads, **result}


def starts(
    command: list[str], environment: dict[str, str], limit: float, threads: int, warm: bool, times: int
) -> dict[str, Any]:
    """One result of several fresh processes, each with an empty cache of compiled programs, or with a filled one."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as shared:
        for _ in range(times + warm):
            with tempfile.TemporaryDirectory() as own:
                settings = environment | caches(Path(shared if warm else own))
                results.append(answer(command, settings, limit, threads))
            if "error" in results[-1]:
                return results[-1]
    counted = results[warm:]
    joined = {name: [t for r in counted for t in r["times"][name]] for name in counted[0]["times"]}
    return {**counted[-1], "times": joined}


def caches(folder: Path) -> dict[str, str]:
    """The environment in which a framework keeps compiled programs there: Fluxion by itself, JAX if it is told to."""
    jax = {"JAX_COMPILATION_CACHE_DIR": str(folder / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {"FLUXION_CACHE": str(folder), "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", **jax}


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
            out, error = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return {"error": f"no answer within {limit:g} s"}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the processes that it started, too
    lines = out.strip().splitlines()
    if process.returncode or not lines:
        return {"error": (error.strip().splitlines() or [f"ended with code {process.returncode}"])[-1][:300]}
    try:
        return json.loads(lines[-1])
    except ValueError:
        return {"error": f"expected JSON, got {lines[-1][:200]!r}"}


# -------------------------------------------------------------------------------------- many processes


def plan(
    peers: Iterable[Peer],
    names: Iterable[str],
    allocators: Iterable[str],
    runs: int,
    abilities: dict[str, Any],
    everything: bool = True,
) -> list[Task]:
    """The measurements: run after run, workload after workload, the peers of each in a new random order."""
    tasks = []
    for run in range(runs):
        for name in names:
            row = [
                Task(name, peer, mode, allocator, run)
                for peer in peers
                for mode in abilities[peer.name].get("modes", {}).get(name, ())
                for allocator in allocators
                if everything or is_chosen(peer, name, allocator)
            ]
            tasks += random.sample(row, len(row))
    return tasks


def is_chosen(peer: Peer, name: str, allocator: str) -> bool:
    """Whether a measurement belongs to the board that is run unless all is asked for."""
    tuned = allocator == "default" or (peer.name in TUNED_PEERS and name in SAMPLE and not name.startswith("start"))
    return tuned and (peer.rows is None or name in peer.rows)


class Results:
    """The measurements made so far, in a file; those of other code than today's are left out."""

    def __init__(self, file: Path, fresh: bool = False) -> None:
        self.file = file
        known = json.loads(file.read_text()) if file.exists() and not fresh else []
        self.measurements = [m for m in known if m["code"] == fingerprint(m["peer"])]

    def done(self, threads: int) -> set[tuple[Any, ...]]:
        """The keys of measurements that need not be repeated: those that failed do."""
        names = ("workload", "peer", "mode", "allocator", "run")
        return {tuple(m[n] for n in names) for m in self.measurements if "error" not in m and m["threads"] == threads}

    def add(self, measurement: dict[str, Any]) -> None:
        key = tuple(measurement[n] for n in ("workload", "peer", "mode", "allocator", "run"))
        same = lambda m: tuple(m[n] for n in ("workload", "peer", "mode", "allocator", "run")) == key  # noqa: E731
        self.measurements = [m for m in self.measurements if not same(m)]
        self.measurements.append({**measurement, "code": fingerprint(measurement["peer"])})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.measurements, indent=0))
        partial.replace(self.file)


def carry_out(
    tasks: list[Task], results: Results, folder: Path, threads: int, limit: float, quick: bool = False
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Make the measurements that are not there yet, one after the other; each is kept at once."""
    done = results.done(threads)
    for task in tasks:
        if task.key not in done:
            measurement = measure(task, folder, threads, limit, quick)
            results.add(measurement)
            yield task, measurement


def fingerprint(peer: str) -> str:
    """A hash of the code that a measurement depends on: the benchmarks, and Fluxion itself for Fluxion."""
    files = [HERE / "worker.py", HERE / "workloads.py", HERE / "peers" / f"with_{PEERS[peer].module}.py"]
    if peer == "fluxion":
        import fluxion

        package = Path(fluxion.__file__).parent
        files += sorted(file for file in package.rglob("*") if file.suffix in (".py", ".cpp", ".h", ".so"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def peak(folder: Path, threads: int) -> float | None:
    """How many operations per second this machine does at best; measured once for each folder of results."""
    file = folder / f"peak-{threads}.json"
    if not file.exists():
        found = answer([sys.executable, str(HERE / "arithmetic.py"), str(threads)], {}, limit=120, threads=threads)
        if "error" in found:
            return None
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return json.loads(file.read_text())["peak"]


# ----------------------------------------------------------------------------------------------- checks


def same_work(outputs: list[float], reference: list[float], tolerance: float = 1e-4) -> bool:
    """Whether the losses of the first steps, or the outputs, agree."""
    a, b = np.array(outputs), np.array(reference)
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance * np.maximum(np.abs(b).mean(), np.abs(b))))


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
