"""The pages run as a reader would run them: JAX's own settings, an empty folder, no cache."""

import jax
import pytest

collect_ignore = ["make_reference.py"]  # no page


@pytest.fixture(autouse=True)
def as_a_reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the files that a page writes
    monkeypatch.setenv("FLUXION_CACHE", "off")
    before = jax.config.jax_numpy_rank_promotion, jax.config.jax_traceback_filtering
    jax.config.update("jax_numpy_rank_promotion", "allow")
    jax.config.update("jax_traceback_filtering", "off")  # else JAX adds a note to every error, which doctest reads
    yield
    jax.config.update("jax_numpy_rank_promotion", before[0])
    jax.config.update("jax_traceback_filtering", before[1])
