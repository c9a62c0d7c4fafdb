"""A model with its prunable weights and their masks: what a round prunes and trains."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pruneloop.errors import InvariantError
from pruneloop.pruning.layers import Layers
from pruneloop.pruning.masks import Masks
from pruneloop.pruning.methods import Method
from pruneloop.pruning.units import UnitMethod


class PrunedModel:
    """A plain model, the weights that may be pruned, and the masks beside them.

    Everything rests on the Parameter objects: a wrapper (DDP, `torch.compile`) around the
    model is fine as long as its parameters stay the same objects, as they do in
    `accelerator.prepare`. The masks are kept on the weights' device. `layers` are given where
    whole layers are pruned; the model then skips those of which the masks keep nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Mapping[str, nn.Parameter],
        masks: Masks,
        layers: Layers | None = None,
    ) -> None:
        self.model = model
        self.weights = weights
        self.layers = layers
        self.masks = self._placed(masks)

    @property
    def masks(self) -> Masks:
        """Which weights are kept."""
        return self._masks

    @masks.setter
    def masks(self, masks: Masks) -> None:
        self._masks = masks
        if self.layers is not None:
            self.layers.follow(masks)

    def place(self) -> None:
        """Put the masks where the weights are now, as after `accelerator.prepare`."""
        self.masks = self._placed(self.masks)

    def _placed(self, masks: Mapping[str, Tensor]) -> Masks:
        # In the order of the weights, which files do not keep and methods depend on.
        return Masks({name: masks[name].to(w.device) for name, w in self.weights.items()})

    def prune(
        self,
        method: Method | UnitMethod,
        drops: Sequence[int],
        evidence: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take exactly `drops[i]` units out of group i, and write zeros into their weights.

        Raises:
            InvariantError: what must hold after a prune does not.
        """
        before = self.masks
        left = [n - k for n, k in zip(method.units(before), drops, strict=True)]
        self.masks = method.prune(self.weights, before, drops, evidence)
        self.masks.zero_weights(self.weights)
        self.masks.check(self.weights, before)
        if method.units(self.masks) != left:
            raise InvariantError("another number of units was pruned than was planned")

    def hold(self) -> None:
        """Zero the gradients of pruned weights; call before clipping and before the step."""
        self.masks.zero_gradients(self.weights)

    def check(self) -> None:
        """Make sure that pruned weights are 0 and that all of them are finite.

        Raises:
            InvariantError: one is not.
        """
        self.masks.check(self.weights, self.masks)

    @property
    def parameters(self) -> int:
        """How many parameters the model has, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name, tied ones once."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return all that `load` takes: the `model` tensors and the `masks`, by name."""
        return {"model": self.tensors(), "masks": dict(self.masks)}

    def load(self, tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` and `masks` were, as copies.

        Raises:
            KeyError, RuntimeError: one is missing, or of another shape.
        """
        with torch.no_grad():
            for name, value in self.tensors().items():
                value.copy_(tensors[name])
        self.masks = self._placed(masks)
