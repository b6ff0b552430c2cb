"""Cases of the convolutions and of padding. Their rows are held in `test_layers_conv.py`: a row alone has no batch."""

from check_layer import case

import fluxion as fx

CASES = {
    fx.Conv: [
        case(
            make=lambda: fx.Conv((3, 2), 4, 6, fx.tanh, stride=(2, 1), padding=((0, 1), (1, 0)), groups=2),
            inputs=[(2, 5, 4, 4)],
            unsized=lambda: fx.Conv((3, 2), None, 6, fx.tanh, stride=(2, 1), padding=((0, 1), (1, 0)), groups=2),
            wrong=[(2, 5, 4, 2)],
            match=r"expected input \(batch, height, width, 4\), got \(2, 5, 4, 2\)\. "
            r"Use Conv\(\(3, 2\), 2, 6\) or Conv\(\(3, 2\), None, 6\)\.",
        ),
        case(
            make=lambda: fx.Conv((3,), 2, 1, padding="same", flip=True, bias=False),
            inputs=[(2, 4, 2)],
            wrong=[(4, 2)],
            match=r"expected input \(batch, length, 2\), got \(4, 2\)\. Add a batch axis: x\[None\]\.",
        ),
    ],
    fx.ConvTranspose: [
        case(
            make=lambda: fx.ConvTranspose((3,), 4, 6, fx.tanh, stride=3, padding=1, output_padding=2, groups=2),
            inputs=[(2, 3, 4)],
            unsized=lambda: fx.ConvTranspose((3,), None, 6, fx.tanh, stride=3, padding=1, output_padding=2, groups=2),
            wrong=[(2, 3, 3)],
            match=r"expected input \(batch, length, 4\), got \(2, 3, 3\)\. Use ConvTranspose\(\(3,\), None, 6\)\.",
        ),
    ],
    fx.DepthwiseConv: [
        case(
            make=lambda: fx.DepthwiseConv((2, 2), 2, 4, fx.tanh, dilation=2),
            inputs=[(2, 3, 4, 2)],
            unsized=lambda: fx.DepthwiseConv((2, 2), None, 4, fx.tanh, dilation=2),
            wrong=[(2, 3, 4, 3)],
            match=r"expected input \(batch, height, width, 2\), got \(2, 3, 4, 3\)\. "
            r"Use DepthwiseConv\(\(2, 2\), None, 4\)\.",
        ),
        case(
            make=lambda: fx.DepthwiseConv((3,), 2, padding="same", bias=False),
            inputs=[(2, 3, 2)],
            unsized=lambda: fx.DepthwiseConv((3,), None, padding="same", bias=False),
            wrong=[(2, 3, 1)],
            match=r"Use DepthwiseConv\(\(3,\), 1\) or DepthwiseConv\(\(3,\), None\)\.",
        ),
    ],
    fx.Pad: [
        case(
            make=lambda: fx.Pad(((1, 0), (0, 2)), "reflect"),
            inputs=[(2, 2, 3, 1)],
            wrong=[(2, 2, 2, 1)],
            match=r'expected at most 1 cells of "reflect" padding on a side of an axis of 2, got 2',
        ),
    ],
}
