"""Programs written for Keras or Knet run under JAX's own settings; those for Keras are read as text, not imported."""

import jax
import pytest

from fluxion.dialects import keras

collect_ignore_glob = ["keras_programs/*"]


@pytest.fixture(autouse=True, scope="package")
def promotion_as_in_numpy():
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def layers_are_named_anew():
    keras.backend.clear_session()
