"""What the dense model and the pruned one say of every test row."""

from datasets import Dataset
from torch import Tensor

from pruneloop.data.batches import shortest_first
from pruneloop.data.splits import Splits, texts_of
from pruneloop.records import PredictionRecord


def prediction_rows(
    split: Splits, tokenised: Dataset, dense: Tensor, pruned: Tensor | None
) -> list[PredictionRecord]:
    """Return a record for every test row, in the split's order.

    Args:
        tokenised: the test rows as they were measured on.
        dense, pruned: both models' labels, int32, in the order of `evaluation_loader`;
            without `pruned`, the dense model is the kept one.
    """
    position = {row: index for index, row in enumerate(shortest_first(tokenised))}
    before = dense.tolist()
    after = before if pruned is None else pruned.tolist()
    return [
        PredictionRecord(
            label=split.labels[label],
            dense=split.labels[before[position[row]]],
            pruned=split.labels[after[position[row]]],
            text=text if isinstance(text, str) else text[0],
            text_pair="" if isinstance(text, str) else text[1],
        )
        for row, (text, label) in enumerate(
            zip(texts_of(split.test), split.test["label"][:], strict=True)
        )
    ]
