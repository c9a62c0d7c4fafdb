"""The permanent checkpoint: saved, loaded afresh and compared before it counts."""

import json
import logging
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from pruneloop.durable import fresh_folder, publish_folder, saving, seal_folder
from pruneloop.errors import InvariantError, utf8
from pruneloop.model.build import PRUNED_MARK
from pruneloop.model.inputs import LONGEST_TRIED, TOLERANCE, padding_effect
from pruneloop.pruning import Masks
from pruneloop.records import Text

log = logging.getLogger(__name__)


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    target: Path,
    texts: Sequence[Text],
    card: str,
) -> None:
    """Save model, tokenizer and model card so that plain transformers loads them, and prove it.

    The folder is written beside `target`, verified there and then renamed, so that
    `target` is complete and verified, or absent. Where a row's result depends on the rows
    it is padded with, that is said, here and in the card.

    Raises:
        InvariantError: the reloaded model differs: a missing or unexpected key, other
            logits on `texts` (bit for bit, float32), or other zeros; or the reloaded
            tokenizer gives other ids.
        EnvironmentFault: there is no space, or a write was refused.
    """
    # Where it is trained on, its zeros count as pruned: those of a quantised model do not.
    mark = {"prunable": masks.prunable, "zeros": masks.zeros}
    pairs = {} if isinstance(texts[0], str) else {"pairs": True}
    setattr(model.config, PRUNED_MARK, mark | pairs)
    model.eval()
    temporary = target.with_name(f".{target.name}.tmp")
    with saving(target.parent, sum(tensor.nbytes for tensor in model.state_dict().values())):
        fresh_folder(temporary)
        model.save_pretrained(temporary)
        _save_tokenizer(tokenizer, temporary)
        words = _verify(model, tokenizer, masks, temporary, texts)
        card += _padding_note(padding_effect(model, words, texts[:16]))
        (temporary / "README.md").write_bytes(utf8(card))
        seal_folder(temporary)
        publish_folder(temporary, target)


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tokenizer so that transformers 4 and `tokenizers` alone load it too.

    The truncation in tokenizer.json is for who loads that file alone: transformers cuts only
    where it is called with truncation=True, to `model_max_length`.
    """
    backend = tokenizer.backend_tokenizer
    # What the last call asked for would be saved otherwise, and the last call is another one
    # where the tokens came out of the cache.
    backend.no_padding()
    if tokenizer.model_max_length < VERY_LARGE_INTEGER:
        backend.enable_truncation(tokenizer.model_max_length)
    tokenizer.save_pretrained(folder)
    backend.no_truncation()
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    # The names of version 4; version 5 reads both.
    if extra := settings.pop("extra_special_tokens", None):
        settings["additional_special_tokens"] = extra
    settings["model_input_names"] = list(tokenizer.model_input_names)
    known = {key: value for key, value in settings.items() if value is not None}
    file.write_text(
        json.dumps(known, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _decomposed(text: Text) -> Text:
    """Return a text, or a pair, as macOS writes Hangul."""
    if isinstance(text, str):
        return unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFD", text[0]), unicodedata.normalize("NFD", text[1])


def _padding_note(effect: float) -> str:
    """Return what the card says of rows that depend on their padding, having logged it."""
    if effect <= TOLERANCE:
        return ""
    text = (
        "the result of a text depends on the others in its batch: alone, as `pipeline` serves "
        f"it, its logits differ by up to {effect:.1e} from those that were measured in batches"
    )
    log.warning(f"warning: {text}")
    return f"\n## Padding\n\n{text[0].upper()}{text[1:]}.\n"


def _longest(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    length = min(tokenizer.model_max_length, LONGEST_TRIED)
    return {"truncation": True, "max_length": length}


def _verify_ids(
    tokenizer: PreTrainedTokenizerBase, words: PreTrainedTokenizerBase, texts: Sequence[Text]
) -> None:
    """Make sure that the tokenizer that was saved reads texts as the one that was trained with."""
    long = _longest(tokenizer)
    for text in (*texts, *map(_decomposed, texts)):
        if words([text], **long).data != tokenizer([text], **long).data:
            raise InvariantError(
                f"the saved tokenizer gives other ids than the one trained with, for {text!r}"
            )


def _verify(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    folder: Path,
    texts: Sequence[Text],
) -> PreTrainedTokenizerBase:
    """Load the folder afresh and compare; return the tokenizer as it comes from there."""
    reloaded, report = AutoModelForSequenceClassification.from_pretrained(
        folder,
        dtype=torch.float32,
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(key):
            raise InvariantError(f"the saved checkpoint has {key}: {sorted(report[key])}")
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    long = _longest(tokenizer)
    _verify_ids(tokenizer, words, texts)
    parameters = dict(reloaded.named_parameters())
    for name, mask in masks.items():
        if bool((parameters[name] != 0).logical_and(~mask.cpu()).any()):
            raise InvariantError(f"{name}: a pruned weight is not zero in the saved checkpoint")
    inputs = tokenizer(list(texts), return_tensors="pt", padding=True, **long).to(model.device)
    reloaded.to(model.device).eval()
    with torch.inference_mode():
        same = (model(**inputs).logits == reloaded(**inputs).logits).all(dim=1)
        if not bool(same.all()):
            text = texts[int(same.int().argmin())]
            raise InvariantError(
                f"the saved checkpoint gives other logits than the live model, for {text!r}"
            )
    for name, live in model.named_parameters():
        if not torch.equal(parameters[name], live):
            raise InvariantError(f"{name}: the saved checkpoint has other values")
    return words
