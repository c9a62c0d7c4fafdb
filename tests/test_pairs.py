"""Pairs of texts, from a file's two columns to whoever serves the checkpoint."""

import csv
import json
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from support import SMALL_MODEL, composed, experiment, files_config, read_facts, read_rounds
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from pruneloop.command.verbs import evaluate, predict
from pruneloop.data.loading import load_splits
from pruneloop.data.sources import load
from pruneloop.data.splits import texts_of
from pruneloop.data.tokenising import tokenise
from pruneloop.errors import ConfigError, InputError
from pruneloop.model.tokenizers import train_wordpiece

SUBJECTS = ("영화가", "음악이", "배우가", "대사가", "결말이", "화면이")
COLUMNS = ("premise", "hypothesis", "gold_label")


def rows(count: int) -> list[tuple[str, str, str]]:
    """Pairs that have the same words: which of the two texts has which decides the label."""
    draw, found = random.Random(1), []
    for number in range(count):
        said = ["좋다", "싫다"] if number % 2 else ["싫다", "좋다"]
        first, second = (f"{draw.choice(SUBJECTS)} {word}" for word in said)
        label = "entailment" if number % 2 else "contradiction"
        found.append((f"{first} {number}", second, label))
    return found


def write(path: Path, table: list[tuple[str, str, str]]) -> str:
    if path.suffix == ".parquet":
        columns = dict(zip(COLUMNS, map(list, zip(*table, strict=True)), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".jsonl":
        lines = (dict(zip(COLUMNS, row, strict=True)) for row in table)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([COLUMNS, *table])
    return path.name


NLI = ("data.text=[premise,hypothesis]", "data.label=gold_label")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_pairs_are_read_of_every_kind_of_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, rows(6))
    text = ["premise", "hypothesis"]
    train = load(files_config(tmp_path, name, text=text, label="gold_label")).train
    assert [(*pair, label) for pair, label in zip(train.whole, train.labels, strict=True)] == rows(
        6
    )


def test_a_column_of_a_pair_that_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows(6))
    with pytest.raises(InputError, match=r"no column 'answer' \(data\.text=answer\)"):
        load(files_config(tmp_path, "a.csv", text=["premise", "answer"], label="gold_label"))


def test_a_pair_without_one_of_its_texts_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [*rows(6), ("비", " ", "entailment"), ("", "눈", "entailment")])
    train = load(
        files_config(tmp_path, "a.csv", text=["premise", "hypothesis"], label="gold_label")
    )
    assert (len(train.train), train.train.empty) == (6, 2)


def test_a_label_deeper_in_an_object_is_read(tmp_path: Path) -> None:
    """As KLUE's sentence similarity has it."""
    found = [
        {"sentence1": a, "sentence2": b, "labels": {"real-label": 1.5, "binary-label": n % 2}}
        for n, (a, b, _) in enumerate(rows(6))
    ]
    (tmp_path / "a.json").write_text(json.dumps(found), encoding="utf-8")
    text = ["sentence1", "sentence2"]
    train = load(files_config(tmp_path, "a.json", text=text, label="labels.binary-label")).train
    assert train.labels == ["0", "1"] * 3


def test_equal_pairs_stand_in_one_part(tmp_path: Path) -> None:
    """One premise may stand in both, with another hypothesis."""
    table = [
        ("영화가 좋다", f"{second} {n}", label) for n, (_, second, label) in enumerate(rows(80))
    ]
    write(tmp_path / "a.csv", [*table, *table])
    text = ["premise", "hypothesis"]
    found = load_splits(files_config(tmp_path, "a.csv", text=text, label="gold_label"))
    train, validation = set(texts_of(found.train)), set(texts_of(found.validation))
    assert train and validation and not train & validation


def test_pairs_are_encoded_as_the_tokenizer_does(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows(80))
    text = ["premise", "hypothesis"]
    split = load_splits(files_config(tmp_path, "a.csv", text=text, label="gold_label"))
    tokenizer = train_wordpiece([w for row in rows(80) for w in row[:2]], 200, 64)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    found = tokenise(split.train, tokenizer, 7)
    expected = tokenizer(
        *map(list, zip(*texts_of(split.train), strict=True)), truncation=True, max_length=7
    )
    assert found.rows["input_ids"][:] == expected["input_ids"]
    assert found.rows["token_type_ids"][:] == expected["token_type_ids"]
    assert max(map(max, expected["token_type_ids"])) == 1 and max(found.wholes) > 7


@pytest.mark.parametrize("text", ["[a]", "[a,b,c]", "[a,a]"])
def test_other_numbers_of_columns_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.text"):
        composed("data=files", "data.train=a.csv", f"data.text={text}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write(folder / "train.tsv", rows(600))
    write(folder / "test.tsv", rows(40))
    files = (f"data.path={folder}", "data.train=train.tsv", "data.test=test.tsv")
    short = ("rounds=1", "finetune.dense_epochs=20", "finetune.batch_size=32", "device=cpu")
    options = ("data=files", *files, *NLI, *SMALL_MODEL, *short, "model.hidden=32")
    experiment(composed(*options, "finetune.dense_learning_rate=5e-3"), folder / "run", [])
    return folder / "run"


def test_a_run_learns_which_text_says_it(run: Path) -> None:
    assert read_rounds(run)[0]["test_accuracy"] > 0.9
    assert read_facts(run)["config"]["data.text"] == ["premise", "hypothesis"]


def test_pipeline_serves_pairs_as_they_were_measured(run: Path) -> None:
    """token_type_ids included: without them, other labels come out."""
    serve = pipeline("text-classification", model=str(run / "checkpoint"), device="cpu")
    with (run / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    asked = [{"text": row["text"], "text_pair": row["text_pair"]} for row in found]
    assert [answer["label"] for answer in serve(asked)] == [row["pruned"] for row in found]
    tokenizer = AutoTokenizer.from_pretrained(run / "checkpoint")
    model = AutoModelForSequenceClassification.from_pretrained(run / "checkpoint")
    inputs = tokenizer([tuple(pair.values()) for pair in asked], padding=True, return_tensors="pt")
    with torch.inference_mode():
        typed = model(**inputs).logits
        untyped = model(inputs["input_ids"], inputs["attention_mask"]).logits
    assert not torch.allclose(typed, untyped)


def test_predict_takes_pairs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["영화가 좋다 1", "음악이 싫다", "영화가 싫다 1", "음악이 좋다"]
    predict([str(run), "--pair", *texts])
    labels = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert labels == ["entailment", "contradiction"]
    file = run.parent / "test.tsv"
    out = tmp_path / "out.csv"
    predict([str(run), "--file", str(file), "--text", "premise,hypothesis", "--out", str(out)])
    with out.open(encoding="utf-8-sig", newline="") as content:
        said = [(row["text"], row["text_pair"], row["label"]) for row in csv.DictReader(content)]
    with (run / "predictions.csv").open(encoding="utf-8-sig", newline="") as content:
        known = [(r["text"], r["text_pair"], r["pruned"]) for r in csv.DictReader(content)]
    assert said == known


def test_evaluate_gives_the_runs_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate([str(run), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(read_rounds(run)[-1]["test_accuracy"])
    assert found["rows"] == 40


def test_texts_that_are_no_pairs_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match="was trained on pairs"):
        predict([str(run), "비가 온다"])
    with pytest.raises(ConfigError, match="two by two, and these are 3"):
        predict([str(run), "--pair", "a", "b", "c"])


def test_report_and_card_show_both_texts(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    card = (run / "checkpoint/README.md").read_text(encoding="utf-8")
    assert "text_pair" in card and "Pairs of texts" in card
    changed = "Right before, wrong now" in page or "Wrong before, right now" in page
    assert not changed or "second text" in page
