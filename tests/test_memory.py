"""The allocator switch, by the page faults of processes of their own."""

import os
import subprocess
import sys

import pytest

import fluxion as fx
from fluxion.memory import SETTINGS, _has_glibc

FAULTS = """
import resource
import fluxion as fx
took_effect = fx.keep_memory() if {keep} else None
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jnp.outer(x, x) @ x / 4000)  # 64 MB on its way
x = jnp.ones(4000)
for i in range(50):
    if i == 40:  # the pool has grown to what it needs, some blocks in other places each time, by then
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = step(x).block_until_ready()
print(took_effect, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, fx.keep_memory())
"""


def run(keep, **environment):
    settings = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    done = subprocess.run(command, env=settings | environment, capture_output=True, text=True, check=True)
    took_effect, faults, late = done.stdout.split()
    return took_effect, int(faults), late


@pytest.mark.skipif(not _has_glibc(), reason="only glibc has the switch")
def test_memory_that_is_kept_is_not_asked_for_again():
    took_effect, kept, _ = run(True)
    _, given_back, late = run(False)
    assert took_effect == "True" and late == "False"  # other threads have pools of their own by then
    assert 4 * kept < given_back > 10 * 60e6 / os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("found", [ValueError, AttributeError, "musl 1.2", None])
def test_other_libraries_are_left_alone(found, monkeypatch):
    def confstr(name):
        if isinstance(found, type):
            raise found
        return found

    monkeypatch.setattr(os, "confstr", confstr, raising=False)
    monkeypatch.setattr("ctypes.CDLL", None)  # not called
    assert fx.keep_memory() is False


def test_the_benchmarks_have_the_same_setting(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), "..", "benchmarks"))
    board = pytest.importorskip("board")
    assert board.ALLOCATORS["tuned"] == {name: str(value) for name, _, value in SETTINGS}
