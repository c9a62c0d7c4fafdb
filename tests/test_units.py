"""Whole units: exactly the planned ones go, with all that they have, and one of each stays."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import small_classifier
from torch import nn

from pruneloop.pruning import (
    Magnitude,
    Masks,
    PrunedModel,
    Random,
    Taylor,
    UnitGroups,
    UnitMethod,
    drops_by_amount,
    prunable_weights,
)
from pruneloop.shrinking import shrink

FAMILIES = [
    *("Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "Albert", "DebertaV2"),
    "ModernBert",
]
IN, OUT = "a.layer.0.intermediate.dense.weight", "a.layer.0.output.dense.weight"
QUERY, KEY, VALUE, JOIN = (
    *(f"a.layer.0.attention.self.{name}.weight" for name in ("query", "key", "value")),
    "a.layer.0.attention.output.dense.weight",
)


def ffn(n: float = 2, together: bool = False) -> UnitMethod:
    return UnitMethod(Magnitude(), UnitGroups(("ffn",), together, 1), n)


def neurons() -> tuple[dict[str, nn.Parameter], Masks]:
    """Four neurons whose weights, in and out, have the norms 5, 2, 13 and 1."""
    into = torch.tensor([[3.0, 0.0], [0.0, 2.0], [5.0, 0.0], [0.0, 1.0]])
    out = torch.tensor([[0.0, 0.0, 12.0, 0.0], [-4.0, 0.0, 0.0, 0.0]])
    weights = {IN: nn.Parameter(into), OUT: nn.Parameter(out)}
    return weights, Masks.dense(weights)


def test_four_neurons_by_hand() -> None:
    weights, masks = neurons()
    (group,) = ffn().groups.blocks(masks)
    assert group[0].scores(weights, 2).tolist() == [5.0, 2.0, 13.0, 1.0]
    assert group[0].scores(weights, 1).tolist() == [7.0, 2.0, 17.0, 1.0]
    assert ffn().units(masks) == [4] and ffn().room(masks) == [3]
    pruned = ffn().prune(weights, masks, [2])
    assert pruned[IN].tolist() == [[True, True], [False, False], [True, True], [False, False]]
    assert pruned[OUT].tolist() == [[True, False, True, False]] * 2
    assert ffn().units(pruned) == [2] and pruned.zeros == 8
    assert ffn().zeros(masks, [2]) == (8, 8)


def test_the_last_unit_stays_whatever_it_scores() -> None:
    weights, masks = neurons()
    last = ffn().prune(weights, masks, [3])
    assert last[OUT].any(0).tolist() == [False, False, True, False]
    with pytest.raises(ValueError, match="cannot take 4 out of 3"):
        ffn().prune(weights, masks, [4])


def test_ties_go_by_position() -> None:
    weights = {IN: nn.Parameter(torch.ones(4, 2)), OUT: nn.Parameter(torch.ones(2, 4))}
    pruned = ffn().prune(weights, Masks.dense(weights), [2])
    # The first of the best is not asked; of the others the first go.
    assert pruned[IN].any(1).tolist() == [True, False, False, True]


def test_units_of_unequal_density_are_counted_at_least_and_at_most() -> None:
    _, masks = neurons()
    thin = Masks({IN: torch.tensor([[True, False]] * 2 + [[True, True]] * 2), OUT: masks[OUT]})
    assert thin.zeros == 2
    assert ffn().zeros(thin, [2]) == (2 + 3 + 3, 2 + 4 + 4)
    gone = Masks({IN: thin[IN] & torch.tensor([[False], [True], [True], [True]]), OUT: masks[OUT]})
    assert ffn().units(gone) == [4]  # its column is still there


def test_a_head_goes_with_its_rows_and_columns() -> None:
    weights = {name: nn.Parameter(torch.ones(4, 4)) for name in (QUERY, KEY, VALUE, JOIN)}
    with torch.no_grad():
        weights[KEY][2:] = 0.5
    method = UnitMethod(Magnitude(), UnitGroups(("heads",), False, 2), 2)
    pruned = method.prune(weights, Masks.dense(weights), [1])
    for name in (QUERY, KEY, VALUE):
        assert pruned[name].any(1).tolist() == [True, True, False, False]
    assert pruned[JOIN].any(0).tolist() == [True, True, False, False]
    assert pruned.zeros == 4 * 8


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), together=st.booleans(), amount=st.sampled_from([0.3, 0.5]))
def test_every_family_loses_what_was_planned(
    family: str, seed: int, together: bool, amount: float
) -> None:
    """Round after round, to the very unit; and what is left is what exact removal leaves."""
    shape = {"num_hidden_layers": 2} | ({"n_layers": 2} if family == "DistilBert" else {})
    model = small_classifier(family, seed, num_attention_heads=4, **shape).eval()
    weights = prunable_weights(model, ["ffn", "attention"])
    pruned = PrunedModel(model, weights, Masks.dense(weights))
    groups = UnitGroups(("ffn", "heads"), together, 4)
    evidence = {name: torch.rand(weight.shape) for name, weight in weights.items()}
    criterion = [Magnitude(), Taylor(), Random(seed)][seed % 3]
    method = UnitMethod(criterion, groups, 1 if seed % 3 == 1 else 2)
    kept = method.units(pruned.masks)
    assert sum(kept) == (1 if family == "Albert" else 2) * (32 + 4)
    so_far = [0] * len(kept)
    dense = pruned.masks
    for drops in drops_by_amount(kept, 2, amount):
        so_far = [a + b for a, b in zip(so_far, drops, strict=True)]
        pruned.prune(method, drops, evidence)
        assert pruned.masks.zeros in {*method.zeros(dense, so_far)}
    left = method.units(pruned.masks)
    assert left == [n - k for n, k in zip(kept, so_far, strict=True)]
    smaller = shrink(model, uniform=False, heads=True)
    assert smaller.neurons + smaller.heads == sum(so_far)
    if not together:
        assert shrink(model).neurons == smaller.neurons  # the widths are uniform
