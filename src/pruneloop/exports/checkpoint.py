"""The permanent checkpoint: saved, loaded afresh and compared before it counts."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pruneloop.durable import fresh_folder, publish_folder, saving, seal_folder
from pruneloop.errors import InvariantError
from pruneloop.model.build import PRUNED_MARK
from pruneloop.pruning import Masks


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    target: Path,
    texts: Sequence[str],
    card: str,
) -> None:
    """Save model, tokenizer and model card so that plain transformers loads them, and prove it.

    The folder is written beside `target`, verified there and then renamed, so that
    `target` is complete and verified, or absent.

    Raises:
        InvariantError: the reloaded model differs: a missing or unexpected key, other
            logits on `texts` (bit for bit, float32), or other zeros; or the reloaded
            tokenizer gives other ids.
        EnvironmentFault: there is no space, or a write was refused.
    """
    # Where it is trained on, its zeros count as pruned: those of a quantised model do not.
    setattr(model.config, PRUNED_MARK, {"prunable": masks.prunable, "zeros": masks.zeros})
    model.eval()
    temporary = target.with_name(f".{target.name}.tmp")
    with saving(target.parent, sum(tensor.nbytes for tensor in model.state_dict().values())):
        fresh_folder(temporary)
        model.save_pretrained(temporary)
        # What the last call asked for would be saved too, and the last call is another one
        # where the tokens came out of the cache.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        _verify(model, tokenizer, masks, temporary, texts)
        seal_folder(temporary)
        publish_folder(temporary, target)


def _verify(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    masks: Masks,
    folder: Path,
    texts: Sequence[str],
) -> None:
    reloaded, report = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(key):
            raise InvariantError(f"the saved checkpoint has {key}: {sorted(report[key])}")
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    long = {"truncation": True, "max_length": min(tokenizer.model_max_length, 512)}
    both = [*texts, *(unicodedata.normalize("NFD", text) for text in texts)]
    if words(both, **long)["input_ids"] != tokenizer(both, **long)["input_ids"]:
        raise InvariantError("the saved tokenizer gives other ids than the one trained with")
    parameters = dict(reloaded.named_parameters())
    for name, mask in masks.items():
        if bool((parameters[name] != 0).logical_and(~mask.cpu()).any()):
            raise InvariantError(f"{name}: a pruned weight is not zero in the saved checkpoint")
    inputs = tokenizer(list(texts), return_tensors="pt", padding=True, **long).to(model.device)
    reloaded.to(model.device).eval()
    with torch.inference_mode():
        if not torch.equal(model(**inputs).logits, reloaded(**inputs).logits):
            raise InvariantError("the saved checkpoint gives other logits than the live model")
    for name, live in model.named_parameters():
        if not torch.equal(parameters[name], live):
            raise InvariantError(f"{name}: the saved checkpoint has other values")
