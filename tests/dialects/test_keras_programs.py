"""Programs written for Keras 3 run here with only the import line changed, and give Keras' numbers.

Losses of the first epochs from equal weights, metrics, predictions. What Keras gives was recorded by `record_keras.py`;
where Keras is installed, `make test-keras` runs it again.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import record_keras

HERE = Path(__file__).parent
PROGRAMS = sorted((HERE / "keras_programs").glob("*.py"))
KERAS = json.loads((HERE / "keras_programs" / "recorded.json").read_text())

needs_data = pytest.mark.skipif("FLUXION_DATA" not in os.environ, reason="FLUXION_DATA is not set")


def under_fluxion(text: str) -> str:
    """The program with its imports of Keras changed, and nothing else."""
    text = re.sub(r"^import keras$", "from fluxion.dialects import keras", text, flags=re.MULTILINE)
    return re.sub(r"^from keras import", "from fluxion.dialects.keras import", text, flags=re.MULTILINE)


def test_there_are_programs_enough():
    assert len(PROGRAMS) >= 15 and {file.stem for file in PROGRAMS} == set(KERAS) - {"versions"}


# The others run with `make test-keras`: compiling them takes a minute.
OFTEN = ("mlp", "custom_loop", "custom_layer", "callbacks", "several_inputs", "text_lstm", "saved", "train_step")


def every_program():
    return [pytest.param(f, id=f.stem, marks=() if f.stem in OFTEN else pytest.mark.keras) for f in PROGRAMS]


@needs_data
@pytest.mark.parametrize("file", every_program())
def test_a_keras_program_gives_keras_numbers(file):
    text = under_fluxion(file.read_text())
    assert "import keras" in text and not re.search(r"^(import|from) keras", text, flags=re.MULTILINE)
    np.testing.assert_allclose(record_keras.run(file, text), KERAS[file.stem], rtol=2e-4, atol=2e-5)


@needs_data
@pytest.mark.keras
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")
def test_the_recorded_numbers_are_keras_own(tmp_path):
    out = tmp_path / "recorded.json"
    command = [sys.executable, str(HERE / "record_keras.py"), str(out)]
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    subprocess.run(command, env=environment, check=True, timeout=900)
    found = json.loads(out.read_text())
    for file in PROGRAMS:
        np.testing.assert_allclose(found[file.stem], KERAS[file.stem], rtol=2e-4, atol=2e-5, err_msg=file.stem)
