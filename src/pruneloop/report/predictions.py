"""What pruning did to the predictions on the test split: by label, and row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

from pruneloop.records import PredictionRecord
from pruneloop.scores import Confusion


def confusions(
    rows: Sequence[PredictionRecord], labels: Sequence[str]
) -> tuple[Confusion, Confusion]:
    """Return the dense model's confusion matrix, and the pruned one's."""
    place = {label: index for index, label in enumerate(labels)}
    true = [place[row.label] for row in rows]
    dense = Confusion.of(labels, true, [place[row.dense] for row in rows])
    return dense, Confusion.of(labels, true, [place[row.pruned] for row in rows])


@dataclass(frozen=True)
class LabelChange:
    """A label's F1 on the test split, of the dense model and of the pruned one."""

    label: str
    dense: float
    pruned: float


def most_lost(rows: Sequence[PredictionRecord], labels: Sequence[str]) -> LabelChange | None:
    """Return the label whose F1 fell most; None where none fell."""
    if not rows:
        return None
    pairs = zip(*(matrix.scores() for matrix in confusions(rows, labels)), strict=True)
    found = [LabelChange(dense.label, dense.f1, pruned.f1) for dense, pruned in pairs]
    worst = min(found, key=lambda change: change.pruned - change.dense)
    return worst if worst.pruned < worst.dense else None


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
