"""Scope: which parameters of BERT and its relatives are prunable, and nothing else."""

import json
from functools import cache

import pytest
import torch
import transformers
from support import SHARED, bert_shape, needs_shared
from torch import nn

from pruneloop.errors import ConfigError
from pruneloop.pruning import check_scope, kind_of, prunable_weights
from pruneloop.pruning.scope import (
    SCOPES,
    as_patterns,
    encoder_share,
    head,
    unknown_matrices,
    what_is_left,
)

KOBERT = {
    "vocab_size": 8002,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "pad_token_id": 1,
}
TINY = bert_shape(vocab_size=20, num_hidden_layers=2, max_position_embeddings=12, pad_token_id=0)
DISTIL = {
    "vocab_size": 20,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 32,
    "max_position_embeddings": 12,
}
MODERN = TINY | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
DEBERTA = TINY | {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": False,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
FAMILIES = {
    "Bert": TINY,
    "Electra": TINY | {"embedding_size": 8},
    "Roberta": TINY,
    "DistilBert": DISTIL,
    "Albert": TINY | {"embedding_size": 8},
    "XLMRoberta": TINY,
    "DebertaV2": DEBERTA,
    "ModernBert": MODERN,
}
SIX = {"query", "key", "value", "attention_output", "ffn_in", "ffn_out"}
ATTENTION, FFN = 4 * 16 * 16, 2 * 16 * 32  # the weights of one tiny layer


def build(family: str, **shape: object) -> nn.Module:
    config = getattr(transformers, f"{family}Config")(**shape)
    with torch.device("meta"):
        return getattr(transformers, f"{family}ForSequenceClassification")(config)


@cache
def kobert() -> nn.Module:
    return build("Bert", **KOBERT)


@cache
def tiny(family: str) -> nn.Module:
    return build(family, **FAMILIES[family])


def counts(model: nn.Module, *scope: str) -> tuple[int, int]:
    weights = prunable_weights(model, scope)
    return len(weights), sum(weight.numel() for weight in weights.values())


def kinds(weights: dict[str, nn.Parameter]) -> set[str]:
    return {kind_of(name) for name in weights}


def test_kobert_has_its_published_size() -> None:
    assert sum(parameter.numel() for parameter in kobert().parameters()) == 92_188_418


@pytest.mark.parametrize(
    ("scope", "matrices", "weights"),
    [
        ("qkv", 36, 21_233_664),
        ("attention", 48, 28_311_552),
        ("ffn", 24, 56_623_104),
        ("encoder", 72, 84_934_656),
        ("encoder_pooler", 73, 85_524_480),
        ("all_linear", 73, 85_524_480),
        ("embeddings", 2, 6_538_752),
    ],
)
def test_scopes_of_kobert(scope: str, matrices: int, weights: int) -> None:
    assert counts(kobert(), scope) == (matrices, weights)


@needs_shared
def test_scopes_agree_with_the_golden_figures() -> None:
    golden = json.loads((SHARED / "golden" / "seed.json").read_text(encoding="utf-8"))
    assert golden["kobert_config"] == KOBERT
    expected = golden["parameters"]
    model = build("Bert", **golden["kobert_config"])
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == expected["BertForSequenceClassification_2_labels"]
    assert counts(model, "qkv") == (36, expected["qkv_weights_36"])
    assert counts(model, "encoder") == (72, expected["encoder_linear_weights_72"])
    assert counts(model, "encoder_pooler") == (73, expected["encoder_and_pooler_weights_73"])
    # The golden figure counts three tables; that of the token types is none of the scope's.
    assert counts(model, "embeddings") == (2, expected["embeddings"] - 2 * 768)


def test_the_default_scope_is_the_encoder() -> None:
    assert list(prunable_weights(kobert())) == list(prunable_weights(kobert(), ["encoder"]))


def test_unions_overlap_once() -> None:
    assert counts(kobert(), "qkv", "attention") == counts(kobert(), "attention")
    assert counts(kobert(), "attention", "ffn") == counts(kobert(), "encoder")
    assert counts(kobert(), "qkv", "embeddings") == (38, 21_233_664 + 6_538_752)


def test_the_order_of_the_scopes_is_irrelevant() -> None:
    """The result follows the model's own order."""
    groups = ["embeddings", "ffn", "qkv"]
    names = list(prunable_weights(kobert(), groups))
    assert names == list(prunable_weights(kobert(), groups[::-1]))
    assert names == [name for name, _ in kobert().named_parameters() if name in names]


def test_a_scope_may_be_a_generator() -> None:
    groups = ["qkv", "ffn"]
    expected = list(prunable_weights(kobert(), groups))
    assert list(prunable_weights(kobert(), (group for group in groups))) == expected


def test_the_weights_are_the_models_own() -> None:
    parameters = dict(kobert().named_parameters())
    assert all(parameters[name] is weight for name, weight in prunable_weights(kobert()).items())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bert.encoder.layer.0.attention.self.query.weight", "query"),
        ("bert.encoder.layer.11.attention.self.key.weight", "key"),
        ("bert.encoder.layer.0.attention.self.value.weight", "value"),
        ("bert.encoder.layer.0.attention.output.dense.weight", "attention_output"),
        ("bert.encoder.layer.0.intermediate.dense.weight", "ffn_in"),
        ("bert.encoder.layer.0.output.dense.weight", "ffn_out"),
        ("bert.pooler.dense.weight", "pooler"),
        ("bert.embeddings.word_embeddings.weight", "embeddings"),
        ("classifier.weight", "classifier"),
        ("bert.encoder.layer.0.attention.self.query.bias", "other"),
        ("bert.embeddings.LayerNorm.weight", "other"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scope", SCOPES)
def test_only_matrices_but_never_the_classifier(family: str, scope: str) -> None:
    names = list(prunable_weights(tiny(family), [scope]))
    assert all(name.endswith(".weight") for name in names)
    assert not [name for name in names if "classifier" in name or "norm" in name.lower()]
    assert "classifier" not in kinds(prunable_weights(tiny(family), [scope]))


@pytest.mark.parametrize(
    ("family", "scope", "matrices", "weights"),
    [
        ("Electra", "encoder", 12, 2 * (ATTENTION + FFN)),
        ("Electra", "all_linear", 13, 2 * (ATTENTION + FFN) + 8 * 16),  # embeddings_project
        ("Electra", "embeddings", 2, (20 + 12) * 8),
        ("Roberta", "encoder", 12, 2 * (ATTENTION + FFN)),
        ("Roberta", "qkv", 6, 2 * 3 * 256),
        ("Roberta", "all_linear", 12, 2 * (ATTENTION + FFN)),
        ("DistilBert", "encoder", 12, 2 * (ATTENTION + FFN)),
        ("DistilBert", "attention", 8, 2 * ATTENTION),
        ("DistilBert", "ffn", 4, 2 * FFN),
        ("DistilBert", "all_linear", 12, 2 * (ATTENTION + FFN)),
        # ALBERT's layers share one set of weights.
        ("Albert", "encoder", 6, ATTENTION + FFN),
        ("Albert", "attention", 4, ATTENTION),
        ("Albert", "ffn", 2, FFN),
        ("Albert", "encoder_pooler", 7, ATTENTION + FFN + 256),
        ("Albert", "all_linear", 8, ATTENTION + FFN + 256 + 8 * 16),
        ("XLMRoberta", "encoder", 12, 2 * (ATTENTION + FFN)),
        ("DebertaV2", "qkv", 6, 2 * 3 * 256),
        ("DebertaV2", "attention", 12, 2 * (ATTENTION + 2 * 256)),
        ("DebertaV2", "encoder", 16, 2 * (ATTENTION + FFN + 2 * 256)),
        ("DebertaV2", "encoder_pooler", 17, 2 * (ATTENTION + FFN + 2 * 256) + 256),
        ("DebertaV2", "embeddings", 1, 20 * 16),
        ("ModernBert", "qkv", 2, 2 * 3 * 256),
        ("ModernBert", "attention", 4, 2 * ATTENTION),
        ("ModernBert", "ffn", 4, 2 * 3 * 16 * 32),  # the gate is the half of Wi
        ("ModernBert", "encoder", 8, 2 * (ATTENTION + 3 * 16 * 32)),
    ],
)
def test_relatives_of_bert(family: str, scope: str, matrices: int, weights: int) -> None:
    assert counts(tiny(family), scope) == (matrices, weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_has_every_kind_of_matrix(family: str) -> None:
    expected = {
        "DebertaV2": SIX | {"relative_position"},
        "ModernBert": {"fused_qkv", "attention_output", "fused_ffn_in", "ffn_out"},
    }.get(family, SIX)
    assert kinds(prunable_weights(tiny(family))) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_has_every_linear_layer_below_the_pooler(family: str) -> None:
    model = tiny(family)
    taken = prunable_weights(model)
    assert (encoder_share(model, taken), unknown_matrices(model)) == (1.0, {})
    linear = set(prunable_weights(model, ["all_linear"]))
    assert {kind_of(name) for name in linear - set(taken)} <= {"pooler", "embedding_projection"}


SMALL_TRANSFORMER = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "vocab_size": 20}


@pytest.mark.parametrize(
    ("family", "shape", "kinds_found"),
    [
        ("Longformer", TINY | {"attention_window": 4}, SIX),
        ("MPNet", TINY, SIX),
        ("MobileBert", TINY | {"intra_bottleneck_size": 8}, SIX | {"bottleneck"}),
        ("Luke", TINY | {"entity_vocab_size": 5, "entity_emb_size": 8}, SIX),
        ("EuroBert", TINY | {"num_key_value_heads": 2}, SIX),
        (
            "Deberta",
            DEBERTA,
            (SIX - {"query", "key", "value"}) | {"fused_qkv", "relative_position"},
        ),
        ("GPTNeoX", TINY, {"fused_qkv", "attention_output", "ffn_in", "ffn_out"}),
        ("Bloom", TINY, {"fused_qkv", "attention_output", "ffn_in", "ffn_out"}),
        ("XLM", {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "n_words": 20}, SIX),
        ("Funnel", {"d_model": 16, "block_sizes": [1, 1], "n_head": 2, "d_head": 8}, SIX),
    ],
)
def test_other_names_for_the_same_matrices(
    family: str, shape: dict[str, object], kinds_found: set[str]
) -> None:
    model = build(family, **shape)
    taken = prunable_weights(model)
    assert kinds(taken) == kinds_found
    assert encoder_share(model, taken) > (0.8 if family == "Funnel" else 0.999)


def test_what_no_kind_knows_is_named_with_the_share_that_is_left() -> None:
    model = build("XLNet", **SMALL_TRANSFORMER)
    taken = prunable_weights(model)
    assert encoder_share(model, taken) == pytest.approx(2 * 512 / (2 * 512 + 5 * 256))
    assert as_patterns(unknown_matrices(model))[0] == "transformer.layer.*.rel_attn.q"

    model = build("ConvBert", **TINY, embedding_size=16)
    names = as_patterns(unknown_matrices(model))
    assert "convbert.encoder.layer.*.attention.self.conv_out_layer.weight" in names
    before = encoder_share(model, prunable_weights(model))
    more = prunable_weights(model, include=["*conv_out_layer*"])
    assert 0.7 < before < encoder_share(model, more) < 1


def test_what_a_selection_leaves_is_said() -> None:
    def said(scope: list[str], family: str = "XLNet", **patterns: list[str]) -> str:
        model = build(family, **SMALL_TRANSFORMER) if family == "XLNet" else tiny(family)
        return " ".join(what_is_left(model, prunable_weights(model, scope, **patterns), scope))

    whole = "prune.scope takes 100.0% of the weights in the encoder's matrices"
    assert said(["encoder"], "Bert") == said(["all_linear"], "Bert") == whole
    assert said(["qkv"], "Bert") == ""
    assert said(["encoder"], "Bert", exclude=["*.1.*"]) == (
        "prune.scope takes 50.0% of the weights in the encoder's matrices"
    )
    first, _, rest = said(["encoder"]).partition(" warning: ")
    assert first == "prune.scope takes 44.4% of the weights in the encoder's matrices"
    assert rest.startswith("transformer.layer.*.rel_attn.q, transformer.layer.*.rel_attn.k, ")
    assert said(["ffn"]).startswith("warning: ") and said(["embeddings"]) == ""


@pytest.mark.parametrize(
    ("family", "shape", "says"),
    [
        (
            "GPT2",
            {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 20},
            "Conv1D layers, as GPT-2",
        ),
        ("SqueezeBert", TINY | {"embedding_size": 16}, "its matrices are those of Conv1d"),
        ("IBert", TINY, "its matrices are those of QuantLinear"),
    ],
)
def test_layers_that_are_not_linear_are_refused_by_name(
    family: str, shape: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        prunable_weights(build(family, **shape))


def test_names_of_their_own_are_pointed_to_all_linear() -> None:
    model = nn.ModuleDict({"mixer": nn.Linear(2, 2)})
    with pytest.raises(ConfigError, match=r"\(mixer\.weight\): try prune\.scope=all_linear"):
        prunable_weights(model)
    assert list(prunable_weights(model, ["all_linear"])) == ["mixer.weight"]


@pytest.mark.parametrize(
    ("family", "classifier"),
    [
        ("Bert", {"classifier"}),
        ("XLMRoberta", {"classifier.dense", "classifier.out_proj"}),
        ("DistilBert", {"pre_classifier", "classifier"}),
        ("DebertaV2", {"classifier"}),
        ("ModernBert", {"head.dense", "head.norm", "classifier"}),
    ],
)
def test_the_head_is_all_that_is_outside_the_encoder(family: str, classifier: set[str]) -> None:
    assert {name.rpartition(".")[0] for name in head(tiny(family))} == classifier


def test_a_head_inside_the_encoder_is_found_by_its_rows() -> None:
    """Perceiver decodes the classes itself, under a name that says nothing."""
    shape = {"num_latents": 4, "d_latents": 16, "d_model": 16, "num_self_attends_per_block": 1}
    heads = {"num_self_attention_heads": 2, "num_cross_attention_heads": 2, "num_labels": 3}
    model = build("Perceiver", **shape, **heads)
    assert head(model) == {f"perceiver.decoder.decoder.final_layer.{n}" for n in ("weight", "bias")}
    assert not head(model) & set(prunable_weights(model, ["all_linear"]))


def test_include_adds_and_exclude_takes_away() -> None:
    def changed(**patterns: list[str]) -> set[str]:
        return set(prunable_weights(kobert(), ["qkv"], **patterns))

    before = changed()
    assert changed(include=["*pooler*"]) - before == {"bert.pooler.dense.weight"}
    assert len(before - changed(exclude=["*layer.0.*"])) == 3
    assert changed(include=["*pooler*"], exclude=["*pooler*"]) == before


def test_a_pattern_is_not_a_substring() -> None:
    with pytest.raises(ConfigError, match="matches no prunable weight"):
        prunable_weights(tiny("Bert"), exclude=["pooler"])


@pytest.mark.parametrize(
    ("scope", "include", "exclude", "says"),
    [
        (["encodr"], [], [], r"prune\.scope=encodr: unknown; one of qkv, "),
        (["qkv"], ["*.head.*"], [], r"prune\.include=\*\.head\.\*"),
        (["qkv"], [], ["*.head.*"], r"prune\.exclude=\*\.head\.\*"),
        (["qkv"], ["classifier.weight"], [], "include=classifier.weight"),
        (["qkv"], ["*LayerNorm*"], [], r"include=\*LayerNorm\*"),
        (["qkv"], ["*.bias"], [], r"include=\*\.bias"),
        (["qkv"], [], ["*"], "nothing is left to prune"),
        ([], [], [], "nothing is left to prune"),
    ],
)
def test_what_cannot_be_selected(
    scope: list[str], include: list[str], exclude: list[str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        prunable_weights(tiny("Bert"), scope, include, exclude)
    assert caught.value.exit_code == 2


def test_a_scope_that_a_model_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"prune\.scope=encoder: selects no weight"):
        prunable_weights(nn.Sequential(nn.Linear(2, 2)))


def test_check_scope_needs_no_model() -> None:
    check_scope(SCOPES)
    with pytest.raises(ConfigError, match="heads"):
        check_scope(["qkv", "heads"])


def test_all_linear_takes_no_embedding_whatever_its_name() -> None:
    model = nn.ModuleDict({"rel_embeddings": nn.Embedding(3, 2), "proj": nn.Linear(2, 2)})
    assert list(prunable_weights(model, ["all_linear"])) == ["proj.weight"]


def test_tied_parameters_count_once() -> None:
    with torch.device("meta"):
        model = transformers.BertForMaskedLM(transformers.BertConfig(**TINY))
    model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
    selected = prunable_weights(model, ["embeddings", "all_linear"])
    assert "bert.embeddings.word_embeddings.weight" in selected
    assert "cls.predictions.decoder.weight" not in selected
    assert len({id(weight) for weight in selected.values()}) == len(selected)
