"""What is said of the rows, and where those that were left out are listed."""

import csv
import logging
from pathlib import Path

import pytest
from support import SMALL, composed, experiment, files_config, read_facts

from pruneloop.data.loading import load_splits, tokenise_splits
from pruneloop.model.tokenizers import train_wordpiece

ROWS = "".join(f"글 {number},{(-2, 0, 10)[number % 3]}\n" for number in range(90))


def test_labels_are_said_with_the_names_that_stand_for_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + ROWS + "짧다\n", encoding="utf-8")
    caplog.set_level(logging.INFO)
    names = ["very_bad", "neutral", "good"]
    load_splits(files_config(tmp_path, "a.csv", label_names=names, bad_rows="skip"))
    assert "labels: -2=very_bad, 0=neutral, 10=good" in caplog.text
    assert "read 91, empty 0, rejected 1," in caplog.text


def test_labels_are_said_without_what_acts_on_a_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + ROWS, encoding="utf-8")
    caplog.set_level(logging.INFO)
    names, title = ["\x1b[31mred", "b", "c"], "\x1b[2Jtitle"
    load_splits(files_config(tmp_path, "a.csv", label_names=names, title=title))
    assert "\x1b" not in caplog.text and r"-2=\x1b[31mred" in caplog.text


def test_the_length_that_cuts_hardly_a_row_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [f"영화 {n}" for n in range(396)] + [f"{'영화 ' * 20} {n}" for n in range(9)]
    lines = "".join(f"{text},{n % 2}\n" for n, text in enumerate(words))
    (tmp_path / "a.csv").write_text("text,label\n" + lines, encoding="utf-8")
    split = load_splits(files_config(tmp_path, "a.csv"))
    tokenizer = train_wordpiece(words, 100, 64)
    short = train_wordpiece(words, 100, 12)
    lengths = sorted(len(tokenizer(text)["input_ids"]) for text in words)
    caplog.set_level(logging.INFO)
    data = tokenise_splits(split, tokenizer, 12)
    assert (data.truncated, data.sufficient_length) == (9, lengths[-5])  # 4 of 405 are 1 %
    said = f"9 rows truncated (2.2%; model.max_length={lengths[-5]} would cut at most 1 %)"
    assert said in caplog.text
    caplog.clear()
    assert tokenise_splits(split, tokenizer, 64).truncated == 0
    assert "0 rows truncated (0.0%)" in caplog.text
    tokenise_splits(split, short, 12)
    assert f"{lengths[-5]} tokens would cut at most 1 %, and the model takes 12)" in caplog.text


def test_rejected_rows_are_listed_in_the_run(tmp_path: Path) -> None:
    bad = 'text,label\n"a\tb",\n\ud83d'.encode(errors="replace") + b"\xff,0\n"
    (tmp_path / "a.csv").write_bytes(("text,label\n" + ROWS).encode() + bad)
    options = ("data=files", f"data.train={tmp_path}/a.csv", "data.bad_rows=skip", *SMALL[2:])
    run = tmp_path / "run"
    run.mkdir()
    experiment(composed(*options, "rounds=1"), run, [])
    assert read_facts(run)["data"]["rows"]["rejected"] == 3
    assert "rejected 3" in (run / "report.html").read_text(encoding="utf-8")
    with (run / "rejected.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["line"]) for row in rows] == [
        (f"{tmp_path}/a.csv", f"{n}") for n in (92, 93, 94)
    ]
    assert [row["raw"] for row in rows] == ["text,label", '"a\tb",', r"?\udcff,0"]
    assert all(row["reason"] for row in rows)
