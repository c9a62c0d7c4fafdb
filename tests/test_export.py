"""The permanent checkpoint: plain transformers loads it, and a false one never appears."""

import json
import os
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import small_bert, small_classifier
from tokenizers import Tokenizer
from torch.nn.utils import prune
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertTokenizer,
    PreTrainedTokenizerBase,
    pipeline,
)

from pruneloop.config import PretrainedModel
from pruneloop.config import Tokenizer as TokenizerChoice
from pruneloop.data import sample
from pruneloop.errors import EnvironmentFault, InvariantError
from pruneloop.exports.checkpoint import export
from pruneloop.model.build import build
from pruneloop.model.tokenizers import add_nfc, load_tokenizer, train_wordpiece
from pruneloop.pruning import GlobalL1, Masks, prunable_weights

TEXTS = [text for text, _ in sample.generate(200, seed=0)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_wordpiece(TEXTS, vocab_size=300, max_length=64)


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerBase) -> BertForSequenceClassification:
    labels = {"id2label": {0: "부정", 1: "긍정"}, "label2id": {"부정": 0, "긍정": 1}}
    return small_bert(vocab_size=len(tokenizer), **labels)


@pytest.fixture
def masks(model: BertForSequenceClassification) -> Masks:
    """The masks of a model that has just lost 40 % of its encoder."""
    weights = prunable_weights(model)
    masks, method = Masks.dense(weights), GlobalL1()
    masks = method.prune(weights, masks, [round(0.4 * masks.prunable)])
    masks.zero_weights(weights)
    return masks


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_plain_transformers_loads_it(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
) -> None:
    target = tmp_path / "checkpoint"
    export(model, tokenizer, masks, target, TEXTS[:20], "# card\n")
    reloaded = AutoModelForSequenceClassification.from_pretrained(target)
    words = AutoTokenizer.from_pretrained(target)
    assert reloaded.state_dict().keys() == model.state_dict().keys()
    assert all(
        torch.equal(w, model.state_dict()[name]) for name, w in reloaded.state_dict().items()
    )
    assert words(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    classify = pipeline("text-classification", model=str(target), device="cpu")
    inputs = tokenizer(TEXTS[:4], return_tensors="pt", padding=True)
    best = model.eval()(**inputs).logits.argmax(dim=-1).tolist()
    assert [found["label"] for found in classify(TEXTS[:4])] == [["부정", "긍정"][i] for i in best]


def test_the_zeros_are_positive_and_where_the_masks_say(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
) -> None:
    export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:20], "# card\n")
    saved = load_file(tmp_path / "checkpoint/model.safetensors")
    assert masks.zeros > 500
    for name, mask in masks.items():
        assert torch.equal(saved[name] == 0, ~mask), name
        assert not torch.signbit(saved[name][~mask]).any(), name


def test_files_have_the_mode_of_the_umask(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
    umask: int,
) -> None:
    export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:5], "# card\n")
    files = list((tmp_path / "checkpoint").iterdir())
    assert {path.name for path in files} >= {"model.safetensors", "config.json", "tokenizer.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}
    assert stat.S_IMODE((tmp_path / "checkpoint").stat().st_mode) == 0o777 & ~umask


def test_a_second_export_takes_the_place_of_the_first(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
) -> None:
    target = tmp_path / "checkpoint"
    target.mkdir()
    (target / "old.txt").touch()
    export(model, tokenizer, masks, target, TEXTS[:5], "# card\n")
    assert not (target / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_live_torch_masks_do_not_pass(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
) -> None:
    """Such a checkpoint has `weight_orig` and reloads with random weights instead."""
    query = model.bert.encoder.layer[0].attention.self.query
    prune.l1_unstructured(query, "weight", amount=0.5)
    with pytest.raises(InvariantError, match=r"missing_keys: .*query\.weight"):
        export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:5], "# card\n")
    assert not (tmp_path / "checkpoint").exists()


QUERY = "bert.encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize(
    ("name", "pruned", "message"),
    [
        (QUERY, True, "a pruned weight is not zero"),
        (QUERY, False, "other logits"),
        ("classifier.bias", False, "other logits"),
        # The row of [MASK], which no text has: the logits do not show it.
        ("bert.embeddings.word_embeddings.weight", False, "word_embeddings"),
    ],
)
def test_a_weight_that_was_saved_wrongly_is_found(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    pruned: bool,
    message: str,
) -> None:
    save = BertForSequenceClassification.save_pretrained

    def save_wrongly(self: BertForSequenceClassification, folder: Path) -> None:
        save(self, folder)
        weights = load_file(folder / "model.safetensors")
        flat = weights[name].view(-1)
        kept = masks[name].view(-1) if name in masks else torch.ones_like(flat, dtype=torch.bool)
        row = tokenizer.mask_token_id * 16 if "embeddings" in name else 0
        place = row + int((kept[row:] ^ pruned).nonzero()[0])
        flat[place] += 0.5
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(BertForSequenceClassification, "save_pretrained", save_wrongly)
    with pytest.raises(InvariantError, match=message):
        export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:20], "# card\n")
    assert not (tmp_path / "checkpoint").exists()


def test_a_failing_export_leaves_the_last_one_alone(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
) -> None:
    target = tmp_path / "checkpoint"
    export(model, tokenizer, masks, target, TEXTS[:5], "# card\n")
    before = (target / "model.safetensors").read_bytes()
    with torch.no_grad():
        model.get_parameter(QUERY).fill_(1.0)
    with pytest.raises(InvariantError, match="a pruned weight is not zero"):
        export(model, tokenizer, masks, target, TEXTS[:5], "# card\n")
    assert (target / "model.safetensors").read_bytes() == before


def test_a_tokenizer_that_was_saved_wrongly_is_found(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = train_wordpiece(["전혀 다른 글"], vocab_size=100, max_length=64)
    monkeypatch.setattr(tokenizer, "save_pretrained", other.save_pretrained)
    with pytest.raises(InvariantError, match="tokenizer gives other ids"):
        export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:5], "# card\n")
    assert not (tmp_path / "checkpoint").exists()


def test_too_little_space_is_said_before_anything_is_written(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(EnvironmentFault, match="needed, 10 free"):
        export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:5], "# card\n")
    assert not list(tmp_path.iterdir())


# -- the tokenizer that goes with it -----------------------------------------------------


def test_the_saved_tokenizer_is_of_no_class_that_only_one_version_knows(
    model: BertForSequenceClassification, masks: Masks, tmp_path: Path
) -> None:
    """Transformers 4 knows no TokenizersBackend, and its list of extra tokens as no list."""
    tokenizer = train_wordpiece(TEXTS, vocab_size=298, max_length=64)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<e1>", "<e2>"]})
    export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:5], "# card\n")
    settings = json.loads((tmp_path / "checkpoint/tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["additional_special_tokens"] == ["<e1>", "<e2>"]
    assert "extra_special_tokens" not in settings and None not in settings.values()
    again = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    assert again("영화 <e1>")["input_ids"] == tokenizer("영화 <e1>")["input_ids"]
    assert again.all_special_tokens == tokenizer.all_special_tokens
    assert again.model_input_names == tokenizer.model_input_names


def test_a_tokenizer_of_bert_s_own_class_keeps_its_nfc(
    model: BertForSequenceClassification, masks: Masks, tmp_path: Path
) -> None:
    """Loaded again, such a class makes its normaliser anew, and NFC was lost."""
    words = train_wordpiece(TEXTS, vocab_size=300, max_length=64).get_vocab()
    source = tmp_path / "source"
    source.mkdir()
    (source / "vocab.txt").write_text("\n".join(sorted(words, key=words.__getitem__)) + "\n")
    theirs = BertTokenizer.from_pretrained(source, do_lower_case=False, strip_accents=False)
    theirs.save_pretrained(source)
    model.save_pretrained(source)
    tokenizer = load_tokenizer(str(source))
    assert tokenizer(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
    add_nfc(tokenizer)
    export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:5], "# card\n")
    again = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    apart = [unicodedata.normalize("NFD", text) for text in TEXTS]
    assert again(apart)["input_ids"] == theirs(TEXTS)["input_ids"] != theirs(apart)["input_ids"]
    load_tokenizer(str(tmp_path / "checkpoint")).save_pretrained(tmp_path / "again")
    for folder in (tmp_path / "checkpoint", tmp_path / "again"):
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        assert not settings.keys() & {"do_lower_case", "strip_accents", "max_length", "stride"}


def test_long_texts_are_cut_where_the_model_ends(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "checkpoint"
    export(model, tokenizer, masks, folder, TEXTS[:5], "# card\n")
    long = " ".join(TEXTS)
    assert len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(long)) == 64
    classify = pipeline("text-classification", model=str(folder), device="cpu", truncation=True)
    cut = tokenizer(long, truncation=True, max_length=64, return_tensors="pt")
    score = model.eval()(**cut).logits.softmax(-1).max().item()
    assert classify(long)[0]["score"] == pytest.approx(score, abs=1e-6)


# -- rows alone and in a batch ---------------------------------------------------------


@pytest.mark.parametrize(("family", "depends"), [("Bert", False), ("FNet", True), ("Yoso", True)])
def test_a_row_that_depends_on_its_batch_is_said(
    family: str,
    depends: bool,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = small_classifier(family, vocab_size=len(tokenizer))
    masks = Masks.dense(prunable_weights(model))
    export(model, tokenizer, masks, tmp_path / "checkpoint", TEXTS[:8], "# card\n")
    said = "the result of a text depends on the others in its batch"
    assert (said in caplog.text) == depends
    card = (tmp_path / "checkpoint/README.md").read_text()
    assert card.startswith("# card\n") and (said[1:] in card) == depends


# -- every family ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    [
        *("Bert", "Roberta", "Electra", "DistilBert", "Albert", "DebertaV2", "XLMRoberta"),
        *("ModernBert", "BigBird", "Longformer", "XLNet"),
    ],
)
def test_a_family_loads_is_pruned_and_served_as_it_was_measured(
    family: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "checkpoint"
    small_classifier(family, vocab_size=len(tokenizer)).save_pretrained(source)
    tokenizer.save_pretrained(source)
    settings = {"revision": None, "tokenizer": TokenizerChoice.auto, "max_length": 128}
    made = build(PretrainedModel(name=str(source), **settings), ["부정", "긍정"], [], seed=0)
    weights = prunable_weights(made.model)
    masks, method = Masks.dense(weights), GlobalL1()
    masks = method.prune(weights, masks, [round(0.4 * masks.prunable)])
    masks.zero_weights(weights)
    export(made.model, made.tokenizer, masks, target, TEXTS[:8], "# card\n")

    reloaded, report = AutoModelForSequenceClassification.from_pretrained(
        target, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert Masks.from_zeros(prunable_weights(reloaded)).zeros == masks.zeros
    classify = pipeline("text-classification", model=str(target), device="cpu", truncation=True)
    batch = made.tokenizer(TEXTS[:4], return_tensors="pt", padding=True)
    best = made.model(**batch).logits.softmax(-1).max(-1)
    served = classify([*TEXTS[:4], " ".join(TEXTS)])
    assert [row["label"] for row in served[:4]] == [["부정", "긍정"][i] for i in best.indices]
    assert [row["score"] for row in served[:4]] == pytest.approx(best.values.tolist(), abs=1e-4)
