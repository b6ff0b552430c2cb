"""Two raw tables, 5-fold cross-validation: who survived the Titanic, and which penguin it is.

FLUXION_DATA=/where/the/data/are python examples/table_crossvalidation.py

In each fold the encoder is fitted on the training part alone: it never sees the rows that the accuracy is of.
"""

import os
import statistics
from pathlib import Path

import polars as pl

import fluxion as fx


def titanic() -> list[float]:
    """The port, the fare, the cabin's class...: text, missing ages, fares over three orders of magnitude."""
    table = fx.read_table(folder() / "titanic" / "titanic.csv")
    print(fx.overview(table), end="\n\n")
    return cross_validate(table, "Survived", kinds={"Pclass": "category"}, scale={"Fare": "log"})


def penguins() -> list[float]:
    """Bills, flippers and weights of three species; the year of the visit says nothing about them."""
    table = fx.read_table(folder() / "penguins" / "penguins.csv")
    print(fx.overview(table), end="\n\n")
    return cross_validate(table, "species", kinds={"year": "drop"})


def cross_validate(table: pl.DataFrame, target: str, *, folds: int = 5, epochs: int = 40, **choices) -> list[float]:
    """The accuracy in each fold of a small network; `choices` are those of `TableEncoder.fit`."""
    print("\n".join(fx.TableEncoder.fit(table, target, **choices).describe()), end="\n\n")
    accuracies = []
    for training, held_out in fx.kfolds(table, folds, shuffle=True, stratified=table[target], seed=0):
        fx.seed(0)
        encoder = fx.TableEncoder.fit(training, target, **choices)
        model = fx.Chain(
            encoder.input_layer(), fx.Dense(None, 32, fx.relu), fx.Dropout(0.3), fx.Dense(32, len(encoder.classes))
        )
        fx.fit(
            model,
            encoder.arrays(training),
            loss=fx.logitcrossentropy,
            optimizer=fx.AdamW(0.003, weight_decay=0.01),
            epochs=epochs,
            batch_size=32,
            seed=0,
            progress=False,
        )
        measured = fx.evaluate(model, encoder.arrays(held_out), loss=fx.logitcrossentropy, metrics=[fx.accuracy])
        accuracies.append(measured["accuracy"])
    shown = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
    print(f"{target}: accuracy {statistics.mean(accuracies):.3f} ({shown})\n")
    return accuracies


def folder() -> Path:
    return Path(os.environ["FLUXION_DATA"])


if __name__ == "__main__":
    titanic()
    penguins()
