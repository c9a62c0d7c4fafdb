"""The quick ways of a forward: all of them inside, none outside, and compiled only when asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Life, composed, experiment, read_rounds, small_classifier

from pruneloop.config import Device
from pruneloop.errors import EnvironmentFault
from pruneloop.machine import check_compiler
from pruneloop.training import Quick, Shortcut
from pruneloop.training.quick import Compiled

SMALL = ("data.train_rows=120", "data.test_rows=40", "model.hidden=16", "model.intermediate=32")
SHORT = (*SMALL, "rounds=1", "device=cpu", "finetune.dense_epochs=1")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The modes, training or not, in which what `torch.compile` gives is called."""
    seen: list[bool] = []

    def compiled(function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(getattr(getattr(function, "__self__", None), "training", False))
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr("torch.compile", compiled)
    return seen


def test_a_model_is_compiled_inside_only(calls: list[bool]) -> None:
    model = small_classifier("Bert").eval()
    ids = torch.arange(12).view(2, 6) + 5
    names, plain = set(dict(model.named_parameters())), model(ids).logits
    quick = Quick(model, Shortcut(model), compiled=True)
    assert not calls
    with quick():
        assert torch.allclose(model(ids).logits, plain, atol=1e-6)
    assert len(calls) == 1
    with pytest.raises(ZeroDivisionError), quick():
        raise ZeroDivisionError
    assert torch.equal(model(ids).logits, plain)
    assert len(calls) == 1 and set(dict(model.named_parameters())) == names


def test_nothing_is_compiled_unasked(calls: list[bool], tmp_path: Path) -> None:
    experiment(composed(*SHORT), tmp_path, [])
    assert not calls


def test_steps_and_measurements_are_compiled_and_evidence_is_not(
    calls: list[bool], tmp_path: Path
) -> None:
    experiment(composed(*SHORT, "finetune.compile=true", "prune=taylor"), tmp_path, [])
    records = read_rounds(tmp_path)
    steps = sum(line["steps"] for line in records)
    assert calls[0] is False and sum(calls) == steps > 0  # the first is the check of the compiler
    assert len(calls) == 1 + steps + 3  # three measurements, of a batch each


def test_a_machine_that_cannot_compile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(function: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr("torch.compile", compiled)
    said = r"finetune\.compile=true: .* \(no C\+\+ compiler\); leave it out"
    with pytest.raises(EnvironmentFault, match=said):
        check_compiler(Device.cpu)


@pytest.mark.more
def test_a_compiled_run_learns_what_a_plain_one_does(tmp_path: Path) -> None:
    for name, asked in (("plain", "false"), ("compiled", "true")):
        folder = tmp_path / name
        folder.mkdir()
        life = Life(folder, *SHORT, f"finetune.compile={asked}", f"hydra.run.dir={folder}")
        assert life.wait(300) == 0, life.errors
    plain, compiled = (read_rounds(tmp_path / name) for name in ("plain", "compiled"))
    for one, other in zip(plain, compiled, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-4)  # no dropout here
        assert other["zeros"] == one["zeros"]


def test_what_is_compiled_is_the_call_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("torch.compile", lambda function, **how: asked.append(how))
    Compiled(torch.nn.Linear(2, 2))
    assert asked == [{"dynamic": True}]
