"""Programs as text: what is read is what is run.

An adapter renders the program of a workload as a user of its framework would write it. `execute` runs exactly this text
as a module, and tracebacks show its lines.
"""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from . import parts as w


def execute(text: str, title: str) -> Any:
    """Run a program as a module of its own.

    >>> from fluxion.compare.programs import execute
    >>> execute("def double(x):\\n    return 2 * x\\n", "doubling").double(21)
    42
    """
    name = f"<{title}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module = types.ModuleType("program")
    sys.modules["program"] = module  # compilers of frameworks look a function's module up by its name
    exec(compile(text, name, "exec", dont_inherit=True), module.__dict__)
    return module


def joined(*sections: str) -> str:
    """The sections of a program with two empty lines around functions and classes, else one; empty ones are left out.

    >>> from fluxion.compare.programs import joined
    >>> joined("import math", "", "x = math.pi")
    'import math\\n\\nx = math.pi\\n'
    """
    text = ""
    for section in filter(None, (section.strip("\n") for section in sections)):
        near = not text or not (section.startswith(("def ", "class ", "@")) or text.rpartition("\n")[2].startswith(" "))
        text += ("\n\n" if near else "\n\n\n") * bool(text) + section
    return text + "\n"


def listed(lines: Iterable[str], indent: int = 4) -> str:
    """Each line with a comma, as the arguments of a call.

    >>> from fluxion.compare.programs import listed
    >>> listed(["Dense(4, 10)", "Dense(10, 3)"])
    '    Dense(4, 10),\\n    Dense(10, 3),'
    """
    return "\n".join(" " * indent + line + "," for line in lines)


def returned(body: str) -> str:
    """The body of a function whose last line, `x = ...`, is what it returns.

    >>> from fluxion.compare.programs import returned
    >>> returned("    x = x + 1\\n    x = 2 * x")
    '    x = x + 1\\n    return 2 * x'
    """
    before, _, last = body.rpartition("    x = ")
    return f"{before}    return {last}"


def lines_of(text: str) -> int:
    """How many lines of a program are neither empty nor comment only.

    >>> from fluxion.compare.programs import lines_of
    >>> lines_of("import math\\n\\n# a circle\\nx = math.pi\\n")
    2
    """
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith(("#", "//")))


# -------------------------------------------------------------------------- what the adapters' glue shares


def is_text(workload: w.Workload) -> bool:
    """Whether every step of a sequence has a label of its own."""
    return isinstance(workload.network[0], w.Embedding)


def kinds(workload: w.Workload) -> set[type]:
    """The types of the parts of a network."""
    return {type(part) for part in workload.network}


def owned(
    workload: w.Workload, weights: dict[str, np.ndarray], channels_first: bool = False
) -> Iterator[tuple[w.Part, dict[str, np.ndarray]]]:
    """Each part with its arrays under its own names.

    With `channels_first`, the rows of the weight after a Flatten are ordered as (channels, height, width) flattened.
    """
    before = None
    for i, part in enumerate(workload.network):
        own = {name: weights[f"{i}.{name}"] for name in part.shapes()}
        if channels_first and isinstance(before, w.Flatten) and isinstance(part, w.Dense):
            rows = own["weight"].reshape(*before.shape, -1)
            own["weight"] = rows.transpose(2, 0, 1, 3).reshape(own["weight"].shape)
        yield part, own
        if not isinstance(part, w.Dropout):
            before = part


def thousands(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of 1000, in order; the last one may be smaller."""
    for start in range(0, len(x), 1000):
        yield x[start : start + 1000], y[start : start + 1000]


def sizes(part: w.LSTM | w.Embedding | w.Positions) -> tuple[int, int]:
    """The two sizes that such a layer is made with."""
    values = vars(part)
    first, second = values.values()
    return first, second


def number(value: float) -> str:
    """A number as one would write it.

    >>> from fluxion.compare.programs import number
    >>> number(1e-3), number(1e-8), number(0.01)
    ('1e-3', '1e-8', '0.01')
    """
    mantissa, _, power = f"{value:.12e}".partition("e")
    short = f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return min(f"{value:.12g}", short, key=len) if 0 < value < 0.01 else f"{value:.12g}"


# ------------------------------------------------------------------------ what programs with optax share

OPTAX_LOSS = "optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()"


def optax_rule(rule: w.Optimizer) -> str:
    """The transformation of optax with the formula of a rule."""
    if isinstance(rule, w.Adam):
        named = betas(rule, ", b1={}, b2={}")
        epsilon = f", eps={number(rule.epsilon)}" if rule.epsilon != 1e-8 else ""
        return f"optax.adam({number(rule.rate)}{named}{epsilon})"
    momentum = f", momentum={number(rule.rho)}" if isinstance(rule, w.Momentum) else ""
    return f"optax.sgd({number(rule.rate)}{momentum})"


def optax_loss(workload: w.Workload) -> str:
    """The function `loss(outputs, y)` of a program."""
    text = OPTAX_LOSS
    if workload.loss == "cross entropy of softmax":
        text = text.replace("(outputs,", "(nnx.softmax(outputs),")
    elif workload.loss == "squared error of softmax":
        text = f"((nnx.softmax(outputs) - nnx.one_hot(y, {workload.classes})) ** 2).mean()"
    return f"def loss(outputs, y):\n    return {text}"


def fit_in_numpy(workload: w.Workload) -> str:
    """The function `fit` of a program: a new random order of the rows in each epoch, picked by NumPy."""
    return f"""
def fit(x, y, epochs, size={workload.batch}):
    random = np.random.default_rng()
    for _ in range(epochs):
        order = random.permutation(len(x))[: len(x) // size * size].reshape(-1, size)
        train((x[rows], y[rows]) for rows in order)
"""


def activation(part: w.Part) -> str:
    """The name of the activation of a part, empty where it has none."""
    return getattr(part, "activation", "")


def betas(rule: w.Adam, text: str) -> str:
    """The text, filled with both betas, where they are not the usual ones.

    >>> from fluxion.compare import parts, programs
    >>> programs.betas(parts.Adam(), ", b1={}, b2={}"), programs.betas(parts.Adam(beta1=0.8), ", b1={}, b2={}")
    ('', ', b1=0.8, b2=0.999')
    """
    usual = (rule.beta1, rule.beta2) == (0.9, 0.999)
    return "" if usual else text.format(number(rule.beta1), number(rule.beta2))
