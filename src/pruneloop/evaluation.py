"""Accuracy, macro-F1 and loss of a model on rows, exact under several processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruneloop.errors import InvariantError


@dataclass(frozen=True)
class Scores:
    """What a model reaches on some rows; `loss` is the mean cross-entropy.

    `predictions` is the predicted label of every row, int32, in the order of the logits, and
    `confidences` its probability, float32.
    """

    accuracy: float
    macro_f1: float
    loss: float
    predictions: Tensor = field(compare=False)
    confidences: Tensor = field(compare=False)


def all_logits(
    model: nn.Module,
    loader: DataLoader[Any],
    accelerator: Accelerator,
    rows: int,
    look: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Return a model's logits (rows x labels, float32) and the labels, in the loader's order.

    `accelerator` has prepared model and loader. Both results are complete on every process, and on
    the CPU. `look` is called before every batch; it may stop the evaluation by raising.

    Raises:
        InvariantError: not exactly `rows` rows were seen.
    """
    model.eval()
    gathered: list[Tensor] = []
    with torch.inference_mode():
        for batch in loader:
            look()
            logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
            # Labels are small integers, which float32 holds exactly.
            columns = torch.cat([logits.float(), batch["labels"][:, None].float()], dim=1)
            gathered.append(accelerator.gather_for_metrics(columns))
    table = torch.cat(gathered).cpu()
    if len(table) != rows:
        raise InvariantError(f"{len(table)} rows were evaluated instead of {rows}")
    return table[:, :-1], table[:, -1].long()


def mean_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross-entropy.

    Raises:
        InvariantError: it is not finite.
    """
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    loss = float(losses.double().mean())
    if not numpy.isfinite(loss):
        raise InvariantError("the evaluation loss is not finite")
    return loss


def scores_of(logits: Tensor, labels: Tensor, cache: Path) -> Scores:
    """Score logits (rows x labels, float32).

    Args:
        cache: a folder for what the scores keep while they are counted.

    Raises:
        InvariantError: the loss is not finite.
    """
    # `evaluate` takes half a second to load, which training need not wait for.
    from pruneloop.metric import ClassificationScores

    loss = mean_loss(logits, labels)
    metric, predictions = ClassificationScores(cache), logits.argmax(-1)
    metric.add_batch(predictions=predictions, references=labels)
    scores = metric.compute()
    return Scores(
        accuracy=scores["accuracy"],
        macro_f1=scores["macro_f1"],
        loss=loss,
        predictions=predictions.int(),
        confidences=logits.softmax(-1).amax(-1),
    )
