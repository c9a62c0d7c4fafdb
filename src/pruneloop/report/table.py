"""The tables that a run prints: its plan, and one line a round."""

from collections.abc import Sequence

from pruneloop.records import RoundRecord
from pruneloop.report.columns import aligned

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


def plan_table(zeros: Sequence[tuple[int, int]], prunable: int, parameters: int) -> str:
    """Return the plan: the zeros expected after every round, at least and at most."""
    even = all(fewest == most for fewest, most in zeros)
    last = "zeros expected" if even else "zeros at most"
    rows = [("round", "sparsity", "model sparsity", last, "")]
    for number, (fewest, most) in enumerate(zeros):
        less = "" if even else f"(at least {fewest:,})"
        shares = (f"{most / prunable:.2%}", f"{most / parameters:.2%}")
        rows.append((str(number), *shares, f"{most:,}", less))
    return "\n".join(aligned(rows, left=(4,)))
