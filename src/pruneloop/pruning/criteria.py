"""What ranks the weights: a criterion gives each one a score, and the smallest go first."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from pruneloop.errors import InvariantError
from pruneloop.pruning.masks import Masks

Weights = Mapping[str, Tensor]


class Evidence(Enum):
    """What a criterion can need to know of the training rows, beyond the weights."""

    saliency = "the sum over batches of |w * dL/dw|, for every weight"
    inputs = "the L2 norm of every input feature over the tokens"
    movement = "minus the sum over the last round's steps of w * dL/dw, for every weight"
    absence = "the turn in which each layer goes: the one that validation misses least first"


class Criterion(Protocol):
    """What a criterion offers."""

    @property
    def needs(self) -> Evidence | None:
        """The evidence that its scores are made of; None for the weights alone."""

    def scores(self, weights: Weights, masks: Masks, evidence: Weights) -> Weights:
        """Return a tensor of each weight's shape; weights are ranked by its magnitude.

        A pruned weight must score 0.

        Args:
            weights: they must be 0 where they are pruned already.
            evidence: what `needs` names, by parameter name; empty for None.
        """


@dataclass(frozen=True)
class Magnitude:
    """|w|, as `torch.nn.utils.prune.L1Unstructured`."""

    needs = None

    def scores(self, weights: Weights, masks: Masks, evidence: Weights) -> Weights:
        return weights


@dataclass(frozen=True)
class Random:
    """Drawn at random, as `torch.nn.utils.prune.RandomUnstructured`: the control.

    The scores are `torch.rand` on the CPU from `seed`, in scope order over the kept
    weights, so that they are the same on every device and rank. A new round needs a new
    seed.
    """

    seed: int
    needs = None

    def scores(self, weights: Weights, masks: Masks, evidence: Weights) -> Weights:
        generator = torch.Generator().manual_seed(self.seed)
        scores = {}
        for name, mask in masks.items():
            # torch prunes the largest draws. The difference is exact, and never the 0
            # of a pruned weight.
            drawn = 1 - torch.rand(int(mask.count_nonzero()), generator=generator)
            score = torch.zeros(mask.shape, device=mask.device)
            scores[name] = score.masked_scatter_(mask, drawn.to(mask.device))
        return scores


@dataclass(frozen=True)
class Taylor:
    """The first-order change of the loss without the weight, |w * dL/dw|, over batches.

    Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning".
    """

    needs = Evidence.saliency

    def scores(self, weights: Weights, masks: Masks, evidence: Weights) -> Weights:
        return {name: evidence[name] * mask for name, mask in masks.items()}


@dataclass(frozen=True)
class Wanda:
    """|w| times the L2 norm of its input over the tokens.

    Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models".
    """

    needs = Evidence.inputs

    def scores(self, weights: Weights, masks: Masks, evidence: Weights) -> Weights:
        return {name: weights[name].detach().float().abs() * evidence[name] for name in masks}


@dataclass(frozen=True)
class Movement:
    """How far a round's training moved each weight away from 0, to first order.

    Sanh et al. 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning".
    """

    needs = Evidence.movement

    def scores(self, weights: Weights, masks: Masks, evidence: Weights) -> Weights:
        return {name: _ordered(evidence[name]) * mask for name, mask in masks.items()}


@dataclass(frozen=True)
class Absence:
    """The turn in which a layer goes, one number for each of its matrices: for whole layers."""

    needs = Evidence.absence

    def scores(self, weights: Weights, masks: Masks, evidence: Weights) -> Weights:
        return {name: evidence[name] for name in masks}


def _ordered(values: Tensor) -> Tensor:
    """Return positive floats that order as signed ones do, but for the mantissa's last bit.

    The bits of a float order as a sign and a magnitude; turned into an unsigned integer
    and shifted by one, they are the bits of a float that is not negative.

    Raises:
        InvariantError: a value is NaN or infinite.
    """
    if not bool(torch.isfinite(values).all()):
        raise InvariantError("what a weight is ranked by is NaN or infinite")
    bits = values.float().contiguous().view(torch.int32)
    unsigned = torch.where(bits < 0, ~bits.long(), bits.long() + 2**31) % 2**32
    return (unsigned >> 1).int().view(torch.float32)
