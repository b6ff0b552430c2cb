"""Which frameworks there are, and which interpreter has each: this one, one that the user names, or one made for it.

`setup` makes an environment of its own for a framework in the user's cache folder and remembers it there, because
several frameworks ask for versions of NumPy or JAX that do not go together.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from fluxion.compare.processes import Peer
from fluxion.errors import ArgumentError, DataError, nearest
from fluxion.files import atomic_write
from fluxion.folders import cache_folder

OWN = "fluxion"  # what the names of Fluxion's own styles begin with


@functools.cache
def adapters() -> dict[str, ModuleType]:
    """The adapter of each framework by its name: Fluxion's own first, then in the order of the alphabet."""
    files = sorted(Path(__file__).parent.glob("adapters/with_*.py"))
    modules = [importlib.import_module(f"fluxion.compare.adapters.{file.stem}") for file in files]
    named = {module.NAME: module for module in modules if hasattr(module, "NAME")}  # shared files have no name
    return dict(sorted(named.items(), key=lambda item: (not item[0].startswith(OWN), item[0])))


def find(name: str) -> ModuleType:
    """The adapter of that name.

    Errors: `ArgumentError` where there is none.
    """
    if name not in adapters():
        raise ArgumentError(f"there is no framework {name!r}.{nearest(name, adapters())} Use {', '.join(adapters())}.")
    return adapters()[name]


def peer(name: str, given: dict[str, str]) -> Peer:
    """How to run a framework: by the interpreter in `given`, or this one if it has it, or the one that was set up."""
    adapter = find(name)
    python = given.get(name)
    if python is None:
        python = sys.executable if has(adapter.NEEDS) else remembered().get(name, sys.executable)
    module = adapter.__name__.rpartition(".with_")[2]
    return Peer(name, module, tuple(adapter.NEEDS), dict(adapter.ENVIRONMENT), python)


def has(packages: Iterable[str]) -> bool:
    """Whether this interpreter has all of them; they are not imported."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def remedy(name: str) -> str:
    """What a user does about an absent framework."""
    adapter = find(name)
    if not adapter.PIP:
        return "see docs/compare.md"
    others = "".join(f", and {program} on the path" for program in getattr(adapter, "PROGRAMS", ()))
    return f"fluxion compare setup {name}{others}"


# ---------------------------------------------------------------------------------------------- set up


def folder() -> Path | None:
    """Where environments are made; None where the cache is off."""
    cache = cache_folder()
    return None if cache is None else cache / "compare"


def remembered() -> dict[str, str]:
    """The interpreters that were set up and are still there, by framework."""
    place = folder()
    file = place / "environments.json" if place else None
    if file is None or not file.is_file():
        return {}
    try:
        known = json.loads(file.read_bytes())
    except ValueError:
        known = None
    if not isinstance(known, dict) or not all(isinstance(path, str) for path in known.values()):
        raise DataError(f"{file}: expected the interpreters by framework. Delete it, and set them up again.")
    return {name: path for name, path in known.items() if Path(path).is_file()}


def setup(name: str, index_url: str | None = None) -> Path:
    """Make an environment with a framework by pip and remember it; the path of its interpreter.

    Errors: `ArgumentError` for a framework that pip cannot install, `DataError` where the cache is off or pip fails.
    """
    adapter, place = find(name), folder()
    if name.startswith(OWN):
        raise ArgumentError(f"{name} is what you are running; there is nothing to set up.")
    if not adapter.PIP:
        raise ArgumentError(f"{name} is not installed by pip. See docs/compare.md, and give its path by --env {name}=.")
    if place is None:
        raise DataError("an environment needs a place: FLUXION_CACHE is off. Set it to a folder.")
    packages = list(adapter.PIP)
    if index_url:
        packages = [*without_index(packages), "--index-url", index_url]
    target = place / name
    python = target / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "venv", "--clear", str(target)]
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *packages]
    for step in (command, install):
        if subprocess.run(step, stdout=sys.stderr).returncode:
            raise DataError(f"{name}: this failed: {' '.join(step)}")
    known = {**remembered(), name: str(python)}
    atomic_write(place / "environments.json", lambda file: file.write(json.dumps(known, indent=1).encode()))
    return python


def without_index(arguments: Iterable[str]) -> list[str]:
    """The arguments of pip without its index.

    >>> from fluxion.compare.environments import without_index
    >>> without_index(["torch", "--index-url", "https://example.org"])
    ['torch']
    """
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != "--index-url":
            kept.append(argument)
        skip = argument == "--index-url"
    return kept
