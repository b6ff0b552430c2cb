"""Writes down what Keras' layers compute: `KERAS_BACKEND=jax python tests/dialects/record_keras_layers.py [FILE]`.

The numbers in `keras_layers.npz` were made with Keras 3.15.1 on JAX 0.10.2, on a CPU.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from keras_layer_cases import CASES, Case, argument_of, data_of, plain, weights_of

FILE = Path(__file__).with_name("keras_layers.npz")


def measured(case: Case) -> dict[str, np.ndarray]:
    """Of a layer of Keras': the facts about it, its outputs, and the gradients of the sum of the outputs' squares."""
    import keras  # here, because tests are collected where it is not installed

    layer, data = case.make(keras.layers), data_of(case)
    layer(*argument_of(case, data), **case.call)
    names = [weight.name for weight in layer.weights]
    shapes = [tuple(weight.shape) for weight in layer.weights]
    layer.set_weights(weights_of(shapes, names))
    takes_training = "training" in inspect.signature(layer.call).parameters

    def run(trainable: Any, inputs: Any, training: bool) -> Any:
        given = iter(inputs)
        arrays = [next(given) if x.dtype == np.float32 else x for x in data]
        options = case.call | ({"training": training} if takes_training else {})
        others = [v.value for v in layer.non_trainable_variables]
        outputs, others = layer.stateless_call(trainable, others, *argument_of(case, arrays), **options)
        outputs = jax.tree.leaves(outputs)
        floats = [y for y in outputs if jnp.issubdtype(y.dtype, jnp.floating)]
        return sum((jnp.sum(jnp.square(y)) for y in floats), jnp.zeros(())), (outputs, others)

    trainable = [v.value for v in layer.trainable_variables]
    inputs = [jnp.asarray(x) for x in data if x.dtype == np.float32]
    found: dict[str, Any] = {}
    for mode in ("inference",) if case.random else ("inference", "training"):
        gradients = jax.jit(jax.grad(run, (0, 1), has_aux=True), static_argnums=2)
        (of_weights, of_inputs), (outputs, others) = gradients(trainable, inputs, mode == "training")
        found |= {f"{mode}/output/{i}": np.asarray(y) for i, y in enumerate(outputs)}
        if mode == "training":
            found |= {f"gradient/weight/{i}": g for i, g in enumerate(of_weights)}
            found |= {f"gradient/input/{i}": g for i, g in enumerate(of_inputs)}
            found |= {f"state/{i}": v for i, v in enumerate(others) if v.dtype == np.float32}
    for key in [key for key in found if key.startswith("training/")]:
        if np.array_equal(found[key], found[key.replace("training", "inference")]):
            del found[key]  # as in inference
    layer(*argument_of(case, data), **case.call)
    found["losses"] = np.array([float(loss) for loss in layer.losses], np.float32)
    shape = [(None, *x.shape[1:]) for x in data]
    facts = {
        "names": names,
        "shapes": shapes,
        "trainable": [bool(weight.trainable) for weight in layer.weights],
        "output_shape": layer.compute_output_shape(*argument_of(case, shape)),
        "config": plain(layer.get_config()) if case.config else None,
    }
    return {key: np.asarray(value) for key, value in found.items()} | {"facts": np.array(json.dumps(facts))}


def record() -> dict[str, np.ndarray]:
    """All cases, their numbers under `case/...`."""
    jax.config.update("jax_disable_most_optimizations", True)
    return {f"{name}/{key}": value for name, case in CASES.items() for key, value in measured(case).items()}


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1] if len(sys.argv) > 1 else FILE, **record())
