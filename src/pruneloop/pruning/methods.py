"""Pruning methods: from weights and masks to masks, nothing else.

A method ranks units (weights, or whole rows or columns) in one or several groups, each
group on its own. `units` counts what each group still keeps; `prune` takes a given
number out of each. How many that is, a schedule decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils import prune as torch_prune

from pruneloop.errors import InvariantError
from pruneloop.pruning.masks import Masks
from pruneloop.pruning.selection import smallest

Weights = Mapping[str, Tensor]


class Method(Protocol):
    """What a pruning method offers."""

    def units(self, masks: Masks) -> list[int]:
        """Return how many units each independently ranked group still keeps."""

    def unit_sizes(self, masks: Masks) -> list[int]:
        """Return how many weights a unit of each group has when it is whole."""

    def prune(self, weights: Weights, masks: Masks, drops: Sequence[int]) -> Masks:
        """Return the masks without `drops[i]` further units of group i.

        The weights must be 0 where they are pruned already. A matrix that would lose
        its last weight is an InvariantError naming it.
        """


def _names_kept(masks: Masks) -> Masks:
    """Return the masks, having made sure that no matrix is empty."""
    for name, mask in masks.items():
        if not bool(mask.any()):
            raise InvariantError(
                f"{name} would lose its last weight; prune less, or take it out by "
                f"prune.exclude=[{name}], or cap it by prune.max_layer_sparsity=0.99"
            )
    return masks


def _kept(masks: Masks) -> dict[str, int]:
    zeros = masks.zeros_by_name()
    return {name: mask.numel() - zeros[name] for name, mask in masks.items()}


def _select(scores: Weights, masks: Masks, names: Sequence[str], k: int) -> dict[str, Tensor]:
    """Return the named masks without the k smallest of their scores taken together."""
    found = smallest([scores[name] for name in names], [masks[name] for name in names], k)
    return dict(zip(names, found, strict=True))


@dataclass(frozen=True)
class GlobalL1:
    """The smallest |w| over all matrices together.

    Equal to `torch.nn.utils.prune.global_unstructured` with `L1Unstructured`. With
    `max_layer_sparsity` below 1 no matrix gets sparser than that share of its weights;
    what a full matrix holds back is taken from the others.
    """

    max_layer_sparsity: float = 1.0

    def units(self, masks: Masks) -> list[int]:
        return [sum(_kept(masks).values())]

    def unit_sizes(self, masks: Masks) -> list[int]:
        return [1]

    def prune(self, weights: Weights, masks: Masks, drops: Sequence[int]) -> Masks:
        if self.max_layer_sparsity == 1:
            return _names_kept(Masks(_select(weights, masks, list(masks), drops[0])))
        return _names_kept(self._capped(weights, masks, drops[0]))

    def _capped(self, weights: Weights, masks: Masks, k: int) -> Masks:
        """Fill the matrices that would pass the cap, then share the rest among the others.

        Taking a full matrix out only raises the threshold for the others, so a matrix
        that was full stays full, and the loop ends after at most one turn per matrix.
        """
        zeros = masks.zeros_by_name()
        room = {
            name: max(int(self.max_layer_sparsity * mask.numel()) - zeros[name], 0)
            for name, mask in masks.items()
        }
        settled: dict[str, Tensor] = {}
        while True:
            names = [name for name in masks if name not in settled]
            if sum(room[name] for name in names) < k:
                raise InvariantError(
                    f"prune.max_layer_sparsity={self.max_layer_sparsity} leaves too little "
                    "to prune; raise it or prune less"
                )
            found = _select(weights, masks, names, k) if names else {}
            full = [n for n in names if int((masks[n] & ~found[n]).count_nonzero()) > room[n]]
            if not full:
                return Masks({name: (settled | found)[name] for name in masks})
            for name in full:
                settled |= _select(weights, masks, [name], room[name])
                k -= room[name]


@dataclass(frozen=True)
class LayerL1:
    """The smallest |w| of every matrix on its own.

    Equal to `torch.nn.utils.prune.L1Unstructured` on each; ties go by position.
    """

    def units(self, masks: Masks) -> list[int]:
        return list(_kept(masks).values())

    def unit_sizes(self, masks: Masks) -> list[int]:
        return [1] * len(masks)

    def prune(self, weights: Weights, masks: Masks, drops: Sequence[int]) -> Masks:
        found: dict[str, Tensor] = {}
        for name, k in zip(masks, drops, strict=True):
            found |= _select(weights, masks, [name], k)
        return _names_kept(Masks(found))


@dataclass(frozen=True)
class RandomGlobal:
    """Weights drawn at random out of all matrices together.

    The scores are `torch.rand` on the CPU from `seed`, in scope order over the kept
    weights: `global_unstructured` with `RandomUnstructured` draws the same ones. The
    choice is the same on every device and rank. A new round needs a new seed.
    """

    seed: int

    def units(self, masks: Masks) -> list[int]:
        return [sum(_kept(masks).values())]

    def unit_sizes(self, masks: Masks) -> list[int]:
        return [1]

    def prune(self, weights: Weights, masks: Masks, drops: Sequence[int]) -> Masks:
        generator = torch.Generator().manual_seed(self.seed)
        scores = {}
        for name, mask in masks.items():
            # torch prunes the largest draws. The difference is exact, and never the 0
            # of a pruned weight.
            drawn = 1 - torch.rand(int(mask.count_nonzero()), generator=generator)
            score = torch.zeros(mask.shape, device=mask.device)
            scores[name] = score.masked_scatter_(mask, drawn.to(mask.device))
        return _names_kept(Masks(_select(scores, masks, list(masks), drops[0])))


@dataclass(frozen=True)
class StructuredLn:
    """Whole rows (`dim=0`) or columns (`dim=1`) of each matrix, by their Ln norm.

    Calls `torch.nn.utils.prune.LnStructured`, on what is still kept of each matrix.
    """

    n: float
    dim: int

    def _alive(self, mask: Tensor) -> Tensor:
        return mask.any(dim=1 - self.dim)

    def units(self, masks: Masks) -> list[int]:
        return [int(self._alive(mask).count_nonzero()) for mask in masks.values()]

    def unit_sizes(self, masks: Masks) -> list[int]:
        return [mask.shape[1 - self.dim] for mask in masks.values()]

    def prune(self, weights: Weights, masks: Masks, drops: Sequence[int]) -> Masks:
        found = {}
        for (name, mask), k in zip(masks.items(), drops, strict=True):
            if not k:
                found[name] = mask.clone()
                continue
            method = torch_prune.LnStructured(amount=k, n=self.n, dim=self.dim)
            method._tensor_name = "weight"
            # A container makes torch rank only the rows or columns that are left.
            container = torch_prune.PruningContainer()
            container._tensor_name = "weight"
            container.add_pruning_method(method)
            weight = weights[name].detach()
            found[name] = container.compute_mask(weight, mask.to(weight.dtype)).bool()
        return _names_kept(Masks(found))
