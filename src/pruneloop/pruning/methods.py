"""Pruning methods: a criterion and groups. From weights and masks to masks, nothing else.

`units` counts what each group still keeps; `prune` takes a given number out of each. How
many that is, a schedule decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneloop.errors import EmptyMatrix
from pruneloop.pruning.blocks import Blocks
from pruneloop.pruning.criteria import Criterion, Evidence, Magnitude, Random, Weights
from pruneloop.pruning.groups import Groups, Lines
from pruneloop.pruning.masks import Masks
from pruneloop.pruning.selection import counts

_ALL_TOGETHER = Groups()
_PIECE = 1 << 16


@dataclass(frozen=True)
class Method:
    """A criterion, which ranks, and groups, which say what is ranked together."""

    criterion: Criterion
    groups: Groups | Blocks = _ALL_TOGETHER

    @property
    def needs(self) -> Evidence | None:
        """The evidence that `prune` wants to be given."""
        return self.criterion.needs

    @property
    def takes_lines(self) -> bool:
        """Whether whole rows or columns go, and so perhaps whole units of a layer."""
        return isinstance(self.groups.units, Lines)

    def units(self, masks: Masks) -> list[int]:
        """Return how many units each group still keeps."""
        alive = self.groups.units.alive
        found = counts([alive(mask) for mask in masks.values()])
        kept = dict(zip(masks, found, strict=True))
        return [sum(kept[name] for name in names) for names in self.groups.names(masks)]

    def room(self, masks: Masks) -> list[int]:
        """Return how many units each group can lose, by the cap and by its last units."""
        room = {name: self.groups.room(mask) for name, mask in masks.items()}
        return [sum(room[name] for name in names) for names in self.groups.names(masks)]

    def zeros(self, masks: Masks, drops: Sequence[int]) -> tuple[int, int]:
        """Return how many weights are zero at least, and at most, without `drops[i]` units.

        The two are equal unless rows or columns of unequal density are the units.
        """
        counts = [
            self.groups.units.fewest_and_most([masks[name] for name in names], k)
            for names, k in zip(self.groups.names(masks), drops, strict=True)
        ]
        return masks.zeros + sum(a for a, _ in counts), masks.zeros + sum(b for _, b in counts)

    def prune(
        self,
        weights: Weights,
        masks: Masks,
        drops: Sequence[int],
        evidence: Mapping[str, Tensor] | None = None,
    ) -> Masks:
        """Return the masks without `drops[i]` further units of group i.

        The weights must be 0 where they are pruned already.

        Raises:
            EmptyMatrix: a matrix would lose its last weight.
            InvariantError: the cap leaves too little, or a score is not finite.
        """
        scores = self.criterion.scores(weights, masks, evidence or {})
        found: dict[str, Tensor] = {}
        for names, k in zip(self.groups.names(masks), drops, strict=True):
            found |= self.groups.take(scores, {name: masks[name] for name in names}, k)
        return _none_empty(Masks(found))


def _none_empty(masks: Masks) -> Masks:
    """Return the masks, having made sure that no matrix is empty."""
    # A kept weight in the first piece ends the search, most often; a GPU is waited for but once.
    begun = torch.stack([mask.reshape(-1)[:_PIECE].any() for mask in masks.values()]).tolist()
    for (name, mask), found in zip(masks.items(), begun, strict=True):
        if not found and not bool(mask.any()):
            raise EmptyMatrix(
                f"{name} would lose its last weight; prune less, or take it out by "
                f"prune.exclude=[{name}], or cap it by prune.max_layer_sparsity=0.99"
            )
    return masks


def GlobalL1(max_layer_sparsity: float = 1.0) -> Method:
    """Return `torch.nn.utils.prune.global_unstructured` with `L1Unstructured`, and a cap."""
    return Method(Magnitude(), Groups(cap=max_layer_sparsity))


def LayerL1() -> Method:
    """Return `torch.nn.utils.prune.L1Unstructured` on every matrix; ties by position."""
    return Method(Magnitude(), Groups(together=False))


def RandomGlobal(seed: int) -> Method:
    """Return `global_unstructured` with `RandomUnstructured`, drawn from a seed."""
    return Method(Random(seed))


def StructuredLn(n: float, dim: int) -> Method:
    """Return `torch.nn.utils.prune.LnStructured` on every matrix; ties by position."""
    return Method(Magnitude(), Groups(Lines(n, dim), together=False))
