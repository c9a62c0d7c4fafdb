"""To and from the form of `torch.nn.utils.prune`: `weight_orig` and `weight_mask`."""

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from pruneloop.pruning.masks import Masks


def from_torch(model: nn.Module) -> Masks:
    """Take torch's masks out of a model, in place, and return them as `Masks`.

    The model is a plain one afterwards: ordinary parameters under their ordinary names
    and in their ordinary order, with +0.0 where they are pruned. What several methods
    pruned one after the other (a `PruningContainer`) comes as their combined mask.
    """
    masks: dict[str, torch.Tensor] = {}
    for prefix, module in model.named_modules():
        names = [
            name.removesuffix("_orig")
            for name, _ in module.named_parameters(recurse=False)
            if name.endswith("_orig") and hasattr(module, f"{name.removesuffix('_orig')}_mask")
        ]
        order = [name.removesuffix("_orig") for name in module._parameters]
        for name in names:
            mask = getattr(module, f"{name}_mask").bool()
            torch_prune.remove(module, name)
            parameter = getattr(module, name)
            Masks({name: mask}).zero_weights({name: parameter})
            masks[f"{prefix}.{name}" if prefix else name] = mask
        if names:
            # torch has put the parameter behind the bias; the sum of a gradient's norm
            # depends on the order in its last bit.
            module._parameters = {
                n: module._parameters[n] for n in sorted(order, key=_weight_first)
            }
    return Masks(masks)


def _weight_first(name: str) -> bool:
    return name != "weight"


def to_torch(model: nn.Module, masks: Masks) -> None:
    """Put masks into a model, in place, as torch's `custom_from_mask` does.

    Raises:
        AttributeError: the model has no parameter of one of the masks' names.
    """
    for name, mask in masks.items():
        prefix, _, attribute = name.rpartition(".")
        torch_prune.custom_from_mask(model.get_submodule(prefix), attribute, mask)
