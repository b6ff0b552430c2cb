"""Training: the compiled step, the loop, fit, evaluation, and what they report."""

from fluxion.train.loop import train, trainstep

__all__ = ["train", "trainstep"]
