"""A classifier with its tokenizer: built small, or loaded with its traps."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from support import SHARED, needs_shared, small_bert
from transformers import BertForSequenceClassification

from pruneloop.config import PretrainedModel, TinyModel, Tokenizer
from pruneloop.data import sample
from pruneloop.data.tokenising import check_unknown, tokenise
from pruneloop.errors import EnvironmentFault, InputError
from pruneloop.model.build import Classifier, build, check_name
from pruneloop.model.tokenizers import train_wordpiece

TEXTS = [text for text, _ in sample.generate(300, seed=0)]
LABELS = ["부정", "긍정", "중립"]


def tiny(**changed: object) -> TinyModel:
    values = {
        "layers": 2,
        "hidden": 16,
        "heads": 4,
        "intermediate": 24,
        "vocab_size": 300,
        "dropout": 0.2,
        "max_length": 40,
    }
    return TinyModel(**(values | changed))


def pretrained(name: object, **changed: object) -> PretrainedModel:
    values = {"revision": None, "tokenizer": Tokenizer.auto, "max_length": 128}
    return PretrainedModel(name=str(name), **(values | changed))


def loaded(
    folder: Path, labels: list[str] = LABELS, seed: int = 0, **changed: object
) -> Classifier:
    return build(pretrained(folder, **changed), labels, [], seed)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model in bf16 with two labels of its own, 64 positions, and its tokenizer."""
    tokenizer = train_wordpiece(TEXTS, vocab_size=300, max_length=64)
    labels = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    model = small_bert(7, vocab_size=300, intermediate_size=24, **labels)
    folder = tmp_path / "saved"
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# -- tiny ----------------------------------------------------------------------------


def test_a_tiny_model_has_the_asked_shape() -> None:
    made = build(tiny(), LABELS, TEXTS, seed=0)
    shapes = {name: tuple(weight.shape) for name, weight in made.model.named_parameters()}
    assert shapes["bert.embeddings.word_embeddings.weight"] == (len(made.tokenizer), 16)
    assert shapes["bert.embeddings.position_embeddings.weight"] == (40, 16)
    assert shapes["bert.encoder.layer.1.intermediate.dense.weight"] == (24, 16)
    assert shapes["classifier.weight"] == (3, 16)
    assert not any(".layer.2." in name for name in shapes)
    config = made.model.config
    assert (config.num_attention_heads, config.hidden_dropout_prob) == (4, 0.2)
    assert made.max_length == made.tokenizer.model_max_length == 40


def test_a_tiny_model_knows_the_names_of_its_labels() -> None:
    config = build(tiny(), LABELS, TEXTS, seed=0).model.config
    assert config.id2label == {0: "부정", 1: "긍정", 2: "중립"}
    assert config.label2id == {"부정": 0, "긍정": 1, "중립": 2}


def test_the_seed_decides_the_random_weights() -> None:
    first, again, other = (build(tiny(), LABELS, TEXTS, seed).model for seed in (0, 0, 1))
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


# -- names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["/no/such/folder", "./nowhere", "../nowhere", "~/nowhere-at-all", "outputs/a/b", "a/b/c"],
)
def test_a_path_with_nothing_there_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        check_name(name)
    with pytest.raises(InputError, match="no such folder"):
        build(pretrained(name), LABELS, [], seed=0)


def test_a_name_that_is_empty_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"model\.name="):
        check_name("")


def test_a_folder_without_a_config_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        check_name(str(tmp_path))


@pytest.mark.parametrize("name", ["klue/bert-base", "bert-base-cased", "monologg/kobert"])
def test_a_hub_id_passes(name: str) -> None:
    check_name(name)


def test_a_saved_folder_passes(saved: Path) -> None:
    check_name(str(saved))


@pytest.mark.parametrize("tokenizer", list(Tokenizer))
def test_a_hub_id_without_a_network_is_an_environment_fault(tokenizer: Tokenizer) -> None:
    with pytest.raises(EnvironmentFault, match=r"model\.name=nobody/no-model.*offline") as caught:
        build(pretrained("nobody/no-model", tokenizer=tokenizer), LABELS, [], seed=0)
    assert caught.value.exit_code == 5


# -- pretrained ----------------------------------------------------------------------


def test_saved_bf16_weights_come_as_float32(saved: Path) -> None:
    made = loaded(saved)
    assert {weight.dtype for weight in made.model.parameters()} == {torch.float32}
    assert {weight.dtype for weight in made.model.buffers()} <= {torch.float32, torch.int64}
    original = BertForSequenceClassification.from_pretrained(saved)
    assert original.dtype == torch.bfloat16
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(made.model.get_parameter(name), original.get_parameter(name).float())


def test_a_head_for_other_labels_is_made_anew_from_the_seed(saved: Path) -> None:
    first, again, other = (loaded(saved, seed=seed).model for seed in (0, 0, 1))
    assert first.config.id2label == dict(enumerate(LABELS))
    assert first.classifier.weight.shape == (3, 16)
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_a_head_for_as_many_labels_is_kept(saved: Path) -> None:
    original = BertForSequenceClassification.from_pretrained(saved)
    made = loaded(saved, labels=["부정", "긍정"])
    assert torch.equal(made.model.classifier.weight, original.classifier.weight.float())
    assert made.model.config.id2label == {0: "부정", 1: "긍정"}


@pytest.mark.parametrize(
    ("asked", "tokenizer", "given"),
    [(128, 1e30, 64), (32, 1e30, 32), (128, 48, 48), (128, 512, 64)],
)
def test_the_length_is_what_model_and_tokenizer_allow(
    saved: Path, asked: int, tokenizer: float, given: int
) -> None:
    file = saved / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"model_max_length": int(tokenizer)}))
    made = loaded(saved, max_length=asked)
    assert (made.max_length, type(made.max_length)) == (given, int)
    assert made.tokenizer.model_max_length == min(int(tokenizer), 64)


def test_a_tokenizer_that_is_too_large_for_the_model_is_an_error(saved: Path) -> None:
    many = [chr(0xAC00 + n) for n in range(400)]
    train_wordpiece(many * 3, vocab_size=2000, max_length=64).save_pretrained(saved)
    with pytest.raises(InputError, match="embeddings only 300"):
        loaded(saved)


def test_a_tokenizer_without_padding_is_an_error(saved: Path) -> None:
    file = saved / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["pad_token"]
    file.write_text(json.dumps(settings))
    with pytest.raises(InputError, match="no padding token"):
        loaded(saved)


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_folder_is_an_input_error(saved: Path, damaged: str) -> None:
    (saved / damaged).write_bytes(b"{not what it was")
    with pytest.raises(InputError, match=r"model\.name=.*cannot be loaded"):
        loaded(saved)


def test_a_folder_without_weights_is_an_input_error(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.name=.*cannot be loaded"):
        loaded(saved)


def test_a_folder_without_kobert_s_file_is_an_input_error(saved: Path) -> None:
    with pytest.raises(InputError, match=r"model\.name=.*cannot be loaded"):
        loaded(saved, tokenizer=Tokenizer.kobert)


# -- real vocabularies ---------------------------------------------------------------


def vocabulary_folder(name: str, folder: Path) -> Path:
    """A shrunken model with random weights around one of the real vocabularies."""
    source = SHARED / "data/vocabs" / name
    folder.mkdir()
    shutil.copyfile(source / "vocab.txt", folder / "vocab.txt")
    count = len((source / "vocab.txt").read_text(encoding="utf-8").splitlines())
    shape = {"hidden_size": 8, "intermediate_size": 8, "max_position_embeddings": 300}
    small_bert(vocab_size=count, **shape).save_pretrained(folder)
    return folder


def unknown_share(folder: Path, rows: int = 2000) -> float:
    with gzip.open(SHARED / "data/nsmc/ratings_test.txt.gz", "rt", encoding="utf-8") as file:
        texts = [next(file).split("\t")[1] for _ in range(rows + 1)][1:]
    table = Dataset.from_dict({"text": texts, "label": [0] * rows})
    made = loaded(folder)
    return tokenise(table, made.tokenizer, made.max_length).unknown


@needs_shared
@pytest.mark.parametrize("name", ["kcbert", "koelectra_v1"])
def test_cased_vocabularies_know_the_reviews(name: str, tmp_path: Path) -> None:
    folder = vocabulary_folder(name, tmp_path / name)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    made = loaded(folder, max_length=512)
    assert (made.max_length, made.tokenizer.tokenize("영화 Good")[0]) == (300, "영화")
    share = unknown_share(folder)
    assert share < 0.05
    assert check_unknown(share) is None


@needs_shared
@pytest.mark.parametrize("name", ["kcbert", "koelectra_v1"])
def test_without_its_config_a_tokenizer_lower_cases_and_is_refused(
    name: str, tmp_path: Path
) -> None:
    """BERT's default strips accents too, which takes Hangul apart: all words are [UNK]."""
    share = unknown_share(vocabulary_folder(name, tmp_path / name))
    assert share > 0.7
    with pytest.raises(InputError, match="do_lower_case"):
        check_unknown(share)
