"""One round's fine-tuning: optimiser steps over epochs, with pruned weights held at 0."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pruneloop.errors import InvariantError
from pruneloop.training.objectives import UNWEIGHTED, Batch, Objective
from pruneloop.training.update import Update

LOOK_EVERY = 25
"""Losses are means over so many steps, and weights are looked at as often: a GPU has to be waited
for, and to look at all weights is dear."""


class Batches(Protocol):
    """What training needs of its data: a length, and an epoch's batches in order."""

    def __len__(self) -> int: ...

    def epoch(self, round_number: int, epoch: int, skip: int = 0) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Recipe:
    """How a round trains; `learning_rate` is the peak of its schedule.

    `label_weights` are the weights of the labels' rows in the loss; none are equal ones.
    """

    epochs: int
    learning_rate: float
    accumulation: int
    warmup: float
    weight_decay: float
    max_grad_norm: float
    label_weights: tuple[float, ...] = ()

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step (from 0): linear up, then linear to 0.

        The same as transformers' `get_linear_schedule_with_warmup`, but without a state
        of its own to save and restore.
        """
        warmup = int(self.warmup * steps)
        if step < warmup:
            return self.learning_rate * step / max(1, warmup)
        return self.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))


@dataclass(frozen=True)
class Progress:
    """Where a round's training is after an optimiser step; `loss` is the mean of the last steps."""

    step: int
    steps: int
    learning_rate: float
    loss: float | None


def seed_epoch(seed: int, round_number: int, epoch: int, rank: int) -> None:
    """Seed dropout: a pure function of its arguments, another one on each process."""
    sequence = numpy.random.SeedSequence((seed, round_number, epoch, rank))
    torch.manual_seed(int(sequence.generate_state(1, numpy.uint64)[0] >> 1))


class FineTuning:
    """A round of training, as an iterable of `Progress` after every optimiser step.

    Each round starts a fresh optimiser and schedule (learning-rate rewinding), so that
    nothing of a pruned weight survives in the moments. The caller decides what happens
    between steps: show progress, save `state()`, or stop. A new object that is given a
    saved state goes on with the very next step, bit for bit (random states aside, which
    belong to the process and are the caller's to restore).
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        accelerator: Accelerator,
        hold: Callable[[], None],
        recipe: Recipe,
        seed: int,
        round_number: int,
        objective: Objective = UNWEIGHTED,
        captured: bool = False,
    ) -> None:
        """Set up a round.

        Args:
            hold: called before clipping, with unscaled gradients; zeroes those of pruned
                weights.
            captured: steps may become CUDA graphs (`can_be_captured`).
        """
        self._model = model
        self._batches = batches
        self._accelerator = accelerator
        self._recipe = recipe
        self._seed = seed
        self._round = round_number
        # A graph's gradients are those of one batch.
        captured = captured and recipe.accumulation == 1
        decay, norm = recipe.weight_decay, recipe.max_grad_norm
        self._update = Update(model, accelerator, objective, hold, decay, norm, captured)
        # The last ones, in a ring.
        self._losses = torch.zeros(LOOK_EVERY, device=accelerator.device)
        self._first_bad = torch.zeros((), dtype=torch.int64, device=accelerator.device)
        self._steps_an_epoch = -(-len(batches) // recipe.accumulation)
        self.step = 0
        self.steps = recipe.epochs * self._steps_an_epoch

    def __iter__(self) -> Iterator[Progress]:
        """Train to the end of the round.

        Raises:
            InvariantError: a loss, a gradient norm or a weight is NaN or infinite.
        """
        while self.step < self.steps:
            epoch, done = divmod(self.step, self._steps_an_epoch)
            if done == 0:
                seed_epoch(self._seed, self._round, epoch, self._accelerator.process_index)
            self._model.train()  # somebody may have measured it in between
            stream = self._batches.epoch(self._round, epoch, done * self._recipe.accumulation)
            while group := list(islice(stream, self._recipe.accumulation)):
                yield self._one_step(group)

    @property
    def epochs(self) -> int:
        """How many epochs are over."""
        return self.step // self._steps_an_epoch

    @property
    def recent_loss(self) -> float:
        """The mean training loss over the last `LOOK_EVERY` steps, or fewer, checked."""
        self._refuse_bad()
        return float(self._losses.sum()) / max(min(self.step, LOOK_EVERY), 1)

    def check(self) -> None:
        """Wait for the device, and make sure that every number so far was finite.

        Raises:
            InvariantError: a loss, a gradient norm or a weight was NaN or infinite.
        """
        self._watch([self._size_of_weights()])
        self._refuse_bad()

    def _refuse_bad(self) -> None:
        if first_bad := int(self._first_bad):
            rate = self._recipe.rate(first_bad - 1, self.steps)
            raise InvariantError(
                f"the loss, a gradient or a weight is not finite at step {first_bad} of round "
                f"{self._round}, learning rate {rate:g}; try a smaller finetune.learning_rate"
            )

    def _one_step(self, group: list[Batch]) -> Progress:
        rate = self._recipe.rate(self.step, self.steps)
        loss, norm = self._update(group, rate)
        self._losses[self.step % LOOK_EVERY] = loss
        self.step += 1
        numbers = [loss] if self._update.may_skip else [loss, norm]
        if self.step % LOOK_EVERY == 0 or self.step == self.steps:
            # In between, a weight that is not finite shows in the next step's loss.
            numbers.append(self._size_of_weights())
        self._watch(numbers)
        look = self._accelerator.device.type == "cpu" or self.step % LOOK_EVERY == 0
        shown = self.recent_loss if look or self.step == self.steps else None
        return Progress(self.step, self.steps, rate, shown)

    @torch.no_grad()
    def _size_of_weights(self) -> Tensor:
        return nn.utils.get_total_norm(self._model.parameters())

    def _watch(self, numbers: list[Tensor]) -> None:
        """Remember the first step where one of them was not finite, without waiting for it."""
        bad = ~torch.isfinite(torch.stack(numbers)).all()
        self._first_bad += max(self.step, 1) * (bad & (self._first_bad == 0))

    def state(self) -> dict[str, Tensor]:
        """Return all that the rest of the round depends on, weights and masks aside."""
        found = {"losses": self._losses, "step": torch.tensor(self.step)}
        return found | self._update.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned in another process."""
        self._update.load_state(state)
        self._losses.copy_(state["losses"])
        self.step = int(state["step"])
