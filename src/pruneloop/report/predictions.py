"""What pruning did to the predictions on the test split: by label, and row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

from pruneloop.records import PredictionRecord


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


def confusions(
    rows: Sequence[PredictionRecord], labels: Sequence[str]
) -> tuple[Confusion, Confusion]:
    """Return the dense model's confusion matrix, and the pruned one's."""
    place = {label: index for index, label in enumerate(labels)}
    dense = [[0] * len(labels) for _ in labels]
    pruned = [[0] * len(labels) for _ in labels]
    for row in rows:
        dense[place[row.label]][place[row.dense]] += 1
        pruned[place[row.label]][place[row.pruned]] += 1
    return Confusion(list(labels), dense), Confusion(list(labels), pruned)


@dataclass(frozen=True)
class Changes:
    """The rows whose prediction changed: from right to wrong, the other way, or neither."""

    broken: list[PredictionRecord]
    mended: list[PredictionRecord]
    other: list[PredictionRecord]


def changes(rows: Sequence[PredictionRecord]) -> Changes:
    """Sort out the rows whose prediction changed."""
    changed = [row for row in rows if row.dense != row.pruned]
    return Changes(
        broken=[row for row in changed if row.dense == row.label],
        mended=[row for row in changed if row.pruned == row.label],
        other=[row for row in changed if row.label not in (row.dense, row.pruned)],
    )
