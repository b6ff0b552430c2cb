"""The native kernels, compiled where that is possible and left out where it is not; all else is in pyproject.toml."""

import importlib.util
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

FOLDER = Path("fluxion/native")


def kernels():
    """The library as an extension that may fail to build, or nothing where it is not written for the machine."""
    jaxlib = importlib.util.find_spec("jaxlib")
    x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32"
    if jaxlib is None or not x86:
        return []
    return [
        Extension(
            "fluxion.native._kernels",
            sources=[str(path) for path in sorted(FOLDER.glob("*.cpp"))],
            depends=[str(path) for path in sorted(FOLDER.glob("*.h"))],
            include_dirs=[str(Path(jaxlib.submodule_search_locations[0]) / "include")],
            extra_compile_args=["-std=c++17", "-O3", "-g0", "-w"],
            language="c++",
            optional=True,
        )
    ]


setup(ext_modules=kernels())
