"""The files of deploy/, each written and proved: both models, the tokenizer, labels and runner."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from pruneloop.deployed import LABELS, TOKENIZER, Reading, open_model
from pruneloop.errors import InputError, InvariantError
from pruneloop.exports.onnx_files import write_fp32
from pruneloop.model.inputs import TOLERANCE
from pruneloop.prediction import TextClassifier
from pruneloop.records import Text, parts_of
from pruneloop.shrinking import Shrunk, is_known, shrink

FP32, INT8 = "model.onnx", "model.int8.onnx"

_FEEDABLE = ("input_ids", "attention_mask", "token_type_ids")


def check_deployable(classifier: TextClassifier) -> None:
    """Refuse what onnxruntime and tokenizers could not serve.

    Raises:
        InputError: the tokenizer has no fast form, or feeds more than ids, mask and types.
    """
    tokenizer = classifier.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"the checkpoint's tokenizer ({type(tokenizer).__name__}) has no fast form, which "
            "the runner reads as tokenizer.json; save one with transformers' AutoTokenizer"
        )
    names = classifier.encode([_example(classifier)]).columns
    if strange := [name for name in names if name not in _FEEDABLE]:
        raise InputError(f"the checkpoint is fed {', '.join(strange)}, which the runner is not")


def reading_of(classifier: TextClassifier) -> Reading:
    """Return how texts are read for a classifier."""
    names = classifier.encode([_example(classifier)]).columns
    return Reading(
        inputs=[name for name in _FEEDABLE if name in names],
        longest=classifier.longest,
        pairs=classifier.pairs,
        unknown_id=classifier.tokenizer.unk_token_id,
        special_ids=sorted(classifier.tokenizer.all_special_ids),
    )


def _example(classifier: TextClassifier) -> Text:
    return ("영화", "음악") if classifier.pairs else "영화"


def write_words(classifier: TextClassifier, folder: Path, texts: Sequence[Text]) -> str:
    """Write tokenizer.json and labels.json; return the former.

    Raises:
        InvariantError: it reads texts otherwise than the checkpoint's tokenizer.
    """
    tokenizer = Tokenizer.from_str(classifier.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(classifier.longest)
    words = tokenizer.to_str(pretty=True)
    (folder / TOKENIZER).write_text(words, encoding="utf-8")
    labels = json.dumps(classifier.labels, ensure_ascii=False)
    (folder / LABELS).write_text(labels + "\n", encoding="utf-8")
    both = [*texts, *(_decomposed(text) for text in texts)]
    read, known = tokenizer.encode_batch(both), classifier.encode(both).columns
    same = [row.ids for row in read] == known["input_ids"]
    if "token_type_ids" in known:
        same = same and [row.type_ids for row in read] == known["token_type_ids"]
    if not same:
        raise InvariantError(f"{TOKENIZER} reads texts otherwise than the checkpoint's tokenizer")
    return words


def _decomposed(text: Text) -> Text:
    """Return a text as macOS types it."""
    parts = tuple(unicodedata.normalize("NFD", part) for part in parts_of(text))
    return parts[0] if isinstance(text, str) else (parts[0], parts[1])


def write_model(
    classifier: TextClassifier, folder: Path, words: str, texts: Sequence[Text]
) -> tuple[Shrunk, float]:
    """Write model.onnx without what is superfluous; return what went, and how far logits differ.

    Raises:
        InputError: the family does not go through torch's exporter.
        InvariantError: its logits are not those of the checkpoint.
    """
    model = classifier.model
    smaller = shrink(model, uniform=False, heads=True) if is_known(model) else Shrunk(model, 0, 0)
    reading = reading_of(classifier)
    encoded = classifier.encode(texts)
    write_fp32(smaller.model, _batch(encoded.columns, reading), folder / FP32)
    opened = open_model(folder / FP32, words, classifier.labels, reading)
    off = _differ(opened.logits(encoded), classifier.logits(encoded))
    if off > TOLERANCE:
        raise InvariantError(f"{FP32}: its logits differ from the checkpoint's by {off:.1e}")
    return smaller, off


def _batch(columns: dict[str, list[list[int]]], reading: Reading) -> dict[str, Tensor]:
    """Return two rows of one length: the exporter takes sizes of 1 for fixed ones."""
    rows = max(columns["input_ids"], key=len)
    place = columns["input_ids"].index(rows)
    return {name: torch.tensor([columns[name][place]] * 2) for name in reading.inputs}


def _differ(found: Tensor, known: Tensor) -> float:
    """Return how far logits are apart, as a share of the largest where that is over 1."""
    return float((found - known).abs().max() / known.abs().max().clamp(min=1))
