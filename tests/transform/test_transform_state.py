"""State written inside a call: it arrives, whole, and no tracer ever stays behind."""

import collections
import functools
import gc
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx

X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)


def tracers_in(*roots):
    """The tracers that can be reached from objects, through whatever Python can see."""
    found, seen, todo = [], set(), list(roots)
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, (type, types.ModuleType, types.CodeType, jax.Array)):
            if isinstance(value, jax.core.Tracer):
                found.append(value)
            continue
        seen.add(id(value))
        if isinstance(value, types.FunctionType):
            todo += [*(value.__closure__ or ()), value.__defaults__, value.__kwdefaults__, vars(value)]
        else:
            todo += gc.get_referents(value)
    return found


def test_the_search_finds_tracers():
    held = {"a": [1, {"b": None}]}
    jax.jit(lambda x: held["a"][1].update(b=lambda: x))(1.0)
    assert len(tracers_in(held)) == 1


class Stateful(fx.Layer):
    """Writes wherever one can write, and fails at `fail`, the number of a step, if asked."""

    buffers = ("mean",)

    def __init__(self, fail=None):
        self.w, self.mean, self.gone = jnp.ones(3), jnp.zeros(3), jnp.ones(1)
        self.calls, self.log, self.table, self.recent = 0, [], {"x": jnp.zeros(3)}, collections.deque(maxlen=2)
        self.bn = fx.BatchNorm(3)
        self.total, self.add = self.make()
        self.fail = fail

    @staticmethod
    def make():
        total = jnp.zeros(())

        def add(x):
            nonlocal total
            total = total + x

        return (lambda: total), add

    @functools.cached_property
    def square(self):
        return self.w * self.w

    def step(self, number):
        if number == self.fail:
            raise ArithmeticError(f"step {number}")

    def __call__(self, x):
        self.step(0)
        y = self.bn(x * self.w[None]) * self.square[None]
        self.step(1)
        self.mean = 0.5 * self.mean + x.mean(0)
        self.calls += 1
        self.step(2)
        self.log.append(x.sum())
        self.table["x"] = x.mean(0)
        self.table["new"] = {"inner": (x, "text")}
        self.recent.append(x.sum())
        self.step(3)
        self.add(x.sum())
        self.fresh = [x.max(), None]
        if hasattr(self, "gone"):
            del self.gone
        self.step(4)
        return (y**2).sum()


RUNS = {
    "gradient": lambda m: fx.gradient(lambda m: m(X), m),
    "gradient of x": lambda m: fx.gradient(m, X),
    "jit": lambda m: fx.jit(m)(X),
    "pullback": lambda m: fx.pullback(m, X)[1](1.0),
    "jacobian": lambda m: fx.jacobian(m, X),
    "hessian": lambda m: fx.hessian(m, X),
    "gradient in jit": lambda m: fx.jit(lambda m: fx.gradient(lambda m: m(X), m)[0].w)(m),
    "jit in gradient": lambda m: fx.gradient(fx.jit(lambda m: m(X)), m),
    "gradient of gradient": lambda m: fx.gradient(lambda x: fx.gradient(lambda m: m(x), m)[0].w.sum(), X),
    "jax.grad in gradient": lambda m: fx.gradient(lambda m: m(X) + jax.grad(lambda x: (x**2).sum())(X).sum(), m),
    "jax.jit with the model as an argument": lambda m: jax.jit(lambda m: fx.gradient(lambda m: m(X), m)[0].w)(m),
    "outputsize": lambda m: fx.outputsize(m, X.shape),
    "autosize": lambda m: fx.autosize(fx.Chain(m, lambda y: y[None], fx.Dense(None, 2)), X.shape),
    "summary": lambda m: fx.summary(m, X.shape),
    "destructure": lambda m: fx.gradient(lambda v: fx.destructure(m)[1](v)(X), fx.destructure(m)[0]),
}
PURE = ("outputsize", "autosize", "summary", "destructure", "jax.jit with the model as an argument")


@pytest.mark.parametrize("run", RUNS)
def test_no_tracer_stays_behind(run):
    model = Stateful()
    RUNS[run](model)
    RUNS[run](model)
    assert not tracers_in(model)
    if run in PURE:
        assert model.calls == 0 and model.log == [] and hasattr(model, "gone") and model.total() == 0
        return
    assert model.calls >= 1 and not hasattr(model, "gone") and len(model.recent) == 2
    np.testing.assert_allclose(model.mean, 1.5 * X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(model.total(), 2 * X.sum(), atol=1e-5)
    np.testing.assert_allclose(model.table["new"]["inner"][0], X)
    assert model.table["new"]["inner"][1] == "text" and model.fresh[1] is None
    assert len(model.log) == 2 and "square" in vars(model)
    if "jit" not in run or run == "jit in gradient":
        assert float(jnp.abs(model.bn.mean).sum()) > 0  # training mode


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("fail", range(5))
def test_an_exception_changes_nothing(run, fail):
    model = Stateful(fail)
    before = dict(vars(model), log=list(model.log), table=dict(model.table))
    statistics = model.bn.mean
    with pytest.raises(ArithmeticError, match=f"step {fail}"):
        RUNS[run](model)
    assert not tracers_in(model)
    assert vars(model) == before and model.bn.mean is statistics
    assert model.total() == 0 and len(model.recent) == 0


@pytest.mark.parametrize("wrap", [lambda f: f, fx.jit])
def test_batch_statistics_are_those_of_jax_by_hand(wrap):
    model = fx.BatchNorm(3)
    f = wrap(lambda m, x: fx.gradient(lambda m: (m(x) ** 3).sum(), m)[0].bias)
    mean = np.zeros(3)
    for i in range(3):
        f(model, X + i)
        mean = 0.9 * mean + 0.1 * np.asarray(X + i).mean(0)
    np.testing.assert_allclose(model.mean, mean, rtol=1e-5)


COUNT, SEEN = 0, None


def counting(x):
    global COUNT, SEEN
    COUNT += 1
    SEEN = x * 2
    return helper(x)


def helper(x):
    return x * COUNT  # sees what `counting` has just assigned


def test_global_statements():
    global COUNT, SEEN
    COUNT, SEEN = 0, None
    assert fx.gradient(counting, 3.0)[0] == 1.0 and COUNT == 1 and SEEN == 6.0
    assert fx.withgradient(counting, 3.0).value == 6.0 and COUNT == 2
    compiled = fx.jit(lambda x: counting(x))
    assert compiled(5.0) == 15.0 and COUNT == 3 and SEEN == 10.0
    assert not tracers_in(SEEN)


def test_python_counters_count_calls_in_gradient_and_traces_in_jit():
    class Counter(fx.Layer):
        def __init__(self):
            self.calls, self.log, self.w = 0, [], jnp.ones(())

        def __call__(self, x):
            self.calls += 1
            self.log.append("called")
            return (x * self.w).sum()

    model = Counter()
    for n in range(1, 4):
        fx.gradient(lambda m: m(1.0), model)
        assert model.calls == len(model.log) == n
    compiled = fx.jit(model)
    for _ in range(3):
        compiled(jnp.ones(2))
    assert model.calls == len(model.log) == 4
    compiled(jnp.ones(3))
    compiled(jnp.ones(2))
    assert model.calls == len(model.log) == 5


def test_a_flag_that_the_code_branches_on_is_obeyed_under_jit():
    class Centered(fx.Layer):
        buffers = ("mean",)

        def __init__(self):
            self.ready, self.mean = False, jnp.zeros(())

        def __call__(self, x):
            if not self.ready:
                self.mean, self.ready = x.mean(), True
            return x - self.mean

    eager, compiled = Centered(), fx.jit(model := Centered())
    for x in (jnp.ones(2), jnp.full(2, 5.0), jnp.full(2, 7.0)):
        np.testing.assert_array_equal(compiled(x), eager(x))
    assert model.mean == 1.0


def test_lists_and_dicts_change_in_every_way():
    class Editing(fx.Layer):
        def __init__(self):
            self.items = [jnp.array(float(i)) for i in range(4)]
            self.table = {"a": jnp.ones(()), "b": jnp.ones(())}
            self.long = [0.0] * 300

        def __call__(self, x):
            del self.items[0]
            self.items[0] = x
            self.items.pop()
            self.items.insert(0, 2 * x)
            del self.table["a"]
            self.table["c"] = x
            self.long.append(x)
            return x

    for run in (lambda m: fx.gradient(m, 9.0), lambda m: fx.jit(m)(9.0)):
        model = Editing()
        run(model)
        assert [float(item) for item in model.items] == [18.0, 9.0, 2.0]
        assert list(model.table) == ["b", "c"] and model.table["c"] == 9.0
        assert len(model.long) == 301 and model.long[-1] == 9.0 and model.long[0] == 0.0
        assert not tracers_in(model)


def test_arrays_appended_under_jit():
    log = []
    f = fx.jit(lambda x: log.append(2 * x))
    for i in range(3):
        f(float(i))
    assert [float(x) for x in log] == [0.0, 2.0, 4.0]


def test_a_value_of_an_inner_loop_cannot_leave_it():
    class Leaking(fx.Layer):
        def __init__(self):
            self.w = jnp.ones(3)

        def __call__(self, x):
            def body(carry, row):
                self.last = row * self.w
                return carry, None

            jax.lax.scan(body, 0.0, x)
            return (x * self.w[None]).sum()

    model = Leaking()
    with pytest.raises(fx.StateError, match="last was assigned inside a loop or function that JAX transforms"):
        fx.gradient(model, X)
    with pytest.raises((fx.StateError, jax.errors.UnexpectedTracerError)):
        fx.jit(model)(X)
    assert not hasattr(model, "last")


def test_scan_with_its_state_outside():
    class Recurrent(fx.Layer):
        buffers = ("h",)

        def __init__(self):
            self.w, self.h = jnp.eye(3), jnp.zeros(3)

        def __call__(self, x):
            self.h, _ = jax.lax.scan(lambda h, row: (jnp.tanh(h @ self.w + row), None), self.h, x)
            return self.h.sum()

    model = Recurrent()
    grads = fx.gradient(lambda m: m(X), model)[0]
    assert grads.w.shape == (3, 3) and grads.h is None
    h = np.zeros(3)
    for row in np.asarray(X):
        h = np.tanh(h + row)
    np.testing.assert_allclose(model.h, h, rtol=1e-5)


def test_jax_jit_around_a_gradient_refuses_to_lose_statistics():
    model = fx.BatchNorm(3)
    for transform in (jax.jit, jax.vmap):
        with pytest.raises(fx.StateError, match="mean changes inside a transformation of JAX's own"):
            transform(lambda x: fx.gradient(lambda m: m(x).sum(), model)[0].bias)(X[None])
    assert not tracers_in(model)
    fx.testmode(model)  # nothing to lose
    assert jax.jit(lambda x: fx.gradient(lambda m: m(x).sum(), model)[0].bias)(X).tolist() == [4.0, 4.0, 4.0]


def test_modules_of_the_users(monkeypatch):
    net = types.ModuleType("usernet")
    exec(
        "import fluxion as fx, jax.numpy as jnp\n"
        "model, count = fx.Dense(3, 2), 0\n"
        "def predict(x):\n"
        "    global count\n"
        "    count += 1\n"
        "    return model(x)\n",
        vars(net),
    )
    monkeypatch.setitem(sys.modules, "usernet", net)
    grads = fx.gradient(lambda m: net.predict(X).sum(), net.model)[0]
    assert grads.bias.tolist() == [4.0, 4.0] and net.count == 1
    assert fx.gradient(lambda: net.predict(X).sum(), fx.params(net.model))[net.model.bias].tolist() == [4.0, 4.0]
    compiled = fx.jit(lambda x: net.predict(x))
    before = compiled(X)
    net.model.bias = jnp.ones(2)
    np.testing.assert_allclose(compiled(X) - before, jnp.ones((4, 2)), rtol=1e-5)
    assert net.count == 3 and not tracers_in(vars(net))


def test_functions_that_import_and_define_classes():
    namespace = {"__name__": "elsewhere", "w": jnp.ones(2)}
    exec(
        "def f(x):\n    from math import pi\n"
        "    class A:\n        scale = w * 2\n    return (x * A.scale).sum() + 0 * pi\n",
        namespace,
    )
    assert fx.gradient(namespace["f"], jnp.ones(2))[0].tolist() == [2.0, 2.0]


def test_a_copy_of_a_function_writes_real_globals():
    namespace = {"__name__": "elsewhere", "calls": 0, "jnp": jnp}
    exec(
        "def make():\n    w = jnp.ones(2)\n"
        "    def f(x):\n        global calls\n        calls += 1\n        return x * w\n    return f\n",
        namespace,
    )
    doubled = fx.fmap(lambda a: 2 * a, namespace["make"]())
    assert doubled(1.0).tolist() == [2.0, 2.0] and namespace["calls"] == 1


def test_one_thread_uses_the_model_while_another_traces_it():
    inside, done = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30)

    class Waiting(Stateful):
        def step(self, number):
            if number == 4 and threading.current_thread().name == "tracing":
                inside.wait()
                done.wait()

    model, failures = Waiting(), []

    def trace():
        try:
            fx.jit(lambda m: fx.gradient(lambda m: m(X), m)[0].w)(model)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=trace, name="tracing")
    thread.start()
    inside.wait()  # the other thread stands in the middle of its trace, after all its writes
    try:
        assert not tracers_in(model)
        before = model.calls
        value = model(X)
        assert np.isfinite(np.asarray(value)) and not fx.within_gradient()
        fx.gradient(lambda m: m(X), model)
        assert model.calls == before + 2 and not tracers_in(model)
    finally:
        done.wait()
    thread.join()
    assert not failures and not tracers_in(model)
