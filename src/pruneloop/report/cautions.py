"""What whoever reads a run's figures must mind, each only where it is true."""

from collections.abc import Sequence

from pruneloop.records import RoundRecord, RunFacts, last_kept
from pruneloop.report.answer import at_chance
from pruneloop.report.language import Translate
from pruneloop.scores import wilson_interval

_WIDE = 0.01


def cautions(rounds: Sequence[RoundRecord], facts: RunFacts, t: Translate = str) -> list[str]:
    """Return what must be minded of a run; nothing where all is well."""
    return [
        *_chance(rounds, facts, t),
        *_few_rows(rounds, facts, t),
        *_gap(rounds, facts, t),
        *_small_share(facts, t),
    ]


def _chance(rounds: Sequence[RoundRecord], facts: RunFacts, t: Translate) -> list[str]:
    if not at_chance(rounds, facts):
        return []
    words = t(
        "At chance: the dense model has validation accuracy {dense:.4f}, and the most frequent "
        "label alone {majority:.4f}. What pruning costs cannot be told from this run; train round "
        "0 longer (finetune.dense_epochs), or at another finetune.dense_learning_rate."
    )
    return [words.format(dense=rounds[0].accuracy, majority=facts.data.majority["validation"])]


def _few_rows(rounds: Sequence[RoundRecord], facts: RunFacts, t: Translate) -> list[str]:
    """Say where validation is too small to tell the loss of a point."""
    rows = facts.data.rows["validation"]
    spread = _half_width(rounds[0].accuracy, rows)
    if spread <= _WIDE:
        return []
    words = t(
        "Few validation rows: {rows:,} of them know an accuracy to ± {points:.1f} points, so a "
        "loss of less cannot be told from chance."
    )
    return [words.format(rows=rows, points=100 * spread)]


def _gap(rounds: Sequence[RoundRecord], facts: RunFacts, t: Translate) -> list[str]:
    """Say where validation and test are further apart than their sizes explain."""
    kept, rows = last_kept(rounds), facts.data.rows
    both = (
        _half_width(kept.accuracy, rows["validation"]),
        _half_width(kept.test_accuracy, rows["test"]),
    )
    if abs(kept.accuracy - kept.test_accuracy) <= sum(both):
        return []
    words = t(
        "Validation ({validation:.4f}) and test ({test:.4f}) are further apart than chance "
        "explains: their rows differ in kind."
    )
    return [words.format(validation=kept.accuracy, test=kept.test_accuracy)]


def _small_share(facts: RunFacts, t: Translate) -> list[str]:
    if 2 * facts.prunable >= facts.parameters:
        return []
    words = t(
        "Only {share:.0%} of the model's parameters are prunable, so its model sparsity stays "
        "below that; prune.scope takes more, such as [encoder,embeddings]."
    )
    return [words.format(share=facts.prunable / facts.parameters)]


def _half_width(accuracy: float, rows: int) -> float:
    """Return half of the 95 % interval of an accuracy over so many rows."""
    low, high = wilson_interval(round(accuracy * rows), rows)
    return (high - low) / 2
