"""`pruneloop predict` and `pruneloop evaluate`: what people do with a checkpoint next."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support import SMALL, TRAIN_LINE, composed, experiment, read_facts, read_rounds

from pruneloop.command.verbs import evaluate, predict
from pruneloop.errors import CheckpointError, ConfigError, EnvironmentFault, InputError

TEXTS = ("정말 재미있는 영화였다", "돈이 아까운 최악의 영화")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs") / "run"
    experiment(composed(*SMALL), folder, [])
    return folder


@pytest.fixture(scope="module")
def labelled(run: Path) -> Path:
    """The run's test rows as a file of somebody's own."""
    with (run / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    path = run.parent / "own.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("review", "label"), *rows])
    return path


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


# -- predict ------------------------------------------------------------------------------------


def test_predict_says_what_pipeline_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import pipeline

    predict([str(run), *TEXTS, "--json"])
    found = [json.loads(line) for line in printed(capsys).splitlines()]
    serve = pipeline("text-classification", model=str(run / "checkpoint"), device="cpu")
    for text, row, said in zip(TEXTS, found, serve(list(TEXTS)), strict=True):
        assert (row["text"], row["label"]) == (text, said["label"])
        assert row["probability"] == pytest.approx(said["score"], abs=1e-5)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_predict_takes_the_run_or_its_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict([str(run), *TEXTS])
    first = printed(capsys)
    predict([str(run / "checkpoint"), *TEXTS])
    assert printed(capsys) == first and len(first.splitlines()) == 2


def test_predict_writes_a_file_that_spreadsheets_read(
    run: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of its rows, with a row for those without a text; the run's predictions."""
    lines = labelled.read_text(encoding="utf-8").splitlines()
    file, out = tmp_path / "in.csv", tmp_path / "out.csv"
    file.write_text("\n".join([*lines, ",positive"]) + "\n", encoding="utf-8")
    predict([str(run), "--file", str(file), "--text", "review", "--out", str(out)])
    assert "without a text 1" in printed(capsys)
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")
    with out.open(encoding="utf-8-sig", newline="") as content:
        found = list(csv.DictReader(content))
    with (run / "predictions.csv").open(encoding="utf-8-sig", newline="") as content:
        known = [(row["text"], row["pruned"]) for row in csv.DictReader(content)]
    assert [(row["text"], row["label"]) for row in found] == [*known, ("", "")]


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["--text", "review"], ConfigError, "names a column of --file"),
        (["--file", "no.csv"], InputError, "no.csv: no such file"),
        (["--json", "--out", "a.csv", "글"], ConfigError, "give one of the two"),
        (["--out", "no/a.csv", "글"], EnvironmentFault, "there is no folder no"),
        (["  "], InputError, "holds no text"),
        (["--pair", "글"], ConfigError, "two by two"),
        (["--pair", "글", "글"], InputError, "trained on single texts"),
        (["\ud83d"], InputError, "no valid Unicode"),
        (["--colour", "글"], ConfigError, "unrecognized arguments"),
    ],
)
def test_predict_refuses_in_one_line(run: Path, words: list[str], error: type, said: str) -> None:
    with pytest.raises(error, match=said) as found:
        predict([str(run), *words])
    assert "\n" not in str(found.value)


@pytest.mark.more
def test_lines_are_read_of_standard_input(run: Path) -> None:
    """A real process, which begins to answer without what only training needs."""
    found = subprocess.run(
        [*TRAIN_LINE, "predict", str(run)],
        input="\r\n".join(TEXTS) + "\n",
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert [line.split("  ")[-1] for line in found.stdout.splitlines()] == list(TEXTS)


# -- evaluate -----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["test", "validation"])
def test_evaluate_gives_the_runs_own_figures(
    run: Path, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate([str(run), "--json", "--split", split])
    found, last = json.loads(printed(capsys)), read_rounds(run)[-1]
    name = {"test": "test_", "validation": ""}[split]
    assert found["accuracy"] == pytest.approx(last[f"{name}accuracy"])
    assert found["macro_f1"] == pytest.approx(last[f"{name}macro_f1"])
    assert found["rows"] == read_facts(run)["data"]["rows"][split]
    assert sum(map(sum, found["confusion"])) == found["rows"]
    low, high = found["accuracy_95"]
    assert low < found["accuracy"] < high


def test_evaluate_takes_other_data(
    run: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=files", f"data.test={labelled}", "data.text=review"]
    evaluate([str(run / "checkpoint"), *words, "--json"])
    found = json.loads(printed(capsys))
    assert found["accuracy"] == pytest.approx(read_rounds(run)[-1]["test_accuracy"])
    evaluate([str(run), *words])
    table = printed(capsys)
    assert "macro-F1" in table and "95 % interval" in table and "negative" in table


def test_labels_that_the_checkpoint_lacks_are_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n좋다,great\n싫다,negative\n", encoding="utf-8")
    with pytest.raises(InputError, match="it has no great"):
        evaluate([str(run), "data=files", f"data.test={tmp_path / 'a.csv'}"])


@pytest.mark.parametrize("words", [["rounds=3"], ["model.name=x"], ["hello"]])
def test_evaluate_takes_words_of_the_data_alone(run: Path, words: list[str]) -> None:
    with pytest.raises(ConfigError, match="only data="):
        evaluate([str(run), *words])


# -- both ---------------------------------------------------------------------------------------


def commands(folder: Path) -> list[tuple]:
    return [(predict, [str(folder), "글"]), (evaluate, [str(folder)])]


def test_a_folder_without_a_checkpoint_is_said_to_be_none(tmp_path: Path) -> None:
    for verb, words in commands(tmp_path):
        with pytest.raises(InputError, match="neither a checkpoint"):
            verb(words)


def test_a_checkpoint_that_was_changed_is_exit_4(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = tmp_path / "run/checkpoint/model.safetensors"
    tensors = load_file(weights)
    tensors["classifier.bias"] += 1
    save_file(tensors, weights, {"format": "pt"})
    for verb, words in commands(tmp_path / "run"):
        with pytest.raises(CheckpointError, match="delete its manifest"):
            verb(words)


def test_a_model_that_was_never_trained_to_classify_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "checkpoint", tmp_path / "run")
    (tmp_path / "run/manifest.json").unlink()
    weights = tmp_path / "run/model.safetensors"
    tensors = {k: v for k, v in load_file(weights).items() if not k.startswith("classifier")}
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(InputError, match=r"no trained classifier; it lacks classifier\.bias"):
        predict([str(tmp_path / "run"), "글"])


@pytest.mark.more
def test_a_reader_that_has_enough_is_no_error(run: Path) -> None:
    line = [*TRAIN_LINE, "predict", str(run), *TEXTS * 400]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, b"")


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (predict, evaluate):
        with pytest.raises(SystemExit) as stop:
            verb(["--help"])
        assert stop.value.code == 0
        assert f"pruneloop {verb.__name__} outputs/DATE/TIME" in printed(capsys)
