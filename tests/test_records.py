"""The record on disk: its columns, its round trip, and that it is never half written."""

import csv
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from support import FACTS, prediction, record

from pruneloop.records import DataFacts, LayerRecord, RejectedRow, RunFacts, RunFolder

COLUMNS = (
    "round amount prunable zeros sparsity model_sparsity shock_accuracy accuracy macro_f1 loss "
    "test_accuracy test_macro_f1 train_loss steps seconds kept"
).split()


DATA = DataFacts(**{field.name: "" for field in fields(DataFacts)} | {"name": "리뷰"})
ROUNDS = [record(0, None), record(1, 0.75)]


def test_json_lines_hold_one_round_each(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_rounds(ROUNDS)
    lines = (tmp_path / "rounds.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [list(row) for row in rows] == [[*COLUMNS, "epochs"]] * 2
    assert rows[0]["shock_accuracy"] is None
    assert (rows[1]["round"], rows[1]["zeros"], rows[1]["shock_accuracy"]) == (1, 200, 0.75)


def test_the_csv_has_the_same_columns(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_rounds(ROUNDS)
    with open(tmp_path / "rounds.csv", newline="") as file:
        header, dense, pruned = csv.reader(file)
    assert header == COLUMNS
    assert dense == "0 0.2 1000 0 0.0 0.0  0.9 0.89 0.3 0.88 0.87 0.25 12 1.5 True".split(" ")
    assert dict(zip(header, pruned, strict=True))["shock_accuracy"] == "0.75"


def test_layers_are_one_row_a_matrix_and_round(tmp_path: Path) -> None:
    layer = LayerRecord(
        round=1, name="layer.0.query.weight", kind="query", size=64, zeros=16, sparsity=0.25
    )
    RunFolder(tmp_path).write_layers([layer])
    text = (tmp_path / "layers.csv").read_text()
    assert text == (
        "round,name,kind,size,zeros,sparsity\n1,layer.0.query.weight,query,64,16,0.25\n"
    )


def test_rounds_come_back_as_they_were(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_rounds() == []
    folder.write_rounds(ROUNDS)
    assert folder.read_rounds() == ROUNDS


def test_a_rewrite_leaves_only_the_named_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_rounds(ROUNDS[:1])
    folder.write_rounds(ROUNDS)
    folder.write_status("running")
    assert len(folder.read_rounds()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "rounds.jsonl",
        "rounds.csv",
        "STATUS.json",
    }


def test_a_failing_rewrite_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_rounds(ROUNDS[:1])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write_rounds(ROUNDS)
    assert folder.read_rounds() == ROUNDS[:1]


def test_status_and_facts_are_json_with_hangul(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_status("failed", error="라벨이 없다")
    facts = RunFacts(**{field.name: "" for field in fields(RunFacts)} | {"data": DATA})
    folder.write_facts(facts)
    assert folder.read_facts() == facts
    status = json.loads(folder.status.read_text(encoding="utf-8"))
    assert (status["state"], status["error"]) == ("failed", "라벨이 없다")
    assert "리뷰" in folder.facts.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"x"', "\x00"])
def test_a_status_that_is_no_status_says_nothing(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.status.write_text(text)
    assert folder.read_status() == {} and not folder.is_done()
    folder.write_failure("why", 2)
    assert folder.read_status()["message"] == "why"


def test_every_record_is_sealed(tmp_path: Path) -> None:
    """What a finished run has lost of them would otherwise be missing for ever."""
    folder = RunFolder(tmp_path)
    (tmp_path / "state").mkdir()
    epochs = [{"epoch": 1, "accuracy": 0.5}]
    folder.write_rounds([replace(ROUNDS[0], epochs=epochs)])
    folder.write_layers([])
    folder.write_predictions([prediction("긍정", "긍정", "부정")])
    folder.write_rejected([RejectedRow(file="a.csv", line=1, reason="short", raw="x")])
    folder.write_facts(FACTS)
    written = {path.name for path in tmp_path.iterdir() if path.is_file()}
    folder.seal(folder.records)
    for name in written:
        (tmp_path / name).unlink()
    assert {*folder.damaged()} == written and len(written) == 7


@pytest.mark.parametrize("text", ["", "[]", "3", "null"])
def test_a_damaged_seal_is_said_and_written_anew(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "state").mkdir()
    folder.rounds_csv.write_text("a")
    (tmp_path / "state/sealed.json").write_text(text)
    assert folder.damaged() == ["sealed.json"]
    folder.seal([folder.rounds_csv, folder.report])
    assert folder.damaged() == []
    folder.rounds_csv.write_text("b")
    assert folder.damaged() == ["rounds.csv"]
