"""What is ranked together, and what goes as a whole: groups of units, with a cap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pruneloop.errors import InvariantError
from pruneloop.pruning.selection import count, smallest

Tensors = Mapping[str, Tensor]


class Units(Protocol):
    """What goes as a whole: the units of a matrix."""

    def alive(self, mask: Tensor) -> Tensor:
        """Return a bool for each unit: whether any of its weights is kept."""

    def scores(self, scores: Tensor) -> Tensor:
        """Return the units' scores out of the weights'."""

    def mask(self, alive: Tensor, mask: Tensor) -> Tensor:
        """Return a matrix's mask without the weights of the units that are not alive."""

    def fewest_and_most(self, masks: Sequence[Tensor], k: int) -> tuple[int, int]:
        """Return how many weights any k units have at least, and at most."""

    def fitting(self, mask: Tensor, room: int) -> int:
        """Return how many units surely have no more than `room` weights together."""


@dataclass(frozen=True)
class Single:
    """Every weight is a unit."""

    def alive(self, mask: Tensor) -> Tensor:
        return mask

    def scores(self, scores: Tensor) -> Tensor:
        return scores

    def mask(self, alive: Tensor, mask: Tensor) -> Tensor:
        return alive

    def fewest_and_most(self, masks: Sequence[Tensor], k: int) -> tuple[int, int]:
        return k, k

    def fitting(self, mask: Tensor, room: int) -> int:
        return room


@dataclass(frozen=True)
class Lines:
    """Whole rows (`dim=0`) or columns (`dim=1`), by the Ln norm of their weights' scores.

    With `Magnitude` this is `torch.nn.utils.prune.LnStructured`, ties by position.
    """

    n: float
    dim: int

    def alive(self, mask: Tensor) -> Tensor:
        return mask.any(dim=1 - self.dim)

    def scores(self, scores: Tensor) -> Tensor:
        # Added up on the CPU: a GPU adds in another order, and near ties would fall otherwise.
        given = scores.detach().float().cpu()
        return torch.linalg.vector_norm(given, self.n, dim=1 - self.dim).to(scores.device)

    def mask(self, alive: Tensor, mask: Tensor) -> Tensor:
        return mask & alive.unsqueeze(1 - self.dim)

    def fewest_and_most(self, masks: Sequence[Tensor], k: int) -> tuple[int, int]:
        kept = torch.cat([self._kept(mask) for mask in masks]).sort().values
        return int(kept[:k].sum()), int(kept[len(kept) - k :].sum())

    def fitting(self, mask: Tensor, room: int) -> int:
        ends = self._kept(mask).sort(descending=True).values.cumsum(0)
        return int((ends <= room).count_nonzero())

    def _kept(self, mask: Tensor) -> Tensor:
        """Return how many weights every unit that is alive still keeps."""
        kept = mask.sum(dim=1 - self.dim)
        return kept[kept > 0]


@dataclass(frozen=True)
class Groups:
    """Which units are ranked together, and how far a matrix may be pruned.

    All matrices are one group (`together`), or each is a group of its own. With a `cap`
    below 1 no matrix gets sparser than that share of its weights; what a full matrix
    holds back is taken from the others of its group.
    """

    units: Units = Single()
    together: bool = True
    cap: float = 1.0

    def names(self, masks: Tensors) -> list[list[str]]:
        """Return the groups, each as the names of its matrices."""
        return [list(masks)] if self.together else [[name] for name in masks]

    def room(self, mask: Tensor) -> int:
        """Return how many units a matrix can lose: not the last one, and not over the cap."""
        kept = count(self.units.alive(mask))
        return max(min(kept - 1, self._under_cap(mask)), 0)

    def _under_cap(self, mask: Tensor) -> int:
        if self.cap == 1:
            return mask.numel()
        zeros = mask.numel() - count(mask)
        return self.units.fitting(mask, max(int(self.cap * mask.numel()) - zeros, 0))

    def take(self, scores: Tensors, masks: Tensors, k: int) -> dict[str, Tensor]:
        """Return the masks of one group without its `k` units of smallest score.

        Raises:
            InvariantError: the cap leaves fewer than `k` units to take.

        Taking a full matrix out only raises the threshold for the others, so a matrix
        that was full stays full, and the loop ends after at most one turn per matrix.
        """
        ranked = {name: self.units.scores(scores[name]) for name in masks}
        alive = {name: self.units.alive(mask) for name, mask in masks.items()}
        room = {name: self._under_cap(mask) for name, mask in masks.items()}
        settled: dict[str, Tensor] = {}
        while True:
            names = [name for name in masks if name not in settled]
            if self.cap < 1 and sum(room[name] for name in names) < k:
                raise InvariantError(
                    f"prune.max_layer_sparsity={self.cap} leaves too little to prune; raise it "
                    "or prune less"
                )
            found = _select(ranked, alive, names, k) if names else {}
            capped = names if self.cap < 1 else []
            full = [n for n in capped if count(alive[n] & ~found[n]) > room[n]]
            if not full:
                left = settled | found
                return {name: self.units.mask(left[name], masks[name]) for name in masks}
            for name in full:
                settled |= _select(ranked, alive, [name], room[name])
                k -= room[name]


def _select(scores: Tensors, alive: Tensors, names: Sequence[str], k: int) -> dict[str, Tensor]:
    """Return which of the named matrices' units are left without the k smallest."""
    found = smallest([scores[name] for name in names], [alive[name] for name in names], k)
    return dict(zip(names, found, strict=True))
