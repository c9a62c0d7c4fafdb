"""Exact removal: fewer weights, the same logits, and plain transformers loads what is left."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import small_bert, small_classifier
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pruneloop.errors import ConfigError
from pruneloop.pruning import kind_of
from pruneloop.shrinking import shrink, without_layers

FAMILIES = [
    *("Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "Albert", "DebertaV2"),
    "ModernBert",
]


def random_model(family: str, draw: torch.Generator, **changed: object) -> PreTrainedModel:
    """Return a classifier of random shape, with random biases: new ones have none."""

    def one_of(*values: object) -> object:
        return values[int(torch.randint(len(values), (), generator=draw))]

    shape: dict[str, object] = {
        "num_hidden_layers": one_of(1, 2, 3),
        "num_attention_heads": one_of(2, 4),
    }
    if family == "DistilBert":
        shape |= {"hidden_dim": one_of(5, 32), "activation": one_of("gelu", "relu")}
    elif family == "ModernBert":
        shape |= {"intermediate_size": one_of(6, 32), "mlp_bias": one_of(True, False)}
        shape |= {"attention_bias": one_of(True, False), "hidden_activation": one_of("gelu")}
    else:
        shape |= {"intermediate_size": one_of(5, 32), "hidden_act": one_of("gelu", "silu")}
    if family == "DebertaV2":
        shape |= {"share_att_key": one_of(True, False)}
    if family == "Albert":
        shape |= {"inner_group_num": one_of(1, 2)}
    model = small_classifier(family, int(draw.initial_seed()), **shape | changed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=draw) / 4)
    return model.eval()


def prune_units(model: PreTrainedModel, draw: torch.Generator) -> None:
    """Write zeros into random rows and columns, and into the rows and columns of random heads."""

    def some(size: int, width: int = 1) -> Tensor:
        share = torch.rand((), generator=draw)
        return (torch.rand(size, generator=draw) < share).repeat_interleave(width)

    heads = model.config.num_attention_heads
    with torch.no_grad():
        for name, module in model.named_modules():
            kind = kind_of(f"{name}.weight") if isinstance(module, nn.Linear) else ""
            if kind in ("ffn_in", "fused_ffn_in"):
                module.weight[some(module.out_features)] = 0
            elif kind == "ffn_out":
                module.weight[:, some(module.in_features)] = 0
            elif kind == "attention_output":
                module.weight[:, some(heads, module.in_features // heads)] = 0
            elif kind == "value":
                module.weight[some(heads, module.out_features // heads)] = 0
            elif kind == "fused_qkv":
                size = module.out_features // 3
                module.weight[2 * size :][some(heads, size // heads)] = 0


def logits(model: PreTrainedModel) -> Tensor:
    ids = torch.arange(24).view(3, 8) % 40 + 5
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).logits


def close(found: Tensor, expected: Tensor) -> bool:
    """Whether logits agree as far as another order of sums allows; these are large at times."""
    return torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


def size(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def reloaded(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    model.save_pretrained(folder)
    again, report = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return again.eval()


@pytest.mark.parametrize("family", FAMILIES)
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10_000))
def test_what_is_left_gives_the_same_logits(family: str, seed: int, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(seed)
    model = random_model(family, draw)
    prune_units(model, draw)
    before, expected = size(model), logits(model)

    uniform = shrink(model)
    assert close(logits(uniform.model), expected)
    assert torch.equal(logits(reloaded(uniform.model, tmp_path)), logits(uniform.model))
    alone = shrink(model, uniform=False, heads=True)
    assert close(logits(alone.model), expected)
    assert alone.neurons >= uniform.neurons
    assert size(alone.model) <= size(uniform.model) <= before
    assert (size(uniform.model) < before) == (uniform.neurons > 0)
    assert (size(alone.model) < size(uniform.model)) == (
        alone.heads > 0 or alone.neurons > uniform.neurons
    )
    assert size(model) == before and torch.equal(logits(model), expected)


# -- by hand -----------------------------------------------------------------------------


def parts(model: PreTrainedModel) -> tuple[nn.Linear, nn.Linear]:
    layer = model.bert.encoder.layer[0]
    return layer.intermediate.dense, layer.output.dense


def test_four_neurons_by_hand() -> None:
    """One works, one is dead, one is constant, and one is constant and dead."""
    model = small_bert(hidden_size=2, num_attention_heads=1, intermediate_size=4, hidden_act="relu")
    into, out = parts(model)
    with torch.no_grad():
        into.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]))
        into.bias.copy_(torch.tensor([0.5, 0.6, 0.25, -1.0]))
        out.weight.copy_(torch.tensor([[1.0, 0.0, 2.0, 7.0], [3.0, 0.0, -4.0, 7.0]]))
        out.bias.copy_(torch.tensor([10.0, 20.0]))
    smaller = shrink(model)
    into, out = parts(smaller.model)
    assert smaller.neurons == 3 and smaller.model.config.intermediate_size == 1
    assert into.weight.tolist() == [[1.0, 2.0]] and into.bias.tolist() == [0.5]
    assert out.weight.tolist() == [[1.0], [3.0]]
    assert out.bias.tolist() == [10.5, 19.0]  # 2 * 0.25 more, 4 * 0.25 less; relu(-1) is 0


def test_a_head_by_hand() -> None:
    """Head 1 has no value rows: what is left of it is its bias, through the output."""
    model = small_bert(hidden_size=4, num_attention_heads=2)
    attention = model.bert.encoder.layer[0].attention
    value, out = attention.self.value, attention.output.dense
    with torch.no_grad():
        value.weight[2:] = 0
        value.bias.copy_(torch.tensor([9.0, 9.0, 1.0, 2.0]))
        out.weight.copy_(torch.eye(4))
        out.bias.zero_()
    smaller = shrink(model, heads=True)
    attention = smaller.model.bert.encoder.layer[0].attention
    assert smaller.heads == 1 and attention.self.num_attention_heads == 1
    assert attention.self.key.weight.shape == (2, 4)
    assert attention.output.dense.bias.tolist() == [0.0, 0.0, 1.0, 2.0]
    assert shrink(model).heads == 0


def test_all_dead_leaves_one() -> None:
    model = small_bert()
    with torch.no_grad():
        parts(model)[1].weight.zero_()
        model.bert.encoder.layer[0].attention.output.dense.weight.zero_()
    smaller = shrink(model, heads=True)
    assert smaller.model.config.intermediate_size == 1 and smaller.heads == 1
    assert close(logits(smaller.model), logits(model.eval()))


def test_uniform_width_is_that_of_the_widest_layer() -> None:
    model = small_bert(num_hidden_layers=2)
    with torch.no_grad():
        for layer, dead in zip(model.bert.encoder.layer, (20, 6), strict=True):
            layer.output.dense.weight[:, :dead] = 0
    assert shrink(model).neurons == 12 and shrink(model).model.config.intermediate_size == 26
    alone = shrink(model, uniform=False).model
    assert [layer.output.dense.in_features for layer in alone.bert.encoder.layer] == [12, 26]


# -- layers ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "Albert"])
def test_without_layers_is_the_model_that_skips_them(family: str, tmp_path: Path) -> None:
    model = small_classifier(family, num_hidden_layers=4).eval()
    kept = [0, 3] if family == "ModernBert" else [1, 3]
    smaller = without_layers(model, kept)
    assert size(smaller) < size(model) and model.config.num_hidden_layers == 4
    assert torch.equal(logits(reloaded(smaller, tmp_path)), logits(smaller))
    if family == "ModernBert":
        types = model.config.layer_types
        assert smaller.config.layer_types == [types[number] for number in kept]
    base = model.base_model
    layers = (
        base.layers
        if family == "ModernBert"
        else (base.transformer.layer if family == "DistilBert" else base.encoder.layer)
    )
    for number in set(range(4)) - set(kept):
        layer = layers[number]
        one = family in ("Roberta", "XLMRoberta", "Bert", "Electra", "DistilBert", "ModernBert")
        layer.forward = lambda hidden, *_, _one=one, **__: hidden if _one else (hidden, None)
    assert torch.equal(logits(smaller), logits(model))


@pytest.mark.parametrize(
    ("family", "kept", "words"),
    [
        ("Albert", [0], "one and the same"),
        ("ModernBert", [1, 2], "layer 0 of modernbert"),
        ("Bert", [], "must be some of 0 to 2"),
        ("Bert", [3], "must be some of 0 to 2"),
        ("BigBird", [0], "model type big_bird: its units cannot be removed; known are albert, "),
    ],
)
def test_layers_that_cannot_go(family: str, kept: list[int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        without_layers(small_classifier(family, num_hidden_layers=3), kept)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ConfigError, match="model type big_bird"):
        shrink(small_classifier("BigBird"))
