"""Given weights that cannot be trained or pruned: said before anything trains, by their names."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SMALL, composed, experiment, small_bert

from pruneloop import assembly
from pruneloop.errors import ConfigError, InputError
from pruneloop.model.build import Classifier
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


def given(monkeypatch: pytest.MonkeyPatch, number: float) -> None:
    """Have a run build its model with a key matrix that is this number everywhere."""
    real = assembly.build

    def build(*args: Any, **options: Any) -> Classifier:
        made = real(*args, **options)
        with torch.no_grad():
            made.model.bert.encoder.layer[0].attention.self.key.weight.fill_(number)
        return made

    monkeypatch.setattr(assembly, "build", build)


def test_a_run_refuses_numbers_that_are_none_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, math.nan)
    with pytest.raises(InputError, match=r"given weights are NaN or infinite in bert\.encoder"):
        experiment(composed(*SMALL), tmp_path, [])


def test_a_run_says_of_its_matrices_and_plan_what_will_come_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Zeros that are there from the start, groups that round to 0, and rounds that do."""
    given(monkeypatch, 0.0)
    with pytest.raises(ConfigError, match="round 1 would take none of the"):
        experiment(composed(*SMALL, "prune.amount=0.000001"), tmp_path, [])
    assert "all zero before any training: bert.encoder.layer.0.attention.self.key" in caplog.text
    few = ("prune=structured_ln", "prune.dim=0", "prune.amount=0.03", "rounds=3")
    with monkeypatch.context() as stopped:
        stopped.setattr(assembly, "_engine", lambda *_: pytest.fail("planned"))
        with pytest.raises(pytest.fail.Exception, match="planned"):
            experiment(composed(*SMALL, *few), tmp_path / "few", [])
    assert "rounds to 0 of what" in caplog.text
