"""Shakespeare, one character after another: a small GPT or an LSTM learns to continue a text.

    python examples/characters.py gpt
    python examples/characters.py lstm

The GPT is 64 wide and has 4 blocks; the LSTM has 2 layers of 128 units. The last tenth of the text is for validation.
It prints a line per epoch, and at the end what the model writes, one character at a time: the GPT with a cache of keys
and values, until its window is full, the LSTM with its state.
"""

import sys
import time

import jax
import jax.numpy as jnp

import fluxion as fx

WINDOW = 128  # characters the GPT sees at once


class GPT(fx.Layer):
    def __init__(self, alphabet: int, width: int = 64, depth: int = 4):
        self.token = fx.Embedding(alphabet, width, init=fx.truncated_normal(std=0.02))
        self.position = fx.LearnedPositions(WINDOW, width)
        self.blocks = [fx.TransformerBlock(width, num_heads=4, causal=True) for _ in range(depth)]
        self.norm = fx.LayerNorm(width)
        self.head = fx.Dense(width, alphabet)

    def __call__(self, tokens):
        x = self.position(self.token(tokens))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def memory(self):
        """What `resume` knows before the first character."""
        return [block.cache(1, WINDOW) for block in self.blocks]

    def resume(self, tokens, caches):
        x = self.position(self.token(tokens), caches[0].length)
        extended = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, cache=cache)
            extended.append(cache)
        return self.head(self.norm(x)), extended


class CharLSTM(fx.Layer):
    def __init__(self, alphabet: int, width: int = 128):
        self.token = fx.Embedding(alphabet, 32)
        self.lstm = fx.LSTM(32, width, num_layers=2, return_state=True)
        self.head = fx.Dense(width, alphabet)

    def __call__(self, tokens):
        return self.resume(tokens, None)[0]

    def memory(self):
        return self.lstm.initial_state(1)

    def resume(self, tokens, state):
        y, state = self.lstm(self.token(tokens), state)
        return self.head(y), state


def write(model: GPT | CharLSTM, characters: fx.Characters, prompt: str, length: int, temperature: float = 0.8) -> str:
    """The prompt and what the model makes of it."""
    resume = fx.jit(lambda m, tokens, memory: m.resume(tokens, memory))
    key = jax.random.key(0)
    written = characters.encode(prompt).tolist()
    logits, memory = resume(model, jnp.array([written]), model.memory())
    while len(written) < length:
        key, now = jax.random.split(key)
        written.append(int(jax.random.categorical(now, logits[0, -1] / temperature)))
        logits, memory = resume(model, jnp.array([written[-1:]]), memory)
    return characters.decode(written)


def main(name: str = "gpt", epochs: int = 4, progress: bool = True) -> float:
    fx.seed(0)
    text = fx.datasets.tinyshakespeare()
    characters = fx.Characters(text)
    split = len(text) * 9 // 10
    length = WINDOW if name == "gpt" else 64
    data = characters.windows(text[:split], length)
    validation = characters.windows(text[split:], length)

    model = GPT(len(characters)) if name == "gpt" else CharLSTM(len(characters))
    started = time.perf_counter()
    history = fx.fit(
        model,
        data,
        loss=fx.logitcrossentropy,
        optimizer=fx.Adam(3e-3),
        epochs=epochs,
        batch_size=1024 // length,
        validation=validation,
        seed=0,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    loss = history["validation_loss"][-1]
    print(f"{name}: validation loss {loss:.3f} after {epochs} epochs in {seconds:.0f} s")
    print(write(model, characters, "ROMEO:", WINDOW if name == "gpt" else 400))
    return loss


if __name__ == "__main__":
    fx.keep_memory()
    main(*sys.argv[1:2])
