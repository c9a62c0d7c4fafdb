"""`pruneloop deploy`: a folder that is served without torch says what the checkpoint says."""

import csv
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement
from support import BUDGET, ROOT, composed, experiment, read_rounds, small_bert, small_classifier

from pruneloop.command import verbs
from pruneloop.data import sample
from pruneloop.deployed import load
from pruneloop.deployment import making
from pruneloop.deployment.figures import Accuracy, Figures, choose, table
from pruneloop.deployment.making import Wish, deploy
from pruneloop.deployment.timing import medians, text_of
from pruneloop.deployment.trial import Rows
from pruneloop.deployment.writing import check_deployable
from pruneloop.durable import seal_folder
from pruneloop.errors import CheckpointError, ConfigError, EnvironmentFault, InputError
from pruneloop.exports import onnx_files
from pruneloop.exports.smaller import size, without_units
from pruneloop.measurement import LabelledRows
from pruneloop.model.tokenizers import train_wordpiece
from pruneloop.prediction import TextClassifier
from pruneloop.pruning import Masks, prunable_weights
from pruneloop.records import RunFolder, read_deployed

SENTENCES = [text for text, _ in sample.generate(60, seed=3)]


def classifier(pairs: bool = False, family: str = "Bert") -> TextClassifier:
    tokenizer = train_wordpiece(SENTENCES, vocab_size=300, max_length=64)
    model = small_classifier(family, vocab_size=len(tokenizer)).eval()
    return TextClassifier(model, tokenizer, ["나쁨", "좋음"], 64, pairs)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


# -- without onnxruntime -------------------------------------------------------------------


def test_the_first_that_loses_no_more_is_chosen() -> None:
    tried = [("a", 0.88), ("b", 0.90), ("c", 0.91)]
    assert choose(0.91, 0.01, tried) == "b"
    assert choose(0.91, 0.0, tried) == "c"
    assert choose(0.91, 0.05, tried) == "a"
    assert choose(0.95, 0.01, tried) is None


@pytest.mark.parametrize(
    ("seven", "eight", "wish", "opened", "kept", "said"),
    [
        (0.895, 0.9, Wish(), "model.int8.onnx", "7", "-0.50 points on validation, within"),
        (0.88, 0.9, Wish(), "model.int8.onnx", "8", "in the full range of 8 bits: +0.00 points"),
        (0.88, 0.87, Wish(), "model.onnx", "7", "int8 has -2.00 points on validation, beyond"),
        (0.0, 0.895, Wish(full_range=True), "model.int8.onnx", "8", "-0.50 points"),
        (0.9, 0.88, Wish(full_range=True), "model.onnx", "8", "-2.00 points"),
        (0.895, 0.9, Wish(max_drop=0), "model.int8.onnx", "8", "--max-drop 0;"),
        (0.5, 0.9, Wish(int8=True), "model.int8.onnx", "7", "-40.00 points on validation against"),
    ],
)
def test_int8_falls_back_to_8_bits_and_then_to_float(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seven: float,
    eight: float,
    wish: Wish,
    opened: str,
    kept: str,
    said: str,
) -> None:
    def write(source: Path, target: Path, full_range: bool = False) -> None:
        target.write_text("8" if full_range else "7")

    def judge(name: str) -> SimpleNamespace:
        return SimpleNamespace(accuracy={"7": seven, "8": eight}[(tmp_path / name).read_text()])

    monkeypatch.setattr(making, "write_int8", write)
    trial = SimpleNamespace(folder=tmp_path, judge=judge)
    name, worth, why = making._choose_int8(trial, SimpleNamespace(accuracy=0.9), wish)
    assert (name, (tmp_path / "model.int8.onnx").read_text()) == (opened, kept)
    assert worth.accuracy == {"7": seven, "8": eight}[kept]
    assert why.startswith(f"runner.py opens {opened}") and said in why
    assert [path.name for path in tmp_path.iterdir()] == ["model.int8.onnx"]


def test_the_table_gives_ratios_to_the_checkpoint() -> None:
    share = Accuracy(rows=10, accuracy=0.9, low=0.6, high=0.98)
    same = {"validation": share, "test": share}
    lines = table(
        [
            Figures(
                file="checkpoint",
                parameters=2000,
                bytes=8_000_000,
                milliseconds={"32": 100.0, "64": 6.0},
                changed=0.0,
                **same,
            ),
            Figures(
                file="model.int8.onnx",
                parameters=1000,
                bytes=2_000_000,
                milliseconds={"32": 20.0, "64": 1.5},
                changed=0.0125,
                **same,
            ),
        ],
        "model.int8.onnx",
    )
    assert [line.split()[0] for line in lines[1:]] == ["checkpoint", "model.int8.onnx"]
    for words in ("*", "1,000", "2.0", "0.250", "20.0 (5.00x)", "1.50 (4.00x)", "1.25%"):
        assert words in lines[2]
    assert "0.9000 (0.6000 to 0.9800)" in lines[1] and "ms at 32" in lines[0]


def test_medians_take_turns() -> None:
    order: list[str] = []
    found = medians({name: lambda name=name: order.append(name) for name in "ab"}, runs=3)
    assert order == list("ababababab") and set(found) == {"a", "b"}


@pytest.mark.parametrize("tokens", [8, 32, 64])
def test_a_text_of_so_many_tokens_is_made_of_real_ones(tokens: int) -> None:
    tokenizer = classifier().tokenizer
    text = text_of(tokenizer, SENTENCES, tokens)
    assert len(tokenizer(text)["input_ids"]) == tokens and text.startswith(SENTENCES[0][:4])


def test_rows_are_thinned_evenly() -> None:
    rows = LabelledRows("data", "test", list("abcdefg"), list("0123456"))
    assert rows.thinned(7) == rows
    assert rows.thinned(3).texts == list("ace") and rows.thinned(3).labels == list("024")
    assert [len(rows.thinned(most).texts) for most in (1, 5, 6)] == [1, 5, 6]


def test_a_missing_extra_is_exit_5_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").touch()
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r'pip install "pruneloop\[deploy\]"') as error:
        verbs.deploy([str(tmp_path)])
    assert error.value.exit_code == 5


def test_a_tokenizer_without_a_fast_form_is_exit_3() -> None:
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(InputError, match="has no fast form") as error:
        check_deployable(TextClassifier(small_bert(), slow, ["a", "b"], 64))
    assert error.value.exit_code == 3


@pytest.mark.parametrize("share", ["-0.1", "1", "nan", "much"])
def test_a_drop_that_is_none_is_refused(tmp_path: Path, share: str) -> None:
    with pytest.raises(ConfigError, match=r"--max-drop"):
        verbs.deploy([str(tmp_path), f"--max-drop={share}"])


# -- with it -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells the labels apart, deployed with all that can be asked for."""
    folder = tmp_path_factory.mktemp("deploy") / "run"
    experiment(composed(*BUDGET, "rounds=1", "finetune.learning_rate=1e-3"), folder, [])
    verbs.deploy([str(folder), "--sparse-file", "--zstd"])
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A deploy/ of its own, which may be damaged."""
    return shutil.copytree(run / "deploy", tmp_path / "deploy")


def runner(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("runner", folder / "runner.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts_of(run: Path) -> list[str]:
    with (run / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


@pytest.mark.more
def test_the_runner_says_what_the_checkpoint_says(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classify = runner(run / "deploy").classify
    texts = texts_of(run)
    verbs.predict([str(run / "checkpoint"), *texts, "--json"])
    before = [json.loads(line) for line in printed(capsys)]
    verbs.predict([str(run / "deploy"), *texts, "--json"])
    deployed = [json.loads(line) for line in printed(capsys)]
    said = [classify(text) for text in texts]
    assert {label for label, _ in said} == {"negative", "positive"}
    assert [row["label"] for row in deployed] == [label for label, _ in said]
    assert [row["probability"] for row in deployed] == pytest.approx(
        [share for _, share in said], abs=1e-5
    )
    assert [row["probability"] for row in before] != [row["probability"] for row in deployed]
    apart = [
        abs(a["probability"] - b["probability"]) for a, b in zip(before, deployed, strict=True)
    ]
    assert max(apart) < 0.1
    long = " ".join(texts * 3)  # is cut as the checkpoint cuts it
    assert classify(long)[0] in ("negative", "positive")


@pytest.mark.more
def test_what_is_measured_is_what_evaluate_measures(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((run / "deploy/deploy.json").read_text(encoding="utf-8"))
    assert [row["file"] for row in facts["figures"]] == [
        *("checkpoint", "model.onnx", "model.int8.onnx")
    ]
    assert facts["model"] == "model.int8.onnx" and facts["logits_off"] < 1e-5
    before, fp32, int8 = facts["figures"]
    last = read_rounds(run)[-1]
    assert before["test"]["accuracy"] == pytest.approx(last["test_accuracy"])
    assert before["validation"]["accuracy"] == pytest.approx(last["accuracy"])
    assert fp32["test"] == before["test"] and fp32["changed"] == 0
    for split in ("test", "validation"):
        verbs.evaluate([str(run / "deploy"), "--json", "--split", split])
        (line,) = printed(capsys)
        assert json.loads(line)["accuracy"] == int8[split]["accuracy"]
    assert int8["bytes"] == (run / "deploy/model.int8.onnx").stat().st_size
    assert set(int8["milliseconds"]) == {"32", "64"}
    readme = (run / "deploy/README.md").read_text(encoding="utf-8")
    assert all(line in readme for line in [*facts["table"], *facts["notes"]])
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    assert all(line in page for line in [*facts["table"], *facts["notes"]])


@pytest.mark.more
def test_a_report_says_nothing_of_a_checkpoint_that_is_gone(run: Path, tmp_path: Path) -> None:
    """Such as when the run has gone on since it was deployed."""
    folder = RunFolder(shutil.copytree(run, tmp_path / "run"))
    assert read_deployed(folder)["model"] == "model.int8.onnx"
    (folder.checkpoint / "README.md").write_text("another")
    seal_folder(folder.checkpoint)
    assert read_deployed(folder) == {}


@pytest.mark.more
def test_the_folder_has_what_serving_needs_and_nothing_of_this_machine(run: Path) -> None:
    import zstandard

    folder = run / "deploy"
    names = {path.name for path in folder.iterdir()} - {"__pycache__"}
    assert names == {
        *("model.onnx", "model.int8.onnx", "model.int8.onnx.zst", "tokenizer.json", "labels.json"),
        *("runner.py", "README.md", "deploy.json", "model.sparse.safetensors", "load_sparse.py"),
        "manifest.json",
    }
    int8 = (folder / "model.int8.onnx").read_bytes()
    packed = (folder / "model.int8.onnx.zst").read_bytes()
    assert zstandard.ZstdDecompressor().decompress(packed) == int8 and len(packed) < len(int8)
    for name in ("model.onnx", "model.int8.onnx", "deploy.json", "README.md"):
        assert str(Path(torch.__file__).parent).encode() not in (folder / name).read_bytes()


@pytest.mark.more
def test_inspect_counts_the_zeros_of_the_sparse_file(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verbs.inspect([str(run / "checkpoint")])
    before = printed(capsys)
    verbs.inspect([str(run / "deploy")])
    assert sorted(printed(capsys)) == sorted(before)


@pytest.mark.more
@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        ("truncated", CheckpointError, "model.int8.onnx is damaged"),
        ("truncated, no manifest", InputError, "is no ONNX model that can be read"),
        ("empty, no manifest", InputError, "model.int8.onnx: "),
        ("text, no manifest", InputError, "is no ONNX model that can be read"),
        ("gone, no manifest", InputError, "model.int8.onnx: is not there"),
        ("foreign, no manifest", InputError, "is the ONNX file of another model; it takes ids"),
        ("labels, no manifest", InputError, "is the ONNX file of another model; it takes attent"),
        ("json, no manifest", InputError, "is not what pruneloop deploy has written"),
        ("keys, no manifest", InputError, "is not what pruneloop deploy has written"),
        ("tokenizer, no manifest", InputError, "is not what pruneloop deploy has written"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_line(
    copied: Path, damage: str, error: type, said: str
) -> None:
    what, _, no_manifest = damage.partition(",")
    model = copied / "model.int8.onnx"
    if what == "truncated":
        model.write_bytes(model.read_bytes()[:-1000])
    elif what == "empty":
        model.write_bytes(b"")
    elif what == "text":
        model.write_text("no model")
    elif what == "gone":
        model.unlink()
    elif what == "foreign":
        foreign(model)
    elif what == "labels":
        (copied / "labels.json").write_text('["a", "b", "c"]')
    elif what == "keys":
        (copied / "deploy.json").write_text('{"model": "model.onnx"}')
    else:
        (copied / f"{what.replace('json', 'deploy')}.json").write_text("{")
    if no_manifest:
        (copied / "manifest.json").unlink()
    with pytest.raises(error, match=said) as caught:
        load(copied)
    assert "\n" not in str(caught.value)


def foreign(path: Path) -> None:
    from onnx import TensorProto, helper, save

    of = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("ids", "scores")
    ]
    node = helper.make_node("Identity", ["ids"], ["scores"])
    graph = helper.make_graph([node], "other", of[:1], of[1:])
    opset = [helper.make_opsetid("", 20)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.mark.more
def test_deploying_again_takes_the_place_of_the_first(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = shutil.copytree(run, tmp_path / "run")
    (again / "deploy/stale.txt").touch()
    verbs.deploy([str(again / "checkpoint"), "--full-range"])
    lines = printed(capsys)
    assert lines[-1] == f"written: {again / 'deploy'}"
    # Which one depends on the processor: int8 over its full range is less exact without VNNI.
    assert sum(bool(re.match(r"model\.\S+ \*", line)) for line in lines) == 1
    names = {path.name for path in (again / "deploy").iterdir()}
    assert not names & {"stale.txt", "model.int8.onnx.zst", "load_sparse.py"}
    assert not list(again.glob(".*deploy*"))
    assert (again / "deploy/model.int8.onnx").read_bytes() != (
        run / "deploy/model.int8.onnx"
    ).read_bytes()


@pytest.mark.more
def test_a_smaller_checkpoint_is_compared_with_the_dense_model(tmp_path: Path) -> None:
    """Which is not there any more, but can be timed and weighed."""
    made = classifier()
    with torch.no_grad():
        made.model.bert.encoder.layer[0].output.dense.weight[:, 10:] = 0
    masks = Masks.from_zeros(prunable_weights(made.model, ["ffn"]))
    less = without_units(made.model, made.tokenizer, masks, SENTENCES[:4]).model
    less.save_pretrained(tmp_path / "checkpoint")
    rows = LabelledRows("data", "validation", SENTENCES, made.labels * 30)
    deployed = TextClassifier(less, made.tokenizer, made.labels, 64)
    deploy(deployed, tmp_path / "checkpoint", tmp_path / "deploy", Rows(rows, rows, None), Wish())
    facts = json.loads((tmp_path / "deploy/deploy.json").read_text(encoding="utf-8"))
    dense, checkpoint, *_ = facts["figures"]
    assert (dense["file"], checkpoint["file"]) == ("dense model", "checkpoint")
    assert dense["parameters"] == size(made.model) == checkpoint["parameters"] + 22 * 33
    assert dense["bytes"] == 4 * size(made.model) and dense["test"] is None
    assert set(dense["milliseconds"]) == set(checkpoint["milliseconds"]) == {"32", "64"}
    assert facts["table"][1].startswith("dense model") and facts["table"][1].endswith("-")


@pytest.mark.more
def test_pairs_are_served_as_pairs(tmp_path: Path) -> None:
    made = classifier(pairs=True)
    with torch.no_grad():
        made.model.classifier.weight.mul_(20)  # so that texts matter
    pairs = list(zip(SENTENCES[::2], SENTENCES[1::2], strict=True))
    labels = [made.labels[number % 2] for number in range(len(pairs))]
    rows = LabelledRows("data", "validation", pairs, labels)
    made.model.save_pretrained(tmp_path / "checkpoint")
    deploy(made, tmp_path / "checkpoint", tmp_path / "deploy", Rows(rows, rows, None), Wish())
    facts = json.loads((tmp_path / "deploy/deploy.json").read_text(encoding="utf-8"))
    (tmp_path / "deploy/deploy.json").write_text(json.dumps(facts | {"model": "model.onnx"}))
    (tmp_path / "deploy/manifest.json").unlink()
    module = runner(tmp_path / "deploy")
    known = made.logits(made.encode(pairs)).softmax(-1).max(-1)
    said = [module.classify(*pair) for pair in pairs]
    assert [share for _, share in said] == pytest.approx(known.values.tolist(), abs=1e-4)
    assert max(known.values) - min(known.values) > 0.02
    with pytest.raises(InputError, match="trained on pairs"):
        load(tmp_path / "deploy").encode(["하나"])


# -- in an environment of its own ------------------------------------------------------------


def needed(name: str, found: dict[str, Distribution]) -> Iterator[Distribution]:
    """Yield a package and all that it needs, each once."""
    if name not in found:
        found[name] = distribution(name)
        yield found[name]
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                yield from needed(requirement.name, found)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds onnxruntime and tokenizers alone."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    known: dict[str, Distribution] = {}
    for name in ("onnxruntime", "tokenizers"):
        for package in needed(name, known):
            for top in {Path(str(file)).parts[0] for file in package.files or []} - {".."}:
                if not (site / top).exists():
                    (site / top).symlink_to(Path(str(package.locate_file(top))))
    return folder / "bin/python"


@pytest.mark.more
def test_the_runner_needs_onnxruntime_and_tokenizers_alone(
    run: Path, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def said(*words: str) -> list[str]:
        line = [str(bare), *words]
        result = subprocess.run(
            line, capture_output=True, text=True, env=clean, cwd=ROOT.parent, check=True
        )
        assert result.stderr == ""
        return result.stdout.splitlines()

    modules = "import importlib.util as i; print(*[i.find_spec(m) for m in ('torch','pruneloop')])"
    assert said("-c", modules) == ["None None"]
    texts = texts_of(run)[:3]
    verbs.predict([str(run / "deploy"), *texts])
    known = [line.split("  ") for line in printed(capsys)]
    found = [line.split("\t") for line in said(str(run / "deploy/runner.py"), *texts)]
    assert [row[0] for row in found] == [row[0] for row in known]
    assert [float(row[1]) for row in found] == pytest.approx([float(r[1]) for r in known], abs=1e-3)
    (pair,) = said(str(run / "deploy/runner.py"), "--pair", *texts[:2])
    assert pair.split("\t")[2:] == texts[:2]
    assert sys.executable != str(bare)
