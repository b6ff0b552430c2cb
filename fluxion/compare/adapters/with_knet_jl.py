"""Knet.jl: layers by hand, as its documentation has them, and an optimizer that is an iterator over the data."""

from __future__ import annotations

import numpy as np

from .. import parts as w
from .. import programs
from . import julia_programs as shared

NAME = "knet-jl"
TITLE = "Knet.jl"
NEEDS: tuple[str, ...] = ()
PROGRAMS = shared.PROGRAMS
PIP: tuple[str, ...] = ()  # julia -e 'using Pkg; Pkg.add("Knet")'
ENVIRONMENT: dict[str, str] = {}
MODES = {"autograd": "gradients by AutoGrad"}
KNOWN = {w.Dense, w.Conv, w.MaxPool, w.Dropout, w.Flatten}
threads = shared.threads


def supports(workload: w.Workload, mode: str) -> bool | str:
    if workload.kind not in ("compare", "train"):
        return "only training is measured in Julia"
    if unknown := sorted(kind.__name__ for kind in programs.kinds(workload) - KNOWN):
        return f"no {', '.join(unknown)} in this adapter"
    if workload.loss != "cross entropy" or workload.penalty:
        return "only the cross entropy is written here"
    return True


def versions() -> dict[str, str]:
    return shared.versions("Knet")


# ----------------------------------------------------------------------------------------- the program

TYPES = {
    w.Dense: """
struct Dense; w; b; f; end
Dense(i::Int, o::Int, f = identity) = Dense(param(o, i), param0(o), f)
(d::Dense)(x) = d.f.(d.w * x .+ d.b)
""",
    w.Conv: """
struct Conv; w; b; f; o; end
Conv(k::Int, i::Int, o::Int, f = identity; options...) = Conv(param(k, k, i, o), param0(1, 1, o, 1), f, options)
(c::Conv)(x) = c.f.(conv4(c.w, x; mode = 1, c.o...) .+ c.b)
""",
    w.Dropout: """
struct Dropout; p; end
(d::Dropout)(x) = dropout(x, d.p)
""",
    "chain": """
struct Chain; layers; Chain(layers...) = new(layers); end
(c::Chain)(x) = foldl((x, layer) -> layer(x), c.layers; init = x)
(c::Chain)(x, y) = nll(c(x), y)
""",
}


def layer(part: w.Part) -> str:
    active = f", {programs.activation(part)}" if programs.activation(part) else ""
    if isinstance(part, w.Dense):
        return f"Dense({part.inputs}, {part.outputs}{active})"
    if isinstance(part, w.Conv):
        options = [f"stride = {part.stride}"] * (part.stride != 1) + [f"padding = {part.padding}"] * (part.padding != 0)
        named = f"; {', '.join(options)}" if options else ""
        return f"Conv({part.kernel}, {part.inputs}, {part.outputs}{active}{named})"
    return {w.MaxPool: "pool", w.Flatten: "mat", w.Dropout: f"Dropout({getattr(part, 'rate', 0)})"}[type(part)]


def optimizer(rule: w.Optimizer, name: str, data: str) -> str:
    rate = programs.number(rule.rate)
    if isinstance(rule, w.Adam):
        options = f"lr = {rate}"
        if rule != w.Adam(rule.rate):
            options += f", beta1 = {rule.beta1}, beta2 = {rule.beta2}, eps = {programs.number(rule.epsilon)}"
        return f"adam{name}(model, {data}; {options})"
    if isinstance(rule, w.Momentum):
        return f"momentum{name}(model, {data}; lr = {rate}, gamma = {programs.number(rule.rho)})"
    return f"sgd{name}(model, {data}; lr = {rate})"


def program(workload: w.Workload, mode: str) -> str:
    kinds = programs.kinds(workload) | {"chain"}
    types = "\n".join(text.strip("\n") + "\n" for kind, text in TYPES.items() if kind in kinds)
    return f"""using Knet

{types}
const model = Chain(
{programs.listed(map(layer, workload.network))}
)

train!(batches) = collect({optimizer(workload.optimizer, "", "batches")})

function fit!(x, y, epochs)
    data = minibatch(x, y, {workload.batch}; shuffle = true)
    {optimizer(workload.optimizer, "!", "repeat(data, epochs)")}
end

function evaluate(batches)
    total, right, count = 0.0, 0.0, 0
    for (x, y) in batches
        outputs = model(x)
        total += length(y) * nll(outputs, y)
        right += length(y) * accuracy(outputs, y)
        count += length(y)
    end
    total / count, right / count
end
"""


# --------------------------------------------------------------------------------------------- the glue

GLUE = """
inputs(x) = x
labels(y) = vec(y) .+ Int32(1)

# The parameters of each layer, in the order of the file.
function load!(arrays)
    for (parameter, array) in zip(Knet.params(model), arrays)
        copyto!(value(parameter), array)
    end
end

function restart!()
    for parameter in Knet.params(model)
        parameter.opt = nothing
    end
end
"""


class Session(shared.Session):
    def text(self, mode: str) -> str:
        return program(self.workload, mode) + GLUE + shared.SERVER

    def arrays(self, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
        arrays = []
        for _, own in programs.owned(self.workload, weights, channels_first=True):
            arrays += [array.transpose(3, 2, 0, 1) if array.ndim == 4 else array for array in own.values()]
        return arrays
