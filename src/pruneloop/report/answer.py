"""The answer that a run gives: how sparse the model may be for how much accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

from pruneloop.records import RoundRecord, RunFacts
from pruneloop.report.columns import aligned
from pruneloop.scores import wilson_interval

DROPS = (0.005, 0.01, 0.02)
"""What may be lost of round 0's validation score, as fractions."""


@dataclass(frozen=True)
class Answer:
    """The sparsest round that loses no more than `drop` on validation; `interval` is of test."""

    drop: float
    record: RoundRecord
    interval: tuple[float, float]


def sparsest_within(rounds: Sequence[RoundRecord], drop: float, metric: str) -> RoundRecord:
    """Return the sparsest kept round that has lost no more of round 0's validation score.

    Of equally sparse ones it is the later, which has trained more; round 0 itself always is
    one.
    """
    least = getattr(rounds[0], metric) - drop - 1e-9
    within = [record for record in rounds if record.kept and getattr(record, metric) >= least]
    return max(within, key=lambda record: (record.zeros, record.round))


def answers(rounds: Sequence[RoundRecord], facts: RunFacts) -> list[Answer]:
    """Return the answer to every of `DROPS`."""
    rows = facts.data.rows["test"]
    found = []
    for drop in DROPS:
        record = sparsest_within(rounds, drop, facts.config["budget.metric"])
        hits = round(record.test_accuracy * rows)
        found.append(Answer(drop, record, wilson_interval(hits, rows)))
    return found


def answer_table(rounds: Sequence[RoundRecord], facts: RunFacts) -> list[str]:
    """Return the answers as lines for a terminal."""
    rows = [("may lose", "sparsity", "model sparsity", "round", "test accuracy (95 % interval)")]
    for answer in answers(rounds, facts):
        record, (low, high) = answer.record, answer.interval
        rows.append(
            (
                f"{100 * answer.drop:g} pt",
                f"{record.sparsity:.2%}",
                f"{record.model_sparsity:.2%}",
                f"{record.round}",
                f"{record.test_accuracy:.4f} ({low:.4f} to {high:.4f})",
            )
        )
    return aligned(rows, left=(0, 4))
