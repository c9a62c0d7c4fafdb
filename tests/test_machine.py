"""What a run takes a machine for."""

import logging
from pathlib import Path

import pytest
import torch
from support import SMALL, composed, experiment, read_facts

from pruneloop import machine
from pruneloop.config import Device, Precision
from pruneloop.errors import CheckpointError
from pruneloop.machine import chosen_precision


def a_machine(
    monkeypatch: pytest.MonkeyPatch, cards: list[tuple[int, int]], flags: set[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_capability", cards.__getitem__)
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)


@pytest.mark.parametrize(
    ("device", "cards", "flags", "chosen", "why"),
    [
        ("auto", [(9, 0)], set(), "bf16", "capability 9.0"),
        ("cuda", [(8, 0)], set(), "bf16", "capability 8.0"),
        ("auto", [(7, 5)], {"amx_bf16"}, "fp16", "capability 7.5"),
        ("auto", [(9, 0), (7, 5)], set(), "fp16", "capability 7.5"),
        ("cpu", [(9, 0)], {"avx512f"}, "fp32", "this CPU has none of amx_bf16, avx512_bf16"),
        ("auto", [], {"avx512f", "avx512_bf16"}, "bf16", "this CPU has avx512_bf16"),
        ("auto", [], {"amx_bf16", "avx512_bf16"}, "bf16", "amx_bf16 and avx512_bf16"),
        ("auto", [], set(), "fp32", "this CPU has none of"),
    ],
)
def test_auto_is_what_the_machine_multiplies_fastest(
    monkeypatch, caplog, device: str, cards: list, flags: set, chosen: str, why: str
) -> None:
    a_machine(monkeypatch, cards, flags)
    with caplog.at_level(logging.INFO):
        assert chosen_precision(Device[device], Precision.auto) == Precision[chosen]
    assert f"finetune.precision=auto: {chosen}, as this" in caplog.text and why in caplog.text


def test_what_was_asked_for_is_taken_without_a_word(monkeypatch, caplog) -> None:
    a_machine(monkeypatch, [(9, 0)], set())
    with caplog.at_level(logging.INFO):
        assert chosen_precision(Device.auto, Precision.fp32) == Precision.fp32
    assert not caplog.text


def test_a_run_is_of_the_precision_that_auto_came_to(monkeypatch, tmp_path: Path) -> None:
    """Its record says so, and on a machine where auto is another one it does not go on."""
    config = composed(*SMALL, "rounds=1", "finetune.precision=auto")
    a_machine(monkeypatch, [], {"avx512_bf16"})
    experiment(config, tmp_path, [])
    facts = read_facts(tmp_path)
    assert facts["precision"] == facts["config"]["finetune.precision"] == "bf16"
    experiment(composed(*SMALL, "rounds=1", "finetune.precision=bf16"), tmp_path, [])
    a_machine(monkeypatch, [], set())
    with pytest.raises(CheckpointError, match=r"finetune\.precision"):
        experiment(config, tmp_path, [])
