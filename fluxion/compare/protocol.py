"""What is run, in which order, and kept at once: the protocols `fair` and `as-published`.

Fair: the frameworks take turns in a new random order, run after run, each in a fresh process: first all times, then
accuracy. As published: each post's own settings by the framework that stands for it, and what came out.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fluxion.compare import environments, examples, parts, processes, reference, results, workloads
from fluxion.errors import ArgumentError, nearest
from fluxion.files import atomic_write
from fluxion.folders import cache_folder
from fluxion.version import __version__

PROTOCOLS = ("fair", "as-published")
NAMES = ("workload", "variant", "framework", "mode", "part", "run", "threads", "epochs", "quick")
FAILURES = 2  # of a mode, after which its other runs are left out; at once after one that hangs
TOGETHER = 200_000  # examples times epochs up to which all seeds are trained in one process
PATIENCE = 10  # times the limit, for accuracy


@dataclass(frozen=True)
class Settings:
    """What the user asked for."""

    names: tuple[str, ...]
    frameworks: tuple[str, ...] = ()  # none: all
    pythons: dict[str, str] = field(default_factory=dict)
    protocol: str = "fair"
    runs: int = 10
    seeds: int = 3
    threads: int = 1
    epochs: int | None = None
    limit: float = 300
    quick: bool = False  # one sample of everything on a little data: only to see that all works

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            hint = nearest(self.protocol, PROTOCOLS)
            raise ArgumentError(f"expected the protocol fair or as-published, got {self.protocol!r}.{hint}")
        for name in (*self.frameworks, *self.pythons):
            environments.find(name)
        for name in self.names:
            if not workloads.find(name).variants and self.protocol == "as-published":
                raise ArgumentError(f"{name} has no settings of a post that are known; it is run by the protocol fair.")


class Task(NamedTuple):
    """One process to run; the fields are the first of `NAMES`."""

    workload: str
    variant: str
    framework: str
    mode: str
    part: str  # "timing" or "accuracy"
    run: int  # for accuracy, the first seed


class Comparing:
    """A comparison under way: `run()` makes the measurements, `report()` is all that is known so far."""

    def __init__(self, settings: Settings, file: Path, say: Callable[[str], None]) -> None:
        """`file` is `results.json`; measurements in it that are the same are not repeated. `say` gets the news."""
        self.settings, self.say = settings, say
        self.results = results.Results(file, NAMES, self._fingerprint, wrap=self._document)
        self.prepared: dict[tuple[str, str], dict[str, Any]] = {}
        self.frameworks: dict[str, dict[str, Any]] = {}
        self.known: dict[str, Any] = {}  # about each workload, for the report

    # ------------------------------------------------------------------------------------------ doing

    def run(self) -> None:
        """Everything, in order; what is measured is in the file at once."""
        self._look_around()
        with tempfile.TemporaryDirectory(prefix="fluxion-compare-") as folder:
            for name in self.settings.names:
                self._prepare(workloads.find(name), Path(folder))
            self._keep()
            tasks, done = self.plan(), self.results.done()
            failed: Counter[tuple[str, ...]] = Counter()
            for number, task in enumerate(tasks, 1):
                which = task[:4]
                if self.key(task) in done or failed[which] >= FAILURES:
                    continue
                found = self._measure(task)
                failed[which] += FAILURES if "hung" in found else "error" in found
                self.results.add(found)
                self.say(f"{number} of {len(tasks)}: {described(task)}: {news(found)}")
        self._keep()

    def _look_around(self) -> None:
        """Which frameworks are here, and which modes of them do which workloads."""
        chosen = self.settings.frameworks or tuple(environments.adapters())
        wanted = [workload for _, workload in self._workloads()]
        for name in chosen:
            peer, adapter = environments.peer(name, self.settings.pythons), environments.find(name)
            found = processes.abilities(peer, wanted)
            facts = {"title": adapter.TITLE, "python": peer.python, "modes": dict(adapter.MODES)}
            if "missing" in found:
                facts |= {"missing": found["missing"], "remedy": environments.remedy(name)}
                self.say(f"{name}: not run here: {found['missing']} ({facts['remedy']})")
            else:
                facts |= {"runs": found["modes"], "reasons": found["reasons"]}
            self.frameworks[name] = facts

    def _workloads(self) -> list[tuple[workloads.Variant | None, parts.Workload]]:
        """Every description that is run: named after its workload, and its variant if it is one."""
        found: list[tuple[workloads.Variant | None, parts.Workload]] = []
        for name in self.settings.names:
            comparison = workloads.find(name)
            of: tuple[workloads.Variant | None, ...] = (None,)
            if self.settings.protocol == "as-published":
                of = comparison.variants
            for variant in of:
                workload = self._adapted(variant.workload if variant else comparison.fair)
                label = f"{name}/{variant.name}" if variant else name
                found.append((variant, dataclasses.replace(workload, name=label)))
        return found

    def _adapted(self, workload: parts.Workload) -> parts.Workload:
        """With the number of epochs that the user asked for; a quick one has two at most, and ten losses."""
        epochs = self.settings.epochs or workload.epochs
        if self.settings.quick:
            return dataclasses.replace(workload, epochs=min(epochs, 2), checked=min(workload.checked, 10))
        return dataclasses.replace(workload, epochs=epochs)

    def _prepare(self, comparison: workloads.Comparison, folder: Path) -> None:
        name = comparison.name
        for variant, workload in self._workloads():
            if workload.name.partition("/")[0] != name:
                continue
            self.say(f"{workload.name}: preparing the data")
            small = self.settings.quick
            found = examples.prepare(folder, comparison, workload, variant, self.settings.seeds or 1, small)
            arrays = found.pop("arrays")
            known: dict[str, Any] = {
                "data": found["kind"],
                "hashes": found["hashes"],
                "description": parts.to_json(workload),
                "parameters": workload.parameters,
            }
            if variant is None:
                known["reference"] = self._reference(comparison, workload, arrays)
            else:
                known |= {"faults": variant.faults, "published": variant.published, "batches": variant.batches}
            self.known[workload.name] = known
            self.prepared[name, variant.name if variant else ""] = {**found, "workload": workload, "variant": variant}

    def _reference(
        self, comparison: workloads.Comparison, workload: parts.Workload, arrays: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The losses of the first steps by plain NumPy; kept in the user's cache, as convolutions take a minute."""
        from fluxion.compare import worker

        rows = worker.steps_of(arrays["order/0"], workload.batch)
        rows = (rows * (workload.checked // len(rows) + 1))[: workload.checked]
        x = arrays["x"]
        read = worker.PIXELS["0 to 1"] if x.dtype == np.uint8 else lambda x: x
        weights = worker.weights_of(arrays, 0)
        what = [parts.to_json(workload), *(examples.hashes({"x": x[r], "y": arrays["y"][r]}) for r in rows[:2]),
                examples.hashes({"rows": np.concatenate(rows), **weights})]  # fmt: skip
        for field_ in ("title", "epochs", "block", "evaluation", "examples"):
            what[0].pop(field_)
        key = hashlib.sha256(json.dumps([what, Path(reference.__file__).read_text()]).encode()).hexdigest()[:16]
        cache = cache_folder()
        file = cache / "compare" / f"reference-{key}.json" if cache else None
        if file and file.is_file():
            losses = json.loads(file.read_bytes())
        else:
            self.say(f"{workload.name}: the losses of {len(rows)} steps in plain NumPy")
            losses = reference.losses(workload, weights, ((read(x[r]), arrays["y"][r]) for r in rows)).tolist()
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(file, lambda stream: stream.write(json.dumps(losses).encode()))
        limits = {"tolerance": comparison.tolerance, "drift": comparison.drift}
        return {"what": "plain NumPy in float64 (fluxion/compare/reference.py)", "losses": losses, **limits}

    def plan(self) -> list[Task]:
        """All processes: times first, run after run, the modes of all frameworks in a new random order in each."""
        settings = self.settings
        tasks: list[Task] = []
        if settings.protocol == "fair":
            for run in range(settings.runs):
                for name in settings.names:
                    row = [
                        Task(name, "", *mode, "timing", run)
                        for mode in self._modes(name)
                        if run < self._runs(name, *mode)
                    ]
                    tasks += random.sample(row, len(row))
        for variant, workload in self._workloads():
            name = workload.name.partition("/")[0]
            modes = self._modes(workload.name)
            first = dict(reversed(modes))
            chosen = [pair for pair in modes if first[pair[0]] == pair[1]]
            if variant:
                chosen = [pair for pair in chosen if pair[0] in variant.frameworks]
            for seed in range(settings.seeds)[:: self._together(workload)]:
                row = [Task(name, variant.name if variant else "", *mode, "accuracy", seed) for mode in chosen]
                tasks += random.sample(row, len(row))
        return tasks

    def _modes(self, name: str) -> list[tuple[str, str]]:
        return [(f, m) for f, facts in self.frameworks.items() for m in facts.get("runs", {}).get(name, ())]

    def _runs(self, name: str, framework: str, mode: str) -> int:
        """How many processes time a mode."""
        others = workloads.find(name).others
        first = next(iter(self.frameworks[framework]["runs"][name]))
        if others is None or mode == first or not framework.startswith(environments.OWN):
            return self.settings.runs
        return min(others, self.settings.runs)

    def _together(self, workload: parts.Workload) -> int:
        """How many seeds are trained in one process."""
        return max(1, self.settings.seeds) if workload.examples * workload.epochs <= TOGETHER else 1

    def _measure(self, task: Task) -> dict[str, Any]:
        settings = self.settings
        prepared = self.prepared[task.workload, task.variant]
        workload, variant = prepared["workload"], prepared["variant"]
        seeds = range(settings.seeds)[task.run : task.run + self._together(workload)]
        peer = environments.peer(task.framework, settings.pythons)
        whole = workloads.find(task.workload).whole
        kept = prepared["file"].parent / "-".join(task[:4])  # its compiled programs; none at first
        if task.part == "accuracy":
            cold, alone = True, len(seeds) == 1  # of several seeds, all but the first find the programs anyway
        else:
            cold, alone = task.run < whole, task.run < whole - 1
        with tempfile.TemporaryDirectory() as own:
            found = processes.measure(
                peer,
                workload,
                task.mode,
                prepared["file"],
                threads=settings.threads,
                limit=settings.limit * (PATIENCE if task.part == "accuracy" else 1),
                needs=peer.needs,
                part=task.part,
                pixels=variant.pixels if variant else "0 to 1",
                whole=task.run < whole,
                environment=processes.caches(Path(own) if alone else kept),
                seeds=list(seeds),
                quick=settings.quick,
            )
        return {**dict(zip(NAMES, self.key(task), strict=True)), "data": prepared["kind"], "cold": cold, **found}

    def key(self, task: Task) -> tuple[Any, ...]:
        """The values of `NAMES`."""
        return (*task, self.settings.threads, self.settings.epochs, self.settings.quick)

    def _fingerprint(self, measurement: dict[str, Any]) -> str:
        return _fingerprint(measurement["framework"])

    # -------------------------------------------------------------------------------------- telling

    def report(self) -> dict[str, Any]:
        """Everything known so far, as it is in the file."""
        return results.finite(self._document(self.results.measurements))

    def _keep(self) -> None:
        self.results.write()

    def _document(self, measurements: list[dict[str, Any]]) -> dict[str, Any]:
        from fluxion.compare.summary import summarize

        settings = self.settings
        told = {name: workloads.find(name) for name in settings.names}
        document: dict[str, Any] = {
            "format": "fluxion.compare",
            "version": 1,
            "protocol": settings.protocol,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "fluxion": __version__,
            "machine": processes.machine(),
            "settings": dataclasses.asdict(settings),
            "workloads": {
                name: {
                    "title": told[name].title,
                    "network": told[name].fair.title,
                    "post": told[name].post,
                    "split": told[name].split,
                    "about": told[name].about,
                    "band": told[name].band,
                    "others": told[name].others,
                }
                for name in settings.names
            },
            "runs": self.known,
            "frameworks": self.frameworks,
            "programs": self._programs(),
            "measurements": measurements,
        }
        return {**document, "summary": summarize({**document, "measurements": self._asked(measurements)})}

    def _asked(self, measurements: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those that belong to this call: a file may hold others, of other workloads or numbers of threads."""
        settings = (self.settings.threads, self.settings.epochs, self.settings.quick)
        return [
            m
            for m in measurements
            if m["workload"] in self.settings.names
            and m["framework"] in self.frameworks
            and bool(m["variant"]) == (self.settings.protocol == "as-published")
            and (m["threads"], m["epochs"], m["quick"]) == settings
        ]

    def _programs(self) -> list[dict[str, Any]]:
        return [
            program
            for _, workload in self._workloads()
            for framework, mode in self._modes(workload.name)
            for program in programs_of(workload, framework, [mode])
        ]


def programs_of(workload: parts.Workload, framework: str, modes: list[str] | None = None) -> list[dict[str, Any]]:
    """The program of each mode that can do a workload, as text, with the number of its lines."""
    from fluxion.compare.programs import lines_of

    adapter = environments.find(framework)
    found = []
    for mode in modes or [mode for mode in adapter.MODES if adapter.supports(workload, mode) is True]:
        text = adapter.program(workload, mode)
        label = {"workload": workload.name, "framework": framework, "mode": mode, "title": adapter.TITLE}
        found.append({**label, "lines": lines_of(text), "text": text})
    return found


@functools.cache
def _fingerprint(framework: str) -> str:
    return processes.fingerprint(environments.peer(framework, {}))


def described(task: Task) -> str:
    words = [task.workload, task.variant, task.framework, task.mode, task.part]
    return " ".join(word for word in words if word)


def news(found: dict[str, Any]) -> str:
    """What a measurement says, in a few words."""
    if "error" in found:
        return found["error"]
    if "curves" in found:
        last = [curve["test accuracy"][-1] for curve in found["curves"]]
        return "test accuracy " + ", ".join(f"{value:.4f}" for value in last)
    from fluxion.compare.summary import duration

    return f"{duration(float(np.median(found['times']['step'])))} a step"
