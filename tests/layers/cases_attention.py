"""Cases of attention, of positions and of the transformer's block."""

from check_layer import case

import fluxion as fx

CASES = {
    fx.LearnedPositions: [
        case(
            make=lambda: fx.LearnedPositions(5, 4),
            inputs=[(3, 2, 4)],
            unsized=lambda: fx.LearnedPositions(5, None),
            wrong=[(3, 6, 4)],
            match=r"expected positions below 5, got 0 to 5\. Use LearnedPositions\(6, 4\), or shorter sequences\.",
        )
    ],
    fx.MultiHeadAttention: [
        case(
            make=lambda: fx.MultiHeadAttention(4, num_heads=2, dropout=0.2, positions=fx.rotary),
            inputs=[(3, 5, 4)],
            unsized=lambda: fx.MultiHeadAttention(None, num_heads=2, dropout=0.2, positions=fx.rotary),
            wrong=[(3, 5, 6)],
            match=r"expected input \(batch, length, 4\) or \(length, 4\), got \(3, 5, 6\)\. Use MultiHeadAtt",
        ),
        case(
            make=lambda: fx.MultiHeadAttention(
                3, num_heads=4, num_key_heads=2, key_features=5, head_features=2, out_features=6, bias=False
            ),
            inputs=[(2, 3, 3), (2, 4, 5)],
            wrong=[(2, 3, 3)],
            match=r"expected key and value \(2, length, 5\) for query \(2, 3, 3\), got \(2, 3, 3\) and \(2, 3, 3\)\.",
        ),
    ],
    fx.SinusoidalPositions: [
        case(
            make=lambda: fx.SinusoidalPositions(base=50.0),
            inputs=[(3, 2, 4)],
            wrong=[(3, 2, 5)],
            match=r"expected input \(\.\.\., length, features\) with an even number of features, got \(3, 2, 5\)\.",
        )
    ],
    fx.TransformerBlock: [
        case(
            make=lambda: fx.TransformerBlock(4, num_heads=2, hidden=5, dropout=0.2, causal=True),
            inputs=[(2, 3, 4)],
            unsized=lambda: fx.TransformerBlock(None, num_heads=2, hidden=5, dropout=0.2, causal=True),
            wrong=[(2, 3, 6)],
            match=r"expected input \(batch, length, 4\) or \(length, 4\), got \(2, 3, 6\)\. Use TransformerBlock\(6, ",
        )
    ],
}
