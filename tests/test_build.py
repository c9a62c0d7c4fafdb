"""A classifier with its tokenizer: built small, or loaded with its traps."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from datasets import Dataset
from safetensors.torch import load_file, save_file
from support import SHARED, needs_shared, small_bert, small_classifier
from tokenizers import processors
from torch.nn.utils import prune
from transformers import BertForSequenceClassification, ByT5Tokenizer, PreTrainedModel

from pruneloop.config import PretrainedModel, TinyModel, Tokenizer
from pruneloop.data import sample
from pruneloop.data.tokenising import check_unknown, tokenise
from pruneloop.errors import EnvironmentFault, InputError
from pruneloop.model.build import Classifier, build, check_name
from pruneloop.model.inputs import fit_length, padding_effect, usable_positions
from pruneloop.model.tokenizers import load_tokenizer, train_wordpiece
from pruneloop.pruning import Masks, prunable_weights

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


# -- strict: every key has its place --------------------------------------------------


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """The folder with its weights changed."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def configured(folder: Path, **changed: object) -> Path:
    """The folder with its config changed."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return folder


def put(folder: Path, model: PreTrainedModel, tokenizer: object = None) -> Path:
    """A folder with a model and a tokenizer of 300 tokens, or the one given."""
    model.save_pretrained(folder)
    (tokenizer or train_wordpiece(TEXTS, vocab_size=300, max_length=64)).save_pretrained(folder)
    return folder


QUERY = "bert.encoder.layer.0.attention.self.query.weight"


def lose(weights: dict[str, torch.Tensor]) -> None:
    del weights[QUERY]


def gain(weights: dict[str, torch.Tensor]) -> None:
    weights[QUERY.replace(".0.", ".1.")] = torch.ones(16, 16)


def bend(weights: dict[str, torch.Tensor]) -> None:
    weights[QUERY] = torch.ones(8, 16)


def unprefixed(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        weights[name.removeprefix("bert.")] = weights.pop(name)
    weights["encoder.layer.1.output.dense.weight"] = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lose, rf"the file lacks {QUERY}$"),
        (gain, r"has besides bert\.encoder\.layer\.1\.attention\.self\.query\.weight$"),
        (bend, rf"in another shape {QUERY}$"),
        (unprefixed, r"has besides encoder\.layer\.1\.output\.dense\.weight$"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    saved: Path, change: Callable[[dict[str, torch.Tensor]], None], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        loaded(rewritten(saved, change))


def test_a_config_of_another_size_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match=r"in another shape bert\..* and \d+ more"):
        loaded(configured(saved, hidden_size=32))


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_a_model_of_another_task_gives_its_encoder(
    kind: str, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = BertForSequenceClassification.from_pretrained(saved).config
    other = getattr(transformers, kind)(config)
    other.save_pretrained(saved)
    made = loaded(saved)
    base = other if kind == "BertModel" else other.bert
    for name, weight in base.named_parameters():
        if "pooler" not in name or kind != "BertForMaskedLM":
            assert torch.equal(made.model.bert.get_parameter(name), weight), name
    assert "the checkpoint has none (classifier.bias, classifier.weight)" in caplog.text
    assert ("no pooler: it is new" in caplog.text) == (kind == "BertForMaskedLM")


def test_a_new_head_is_said(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    loaded(saved, labels=["no", "yes"])
    assert "the classifier is new" not in caplog.text
    loaded(saved)
    assert "new for 3 labels: the checkpoint's is for 2 (classifier.bias" in caplog.text


def test_torch_masks_in_the_file_are_pruned_weights(saved: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(saved, dtype=torch.float32)
    linear = [m for m in model.bert.encoder.modules() if isinstance(m, torch.nn.Linear)]
    pairs = [(module, "weight") for module in linear]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=0.5)
    prune.l1_unstructured(model.classifier, "weight", 1)
    model.save_pretrained(saved)
    made = loaded(saved, labels=["no", "yes"])
    assert made.pruned
    weights = prunable_weights(made.model)
    zeros = Masks.from_zeros(weights).zeros
    assert zeros == round(0.5 * sum(weight.numel() for weight in weights.values()))
    for module in [*linear, model.classifier]:  # as torch makes them permanent
        prune.remove(module, "weight")
    for name, weight in model.named_parameters():
        assert torch.equal(made.model.get_parameter(name), weight), name
    other = loaded(saved).model  # whose classifier's mask is of another shape
    assert other.config.pruneloop == {
        "prunable": sum(map(torch.numel, weights.values())),
        "zeros": zeros,
    }
    made.model.save_pretrained(saved)
    assert load_file(saved / "model.safetensors").keys() == dict(model.named_parameters()).keys()


def test_the_prefix_of_a_parallel_wrapper_is_taken_off(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plain = loaded(saved, labels=["no", "yes"]).model
    wrapped = shutil.copytree(saved, tmp_path / "wrapped")

    def wrap(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[f"module.{name}"] = weights.pop(name)

    made = loaded(rewritten(wrapped, wrap), labels=["no", "yes"]).model
    assert "`module.` is taken off" in caplog.text
    for name, weight in plain.named_parameters():
        assert torch.equal(made.get_parameter(name), weight), name
    made.save_pretrained(wrapped)
    assert not [n for n in load_file(wrapped / "model.safetensors") if n.startswith("module.")]


# -- kinds of files --------------------------------------------------------------------


def test_shards_load(saved: Path) -> None:
    whole = loaded(saved, labels=["no", "yes"]).model
    (saved / "model.safetensors").unlink()
    whole.save_pretrained(saved, max_shard_size="10KB")
    assert len(list(saved.glob("model-*.safetensors"))) > 1
    made = loaded(saved, labels=["no", "yes"]).model
    assert all(
        torch.equal(a, b) for a, b in zip(made.parameters(), whole.parameters(), strict=True)
    )


def test_a_bin_with_strides_of_its_own_loads_as_one_that_trains(saved: Path) -> None:
    """A converted file has transposed matrices; pruning writes through a flat view."""
    weights = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    turned = {n: w.t().contiguous().t() if w.dim() == 2 else w for n, w in weights.items()}
    torch.save(turned, saved / "pytorch_model.bin")
    made = loaded(saved, labels=["no", "yes"]).model
    assert all(weight.is_contiguous() for weight in made.parameters())
    assert torch.equal(made.get_parameter(QUERY), weights[QUERY].float())


@pytest.mark.parametrize("name", ["saved", "./saved", "../{here}/saved", "~/saved"])
def test_a_path_may_be_relative_or_the_home_s(
    saved: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent)
    monkeypatch.setenv("HOME", str(saved.parent))
    made = build(pretrained(name.format(here=saved.parent.name)), ["no", "yes"], [], seed=0)
    assert made.max_length == 64


# -- another task, another padding -----------------------------------------------------


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
def test_a_model_of_another_kind_of_task_becomes_single_label(
    kind: str, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = loaded(configured(saved, problem_type=kind)).model
    assert f"problem_type {kind} becomes single-label" in caplog.text
    assert model.config.problem_type == "single_label_classification"
    loss = model(torch.tensor([[2, 5, 3]]), labels=torch.tensor([2])).loss
    assert loss.dim() == 0


@pytest.mark.parametrize("changed", [{"return_dict": False}, {"output_hidden_states": True}])
def test_what_a_config_asks_of_the_output_does_not_matter(
    saved: Path, changed: dict[str, object]
) -> None:
    assert loaded(configured(saved, **changed)).model(torch.tensor([[2, 3]])).logits.shape == (1, 3)


def test_the_padding_id_becomes_the_tokenizer_s(
    saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = loaded(configured(saved, pad_token_id=3)).model
    assert "padding id 3 becomes the tokenizer's, 0" in caplog.text
    assert model.config.pad_token_id == model.get_input_embeddings().padding_idx == 0


@pytest.mark.parametrize(("family", "configured_id"), [("Roberta", 1), ("MPNet", 1), ("MPNet", 0)])
def test_positions_behind_another_padding_id_are_refused(
    family: str, configured_id: int, tmp_path: Path
) -> None:
    model = small_classifier(family, vocab_size=300, pad_token_id=configured_id)
    with pytest.raises(InputError, match="pads with id 0, but its positions begin behind id 1"):
        loaded(put(tmp_path / "model", model))


@pytest.mark.parametrize(
    ("family", "usable"),
    [
        *[(family, 63) for family in ("Roberta", "XLMRoberta", "Camembert", "Longformer", "Luke")],
        *[(family, 63) for family in ("Data2VecText", "RobertaPreLayerNorm")],
        *[(family, 64) for family in ("Bert", "Electra", "DebertaV2", "ModernBert", "BigBird")],
        ("XLNet", None),
    ],
)
@pytest.mark.parametrize("limit", [-1, int(1e30), 512, 40])
def test_the_length_is_within_the_usable_positions(
    family: str, usable: int | None, limit: int
) -> None:
    model = small_classifier(family, vocab_size=300)
    assert usable_positions(model) == usable
    tokenizer = train_wordpiece(TEXTS, vocab_size=300, max_length=limit)
    longest = fit_length(model, tokenizer, asked=1000)
    own = [n for n in (usable, limit if 0 < limit < 1000 else None) if n is not None]
    assert longest == tokenizer.model_max_length == min(own, default=1000)
    with torch.inference_mode():
        model.eval()(torch.full((1, longest), 5))


def test_big_bird_attends_the_same_to_every_length(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = loaded(put(tmp_path / "model", small_classifier("BigBird", vocab_size=300))).model
    assert model.config.attention_type == model.bert.attention_type == "original_full"
    assert "block_sparse becomes original_full" in caplog.text


@pytest.mark.parametrize(
    ("family", "saved_side", "side"),
    [("Bert", "left", "right"), ("XLNet", "left", "left"), ("XLNet", "right", "left")],
)
def test_a_row_is_padded_where_it_does_not_matter(
    family: str, saved_side: str, side: str, tmp_path: Path
) -> None:
    folder = put(tmp_path / "model", small_classifier(family, vocab_size=300))
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": saved_side}))
    made = loaded(folder)
    assert made.tokenizer.padding_side == side
    assert padding_effect(made.model, made.tokenizer, TEXTS[:8]) < 1e-4


@pytest.mark.parametrize(
    ("family", "types", "kept"), [("Bert", 2, True), ("Bert", 1, False), ("DistilBert", 2, False)]
)
def test_token_types_are_given_only_where_the_model_takes_them(
    family: str, types: int, kept: bool, tmp_path: Path
) -> None:
    changed = {} if family == "DistilBert" else {"type_vocab_size": types}
    folder = put(tmp_path / "model", small_classifier(family, vocab_size=300, **changed))
    file = folder / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_input_names": names}))
    assert ("token_type_ids" in loaded(folder).tokenizer("영화")) == kept


def test_a_mask_that_the_tokenizer_did_not_give_is_given(tmp_path: Path) -> None:
    """Without it, padding counts as words."""
    folder = put(tmp_path / "model", small_classifier("Bert", vocab_size=300))
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_input_names": ["input_ids"]}))
    made = loaded(folder)
    assert made.tokenizer(TEXTS[:2], padding=True).keys() == {"input_ids", "attention_mask"}
    assert padding_effect(made.model, made.tokenizer, TEXTS[:8]) < 1e-4


def test_token_types_that_are_not_zero_are_left_out(tmp_path: Path) -> None:
    """Training does not feed them, and a model that takes them would be served otherwise."""
    tokenizer = train_wordpiece(TEXTS, vocab_size=300, max_length=64)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:1 $A:1 [SEP]:1",
        special_tokens=[
            (name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")
        ],
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    folder = put(tmp_path / "model", small_classifier("Bert", vocab_size=300), tokenizer)
    file = folder / "tokenizer_config.json"  # a plain tokenizer is not saved with these names
    names = tokenizer.model_input_names
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_input_names": names}))
    assert load_tokenizer(str(folder))("영화")["token_type_ids"] == [1, 1, 1]
    assert "token_type_ids" not in loaded(folder).tokenizer("영화")


# -- what cannot be trained is refused first ------------------------------------------


def test_a_folder_without_a_tokenizer_says_so(saved: Path) -> None:
    for file in saved.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="the folder has no tokenizer"):
        loaded(saved)


def test_a_tokenizer_without_its_words_says_so(saved: Path) -> None:
    (saved / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"its tokenizer has no words|cannot be loaded"):
        loaded(saved)


def test_a_tokenizer_in_python_only_is_refused(tmp_path: Path) -> None:
    folder = put(tmp_path / "model", small_classifier("Bert", vocab_size=300), ByT5Tokenizer())
    with pytest.raises(InputError, match=r"tokenizer \(ByT5Tokenizer\) exists in Python only"):
        loaded(folder)


def test_a_model_that_fails_in_its_forward_is_refused(tmp_path: Path) -> None:
    """BART wants an end token in every text, which this tokenizer does not give."""
    model = small_classifier("Bart", vocab_size=300, eos_token_id=299)
    with pytest.raises(InputError, match="cannot classify texts from input_ids"):
        loaded(put(tmp_path / "model", model))


def test_a_model_with_a_nan_is_refused(saved: Path) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights[QUERY][0, 0] = torch.nan

    with pytest.raises(InputError, match="logits are NaN"):
        loaded(rewritten(saved, spoil))


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
