"""To and from torch's weight_orig and weight_mask: same masks, same forward, both ways."""

import copy

import pytest
import torch
from support import small_bert
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from transformers import BertForSequenceClassification

from pruneloop.pruning import GlobalL1, Masks, prunable_weights
from pruneloop.pruning.torch_form import from_torch, to_torch


@pytest.fixture
def model() -> BertForSequenceClassification:
    return small_bert(num_hidden_layers=2, max_position_embeddings=16).eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 13).view(2, 6)).logits


def pruned_by_torch(model: nn.Module, names: list[str]) -> None:
    modules = [(model.get_submodule(name.removesuffix(".weight")), "weight") for name in names]
    torch_prune.global_unstructured(modules, torch_prune.L1Unstructured, amount=0.4)


def test_from_torch_keeps_the_forward_and_takes_the_masks(model: nn.Module) -> None:
    names = list(model.state_dict())
    pruned_by_torch(model, list(prunable_weights(model)))
    before = logits(model)
    masks = from_torch(model)
    assert torch.equal(logits(model), before)
    assert list(model.state_dict()) == names  # ordinary names, in their ordinary order
    assert list(masks) == list(prunable_weights(model))
    assert masks.zeros == round(0.4 * masks.prunable)
    masks.check(prunable_weights(model), masks)


def test_from_torch_leaves_no_negative_zero(model: nn.Module) -> None:
    pruned_by_torch(model, list(prunable_weights(model)))
    from_torch(model)
    for weight in prunable_weights(model).values():
        assert not torch.signbit(weight[weight == 0]).any()


def test_a_container_of_several_methods_comes_as_its_combined_mask(model: nn.Module) -> None:
    key = model.bert.encoder.layer[0].attention.self.key
    torch_prune.random_unstructured(key, "weight", amount=0.3)
    torch_prune.ln_structured(key, "weight", amount=0.3, n=2, dim=1)
    expected = key.weight_mask.bool().clone()
    masks = from_torch(model)
    assert torch.equal(masks["bert.encoder.layer.0.attention.self.key.weight"], expected)
    assert len(masks) == 1


def test_a_pruned_bias_comes_along(model: nn.Module) -> None:
    key = model.bert.encoder.layer[0].attention.self.key
    torch_prune.l1_unstructured(key, "bias", amount=0.5)
    masks = from_torch(model)
    assert masks["bert.encoder.layer.0.attention.self.key.bias"].sum() == 8
    assert [name for name, _ in key.named_parameters()] == ["weight", "bias"]


def test_to_torch_and_back(model: nn.Module) -> None:
    weights = prunable_weights(model)
    masks = GlobalL1().prune(weights, Masks.dense(weights), [500])
    masks.zero_weights(weights)
    before = logits(model)
    other = copy.deepcopy(model)
    to_torch(other, masks)
    assert torch_prune.is_pruned(other)
    assert torch.equal(logits(other), before)
    again = from_torch(other)
    assert again.digest() == masks.digest()
    assert torch.equal(logits(other), before)


def test_torch_goes_on_where_we_stopped(model: nn.Module) -> None:
    """A round here and a round there prune what two rounds of either prune."""
    other = copy.deepcopy(model)
    weights = prunable_weights(model)
    method, masks = GlobalL1(), Masks.dense(weights)
    for _ in range(2):
        masks = method.prune(weights, masks, [round(0.4 * method.units(masks)[0])])
        masks.zero_weights(weights)
    theirs = prunable_weights(other)
    first = method.prune(theirs, Masks.dense(theirs), [round(0.4 * masks.prunable)])
    first.zero_weights(theirs)
    to_torch(other, first)
    pruned_by_torch(other, list(masks))
    assert from_torch(other).digest() == masks.digest()
