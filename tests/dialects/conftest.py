"""Programs written for Keras or Knet run under JAX's own settings; those for Keras are read as text, not imported."""

import jax
import pytest

from fluxion.dialects import keras

collect_ignore_glob = ["keras_programs/*"]


@pytest.fixture(autouse=True)
def as_a_user():
    jax.config.update("jax_numpy_rank_promotion", "allow")
    keras.backend.clear_session()  # layers are named anew
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")
