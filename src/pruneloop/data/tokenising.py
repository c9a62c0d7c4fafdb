"""From texts to token ids, once, cached by `datasets` across runs."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from pruneloop.data.splits import texts_of
from pruneloop.durable import check_folder, fresh_folder, publish_folder, seal_folder
from pruneloop.errors import CheckpointError, InputError

log = logging.getLogger(__name__)

_ROWS = "rows.arrow"
_UNKNOWN_WARN = 0.05
_UNKNOWN_FAIL = 0.30


@dataclass(frozen=True)
class Tokenised:
    """Rows of `input_ids`, `label` and `length`, and how well the tokenizer did.

    Rows of pairs have `token_type_ids` too, where the model has them. `wholes` are the
    lengths of the rows before they were cut, in tokens.
    """

    rows: Dataset
    wholes: list[int]
    unknown: float
    fingerprint: str


def _fingerprint(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> str:
    digest = hashlib.sha256(f"{max_length} {rows.features}".encode())
    words = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call asked for stays in the tokenizer; it is not what it knows.
    del words["truncation"], words["padding"]
    digest.update(json.dumps(words, sort_keys=True).encode())
    # As JSON, in which no two lists look alike, whatever stands in the texts.
    digest.update(json.dumps([texts_of(rows), rows["label"][:]]).encode())
    digest.update(json.dumps(_wanted(rows, tokenizer)).encode())
    return digest.hexdigest()[:32]


def tokenise(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Tokenised:
    """Tokenise texts, or pairs of them, cutting the longest first at `max_length` tokens.

    The result is kept in the datasets cache under a hash of the texts, the tokenizer
    and the length, so that later runs and sweeps read it; a damaged one is made again.
    """
    name = _fingerprint(rows, tokenizer, max_length)
    entry = Path(datasets.config.HF_DATASETS_CACHE) / "pruneloop" / name
    if not _is_whole(entry):
        _encode(rows, tokenizer, max_length, entry)
    table = Dataset.from_file(str(entry / _ROWS))
    return Tokenised(
        table.select_columns([*_wanted(rows, tokenizer), "label", "length"]),
        wholes=table["whole"][:],
        unknown=sum(table["unknown"][:]) / max(sum(table["words"][:]), 1),
        fingerprint=name,
    )


def _wanted(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return what the model reads of a row besides its mask.

    The token types of a single text are all 0, which a model that has them assumes.
    """
    types = "text_pair" in rows.column_names and "token_type_ids" in tokenizer.model_input_names
    return ["input_ids", *(["token_type_ids"] if types else [])]


def _is_whole(entry: Path) -> bool:
    try:
        check_folder(entry)
    except CheckpointError as error:
        if entry.exists():
            log.warning(f"warning: {entry}: the kept tokens are made again ({error})")
        return False
    return True


def _encode(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, entry: Path
) -> None:
    """Tokenise rows into a sealed folder of the cache."""
    unknown_id, special = tokenizer.unk_token_id, set(tokenizer.all_special_ids)

    wanted = _wanted(rows, tokenizer)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [batch[name] for name in ("text", "text_pair") if name in batch]
        found = tokenizer(*texts, return_attention_mask=False, verbose=False)
        whole = found["input_ids"]
        read = {name: list(found[name]) for name in wanted}
        # Most rows are short enough, and need no second look.
        if long := [row for row, ids in enumerate(whole) if len(ids) > max_length]:
            again = ([given[row] for row in long] for given in texts)
            cut = tokenizer(*again, truncation=True, max_length=max_length)
            for name in wanted:
                for row, value in zip(long, cut[name], strict=True):
                    read[name][row] = value
        return {
            **read,
            "length": [len(ids) for ids in read["input_ids"]],
            "whole": [len(ids) for ids in whole],
            "words": [sum(i == unknown_id or i not in special for i in ids) for ids in whole],
            "unknown": [sum(i == unknown_id for i in ids) for ids in whole],
        }

    entry.parent.mkdir(parents=True, exist_ok=True)
    unfinished = fresh_folder(entry.with_name(f".{entry.name}-{os.getpid()}"))
    rows.map(
        encode,
        batched=True,
        desc="tokenising",
        remove_columns=[name for name in rows.column_names if name != "label"],
        cache_file_name=str(unfinished / _ROWS),
        new_fingerprint=entry.name,
    )
    seal_folder(unfinished)
    publish_folder(unfinished, entry)


def check_unknown(share: float) -> str | None:
    """Return a warning for a high share of unknown tokens.

    Raises:
        InputError: the share is so high that the tokenizer cannot be the model's.
    """
    if share > _UNKNOWN_FAIL:
        raise InputError(
            f"the tokenizer knows too little of these texts: {share:.0%} of the tokens are "
            "unknown; does it lower-case or split Hangul? try model.tokenizer=kobert for "
            "KoBERT, or set do_lower_case to false in its tokenizer_config.json"
        )
    if share > _UNKNOWN_WARN:
        return f"{share:.1%} of the tokens are unknown to the tokenizer"
    return None
