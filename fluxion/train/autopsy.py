"""What went wrong in a step: the batch checked on the host, and a failed step run again, eagerly, to find the place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import DataError, DTypeError, FluxionError, NonFiniteError
from fluxion.tree.graph import Static, extend_path
from fluxion.tree.layer import described, observing
from fluxion.tree.walk import scan

if TYPE_CHECKING:
    from fluxion.train.step import StepProgram


def check_types(batch: Any) -> None:
    """Raise DTypeError for a part of a batch that holds no numbers."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(batch)[0]:
        dtype = getattr(leaf, "dtype", None)
        if isinstance(leaf, (bool, int, float, complex)) or (
            dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
        ):
            continue
        if dtype is None or np.dtype(dtype).kind in "OSUMm":
            what = type(leaf).__name__ if dtype is None else f"an array of {dtype}"
            raise DTypeError(
                f"batch{jax.tree_util.keystr(path)}: expected numbers, got {what}. "
                "Convert it first, e.g. with fx.onehotbatch, fx.TableEncoder or astype."
            )


def check_inputs(batch: Any, step: int) -> None:
    """Raise DataError for the first floating value of a batch that is not finite."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(batch)[0]:
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        values = np.asarray(leaf)
        finite = np.isfinite(values.astype(np.float32) if values.dtype.kind == "V" else values)
        if not finite.all():
            index = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"batch{jax.tree_util.keystr(path)} of step {step} holds {values[index]} at index {index}; "
                f"{int((~finite).sum())} of its {values.size} values are not finite. "
                "Clean the data, or pass check=False."
            )


def explain(program: StepProgram, leaves: Sequence[Any], key: Any, batch: Any, step: int, loss: float) -> FluxionError:
    """The error to raise for a step that was not finite, found by running it again eagerly."""
    working = program.template.build(leaves)
    places: list[str] = []

    def observe(layer: Any, inputs: Any, out: Any) -> None:
        if not places and not _finite(out):
            already = "" if _finite(inputs) else ", whose input was not finite already"
            places.append(described(_path(working.roots[1], layer), layer) + already)

    try:
        if program.check:
            check_inputs(batch, step)
        with observing(observe), np.errstate(all="ignore"):
            replayed, _ = program.call(working, key, batch)
    except FluxionError as error:
        error.add_note(f"It happened in step {step}, which was not applied: model and optimizer are as before it.")
        return error
    if np.isfinite(loss):
        return NonFiniteError(_gradient_report(program, leaves, key, batch, step, loss))
    if places:
        place = f" The first layer whose output is not finite is {places[0]}."
    elif np.isfinite(replayed):
        place = f" Run again outside the compiled step, the loss is {float(replayed):.6g}."
    else:
        place = " Every layer's output is finite: it became so in the loss itself."
    return NonFiniteError(
        f"the loss of step {step} is {loss}; the step was not applied, model and optimizer are as before it.{place} "
        "Lower the learning rate, clip the gradient (fx.ClipGlobalNorm), or look at the batch."
    )


def _path(model: Any, part: Any) -> str:
    """The path of a layer or a function; that of jax's own functions is found at what holds them."""
    for node in scan(model).nodes:
        if node.original is part:
            return node.path
        for step, ref in node.children:
            if isinstance(ref, Static) and ref.value is part:
                return extend_path(node.path, step)
    return ""


def _finite(out: Any) -> bool:
    leaves = [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "dtype")]
    return all(bool(jnp.isfinite(leaf).all()) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))


def _gradient_report(program: StepProgram, leaves: Sequence[Any], key: Any, batch: Any, step: int, loss: float) -> str:
    def loss_of(trained: list[Any]) -> Any:
        return program.call(program.template.build(program.with_active(leaves, trained)), key, batch)[0]

    trained = [leaves[i] for i in program.active]
    grads = jax.grad(loss_of)(trained)
    paths = [program.template.paths[i] for i, g in zip(program.active, grads, strict=True) if not _finite(g)]
    named = ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")
    return (
        f"the gradient of step {step} is not finite, although the loss is {loss:.6g}"
        f"{': it is in ' + named if named else ''}. The step was not applied, model and optimizer are as before it. "
        "Look for a derivative that is infinite, such as that of sqrt at 0."
    )
