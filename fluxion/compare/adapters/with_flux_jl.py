"""Flux.jl, 0.15 or newer: `Flux.setup`, `withgradient` and `update!`, as its documentation has the loop."""

from __future__ import annotations

import numpy as np

from .. import parts as w
from .. import programs
from . import julia_programs as shared

NAME = "flux-jl"
TITLE = "Flux.jl"
NEEDS: tuple[str, ...] = ()
PROGRAMS = shared.PROGRAMS
PIP: tuple[str, ...] = ()  # julia -e 'using Pkg; Pkg.add("Flux")'
ENVIRONMENT: dict[str, str] = {}
MODES = {"zygote": "gradients by Zygote"}
KNOWN = {w.Dense, w.Conv, w.MaxPool, w.Dropout, w.Flatten, w.LSTM, w.LastStep, w.Embedding}
threads = shared.threads


def supports(workload: w.Workload, mode: str) -> bool | str:
    if workload.kind not in ("compare", "train"):
        return "only training is measured in Julia"
    if unknown := sorted(kind.__name__ for kind in programs.kinds(workload) - KNOWN):
        return f"no {', '.join(unknown)} in this adapter"
    return True


def versions() -> dict[str, str]:
    return shared.versions("Flux")


# ----------------------------------------------------------------------------------------- the program


def layer(part: w.Part) -> str:
    active = f", {programs.activation(part)}" if programs.activation(part) else ""
    if isinstance(part, w.Dense):
        return f"Dense({part.inputs} => {part.outputs}{active})"
    if isinstance(part, w.Conv):
        options = [f"stride = {part.stride}"] * (part.stride != 1) + [f"pad = {part.padding}"] * (part.padding != 0)
        options += ["bias = false"] * (not part.bias)
        named = f"; {', '.join(options)}" if options else ""
        return f"Conv(({part.kernel}, {part.kernel}), {part.inputs} => {part.outputs}{active}{named})"
    if isinstance(part, (w.LSTM, w.Embedding)):
        first, second = programs.sizes(part)
        return f"{type(part).__name__}({first} => {second})"
    return {
        w.MaxPool: "MaxPool((2, 2))",
        w.Dropout: f"Dropout({getattr(part, 'rate', 0)})",
        w.Flatten: "Flux.flatten",
        w.LastStep: "x -> x[:, end, :]",
    }[type(part)]


def optimizer(rule: w.Optimizer) -> str:
    rate = programs.number(rule.rate)
    if rule == w.Adam(rule.rate):
        return f"Adam({rate})"
    if isinstance(rule, w.Adam):
        return f"Adam({rate}, ({rule.beta1}, {rule.beta2}), {programs.number(rule.epsilon)})"
    return f"Momentum({rate}, {programs.number(rule.rho)})" if isinstance(rule, w.Momentum) else f"Descent({rate})"


def program(workload: w.Workload, mode: str) -> str:
    loss = {
        "cross entropy": "Flux.logitcrossentropy(model(x), y)",
        "cross entropy of softmax": "Flux.logitcrossentropy(softmax(model(x)), y)",
        "squared error of softmax": "Flux.mse(softmax(model(x)), y)",
    }[workload.loss]
    if workload.penalty:
        weights = "sum(sum(abs2, p) for p in Flux.trainables(model) if ndims(p) > 1)"
        loss += f" + {programs.number(workload.penalty)} * {weights}"
    return f"""using Flux

const model = Chain(
{programs.listed(map(layer, workload.network))}
)
const opt_state = Flux.setup({optimizer(workload.optimizer)}, model)

loss(model, x, y) = {loss}

function train!(batches)
    losses = Float32[]
    for (x, y) in batches
        value, grads = Flux.withgradient(m -> loss(m, x, y), model)
        Flux.update!(opt_state, model, grads[1])
        push!(losses, value)
    end
    losses
end

function fit!(x, y, epochs)
    loader = Flux.DataLoader((x, y); batchsize = {workload.batch}, shuffle = true, partial = false)
    for epoch in 1:epochs
        train!(loader)
    end
end

function evaluate(batches)
    total, right, count = 0.0, 0, 0
    Flux.testmode!(model)
    for (x, y) in batches
        outputs = model(x)
        n = length(Flux.onecold(y))
        total += n * Flux.logitcrossentropy(outputs, y)
        right += sum(Flux.onecold(outputs) .== Flux.onecold(y))
        count += n
    end
    Flux.trainmode!(model)
    total / count, right / count
end
"""


# --------------------------------------------------------------------------------------------- the glue

GLUE = """
function restart!()
    for (leaf, fresh) in zip(leaves(opt_state), leaves(Flux.setup(RULE, model)))
        leaf.state = fresh.state
    end
end

leaves(tree::Flux.Optimisers.Leaf) = [tree]
leaves(tree::Union{Tuple, NamedTuple}) = reduce(vcat, map(leaves, collect(tree)); init = [])
leaves(tree) = []

# The parameters of each layer, in the order of the file.
function load!(arrays)
    arrays = Iterators.Stateful(arrays)
    for layer in model.layers, field in fields(layer)
        copyto!(field, popfirst!(arrays))
    end
end

fields(layer::Dense) = (layer.weight, layer.bias)
fields(layer::Conv) = layer.bias === false ? (layer.weight,) : (layer.weight, layer.bias)
fields(layer::LSTM) = (layer.cell.Wi, layer.cell.Wh, layer.cell.bias)
fields(layer::Embedding) = (layer.weight,)
fields(layer) = ()
"""


class Session(shared.Session):
    def text(self, mode: str) -> str:
        workload = self.workload
        texts = programs.is_text(workload)
        glue = GLUE.replace("RULE", optimizer(workload.optimizer))
        glue += "\ninputs(x) = x .+ 1\n" if texts else "\ninputs(x) = x\n"
        glue += f"labels(y) = Flux.onehotbatch(y, 0:{workload.classes - 1})\n"
        return program(workload, mode) + glue + shared.SERVER

    def arrays(self, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Flux turns a kernel around, as mathematics has a convolution."""
        arrays = []
        for _, own in programs.owned(self.workload, weights, channels_first=True):
            kernels = [array.transpose(3, 2, 0, 1)[:, :, ::-1, ::-1] for array in own.values() if array.ndim == 4]
            arrays += kernels + [array for array in own.values() if array.ndim != 4]
        return arrays
