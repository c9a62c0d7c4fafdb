"""One round's fine-tuning: optimiser steps over epochs, with the masks held."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.optim import AdamW, Optimizer
from transformers import get_linear_schedule_with_warmup

from pruneloop.errors import InvariantError
from pruneloop.pruning import Masks

# On a GPU, looking at the loss waits for it; do so only every this many steps.
_LOOK_EVERY = 25


Batch = dict[str, torch.Tensor]


class Batches(Protocol):
    """What training needs of its data: a length, and an epoch's batches in order."""

    def __len__(self) -> int: ...

    def epoch(self, round_number: int, epoch: int) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Recipe:
    """How a round trains; `learning_rate` is the peak of its linear schedule."""

    epochs: int
    learning_rate: float
    accumulation: int
    warmup: float
    weight_decay: float
    max_grad_norm: float


@dataclass(frozen=True)
class Progress:
    """Where a round's training is after an optimiser step; `loss` is the mean so far."""

    step: int
    steps: int
    epoch: int
    learning_rate: float
    loss: float | None


def steps_of(recipe: Recipe, batches: Batches) -> int:
    """Return how many optimiser steps a round takes."""
    return recipe.epochs * -(-len(batches) // recipe.accumulation)


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Return a fused AdamW that does not decay biases and LayerNorm."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    free = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=recipe.learning_rate, fused=True)


def seed_epoch(seed: int, round_number: int, epoch: int, rank: int) -> None:
    """Seed dropout: a pure function of its arguments, another one on each process."""
    sequence = numpy.random.SeedSequence((seed, round_number, epoch, rank))
    torch.manual_seed(int(sequence.generate_state(1, numpy.uint64)[0] >> 1))


def fine_tune(
    model: nn.Module,
    batches: Batches,
    accelerator: Accelerator,
    masks: Masks,
    weights: Mapping[str, nn.Parameter],
    recipe: Recipe,
    seed: int,
    round_number: int,
) -> Iterator[Progress]:
    """Train for one round and yield after every optimiser step.

    Each round starts a fresh optimiser and schedule (learning-rate rewinding), so that
    nothing of a pruned weight survives in the moments. The caller decides what happens
    between steps: show progress, save, or stop.

    Raises:
        InvariantError: a loss or a gradient norm is NaN or infinite.
    """
    optimizer = make_optimizer(model, recipe)
    total = steps_of(recipe, batches)
    schedule = get_linear_schedule_with_warmup(optimizer, int(recipe.warmup * total), total)
    scaler = getattr(accelerator, "scaler", None)
    watch = _Watch(accelerator.device)
    model.train()
    step = 0
    for epoch in range(recipe.epochs):
        seed_epoch(seed, round_number, epoch, accelerator.process_index)
        stream = batches.epoch(round_number, epoch)
        while group := list(islice(stream, recipe.accumulation)):
            rate = schedule.get_last_lr()[0]
            loss = _backward(model, group, accelerator)
            masks.zero_gradients(weights)
            if scaler is not None:
                scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            if scaler is not None:
                scaler.step(optimizer)  # skips the step where a gradient overflowed
                scaler.update()
            else:
                optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            watch.add(step, loss, norm if scaler is None else loss)
            look = step == total or accelerator.device.type == "cpu" or step % _LOOK_EVERY == 0
            yield Progress(
                step, total, epoch, rate, watch.mean(recipe.learning_rate) if look else None
            )


def _backward(model: nn.Module, group: list[Batch], accelerator: Accelerator) -> torch.Tensor:
    """Add up the gradients of the mean loss over all rows of the group; return that loss."""
    rows = sum(len(batch["labels"]) for batch in group)
    total = torch.zeros((), device=accelerator.device)
    for index, batch in enumerate(group):
        last = index == len(group) - 1
        with nullcontext() if last else accelerator.no_sync(model):
            share = len(batch["labels"]) / rows
            on_device = send_to_device(batch, accelerator.device, non_blocking=True)
            loss = model(**on_device).loss * share
            accelerator.backward(loss)
            total += loss.detach()
    return total


class _Watch:
    """The mean loss, and the first step that was not finite, kept on the device."""

    def __init__(self, device: torch.device) -> None:
        self._sum = torch.zeros((), device=device)
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self._steps = 0

    def add(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        self._steps += 1
        self._sum += loss
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        self._first_bad += step * (bad & (self._first_bad == 0))

    def mean(self, learning_rate: float) -> float:
        first_bad = int(self._first_bad)
        if first_bad:
            raise InvariantError(
                f"loss or gradient is not finite at step {first_bad}, learning rate "
                f"{learning_rate:g}; try a smaller finetune.learning_rate"
            )
        return float(self._sum) / self._steps
