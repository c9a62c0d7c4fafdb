"""What people look at: the plan, the table of rounds, the picture."""

from collections.abc import Sequence
from pathlib import Path

from pruneloop.records import RoundRecord

TABLE_HEADER = "round  sparsity  model sparsity  shock acc.  accuracy  vs dense    loss  seconds"


def table_line(record: RoundRecord, dense_accuracy: float) -> str:
    """Return one round as a line under `TABLE_HEADER`; accuracies are validation's."""
    shock = "-" if record.shock_accuracy is None else f"{record.shock_accuracy:.4f}"
    change = "-" if record.round == 0 else f"{100 * (record.accuracy - dense_accuracy):+.2f} pt"
    return (
        f"{record.round:>5}  {record.sparsity:>8.2%}  {record.model_sparsity:>14.2%}  "
        f"{shock:>10}  {record.accuracy:>8.4f}  {change:>8}  {record.loss:>6.4f}  "
        f"{record.seconds:>7.1f}"
    )


def plan_table(zeros: Sequence[int], prunable: int) -> str:
    """Return the plan: the zeros expected after every round, round 0 first."""
    lines = ["round  sparsity  zeros expected"]
    lines += [f"{n:>5}  {z / prunable:>8.2%}  {z:>14,}" for n, z in enumerate(zeros)]
    return "\n".join(lines)


def draw_curve(rounds: Sequence[RoundRecord], path: Path) -> None:
    """Draw accuracy against sparsity: after fine-tuning, after the prune, and dense.

    Labels are English: matplotlib's own font has no Hangul.
    """
    # matplotlib takes a second to load, which only the end of a run should pay.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    sparsity = [100 * record.sparsity for record in rounds]
    pruned = [record for record in rounds if record.shock_accuracy is not None]
    axes.axhline(rounds[0].accuracy, color="0.6", linewidth=1, linestyle="--", label="dense")
    axes.plot(
        [100 * record.sparsity for record in pruned],
        [record.shock_accuracy or 0.0 for record in pruned],
        "x:",
        color="tab:red",
        label="right after the prune (shock)",
    )
    axes.plot(sparsity, [r.test_accuracy for r in rounds], "s-", color="tab:green", label="test")
    axes.plot(sparsity, [r.accuracy for r in rounds], "o-", color="tab:blue", label="validation")
    axes.set_xlabel("sparsity of the prunable weights (%)")
    axes.set_ylabel("accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=144)
