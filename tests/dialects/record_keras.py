"""Run the programs of `keras_programs` under Keras and write the numbers that each of them leaves in `result`.

KERAS_BACKEND=jax FLUXION_DATA=... python tests/dialects/record_keras.py tests/dialects/keras_programs/recorded.json
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(file: Path, text: str) -> list[float]:
    """The `result` of a program's text."""
    names = {"__name__": file.stem}
    exec(compile(text, str(file), "exec"), names)
    return [float(value) for value in names["result"]]


def main(out: str) -> None:
    import keras

    sys.path.insert(0, str(HERE))
    found = {}
    for file in sorted((HERE / "keras_programs").glob("*.py")):
        found[file.stem] = [float(f"{value:.9g}") for value in run(file, file.read_text())]
    versions = {"keras": keras.__version__, "backend": keras.backend.backend()}
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in [("versions", versions), *found.items()]]
    Path(out).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    main(sys.argv[1])
