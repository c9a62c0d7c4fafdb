"""A classifier with its tokenizer, from a config of ours or from pretrained weights."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pruneloop.config import ModelConfig, PretrainedModel, TinyModel, Tokenizer
from pruneloop.errors import EnvironmentFault, InputError, PruneloopError, reason
from pruneloop.model.architecture import fit_config, label_names, read_config
from pruneloop.model.inputs import (
    check_forward,
    check_padding,
    fit_input_names,
    fit_length,
    fit_padding_side,
)
from pruneloop.model.tokenizers import load_kobert_tokenizer, load_tokenizer, train_wordpiece
from pruneloop.model.weights import load_weights
from pruneloop.records import Text, parts_of

PRUNED_MARK = "pruneloop"
"""The key of config.json that says what a checkpoint was pruned to."""

DENSE_SIZES = "pruneloop_dense"
"""The key of config.json that says how large a model was before units were removed."""

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Classifier:
    """A model, its tokenizer, and the length its inputs are cut to, in tokens."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int

    @property
    def pruned(self) -> bool:
        """Whether the model's config says that its zeros were pruned, as our exports' do."""
        return getattr(self.model.config, PRUNED_MARK, None) is not None


def check_name(name: str) -> None:
    """Reject a model name that can be neither a folder here nor a hub id.

    Raises:
        InputError: it looks like a path, and there is nothing there.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"model.name={name}: the folder has no config.json")
        return
    looks_like_path = name.startswith(("/", ".", "~")) or Path(name).parts[0] == "outputs"
    if looks_like_path or not _HUB_ID.fullmatch(name):
        raise InputError(f"model.name={name}: no such folder")


def labels_of(config: ModelConfig) -> list[str]:
    """Return the labels of a trained classifier, in the order of its outputs.

    Raises:
        InputError: the name is no model, or it chooses no single label.
        EnvironmentFault: the hub cannot be reached.
    """
    assert isinstance(config, PretrainedModel)
    check_name(config.name)
    with _explained(config.name):
        shape = read_config(_source(config.name), config.revision)
    if shape.problem_type not in (None, "single_label_classification"):
        raise InputError(
            f"model.name={config.name}: its classifier was trained for {shape.problem_type}; "
            "finetune.dense_epochs=0 keeps it as it is, so train it anew: finetune.dense_epochs=3"
        )
    return label_names(shape)


def _source(name: str) -> str:
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def build(
    config: ModelConfig,
    labels: Sequence[str],
    texts: Sequence[Text],
    seed: int,
    keep_head: bool = False,
) -> Classifier:
    """Build or load a classifier for the given labels, in float32.

    Args:
        texts: the training texts, or pairs, which a tiny model's vocabulary is trained on.
        seed: decides the random weights: all of a tiny model, the head of another one.
        keep_head: whether the classifier is to be that of the files, and never a new one.

    Raises:
        InputError: the name is no model, or its files do not fit.
        EnvironmentFault: the hub cannot be reached.
    """
    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    if isinstance(config, TinyModel):
        return _build_tiny(config, names, texts)
    assert isinstance(config, PretrainedModel)
    return _load_pretrained(config, names, keep_head)


def _build_tiny(config: TinyModel, names: dict[int, str], texts: Sequence[Text]) -> Classifier:
    words = (part for text in texts for part in parts_of(text))
    tokenizer = train_wordpiece(words, config.vocab_size, config.max_length)
    if texts and not isinstance(texts[0], str):
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.intermediate,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            max_position_embeddings=config.max_length,
            pad_token_id=tokenizer.pad_token_id,
            problem_type="single_label_classification",
            id2label=names,
            label2id={label: index for index, label in names.items()},
        )
    )
    return Classifier(model, tokenizer, config.max_length)


def _load_pretrained(config: PretrainedModel, names: dict[int, str], keep_head: bool) -> Classifier:
    check_name(config.name)
    source = _source(config.name)
    with _explained(config.name):
        shape = read_config(source, config.revision)
        if config.tokenizer == Tokenizer.kobert:
            tokenizer = load_kobert_tokenizer(source, config.revision)
        else:
            tokenizer = load_tokenizer(source, config.revision)
        if tokenizer.pad_token_id is None:
            raise InputError(f"model.name={config.name}: its tokenizer has no padding token")
        configured = shape.pad_token_id
        fit_config(shape, names, tokenizer.pad_token_id)
        model, masks = load_weights(source, config.revision, shape, keep_head)
    if masks is not None:
        setattr(model.config, PRUNED_MARK, {"prunable": masks.prunable, "zeros": masks.zeros})
    check_padding(config.name, model, configured, tokenizer.pad_token_id)
    tokens = max(tokenizer.get_vocab().values()) + 1
    rows = getattr(model.config, "vocab_size", tokens)
    if tokens > rows:
        raise InputError(
            f"model.name={config.name}: its tokenizer has {tokens} tokens, its "
            f"embeddings only {rows}"
        )
    model.eval()
    length = fit_length(model, tokenizer, config.max_length)
    fit_input_names(model, tokenizer)
    check_forward(config.name, model, tokenizer, length)
    fit_padding_side(model, tokenizer)
    return Classifier(model, tokenizer, length)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Say in one line what of a model's files cannot be read."""
    try:
        yield
    except PruneloopError:
        raise
    except UnpicklingError as error:
        raise InputError(
            f"model.name={name}: its weights are damaged, or a pickle of more than "
            "weights, which is not read"
        ) from error
    # A bad file makes transformers, tokenizers, safetensors and torch say all kinds of things.
    except Exception as error:
        if Path(name).expanduser().is_dir() or not isinstance(error, OSError):
            raise InputError(f"model.name={name}: cannot be loaded ({reason(error)})") from error
        raise EnvironmentFault(
            f"model.name={name}: is no folder here and cannot be loaded from the hub "
            f"({reason(error)}); offline? give a local copy as model.name=/folder"
        ) from error
