"""Whole units across matrices: a feed-forward neuron, or a head, goes with all that it has.

Its rows of what goes in and its columns of what comes out become zeros; its biases then act on
nothing. What is left of them is removed by whoever makes the model smaller.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneloop.pruning.criteria import Criterion, Evidence, Weights
from pruneloop.pruning.layers import LayerBlock, LayerGroups
from pruneloop.pruning.masks import Masks
from pruneloop.pruning.scope import kind_of, layer_of
from pruneloop.pruning.selection import smallest

Tensors = Mapping[str, Tensor]

KINDS = ("ffn", "heads")
"""What goes as a whole: feed-forward neurons, attention heads."""

# How many units side by side a matrix has along its rows, and which matrix has them as columns.
_ROWS = {
    "ffn": {"ffn_in": 1, "fused_ffn_in": 2},
    "heads": {"query": 1, "key": 1, "value": 1, "relative_position": 1, "fused_qkv": 3},
}
_COLUMNS = {"ffn": "ffn_out", "heads": "attention_output"}


@dataclass(frozen=True)
class Part:
    """The lines of a matrix that a block's units have: rows (`dim=0`) or columns (`dim=1`).

    They stand `repeats` times behind each other, as the two halves of a gated matrix.
    """

    name: str
    dim: int
    repeats: int

    def sums(self, tensor: Tensor, units: int) -> Tensor:
        """Return the sum over what each unit has of a tensor of the matrix's shape."""
        lines = tensor.sum(dim=1 - self.dim)
        return lines.view(self.repeats, units, -1).sum(dim=(0, 2))

    def spread(self, alive: Tensor, shape: torch.Size) -> Tensor:
        """Return a bool for each line of the matrix, as it can be broadcast to its shape."""
        width = shape[self.dim] // (self.repeats * len(alive))
        lines = alive.repeat_interleave(width).repeat(self.repeats)
        return lines.unsqueeze(1 - self.dim)


@dataclass(frozen=True)
class Block:
    """A layer's units of one kind."""

    units: int
    parts: tuple[Part, ...]

    def kept(self, masks: Tensors) -> Tensor:
        """Return how many weights each unit keeps; one without any is gone."""
        return self._sums({part.name: masks[part.name].long() for part in self.parts})

    def scores(self, scores: Tensors, n: float) -> Tensor:
        """Return the Ln norm of each unit's weights' scores, on the CPU.

        A GPU adds up in another order: near ties would fall otherwise.
        """
        given = {part.name: scores[part.name].detach().float().cpu() for part in self.parts}
        powers = {name: score.abs().pow(n) for name, score in given.items()}
        return self._sums(powers).pow(1 / n)

    def without(self, alive: Tensor, masks: Tensors) -> dict[str, Tensor]:
        """Return the masks of the block's matrices without the units that are not alive."""
        return {
            part.name: masks[part.name]
            & part.spread(alive.to(masks[part.name].device), masks[part.name].shape)
            for part in self.parts
        }

    def _sums(self, tensors: Tensors) -> Tensor:
        return torch.stack([p.sums(tensors[p.name], self.units) for p in self.parts]).sum(0)


@dataclass(frozen=True)
class UnitGroups:
    """Which units are ranked together: those of a layer, or of all layers (`together`).

    Neurons and heads are never ranked against each other. `heads` is how many a layer has.
    """

    kinds: tuple[str, ...]
    together: bool
    heads: int

    def blocks(self, masks: Tensors) -> list[list[Block]]:
        """Return the groups, each as its blocks."""
        groups: list[list[Block]] = []
        for kind in KINDS:
            if kind in self.kinds:
                found = list(self._blocks(kind, masks))
                groups += [found] if self.together else [[block] for block in found]
        return groups

    def names(self, masks: Tensors) -> list[list[str]]:
        """Return the groups, each as the names of its matrices."""
        return [
            [part.name for block in group for part in block.parts] for group in self.blocks(masks)
        ]

    def _blocks(self, kind: str, masks: Tensors) -> Iterator[Block]:
        layers: dict[str, list[Part]] = {}
        widths: dict[str, int] = {}
        for name, mask in masks.items():
            found, layer = kind_of(name), layer_of(name)
            if layer is None:
                continue
            if found in _ROWS[kind]:
                layers.setdefault(layer, []).append(Part(name, 0, _ROWS[kind][found]))
            elif found == _COLUMNS[kind]:
                layers.setdefault(layer, []).append(Part(name, 1, 1))
                widths[layer] = mask.shape[1]
        for layer_name, parts in layers.items():
            units = self.heads if kind == "heads" else widths[layer_name]
            yield Block(units, tuple(parts))


@dataclass(frozen=True)
class UnitMethod:
    """A criterion that ranks units by the Ln norm of their weights; one of a block always stays.

    It offers what `Method` does. Molchanov et al. 2019; Michel et al. 2019 for heads.
    """

    criterion: Criterion
    groups: UnitGroups | LayerGroups
    n: float

    @property
    def needs(self) -> Evidence | None:
        """The evidence that `prune` wants to be given."""
        return self.criterion.needs

    @property
    def takes_lines(self) -> bool:
        """Whether whole rows or columns go: always."""
        return True

    def units(self, masks: Masks) -> list[int]:
        """Return how many units each group still keeps."""
        return [sum(_alive(b, masks) for b in group) for group in self._blocks(masks)]

    def room(self, masks: Masks) -> list[int]:
        """Return how many units each group can lose."""
        return [
            sum(max(_alive(block, masks) - 1, 0) for block in group)
            for group in self._blocks(masks)
        ]

    def zeros(self, masks: Masks, drops: Sequence[int]) -> tuple[int, int]:
        """Return how many weights are zero at least, and at most, without `drops[i]` units."""
        fewest = most = masks.zeros
        for group, k in zip(self._blocks(masks), drops, strict=True):
            kept = torch.cat([block.kept(masks) for block in group])
            kept = kept[kept > 0].sort().values
            fewest += int(kept[:k].sum())
            most += int(kept[len(kept) - k :].sum())
        return fewest, most

    def prune(
        self,
        weights: Weights,
        masks: Masks,
        drops: Sequence[int],
        evidence: Mapping[str, Tensor] | None = None,
    ) -> Masks:
        """Return the masks without `drops[i]` further units of group i; ties go by position.

        Raises:
            InvariantError: a score is not finite.
            ValueError: a block would lose its last unit.
        """
        scores = self.criterion.scores(weights, masks, evidence or {})
        found = dict(masks)
        for group, k in zip(self._blocks(masks), drops, strict=True):
            ranked = [block.scores(scores, self.n) for block in group]
            alive = [(block.kept(masks) > 0).cpu() for block in group]
            for block, left in zip(group, _without_smallest(ranked, alive, k), strict=True):
                found |= block.without(left, masks)
        return Masks(found)

    def _blocks(self, masks: Masks) -> Sequence[Sequence[Block | LayerBlock]]:
        return self.groups.blocks(masks)


def _alive(block: Block | LayerBlock, masks: Tensors) -> int:
    return int((block.kept(masks) > 0).count_nonzero())


def _without_smallest(ranked: Sequence[Tensor], alive: Sequence[Tensor], k: int) -> list[Tensor]:
    """Return which units are left without the k smallest; the best of each block is not asked."""
    best = [
        torch.zeros_like(units).index_fill_(0, scores.masked_fill(~units, -1).argmax(), True)
        & units
        for scores, units in zip(ranked, alive, strict=True)
    ]
    asked = [units & ~kept for units, kept in zip(alive, best, strict=True)]
    lowest = [scores.masked_fill(~units, 0.0) for scores, units in zip(ranked, asked, strict=True)]
    left = smallest(lowest, asked, k)
    return [units | kept for units, kept in zip(left, best, strict=True)]
