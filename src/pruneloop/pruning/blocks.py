"""N:M sparsity: at most n of every m neighbours along the input dimension are kept."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneloop.errors import ConfigError, InvariantError
from pruneloop.pruning.groups import Single
from pruneloop.pruning.schedule import Drops

Tensors = Mapping[str, Tensor]

_WEIGHTS = Single()


@dataclass(frozen=True)
class Blocks:
    """Groups of `m` neighbours, of which `n` stay in the end; every matrix on its own.

    What a matrix loses is spread evenly: the same number out of each of its blocks.
    Zhou et al. 2021, "Learning N:M Fine-grained Structured Sparse Neural Networks".
    """

    n: int
    m: int
    units: Single = _WEIGHTS

    def names(self, masks: Tensors) -> list[list[str]]:
        """Return the groups, each as the names of its matrices."""
        return [[name] for name in masks]

    def kept(self, mask: Tensor) -> int | None:
        """Return how many weights each block keeps; None if they differ, or do not divide."""
        if mask.shape[-1] % self.m:
            return None
        counts = mask.view(-1, self.m).sum(dim=1)
        return int(counts[0]) if bool((counts == counts[0]).all()) else None

    def drops(self, rounds: int, masks: Tensors) -> Drops:
        """Return the drops that take one weight out of each block a round, while there are any.

        Raises:
            ConfigError: the blocks do not fit a matrix, or there are too few rounds.
        """
        drops: Drops = [[] for _ in range(rounds)]
        pattern = f"prune.pattern=[{self.n},{self.m}]"
        for name, mask in masks.items():
            kept = self.kept(mask)
            if kept is None:
                raise ConfigError(
                    f"{pattern}: {name} does not divide into blocks of {self.m} that keep equally "
                    f"many; take it out by prune.exclude=[{name}]"
                )
            turns = max(kept - self.n, 0)
            if turns > rounds:
                raise ConfigError(
                    f"rounds={rounds}: {pattern} takes one a round; try rounds={turns}"
                )
            for index in range(rounds):
                drops[index].append(mask.numel() // self.m if index < turns else 0)
        return drops

    def room(self, mask: Tensor) -> int:
        """Return how many weights a matrix can lose before each block has only `n`."""
        return int((mask.view(-1, self.m).sum(dim=1) - self.n).clamp(min=0).sum())

    def take(self, scores: Tensors, masks: Tensors, k: int) -> dict[str, Tensor]:
        """Return the mask of one matrix without the smallest of every block, `k` in all.

        Ties go by position.

        Raises:
            InvariantError: `k` does not divide among the blocks, one has too few left, or
                a score is NaN or infinite.
        """
        ((name, mask),) = masks.items()
        if not bool(torch.isfinite(scores[name]).all()):
            raise InvariantError("a weight to be ranked is NaN or infinite")
        kept = mask.view(-1, self.m)
        each, rest = divmod(k, len(kept))
        if rest or int(kept.sum(dim=1).min()) < each:
            raise InvariantError(f"{name}: cannot take {k} evenly out of {len(kept)} blocks")
        ranked = scores[name].detach().float().abs().reshape(-1, self.m)
        order = ranked.masked_fill(~kept, torch.inf).argsort(dim=1, stable=True)
        return {name: kept.scatter(1, order[:, :each], False).view_as(mask)}
