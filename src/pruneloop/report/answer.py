"""The answer that a run gives: how sparse the model may be for how much accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

from pruneloop.records import RoundRecord, RunFacts, RunFolder, last_kept
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
    metric, rows = facts.config["budget.metric"], facts.data.rows["test"]
    found = []
    for drop in DROPS:
        record = sparsest_within(rounds, drop, metric)
        interval = wilson_interval(round(record.test_accuracy * rows), rows)
        found.append(Answer(drop, record, interval))
    return found


def chosen(max_drop: float | None) -> float:
    """Return the one of `DROPS` to show first: the run's budget if it is one, or 1 point."""
    return max_drop if max_drop in DROPS else 0.01


def at_chance(rounds: Sequence[RoundRecord], facts: RunFacts) -> bool:
    """Whether round 0 is not clearly better on validation than the most frequent label alone.

    Clearly is where the 95 % interval of its accuracy does not reach down to that.
    """
    rows = facts.data.rows["validation"]
    low, _ = wilson_interval(round(rounds[0].accuracy * rows), rows)
    return low <= facts.data.majority["validation"]


def checkpoint_of(record: RoundRecord, rounds: Sequence[RoundRecord], folder: RunFolder) -> str:
    """Return where a round's checkpoint is in its run's folder; empty where it was not kept."""
    if record == last_kept(rounds):
        return f"{folder.checkpoint.name}/"
    path = folder.rounds / f"{record.round:02d}"
    return f"{path.relative_to(folder.path)}/" if path.is_dir() else ""


def answer_table(
    found: Sequence[Answer], rounds: Sequence[RoundRecord], folder: RunFolder
) -> list[str]:
    """Return the answers as lines for a terminal."""
    head = ("may lose", "sparsity", "model sparsity", "round", "test accuracy (95 % interval)")
    rows = [(*head, "checkpoint")]
    for answer in found:
        record, (low, high) = answer.record, answer.interval
        rows.append(
            (
                f"{100 * answer.drop:g} pt",
                f"{record.sparsity:.2%}",
                f"{record.model_sparsity:.2%}",
                f"{record.round}",
                f"{record.test_accuracy:.4f} ({low:.4f} to {high:.4f})",
                checkpoint_of(record, rounds, folder) or "not kept",
            )
        )
    return aligned(rows, left=(0, 4, 5))
