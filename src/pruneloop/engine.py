"""What acts on a device: gather evidence, fine-tune, measure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruneloop.data.batches import TrainingBatches
from pruneloop.errors import InvariantError
from pruneloop.evaluation import (
    Scores,
    all_logits,
    mean_loss,
    scores_of,
)
from pruneloop.evidence import input_norms, moved, saliency, turns
from pruneloop.pruning import Evidence, Masks, PrunedModel
from pruneloop.teacher import Teacher
from pruneloop.training import (
    Batch,
    CrossEntropy,
    FineTuning,
    Objective,
    Quick,
    Recipe,
    can_be_captured,
)


@dataclass(frozen=True)
class Split:
    """Rows to measure on: their name, their loader, as accelerate prepared it, and their number."""

    name: str
    loader: DataLoader[Any]
    rows: int


@dataclass(frozen=True)
class HeldOut:
    """What is measured on.

    `both` is validation and test, to be read in one pass; of its rows, in its loader's order,
    `of_test` says which are test's, and `labels` is what is known of them. `sample` is what of
    validation says which layers are missed. `cache` is a folder for what scores keep while they
    are counted.
    """

    validation: Split
    both: Split
    of_test: Tensor
    labels: Tensor
    sample: Split
    cache: Path


@dataclass(frozen=True)
class Engine:
    """A model on its device, with the rows to train and to measure it on.

    `model` is `pruned.model` as accelerate prepared it: the same parameters. Training and
    measuring take the quick ways that it has; gathering evidence never does.
    """

    accelerator: Accelerator
    model: nn.Module
    pruned: PrunedModel
    batches: TrainingBatches
    held_out: HeldOut
    evidence_batches: int
    teacher: Teacher | None
    quick: Quick

    def evidence(
        self,
        needs: Evidence | None,
        number: int,
        recipe: Recipe,
        look: Callable[[], None],
        count: int = 0,
    ) -> dict[str, Tensor]:
        """Gather what a criterion needs, from the first global batches of a round's order.

        The turns in which layers go, for the first `count` of them, from a sample of validation.
        """
        if needs is None:
            return {}
        if needs is Evidence.absence:
            assert self.pruned.layers is not None
            return turns(self.pruned.layers, self.pruned.masks, count, partial(self._loss, look))
        stream = self.batches.epoch(number, 0)
        groups = iter(lambda: list(islice(stream, recipe.accumulation)), [])
        first = islice(groups, self.evidence_batches)
        model, weights = self.model, self.pruned.weights
        if needs is Evidence.inputs:
            return input_norms(model, weights, first, self.accelerator, look)
        own = CrossEntropy(recipe.label_weights)
        return saliency(model, weights, first, self.accelerator, look, own)

    def _loss(self, look: Callable[[], None]) -> float:
        """Return the loss on the sample of validation; every process the same."""
        return mean_loss(*self._logits(self.held_out.sample, look))

    def fine_tuning(
        self,
        number: int,
        recipe: Recipe,
        taught: Tensor | None,
        moved_so_far: dict[str, Tensor] | None,
    ) -> FineTuning:
        """Return a round's training, to iterate over.

        Args:
            taught: the teacher's logits that it follows, if any.
            moved_so_far: sums of the movement evidence to add to, if they are wanted.
        """
        own = CrossEntropy(recipe.label_weights)
        objective: Objective = own
        if self.teacher is not None and taught is not None:
            objective = replace(self.teacher.objective, own=own)

        def quickly(model: nn.Module, batch: Batch) -> Tensor:
            with self.quick():
                return objective(model, batch)

        def hold() -> None:
            self.pruned.hold()
            if moved_so_far is not None:
                moved(self.pruned.weights, moved_so_far)

        return FineTuning(
            self.model,
            self.batches.taught(taught),
            self.accelerator,
            hold,
            recipe,
            self.batches.seed,
            number,
            quickly,
            can_be_captured(self.pruned.model, self.accelerator),
        )

    def unmoved(self) -> dict[str, Tensor]:
        """Return sums of the movement evidence to start a round with."""
        weights = self.pruned.weights.items()
        return {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights}

    def teach(self, look: Callable[[], None]) -> Tensor | None:
        """Return the logits that the coming rounds follow; None without a teacher."""
        if self.teacher is None:
            return None
        with self.quick():
            return self.teacher.logits(self.accelerator, look)

    def validate(self, look: Callable[[], None]) -> Scores:
        """Score the model on validation; `look` is called before every batch."""
        with self.quick():
            logits, labels = self._logits(self.held_out.validation, look)
        return scores_of(logits, labels, self.held_out.cache)

    def measure(self, look: Callable[[], None]) -> tuple[Scores, Scores]:
        """Score the model on validation, and on test; `look` is called before every batch.

        Validation's are those of `validate` but for rounding: other rows stand beside them.

        Raises:
            InvariantError: the rows came in another order, so that nobody knows whose they are.
        """
        held_out = self.held_out
        with self.quick():
            logits, labels = self._logits(held_out.both, look)
        if bool((labels != held_out.labels).any()):
            raise InvariantError("rows were evaluated in another order than they were read in")
        validation, test = (
            scores_of(logits[rows], labels[rows], held_out.cache)
            for rows in (~held_out.of_test, held_out.of_test)
        )
        return validation, test

    def _logits(self, split: Split, look: Callable[[], None]) -> tuple[Tensor, Tensor]:
        return all_logits(self.model, split.loader, self.accelerator, split.rows, look)

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Have the model compute as it will be served: without autocast, in evaluation mode."""
        model = self.pruned.model
        wrapped = {
            name: value
            for name, value in vars(model).items()
            if name in ("forward", "_original_forward")
        }
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        model.eval()
        try:
            yield
        finally:
            vars(model).update(wrapped)

    def check_equal(self, masks: Masks) -> None:
        """Make sure that all processes pruned the same weights.

        Raises:
            InvariantError: they did not.
        """
        if len(set(gather_object([masks.digest()]))) != 1:
            raise InvariantError("the processes pruned different weights")
