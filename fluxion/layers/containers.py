"""Layers made of layers: one after another (`Chain`), side by side (`Parallel`), around (`SkipConnection`).

Any callable is a layer here. Layers given by name are kept in a dict and found by it: `chain["encoder"]`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, overload

import jax.numpy as jnp

from fluxion.errors import ArgumentError, DTypeError, FluxionError, nearest
from fluxion.layers.inputs import function
from fluxion.tree.layer import Layer, locate, observed

Layers = tuple[Callable[..., Any], ...] | OrderedDict[str, Callable[..., Any]]


class Container(Layer):
    """What the containers with several layers have in common: they are sequences of them."""

    layers: Layers

    def config(self) -> dict[str, Any]:
        named = by_name(self.layers)
        return {"layers": () if named else self.layers, "named": named}

    def __len__(self) -> int:
        return len(self.layers)

    def __bool__(self) -> bool:
        return True  # an empty chain is a model too

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter(in_order(self.layers))

    def __getitem__(self, index: int | str) -> Callable[..., Any]:
        if isinstance(index, str):
            known = by_name(self.layers)
            if index not in known:
                names = f"one of the names {', '.join(known)}" if known else "a number, for no layer has a name"
                raise ArgumentError(f"{type(self).__name__}: expected {names}, got {index!r}.{nearest(index, known)}")
            return known[index]
        return in_order(self.layers)[index]


class Chain(Container):
    """Layers one after another: `layers[-1](...layers[1](layers[0](x)))`.

    Shapes: whatever the layers make of them; `Chain()` returns its input. Several inputs reach the first layer as one
    tuple, which `Parallel`, `PairwiseFusion` and `Bilinear` take apart.

    `len(chain)`, iteration, `chain[0]`, `chain[-1]` and `chain["name"]` give layers, a slice gives a `Chain` that
    shares the layers and keeps their names.

    Arguments:
      *layers: callables, or
      **named: callables with names, in order.

    Errors: ArgumentError for both kinds at once, DTypeError for what is not callable. Source: `Flux.Chain`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> chain = fx.Chain(fx.Dense(784, 32, fx.relu), fx.Dropout(0.2), fx.Dense(32, 10))
    >>> chain(jnp.ones((8, 784))).shape, chain[1], chain[:2]
    ((8, 10), Dropout(0.2), Chain(Dense(784, 32, relu), Dropout(0.2)))
    >>> fx.Chain(encoder=fx.Dense(4, 2), decoder=fx.Dense(2, 4))["decoder"]
    Dense(2, 4)
    """

    def __init__(self, *layers: Callable[..., Any], **named: Callable[..., Any]) -> None:
        self.layers = checked_layers("Chain", layers, named)

    @overload
    def __getitem__(self, index: int | str) -> Callable[..., Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Chain: ...
    def __getitem__(self, index: int | str | slice) -> Any:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        if isinstance(self.layers, dict):
            return Chain(**dict(list(self.layers.items())[index]))
        return Chain(*self.layers[index])

    def __call__(self, *inputs: Any) -> Any:
        x = one_input(inputs)
        for layer in in_order(self.layers):
            x = observed(layer, x)
        return x


class Parallel(Container):
    """Layers side by side, their outputs combined: `connection(layers[0](x0), layers[1](x1), ...)`.

    Shapes: whatever the layers and the connection make of them. One input goes to every layer; as many inputs as
    layers (several arguments, or one tuple) go one to each; several inputs go all through a single layer.

    Arguments:
      connection: called once, with all outputs.
      *layers: callables, or
      **named: callables with names.

    Errors: ArgumentError for no layers, no inputs, or another number of inputs than of layers.
    Source: `Flux.Parallel`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.Parallel(jnp.add, fx.Dense(3, 2), fx.Dense(4, 2))
    >>> layer(jnp.ones((8, 3)), jnp.ones((8, 4))).shape
    (8, 2)
    """

    connection: Callable[..., Any]

    def __init__(
        self, connection: Callable[..., Any], *layers: Callable[..., Any], **named: Callable[..., Any]
    ) -> None:
        self.connection = function("Parallel", "connection", connection)
        self.layers = checked_layers("Parallel", layers, named, at_least_one=True)

    def config(self) -> dict[str, Any]:
        return {"connection": self.connection, **super().config()}

    def __call__(self, *inputs: Any) -> Any:
        layers = in_order(self.layers)
        inputs = several_inputs(inputs)
        if len(inputs) == 1:
            inputs = inputs * len(layers)
        elif len(layers) == 1:
            layers = layers * len(inputs)
        if len(inputs) != len(layers):
            raise ArgumentError(
                f"expected 1 or {len(layers)} inputs for {len(layers)} layers, got {len(inputs)}. "
                "Give one input for all layers, or one for each."
            )
        return self.connection(*(layer(x) for layer, x in zip(layers, inputs, strict=True)))


class PairwiseFusion(Container):
    """Layers in a row, each fed with the output before it and the next input; returns the outputs of all.

    `y[0] = layers[0](x[0])`, then `y[i] = layers[i](connection(y[i - 1], x[i]))`. Returns the tuple of all `y`.
    One input serves as every `x[i]`.

    Arguments:
      connection: called with the previous output and the next input.
      *layers: callables, or
      **named: callables with names.

    Errors: ArgumentError for no layers, or another number of inputs than of layers. Source: `Flux.PairwiseFusion`;
    the split hierarchy of Res2Net (Gao et al. 2019).

    >>> import fluxion as fx
    >>> fx.PairwiseFusion(lambda y, x: y + x, abs, abs, abs)(1, -2, 10)
    (1, 1, 11)
    """

    connection: Callable[..., Any]

    def __init__(
        self, connection: Callable[..., Any], *layers: Callable[..., Any], **named: Callable[..., Any]
    ) -> None:
        self.connection = function("PairwiseFusion", "connection", connection)
        self.layers = checked_layers("PairwiseFusion", layers, named, at_least_one=True)

    def config(self) -> dict[str, Any]:
        return {"connection": self.connection, **super().config()}

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        layers = in_order(self.layers)
        inputs = several_inputs(inputs)
        if len(inputs) == 1:
            inputs = inputs * len(layers)
        if len(inputs) != len(layers):
            raise ArgumentError(
                f"expected 1 or {len(layers)} inputs for {len(layers)} layers, got {len(inputs)}. "
                "Give one input for all layers, or one for each."
            )
        outputs = [layers[0](inputs[0])]
        for layer, x in zip(layers[1:], inputs[1:], strict=True):
            outputs.append(layer(self.connection(outputs[-1], x)))
        return tuple(outputs)


class SkipConnection(Layer):
    """`connection(layer(x), x)`: a layer with a path around it.

    Shapes: the connection's; with `jnp.add`, the layer must keep the shape of its input.

    Arguments:
      layer: any callable.
      connection: called with the output and the input, in this order.

    Errors: DTypeError for what is not callable. Source: `Flux.SkipConnection`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> residual = fx.SkipConnection(fx.Dense(4, 4, fx.relu), jnp.add)
    >>> residual, residual(jnp.ones((8, 4))).shape
    (SkipConnection(Dense(4, 4, relu), add), (8, 4))
    """

    layer: Callable[..., Any]
    connection: Callable[..., Any]

    def __init__(self, layer: Callable[..., Any], connection: Callable[..., Any]) -> None:
        self.layer = checked_layer("SkipConnection", layer, "as its layer")
        self.connection = function("SkipConnection", "connection", connection)

    def __call__(self, x: Any) -> Any:
        return self.connection(self.layer(x), x)


class Maxout(Container):
    """`max(layers[0](x), layers[1](x), ...)`, elementwise.

    Shapes: outputs that broadcast against each other. Where several layers are largest, the gradient is shared
    among them.

    Arguments:
      *layers: callables, at least one.

    Errors: ArgumentError for no layers. Source: Goodfellow et al. 2013; `Flux.Maxout`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.Maxout(*(fx.Dense(5, 7) for _ in range(4)))(jnp.ones((8, 5))).shape
    (8, 7)
    """

    layers: tuple[Callable[..., Any], ...]

    def __init__(self, *layers: Callable[..., Any]) -> None:
        self.layers = tuple(checked_layers("Maxout", layers, {}, at_least_one=True))  # type: ignore[arg-type]

    def config(self) -> dict[str, Any]:
        return {"layers": self.layers}

    def __call__(self, x: Any) -> Any:
        largest = self.layers[0](x)
        for layer in self.layers[1:]:
            largest = jnp.maximum(largest, layer(x))
        return largest


def activations(chain: Chain, *inputs: Any) -> tuple[Any, ...]:
    """The output of every layer of a chain, in order: the last one is `chain(x)`, and `Chain()` has none.

    Errors: DTypeError for what is not a `Chain`; errors of the layers, with their path. Source: `Flux.activations`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> chain = fx.Chain(fx.Dense(3, 4), fx.relu, fx.Dense(4, 2))
    >>> [y.shape for y in fx.activations(chain, jnp.ones((8, 3)))]
    [(8, 4), (8, 4), (8, 2)]
    """
    if not isinstance(chain, Chain):
        raise DTypeError(f"activations: expected a Chain, got {type(chain).__name__}. Put the layers in a Chain.")
    outputs: list[Any] = []
    x = one_input(inputs)
    try:
        for layer in chain:
            x = layer(x)
            outputs.append(x)
    except FluxionError as error:
        if error.layer is not None:
            locate(error, chain)
        raise
    return tuple(outputs)


# What they are given


def checked_layer(name: str, layer: Any, place: str) -> Callable[..., Any]:
    if isinstance(layer, type) and issubclass(layer, Layer):
        raise DTypeError(
            f"{name}: expected a layer {place}, got the class {layer.__name__}. Call it: {layer.__name__}(...)."
        )
    if not callable(layer):
        use = f" Use {name}(*layers)." if isinstance(layer, list | tuple) else " Give a layer or a function."
        raise DTypeError(f"{name}: expected something to call {place}, got a {type(layer).__name__}.{use}")
    return layer


def checked_layers(
    name: str, layers: tuple[Any, ...], named: Mapping[str, Any], *, at_least_one: bool = False
) -> Layers:
    """The layers as they are kept: a tuple, or a dict if they have names."""
    if layers and named:
        raise ArgumentError(f"{name}: expected layers either all with names or all without, got both.")
    if at_least_one and not layers and not named:
        raise ArgumentError(f"{name}: expected at least one layer, got none.")
    if named:
        # Not a plain dict: JAX gives those back sorted by key, and the order here is the order of the computation.
        return OrderedDict((key, checked_layer(name, layer, f"as {key!r}")) for key, layer in named.items())
    return tuple(checked_layer(name, layer, f"at position {i}") for i, layer in enumerate(layers))


def in_order(layers: Layers) -> tuple[Callable[..., Any], ...]:
    return tuple(layers.values()) if isinstance(layers, dict) else layers


def by_name(layers: Layers) -> dict[str, Callable[..., Any]]:
    return dict(layers) if isinstance(layers, dict) else {}


def one_input(inputs: tuple[Any, ...]) -> Any:
    """One argument as it is, several as a tuple."""
    if not inputs:
        raise ArgumentError("expected at least one input, got none.")
    return inputs[0] if len(inputs) == 1 else inputs


def several_inputs(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Several arguments, or one tuple of them."""
    if len(inputs) == 1 and isinstance(inputs[0], tuple):
        (inputs,) = inputs
    if not inputs:
        raise ArgumentError("expected at least one input, got none.")
    return inputs
