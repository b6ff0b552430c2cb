"""Training: the compiled step, the loop, fit, evaluation, and what they report."""

from fluxion.train.evaluate import evaluate, predict
from fluxion.train.fit import fit
from fluxion.train.history import History
from fluxion.train.loop import train, trainstep

__all__ = ["History", "evaluate", "fit", "predict", "train", "trainstep"]
