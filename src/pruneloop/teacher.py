"""Who a round is taught by: a model whose logits on the training rows are computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruneloop.errors import InputError, listed
from pruneloop.evaluation import all_logits
from pruneloop.locating import find_checkpoint
from pruneloop.prediction import labels_of, load_classifier
from pruneloop.records import Text
from pruneloop.training import Distillation


class Teacher(Protocol):
    """The objective that follows a model, and the model's logits."""

    @property
    def objective(self) -> Distillation: ...

    def logits(self, accelerator: Accelerator, look: Callable[[], None]) -> Tensor:
        """Return the logits on the training rows, rows x labels, by row number, float32.

        Dropout is off, so that they do not depend on the step they are used in.
        """
        ...


@dataclass(frozen=True)
class Itself:
    """The model as it is when it is asked, which is that of round 0.

    `order` is the row number of each row that the loader gives.
    """

    objective: Distillation
    model: nn.Module
    loader: DataLoader[Any]
    order: Sequence[int]

    def logits(self, accelerator: Accelerator, look: Callable[[], None]) -> Tensor:
        """Return its logits, as `Teacher` says."""
        logits, _ = all_logits(self.model, self.loader, accelerator, len(self.order), look)
        found = torch.empty_like(logits)
        found[torch.tensor(self.order)] = logits
        return found


@dataclass(frozen=True)
class Given:
    """A checkpoint of somebody's own, that reads the texts with its own tokenizer.

    `places` says where it has each of the labels.
    """

    objective: Distillation
    checkpoint: Path
    texts: Sequence[Text]
    places: Sequence[int]

    def logits(self, accelerator: Accelerator, look: Callable[[], None]) -> Tensor:
        """Return its logits, as `Teacher` says; the main process asks it for all."""
        found = torch.zeros(len(self.texts), len(self.places))
        if accelerator.is_main_process:
            classifier = load_classifier(self.checkpoint)
            logits = classifier.logits(classifier.encode(self.texts))
            found = logits[:, torch.tensor(self.places)]
        look()
        shared: Tensor = broadcast(found.to(accelerator.device))
        return shared.cpu()


def given_teacher(
    folder: Path, labels: Sequence[str], texts: Sequence[Text], objective: Distillation
) -> Given:
    """Return the teacher in a folder, having matched its labels by name.

    Raises:
        InputError: there is none, or it lacks one of the labels.
    """
    checkpoint = find_checkpoint(folder)
    known = labels_of(checkpoint)
    if strangers := [label for label in labels if label not in known]:
        raise InputError(
            f"distill.teacher={folder}: its labels ({listed(known)}) are not the data's "
            f"({listed(labels)}): it has no {listed(strangers)}; name the data's labels as the "
            "teacher's by data.label_names"
        )
    return Given(objective, checkpoint, texts, [known.index(label) for label in labels])
