"""What predictions are worth against labels: counts, and every score that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy

_Z = 1.959963984540054  # a normal variable lies within so many deviations in 95 % of the cases


@dataclass(frozen=True)
class LabelScores:
    """One label's scores as fractions; `support` is how many rows have the label."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Confusion:
    """Rows counted by their label (down) and the predicted label (across)."""

    labels: list[str]
    counts: list[list[int]]

    @classmethod
    def of(cls, labels: Sequence[str], true: Any, predicted: Any) -> "Confusion":
        """Count rows; `true` and `predicted` are arrays of positions in `labels`."""
        size = len(labels)
        cells = numpy.asarray(true, int) * size + numpy.asarray(predicted, int)
        counts = numpy.bincount(cells, minlength=size * size).reshape(size, size)
        return cls(list(labels), counts.tolist())

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return sum(map(sum, self.counts))

    @property
    def hits(self) -> int:
        """How many rows were predicted right."""
        return sum(row[index] for index, row in enumerate(self.counts))

    @property
    def accuracy(self) -> float:
        """The share of the rows that were predicted right."""
        return self.hits / self.rows

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that occur in predictions or references.

        As in scikit-learn's `f1_score(average="macro")`.
        """
        across = [sum(column) for column in zip(*self.counts, strict=True)]
        occurring = zip(self.scores(), across, strict=True)
        return float(numpy.mean([s.f1 for s, predicted in occurring if s.support + predicted]))

    def scores(self) -> list[LabelScores]:
        """Return every label's scores; a share of nothing is 0, as in scikit-learn."""
        found = []
        for index, label in enumerate(self.labels):
            hits, support = self.counts[index][index], sum(self.counts[index])
            predicted = sum(row[index] for row in self.counts)
            found.append(
                LabelScores(
                    label,
                    support,
                    hits / max(predicted, 1),
                    hits / max(support, 1),
                    2 * hits / max(predicted + support, 1),
                )
            )
        return found


def wilson_interval(hits: int, rows: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `rows`, by Wilson's score."""
    share, spread = hits / rows, _Z * _Z / rows
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt((share * (1 - share) + spread / 4) / rows) / (1 + spread)
    # Rounding may leave [0, 1] by a bit where all rows are right, or none.
    return max(0.0, middle - half), min(1.0, middle + half)
