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
class Moved:
    """How many more rows of a label are read as another one, or as itself, after pruning."""

    label: str
    read_as: str
    before: int
    after: int

    @property
    def change(self) -> int:
        """How many more."""
        return self.after - self.before

    @property
    def better(self) -> bool:
        """Whether that is for the better: more right ones, or fewer wrong ones."""
        return (self.change > 0) == (self.label == self.read_as)


def moved(dense: Confusion, pruned: Confusion) -> list[list[Moved]]:
    """Return what pruning changed of a confusion matrix, cell by cell."""
    return [
        [
            Moved(label, other, dense.counts[row][column], pruned.counts[row][column])
            for column, other in enumerate(dense.labels)
        ]
        for row, label in enumerate(dense.labels)
    ]


@dataclass(frozen=True)
class Changes:
    """The rows whose prediction changed: from right to wrong, the other way, or neither."""

    broken: list[PredictionRecord]
    mended: list[PredictionRecord]
    other: list[PredictionRecord]


def changes(rows: Sequence[PredictionRecord]) -> Changes:
    """Sort out the rows whose prediction changed, those first that the pruned model is sure of."""
    changed = sorted(
        (row for row in rows if row.dense != row.pruned),
        key=lambda row: (-row.pruned_confidence, row.row),
    )
    return Changes(
        broken=[row for row in changed if row.dense == row.label],
        mended=[row for row in changed if row.pruned == row.label],
        other=[row for row in changed if row.label not in (row.dense, row.pruned)],
    )
