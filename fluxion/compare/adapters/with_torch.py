"""PyTorch: eager, channels_last, and torch.compile; with the fused optimizer in all of them."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .. import parts as w

TRAIN = ("eager", "channels_last", "compile")
MODES = {"train": TRAIN, "infer": TRAIN, "start": ("eager", "channels_last")}


def supports(workload: w.Workload, mode: str) -> bool:
    if mode == "channels_last":
        return workload.has_convolution
    return mode != "compile" or shutil.which("g++") is not None


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def threads(count: int) -> None:
    torch.set_num_threads(count)


class SpatialMean(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mean((2, 3))


class LSTM(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, outputs, batch_first=True)
        self.lstm.bias_hh_l0.requires_grad_(False)  # a second bias would learn twice as fast

    def forward(self, x: Any) -> Any:
        return self.lstm(x)[0]


class LastStep(nn.Module):
    def forward(self, x: Any) -> Any:
        return x[:, -1]


class Positions(nn.Module):
    def __init__(self, length: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(length, features))

    def forward(self, x: Any) -> Any:
        return x + self.weight[: x.shape[1]]


class Residual(nn.Module):
    def __init__(self, part: w.Residual) -> None:
        super().__init__()
        for i, conv in part.convolutions.items():
            setattr(self, f"conv{i}", modules(conv)[0])
            setattr(self, f"norm{i}", nn.BatchNorm2d(part.outputs))
        self.projected = "3" in part.convolutions

    def forward(self, x: Any) -> Any:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return F.relu(y + (self.norm3(self.conv3(x)) if self.projected else x), inplace=True)


class Block(nn.Module):
    def __init__(self, part: w.Block) -> None:
        super().__init__()
        d = part.features
        self.heads, self.causal = part.heads, part.causal
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Any) -> Any:
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


def modules(part: w.Part) -> list[nn.Module]:
    """The modules of a part, the one with the arrays first."""
    match part:
        case w.Dense():
            return [nn.Linear(part.inputs, part.outputs), *relu(part)]
        case w.Conv():
            options = {"stride": part.stride, "padding": part.padding, "bias": part.bias}
            return [nn.Conv2d(part.inputs, part.outputs, part.kernel, **options), *relu(part)]
        case w.MaxPool():
            return [nn.MaxPool2d(2)]
        case w.Flatten():
            return [nn.Flatten()]
        case w.BatchNorm():
            return [nn.BatchNorm2d(part.channels), nn.ReLU()]
        case w.Residual():
            return [Residual(part)]
        case w.SpatialMean():
            return [SpatialMean()]
        case w.LSTM():
            return [LSTM(part.inputs, part.outputs)]
        case w.LastStep():
            return [LastStep()]
        case w.Embedding():
            return [nn.Embedding(part.vocabulary, part.features)]
        case w.Positions():
            return [Positions(part.length, part.features)]
        case w.LayerNorm():
            return [nn.LayerNorm(part.features)]
        case w.Block():
            return [Block(part)]


def relu(part: w.Dense | w.Conv) -> list[nn.Module]:
    return [nn.ReLU()] if part.activation == "relu" else []


def loaded(part: w.Part, before: w.Part | None, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a part under torch's names and in torch's layout: channels first, (out, in)."""
    match part:
        case w.Dense():
            weight = own["weight"]
            if isinstance(before, w.Flatten):  # torch flattens (channels, height, width)
                weight = weight.reshape(*before.shape, -1).transpose(2, 0, 1, 3).reshape(weight.shape)
            return {"weight": weight.T, "bias": own["bias"]}
        case w.Conv():
            return own | {"weight": own["weight"].transpose(3, 2, 0, 1)}
        case w.Residual():
            turned = {name: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for name, a in own.items()}
            return {name.replace("scale", "weight"): a for name, a in turned.items()}
        case w.BatchNorm() | w.LayerNorm():
            return {"weight": own["scale"], "bias": own["bias"]}
        case w.LSTM():
            return {
                "lstm.weight_ih_l0": own["weight"].T,
                "lstm.weight_hh_l0": own["recurrent_weight"].T,
                "lstm.bias_ih_l0": own["bias"],
                "lstm.bias_hh_l0": np.zeros_like(own["bias"]),
            }
        case w.Embedding() | w.Positions():
            return own
        case w.Block():
            qkv = ("query", "key", "value")
            arrays = {f"{name}.weight": own[f"{name}.weight"].T for name in ("out", "up", "down")}
            arrays |= {f"{name}.bias": own[f"{name}.bias"] for name in ("norm1", "norm2", "out", "up", "down")}
            arrays |= {f"{name}.weight": own[f"{name}.scale"] for name in ("norm1", "norm2")}
            arrays["qkv.weight"] = np.concatenate([own[f"{name}.weight"].T for name in qkv])
            arrays["qkv.bias"] = np.concatenate([own[f"{name}.bias"] for name in qkv])
            return arrays
    return {}


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.workload = workload
        self.images = len(workload.shape) == 3
        self.channels_last = mode != "eager"
        groups = [modules(part) for part in workload.network]
        for i, part in enumerate(workload.network):
            own = {name: weights[f"{i}.{name}"] for name in part.shapes()}
            arrays = loaded(part, workload.network[i - 1] if i else None, own)
            state = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
            missing = groups[i][0].load_state_dict(state, strict=False).missing_keys if state else []
            assert all("running" in name or "tracked" in name for name in missing), missing
        self.module = nn.Sequential(*[module for group in groups for module in group])
        if self.images and self.channels_last:
            self.module = self.module.to(memory_format=torch.channels_last)
        self.model = torch.compile(self.module, dynamic=False) if mode == "compile" else self.module
        learned = [p for p in self.module.parameters() if p.requires_grad]
        if isinstance(workload.optimizer, w.Adam):
            self.opt: Any = torch.optim.Adam(learned, lr=1e-3, fused=True)
        else:
            self.opt = torch.optim.SGD(learned, lr=0.01, momentum=0.9, fused=True)
        self.module.train(workload.training)

    def inputs(self, x: np.ndarray) -> Any:
        """Images are (batch, channels, height, width), in memory as the mode has them."""
        x = torch.from_numpy(np.ascontiguousarray(x))
        x = x.permute(0, 3, 1, 2) if self.images else x
        return x if self.channels_last else x.contiguous()

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.inputs(x), torch.from_numpy(y).long()) for x, y in batches]

    def losses(self, batches: Any) -> np.ndarray:
        losses = []
        for x, y in batches:
            self.opt.zero_grad()
            loss = F.cross_entropy(self.model(x).flatten(0, -2), y.flatten())
            loss.backward()
            self.opt.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    train = losses

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        """Whole tensors indexed by a permutation: several times faster than a DataLoader of single examples."""
        ((images, labels),) = self.prepare([(x, y)])
        if self.images and self.channels_last:  # indexing keeps the order in memory only this way
            images = images.permute(0, 2, 3, 1)
        size = self.workload.batch
        for _ in range(count):
            rows = [r for r in torch.randperm(len(x)).split(size) if len(r) == size]
            if self.images and self.channels_last:
                self.losses((images[r].permute(0, 3, 1, 2), labels[r]) for r in rows)
            else:
                self.losses((images[r], labels[r]) for r in rows)

    @torch.inference_mode()
    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        self.module.eval()
        loss, right = torch.zeros(()), torch.zeros(())
        for s in range(0, len(x), 1000):
            ((images, labels),) = self.prepare([(x[s : s + 1000], y[s : s + 1000])])
            outputs = self.model(images)
            loss += F.cross_entropy(outputs, labels, reduction="sum")
            right += (outputs.argmax(-1) == labels).sum()
        self.module.train()
        return float(loss) / len(x), float(right) / len(x)

    @torch.inference_mode()
    def forward(self, x: Any) -> Any:
        return self.model(x)
