"""PyTorch: eager, channels_last, and torch.compile; with the fused optimizer in all of them.

An LSTM of PyTorch has two biases that are added; the second one is kept at zero. A permutation of whole tensors is
several times faster than a DataLoader of single examples.
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

NAME = "torch"
TITLE = "PyTorch"
NEEDS = ("torch",)
PIP = ("torch", "numpy", "--index-url", "https://download.pytorch.org/whl/cpu")
ENVIRONMENT: dict[str, str] = {}
MODES = {
    "eager": "operation by operation",
    "channels_last": "images with their channels last in memory",
    "compile": "torch.compile, images with their channels last in memory",
}


def supports(workload: w.Workload, mode: str) -> bool | str:
    if mode == "channels_last":
        return workload.has_convolution or "it has no images"
    if mode == "compile" and workload.kind == "start":
        return "its first step is for long training"
    if mode == "compile" and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler"
    return True


def versions() -> dict[str, str]:
    import torch

    return {"torch": torch.__version__}


def threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


# ----------------------------------------------------------------------------------------- the program

CLASSES = {
    w.SpatialMean: """
class SpatialMean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))
""",
    w.LSTM: """
class LSTM(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.lstm = nn.LSTM(inputs, outputs, batch_first=True)
        self.lstm.bias_hh_l0.requires_grad_(False).zero_()  # one bias is enough

    def forward(self, x):
        return self.lstm(x)[0]
""",
    w.LastStep: """
class LastStep(nn.Module):
    def forward(self, x):
        return x[:, -1]
""",
    w.Positions: """
class Positions(nn.Module):
    def __init__(self, length, features):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(length, features))

    def forward(self, x):
        return x + self.weight[: x.shape[1]]
""",
    w.Residual: """
class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.projected = inputs != outputs or stride != 1
        if self.projected:
            self.conv3 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return F.relu(y + (self.norm3(self.conv3(x)) if self.projected else x), inplace=True)
""",
    w.Block: """
class Block(nn.Module):
    def __init__(self, features, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.qkv, self.out = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
""",
}


def modules(part: w.Part) -> list[str]:
    """The modules of a part, the one with the arrays first."""
    if isinstance(part, w.Dense):
        return [f"nn.Linear({part.inputs}, {part.outputs})", *activation(part)]
    if isinstance(part, w.Conv):
        options = [f"{part.inputs}, {part.outputs}, {part.kernel}"]
        options += [f"stride={part.stride}"] * (part.stride != 1) + [f"padding={part.padding}"] * (part.padding != 0)
        return [f"nn.Conv2d({', '.join(options + ['bias=False'] * (not part.bias))})", *activation(part)]
    if isinstance(part, w.BatchNorm):
        return [f"nn.BatchNorm2d({part.channels})", "nn.ReLU()"]
    if isinstance(part, w.Residual):
        return [f"Residual({part.inputs}, {part.outputs}{f', {part.stride}' * (part.stride != 1)})"]
    if isinstance(part, w.LSTM):
        return [f"LSTM({part.inputs}, {part.outputs})"]
    if isinstance(part, w.Embedding):
        return [f"nn.Embedding({part.vocabulary}, {part.features})"]
    if isinstance(part, w.Positions):
        return [f"Positions({part.length}, {part.features})"]
    if isinstance(part, w.LayerNorm):
        return [f"nn.LayerNorm({part.features})"]
    if isinstance(part, w.Block):
        return [f"Block({part.features}, {part.heads}, causal={part.causal})"]
    if isinstance(part, w.Dropout):
        return [f"nn.Dropout({part.rate})"]
    return {
        w.MaxPool: ["nn.MaxPool2d(2)"],
        w.Flatten: ["nn.Flatten()"],
        w.SpatialMean: ["SpatialMean()"],
        w.LastStep: ["LastStep()"],
    }[type(part)]


def activation(part: w.Dense | w.Conv) -> list[str]:
    return {"relu": ["nn.ReLU()"], "tanh": ["nn.Tanh()"], "": []}[part.activation]


def optimizer(rule: w.Optimizer) -> str:
    if isinstance(rule, w.Adam):
        options = programs.betas(rule, "betas=({}, {}), ")
        options += f"eps={programs.number(rule.epsilon)}, " if rule.epsilon != 1e-8 else ""
        return f"torch.optim.Adam(model.parameters(), lr={programs.number(rule.rate)}, {options}fused=True)"
    momentum = f"momentum={programs.number(rule.rho)}, " if isinstance(rule, w.Momentum) else ""
    return f"torch.optim.SGD(model.parameters(), lr={programs.number(rule.rate)}, {momentum}fused=True)"


def losses(workload: w.Workload) -> tuple[str, str]:
    """The loss of a step of training, and that of an evaluation, summed over all labels."""
    flat = (".flatten(0, 1)", ".flatten()") if programs.is_text(workload) else ("", "")
    text = f"F.cross_entropy(model(x){flat[0]}, y{flat[1]})"
    if workload.loss == "cross entropy of softmax":
        text = f"F.cross_entropy(model(x).softmax(-1){flat[0]}, y{flat[1]})"
    elif workload.loss == "squared error of softmax":
        text = f"F.mse_loss(model(x).softmax(-1), F.one_hot(y, {workload.classes}).float())"
    if workload.penalty:
        squares = "sum(p.square().sum() for p in model.parameters() if p.ndim > 1)"
        text += f"\n        loss += {programs.number(workload.penalty)} * {squares}"
    return text, f'F.cross_entropy(outputs{flat[0]}, y{flat[1]}, reduction="sum")'


def program(workload: w.Workload, mode: str) -> str:
    images = len(workload.shape) == 3
    last = images and mode != "eager"
    kinds = {type(part) for part in workload.network}
    model = [line for part in workload.network for line in modules(part)]
    memory = ".to(memory_format=torch.channels_last)" if last else ""
    compiled = "\nmodel = torch.compile(model, dynamic=False)" if mode == "compile" else ""
    start = "import torch\nfrom torch import nn"
    if workload.training or kinds & {w.Block, w.Residual}:
        start += "\nfrom torch.nn import functional as F"
    classes = [text for kind, text in CLASSES.items() if kind in kinds]
    built = f"""
model = nn.Sequential(
{programs.listed(model)}
){memory}{compiled}
"""
    if not workload.training:
        predict = """
model.eval()


@torch.inference_mode()
def predict(x):
    return model(x)
"""
        return programs.joined(start, *classes, built.rstrip() + predict)
    loss, loss_sum = losses(workload)
    picked = "x[rows].permute(0, 3, 1, 2)" if last else "x[rows]"
    comment = "  # images are (batch, height, width, channels) in memory" if last else ""
    return programs.joined(
        start,
        *classes,
        f"{built.rstrip()}\noptimizer = {optimizer(workload.optimizer)}",
        f"""
def train(batches):
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = {loss}
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)
""",
        f"""
def fit(x, y, epochs, size={workload.batch}):{comment}
    for _ in range(epochs):
        order = torch.randperm(len(x)).split(size)[: len(x) // size]
        train(({picked}, y[rows]) for rows in order)
""",
        f"""
@torch.inference_mode()
def evaluate(batches):
    model.eval()
    loss = right = count = 0
    for x, y in batches:
        outputs = model(x)
        loss += {loss_sum}
        right += (outputs.argmax(-1) == y).sum()
        count += y.numel()
    model.train()
    return float(loss / count), float(right / count)
""",
    )


# --------------------------------------------------------------------------------------------- the glue


def loaded(part: w.Part, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a part under torch's names and in torch's layout: channels first, (out, in)."""
    if isinstance(part, w.Dense):
        return {"weight": own["weight"].T, "bias": own["bias"]}
    if isinstance(part, w.Conv):
        return {**own, "weight": own["weight"].transpose(3, 2, 0, 1)}
    if isinstance(part, w.Residual):
        turned = {name: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for name, a in own.items()}
        return {name.replace("scale", "weight"): a for name, a in turned.items()}
    if isinstance(part, (w.BatchNorm, w.LayerNorm)):
        return {"weight": own["scale"], "bias": own["bias"]}
    if isinstance(part, w.LSTM):
        names = {"weight": "weight_ih_l0", "recurrent_weight": "weight_hh_l0", "bias": "bias_ih_l0"}
        return {f"lstm.{names[name]}": a.T for name, a in own.items()}
    if isinstance(part, w.Block):
        qkv = ("query", "key", "value")
        arrays = {f"{name}.weight": own[f"{name}.weight"].T for name in ("out", "up", "down")}
        arrays.update({f"{name}.bias": own[f"{name}.bias"] for name in ("norm1", "norm2", "out", "up", "down")})
        arrays.update({f"{name}.weight": own[f"{name}.scale"] for name in ("norm1", "norm2")})
        arrays["qkv.weight"] = np.concatenate([own[f"{name}.weight"].T for name in qkv])
        arrays["qkv.bias"] = np.concatenate([own[f"{name}.bias"] for name in qkv])
        return arrays
    return own


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        import torch

        self.torch, self.workload = torch, workload
        self.images = len(workload.shape) == 3
        self.channels_last = self.images and mode != "eager"
        self.program = programs.execute(program(workload, mode), f"{workload.name} in PyTorch, {mode}")
        model = self.program.model
        layers, place = getattr(model, "_orig_mod", model), 0
        for part, own in programs.owned(workload, weights, channels_first=True):
            state = {name: torch.from_numpy(np.array(a, order="C")) for name, a in loaded(part, own).items()}
            if state:
                unknown = layers[place].load_state_dict(state, strict=False).unexpected_keys
                assert not unknown, unknown
            place += len(modules(part))

    def inputs(self, x: np.ndarray) -> Any:
        """Images are (batch, channels, height, width), in memory as the mode has them."""
        tensor = self.torch.from_numpy(np.ascontiguousarray(x))
        tensor = tensor.permute(0, 3, 1, 2) if self.images else tensor
        return tensor if self.channels_last else tensor.contiguous()

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.inputs(x), self.torch.from_numpy(y).long()) for x, y in batches]

    def losses(self, batches: list[Any]) -> np.ndarray:
        return self.program.train(batches).numpy()

    def train(self, batches: list[Any]) -> None:
        self.program.train(batches)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        ((images, labels),) = self.prepare([(x, y)])
        if self.channels_last:  # indexing keeps the order in memory only this way
            images = images.permute(0, 2, 3, 1)
        self.program.fit(images, labels, count)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        batches = programs.thousands(x, y)
        return self.program.evaluate(self.prepare([batch])[0] for batch in batches)

    def forward(self, x: Any) -> Any:
        if self.workload.training:
            with self.torch.inference_mode():
                self.program.model.eval()
                outputs = self.program.model(x)
                self.program.model.train()
                return outputs
        return self.program.predict(x)

    def restart(self) -> None:
        self.program.optimizer.state.clear()
