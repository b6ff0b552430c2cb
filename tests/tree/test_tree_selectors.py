"""Which paths a selector selects, and what it says when it selects none."""

import functools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.tree.selectors import describe, matches, select, steps

PATHS = [
    "encoder.weight",
    "encoder.bias",
    "layers[0].weight",
    "layers[0].bias",
    "layers[1].layers[2].weight",
    "layers[1].layers[2].bias",
    "layers[10].weight",
    "layers01.weight",
    "['head'].weight",
    "['a.b'][0]",
]


def chosen(selector, resolve=None):
    return [PATHS[i] for i in select(PATHS, selector, resolve=resolve)]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("encoder.weight", ["encoder.weight"]),
        ("encoder", ["encoder.weight", "encoder.bias"]),
        ("layers[0]", ["layers[0].weight", "layers[0].bias"]),
        ("layers[1]", ["layers[1].layers[2].weight", "layers[1].layers[2].bias"]),  # not layers[10]
        ("layers", [p for p in PATHS if p.startswith("layers[")]),  # not layers01
        ("layers[*].bias", ["layers[0].bias"]),  # one step only
        ("layers[*].*.*.bias", ["layers[1].layers[2].bias"]),
        ("layers[*].*[*].bias", ["layers[1].layers[2].bias"]),
        ("layers[*].layers[*].bias", ["layers[1].layers[2].bias"]),
        ("*.bias", ["encoder.bias"]),
        ("*.weight", ["encoder.weight", "layers01.weight", "['head'].weight"]),
        ("enc*.weight", ["encoder.weight"]),
        ("[*].weight", ["['head'].weight"]),
        ("layers[1*]", ["layers[1].layers[2].weight", "layers[1].layers[2].bias", "layers[10].weight"]),
        ("**", PATHS),
        ("**.bias", [p for p in PATHS if p.endswith("bias")]),
        ("**.layers[2]", ["layers[1].layers[2].weight", "layers[1].layers[2].bias"]),
        ("layers[1].**", ["layers[1].layers[2].weight", "layers[1].layers[2].bias"]),
        ("layers.**.weight", ["layers[0].weight", "layers[1].layers[2].weight", "layers[10].weight"]),
        ("**[0]", ["layers[0].weight", "layers[0].bias", "['a.b'][0]"]),
        ("['head']", ["['head'].weight"]),
        ('["head"].weight', ["['head'].weight"]),
        ("['a.b']", ["['a.b'][0]"]),
        (["encoder", "layers[0].bias"], ["encoder.weight", "encoder.bias", "layers[0].bias"]),
        (("**.bias", "encoder.bias"), [p for p in PATHS if p.endswith("bias")]),
        (lambda path: "10" in path, ["layers[10].weight"]),
        (functools.partial(lambda end, path: path.endswith(end), "bias"), [p for p in PATHS if p.endswith("bias")]),
    ],
)
def test_selects(selector, expected):
    assert chosen(selector) == expected


class Part:
    def __call__(self, x):
        return x


def test_objects_are_resolved_by_the_caller():
    part, relu, stranger = Part(), Part(), Part()

    def resolve(thing):
        return {id(part): ["layers[1]"], id(relu): ["layers[5]"]}.get(id(thing), [])

    assert chosen(part, resolve) == ["layers[1].layers[2].weight", "layers[1].layers[2].bias"]
    assert chosen([part, relu, "encoder.bias"], resolve)[0] == "encoder.bias"
    assert describe(part, resolve) == "layers[1]"
    with pytest.raises(fx.ArgumentError, match=r"layers\[5\] holds no parameters"):
        chosen(relu, resolve)
    with pytest.raises(
        fx.ArgumentError, match=r"type Part that is not part of the model.*The paths are encoder.weight,"
    ):
        chosen(stranger, resolve)
    with pytest.raises(fx.ArgumentError, match="type int"):
        chosen(3, resolve)


def test_the_whole_model_and_a_bare_array():
    assert select(["value"], "**") == [0]
    assert select(["a", "b[0]"], object(), resolve=lambda thing: [""]) == [0, 1]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("encodr", "'encodr' selects none of the paths. Did you mean 'encoder'?"),
        ("layers[0].wieght", "Did you mean 'layers[0].weight'?"),
        ("layers[7]", "selects none"),
        ("layers[0", "which cannot be read from '[0' on"),
        ("layers..bias", "cannot be read"),
        ("", "'' selects none"),
        (["encoder", "nothing"], "'nothing' selects none"),
        ([], "a list of 0 selectors selects nothing"),
        (lambda path: False, "selects no path"),
    ],
)
def test_nothing_selected(selector, message):
    with pytest.raises(fx.ArgumentError, match=re.escape(message)):
        select(PATHS, selector)


def test_the_list_of_paths_is_cut():
    with pytest.raises(fx.ArgumentError, match="and 88 more"):
        select([f"layers[{i}]" for i in range(100)], "nope")
    with pytest.raises(fx.ArgumentError, match="has no parameters"):
        select([], "**")


step = st.one_of(st.sampled_from(["w", "layers", "b1"]), st.integers(0, 12).map(lambda i: f"[{i}]"))


@settings(max_examples=100, deadline=None)
@given(st.lists(step, min_size=1, max_size=5), st.data())
def test_every_prefix_selects_and_wildcards_are_no_narrower(parts, data):
    def join(some):
        return functools.reduce(lambda text, s: text + (s if s[0] == "[" or not text else "." + s), some, "")

    path = join(parts)
    assert steps(path) == parts
    cut = data.draw(st.integers(1, len(parts)))
    assert matches(path, join(parts[:cut]))
    place = data.draw(st.integers(0, cut - 1))
    assert matches(path, join([*parts[:place], "**", *parts[place:cut]]))
    assert matches(path, join([*parts[:place], "**", *parts[place + 1 : cut]]))
    wild = "[*]" if parts[place][0] == "[" else "*"
    assert matches(path, join([*parts[:place], wild, *parts[place + 1 : cut]]))
    assert not matches(path, join([*parts, "more"]))
