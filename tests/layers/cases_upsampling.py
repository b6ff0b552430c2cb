"""Cases of the layers that make pictures larger."""

from check_layer import case

import fluxion as fx

CASES = {
    fx.PixelShuffle: [
        case(
            make=lambda: fx.PixelShuffle(2),
            inputs=[(2, 3, 2, 8)],
            wrong=[(2, 3, 2, 6)],
            match=r"expected channels divisible by 4, 2 for each of 2 spatial axes, got \(2, 3, 2, 6\)",
        ),
    ],
    fx.Upsample: [
        case(
            make=lambda: fx.Upsample((2, 1.5), mode="bilinear"),
            inputs=[(2, 3, 2, 2)],
            wrong=[(2, 3, 2)],
            match=r"expected input \(batch, height, width, channels\) for mode=\"bilinear\", got \(2, 3, 2\)",
        ),
        case(make=lambda: fx.Upsample(size=5), inputs=[(2, 3, 2)]),
    ],
}
