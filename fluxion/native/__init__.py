"""The optional C++ library: finding it, loading it once, and saying why it is not used.

It is compiled when Fluxion is installed where there is a C++ compiler, and left out where not; everything works without
it, only slower. `FLUXION_NATIVE=off` in the environment leaves it unused, `FLUXION_NATIVE=avx2` keeps it from AVX-512.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import jax

FUNCTIONS = (
    "fluxion_conv_forward",
    "fluxion_conv_biased",
    "fluxion_conv_input_gradient",
    "fluxion_conv_weight_gradient",
    "fluxion_max_pool",
    "fluxion_max_pool_pick",
    "fluxion_max_pool_place",
    "fluxion_lstm_forward",
    "fluxion_lstm_back",
)


def available() -> bool:
    """Whether the library is there, fits this processor and this jaxlib, and is not switched off."""
    return os.environ.get("FLUXION_NATIVE") != "off" and not _load()[1]


def takes(*arrays: jax.Array) -> bool:
    """Whether the kernels compute with these arrays: whole ones of float32, where the library is used at all."""
    float32 = all(array.dtype == "float32" for array in arrays)
    # Inside `shard_map` an array is one device's part of a larger one.
    return float32 and not any(getattr(jax.typeof(array), "vma", None) for array in arrays) and available()


def status() -> str:
    """The instruction set in use, or why the library is not used: a few words for `fluxion info`."""
    if os.environ.get("FLUXION_NATIVE") == "off":
        return "off (FLUXION_NATIVE)"
    processor, problem = _load()
    return f"not available: {problem}" if problem else processor


@functools.cache
def _load() -> tuple[str, str]:
    """The processor's instruction set, and what stands against using the library (empty where nothing does)."""
    files = sorted(Path(__file__).parent.glob("_kernels*.so"))
    if not files:
        return "", "it was not compiled when Fluxion was installed (no C++ compiler, or an unknown processor)"
    try:
        library = ctypes.CDLL(str(files[0]))
        library.fluxion_processor.restype = ctypes.c_char_p
        processor = library.fluxion_processor().decode()
        if not processor:
            return "", "the processor has neither AVX2 nor AVX-512"
        for name in FUNCTIONS:
            # XLA compares its interface with the one the library was compiled for, and raises if they do not fit.
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    except Exception as error:  # another machine's library, another jaxlib: the plain form is as right
        return "", f"{files[0].name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return processor, ""
