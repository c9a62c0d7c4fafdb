"""Which of a model's parameters may be pruned."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from pruneloop.errors import ConfigError

# The kind of a matrix by its parameter name, for BERT and its relatives (ELECTRA,
# RoBERTa, ALBERT) and DistilBERT. The first pattern that is found decides.
_KINDS = {
    "query": r"attention\.(self\.)?(query|q_lin)\.weight$",
    "key": r"attention\.(self\.)?(key|k_lin)\.weight$",
    "value": r"attention\.(self\.)?(value|v_lin)\.weight$",
    "attention_output": r"attention\.(output\.dense|out_lin|dense)\.weight$",
    "ffn_in": r"(intermediate\.dense|ffn\.lin1|\.ffn)\.weight$",
    "ffn_out": r"(layers?\.\d+\.output\.dense|ffn\.lin2|\.ffn_output)\.weight$",
    "pooler": r"pooler(\.dense)?\.weight$",
    "embeddings": r"embeddings\.\w+_embeddings\.weight$",
    "classifier": r"^(pre_)?classifier\.|^score\.|classification_head\.|^logits_proj\.",
}

_QKV = {"query", "key", "value"}
_ATTENTION = _QKV | {"attention_output"}
_FFN = {"ffn_in", "ffn_out"}
_ENCODER = _ATTENTION | _FFN

SCOPES = {
    "qkv": _QKV,
    "attention": _ATTENTION,
    "ffn": _FFN,
    "encoder": _ENCODER,
    "encoder_pooler": _ENCODER | {"pooler"},
    "embeddings": {"embeddings"},
    "all_linear": _ENCODER | {"pooler", "other"},
}


def kind_of(name: str) -> str:
    """Return what a parameter is by its name: `query`, `ffn_in`, ..., else `other`."""
    return next((kind for kind, pattern in _KINDS.items() if re.search(pattern, name)), "other")


def _candidates(model: nn.Module) -> dict[str, nn.Parameter]:
    """All weights of linear layers and embeddings but the classifier's, tied ones once."""
    owners = {
        id(module.weight): module
        for module in model.modules()
        if isinstance(module, (nn.Linear, nn.Embedding))
    }
    return {
        name: parameter
        for name, parameter in model.named_parameters()  # yields a tied parameter once
        if id(parameter) in owners and kind_of(name) != "classifier"
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
            nothing, or a selection that ends up empty.

    Biases, LayerNorm and the classifier are never selected.
    """
    candidates = _candidates(model)
    selected: set[str] = set()
    scope = list(scope)
    check_scope(scope)
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    for group in scope:
        found = {
            name
            for name, parameter in candidates.items()
            if kind_of(name) in SCOPES[group] and (group != "all_linear" or id(parameter) in linear)
        }
        if not found:
            raise ConfigError(f"prune.scope={group}: selects no weight of this model")
        selected |= found
    for pattern in include:
        selected |= _matching(pattern, candidates, "include")
    for pattern in exclude:
        selected -= _matching(pattern, candidates, "exclude")
    if not selected:
        raise ConfigError("prune.scope: nothing is left to prune; widen prune.scope")
    return {name: weight for name, weight in candidates.items() if name in selected}
