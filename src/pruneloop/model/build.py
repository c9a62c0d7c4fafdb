"""A classifier with its tokenizer, from a config of ours or from pretrained weights."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pruneloop.config import ModelConfig, PretrainedModel, TinyModel, Tokenizer
from pruneloop.errors import EnvironmentFault, InputError, reason
from pruneloop.model.tokenizers import load_kobert_tokenizer, train_wordpiece

PRUNED_MARK = "pruneloop"
"""The key of config.json that says what a checkpoint was pruned to."""

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


def build(
    config: ModelConfig, labels: Sequence[str], texts: Iterable[str], seed: int
) -> Classifier:
    """Build or load a classifier for the given labels, in float32.

    Args:
        texts: the training texts, which a tiny model's vocabulary is trained on.
        seed: decides the random weights: all of a tiny model, the head of another one.

    Raises:
        InputError: the name is no model, or its files do not fit.
        EnvironmentFault: the hub cannot be reached.
    """
    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    if isinstance(config, TinyModel):
        return _build_tiny(config, names, texts)
    assert isinstance(config, PretrainedModel)
    return _load_pretrained(config, names)


def _build_tiny(config: TinyModel, names: dict[int, str], texts: Iterable[str]) -> Classifier:
    tokenizer = train_wordpiece(texts, config.vocab_size, config.max_length)
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


def _load_pretrained(config: PretrainedModel, names: dict[int, str]) -> Classifier:
    check_name(config.name)
    tokenizer = _load_tokenizer(config)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            config.name,
            revision=config.revision,
            dtype=torch.float32,
            id2label=names,
            label2id={label: index for index, label in names.items()},
            problem_type="single_label_classification",
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # another number of labels in an old head
        )
    except UnpicklingError as error:
        raise InputError(
            f"model.name={config.name}: its weights are damaged, or a pickle of more than "
            "weights, which is not read"
        ) from error
    # torch says RuntimeError or EOFError of a damaged pytorch_model.bin.
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError) as error:
        raise _explained(config.name, error) from error
    rows = model.config.vocab_size
    if len(tokenizer) > rows:
        raise InputError(
            f"model.name={config.name}: its tokenizer has {len(tokenizer)} tokens, its "
            f"embeddings only {rows}"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(f"model.name={config.name}: its tokenizer has no padding token")
    model.config.pad_token_id = tokenizer.pad_token_id
    positions = getattr(model.config, "max_position_embeddings", config.max_length)
    # RoBERTa counts positions from pad_token_id + 1 on.
    offset = tokenizer.pad_token_id + 1 if model.config.model_type == "roberta" else 0
    longest = min(config.max_length, positions - offset, tokenizer.model_max_length)
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions - offset)
    return Classifier(model, tokenizer, int(longest))


def _load_tokenizer(config: PretrainedModel) -> PreTrainedTokenizerBase:
    try:
        if config.tokenizer == Tokenizer.kobert:
            return load_kobert_tokenizer(config.name, config.revision)
        return AutoTokenizer.from_pretrained(config.name, revision=config.revision)
    except (OSError, ValueError) as error:
        raise _explained(config.name, error) from error


def _explained(name: str, error: Exception) -> Exception:
    if Path(name).expanduser().is_dir():
        return InputError(f"model.name={name}: cannot be loaded ({reason(error)})")
    return EnvironmentFault(
        f"model.name={name}: is no folder here and cannot be loaded from the hub "
        f"({reason(error)}); offline? give a local copy as model.name=/folder"
    )
