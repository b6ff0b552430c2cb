"""The reference in NumPy beside torch in float64: loss after loss, so that the gradients are compared, too."""

import numpy as np
import pytest

from fluxion.compare import parts as w
from fluxion.compare import reference
from fluxion.errors import ArgumentError

torch = pytest.importorskip("torch")
F = torch.nn.functional

NETWORKS = {
    "dense": ((w.Dense(5, 4, "relu"), w.Dense(4, 4, "tanh"), w.Dense(4, 3)), (5,)),
    "conv": (
        (w.Conv(3, 2, 4, "relu", same=True), w.MaxPool(), w.Conv(3, 4, 3, "tanh", bias=False), w.Flatten((1, 2, 3)),
         w.Dense(6, 3)), (7, 8, 2),
    ),
    "strides": ((w.Conv(3, 1, 2, stride=2, same=True), w.Flatten((4, 3, 2)), w.Dense(24, 3)), (7, 6, 1)),
    "text": ((w.Embedding(3, 4), w.LSTM(4, 5), w.LSTM(5, 4), w.Dense(4, 3)), (6,)),
    "last": ((w.LSTM(2, 5), w.LastStep(), w.Dense(5, 3)), (4, 2)),
}  # fmt: skip


def forward(network, arrays, x):
    """The same network by torch's operations."""
    for i, part in enumerate(network):
        own = {name: arrays[f"{i}.{name}"] for name in part.shapes()}
        match part:
            case w.Dense():
                x = x @ own["weight"] + own["bias"]
            case w.Conv():
                x = F.conv2d(x.permute(0, 3, 1, 2), own["weight"].permute(3, 2, 0, 1), own.get("bias"), part.stride,
                             part.padding).permute(0, 2, 3, 1)  # fmt: skip
            case w.MaxPool():
                x = F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
            case w.Flatten():
                x = x.reshape(len(x), -1)
            case w.LastStep():
                x = x[:, -1]
            case w.Embedding():
                x = own["weight"][x]
            case w.LSTM():
                lstm = torch.nn.LSTM(part.inputs, part.outputs, batch_first=True, dtype=torch.float64)
                values = {
                    "weight_ih_l0": own["weight"].T, "weight_hh_l0": own["recurrent_weight"].T,
                    "bias_ih_l0": own["bias"], "bias_hh_l0": torch.zeros_like(own["bias"]),
                }  # fmt: skip
                x = torch.func.functional_call(lstm, values, (x,))[0]
        if getattr(part, "activation", ""):
            x = {"relu": torch.relu, "tanh": torch.tanh}[part.activation](x)
    return x


def by_torch(workload, weights, batches):
    arrays = {name: torch.tensor(a, dtype=torch.float64, requires_grad=True) for name, a in weights.items()}
    rule = workload.optimizer
    options = {"lr": rule.rate}
    if isinstance(rule, w.Adam):
        options |= {"betas": (rule.beta1, rule.beta2), "eps": rule.epsilon}
    elif isinstance(rule, w.Momentum):
        options["momentum"] = rule.rho
    opt = (torch.optim.Adam if isinstance(rule, w.Adam) else torch.optim.SGD)(arrays.values(), **options)
    losses = []
    for x, y in batches:
        opt.zero_grad()
        outputs = forward(workload.network, arrays, torch.tensor(x)).flatten(0, -2)
        y = torch.tensor(y).long().flatten()
        p = outputs.softmax(-1)
        loss = {
            "cross entropy": lambda: F.cross_entropy(outputs, y),
            "cross entropy of softmax": lambda: F.cross_entropy(p, y),
            "squared error of softmax": lambda: F.mse_loss(p, F.one_hot(y, 3).double()),
        }[workload.loss]()
        loss = loss + workload.penalty * sum((a**2).sum() for n, a in arrays.items() if "weight" in n)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("dense", {"optimizer": w.Adam(0.05, 0.8, 0.95, 1e-6)}),
        ("dense", {"optimizer": w.SGD(0.5), "loss": "squared error of softmax", "penalty": 0.1}),
        ("dense", {"optimizer": w.Momentum(0.1, 0.7), "loss": "cross entropy of softmax"}),
        ("conv", {"optimizer": w.Momentum(0.1, 0.9)}),
        ("strides", {"optimizer": w.SGD(0.1)}),
        ("text", {"optimizer": w.Adam(0.01)}),
        ("last", {"optimizer": w.SGD(0.3)}),
    ],
)
def test_the_losses_are_torchs(network, options):
    parts, shape = NETWORKS[network]
    workload = w.Workload("", "", parts, shape, 4, classes=3, init="fan in", **options)
    random = np.random.default_rng(0)
    text = isinstance(parts[0], w.Embedding)
    batches = [
        (random.integers(0, 3, (4, *shape)) if text else random.normal(size=(4, *shape)),
         random.integers(0, 3, (4, *shape) if text else 4))
        for _ in range(5)
    ]  # fmt: skip
    weights = workload.weights()
    before = {name: array.copy() for name, array in weights.items()}
    found = reference.losses(workload, weights, batches)
    np.testing.assert_allclose(found, by_torch(workload, weights, batches), rtol=1e-10)
    assert all(np.array_equal(weights[name], before[name]) for name in weights)  # they are drawn for all


def test_a_network_without_formulas():
    workload = w.Workload("", "", (w.BatchNorm(3),), (3,), 1)
    with pytest.raises(ArgumentError, match="no formulas here for BatchNorm"):
        reference.losses(workload, workload.weights(), [])
