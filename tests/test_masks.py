"""Masks: what they do to weights and gradients, and what their check refuses."""

import pytest
import torch
from torch import Tensor, nn, tensor

from pruneloop.errors import InvariantError
from pruneloop.pruning import Masks

WEIGHTS = {
    "a": tensor([[1.0, -2.0], [3.0, -4.0]]),
    "b": tensor([[5.0, -6.0, -0.0, 1e-45]]),
}
KEPT = {
    "a": tensor([[True, False], [False, True]]),
    "b": tensor([[False, True, True, True]]),
}


def fresh() -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in WEIGHTS.items()}


def pruned() -> dict[str, Tensor]:
    weights = fresh()
    Masks(KEPT).zero_weights(weights)
    return weights


def bits(weight: Tensor) -> list[int]:
    return weight.detach().view(torch.int32).flatten().tolist()


def test_counts() -> None:
    masks = Masks(KEPT)
    assert (masks.prunable, masks.zeros) == (8, 3)
    assert masks.zeros_by_name() == {"a": 2, "b": 1}
    assert list(masks) == ["a", "b"] and len(masks) == 2


def test_dense_masks_keep_everything() -> None:
    masks = Masks.dense(WEIGHTS)
    assert (masks.prunable, masks.zeros) == (8, 0)
    assert masks["a"].dtype == torch.bool
    assert {name: mask.shape for name, mask in masks.items()} == {
        name: weight.shape for name, weight in WEIGHTS.items()
    }


def test_a_mask_takes_one_byte_a_weight() -> None:
    assert Masks.dense(WEIGHTS)["b"].element_size() == 1


def test_masks_do_not_follow_the_mapping_they_came_from() -> None:
    source = dict(KEPT)
    masks = Masks(source)
    del source["a"]
    assert list(masks) == ["a", "b"]


def test_pruned_weights_are_positive_zeros_and_kept_ones_keep_their_bits() -> None:
    weights = pruned()
    assert bits(weights["a"]) == bits(tensor([[1.0, 0.0], [0.0, -4.0]]))
    # Also a -0.0, and the smallest denormal.
    assert bits(weights["b"]) == bits(tensor([[0.0, -6.0, -0.0, 1e-45]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_every_type_become_zero_where_they_are_pruned(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(11, 9, generator=generator).to(dtype)
    keep = torch.rand(11, 9, generator=generator) < 0.5
    weight = nn.Parameter(before.clone())
    Masks({"w": keep}).zero_weights({"w": weight})
    assert torch.equal(weight[keep], before[keep])
    assert not weight[~keep].view(torch.uint8).any()


def test_zero_gradients_touches_only_pruned_gradients() -> None:
    weights = {name: nn.Parameter(weight) for name, weight in fresh().items()}
    weights["a"].grad = tensor([[1.0, 2.0], [-3.0, 4.0]])
    Masks(KEPT).zero_gradients(weights)
    assert weights["a"].grad.tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert weights["b"].grad is None
    assert torch.equal(weights["a"], WEIGHTS["a"])


def test_from_zeros_reads_a_permanent_checkpoint() -> None:
    weights = {"a": nn.Parameter(tensor([[1.0, 0.0], [-0.0, 1e-45]]))}
    masks = Masks.from_zeros(weights)
    assert masks["a"].tolist() == [[True, False], [False, True]]
    assert not masks["a"].requires_grad


def test_from_zeros_inverts_zero_weights() -> None:
    weights = {"a": fresh()["a"]}
    Masks({"a": KEPT["a"]}).zero_weights(weights)
    assert torch.equal(Masks.from_zeros(weights)["a"], KEPT["a"])


def test_equal_masks_have_equal_digests() -> None:
    copies = {name: mask.clone() for name, mask in KEPT.items()}
    assert Masks(copies).digest() == Masks(KEPT).digest()
    transposed = {name: mask.t().contiguous().t() for name, mask in KEPT.items()}
    assert Masks(transposed).digest() == Masks(KEPT).digest()


@pytest.mark.parametrize(
    "other",
    [
        KEPT | {"a": ~KEPT["a"]},
        KEPT | {"b": tensor([[True, False, True, True]])},
        {"a": KEPT["a"]},
        {"a": KEPT["a"], "c": KEPT["b"]},
    ],
    ids=["all bits", "two bits", "one matrix less", "another name"],
)
def test_different_masks_have_different_digests(other: dict[str, Tensor]) -> None:
    assert Masks(other).digest() != Masks(KEPT).digest()


def test_check_is_content_with_a_round() -> None:
    masks, weights = Masks(KEPT), pruned()
    masks.check(weights, previous=Masks.dense(weights))
    masks.check(weights, previous=masks)


@pytest.mark.parametrize(
    ("name", "index", "value", "says"),
    [
        ("a", 1, 1e-45, "a: a pruned weight is not zero"),
        ("b", 0, float("nan"), "b: a pruned weight is not zero"),
        ("a", 0, float("nan"), "a: a weight is NaN or infinite"),
        ("b", 3, -float("inf"), "b: a weight is NaN or infinite"),
    ],
)
def test_check_refuses_a_weight(name: str, index: int, value: float, says: str) -> None:
    weights = pruned()
    weights[name].view(-1)[index] = value
    with pytest.raises(InvariantError, match=says) as caught:
        Masks(KEPT).check(weights, previous=Masks.dense(weights))
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("name", ["a", "b"])
def test_check_refuses_a_revived_mask(name: str) -> None:
    """Masks only shrink, even when just as many weights are pruned elsewhere."""
    moved = Masks(KEPT | {name: KEPT[name].flip(-1)})
    weights = {key: torch.zeros_like(weight) for key, weight in WEIGHTS.items()}
    with pytest.raises(InvariantError, match=f"{name}: a pruned weight is kept again"):
        moved.check(weights, previous=Masks(KEPT))
