"""What criteria need to know of the training rows, gathered before a prune."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pruneloop.training import Batch, cross_entropy, group_losses


def saliency(
    model: nn.Module,
    weights: Mapping[str, nn.Parameter],
    groups: Iterable[Sequence[Batch]],
    accelerator: Accelerator,
    look: Callable[[], None],
) -> dict[str, Tensor]:
    """Return the sum over global batches of |w * dL/dw|, by parameter name, in float32.

    Dropout is off; the gradients are averaged over the processes, neither scaled nor
    clipped. No weight changes, and no gradient stays behind.

    Args:
        groups: the global batches, each as one process's share of it.
        look: called before every one; it may stop the gathering by raising.
    """
    model.eval()
    found = {name: torch.zeros_like(w, dtype=torch.float32) for name, w in weights.items()}
    for group in groups:
        look()
        for loss in group_losses(model, group, accelerator, cross_entropy):
            loss.backward()
        with torch.no_grad():
            for name, weight in weights.items():
                if weight.grad is not None:
                    found[name] += (weight.float() * weight.grad.float()).abs()
        model.zero_grad(set_to_none=True)
    return found
