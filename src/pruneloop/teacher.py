"""Who a round is taught by: a model whose logits on the training rows are computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruneloop.evaluation import all_logits
from pruneloop.training import Distillation


@dataclass(frozen=True)
class Teacher:
    """A model, the training rows as it reads them, and the objective that follows it.

    `order` is the row number of each row that the loader gives.
    """

    objective: Distillation
    model: nn.Module
    loader: DataLoader[Any]
    order: Sequence[int]

    def logits(self, accelerator: Accelerator, look: Callable[[], None]) -> Tensor:
        """Return its logits on the training rows, rows x labels, by row number, float32.

        Dropout is off, so that they do not depend on the step they are used in.
        """
        logits, _ = all_logits(self.model, self.loader, accelerator, len(self.order), look)
        found = torch.empty_like(logits)
        found[torch.tensor(self.order)] = logits
        return found
