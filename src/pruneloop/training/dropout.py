"""Dropout on a CPU from 16 random bits a number, where torch draws a double for each.

Drawing is most of what dropout costs there. The share that is dropped is a multiple of 1/65536,
the scale is that share's. A GPU draws within its kernel: nothing changes on one.
"""

from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

_PLACES = 1 << 16


class QuickDropout(AbstractContextManager[None]):
    """Has a model's dropout layers draw quickly, as long as the block runs."""

    def __init__(self, model: nn.Module) -> None:
        """Look for them; attention draws its own."""
        on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
        layers = [m for m in model.modules() if type(m) is nn.Dropout and not m.inplace]
        self._forwards = {
            layer: partial(_drop, layer)
            for layer in layers
            if on_cpu and 0 < round(layer.p * _PLACES) < _PLACES
        }

    def __enter__(self) -> None:
        for layer, forward in self._forwards.items():
            vars(layer)["forward"] = forward

    def __exit__(self, *_: object) -> None:
        for layer in self._forwards:
            del vars(layer)["forward"]


def _drop(layer: nn.Dropout, given: Tensor) -> Tensor:
    if not layer.training:
        return given
    dropped, numbers = round(layer.p * _PLACES), given.numel()
    words = torch.empty(-(-numbers // 4), dtype=torch.int64).random_(-(1 << 63), None)
    bits = words.view(torch.int16)[:numbers]
    # Comparisons into integers take a fifth of the time of those into bools.
    kept = torch.ge(bits, dropped - _PLACES // 2, out=bits).to(given.dtype)
    return given * kept.mul_(_PLACES / (_PLACES - dropped)).view(given.shape)
