"""One round's fine-tuning: optimiser steps over epochs, with pruned weights held at 0."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

import numpy
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from pruneloop.errors import InvariantError
from pruneloop.step_graphs import StepGraphs

LOOK_EVERY = 25
"""Losses are means over so many steps, and weights are looked at as often: a GPU has to be waited
for, and to look at all weights is dear."""

Batch = dict[str, Tensor]

Objective = Callable[[nn.Module, Batch], Tensor]
"""From a model and a batch on its device to the mean loss over the batch's rows."""


@dataclass(frozen=True)
class CrossEntropy:
    """The mean over rows of w[label] * cross-entropy; without weights, the model's own loss."""

    weights: Sequence[float] = ()

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


@lru_cache
def _placed(weights: Sequence[float], device: torch.device) -> Tensor:
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


def make_optimizer(model: nn.Module, recipe: Recipe, captured: bool = False) -> Optimizer:
    """Return a fused AdamW that does not decay biases and LayerNorm.

    `captured`: its steps become part of CUDA graphs, which read the rate from the device and
    cannot make moments.
    """
    decayed = [p for p in model.parameters() if p.dim() > 1]
    free = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if not captured:
        return AdamW(groups, lr=recipe.learning_rate, fused=True)
    device = next(model.parameters()).device
    rate = torch.tensor(recipe.learning_rate, device=device)
    optimizer = AdamW(groups, lr=rate, fused=True, capturable=True)
    for parameter in (*decayed, *free):
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.zeros((), device=device), **moments}
    return optimizer


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Have the next steps take a learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def seed_epoch(seed: int, round_number: int, epoch: int, rank: int) -> None:
    """Seed dropout: a pure function of its arguments, another one on each process."""
    sequence = numpy.random.SeedSequence((seed, round_number, epoch, rank))
    torch.manual_seed(int(sequence.generate_state(1, numpy.uint64)[0] >> 1))


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
        objective: Objective = CrossEntropy(),
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
        self._hold = hold
        self._objective = objective
        self._recipe = recipe
        self._seed = seed
        self._round = round_number
        # A graph's gradients are those of one batch.
        captured = captured and recipe.accumulation == 1
        self._optimizer = make_optimizer(model, recipe, captured)
        self._graphs = StepGraphs(self._update, self._rehearse) if captured else None
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
        set_rate(self._optimizer, rate)
        loss, norm = self._update(*group) if self._graphs is None else self._graphs(*group)
        self._losses[self.step % LOOK_EVERY] = loss
        self.step += 1
        # The scaler skips steps whose gradients overflowed: with it, they are no fault.
        numbers = [loss] if self._scaler is not None else [loss, norm]
        if self.step % LOOK_EVERY == 0 or self.step == self.steps:
            # In between, a weight that is not finite shows in the next step's loss.
            numbers.append(self._size_of_weights())
        self._watch(numbers)
        look = self._accelerator.device.type == "cpu" or self.step % LOOK_EVERY == 0
        shown = self.recent_loss if look or self.step == self.steps else None
        return Progress(self.step, self.steps, rate, shown)

    def _update(self, *group: Batch) -> tuple[Tensor, Tensor]:
        """Train on a global batch; return its loss and the norm of its gradients."""
        loss = self._backward(group)
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        self._hold()
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.max_grad_norm)
        if self._scaler is not None:
            self._scaler.step(self._optimizer)  # skips a step whose gradients overflowed
            self._scaler.update()
        else:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def _rehearse(self, *group: Batch) -> None:
        """Go forward and backward, and leave everything as it was."""
        self._backward(group)
        self._optimizer.zero_grad(set_to_none=True)

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return getattr(self._accelerator, "scaler", None)

    @torch.no_grad()
    def _size_of_weights(self) -> Tensor:
        return nn.utils.get_total_norm(self._model.parameters())

    def _watch(self, numbers: list[Tensor]) -> None:
        """Remember the first step where one of them was not finite, without waiting for it."""
        bad = ~torch.isfinite(torch.stack(numbers)).all()
        self._first_bad += max(self.step, 1) * (bad & (self._first_bad == 0))

    def _backward(self, group: Sequence[Batch]) -> Tensor:
        """Add up the gradients of the mean loss over all rows of a group; return the loss."""
        total = torch.zeros((), device=self._accelerator.device)
        for loss in group_losses(self._model, group, self._accelerator, self._objective):
            self._accelerator.backward(loss)
            total += loss.detach()
        return total

    def state(self) -> dict[str, Tensor]:
        """Return all that the rest of the round depends on, weights and masks aside."""
        found = {"losses": self._losses, "step": torch.tensor(self.step)}
        found |= _moments_of(self._optimizer)
        if self._scaler is not None:
            values = self._scaler.state_dict()
            found |= {f"scaler.{key}": torch.tensor(value) for key, value in values.items()}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned in another process."""
        _load_moments(self._optimizer, state)
        names = [name for name in state if name.startswith("scaler.")]
        if names:
            scaled = {name.removeprefix("scaler."): state[name].item() for name in names}
            self._accelerator.scaler.load_state_dict(scaled)
        self._losses.copy_(state["losses"])
        self.step = int(state["step"])


def _moments_of(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments, as NUMBER.NAME by the number of their parameter."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, of in state.items() for key, value in of.items()}


def _load_moments(optimizer: Optimizer, state: Mapping[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        place, _, key = name.rpartition(".")
        if place.isdigit():
            moments.setdefault(int(place), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
