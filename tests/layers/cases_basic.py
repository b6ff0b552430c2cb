"""Cases of the containers, of the affine, dropout and embedding layers."""

import jax.numpy as jnp
import numpy as np
from check_layer import case

import fluxion as fx

CASES = {
    fx.AlphaDropout: [case(make=lambda: fx.AlphaDropout(0.3), inputs=[(4, 3)])],
    fx.Bilinear: [
        case(
            make=lambda: fx.Bilinear((3, 4), 2, fx.tanh),
            inputs=[(5, 3), (5, 4)],
            unsized=lambda: fx.Bilinear((None, None), 2, fx.tanh),
            wrong=[(5, 3), (5, 3)],
            match=r"\(\.\.\., 3\) and \(\.\.\., 4\), got \(5, 3\) and \(5, 3\)\. Use Bilinear\(\(3, 3\), 2\)",
        ),
        case(make=lambda: fx.Bilinear((3, 3), 2, bias=False), inputs=[(2, 2, 3)]),
    ],
    fx.Chain: [
        case(
            make=lambda: fx.Chain(fx.Dense(3, 4, fx.tanh), fx.BatchNorm(4), fx.Dropout(0.2), fx.Dense(4, 2)),
            inputs=[(5, 3)],
            unsized=lambda: fx.Chain(
                fx.Dense(None, 4, fx.tanh), fx.BatchNorm(None), fx.Dropout(0.2), fx.Dense(None, 2)
            ),
        ),
        # Names out of alphabetical order: JAX sorts the keys of dicts.
        case(make=lambda: fx.Chain(wide=fx.Dense(2, 5), narrow=fx.Dense(5, 2), again=fx.Dense(2, 3)), inputs=[(2, 2)]),
        case(make=lambda: fx.Chain(), inputs=[(5, 3)]),
    ],
    fx.Repeated: [
        case(
            make=lambda: fx.Repeated(*(fx.Chain(fx.Dense(3, 3, fx.tanh), fx.BatchNorm(3)) for _ in range(3))),
            inputs=[(5, 3)],
            unsized=lambda: fx.Repeated(*(fx.Chain(fx.Dense(None, 3, fx.tanh), fx.BatchNorm(None)) for _ in range(3))),
        ),
    ],
    fx.Dense: [
        case(
            make=lambda: fx.Dense(3, 2, fx.tanh),
            inputs=[(5, 3)],
            unsized=lambda: fx.Dense(None, 2, fx.tanh),
            wrong=[(5, 4)],
            match=r"expected input \(\.\.\., 3\), got \(5, 4\)\. Use Dense\(4, 2\) or Dense\(None, 2\)\.",
        ),
        case(
            make=lambda: fx.Dense(3, 2, bias=False), inputs=[(2, 4, 3)], unsized=lambda: fx.Dense(None, 2, bias=False)
        ),
    ],
    fx.Dropout: [
        case(make=lambda: fx.Dropout(0.3), inputs=[(4, 3)]),
        case(make=lambda: fx.Dropout(0.3, axis=(0, -1)), inputs=[(4, 3, 2)]),
    ],
    fx.Embedding: [
        case(make=lambda: fx.Embedding(6, 3), inputs=[np.array([[0, 5], [3, 3]])], wrong=[(2, 4)]),
        case(make=lambda: fx.Embedding(6, 3), inputs=[(2, 6)]),
        case(
            make=lambda: fx.Embedding(6, 3, padding_index=2),
            inputs=[np.array([[0, 5], [2, 3]])],
            wrong=[np.array([0, 6])],
            match=r"index 6 at position \(1,\) is outside \[0, 6\)",
            gradients=False,  # finite differences do not know that the padding row has none
        ),
    ],
    fx.TableEmbedding: [
        case(
            make=lambda: fx.TableEmbedding(4, [(2, 6, 3), (0, 4, 2)], init=fx.randn),
            inputs=[np.array([[3, 0.5, 5, -1.5], [0, 2.5, 0, 0.25], [1, 1.5, 5, 1.0]], np.float32)],
            wrong=[(3, 5)],
            match=r"expected input \(\.\.\., 4\), got \(3, 5\)",
        ),
        case(make=lambda: fx.TableEmbedding(3, []), inputs=[(2, 3)]),
    ],
    fx.EmbeddingBag: [
        case(
            make=lambda reduction=reduction: fx.EmbeddingBag(6, 3, reduction),
            inputs=[np.array([[0, 5, 1], [3, 3, 2]])],
            wrong=[np.array(2)],
            match=r"expected bags \(\.\.\., length\), got int32 of shape \(\)",
        )
        for reduction in ("mean", "sum", "max")
    ],
    fx.Maxout: [case(make=lambda: fx.Maxout(fx.Dense(3, 2), fx.Dense(3, 2)), inputs=[(5, 3)])],
    fx.PairwiseFusion: [
        case(make=lambda: fx.PairwiseFusion(jnp.add, fx.Dense(3, 3), fx.Dense(3, 2)), inputs=[(5, 3), (5, 3)]),
        case(make=lambda: fx.PairwiseFusion(jnp.add, b=fx.Dense(3, 3), a=fx.Dense(3, 3)), inputs=[(5, 3)]),
    ],
    fx.Parallel: [
        case(
            make=lambda: fx.Parallel(jnp.add, fx.Dense(3, 2), fx.Dense(4, 2)),
            inputs=[(5, 3), (5, 4)],
            unsized=lambda: fx.Parallel(jnp.add, fx.Dense(None, 2), fx.Dense(None, 2)),
            wrong=[(5, 3), (5, 4), (5, 5)],
            match="expected 1 or 2 inputs for 2 layers, got 3",
        ),
        case(make=lambda: fx.Parallel(jnp.add, b=fx.Dense(3, 2), a=fx.Chain(fx.Dense(3, 2))), inputs=[(5, 3)]),
    ],
    fx.Scale: [
        case(
            make=lambda: fx.Scale(3, activation=fx.tanh),
            inputs=[(5, 3)],
            unsized=lambda: fx.Scale(None, activation=fx.tanh),
            wrong=[(5, 4)],
            match=r"expected input \(\.\.\., 3\), got \(5, 4\)\. Use Scale\(4\) or Scale\(None\)\.",
        ),
        case(make=lambda: fx.Scale(1, 3, bias=False), inputs=[(2, 4, 3)]),
    ],
    fx.SkipConnection: [
        case(
            make=lambda: fx.SkipConnection(fx.Dense(3, 3, fx.relu), jnp.add),
            inputs=[(5, 3)],
            unsized=lambda: fx.SkipConnection(fx.Dense(None, 3, fx.relu), jnp.add),
        )
    ],
}
