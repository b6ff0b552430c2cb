"""What counts as a model: every sort of object, its paths, its copies, and writing to it in place."""

import collections
import copy
import dataclasses
import enum
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxion as fx
from fluxion.tree import load_state, scan, set_trainables, with_trainables

ONES = jnp.ones(2)


def ones():
    return jnp.ones(2)


@dataclasses.dataclass
class Plain:
    w: object
    n: int = 3

    def __call__(self, x):
        return x * self.w


@dataclasses.dataclass(frozen=True)
class Frozen:
    w: object

    def __call__(self, x):
        return x * self.w


@dataclasses.dataclass(slots=True)
class Slots:
    w: object

    def __call__(self, x):
        return x * self.w


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    w: object

    def __call__(self, x):
        return x * self.w


class Private:
    __slots__ = ("__w",)

    def __init__(self, w):
        self.__w = w

    def __call__(self, x):
        return x * self.__w


class Callable:
    def __init__(self, w):
        self.w = w

    def __call__(self, x):
        return x * self.w


class Holder:
    """No layer, no dataclass, not callable."""

    def __init__(self, w):
        self.w = w

    def apply(self, x):
        return x * self.w


class MyList(list):
    pass


class MyDict(dict):
    __getattr__ = dict.get


Named = collections.namedtuple("Named", "first second")


def closure(w):
    return lambda x: x * w


def shared_cell(w):
    def inner(x):
        return x * w

    return [lambda x: inner(x), lambda x: w + x]


def recursive(w):
    def power(x, n=2):
        return x if n == 0 else power(x, n - 1) * w

    return power


def with_defaults(w):
    def f(x, *, scale=w):
        return x * scale

    return f


def with_attribute(w):
    def f(x):
        return x * f.w

    f.w = w
    return f


SORTS = {
    "layer": (lambda w: fx.Scale(2), ["scale", "bias"]),
    "param": (fx.Param, ["value"]),
    "dataclass": (Plain, ["w"]),
    "frozen": (Frozen, ["w"]),
    "slots": (Slots, ["w"]),
    "frozen slots": (FrozenSlots, ["w"]),
    "private slot": (Private, ["_Private__w"]),
    "callable": (Callable, ["w"]),
    "holder": (Holder, ["w"]),
    "bound method of a holder": (lambda w: Holder(w).apply, ["w"]),
    "bound method": (lambda w: Plain(w).__call__, ["w"]),
    "list": (lambda w: [w, "name"], ["[0]"]),
    "list of a class": (lambda w: MyList([w]), ["[0]"]),
    "tuple": (lambda w: [(1, w)], ["[0][1]"]),
    "named tuple": (lambda w: [Named(w, 1)], ["[0].first"]),
    "dict": (lambda w: {"head": w, 3: w + 1}, ["['head']", "[3]"]),
    "dict of a class": (lambda w: MyDict(w=w), ["['w']"]),
    "defaultdict": (lambda w: collections.defaultdict(list, {"a": [w]}), ["['a'][0]"]),
    "deque": (lambda w: collections.deque([w], maxlen=3), ["[0]"]),
    "namespace": (lambda w: types.SimpleNamespace(w=w), ["w"]),
    "closure": (closure, ["w"]),
    "closures that share a cell": (shared_cell, ["[0].inner.w"]),
    "recursive function": (recursive, ["w"]),
    "keyword default": (with_defaults, ["scale"]),
    "default": (lambda w: lambda x, scale=w: x * scale, ["scale"]),
    "function attribute": (with_attribute, ["w"]),
    "partial": (lambda w: functools.partial(jnp.multiply, w), ["[0]"]),
    "nested partial": (
        lambda w: functools.partial(functools.partial(lambda a, x, k: a * x * k, w), k=w + 1),
        ["[0]", "['k']"],
    ),
    "a library's pytree": (lambda w: [jax.tree_util.Partial(jnp.add, w)], ["[0][0]"]),
    "optimizer state": (lambda w: [optax.TraceState({"a": w})], ["[0].trace['a']"]),
    "numpy array": (lambda w: [np.ones(2, np.float32)], ["[0]"]),
    "bfloat16 of numpy": (lambda w: [np.asarray(jnp.ones(2, jnp.bfloat16))], ["[0]"]),
    "nested": (
        lambda w: {"a": [Frozen(closure(w)), (Plain([w + 1]), functools.partial(Callable(w + 2), 1))]},
        ["['a'][0].w.w", "['a'][1][0].w[0]", "['a'][1][1].func.w"],
    ),
}


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_of_model(sort):
    make, paths = SORTS[sort]
    model = make(ones())
    found = fx.trainables(model, path=True)
    assert [path for path, _ in found] == paths
    # A copy holds other arrays, and the original the old ones.
    doubled = fx.fmap(lambda a: a * 2, model)
    assert type(doubled) is type(model)
    for (_, before), (_, now), double in zip(
        found, fx.trainables(model, path=True), fx.trainables(doubled), strict=True
    ):
        assert before is now
        np.testing.assert_array_equal(double, 2 * np.asarray(before, np.float32))
    # In place, by the order of trainables.
    set_trainables(model, [a * 3 for _, a in found])
    for array, (_, before) in zip(fx.trainables(model), found, strict=True):
        np.testing.assert_array_equal(np.asarray(array, np.float32), 3 * np.asarray(before, np.float32))
    assert [path for path, _ in fx.trainables(with_trainables(model, fx.trainables(model)), path=True)] == paths


@pytest.mark.parametrize("sort", [s for s in SORTS if s not in ("numpy array", "bfloat16 of numpy")])
def test_every_sort_has_gradients_of_its_own_structure(sort):
    make, paths = SORTS[sort]
    model = make(ones())
    weights = [3.0 + i for i in range(len(paths))]

    def loss(m):
        return sum(k * (a**2).sum() for k, a in zip(weights, fx.trainables(m), strict=True))

    (grads,) = fx.gradient(loss, model)
    by_path = dict(zip(scan(grads).paths, scan(grads).leaves, strict=True))
    for k, (path, array) in zip(weights, fx.trainables(model, path=True), strict=True):
        np.testing.assert_array_equal(by_path[path], 2 * k * array)


def test_static_parts_survive_a_copy():
    copied = fx.fmap(
        lambda a: a, [collections.defaultdict(int, {"a": ONES}), collections.deque([ONES], maxlen=2), MyList()]
    )
    assert copied[0]["unknown"] == 0 and copied[1].maxlen == 2 and type(copied[2]) is MyList


def test_foreign_and_single_objects_are_left_alone():
    class Color(enum.Enum):
        RED = 1

    class Open:
        def __init__(self):
            self.closed = 0

        def __del__(self):
            self.closed += 1

    handle, structured = Open(), np.zeros(2, [("a", float)])
    copied = fx.fmap(lambda a: a, [Color.RED, handle, structured, ONES, int])
    assert copied[0] is Color.RED and copied[1] is handle and copied[2] is structured and copied[4] is int
    assert len(fx.trainables([structured, np.array(["a"]), ONES])) == 1


def test_paths_are_unique_even_where_keys_print_alike():
    class Key:
        def __repr__(self):
            return "key"

    paths = [path for path, _ in fx.trainables({Key(): ones(), Key(): ones()}, path=True)]
    assert paths == ["[key]", "[key]~"]


def test_integers_and_buffers_are_no_parameters():
    class Counting(fx.Layer):
        buffers = ("mean", "inner")

        def __init__(self):
            self.w, self.mean, self.count = ones(), ones(), jnp.array(3)
            self.inner = fx.Scale(2)
            self.key = jax.random.key(0)

    assert [path for path, _ in fx.trainables(Counting(), path=True)] == ["w"]
    assert list(fx.state(Counting())) == ["w", "mean", "count", "inner.scale", "inner.bias", "key"]


def test_a_subclass_adds_to_the_buffers_of_its_base():
    class More(fx.BatchNorm):
        buffers = "extra"

        def __init__(self):
            super().__init__(3)
            self.extra = jnp.ones(3)

    assert [path for path, _ in fx.trainables(More(), path=True)] == ["scale", "bias"]


def test_an_attribute_called_buffers_may_be_anything():
    class Other(Callable):
        def buffers(self):
            return 1

    assert len(fx.trainables(Other(ones()))) == 1


def test_long_containers_of_plain_values_are_one_value():
    vocabulary = {f"word{i}": i for i in range(1000)}
    graph = scan([vocabulary, ones()])
    assert len(graph.nodes) == 2
    assert fx.fmap(lambda a: a, [vocabulary, ones()])[0] == vocabulary


def test_deep_nesting():
    f = closure(ones())
    for _ in range(150):
        f = (lambda inner: lambda x: inner(x))(f)
    assert fx.gradient(lambda x: f(x).sum(), 1.0)[0] == 2.0


# ------------------------------------------------------------------------------------------------------ ties


def tied_models():
    w, layer = ones(), fx.Dense(2, 2, bias=False)
    return {
        "array": [w, {"again": (w,)}],
        "layer": fx.Chain(layer, fx.relu, layer),
        "closures": shared_cell(w),
        "array in closures": [closure(w), closure(w)],
        "array in layers": [Plain(w), Frozen([w])],
    }


@pytest.mark.parametrize("name", tied_models())
def test_tied_stays_tied(name):
    model = tied_models()[name]

    def is_tied(m):
        return len(fx.trainables(m)) == len(fx.state(m)) == 1

    assert is_tied(model)
    for transform in (
        lambda m: fx.fmap(jnp.sin, m),
        fx.f32,
        fx.bf16,
        fx.cpu,
        fx.gpu,
        lambda m: fx.device(m, jax.devices()[1]),
        lambda m: fx.destructure(m)[1](fx.destructure(m)[0]),
        lambda m: fx.gradient(lambda m: fx.trainables(m)[0].sum(), m)[0],
        *([] if "closures" in name else [copy.deepcopy]),
    ):
        assert is_tied(transform(model))
    opt = fx.setup(fx.Adam(0.1), model)
    fx.update(opt, model, fx.gradient(lambda m: fx.trainables(m)[0].sum(), model)[0])
    assert is_tied(model)
    load_state(model, {path: array * 0 for path, array in fx.state(model).items()})
    assert is_tied(model) and float(jnp.abs(fx.trainables(model)[0]).sum()) == 0
    fx.jit(lambda: [set_trainables(model, [fx.trainables(model)[0] + 1])])()
    assert is_tied(model) and float(fx.trainables(model)[0].ravel()[0]) == 1


def test_the_gradient_of_a_tied_array_is_the_sum():
    w = ones()
    (grads,) = fx.gradient(lambda m: (2 * m[0] + 3 * m[1]["again"]).sum(), [w, {"again": w}])
    assert grads[0] is grads[1]["again"] and grads[0].tolist() == [5.0, 5.0]
