"""What a model takes of its tokenizer: lengths, padding, token types; tried before training."""

import inspect
import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from pruneloop.errors import InputError, reason
from pruneloop.records import Text

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""How far the logits of a row may differ alone and in a batch; the order of sums is less."""

LONGEST_TRIED = 512
"""Rows are tried up to this length: longer ones would take minutes on a CPU."""

_UNLIMITED = 1_000_000
_TEXTS = ("영화", "정말 재미있는 영화였다. 다시 보고 싶다! It was good.", "별로 였다 ㅠㅠ")


def _position_table(model: PreTrainedModel) -> nn.Module | None:
    """The table of positions that begin behind the padding id, as RoBERTa's do, or None."""
    return next(
        (
            module
            for name, module in model.named_modules()
            if name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ),
        None,
    )


def usable_positions(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model has positions for, or None where there is no limit."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    table = _position_table(model)
    return positions if table is None else positions - int(table.padding_idx) - 1  # type: ignore[arg-type]


def check_padding(name: str, model: PreTrainedModel, configured: int | None, pad_id: int) -> None:
    """Reject a padding id that would move all positions.

    Args:
        configured: the padding id in the checkpoint's config.
        pad_id: the tokenizer's.

    Raises:
        InputError: they differ, and the model counts its positions from the padding id.
    """
    table = _position_table(model)
    if table is not None and not configured == pad_id == table.padding_idx:
        raise InputError(
            f"model.name={name}: its tokenizer pads with id {pad_id}, but its positions begin "
            f"behind id {configured if configured != pad_id else table.padding_idx} "
            "(pad_token_id in config.json): one of the two belongs to another model"
        )


def longest_input(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the most tokens that both model and tokenizer take, or None where none limits."""
    # A tokenizer's limit may be 1e30 or -1, which are none.
    limits = [tokenizer.model_max_length, usable_positions(model) or _UNLIMITED]
    return min((int(limit) for limit in limits if 0 < limit < _UNLIMITED), default=None)


def fit_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: int) -> int:
    """Limit a tokenizer to the model's positions; return the length to cut texts to."""
    limit = longest_input(model, tokenizer) or asked
    longest = min(asked, limit)
    if longest < asked:
        log.info(f"model.max_length={asked} becomes {longest}: model and tokenizer take no more")
    # Without any limit, nothing longer than what it was trained on is served either.
    tokenizer.model_max_length = limit
    return longest


def fit_input_names(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a tokenizer give what the model takes, and nothing that it is not trained with.

    Training feeds ids and mask, and the types of pairs; the saved tokenizer must not feed
    more than that to whoever is served, unless it changes nothing.
    """
    before = tokenizer.model_input_names
    names = ["input_ids"]
    if "token_type_ids" in before and _takes_token_types(model, tokenizer):
        names.append("token_type_ids")
    if "attention_mask" in inspect.signature(model.forward).parameters:
        names.append("attention_mask")
    if gone := [name for name in before if name not in names]:
        log.info(f"the tokenizer gives no {', '.join(gone)} from now on: as the model is trained")
    tokenizer.model_input_names = names


def _takes_token_types(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a model has more than one type, and those of one sentence change nothing."""
    if "token_type_ids" not in inspect.signature(model.forward).parameters:
        return False
    if getattr(model.config, "type_vocab_size", None) in (0, 1):
        return False
    whole = tokenizer(_TEXTS[1], return_tensors="pt", truncation=True)
    try:
        with torch.inference_mode():
            return _differ(_logits(model, whole), _logits(model, _fed(whole))) <= TOLERANCE
    # It has fewer types than the tokenizer gives; `check_forward` says what else is wrong.
    except Exception:
        return False


def fit_padding_side(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Pad on the right, unless only the left leaves a row's result as it is alone."""
    before = tokenizer.padding_side
    for side in ("right", "left"):
        tokenizer.padding_side = side
        if padding_effect(model, tokenizer, _TEXTS) <= TOLERANCE:
            break
    else:
        tokenizer.padding_side = "right"
    if tokenizer.padding_side != before:
        log.info(f"the tokenizer pads on the {tokenizer.padding_side} now, not on the {before}")


def padding_effect(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]
) -> float:
    """Return how far the logits of a text, or a pair, differ between a padded batch and alone.

    The batch is what training and evaluation feed; alone and with all that the tokenizer
    gives is how `pipeline` serves it.
    """
    pairs = not isinstance(texts[0], str)

    def encoded(rows: Sequence[Text]) -> BatchEncoding:
        length = min(tokenizer.model_max_length, LONGEST_TRIED)
        words = tokenizer(
            list(rows), return_tensors="pt", padding=True, truncation=True, max_length=length
        )
        return words.to(model.device)

    with torch.inference_mode():
        batch = encoded(texts)
        together = _logits(model, batch if pairs else _fed(batch))
        alone = torch.cat([_logits(model, encoded([text])) for text in texts])
    return _differ(together, alone)


def check_forward(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    """Try a batch with padding, a short row and one of the full length, before anything trains.

    Raises:
        InputError: the model cannot take them, or gives no finite logits for the labels.
    """
    ids = tokenizer(_TEXTS[1], truncation=True, max_length=max_length)["input_ids"]
    long = (ids * (max_length // len(ids) + 1))[: min(max_length, LONGEST_TRIED)]
    row = {"input_ids": torch.tensor([long])}
    batch = _fed(tokenizer(list(_TEXTS), return_tensors="pt", padding=True, truncation=True))
    short = _fed(tokenizer(_TEXTS[0], return_tensors="pt"))
    try:
        with torch.inference_mode():
            logits = torch.cat([_logits(model, inputs) for inputs in (batch, short, row)])
    # Whatever the code of a hundred families says of inputs that it was not made for.
    except Exception as error:
        raise InputError(
            f"model.name={name}: it cannot classify texts from input_ids and attention_mask alone "
            f"({reason(error)})"
        ) from error
    if logits.shape != (len(_TEXTS) + 2, model.config.num_labels):
        raise InputError(f"model.name={name}: it gives no row of logits for each text")
    if not bool(torch.isfinite(logits).all()):
        raise InputError(f"model.name={name}: its logits are NaN or infinite; is it damaged?")


def _fed(words: BatchEncoding) -> dict[str, Tensor]:
    """Return what training feeds of a tokenizer's output for single texts."""
    return {name: words[name] for name in ("input_ids", "attention_mask") if name in words}


def _logits(model: PreTrainedModel, inputs: BatchEncoding | dict[str, Tensor]) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits


def _differ(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
