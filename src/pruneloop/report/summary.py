"""What a run's records come to, in the lines that it ends with."""

import shlex
from collections.abc import Sequence

from pruneloop.errors import printable
from pruneloop.records import PredictionRecord, RoundRecord, RunFacts, RunFolder, last_kept
from pruneloop.report.answer import answer_table, answers, checkpoint_of
from pruneloop.report.cautions import cautions
from pruneloop.report.predictions import most_lost

_LONGEST = 40


def summary(folder: RunFolder, program: str) -> list[str]:
    """Return what to read after a run: the answer, what to mind, its files, what to do next.

    Args:
        program: what the command was called by, such as `pruneloop`.
    """
    rounds, facts, rows = folder.read_rounds(), folder.read_facts(), folder.read_predictions()
    if not rounds or facts is None:
        return []
    return [
        *_answer(rounds, facts, folder),
        *_random(rounds, folder),
        *(f"warning: {words}" for words in cautions(rounds, facts)),
        *_lost(rows, facts),
        f"checkpoint: {folder.checkpoint} (verified; loads in plain transformers)",
        *([f"report:     {folder.report}"] if folder.report.exists() else []),
        f"records:    {folder.rounds_csv} and {folder.layers_csv}",
        *_next(rows, folder, program),
    ]


def _answer(rounds: Sequence[RoundRecord], facts: RunFacts, folder: RunFolder) -> list[str]:
    kept, majority = last_kept(rounds), facts.data.majority["test"]
    found = answers(rounds, facts)
    lines = [
        f"done: {kept.sparsity:.2%} of the prunable weights are zero, {kept.model_sparsity:.2%} of "
        f"the whole model; test accuracy {kept.test_accuracy:.4f} (dense "
        f"{rounds[0].test_accuracy:.4f}, the most frequent label alone {majority:.4f})",
        "within so many points of the dense model on validation, the sparsest round:",
        *answer_table(found, rounds, folder),
    ]
    if all(checkpoint_of(answer.record, rounds, folder) for answer in found):
        return lines
    return [*lines, "(keep_rounds=true keeps every round's checkpoint, budget.max_drop that one)"]


def _random(rounds: Sequence[RoundRecord], folder: RunFolder) -> list[str]:
    """Say what random weights do at the sparsity of the kept round."""
    kept = last_kept(rounds)
    control = RunFolder(folder.control).read_rounds()
    if not control:
        return []
    alike = min(control, key=lambda record: abs(record.zeros - kept.zeros))
    return [
        f"random:     at {alike.sparsity:.2%}, weights drawn at random give test accuracy "
        f"{alike.test_accuracy:.4f}; this run {kept.test_accuracy:.4f} at {kept.sparsity:.2%}"
    ]


def _lost(rows: Sequence[PredictionRecord], facts: RunFacts) -> list[str]:
    lost = most_lost(rows, facts.data.labels)
    if lost is None:
        return []
    words = f"lost most:  the label {lost.label}, F1 {lost.dense:.4f} -> {lost.pruned:.4f}"
    return [printable(words)]


def _next(rows: Sequence[PredictionRecord], folder: RunFolder, program: str) -> list[str]:
    """Return a command that asks the checkpoint about a test row."""
    short = [row for row in rows if len(row.text + row.text_pair) <= _LONGEST]
    if not short:
        return []
    row = next((row for row in short if " " in row.text), short[0])
    asked = ["--pair", row.text, row.text_pair] if row.text_pair else [row.text]
    words = ["predict", str(folder.path), *asked]
    return [printable(f"next:       {program} {shlex.join(words)}")]
