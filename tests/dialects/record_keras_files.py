"""Writes keras_files.zip with Keras 3.15.1: KERAS_BACKEND=jax python record_keras_files.py [path of the archive].

In it are files as Keras saves them, and the outputs of their models; test_keras_files.py reads them.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import jax
import numpy as np

HERE = Path(__file__).parent


def main(path):
    import keras
    import keras_file_models

    with tempfile.TemporaryDirectory() as folder:
        for name, make in keras_file_models.MODELS.items():
            keras.utils.clear_session()
            model = make(keras)
            random = np.random.RandomState(0)
            for weight in model.weights:
                weight.assign(random.uniform(-1, 1, weight.shape) ** (2 if "variance" in weight.path else 1))
            outputs = jax.tree.leaves(model(keras_file_models.inputs(name)))
            np.savez(f"{folder}/{name}.npz", *map(np.asarray, outputs))
            model.save_weights(f"{folder}/{name}.weights.h5")
            if name != "subclassed":
                model.save(f"{folder}/{name}.keras")
                model.save(f"{folder}/{name}.h5")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(Path(folder).iterdir()):
                archive.write(file, file.name)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HERE / "keras_files.zip")
