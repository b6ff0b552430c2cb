"""Characters of Shakespeare, two LSTMs: recurrent work, in many small products one after the other."""

from fluxion.compare import parts as w
from fluxion.compare.workloads import Comparison

WORKLOAD = Comparison(
    title="The next character of Shakespeare, two LSTMs",
    post="none of the posts: Flux.jl's and Knet.jl's own example of a recurrent network",
    data="shakespeare",
    split="windows of 64 characters side by side: the first nine tenths of the text to train on, the last to test on",
    fair=w.Workload(
        name="char-lstm",
        title="Characters, 2 LSTM of 128, 64 steps, batch 16",
        network=(w.Embedding(65, 32), w.LSTM(32, 128), w.LSTM(128, 128), w.Dense(128, 65)),
        shape=(64,),
        batch=16,
        classes=65,
        optimizer=w.Adam(1e-3),
        epochs=3,
        examples=15600,
        evaluation=1600,
        block=5,
        checked=50,
        kind="compare",
    ),
    about="The accuracy is that of the next character, over all places of all windows.",
    band=(0.40, 0.56),
)
