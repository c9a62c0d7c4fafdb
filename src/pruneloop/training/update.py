"""One optimiser step on a global batch, with pruned weights held at 0."""

from collections.abc import Callable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from pruneloop.training.objectives import Batch, Objective, group_losses
from pruneloop.training.step_graphs import StepGraphs


class Update:
    """Calls are optimiser steps: gradients of a global batch, held, clipped, and followed."""

    def __init__(
        self,
        model: nn.Module,
        accelerator: Accelerator,
        objective: Objective,
        hold: Callable[[], None],
        weight_decay: float,
        max_grad_norm: float,
        captured: bool = False,
    ) -> None:
        """Set up a fresh optimiser.

        Args:
            hold: called before clipping, with unscaled gradients; zeroes those of pruned
                weights.
            captured: steps are CUDA graphs; then a group is one batch.
        """
        self._model = model
        self._accelerator = accelerator
        self._objective = objective
        self._hold = hold
        self._max_grad_norm = max_grad_norm
        self._optimizer = make_optimizer(model, weight_decay, captured)
        self._scaler: torch.amp.GradScaler | None = getattr(accelerator, "scaler", None)
        self._graphs = StepGraphs() if captured else None

    def __call__(self, group: Sequence[Batch], rate: float) -> tuple[Tensor, ...]:
        """Train on a global batch with a learning rate.

        Returns:
            The loss and the norm of the gradients, good until the next step.
        """
        _set_rate(self._optimizer, rate)
        if self._graphs is None:
            return self._step(*group)
        (batch,) = group
        return self._graphs(batch, self._step, self._rehearse)

    @property
    def may_skip(self) -> bool:
        """Whether a step whose gradients overflowed is skipped, which is no fault then."""
        return self._scaler is not None

    def _step(self, *group: Batch) -> tuple[Tensor, Tensor]:
        loss = self._backward(group)
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        self._hold()
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), self._max_grad_norm)
        if self._scaler is not None:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def _rehearse(self, *group: Batch) -> None:
        """Go forward and backward, and leave everything as it was."""
        self._backward(group)
        self._optimizer.zero_grad(set_to_none=True)

    def _backward(self, group: Sequence[Batch]) -> Tensor:
        """Add up the gradients of the mean loss over all rows of a group; return the loss."""
        total = torch.zeros((), device=self._accelerator.device)
        for loss in group_losses(self._model, group, self._accelerator, self._objective):
            self._accelerator.backward(loss)
            total += loss.detach()
        return total

    def state(self) -> dict[str, Tensor]:
        """Return the moments and the scaler's numbers."""
        found = _moments_of(self._optimizer)
        if self._scaler is not None:
            values = self._scaler.state_dict()
            found |= {f"scaler.{key}": torch.tensor(value) for key, value in values.items()}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned in another process."""
        _load_moments(self._optimizer, state)
        if self._graphs is not None:  # what was captured has other moments
            self._graphs = StepGraphs()
        names = [name for name in state if name.startswith("scaler.")]
        if names and self._scaler is not None:
            scaled = {name.removeprefix("scaler."): state[name].item() for name in names}
            self._scaler.load_state_dict(scaled)


def make_optimizer(model: nn.Module, weight_decay: float, captured: bool = False) -> Optimizer:
    """Return a fused AdamW that does not decay biases and LayerNorm, with a rate of 0 so far.

    `captured`: its steps become part of CUDA graphs, which read the rate from the device and
    cannot make moments.
    """
    decayed = [p for p in model.parameters() if p.dim() > 1]
    free = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if not captured:
        return AdamW(groups, lr=0.0, fused=True)
    device = next(model.parameters()).device
    rate = torch.tensor(0.0, device=device)
    optimizer = AdamW(groups, lr=rate, fused=True, capturable=True)
    for parameter in (*decayed, *free):
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.zeros((), device=device), **moments}
    return optimizer


def _set_rate(optimizer: Optimizer, rate: float) -> None:
    """Have the next steps take a learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


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
