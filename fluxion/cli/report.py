"""How good a model is on a table: numbers for `--json`, tables for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fluxion.cli.output import clean, say, table, width
from fluxion.errors import DataError, ShapeError

if TYPE_CHECKING:
    import polars

    from fluxion.cli.images import ImageEncoder, Labeled
    from fluxion.data.tables import TableEncoder

BATCH = 1024  # rows of a table; of images, as many as have some millions of pixels


class Part(NamedTuple):
    """Rows of a table or images, as the network takes them."""

    inputs: np.ndarray
    targets: np.ndarray  # numbers of classes, or standardized numbers
    truth: np.ndarray  # numbers of classes, or numbers in the target's units

    @staticmethod
    def of_table(encoder: TableEncoder, frame: polars.DataFrame) -> Part:
        """The rows of `frame`, all of which have a target."""
        targets = encoder.targets(frame)
        # The cells themselves: standardized and back, they are those of float32.
        truth = targets if encoder.classes else frame[encoder.target.name].cast(float).to_numpy()
        return Part(encoder.features(frame), targets, truth)

    @staticmethod
    def of_images(encoder: ImageEncoder, data: Labeled, *, in_place: bool = False) -> Part:
        """Images with their classes; `in_place` uses their array for the encoded ones."""
        return Part(encoder.encode(data.images, in_place=in_place), data.labels, data.labels)


@dataclass(frozen=True)
class Report:
    """Predictions beside the truth, and what they amount to."""

    target: str
    classes: tuple[Any, ...]  # empty in a regression
    metrics: dict[str, float]  # loss, accuracy; or loss, mae, rmse, r2, in the target's units but for the loss
    prediction: np.ndarray  # numbers of classes, or numbers in the target's units
    truth: np.ndarray
    confusion: np.ndarray | None
    what: str = "rows"  # or "images"
    losses: np.ndarray | None = None  # of each row of a classification

    @property
    def rows(self) -> int:
        return len(self.truth)

    def to_json(self) -> dict[str, Any]:
        """Plain data: rows and metrics; of a classification also the classes and the confusion matrix."""
        from fluxion.train.metrics import precision_recall

        result: dict[str, Any] = {"rows": self.rows, "metrics": self.metrics}
        if self.confusion is None:
            return result
        scores = precision_recall(self.confusion)
        names = ("precision", "recall", "f1", "rows")
        per_class = zip(self.classes, *(part.tolist() for part in scores), strict=True)
        return result | {
            "classes": [{"class": name, **dict(zip(names, numbers, strict=True))} for name, *numbers in per_class],
            "confusion": self.confusion.tolist(),
        }


def outputs(model: Any, encoder: TableEncoder | ImageEncoder, inputs: np.ndarray) -> np.ndarray:
    """What the model returns for every row: scores `(rows, classes)`, or standardized numbers `(rows, 1)`."""
    from fluxion.train.evaluate import predict

    size = len(encoder.classes) or 1
    batch = BATCH if inputs.ndim == 2 else max(1, min(256, (1 << 20) // inputs[0].size))
    result = predict(model, inputs, batch_size=batch)
    if getattr(result, "shape", None) != (len(inputs), size):
        got = getattr(result, "shape", type(result).__name__)
        raise ShapeError(f"expected a model that returns shape {(len(inputs), size)}, got {got}.")
    bad = ~np.isfinite(result).all(axis=1)
    if bad.any():
        raise DataError(f"the model's output is not finite for row {bad.argmax()}. Look for extreme values there.")
    return result


def probabilities(scores: np.ndarray) -> np.ndarray:
    """The softmax of every row, in float64."""
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def measure(model: Any, encoder: TableEncoder | ImageEncoder, part: Part) -> Report:
    """Run the model over a part; all else is float64 on the host."""
    from fluxion.train.metrics import confusion_matrix, regression_report

    result = outputs(model, encoder, part.inputs).astype(np.float64)
    name, what = encoder.target.name, "rows" if part.inputs.ndim == 2 else "images"
    if encoder.classes:
        predicted = result.argmax(axis=1)
        confusion = confusion_matrix(predicted, part.targets, len(encoder.classes))
        highest = result.max(axis=1)
        right = result[np.arange(len(result)), part.targets]
        losses = highest + np.log(np.exp(result - highest[:, None]).sum(axis=1)) - right
        metrics = {"loss": float(losses.mean()), "accuracy": float(np.mean(predicted == part.targets))}
        return Report(name, encoder.classes, metrics, predicted, part.truth, confusion, what, losses)
    prediction = encoder.decode_target(result)[:, 0]  # type: ignore[union-attr]
    loss = float(np.mean((result - part.targets) ** 2))
    metrics = {"loss": loss, **regression_report(prediction, part.truth)}
    return Report(name, (), metrics, prediction, part.truth, None)


def show_metrics(reports: dict[str, Report]) -> None:
    """One column per report, by its name."""
    first = next(iter(reports.values()))
    rows = [[_title(name), *(number(r.metrics[name]) for r in reports.values())] for name in first.metrics]
    rows.append([first.what, *(f"{r.rows:,}" for r in reports.values())])
    table(["", *reports], rows)


def show_classes(report: Report) -> None:
    """Precision and recall of each class, and the confusion matrix; both only of a classification."""
    if report.confusion is None:
        return
    from fluxion.train.metrics import precision_recall

    scores = precision_recall(report.confusion)
    names = [str(name) for name in report.classes]
    per_class = zip(scores.precision, scores.recall, scores.f1, scores.support, strict=True)
    cells = [[f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", f"{n:,}"] for p, r, f, n in per_class]
    say()
    table(
        [report.target, "precision", "recall", "F1", report.what], [[n, *c] for n, c in zip(names, cells, strict=True)]
    )
    say()
    counts = [[f"{count:,}" for count in row] for row in report.confusion]
    columns = [
        max(len(clean(name)), *map(len, cells)) for name, cells in zip(names, zip(*counts, strict=True), strict=True)
    ]
    corner = "true, predicted as:"
    needed = sum(columns) + 2 * len(columns) + max(len(corner), *(len(clean(name)) for name in names))
    if needed <= min(width(), 200):
        table([corner, *names], [[name, *row] for name, row in zip(names, counts, strict=True)])
        return
    wrong = report.confusion.copy()
    np.fill_diagonal(wrong, 0)
    say(f"The confusion matrix of {len(names)} classes is too wide to show. Its most frequent confusions:")
    for place in np.argsort(-wrong, axis=None, kind="stable")[:10]:
        true, predicted = divmod(int(place), len(names))
        if wrong[true, predicted]:
            say(f"{names[true]} taken for {names[predicted]}: {wrong[true, predicted]:,}", indent=2)


def number(value: float) -> str:
    """Four decimals, or four digits where the number is large or small."""
    return f"{value:.4f}" if value == 0 or 1e-2 <= abs(value) < 1e3 else f"{value:.4g}"


def _title(name: str) -> str:
    return {"mae": "MAE", "rmse": "RMSE", "r2": "R2"}.get(name, name)
