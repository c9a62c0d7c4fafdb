"""How sparse a model may be for how much accuracy: from the records alone."""

from dataclasses import replace

import pytest
from support import record

from pruneloop.records import RoundRecord
from pruneloop.report.answer import sparsest_within


def curve(*accuracies: float) -> list[RoundRecord]:
    """Rounds with validation accuracies, the first one's dense, ten zeros more in each."""
    found = [record(number, None) for number in range(len(accuracies))]
    return [
        replace(r, accuracy=accuracy, macro_f1=1 - accuracy, zeros=10 * r.round, kept=True)
        for r, accuracy in zip(found, accuracies, strict=True)
    ]


@pytest.mark.parametrize(
    ("drop", "expected"),
    [(0.0, 1), (0.005, 2), (0.01, 4), (0.02, 4), (0.5, 5)],
)
def test_the_sparsest_round_within_a_drop(drop: float, expected: int) -> None:
    """A round that fell deeper does not hide a sparser one that has recovered."""
    rounds = curve(0.90, 0.91, 0.895, 0.88, 0.89, 0.60)
    assert sparsest_within(rounds, drop, "accuracy").round == expected


def test_a_round_that_was_undone_is_no_answer() -> None:
    rounds = curve(0.90, 0.90, 0.90)
    rounds[2] = replace(rounds[2], kept=False)
    assert sparsest_within(rounds, 0.01, "accuracy").round == 1


def test_of_equally_sparse_rounds_the_later_one_counts() -> None:
    rounds = curve(0.90, 0.90, 0.90)
    rounds[2] = replace(rounds[2], zeros=rounds[1].zeros)
    assert sparsest_within(rounds, 0.01, "accuracy").round == 2


def test_where_every_round_loses_too_much_the_dense_model_is_the_answer() -> None:
    rounds = curve(0.90, 0.5, 0.6)
    assert sparsest_within(rounds, 0.01, "accuracy").round == 0
    assert sparsest_within(rounds, 0.01, "macro_f1").round == 2
