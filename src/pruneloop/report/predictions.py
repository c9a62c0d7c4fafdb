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
