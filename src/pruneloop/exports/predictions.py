"""What the dense model and the pruned one say of every test row."""

from collections.abc import Mapping

from datasets import Dataset
from torch import Tensor

from pruneloop.data.batches import shortest_first
from pruneloop.data.splits import Splits
from pruneloop.records import PredictionRecord


def prediction_rows(
    split: Splits, tokenised: Dataset, predictions: Mapping[str, Tensor]
) -> list[PredictionRecord]:
    """Return a record for every test row, in the split's order.

    Args:
        tokenised: the test rows as they were measured on.
        predictions: labels of the `dense` and the `pruned` model, int32, in the order of
            `evaluation_loader`; without `pruned`, the dense model is the kept one.
    """
    position = {row: index for index, row in enumerate(shortest_first(tokenised))}
    dense = predictions["dense"].tolist()
    pruned = predictions.get("pruned", predictions["dense"]).tolist()
    return [
        PredictionRecord(
            label=split.labels[label],
            dense=split.labels[dense[position[row]]],
            pruned=split.labels[pruned[position[row]]],
            text=text,
        )
        for row, (text, label) in enumerate(
            zip(split.test["text"], split.test["label"], strict=True)
        )
    ]
