"""Cases of the pooling layers."""

from check_layer import case

import fluxion as fx

TOO_SMALL = r"expected spatial axes of at least \(2, 2\) cells, the reach of the kernel, got \(4, 1\) with padding"
TOO_FEW = r"expected spatial axes of at least \(2, 2\) cells, one for each output, got \(3, 4, 1, 2\)"
NO_CHANNELS = r"expected input \(batch, \*spatial, channels\) with 1 to 3 spatial axes, got \(3, 4\)\. Add the batch"
NO_BATCH = r"expected input \(batch, height, width, channels\), got \(4, 4, 2\)\. Add a batch axis: x\[None\]"


def pooling_case(make, wrong=(4, 4, 2), match=NO_BATCH, inputs=(3, 4, 5, 2)):
    return case(make=make, inputs=[inputs], wrong=[wrong], match=match)


CASES = {
    fx.AdaptiveMaxPool: [pooling_case(lambda: fx.AdaptiveMaxPool(2), (3, 4, 1, 2), TOO_FEW)],
    fx.AdaptiveMeanPool: [pooling_case(lambda: fx.AdaptiveMeanPool((2, 3)))],
    fx.GlobalMaxPool: [pooling_case(lambda: fx.GlobalMaxPool(), (3, 4), NO_CHANNELS)],
    fx.GlobalMeanPool: [pooling_case(lambda: fx.GlobalMeanPool(), (3, 4), NO_CHANNELS)],
    fx.LpPool: [pooling_case(lambda: fx.LpPool((2, 3), 3, padding=(0, 1)))],
    fx.MaxPool: [
        pooling_case(lambda: fx.MaxPool(2), (3, 4, 1, 2), TOO_SMALL),
        pooling_case(lambda: fx.MaxPool((2, 3), stride=(1, 2), padding=((0, 1), (1, 1)))),
    ],
    fx.MeanPool: [
        pooling_case(lambda: fx.MeanPool((2, 3), stride=1, padding="same", count_padding=False)),
    ],
}
