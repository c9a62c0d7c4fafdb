"""Which of a model's parameters may be pruned, and which of its matrices nobody knows."""

import re
from collections.abc import Container, Iterable
from fnmatch import fnmatchcase

from torch import nn

from pruneloop.errors import ConfigError

_ATTENTION_MODULE = (
    r"(attn|attention|attentions\.\d+|self_attention|SelfAttention|EncDecAttention|encoder_attn)"
    r"\.((self|attn|attention)\.)?"
)
_FFN_MODULE = r"(ffn|ffns\.\d+|ff|mlp|DenseReluDense|layers\.\d+)\."

# The kind of a matrix by its parameter name. The families name the same six matrices of a
# layer in a dozen ways; the first pattern that is found decides.
_KINDS = {
    "bottleneck": r"bottleneck\.",
    "relative_position": _ATTENTION_MODULE + r"pos_\w*proj\.weight$",
    "fused_qkv": _ATTENTION_MODULE + r"(Wqkv|in_proj|query_key_value|qkv_proj)\.weight$",
    "query": _ATTENTION_MODULE + r"(\w+_)?(query(_proj|_global)?|q_lin|q_proj|q_head|q)\.weight$",
    "key": _ATTENTION_MODULE + r"(layout_)?(key(_proj|_global)?|k_lin|k_proj|k_head|k)\.weight$",
    "value": _ATTENTION_MODULE
    + r"(layout_)?(value(_proj|_global)?|v_lin|v_proj|v_head|v)\.weight$",
    "attention_output": _ATTENTION_MODULE
    + r"((layout_)?output\.dense|out_lin|out_proj|dense|o_proj|post_proj|Wo|o)\.weight$",
    "fused_ffn_in": _FFN_MODULE + r"(Wi|gate_up_proj|up_gate_proj)\.weight$",
    "ffn_in": r"(intermediate\.dense|\.ffn|"
    + _FFN_MODULE
    + r"(lin1|linear_1|layer_1|fc1|c_fc|wi(_\d)?|gate_proj|up_proj|dense_h_to_4h))\.weight$",
    "ffn_out": r"((layers?|ffn)\.\d+\.(layout_)?output\.dense|\.ffn_output|"
    + _FFN_MODULE
    + r"(lin2|linear_2|layer_2|fc2|c_proj|wo|Wo|down_proj|dense_4h_to_h))\.weight$",
    "pooler": r"pooler(\.dense)?\.weight$",
    "embedding_projection": r"(embeddings_project|embedding_hidden_mapping_in|"
    r"embeddings\.(projection|embedding_transformation|map_inputs_layer))\.weight$",
    "token_type": r"token_type_embeddings\w*\.weight$",
    "embeddings": r"(embeddings\.\w+_embeddings|word_embeddings?|embed_(tokens|positions|in)|"
    r"\.shared|\.wte|\.wpe|transformer\.(position_)?embeddings)\.weight$",
    "classifier": r"^(pre_)?classifier\.|^score\.|classification_head\.|^logits_proj\.",
}

_QKV = {"query", "key", "value", "fused_qkv"}
_ATTENTION = _QKV | {"attention_output", "relative_position"}
_FFN = {"ffn_in", "fused_ffn_in", "ffn_out"}
_ENCODER = _ATTENTION | _FFN | {"bottleneck"}
_BESIDE_ENCODER = {"pooler", "embedding_projection"}

SCOPES = {
    "qkv": _QKV,
    "attention": _ATTENTION,
    "ffn": _FFN,
    "encoder": _ENCODER,
    "encoder_pooler": _ENCODER | {"pooler"},
    "embeddings": {"embeddings"},
    "all_linear": _ENCODER | _BESIDE_ENCODER | {"other"},
}


def kind_of(name: str) -> str:
    """Return what a parameter is by its name: `query`, `ffn_in`, ..., else `other`."""
    return next((kind for kind, pattern in _KINDS.items() if re.search(pattern, name)), "other")


def layer_of(name: str) -> str | None:
    """Return how the names of a parameter's layer begin, such as `encoder.layer.3.`."""
    found = re.match(r".*\.\d+\.", name)
    return found[0] if found else None


def head(model: nn.Module) -> set[str]:
    """Return the names of the classifier's parameters: all that is outside the encoder.

    A transformers model says what its encoder is (`base_model`); a pooler outside it, as
    DeBERTa's, is none of the classifier's. Where nothing is outside, the last linear layer
    with a row for each label is the classifier, and what is called so.
    """
    inside = {id(p) for p in getattr(model, "base_model", model).parameters()}
    outside = {name for name, p in model.named_parameters() if id(p) not in inside}
    if outside:
        return {name for name in outside if not re.search(r"(^|\.)pooler\.", name)}
    labels = getattr(getattr(model, "config", None), "num_labels", None)
    last = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == labels
    ][-1:]
    names = [name for name, _ in model.named_parameters()]
    return {n for n in names if kind_of(n) == "classifier" or n.rpartition(".")[0] in last}


def _weights_of(model: nn.Module, *layers: type[nn.Module]) -> dict[str, nn.Parameter]:
    """All weights of such layers but the classifier's, tied ones once."""
    owners = {id(module.weight) for module in model.modules() if isinstance(module, layers)}
    classifier = head(model)
    return {
        name: parameter
        for name, parameter in model.named_parameters()  # yields a tied parameter once
        if id(parameter) in owners and name not in classifier
    }


def _matching(pattern: str, names: Iterable[str], key: str) -> set[str]:
    found = {name for name in names if fnmatchcase(name, pattern)}
    if not found:
        raise ConfigError(
            f"prune.{key}={pattern}: matches no prunable weight of this model; "
            f"a name looks like {next(iter(names), '(there is none)')}"
        )
    return found


def check_scope(scope: Iterable[str]) -> None:
    """Reject names that are no scope.

    Raises:
        ConfigError: a name is not one of `SCOPES`.
    """
    for group in scope:
        if group not in SCOPES:
            raise ConfigError(f"prune.scope={group}: unknown; one of {', '.join(SCOPES)}")


def prunable_weights(
    model: nn.Module,
    scope: Iterable[str] = ("encoder",),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> dict[str, nn.Parameter]:
    """Select the weights to prune, by parameter name, in the model's own order.

    Args:
        scope: names of groups out of `SCOPES`; their union is taken.
        include: patterns (`*` stands for anything) of parameters to add.
        exclude: patterns of parameters to take away again.

    Raises:
        ConfigError: an unknown scope, one that selects nothing, a pattern that matches
            nothing, a selection that ends up empty, or matrices of a kind of layer that
            is not pruned.

    Biases, LayerNorm and the classifier are never selected.
    """
    _refuse_transposed(model)
    candidates = _weights_of(model, nn.Linear, nn.Embedding)
    selected: set[str] = set()
    scope = list(scope)
    check_scope(scope)
    for group in scope:
        among = _weights_of(model, nn.Embedding if group == "embeddings" else nn.Linear)
        found = {name for name in among if kind_of(name) in SCOPES[group]}
        if not found:
            hint = "" if group == "embeddings" else _hint(model)
            raise ConfigError(f"prune.scope={group}: selects no weight of this model{hint}")
        selected |= found
    for pattern in include:
        selected |= _matching(pattern, candidates, "include")
    for pattern in exclude:
        selected -= _matching(pattern, candidates, "exclude")
    if not selected:
        raise ConfigError("prune.scope: nothing is left to prune; widen prune.scope")
    return {name: weight for name, weight in candidates.items() if name in selected}


def _refuse_transposed(model: nn.Module) -> None:
    # Its weights are stored input by output: rows and columns would be taken for each other.
    if any(type(module).__name__ == "Conv1D" for module in model.modules()):
        raise ConfigError(
            "prune.scope: this model's matrices are Conv1D layers, as GPT-2's are, and those "
            "are not pruned; try a model of the BERT family"
        )


def _hint(model: nn.Module) -> str:
    names = [n for n in _weights_of(model, nn.Linear) if kind_of(n) not in {"pooler", "embeddings"}]
    if names:
        return (
            f"; its linear layers have names of their own ({names[0]}): try prune.scope=all_linear"
        )
    others = {
        type(model.get_submodule(name.rpartition(".")[0])).__name__
        for name in _matrices(model)
        if kind_of(name) != "pooler"
    }
    return f"; its matrices are those of {', '.join(sorted(others))}" if others else ""


def _matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """All that multiplies as a linear layer does: no embedding, no classifier."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    outside = head(model)
    return {
        name: weight
        for name, weight in model.named_parameters()
        if weight.dim() > 1
        and id(weight) not in embeddings
        and name not in outside
        and not re.search(r"bias|embed|mask_emb", name.rpartition("layer")[2])
    }


def unknown_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the encoder's matrices that no scope but `all_linear` takes, as their kind is unknown.

    Linear layers under names of their own, and what multiplies as a linear layer does
    without being one: convolutions, and parameters that a layer uses by hand.
    """
    return {name: w for name, w in _matrices(model).items() if kind_of(name) == "other"}


def encoder_share(model: nn.Module, selected: Container[str]) -> float:
    """Return the share of the weights in the encoder's matrices that is selected."""
    kinds = SCOPES["encoder"] | {"other"}
    sizes = {n: w.numel() for n, w in _matrices(model).items() if kind_of(n) in kinds}
    return sum(size for n, size in sizes.items() if n in selected) / max(sum(sizes.values()), 1)


def as_patterns(names: Iterable[str]) -> list[str]:
    """Return names with `*` for the layer's number, each once: patterns that match them."""
    return list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))


def what_is_left(model: nn.Module, selected: Container[str], scope: Iterable[str]) -> list[str]:
    """Return what there is to say of the encoder's matrices that a selection takes or leaves.

    Nothing where the scope asks for a part of them only, unless some are of no known kind.
    """
    groups, share = set(scope), encoder_share(model, selected)
    unknown = as_patterns(name for name in unknown_matrices(model) if name not in selected)
    said = []
    if groups & {"encoder", "encoder_pooler", "all_linear"}:
        said.append(f"prune.scope takes {share:.1%} of the weights in the encoder's matrices")
    if unknown and groups - {"embeddings"}:
        said.append(
            f"warning: {', '.join(unknown)}: of no kind that a scope knows, and not pruned; "
            "prune.scope=all_linear or prune.include takes what is a linear layer"
        )
    return said
