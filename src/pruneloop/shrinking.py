"""Exact removal: what a classifier's zeros have made superfluous goes, and the logits stay.

A feed-forward neuron whose output column is 0 does nothing. One whose input row is 0 gives the
same for every token, which the output's bias takes over; so does a head whose value rows are 0,
because its attention sums to 1. Plain transformers loads other widths and fewer layers, as long
as all layers have the same width; it does not load fewer heads.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from pruneloop.errors import ConfigError
from pruneloop.pruning import Layers, kind_of, layer_of

_HEAD_COUNTS = ("num_attention_heads", "n_heads")


@dataclass(frozen=True)
class _Family:
    """Where a family has its layers inside the encoder, and what its config calls things."""

    layers: str = "encoder.layer"
    width: str = "intermediate_size"
    activation: str = "hidden_act"
    pairs: bool = False  # whether its layers return attentions beside hidden states


_FAMILIES = {
    "albert": _Family("encoder.albert_layer_groups"),
    "bert": _Family(),
    "deberta-v2": _Family(pairs=True),
    "distilbert": _Family("transformer.layer", "hidden_dim", "activation"),
    "electra": _Family(),
    "modernbert": _Family("layers", activation="hidden_activation"),
    "roberta": _Family(),
    "xlm-roberta": _Family(),
}


@dataclass(frozen=True)
class Shrunk:
    """A model without what its zeros have made superfluous, and how much of it went."""

    model: PreTrainedModel
    neurons: int
    heads: int


def is_known(model: PreTrainedModel) -> bool:
    """Whether the family's layers are known well enough to remove something from them."""
    return model.config.model_type in _FAMILIES


def check_known(model: PreTrainedModel) -> None:
    """Refuse a family whose layers are not known.

    Raises:
        ConfigError: it is not one of those that can be made smaller.
    """
    if not is_known(model):
        raise ConfigError(
            f"model type {model.config.model_type}: its units cannot be removed; known are "
            f"{', '.join(_FAMILIES)}"
        )


def shrink(model: PreTrainedModel, uniform: bool = True, heads: bool = False) -> Shrunk:
    """Return a copy of a classifier without its superfluous units; at least one a layer stays.

    Args:
        uniform: cut every layer to the width of the widest one, as plain transformers needs it;
            else each layer alone.
        heads: remove heads too; plain transformers does not load what is then saved.

    Raises:
        ConfigError: the family is not one of those that are known.
    """
    check_known(model)
    smaller = copy.deepcopy(model).eval()
    with torch.no_grad():
        neurons = _shrink_widths(smaller, uniform)
        removed = sum(map(_remove_heads, _attentions(smaller))) if heads else 0
    return Shrunk(smaller, neurons, removed)


def width(model: PreTrainedModel) -> int:
    """Return the feed-forward width of a family that is known."""
    return int(getattr(model.config, _family(model).width))


@dataclass(frozen=True)
class Shape:
    """How large a classifier is: its feed-forward width, and its layers with their types."""

    width: int
    layers: int
    types: list[str] | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Shape":
        """Return the shape of a family that is known."""
        types = getattr(model.config, "layer_types", None)
        return cls(width(model), model.config.num_hidden_layers, types)

    def of_kind(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return a classifier of this shape with random weights, of the same kind as another."""
        config = copy.deepcopy(model.config)
        setattr(config, _family(model).width, self.width)
        _set_layers(config, self.layers, self.types)
        return type(model)(config).eval()


def encoder_layers(model: PreTrainedModel) -> Layers:
    """Return the encoder's layers, which can be skipped.

    Raises:
        ConfigError: the family is unknown or shares its layers.
    """
    _check_layers(model)
    own = {id(module): name for name, module in model.named_modules()}
    layers = model.base_model.get_submodule(_family(model).layers).children()
    named = {f"{own[id(layer)]}.": layer for layer in layers}
    return Layers(named, _family(model).pairs, _first_differs(model))


def layers_that_can_go(config: PreTrainedConfig) -> int:
    """Return how many layers a model with this config can lose."""
    return 0 if config.model_type == "albert" else config.num_hidden_layers - 1


def without_layers(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """Return a copy of a classifier that has only the layers of these numbers.

    Raises:
        ConfigError: the family is unknown or shares its layers, a number is none of its
            layers, none is left, or the first one is missing where it differs from the others.
    """
    _check_layers(model)
    kept, depth = sorted(set(kept)), model.config.num_hidden_layers
    if not kept or not set(kept) <= set(range(depth)):
        raise ConfigError(f"layers {kept}: must be some of 0 to {depth - 1}")
    if kept[0] != 0 and _first_differs(model):
        raise ConfigError(
            f"layers {kept}: layer 0 of {model.config.model_type} differs from the others and stays"
        )
    smaller = copy.deepcopy(model).eval()
    place, _, name = _family(model).layers.rpartition(".")
    owner = smaller.base_model.get_submodule(place)
    layers = getattr(owner, name)
    setattr(owner, name, nn.ModuleList([layers[number] for number in kept]))
    for number, layer in enumerate(getattr(owner, name)):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    types = getattr(smaller.config, "layer_types", None)
    _set_layers(smaller.config, len(kept), types and [types[number] for number in kept])
    return smaller


def _check_layers(model: PreTrainedModel) -> None:
    check_known(model)
    if model.config.model_type == "albert":
        raise ConfigError("model type albert: its layers are one and the same, and cannot go")


def _set_layers(config: PreTrainedConfig, number: int, types: list[str] | None) -> None:
    config.num_hidden_layers = number
    if types:
        config.layer_types = types


def _first_differs(model: PreTrainedModel) -> bool:
    """Whether layer 0 is unlike the others: without a norm, or with a convolution behind it."""
    conv = getattr(getattr(model.base_model, "encoder", None), "conv", None)
    return model.config.model_type == "modernbert" or conv is not None


# -- feed-forward neurons --------------------------------------------------------------


@dataclass(frozen=True)
class _FeedForward:
    """The two matrices of a layer's feed-forward part; a gated one has both halves in `into`."""

    into: nn.Linear
    out: nn.Linear
    activation: Callable[[Tensor], Tensor]

    @property
    def width(self) -> int:
        return self.out.in_features

    def rows(self, neurons: Tensor) -> Tensor:
        """Return the rows of `into` that neurons have: one each, or two where it is gated."""
        halves = range(self.into.out_features // self.width)
        return torch.cat([neurons + half * self.width for half in halves])

    def constants(self) -> Tensor:
        """Return what each neuron gives for every token, nan where it depends on the token."""
        weight = self.into.weight.view(-1, self.width, self.into.in_features)
        bias = _bias(self.into).view(-1, self.width)
        still = (weight == 0).all(-1)
        first = self.activation(bias[0])
        value = first if len(bias) == 1 else first * bias[1]
        # Of a gated pair one that is always 0 is enough, whatever the other one is.
        factors = torch.stack([first, *bias[1:]])
        nothing = (still & (factors == 0)).any(0)
        return torch.where(nothing, 0.0, torch.where(still.all(0), value, torch.nan))

    def superfluous(self) -> Tensor:
        """Return a bool for each neuron: whether it can go."""
        return _removable(self.out, self.constants())

    def keep(self, kept: Tensor) -> None:
        """Cut to the neurons of these numbers; what the others always give becomes bias."""
        constants = self.constants().nan_to_num(0.0)
        constants[kept] = 0.0
        _fold(self.out, constants)
        _cut(self.into, 0, self.rows(kept))
        _cut(self.out, 1, kept)


def _shrink_widths(model: PreTrainedModel, uniform: bool) -> int:
    parts = list(_feed_forwards(model))
    going = [part.superfluous() for part in parts]
    needed = [max(int((~gone).sum()), 1) for gone in going]
    widths = [max(needed)] * len(parts) if uniform else needed
    before = sum(part.width for part in parts)
    for part, gone, width in zip(parts, going, widths, strict=True):
        # The needed ones, and where the layer must be wider, the first of the others.
        part.keep(gone.long().argsort(stable=True)[:width].sort().values)
    setattr(model.config, _family(model).width, max(widths))
    return before - sum(widths)


def _feed_forwards(model: PreTrainedModel) -> Iterator[_FeedForward]:
    activation = ACT2FN[getattr(model.config, _family(model).activation)]
    for kinds in _layers(model):
        into = kinds.get("ffn_in") or kinds["fused_ffn_in"]
        yield _FeedForward(into[0], kinds["ffn_out"][0], activation)


# -- heads -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Attention:
    """The matrices of a layer's attention: `parts` have a row for each output of a head."""

    parts: list[nn.Linear]
    value: nn.Linear
    out: nn.Linear
    size: int
    owner: nn.Module

    @property
    def heads(self) -> int:
        return self.out.in_features // self.size

    def columns(self, heads: Tensor) -> Tensor:
        """Return the columns of `out` that heads have."""
        return (
            heads.unsqueeze(1) * self.size + torch.arange(self.size, device=heads.device)
        ).flatten()

    def constants(self) -> Tensor:
        """Return what each column of `out` gets for every token, nan where that depends on it."""
        rows = self.out.in_features
        weight, bias = self.value.weight[-rows:], _bias(self.value)[-rows:]
        still = (weight == 0).view(self.heads, -1).all(1).repeat_interleave(self.size)
        return torch.where(still, bias, torch.nan)

    def superfluous(self) -> Tensor:
        """Return a bool for each head: whether it can go."""
        return _removable(self.out, self.constants()).view(self.heads, -1).all(1)


def _remove_heads(attention: _Attention) -> int:
    """Remove the superfluous heads; return how many they were."""
    gone, before = attention.superfluous(), attention.heads
    kept = gone.long().argsort(stable=True)[: max(int((~gone).sum()), 1)].sort().values
    columns = attention.columns(kept)
    constants = attention.constants().nan_to_num(0.0)
    constants[columns] = 0.0
    _fold(attention.out, constants)
    for part in attention.parts:
        blocks = range(part.out_features // (before * attention.size))
        step = before * attention.size
        _cut(part, 0, torch.cat([columns + block * step for block in blocks]))
    _cut(attention.out, 1, columns)
    for name in _HEAD_COUNTS:
        if hasattr(attention.owner, name):
            setattr(attention.owner, name, len(kept))
    if hasattr(attention.owner, "all_head_size"):
        attention.owner.all_head_size = len(columns)  # type: ignore[assignment]
    return before - len(kept)


def _attentions(model: PreTrainedModel) -> Iterator[_Attention]:
    owners = {id(child): module for module in model.modules() for child in module.children()}
    for kinds in _layers(model):
        out = kinds["attention_output"][0]
        fused = kinds.get("fused_qkv")
        value = (fused or kinds["value"])[0]
        names = ("query", "key", "value", "relative_position")
        parts = fused or [part for name in names for part in kinds.get(name, [])]
        size = out.in_features // model.config.num_attention_heads
        yield _Attention(parts, value, out, size, owners[id(value)])


# -- both ------------------------------------------------------------------------------


def _layers(model: PreTrainedModel) -> Iterator[dict[str, list[nn.Linear]]]:
    """Yield the linear modules of every layer, by kind."""
    layers: dict[str, dict[str, list[nn.Linear]]] = {}
    for name, module in model.base_model.named_modules():
        layer = layer_of(name)
        if layer and isinstance(module, nn.Linear):
            kinds = layers.setdefault(layer, {})
            kinds.setdefault(kind_of(f"model.{name}.weight"), []).append(module)
    yield from layers.values()


def _family(model: PreTrainedModel) -> _Family:
    return _FAMILIES[model.config.model_type]


def _bias(linear: nn.Linear) -> Tensor:
    """Return a bias, zeros where there is none."""
    if linear.bias is None:
        return linear.weight.new_zeros(linear.out_features)
    return linear.bias


def _removable(out: nn.Linear, constants: Tensor) -> Tensor:
    """Return which columns can go: those of zeros, and those that always get the same.

    Without a bias, only a constant that comes to nothing.
    """
    dead = (out.weight == 0).all(0)
    return dead | (constants == 0 if out.bias is None else ~constants.isnan())


def _fold(out: nn.Linear, constants: Tensor) -> None:
    if out.bias is not None:
        # In float64: thousands of small terms are added to one number.
        out.bias.add_(out.weight.double() @ constants.double())


def _cut(linear: nn.Linear, dim: int, kept: Tensor) -> None:
    """Keep these rows (`dim=0`, with their biases) or columns of a linear layer."""
    linear.weight = nn.Parameter(linear.weight.index_select(dim, kept).contiguous())
    if dim == 0 and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[kept].contiguous())
    linear.out_features, linear.in_features = linear.weight.shape
