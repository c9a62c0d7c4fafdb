"""Whether the weights that a run is given can be trained and pruned at all."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruneloop.errors import InputError, listed


def check_finite(model: nn.Module) -> None:
    """Make sure that no given weight is NaN or infinite, which training would be blamed for.

    Raises:
        InputError: one is.
    """
    bad = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if bad:
        raise InputError(
            f"the given weights are NaN or infinite in {listed(bad)}; is the checkpoint damaged?"
        )


def check_prunable(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> str | None:
    """Make sure that every matrix has a weight to lose.

    Args:
        masks: which weights count as kept.

    Returns:
        A warning that names matrices of zeros only that may be trained; None without any.

    Raises:
        InputError: a matrix has no elements, or is pruned as a whole already.
    """
    if empty := [name for name, weight in weights.items() if weight.numel() == 0]:
        raise _excluded("have no elements", empty)
    if gone := [name for name, mask in masks.items() if not mask.any()]:
        raise _excluded("are pruned as a whole already", gone)
    zeros = [name for name, weight in weights.items() if not weight.any()]
    return f"all zero before any training: {listed(zeros)}" if zeros else None


def _excluded(what: str, names: list[str]) -> InputError:
    pattern = ",".join(f'"{name}"' for name in names[:4])
    return InputError(
        f"matrices that {what}: {listed(names)}; take them out by 'prune.exclude=[{pattern}]'"
    )
