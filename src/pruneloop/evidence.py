"""What criteria need to know of the training rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from pruneloop.pruning import Layers, names_by_layer
from pruneloop.training import Batch, Objective, group_losses

Weights = Mapping[str, nn.Parameter]


def saliency(
    model: nn.Module,
    weights: Weights,
    groups: Iterable[Sequence[Batch]],
    accelerator: Accelerator,
    look: Callable[[], None],
    objective: Objective,
) -> dict[str, Tensor]:
    """Return the sum over global batches of |w * dL/dw|, by parameter name, in float32.

    Dropout is off; the gradients are averaged over the processes, neither scaled nor
    clipped. No weight changes, and no gradient stays behind.

    Args:
        groups: the global batches, each as one process's share of it.
        look: called before every one; it may stop the gathering by raising.
        objective: gives the loss L.
    """
    model.eval()
    found = {name: torch.zeros_like(w, dtype=torch.float32) for name, w in weights.items()}
    for group in groups:
        look()
        for loss in group_losses(model, group, accelerator, objective):
            loss.backward()
        with torch.no_grad():
            for name, weight in weights.items():
                if weight.grad is not None:
                    found[name] += (weight.float() * weight.grad.float()).abs()
        model.zero_grad(set_to_none=True)
    return found


def input_norms(
    model: nn.Module,
    weights: Weights,
    groups: Iterable[Sequence[Batch]],
    accelerator: Accelerator,
    look: Callable[[], None],
) -> dict[str, Tensor]:
    """Return the L2 norm of each input feature over all tokens, by parameter name, in float32.

    What is multiplied by it has the shape of the weight: 1 x inputs for a linear layer,
    and rows x 1 for an embedding, whose inputs are its rows' occurrences. Padding does
    not count. Dropout is off; arguments as in `saliency`.
    """
    model.eval()
    squares: dict[str, Tensor] = {}
    mask = torch.empty(0)

    def read(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            squares[name] = squares.get(name, 0) + _squares(module, inputs[0], mask)

        return hook

    with torch.no_grad(), _watched(model, weights, read):
        for group in groups:
            look()
            for batch in send_to_device(list(group), accelerator.device):
                mask = batch["attention_mask"].bool()
                model(**{key: value for key, value in batch.items() if key != "labels"})
    return {name: accelerator.reduce(total, "sum").sqrt() for name, total in squares.items()}


@contextmanager
def _watched(
    model: nn.Module,
    weights: Weights,
    hook_for: Callable[[str], Callable[[nn.Module, tuple[Tensor, ...]], None]],
) -> Iterator[None]:
    """Have a hook on the inputs of every module whose weight is among the weights."""
    names = {id(weight): name for name, weight in weights.items()}
    with ExitStack() as hooks:
        for module in model.modules():
            name = names.get(id(getattr(module, "weight", None)))
            if name is not None:
                handle = module.register_forward_pre_hook(hook_for(name))
                hooks.callback(handle.remove)
        yield


def _squares(module: nn.Module, inputs: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of squares of each input feature of a module over a batch's tokens."""
    if isinstance(module, nn.Embedding):
        # Positions are the same for all rows of a batch, and stand there once.
        rows = inputs.expand_as(mask)[mask]
        return torch.bincount(rows, minlength=module.num_embeddings).float().unsqueeze(1)
    tokens = inputs[mask] if inputs.shape[:2] == mask.shape else inputs.flatten(0, -2)
    return tokens.float().square().sum(dim=0, keepdim=True)


def moved(weights: Weights, so_far: dict[str, Tensor]) -> None:
    """Subtract w * dL/dw of a step, whose gradients are there, from the sums so far."""
    with torch.no_grad():
        for name, total in so_far.items():
            gradient = weights[name].grad
            if gradient is not None:
                total -= weights[name].float() * gradient.float()


def turns(
    layers: Layers, masks: Mapping[str, Tensor], count: int, loss: Callable[[], float]
) -> dict[str, Tensor]:
    """Return the turn in which each layer goes, by parameter name, as far as `count` layers.

    First goes the one without which the loss is least, then the one without which, too, it is
    least, and so on; of equal ones the first. A layer that is gone already has turn 0.
    """
    going: list[str] = []
    for _ in range(count):
        losses: dict[str, float] = {}
        for name in layers.asked:
            if name not in going:
                with layers.without(*going, name):
                    losses[name] = loss()
        going.append(min(losses, key=losses.__getitem__))
    order = {name: turn for turn, name in enumerate(going, 1)}
    staying = dict.fromkeys(layers.alive, count + 1)
    return {
        name: masks[name].new_full((), (staying | order).get(layer, 0), dtype=torch.float32)
        for layer, names in names_by_layer(masks).items()
        for name in names
    }
