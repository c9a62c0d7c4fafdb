"""Files and values that mean harm: nothing of them runs, leaves the folder, or leaks."""

import ast
import json
import os
import pickle
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import INSPECT_LINE, ROOT, SMALL, SMALL_DATA, Environment, Life, small_bert

from pruneloop.config import PretrainedModel, Tokenizer, known_keys
from pruneloop.errors import InputError
from pruneloop.model.build import build
from pruneloop.model.tokenizers import train_wordpiece
from pruneloop.prediction import labels_of, load_classifier

SOURCES = sorted((ROOT / "src").rglob("*.py"))


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    life = Life(folder, *SMALL, "hydra.run.dir=run")
    assert life.wait() == 0, life.errors
    return folder / "run/checkpoint"


def prune(folder: Path, model: Path) -> Life:
    short = ("rounds=1", "device=cpu", "finetune.epochs=1", "finetune.dense_epochs=1")
    more = ("model=pretrained", f"model.name={model}", "hydra.run.dir=run")
    life = Life(folder, *SMALL_DATA, *short, *more)
    life.wait()
    return life


def test_the_pickle_runs_code_where_it_is_let(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def copied(checkpoint: Path, target: Path) -> Path:
    target.mkdir()
    for path in checkpoint.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_pickled_checkpoint_runs_no_code(checkpoint: Path, tmp_path: Path) -> None:
    model = copied(checkpoint, tmp_path / "model")
    (model / "model.safetensors").unlink()
    torch.save({"classifier.bias": Evil(tmp_path / "mark")}, model / "pytorch_model.bin")
    assert prune(tmp_path, model).wait() == 3
    result = subprocess.run([*INSPECT_LINE, str(model)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 3 and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "mark").exists()


def test_code_beside_a_model_does_not_run(checkpoint: Path, tmp_path: Path) -> None:
    model = copied(checkpoint, tmp_path / "model")
    (model / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    config = json.loads((model / "config.json").read_text())
    parts = ("AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer")
    config["auto_map"] = dict.fromkeys(parts, "evil.Evil")
    (model / "config.json").write_text(json.dumps(config))
    prune(tmp_path, model)
    assert not (tmp_path / "mark").exists()


HERE = {"revision": None, "tokenizer": Tokenizer.auto, "max_length": 32}


def built(model: Path) -> None:
    build(PretrainedModel(name=str(model), **HERE), ["a", "b"], [], 0)


# Whoever reads a checkpoint: training; predict, evaluate and teachers; a given classifier.
readers = pytest.mark.parametrize("read", [built, load_classifier, labels_of])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound model, with code beside it; whoever asks on stdin fails."""
    folder = tmp_path / "model"
    tokenizer = train_wordpiece(["좋은 영화", "나쁜 영화"] * 9, vocab_size=50, max_length=64)
    small_bert().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on stdin"))
    return folder


def changed(file: Path, **settings: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@readers
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}},
            r"model_type evil needs the code that comes with it \(auto_map\), which is never run",
        ),
        ({"model_type": "evil"}, "cannot be loaded"),
        (
            {"attn_implementation": "kernels-community/flash-attn"},
            r"names a kernel \(attn_implementation=kernels-community/flash-attn\)",
        ),
        ({"_attn_implementation": "someone/evil:Evil"}, "names a kernel"),
        ({"text_config": {"attn_implementation": {"": "a/b"}}}, "names a kernel"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "it is quantised"),
    ],
)
def test_code_kernels_and_quantisers_in_a_config_are_refused(
    model: Path, settings: dict[str, object], says: str, read: Callable[[Path], object]
) -> None:
    changed(model / "config.json", **settings)
    with pytest.raises(InputError, match=says) as caught:
        read(model)
    assert len(str(caught.value).splitlines()) == 1
    assert not (model.parent / "mark").exists()


def test_a_classifier_that_can_read_no_text_is_refused(model: Path) -> None:
    small_bert(type_vocab_size=0).save_pretrained(model)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_classifier(model)


@readers
def test_an_adapter_is_refused(model: Path, read: Callable[[Path], object]) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "some/one"}')
    with pytest.raises(InputError, match=r"an adapter \(adapter_config\.json\)"):
        read(model)


def test_the_code_of_a_tokenizer_does_not_run(model: Path, tmp_path: Path) -> None:
    names = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    changed(model / "tokenizer_config.json", tokenizer_class="Evil", auto_map=names)
    words = build(PretrainedModel(name=str(model), **HERE), ["a", "b"], [], 0).tokenizer
    words.save_pretrained(tmp_path / "again")
    assert "evil" not in (tmp_path / "again/tokenizer_config.json").read_text().lower()
    assert not (tmp_path / "mark").exists()


def test_code_that_a_known_model_names_does_not_travel_on(model: Path, tmp_path: Path) -> None:
    changed(model / "config.json", auto_map={"AutoConfig": "evil.Evil"})
    made = build(PretrainedModel(name=str(model), **HERE), ["a", "b"], [], 0)
    made.model.save_pretrained(tmp_path / "again")
    assert "evil" not in (tmp_path / "again/config.json").read_text()
    assert not (tmp_path / "mark").exists()


@readers
@pytest.mark.parametrize(
    "shard", ["../other.safetensors", "/etc/other", "deep/../../other", "..\\x"]
)
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_shards_never_leave_the_folder(
    model: Path, shard: str, index: str, read: Callable[[Path], object]
) -> None:
    (model / "model.safetensors").rename(model.parent / "other.safetensors")
    (model / index).write_text(json.dumps({"metadata": {}, "weight_map": {"x": shard}}))
    with pytest.raises(InputError, match=f"{index} names a file outside the folder"):
        read(model)


def test_there_is_no_key_that_trusts_code(tmp_path: Path) -> None:
    assert not any("trust" in key for key in known_keys())
    life = Life(tmp_path, "+model.trust_remote_code=true")
    assert life.wait() == 2 and "unknown key" in life.errors


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_in_the_source_executes_data(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "instantiate", "os.system"}
            if called == "subprocess.run":  # of a program by its name, without a shell
                assert isinstance(node.args[0].elts[0], ast.Constant)
                assert not any(keyword.arg == "shell" for keyword in node.keywords)
            else:
                assert not called.startswith(("pickle.", "subprocess.", "marshal.", "shelve."))
            if called == "torch.load":
                assert "weights_only=True" in ast.unparse(node)
            if re.fullmatch(r"Auto\w+\.from_(pretrained|config)", called):
                # Where it is left out, transformers asks on stdin.
                assert "trust_remote_code=False" in ast.unparse(node)
            assert "trust_remote_code=True" not in ast.unparse(node)


@pytest.mark.more
def test_values_with_dots_and_a_token_stay_inside(tmp_path: Path) -> None:
    """Labels, names and texts that look like paths, and a token in the environment."""
    rows = [("../../../evil", "좋은 영화 <script>"), ("/etc/evil", "나쁜 영화 ../..")] * 30
    (tmp_path / "data.csv").write_text(
        "label,text\n" + "".join(f"{a},{b} {i}\n" for i, (a, b) in enumerate(rows))
    )
    token = "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"
    before = {*tmp_path.iterdir()}

    life = Life(
        tmp_path,
        *SMALL[2:],
        "data=files",
        "data.train=data.csv",
        "hydra.run.dir=run",
        "hydra.job.name=../../evil",
        before=Environment(HF_TOKEN=token, HOME=str(tmp_path / "home")),
    )
    assert life.wait() == 0, life.errors
    made = {path.name for path in {*tmp_path.iterdir()} - before}
    assert made <= {"run", "home", "stdout.txt", "stderr.txt"}
    assert not list(tmp_path.parent.glob("evil*"))
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert token.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x._target_=pathlib.Path.touch",
        "+hydra.callbacks={x:{_target_:pathlib.Path.touch}}",
        "hydra.launcher._target_=pathlib.Path.touch",
        "++hydra.sweeper={_target_:pathlib.Path.touch}",
        "hydra={callbacks:{x:{_target_:pathlib.Path.touch}}}",
        "hydra.job_logging.handlers.console.class=pathlib.Path",
        "hydra.output_subdir=../../evil",
        "~hydra.callbacks",
        "hydra.sweep.subdir=../../evil",
        'hydra.sweep.subdir="/evil"',
        "+x={_target_:pathlib.Path.touch,self:evil}",
        "hydra.searchpath=[pkg://evil]",
        "--experimental-rerun=evil.pickle",
    ],
)
def test_no_override_names_code_or_leaves_the_folder(tmp_path: Path, override: str) -> None:
    (tmp_path / "here").mkdir()
    life = Life(tmp_path / "here", *SMALL, override)
    assert life.wait() == 2, life.errors
    (line,) = life.errors.splitlines()
    assert override.lstrip("+~").split("=")[0] in line
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"stdout.txt", "stderr.txt"}


def test_a_column_may_be_called_anything(tmp_path: Path) -> None:
    """`_target_` inside a longer word names no code."""
    (tmp_path / "rows.csv").write_text("text,the_target_label\n")
    life = Life(tmp_path, "data=files", "data.train=rows.csv", "data.label=the_target_label")
    assert life.wait() == 3 and "no row with a text" in life.errors


def test_hydras_own_help_still_works(tmp_path: Path) -> None:
    life = Life(tmp_path, "--cfg", "hydra", "hydra.verbose=true", "hydra.sweeper.max_batch_size=1")
    assert life.wait() == 0, life.errors
    assert "max_batch_size: 1" in life.output
