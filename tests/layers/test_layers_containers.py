"""Chain, Parallel, SkipConnection, PairwiseFusion, Maxout: what they compute, how they are taken apart, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.tree.model import trainables


def double(x):
    return 2 * x


def increment(x):
    return x + 1


def test_chain_is_composition():
    assert fx.Chain(double, increment)(3) == 7
    assert fx.Chain(increment, double)(3) == 8
    assert fx.Chain()(3) == 3
    assert fx.Chain(fx.Chain(double), fx.Chain(increment, fx.Chain()))(3) == 7


def test_chain_is_a_sequence():
    chain = fx.Chain(double, increment, abs)
    assert len(chain) == 3 and list(chain) == [double, increment, abs]
    assert chain[0] is double and chain[-1] is abs
    assert chain[1:](-3) == 2 and isinstance(chain[1:], fx.Chain)
    assert chain[::-1](-3) == 8
    assert bool(fx.Chain())  # `if model:` asks whether there is one
    with pytest.raises(IndexError):
        chain[3]
    with pytest.raises(fx.ArgumentError, match="Chain: expected a number, for no layer has a name, got 'head'"):
        chain["head"]


def test_slices_share_the_layers():
    chain = fx.Chain(fx.Dense(2, 3), fx.relu, fx.Dense(3, 1))
    assert chain[:1][0] is chain[0]
    assert trainables(chain[2:])[0] is chain[2].weight


def test_named_chain():
    chain = fx.Chain(second=double, first=increment)
    assert chain(3) == 7
    assert chain["second"] is double and chain[0] is double and chain[-1] is increment
    assert repr(chain) == "Chain(second=double, first=increment)"
    assert repr(chain[1:]) == "Chain(first=increment)"
    with pytest.raises(
        fx.ArgumentError, match=r"expected one of the names second, first, got 'secnd'\. Did you mean 'second'"
    ):
        chain["secnd"]


def test_named_layers_have_readable_paths_and_keep_their_order_in_jax():
    chain = fx.Chain(wide=fx.Dense(2, 5), narrow=fx.Dense(5, 3), layers=fx.Dense(3, 1))
    paths = [path for path, _ in trainables(chain, path=True)]
    assert paths[::2] == ["layers['wide'].weight", "layers['narrow'].weight", "layers['layers'].weight"]
    again = jax.tree.map(lambda a: a, chain)
    assert repr(again) == repr(chain) == "Chain(wide=Dense(2, 5), narrow=Dense(5, 3), layers=Dense(3, 1))"
    with pytest.raises(fx.ShapeError, match=r"^model.layers\['narrow'\] Dense\(4, 3\): expected input \(..., 4\)"):
        fx.Chain(wide=fx.Dense(2, 5), narrow=fx.Dense(4, 3))(jnp.ones((1, 2)))


def test_several_inputs_reach_the_first_layer_as_one_tuple():
    assert fx.Chain(lambda pair: pair[0] - pair[1])(5, 3) == 2
    assert fx.Chain(fx.Parallel(lambda a, b: a - b, double, increment), double)(5, 3) == 12
    with pytest.raises(fx.ArgumentError, match="expected at least one input, got none"):
        fx.Chain(double)()


def test_activations():
    chain = fx.Chain(double, increment, double)
    assert fx.activations(chain, 3) == (6, 7, 14)
    assert fx.activations(fx.Chain(), 3) == ()
    assert fx.activations(fx.Chain(b=double, a=increment), 1) == (2, 3)
    assert fx.activations(fx.Chain(lambda pair: pair[0] - pair[1]), 5, 3) == (2,)
    with pytest.raises(fx.DTypeError, match="activations: expected a Chain, got Dense"):
        fx.activations(fx.Dense(2, 2), 3)
    with pytest.raises(fx.ShapeError, match=r"^model.layers\[1\].layers\[0\] Dense\(4, 2\): expected input"):
        fx.activations(fx.Chain(fx.Dense(2, 3), fx.Chain(fx.Dense(4, 2))), jnp.ones((1, 2)))


def test_parallel():
    def collect(*outputs):
        return outputs

    parallel = fx.Parallel(collect, double, increment)
    assert parallel(3) == (6, 4)  # one input for all
    assert parallel(3, 10) == parallel((3, 10)) == (6, 11)  # one for each
    assert fx.Parallel(collect, double)(1, 2, 3) == (2, 4, 6)  # all through one
    assert parallel["b"] is increment if isinstance(parallel.layers, dict) else parallel[1] is increment
    named = fx.Parallel(collect, b=double, a=increment)
    assert named(3, 10) == (6, 11) and named["a"] is increment
    assert repr(named) == "Parallel(collect, b=double, a=increment)"
    for inputs in ((), ((),)):
        with pytest.raises(fx.ArgumentError, match="expected at least one input, got none"):
            parallel(*inputs)
    with pytest.raises(fx.ArgumentError, match="expected 1 or 2 inputs for 2 layers, got 3"):
        parallel(1, 2, 3)


def test_skip_connection():
    assert fx.SkipConnection(double, lambda y, x: (y, x))(3) == (6, 3)
    layer = fx.SkipConnection(fx.Dense(3, 3), jnp.add)
    x = fx.randn(2, 3)
    np.testing.assert_allclose(layer(x), layer.layer(x) + x)


def test_pairwise_fusion():
    def minus(y, x):
        return y - x

    fusion = fx.PairwiseFusion(minus, double, increment, double)
    # y0 = 2*1; y1 = (2 - 10) + 1; y2 = 2*(-7 - 100)
    assert fusion(1, 10, 100) == fusion((1, 10, 100)) == (2, -7, -214)
    assert fusion(5) == (10, 6, 2)
    with pytest.raises(fx.ArgumentError, match="expected 1 or 3 inputs for 3 layers, got 2"):
        fusion(1, 2)


def test_maxout():
    layer = fx.Maxout(lambda x: x, lambda x: -x, lambda x: 0 * x + 2)
    np.testing.assert_array_equal(layer(jnp.array([-5.0, 1.0, 3.0])), [5, 2, 3])
    assert jnp.isnan(layer(jnp.array([jnp.nan]))).all()
    assert repr(fx.Maxout(double, increment)) == "Maxout(double, increment)"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fx.Chain(double, second=double), fx.ArgumentError, "Chain: expected layers either all with names or"),
        (lambda: fx.Chain([double, double]), fx.DTypeError, r"at position 0, got a list. Use Chain\(\*layers\)."),
        (lambda: fx.Chain(double, 3), fx.DTypeError, "expected something to call at position 1, got a int."),
        (lambda: fx.Chain(a=3), fx.DTypeError, "expected something to call as 'a', got a int."),
        (lambda: fx.Chain(fx.Dense), fx.DTypeError, r"got the class Dense. Call it: Dense\(...\)."),
        (lambda: fx.Parallel(jnp.add), fx.ArgumentError, "Parallel: expected at least one layer, got none."),
        (lambda: fx.Parallel("add", double), fx.DTypeError, "Parallel: expected a function for connection, got 'add'"),
        (lambda: fx.PairwiseFusion(jnp.add), fx.ArgumentError, "PairwiseFusion: expected at least one layer"),
        (lambda: fx.Maxout(), fx.ArgumentError, "Maxout: expected at least one layer, got none."),
        (
            lambda: fx.SkipConnection(3, jnp.add),
            fx.DTypeError,
            "SkipConnection: expected something to call as its layer",
        ),
        (
            lambda: fx.SkipConnection(double, 3),
            fx.DTypeError,
            "SkipConnection: expected a function for connection, got 3",
        ),
    ],
)
def test_constructors_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_one_layer_twice_is_one_parameter():
    shared = fx.Dense(3, 3)
    chain = fx.Chain(shared, fx.relu, shared)
    assert len(trainables(chain)) == 2
    x = fx.randn(2, 3)
    np.testing.assert_allclose(chain(x), shared(fx.relu(shared(x))))
    assert str(chain).endswith("# Total: 2 arrays, 12 parameters, 48 bytes.")
