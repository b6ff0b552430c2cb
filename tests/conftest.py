"""What every test runs under: strict promotion, two simulated CPU devices, no files in the user's cache folder.

Compiled programs are kept in `.xla_cache`, where the workers and the next run find them.
"""

import os
from pathlib import Path

import jax
import pytest

import fluxion as fx

os.environ["FLUXION_CACHE"] = "off"
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".xla_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def fixed_seed():
    fx.seed(0)


# Where what is tested is not XLA's work. It is in `ops` and `native`, and bits are compared in `train` and `transform`.
QUICK = ("cli", "compare", "data", "dialects", "io", "layers", "optim", "tree")


@pytest.fixture(autouse=True)
def quick_compilation(request):
    """Most tests compile without XLA's dearest optimizations, which would take most of their time."""
    jax.config.update("jax_disable_most_optimizations", request.path.parent.name in QUICK)


@pytest.fixture
def x64():
    """Run the test in float64."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
