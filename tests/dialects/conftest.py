"""Keras' programs add vectors to matrices, as numpy does."""

import jax
import pytest

from fluxion.dialects import keras


@pytest.fixture(autouse=True, scope="package")
def numpy_promotion():
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def first_names():
    keras.backend.clear_session()
