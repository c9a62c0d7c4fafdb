"""What acts on a device: gather evidence, fine-tune, measure."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruneloop.data.batches import TrainingBatches
from pruneloop.errors import InvariantError
from pruneloop.evaluation import ClassificationScores, Scores, evaluate_model
from pruneloop.evidence import saliency
from pruneloop.pruning import Evidence, Masks, PrunedModel
from pruneloop.training import FineTuning, Recipe


@dataclass(frozen=True)
class Split:
    """A split to measure on: its name, its loader, as accelerate prepared it, and its rows."""

    name: str
    loader: DataLoader[Any]
    rows: int


@dataclass(frozen=True)
class Engine:
    """A model on its device, with the rows to train and to measure it on.

    `model` is `pruned.model` as accelerate prepared it: the same parameters.
    """

    accelerator: Accelerator
    model: nn.Module
    pruned: PrunedModel
    batches: TrainingBatches
    validation: Split
    test: Split
    metric: ClassificationScores
    evidence_batches: int

    def evidence(
        self, needs: Evidence | None, number: int, recipe: Recipe, look: Callable[[], None]
    ) -> dict[str, Tensor]:
        """Gather what a criterion needs, from the first global batches of a round's order."""
        if needs is None:
            return {}
        stream = self.batches.epoch(number, 0)
        groups = iter(lambda: list(islice(stream, recipe.accumulation)), [])
        first = islice(groups, self.evidence_batches)
        return saliency(self.model, self.pruned.weights, first, self.accelerator, look)

    def fine_tuning(self, number: int, recipe: Recipe) -> FineTuning:
        """Return a round's training, to iterate over."""
        return FineTuning(
            self.model,
            self.batches,
            self.accelerator,
            self.pruned.hold,
            recipe,
            self.batches.seed,
            number,
        )

    def measure(self, split: Split, look: Callable[[], None]) -> Scores:
        """Score the model on a split; `look` is called before every batch."""
        return evaluate_model(
            self.model, split.loader, self.accelerator, split.rows, self.metric, look
        )

    def check_equal(self, masks: Masks) -> None:
        """Make sure that all processes pruned the same weights.

        Raises:
            InvariantError: they did not.
        """
        if len(set(gather_object([masks.digest()]))) != 1:
            raise InvariantError("the processes pruned different weights")
