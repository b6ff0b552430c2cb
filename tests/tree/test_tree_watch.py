"""What is remembered of a call against a fresh walk, whatever changes between calls."""

import functools
import gc
import random
import threading
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.tree.walk import program_key, walked_call
from fluxion.tree.watch import Memory, Outline, UnwatchableError, watch_call


class Thing(fx.Layer):
    factor = 1
    buffers = ("state",)

    def __call__(self, x):
        return helped(x) * self.factor


class Other(Thing):
    pass


class Slotted:
    __slots__ = ("a", "b")
    __fluxion_node__ = True


class Plain:
    scale = 2.0

    @property
    def doubled(self):
        return self.scale * SETTING

    def method(self, x):
        return x


SETTING = 1


def helped(x):
    return x * SETTING


SOURCE = """
def reading(x): return value(x) + other + len(x) + net.inner
def storing(x):
    global count
    count = x
def outer(a, b):
    def inner(x, k=1, *, flag=None): return a(x), b, value
    def rebinding(x):
        nonlocal b
        b = x
    return inner, rebinding
"""


class World:
    """Objects of all sorts, wired at random, and whatever may be done to them."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.arrays = [jnp.ones(2), jnp.zeros(3), jnp.arange(2), np.ones(2), np.arange(3), np.array(["a"])]
        self.module = types.ModuleType("users_net")
        self.space = {"__name__": "user", "net": self.module}
        exec(SOURCE, self.space)
        inner, rebinding = self.space["outer"](abs, 2.0)
        self.things = [Thing(), Thing(), Other(), fx.Dense(2, 2), fx.Chain(fx.Dense(2, 2), Thing())]
        self.objects = [*self.things, Plain(), types.SimpleNamespace(a=1), Slotted(), fx.Param(jnp.ones(2))]
        self.lists = [[], [1, 2.0], list(range(300))]
        self.dicts = [{}, {"a": 1}, dict.fromkeys(range(300), 0)]
        self.functions = [inner, rebinding, self.space["reading"], self.space["storing"], helped]
        self.partials = [functools.partial(inner, 1, k=2)]
        plain = [0, 1, True, 0.0, -0.0, "a", None, (1, "b"), abs, jax.nn.relu, {1}, 1.5]
        self.nodes = [*self.objects, *self.lists, *self.dicts, *self.functions, *self.partials]
        self.methods = [self.objects[5].method]
        self.pool = [*self.nodes, *plain, *self.methods, *self.arrays]
        for _ in range(8):
            self.change()

    def value(self):
        pick = self.random.choice
        made = self.random.randrange(8)
        if made == 0:
            return (pick(self.pool), pick(self.pool))
        if made < 3:
            return pick(self.arrays)
        if made == 3:
            return jnp.full(2, self.random.random())
        return pick(self.pool)

    def change(self):
        pick, value = self.random.choice, self.value()
        change = pick([getattr(self, name) for name in dir(self) if name.startswith("do_")])
        change(pick, value)

    def do_attribute(self, pick, value):
        setattr(pick([*self.things, self.objects[5], self.objects[6]]), pick(["a", "state", "weight", "layers"]), value)

    def do_remove_attribute(self, pick, _):
        thing = pick(self.things)
        if vars(thing):
            vars(thing).pop(pick(list(vars(thing))))

    def do_reorder(self, pick, _):
        inside = pick([*map(vars, self.things), *self.dicts])
        if inside:
            key = pick(list(inside))
            inside[key] = inside.pop(key)

    def do_other_dict(self, pick, _):
        thing = pick(self.things)
        thing.__dict__ = dict(vars(thing))

    def do_other_class(self, pick, _):
        pick(self.things[:3]).__class__ = pick([Thing, Other])

    def do_class_value(self, pick, value):
        setattr(pick([Thing, Other, Plain]), pick(["factor", "scale"]), value)

    def do_slot(self, pick, value):
        name = pick(["a", "b"])
        if hasattr(self.objects[7], name) and pick([True, False]):
            delattr(self.objects[7], name)
        else:
            setattr(self.objects[7], name, value)

    def do_param(self, pick, _):
        self.objects[8].value = pick(self.arrays[:5])

    def do_list(self, pick, value):
        items = pick(self.lists)
        action = pick(["append", "pop", "set", "reverse", "move"])
        if action == "append" or not items:
            items.append(value)
        elif action == "pop":
            items.pop()
        elif action == "set":
            items[self.random.randrange(len(items))] = value
        elif action == "reverse":
            items.reverse()
        else:
            pick(self.lists).insert(0, items.pop())

    def do_dict(self, pick, value):
        pick(self.dicts)[pick(["a", "b", 1])] = value

    def do_cell(self, pick, value):
        pick(pick(self.functions[:2]).__closure__).cell_contents = value

    def do_global(self, pick, value):
        self.space[pick(["value", "other", "count", "len", "net"])] = value

    def do_module(self, pick, value):
        self.space["net"] = self.module
        self.module.inner = value

    def do_own_global(self, pick, value):
        globals()["SETTING"] = value

    def do_function(self, pick, value):
        function = pick(self.functions[:4])
        action = pick(["defaults", "kwdefaults", "kwdefault", "attribute", "code"])
        if action == "defaults":
            self.functions[0].__defaults__ = (value,)
        elif action == "kwdefaults":
            self.functions[0].__kwdefaults__ = {"flag": value}
        elif action == "kwdefault":
            self.functions[0].__kwdefaults__["flag"] = value
        elif action == "attribute":
            function.note = value
        else:
            a, b = self.functions[2:4]
            a.__code__, b.__code__ = b.__code__, a.__code__

    def do_partial(self, pick, value):
        part = self.partials[0]
        if pick([True, False]):
            part.keywords["k"] = value
        else:
            part.__setstate__((part.func, (value,), part.keywords, {}))

    def do_array_in_place(self, pick, _):
        array = pick(self.arrays[3:5])
        array[0] += 1

    def call(self):
        """A function and its arguments, some of them new, as in a loop."""
        pick = self.random.choice
        inner, _ = self.space["outer"](self.fixed, self.objects[0])
        function = [inner, self.functions[0], self.functions[2], self.things[4], self.methods[0], self.partials[0]][
            self.choice
        ]
        batch = pick([jnp.ones(2), np.ones(2)])
        args = [(batch,), (self.objects[1], batch), (self.things[3], [batch, {"a": jnp.ones(1)}], 3), (batch, batch)]
        return function, args[self.choice_of_args]


def check(memory, function, args):
    """Whether the call was known; if so, as a walk finds it now."""
    fresh, found = walked_call(function, args)
    try:
        outline = Outline(function, args)
    except UnwatchableError:
        return False
    known = memory.find(outline, ())
    if known is None:
        memory.keep(outline, (), program_key(fresh), lambda: watch_call(function, args, fresh, found, outline))
        return False
    graph, leaves = known.graph(), known.leaves
    assert known.program == program_key(fresh) == program_key(graph)
    assert len(leaves) == len(fresh.leaves) and all(a is b for a, b in zip(leaves, fresh.leaves, strict=True))
    assert graph.roles == fresh.roles and graph.paths == fresh.paths
    assert all(a.original is b.original and a.live == b.live for a, b in zip(graph.nodes, fresh.nodes, strict=True))
    return True


@pytest.fixture
def restored():
    kept = [(cls, dict(vars(cls))) for cls in (Thing, Other, Plain)]
    yield
    globals()["SETTING"] = 1
    for cls, before in kept:
        for name in ("factor", "scale"):
            if name in before:
                setattr(cls, name, before[name])
            elif name in vars(cls):
                delattr(cls, name)


@pytest.mark.parametrize("seed", range(24))
def test_what_is_remembered_is_what_a_walk_finds(seed, restored):
    world = World(seed)
    world.choice, world.choice_of_args, world.fixed = seed % 6, seed // 6 % 4, abs
    memory = Memory(8)
    for _ in range(40):
        check(memory, *world.call())
        for known in memory.known.values():
            known.useless = 0  # try again however often it changed
        for _ in range(world.random.randrange(3)):
            world.change()


def known_calls(function, *calls):
    memory = Memory(8)
    return [check(memory, function, args) for args in calls]


def test_other_arrays_are_the_same_call():
    model, x = fx.Chain(fx.Dense(2, 2, fx.relu), fx.BatchNorm(2)), jnp.ones(2)
    memory = Memory(8)
    assert not check(memory, abs, (model, x)) and check(memory, abs, (model, x + 1))
    model[0].weight = model[0].weight * 2
    model[1].mean = np.zeros(2, np.float32)
    assert not check(memory, abs, (model, x)) and check(memory, abs, (model, x))  # numpy's arrays are another type
    model[0].bias = model[0].bias.astype(jnp.bfloat16)
    assert not check(memory, abs, (model, x)) and check(memory, abs, (model, x))
    model[0].bias = model[1].bias  # tied
    assert not check(memory, abs, (model, x)) and check(memory, abs, (model, x))
    model[0].bias = model[1].bias = jnp.ones(2)
    assert check(memory, abs, (model, x))
    assert not check(memory, abs, ((model, model[0].bias),))


def test_lambdas_made_anew_are_the_same_call():
    model = fx.Dense(2, 2)
    memory = Memory(8)

    def loss(factor):
        return lambda x, k=2: model(x) * factor * k

    assert [check(memory, loss(f), ()) for f in (abs, abs, 2, 2, True, True)] == [False, True] * 3
    for array, known in [(jnp.ones(2), False), (jnp.zeros(2), True), (model.bias, False)]:
        assert check(memory, loss(array), ()) == known


def test_one_array_or_one_object_given_twice_is_another_call():
    x, y, a, b = jnp.ones(2), jnp.zeros(2), fx.Dense(2, 2), fx.Dense(2, 2)
    assert known_calls(abs, ([x, y],), ([x, y],), ([x, x],)) == [False, True, False]
    assert known_calls(abs, ([[x], [y]],), ([[x], [y]],), ([[x]] * 2,)) == [False, True, False]
    assert known_calls(abs, ([a, x],), ([a, y],), ([a, a.bias],)) == [False, True, False]
    assert known_calls(abs, (a, [b, x]), (a, [b, x]), (a, [b, b.bias])) == [False, True, False]
    assert known_calls(lambda m: b, (a,), (a,), (b,), (b,)) == [False, True, False, False]
    assert known_calls(lambda m: b.weight, ([a, a],), ([a, a],), ([b, a],)) == [False, False, False]


def test_values_that_compare_alike_are_other_calls():
    values = [1, True, 1.0, 0.0, -0.0, "1", None, b"1"]
    memory = Memory(20)
    assert [check(memory, abs, (jnp.ones(2), value)) for value in values * 2] == [False] * 8 + [True] * 8


def test_what_hashes_by_its_value_is_walked():
    class Value(type):  # instances are classes: static, and compared as their class says
        def __hash__(cls):
            return 1

    thing = Thing()
    thing.a = Value("Made", (), {})
    assert known_calls(abs, (thing,), (thing,)) == [False, False]


def test_a_variable_that_has_no_value_yet():
    memory = Memory(8)

    def later(x):
        return x if x is None else value

    assert not check(memory, later, ()) and not check(memory, later, ())
    value = 1
    assert not check(memory, later, ()) and check(memory, later, ())
    del value
    assert not check(memory, later, ())


def test_nothing_is_kept_alive():
    memory = Memory(8)
    model = fx.Chain(fx.Dense(2, 2), fx.Dense(2, 2))
    check(memory, lambda m: m, (model,))
    assert check(memory, lambda m: m, (model,)) is False  # the lambda is another piece of code
    array, whole = weakref.ref(model[0].weight), weakref.ref(model)
    model[0].weight = jnp.ones((2, 2))
    assert array() is None and len(memory.known) == 2
    del model
    gc.collect()
    assert whole() is None and not memory.known
    for i in range(20):
        check(memory, abs, (str(i),))
    assert len(memory.known) == 8


def test_what_changes_every_time_is_not_watched_for_long():
    memory, thing, made = Memory(8), Thing(), []
    for i in range(10):
        thing.a = i
        outline = Outline(abs, (thing,))
        assert memory.find(outline, ()) is None
        memory.keep(outline, (), None, lambda: made.append(1) or refuse())
    assert len(made) == 3


def refuse():
    raise UnwatchableError


# --------------------------------------------------------------------------------------------- through `jit`


def test_jit_in_several_threads_sees_its_own_model(restored):
    models = [fx.Dense(2, 2) for i in range(4)]
    compiled = fx.jit(lambda m, x: m(x))
    x, wrong = jnp.ones((1, 2)), []
    compiled(models[0], x)

    def work(i):
        for n in range(100):
            models[i].weight = jnp.full((2, 2), float(i + n))
            if compiled(models[i], x)[0, 0] != 2 * (i + n):
                wrong.append((i, n))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_jit_inside_other_transforms():
    model, x = fx.Dense(2, 1, bias=False, init=fx.ones), jnp.ones((3, 2))
    compiled = fx.jit(lambda m, x: m(x).sum())
    for _ in range(3):
        assert compiled(model, x) == 6
        assert fx.gradient(compiled, model, x)[0].weight.tolist() == [[3.0], [3.0]]
        assert jax.grad(lambda x: compiled(model, x))(x).tolist() == [[1.0, 1.0]] * 3
        assert jax.vmap(lambda x: compiled(model, x))(x).tolist() == [2.0, 2.0, 2.0]
        assert jax.jit(lambda x: compiled(model, x))(x) == 6


def test_jit_under_other_settings():
    layer, x = fx.Dropout(0.5), jnp.ones(100)
    compiled = fx.jit(layer)

    def dropped():
        return bool((compiled(x) == 0).any())

    for _ in range(2):
        assert [dropped(), dropped()] == [False, False]
        fx.trainmode(layer)
        assert [dropped(), dropped()] == [True, True]
        fx.auto(layer)
        assert fx.withgradient(lambda x: (compiled(x) == 0).any() + 0 * x.sum(), x).value > 0
    double = fx.jit(lambda x: x * 2.5)
    for _ in range(2):
        assert double(1).dtype == jnp.float32
        with jax.enable_x64(True):
            assert [double(1).dtype, double(np.float64(1)).dtype] == [jnp.float64, jnp.float64]


def test_jit_writes_to_the_model_of_the_call():
    class Counting(fx.Layer):
        buffers = ("count",)

        def __init__(self):
            self.count = jnp.zeros(())

        def __call__(self, x):
            self.count = self.count + 1
            return x

    models = [fx.Chain(Counting()) for _ in range(2)]
    compiled = fx.jit(lambda m, x: m(x["x"][0]))
    for i in range(8):
        compiled(models[i % 2], {"x": [jnp.ones(2)]})
    assert [model[0].count.item() for model in models] == [4, 4]
