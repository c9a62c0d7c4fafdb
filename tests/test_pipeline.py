"""Whole runs in this process: records, exact zeros, reproducibility, the checkpoint."""

import codecs
import csv
import logging
import random
import shlex
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import (
    SHARED,
    SHORT,
    SMALL,
    SMALL_DATA,
    SMALL_MODEL,
    composed,
    experiment,
    needs_shared,
    prediction,
    read_facts,
    read_rounds,
    read_status,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from pruneloop.errors import (
    CheckpointError,
    ConfigError,
    EnvironmentFault,
    InputError,
    InvariantError,
)
from pruneloop.records import RunFolder
from pruneloop.report.predictions import most_lost
from pruneloop.training import FineTuning


def run(folder: Path, *overrides: str, base: tuple[str, ...] = SMALL) -> list[dict]:
    folder.mkdir()
    experiment(composed(*base, *overrides), folder, list(overrides))
    return read_rounds(folder)


def without_times(rounds: list[dict]) -> list[dict]:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in rounds]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline") / "run"
    run(folder)
    return folder


def test_the_run_folder_is_complete(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "STATUS.json",
        "accuracy_vs_sparsity.png",
        "checkpoint",
        "layers.csv",
        "predictions.csv",
        "report.html",
        "rounds.csv",
        "rounds.jsonl",
        "run.json",
        "sparsity_by_layer.png",
        "state",
    }


def test_libraries_leave_their_lines_to_the_log(finished: Path) -> None:
    for name in ("datasets", "huggingface_hub"):
        assert not logging.getLogger(name).handlers and logging.getLogger(name).propagate


def test_records_agree_with_each_other(finished: Path) -> None:
    rounds = read_rounds(finished)
    rows = list(csv.DictReader((finished / "rounds.csv").read_text().splitlines()))
    layers = list(csv.DictReader((finished / "layers.csv").read_text().splitlines()))
    facts = read_facts(finished)
    assert [r["round"] for r in rounds] == [0, 1, 2]
    assert [int(row["zeros"]) for row in rows] == [r["zeros"] for r in rounds]
    assert facts["planned_zeros"] == [r["zeros"] for r in rounds]
    for r in rounds:
        mine = [layer for layer in layers if int(layer["round"]) == r["round"]]
        assert sum(int(layer["zeros"]) for layer in mine) == r["zeros"]
        assert sum(int(layer["size"]) for layer in mine) == r["prunable"]
    assert rounds[0]["shock_accuracy"] is None and rounds[1]["shock_accuracy"] is not None
    assert rounds[2]["sparsity"] == rounds[2]["zeros"] / rounds[2]["prunable"]


def test_predictions_agree_with_the_scores(finished: Path) -> None:
    with (finished / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (finished / "predictions.csv").read_bytes().startswith(codecs.BOM_UTF8)
    assert [*rows[0]][:4] == ["label", "dense", "pruned", "text"]
    assert [int(row["row"]) for row in rows] == list(range(60))
    rounds = read_rounds(finished)
    assert len(rows) == 60 and all(row["text"] for row in rows)
    for side, record in (("dense", rounds[0]), ("pruned", rounds[-1])):
        right = sum(row[side] == row["label"] for row in rows)
        assert right / 60 == record["test_accuracy"]
    model = AutoModelForSequenceClassification.from_pretrained(finished / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(finished / "checkpoint")
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    said = classify([row["text"] for row in rows])
    assert [answer["label"] for answer in said] == [row["pruned"] for row in rows]
    sure = [float(row["pruned_confidence"]) for row in rows]
    assert [answer["score"] for answer in said] == pytest.approx(sure, abs=1e-4)
    assert all(float(row["dense_confidence"]) >= 0.5 for row in rows)  # of two labels


def test_the_checkpoint_loads_in_plain_transformers(finished: Path) -> None:
    folder = finished / "checkpoint"
    tensors = load_file(folder / "model.safetensors")
    assert not [name for name in tensors if "mask" in name or "orig" in name]
    zeros = read_rounds(finished)[-1]["zeros"]
    pruned = [name for name in tensors if "encoder" in name and tensors[name].dim() == 2]
    assert sum(int((tensors[name] == 0).sum()) for name in pruned) == zeros
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert classify("연기가 훌륭하다")[0]["label"] in {"negative", "positive"}


@pytest.mark.more
def test_the_cards_command_can_be_pasted(finished: Path) -> None:
    card = (finished / "checkpoint/README.md").read_text(encoding="utf-8")
    (line,) = [line for line in card.splitlines() if line.startswith("python -c ")]
    line = line.replace("python", shlex.quote(sys.executable), 1)
    folder = finished / "checkpoint"
    said = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True)
    assert said.returncode == 0 and "'label': " in said.stdout, said.stderr


def test_the_same_seed_gives_the_same_bits(finished: Path, tmp_path: Path) -> None:
    again = run(tmp_path / "again")
    first = read_rounds(finished)
    assert without_times(again) == without_times(first)
    name = "checkpoint/model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


def test_another_seed_gives_other_weights(finished: Path, tmp_path: Path) -> None:
    run(tmp_path / "other", "seed=1")
    name = "checkpoint/model.safetensors"
    assert (tmp_path / "other" / name).read_bytes() != (finished / name).read_bytes()


@pytest.mark.parametrize("method", ["layer_l1", "random", "structured_ln"])
def test_every_method_runs(tmp_path: Path, method: str) -> None:
    rounds = run(tmp_path / "run", f"prune={method}")
    facts = read_facts(tmp_path / "run")
    assert [r["zeros"] for r in rounds] == facts["planned_zeros"]
    assert rounds[-1]["zeros"] > 0


def test_target_sparsity_is_met_exactly(tmp_path: Path) -> None:
    rounds = run(tmp_path / "run", "prune.target_sparsity=0.7", "prune.schedule=cubic")
    assert rounds[-1]["zeros"] == round(0.7 * rounds[-1]["prunable"])


def test_a_pruned_checkpoint_continues(finished: Path, tmp_path: Path) -> None:
    """Zeros of a permanent checkpoint stay pruned, and count (DESIGN, trap 1)."""
    before = read_rounds(finished)[-1]
    rounds = run(
        tmp_path / "more",
        *("model=pretrained", f"model.name={finished / 'checkpoint'}", "rounds=1"),
        base=(*SMALL_DATA, *SHORT),
    )
    assert rounds[0]["zeros"] == before["zeros"]
    left = before["prunable"] - before["zeros"]
    assert rounds[1]["zeros"] == before["zeros"] + round(0.2 * left)


@pytest.mark.more
def test_balanced_weights_find_the_rare_label(tmp_path: Path) -> None:
    """Half of the rows say 나쁘다, and three in ten of them have the rare label."""
    draw = random.Random(0)
    lines = []
    for n in range(800):
        label = "rare" if n % 2 and draw.random() < 0.3 else "often"
        lines.append(f"{'나쁘다' if n % 2 else '좋다'} {draw.randrange(9)},{label}")
    (tmp_path / "a.csv").write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    files = ("data=files", f"data.train={tmp_path / 'a.csv'}", *SMALL_MODEL, *SHORT)
    said = {}
    for weights in ("none", "balanced"):
        learning = ("rounds=1", "finetune.dense_epochs=12", "finetune.dense_learning_rate=1e-2")
        run(tmp_path / weights, *learning, f"finetune.class_weights={weights}", base=files)
        rows = RunFolder(tmp_path / weights).read_predictions()
        said[weights] = Counter(row.dense for row in rows)
    assert said["balanced"]["rare"] > said["none"]["rare"] + 10, said


@pytest.mark.more
def test_the_same_rows_in_another_folder_are_the_same_data(tmp_path: Path) -> None:
    lines = [f"이 영화는 {'나쁘다' if n % 2 else '좋다'} {n},{n % 2}" for n in range(100)]
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    (tmp_path / "here/a.csv").write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    tabs = [
        line.replace(",", "\t")
        for line in ["label,text", *(",".join(line.split(",")[::-1]) for line in lines)]
    ]
    (tmp_path / "there/b.tsv").write_text("\n".join(tabs), encoding="utf-8")
    base = ("data=files", *SMALL_MODEL, *SHORT)
    run(tmp_path / "run", "rounds=1", f"data.train={tmp_path / 'here/a.csv'}", base=base)
    more = composed(*base, "rounds=2", f"data.train={tmp_path / 'there/b.tsv'}")
    experiment(more, tmp_path / "run", [])
    assert len(read_rounds(tmp_path / "run")) == 3
    (tmp_path / "there/b.tsv").write_text("\n".join(tabs[:-1]), encoding="utf-8")
    with pytest.raises(CheckpointError, match="rows of train"):
        experiment(more, tmp_path / "run", [])


def test_what_failed_in_the_export_is_tried_again_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A check that a text fails names it; all that was trained stays."""
    config = composed(*SMALL)
    with monkeypatch.context() as patched:
        patched.setattr("torch.equal", lambda *_: False)
        with pytest.raises(InvariantError, match="has other values"):
            experiment(config, tmp_path / "run", [])
    assert read_status(tmp_path / "run")["state"] == "failed"
    assert not (tmp_path / "run/checkpoint").exists()
    before = read_rounds(tmp_path / "run")
    monkeypatch.setattr(FineTuning, "__iter__", lambda _: pytest.fail("it trains again"))
    experiment(config, tmp_path / "run", [])
    assert read_rounds(tmp_path / "run") == before and len(before) == 3
    assert read_status(tmp_path / "run")["state"] == "done"
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "run/checkpoint")


def test_the_label_that_lost_most_is_named(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [prediction(a, b, c) for a, b, c in ("xxx", "yyx", "yyy", "xxx")]
    found = most_lost(rows, ["x", "y"])
    assert found is not None and found.label == "y"
    assert (found.dense, found.pruned) == (1.0, pytest.approx(2 / 3))
    assert most_lost(rows[2:], ["x", "y"]) is None


def test_accumulation_and_bf16_run(tmp_path: Path) -> None:
    rounds = run(tmp_path / "run", "finetune.accumulation=3", "finetune.precision=bf16")
    assert rounds[1]["steps"] == 3  # 216 rows in 7 batches of 32, three a step
    tensors = load_file(tmp_path / "run/checkpoint/model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_nothing_left_to_prune_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leaves nothing"):
        run(tmp_path / "run", "prune=structured_ln", "prune.amount=0.9", "rounds=30")


def test_a_failed_run_says_so_in_its_status(tmp_path: Path) -> None:
    with pytest.raises(InvariantError, match="not finite"):
        run(tmp_path / "run", "finetune.dense_learning_rate=1e30")
    status = read_status(tmp_path / "run")
    assert status["state"] == "failed" and "not finite" in status["message"]


def test_cuda_is_checked_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentFault, match="device=cuda"):
        run(tmp_path / "run", "device=cuda")


def test_own_files_and_another_tokenizer_too_poor(finished: Path, tmp_path: Path) -> None:
    """A tokenizer that knows nothing of the texts is refused, not trained with."""
    rows = "".join(f"zebra quartz number {n} xylophone\t{n % 2}\n" for n in range(60))
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + rows)
    with pytest.raises(InputError, match="unknown"):
        run(
            tmp_path / "run",
            *("model=pretrained", f"model.name={finished / 'checkpoint'}"),
            *("data=files", f"data.train={tmp_path / 'train.tsv'}"),
            base=SHORT,
        )


@pytest.mark.more
@needs_shared
def test_a_short_run_on_real_reviews(tmp_path: Path) -> None:
    rounds = run(
        tmp_path / "run",
        *("data=nsmc", f"data.path={SHARED / 'data/nsmc_small'}"),
        *("data.train=ratings_train_2k.txt.gz", "data.test=ratings_test_500.txt.gz"),
        *("model.hidden=32", "finetune.dense_epochs=4", "rounds=1"),
        "finetune.dense_learning_rate=2e-3",
        base=(*SMALL_MODEL, *SHORT),
    )
    assert rounds[0]["test_accuracy"] > 0.55  # learns, a little, in four epochs
    facts = read_facts(tmp_path / "run")
    counts = facts["data"]["rows"]
    assert counts["empty"] > 0 and counts["normalized"] > 0
    assert (
        counts["train"] + counts["validation"] + counts["test"] + counts["empty"] == counts["read"]
    )


def test_a_control_runs_the_same_plan_with_random_weights(finished: Path, tmp_path: Path) -> None:
    """Beside a run that is done: the same zeros, other weights, and a line in its report."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = (folder / "rounds.jsonl").read_bytes()
    experiment(composed(*SMALL, "control=true"), folder, [])
    assert (folder / "rounds.jsonl").read_bytes() == before
    own, control = read_rounds(folder), read_rounds(folder / "control")
    assert [r["zeros"] for r in control] == [r["zeros"] for r in own]
    assert control[0]["accuracy"] == own[0]["accuracy"]
    assert read_facts(folder / "control")["config"]["prune.criterion"] == "random"
    weights = [load_file(f / "checkpoint/model.safetensors") for f in (folder, folder / "control")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "weights drawn at random" in page
    assert "round 2: 36.04% sparse, random weights" in page
    assert "drawn at random" not in (finished / "report.html").read_text(encoding="utf-8")


def test_the_saved_tokenizer_joins_decomposed_hangul(finished: Path) -> None:
    """Served text may come as macOS writes it; rows were joined when they were read."""
    tokenizer = AutoTokenizer.from_pretrained(finished / "checkpoint")
    for text in ("연기가 훌륭하다", "돈이 아깝다"):
        apart = unicodedata.normalize("NFD", text)
        assert apart != text
        assert tokenizer(apart)["input_ids"] == tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in tokenizer(apart)["input_ids"]


def test_without_matplotlib_a_run_ends_without_its_report(monkeypatch, tmp_path, caplog) -> None:
    for name in [name for name in sys.modules if name.startswith("pruneloop.report.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level("WARNING"):
        run(tmp_path / "run", "rounds=1")
    assert "no report.html: matplotlib is not installed" in caplog.text
    assert read_status(tmp_path / "run")["state"] == "done"
    assert not (tmp_path / "run/report.html").exists()
