"""The contract over the whole catalogue: a layer without a case fails the suite.

The cases are in `cases_*.py`, a file per family; each has a table `CASES` from layer classes to lists of `case(...)`.
"""

import importlib
from pathlib import Path

import jax.numpy as jnp
import pytest
from check_layer import check_layer

import fluxion.layers as catalogue
from fluxion.tree.layer import Layer

NAMES = {"add": jnp.add}  # no function of the library: what prints with it cannot be loaded
FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
CASES = {layer: cases for family in FAMILIES for layer, cases in importlib.import_module(family).CASES.items()}


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{cls.__name__}{i}") for cls in CASES for i, case in enumerate(CASES[cls])]
)
def test_contract(case, x64, tmp_path):
    case = dict(case)
    check_layer(case.pop("make"), *case.pop("inputs"), namespace=NAMES, folder=tmp_path, **case)


def test_every_layer_has_a_case():
    layers = {value for value in vars(catalogue).values() if isinstance(value, type) and issubclass(value, Layer)}
    public = {layer for layer in layers if layer.__name__ in catalogue.__all__}
    assert public and public <= set(CASES), f"without a case: {sorted(c.__name__ for c in public - set(CASES))}"
