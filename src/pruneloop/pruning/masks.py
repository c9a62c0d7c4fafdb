"""Masks: which weights are kept, and what that does to weights and gradients."""

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pruneloop.errors import InvariantError
from pruneloop.pruning.selection import counts


class Masks(Mapping[str, Tensor]):
    """A bool tensor per prunable weight, by parameter name: True keeps, False prunes.

    Immutable: a prune returns new masks. One byte a weight.
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self._masks = dict(masks)

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    @classmethod
    def dense(cls, weights: Mapping[str, Tensor]) -> "Masks":
        """Return masks that keep every weight."""
        return cls({name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()})

    @classmethod
    def from_zeros(cls, weights: Mapping[str, Tensor]) -> "Masks":
        """Return masks that prune what is exactly zero, as a permanent checkpoint has it."""
        return cls({name: weight.detach() != 0 for name, weight in weights.items()})

    @property
    def prunable(self) -> int:
        """How many weights the masks cover."""
        return sum(mask.numel() for mask in self.values())

    @property
    def zeros(self) -> int:
        """How many of them are pruned."""
        return sum(self.zeros_by_name().values())

    def zeros_by_name(self) -> dict[str, int]:
        """Return how many weights of each matrix are pruned."""
        kept = counts(list(self.values()))
        return {name: self[name].numel() - n for name, n in zip(self, kept, strict=True)}

    def zero_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Write 0.0 into every pruned weight, in place."""
        for name, mask in self.items():
            _zero(weights[name], mask)

    def zero_gradients(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Zero the gradients of pruned weights, in place; call before clipping.

        With an optimiser whose state was new when the masks were, a pruned weight then
        has no gradient, no moments and no decay (0 decays to 0): it stays 0.
        """
        for name, mask in self.items():
            gradient = weights[name].grad
            if gradient is not None:
                _zero(gradient, mask)

    def digest(self) -> str:
        """Return a SHA-256 of all masks; equal on ranks that pruned the same weights."""
        result = hashlib.sha256()
        for name, mask in self.items():
            result.update(name.encode())
            result.update(mask.cpu().contiguous().numpy().tobytes())
        return result.hexdigest()

    def check(self, weights: Mapping[str, Tensor], previous: "Masks") -> None:
        """Assert what must hold after every round.

        Raises:
            InvariantError: a weight came back to life, a pruned weight is not exactly
                0, or a weight is NaN or infinite.
        """
        for name, mask in self.items():
            weight = weights[name].detach()
            if bool((mask & ~previous[name]).any()):
                raise InvariantError(f"{name}: a pruned weight is kept again")
            if int((weight != 0).logical_and_(~mask).count_nonzero()):
                raise InvariantError(f"{name}: a pruned weight is not zero")
            if not bool(torch.isfinite(weight).all()):
                raise InvariantError(f"{name}: a weight is NaN or infinite")


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _zero(tensor: Tensor, mask: Tensor) -> None:
    """Multiply a tensor's bits by its mask, in place: what is not kept becomes +0.0.

    A product of numbers takes three times as long on a CPU, leaves -0.0 for negative ones, which
    makes files compress worse, and a NaN for a NaN.
    """
    bits = tensor.detach().view(_INTEGERS[tensor.element_size()])
    bits.mul_(mask)
