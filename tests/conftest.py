"""What every test runs under: strict promotion, two simulated CPU devices, no files in the user's cache folder."""

import os

import jax
import pytest

import fluxion as fx

os.environ["FLUXION_CACHE"] = "off"
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def fixed_seed():
    fx.seed(0)


@pytest.fixture
def x64():
    """Run the test in float64."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
