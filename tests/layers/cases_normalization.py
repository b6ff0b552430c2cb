"""Cases of the layers that normalize: their input, or their weight. And of StochasticDepth."""

from check_layer import case

import fluxion as fx

CASES = {
    fx.BatchNorm: [
        case(
            make=lambda: fx.BatchNorm(3, fx.tanh, momentum=0.2),
            inputs=[(5, 3)],
            unsized=lambda: fx.BatchNorm(None, fx.tanh, momentum=0.2),
            wrong=[(5, 4)],
            match=r"expected input \(\.\.\., 3\), got \(5, 4\)\. Use BatchNorm\(4\)",
        ),
        case(make=lambda: fx.BatchNorm(3, affine=False), inputs=[(2, 3, 2, 3)]),
        case(make=lambda: fx.BatchNorm(3, track_stats=False), inputs=[(4, 3)], independent=False),
    ],
    fx.GroupNorm: [
        case(
            make=lambda: fx.GroupNorm(6, 2, fx.tanh),
            inputs=[(3, 6)],
            unsized=lambda: fx.GroupNorm(None, 2, fx.tanh),
            wrong=[(3, 4)],
            match=r"expected input \(batch, \.\.\., 6\), got \(3, 4\)\. Use GroupNorm\(None, 2\)\.",
        ),
        case(make=lambda: fx.GroupNorm(4, 4, affine=False), inputs=[(2, 3, 4)]),
    ],
    fx.InstanceNorm: [
        case(
            make=lambda: fx.InstanceNorm(3, fx.tanh, affine=True),
            inputs=[(2, 3, 2, 3)],
            unsized=lambda: fx.InstanceNorm(None, fx.tanh, affine=True),
            wrong=[(5, 2, 4)],
            match=r"expected input \(\.\.\., 3\), got \(5, 2, 4\)\. Use InstanceNorm\(4\) or InstanceNorm\(None\)",
        ),
        case(make=lambda: fx.InstanceNorm(2, track_stats=True), inputs=[(3, 4, 2)]),
    ],
    fx.LayerNorm: [
        case(
            make=lambda: fx.LayerNorm(4, activation=fx.tanh),
            inputs=[(5, 4)],
            unsized=lambda: fx.LayerNorm(None, activation=fx.tanh),
            wrong=[(5, 3)],
            match=r"expected input \(\.\.\., 4\), got \(5, 3\)\. Use LayerNorm\(3\) or LayerNorm\(None\)\.",
        ),
        case(
            make=lambda: fx.LayerNorm(3, 2, affine=False),
            inputs=[(2, 3, 2)],
            unsized=lambda: fx.LayerNorm(3, None, affine=False),
        ),
    ],
    fx.RMSNorm: [
        case(
            make=lambda: fx.RMSNorm(3, 2, activation=fx.tanh),
            inputs=[(2, 3, 2)],
            unsized=lambda: fx.RMSNorm(3, None, activation=fx.tanh),
            wrong=[(5, 3)],
            match=r"expected input \(\.\.\., 3, 2\), got \(5, 3\)\. Use RMSNorm\(5, 3\) or RMSNorm\(None, None\)\.",
        )
    ],
    fx.StochasticDepth: [
        case(make=lambda: fx.StochasticDepth(0.3), inputs=[(4, 3)]),
        case(make=lambda: fx.StochasticDepth(0.3, mode="batch"), inputs=[(4, 3)]),
    ],
    fx.WeightNorm: [
        case(
            make=lambda: fx.WeightNorm(fx.Dense(3, 2, fx.tanh)),
            inputs=[(5, 3)],
            unsized=lambda: fx.WeightNorm(fx.Dense(None, 2, fx.tanh)),
            wrong=[(5, 4)],
            match=r"expected input \(\.\.\., 3\), got \(5, 4\)\. Use Dense\(4, 2\) or Dense\(None, 2\)\.",
        ),
        case(make=lambda: fx.WeightNorm(fx.Conv((2,), 3, 2), axis=None), inputs=[(2, 3, 3)]),
    ],
}
