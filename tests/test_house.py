"""The house rules: imports run downwards, importing is cheap, every public name is documented and shown by example."""

import ast
import doctest
import inspect
import pathlib
import subprocess
import sys

import pytest

import fluxion as fx

PACKAGE = pathlib.Path(fx.__file__).parent
ROOT = PACKAGE.parent
ORDER = [
    "errors",
    "version",
    "folders",
    "memory",
    "files",
    "drawing",
    "interrupts",
    "native",
    "tree",
    "transform",
    "ops",
    "layers",
    "optim",
    "data",
]
ORDER += ["models", "io", "train", "dialects", "compare", "cli"]


def imported_parts(path):
    """The parts of the house that a source file imports, functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fluxion."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("fluxion."))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return
    above = [other for other in imported_parts(path) if ORDER.index(other) > ORDER.index(part)]
    assert not above, f"{part} imports {above}, which stand above it"


def test_import_loads_no_heavy_library():
    heavy = ("optax", "polars", "rich", "matplotlib", "typer", "PIL")
    code = f"import sys, fluxion; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_import_starts_no_device_and_sets_no_option():
    code = (
        "import jax; before = dict(jax.config.values); import fluxion; "
        "from jax._src.xla_bridge import backends_are_initialized; "
        "print(backends_are_initialized(), before == dict(jax.config.values))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "True"]


def documented(name):
    value = getattr(fx, name)
    return value if callable(value) else None


@pytest.mark.parametrize("name", [name for name in fx.__all__ if not name.startswith("_")])
def test_public_name_has_a_docstring_with_an_example(name):
    value = getattr(fx, name)
    assert inspect.getdoc(value), f"fx.{name} has no docstring"
    if inspect.ismodule(value):
        return
    own = value.__doc__ or ""
    examples = doctest.DocTestParser().get_examples(own)
    assert examples, f"fx.{name} has no doctest"


def test_reference_is_up_to_date():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import make_reference
    finally:
        sys.path.pop(0)
    assert make_reference.text() == (ROOT / "docs" / "reference.md").read_text(), "run `make reference`"
