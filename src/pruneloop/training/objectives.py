"""What training minimises: from a model and a batch to a loss."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

Batch = dict[str, Tensor]

Objective = Callable[[nn.Module, Batch], Tensor]
"""From a model and a batch on its device to the mean loss over the batch's rows."""


@dataclass(frozen=True)
class CrossEntropy:
    """The mean over rows of w[label] * cross-entropy; without weights, the model's own loss."""

    weights: tuple[float, ...] = ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.of(model(**batch), batch["labels"])

    def of(self, output: Any, labels: Tensor) -> Tensor:
        """Return the loss of what a model gave for rows with these labels."""
        if not self.weights:
            loss: Tensor = output.loss
            return loss
        weights = _placed(self.weights, labels.device)[labels]
        losses = nn.functional.cross_entropy(output.logits.float(), labels, reduction="none")
        return (weights * losses).mean()


UNWEIGHTED = CrossEntropy()
"""The loss where nothing else is asked for."""


@lru_cache
def _placed(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Return weights on a device; to put them there for every batch would wait for it."""
    return torch.tensor(weights, device=device)


@dataclass(frozen=True)
class Distillation:
    """(1 - alpha) * cross-entropy + alpha * T^2 * KL(teacher, student), both softened by T.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network". T^2 keeps the
    gradients' size. The batch carries the teacher's logits, rows x labels, as `teacher`.
    """

    alpha: float
    temperature: float
    own: CrossEntropy = CrossEntropy()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        output = model(**{name: value for name, value in batch.items() if name != "teacher"})
        student, teacher = (
            nn.functional.log_softmax(logits.float() / self.temperature, dim=-1)
            for logits in (output.logits, batch["teacher"])
        )
        far = nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
        own = self.own.of(output, batch["labels"])
        return (1 - self.alpha) * own + self.alpha * self.temperature**2 * far


def group_losses(
    model: nn.Module, group: Sequence[Batch], accelerator: Accelerator, objective: Objective
) -> Iterator[Tensor]:
    """Yield a global batch's losses, each with its share of the rows, to go backward from.

    The gradients add up to those of the mean loss over all rows of the group; processes
    exchange them with the last one.
    """
    rows = sum(len(batch["labels"]) for batch in group)
    for index, batch in enumerate(group):
        last = index == len(group) - 1
        with nullcontext() if last else accelerator.no_sync(model):
            on_device = send_to_device(batch, accelerator.device, non_blocking=True)
            yield objective(model, on_device) * (len(batch["labels"]) / rows)
