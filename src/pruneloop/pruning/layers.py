"""Whole encoder layers: one that is pruned passes on what it is given, until it is removed.

Zeros alone would not do: behind a layer's matrices stand norms and biases, so that one whose
matrices are all zeros still changes what it is given.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pruneloop.pruning.scope import layer_of

Tensors = Mapping[str, Tensor]


def names_by_layer(names: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the matrices of each layer, by the beginning of their names."""
    found: dict[str, list[str]] = {}
    for name in names:
        if layer := layer_of(name):
            found.setdefault(layer, []).append(name)
    return found


@dataclass(frozen=True)
class LayerBlock:
    """All layers, as the units of one block."""

    layers: tuple[tuple[str, ...], ...]
    first_stays: bool

    def kept(self, masks: Tensors) -> Tensor:
        """Return how many weights each layer keeps; one without any is gone."""
        return self._sums({name: masks[name].count_nonzero() for name in self._names})

    def scores(self, scores: Tensors, n: float) -> Tensor:
        """Return the Ln norm of each layer's scores; of one that never goes, infinity."""
        powers = {name: scores[name].detach().float().abs().pow(n).sum() for name in self._names}
        found = self._sums(powers).pow(1 / n)
        if self.first_stays:
            found[0] = torch.inf
        return found

    def without(self, alive: Tensor, masks: Tensors) -> dict[str, Tensor]:
        """Return the masks of the layers without those that are not alive."""
        return {
            name: masks[name] & lives
            for names, lives in zip(self.layers, alive.unbind(), strict=True)
            for name in names
        }

    @property
    def _names(self) -> list[str]:
        return [name for names in self.layers for name in names]

    def _sums(self, numbers: Tensors) -> Tensor:
        return torch.stack(
            [torch.stack([numbers[n] for n in names]).sum() for names in self.layers]
        )


@dataclass(frozen=True)
class LayerGroups:
    """All layers together; with `first_stays`, layer 0 is unlike the others and never goes."""

    first_stays: bool = False

    def blocks(self, masks: Tensors) -> list[list[LayerBlock]]:
        """Return the one group, with its one block."""
        layers = tuple(tuple(names) for names in names_by_layer(masks).values())
        return [[LayerBlock(layers, self.first_stays)]]

    def names(self, masks: Tensors) -> list[list[str]]:
        """Return the one group, as the names of its matrices."""
        return [[name for names in names_by_layer(masks).values() for name in names]]


class Layers:
    """A model's encoder layers, of which those that have lost all weights are skipped.

    `modules` are in the model's order, by the beginning of their parameters' names. `pairs` is
    whether they return a pair of hidden states and attentions, instead of the former alone.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], pairs: bool = False, first_stays: bool = False
    ) -> None:
        self._modules = dict(modules)
        self._pairs = pairs
        self._gone: set[str] = set()
        self.first_stays = first_stays

    def follow(self, masks: Tensors) -> None:
        """Skip exactly the layers of which the masks keep nothing."""
        self._gone = {
            layer
            for layer, names in names_by_layer(masks).items()
            if layer in self._modules and not any(bool(masks[name].any()) for name in names)
        }
        self._skip(self._gone)

    @property
    def kept(self) -> list[int]:
        """The numbers of the layers that are not skipped."""
        return [number for number, name in enumerate(self._modules) if name not in self._gone]

    @property
    def alive(self) -> list[str]:
        """The layers that are not skipped."""
        return [name for name in self._modules if name not in self._gone]

    @property
    def asked(self) -> list[str]:
        """Those of them that can go."""
        return self.alive[1:] if self.first_stays else self.alive

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Skip further layers for a while."""
        self._skip(self._gone.union(names))
        try:
            yield
        finally:
            self._skip(self._gone)

    def _skip(self, names: set[str]) -> None:
        for name, module in self._modules.items():
            vars(module).pop("forward", None)
            if name in names:
                vars(module)["forward"] = partial(_pass_on, module, self._pairs)


def _pass_on(module: nn.Module, pairs: bool, hidden: Tensor, *_: object, **__: object) -> object:
    """Be a layer that does nothing.

    Its parameters take part with a gradient of 0: processes wait for that of every parameter.
    """
    if torch.is_grad_enabled():
        hidden = hidden + sum(p.flatten()[0] * 0 for p in module.parameters())
    return (hidden, None) if pairs else hidden
