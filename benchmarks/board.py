"""The measurements of the scoreboard: which peers, with which settings, on which rows, in which order.

Nothing here knows the table: measurements are dicts, one per fresh process, kept in a JSON file that a second call
continues.
"""

from __future__ import annotations

import functools
import json
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import CONVOLUTIONS, SAMPLE, WORKLOADS, prepare

from fluxion.compare import environments, processes, results
from fluxion.compare.processes import Peer

STARTS = 5  # fresh processes for one measurement of a start

ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "tuned": {  # the setting of `fx.keep_memory`: pages are not given back and asked for again in every step
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
    },
}

PEERS = {
    name: environments.peer(name, {})
    for name in ("fluxion", "jax", "torch", "keras-jax", "keras-tf", "flax", "equinox")
}
SOME = {  # the rows that a peer is run on unless all is asked for; the others are run on every row
    "keras-jax": SAMPLE,
    "keras-tf": SAMPLE + CONVOLUTIONS,
    "flax": SAMPLE,
    "equinox": SAMPLE,
}
TUNED_PEERS = ("fluxion", "jax", "torch")  # run with the tuned allocator, on SAMPLE, unless all is asked for
NAMES = ("workload", "peer", "mode", "allocator", "run", "threads")


@dataclass(frozen=True)
class Task:
    """One measurement to make."""

    workload: str
    peer: Peer
    mode: str
    allocator: str
    run: int


def modes(peer: Peer) -> dict[str, Any]:
    """What a peer can do here: `{"modes": {workload: [mode, ...]}}`, or `{"missing": why}`."""
    return processes.abilities(peer, WORKLOADS.values())


def measure(task: Task, folder: Path, threads: int, limit: float, quick: bool = False) -> dict[str, Any]:
    workload = WORKLOADS[task.workload]
    prepared = prepare(workload, folder)

    def call(environment: dict[str, str]) -> dict[str, Any]:
        settings = ALLOCATORS[task.allocator] | environment
        return processes.measure(
            task.peer, workload, task.mode, prepared["file"], threads=threads, limit=limit, environment=settings,
            quick=quick,
        )  # fmt: skip

    if workload.kind == "start":
        result = processes.several(call, workload.cache == "warm", 1 if quick else STARTS)
    else:
        result = call({})
    key = (task.workload, task.peer.name, task.mode, task.allocator, task.run, threads)
    return {**dict(zip(NAMES, key, strict=True)), "data": prepared["data"], **result}


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
    return tuned and (peer.name not in SOME or name in SOME[peer.name])


def open_results(file: Path, fresh: bool = False) -> results.Results:
    """The measurements in a file; those of other code than today's are left out."""
    return results.Results(file, NAMES, lambda measurement: _fingerprint(measurement["peer"]), fresh)


@functools.cache
def _fingerprint(peer: str) -> str:
    return processes.fingerprint(PEERS[peer])


def carry_out(
    tasks: list[Task], known: results.Results, folder: Path, threads: int, limit: float, quick: bool = False
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Make the measurements that are not there yet, one after the other; each is kept at once."""
    done = known.done()
    for task in tasks:
        if (task.workload, task.peer.name, task.mode, task.allocator, task.run, threads) not in done:
            measurement = measure(task, folder, threads, limit, quick)
            known.add(measurement)
            yield task, measurement


def peak(folder: Path, threads: int) -> float | None:
    """How many operations per second this machine does at best; measured once for each folder of results."""
    file = folder / f"peak-{threads}.json"
    if not file.exists():
        command = [sys.executable, str(Path(__file__).parent / "arithmetic.py"), str(threads)]
        found = processes.answer(command, {}, limit=120, threads=threads)
        if "error" in found:
            return None
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return json.loads(file.read_text())["peak"]
