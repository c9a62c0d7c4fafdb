"""Given weights that cannot be trained or pruned: said before anything trains, by their names."""

import math
import re

import pytest
import torch
from support import small_bert

from pruneloop.errors import InputError
from pruneloop.model.values import check_finite, check_prunable


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_not_the_learning_rates_fault(value: float) -> None:
    model = small_bert()
    check_finite(model)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[7, 3] = value
    with pytest.raises(InputError, match=r"NaN or infinite in bert\.embeddings\.word_embeddings"):
        check_finite(model)


def test_matrices_that_can_lose_nothing_are_named_with_the_way_out() -> None:
    sound, some = torch.ones(2, 2), torch.eye(2)
    masks = {"a": sound != 0, "b": some != 0}
    assert check_prunable({"a": sound, "b": some}, masks) is None
    with pytest.raises(InputError, match=r"have no elements: b; .*prune\.exclude=\[\"b\"\]"):
        check_prunable({"a": sound, "b": torch.ones(0, 3)}, {"a": masks["a"]})
    gone = re.escape("are pruned as a whole already: b; take them out by 'prune.exclude=[\"b\"]'")
    with pytest.raises(InputError, match=gone):
        check_prunable({"a": sound, "b": 0 * some}, {"a": masks["a"], "b": some > 2})


def test_zeros_that_may_be_trained_are_said() -> None:
    zeros = torch.zeros(2, 2)
    said = check_prunable({"a": zeros}, {"a": torch.ones(2, 2) > 0})
    assert said == "all zero before any training: a"
