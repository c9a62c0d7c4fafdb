"""What the dense model and the pruned one say of every test row."""

from datasets import Dataset

from pruneloop.data.batches import shortest_first
from pruneloop.data.splits import Splits, texts_of
from pruneloop.records import PredictionRecord
from pruneloop.run_state import Predictions


def prediction_rows(split: Splits, tokenised: Dataset, said: Predictions) -> list[PredictionRecord]:
    """Return a record for every test row, in the split's order.

    Args:
        tokenised: the test rows as they were measured on.
        said: both models' labels, in the order of `evaluation_loader`; without those of the
            pruned model, the dense one is the kept one.
    """
    position = {row: index for index, row in enumerate(shortest_first(tokenised))}
    found = {name: tensor.tolist() for name, tensor in said.tensors().items()}
    dense, sure = found["dense"], found["dense_confidence"]
    pruned, still_sure = found.get("pruned", dense), found.get("pruned_confidence", sure)
    return [
        PredictionRecord(
            label=split.labels[label],
            dense=split.labels[dense[position[row]]],
            pruned=split.labels[pruned[position[row]]],
            text=text if isinstance(text, str) else text[0],
            text_pair="" if isinstance(text, str) else text[1],
            row=row,
            dense_confidence=round(sure[position[row]], 4),
            pruned_confidence=round(still_sure[position[row]], 4),
        )
        for row, (text, label) in enumerate(
            zip(texts_of(split.test), split.test["label"][:], strict=True)
        )
    ]
