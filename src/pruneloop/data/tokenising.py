"""From texts to token ids, once, cached by `datasets` across runs."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from pruneloop.errors import InputError

_UNKNOWN_WARN = 0.05
_UNKNOWN_FAIL = 0.30


@dataclass(frozen=True)
class Tokenised:
    """Rows of `input_ids`, `label` and `length`, and how well the tokenizer did."""

    rows: Dataset
    truncated: int
    unknown: float
    fingerprint: str


def _fingerprint(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> str:
    digest = hashlib.sha256(f"{max_length} {rows.features}".encode())
    words = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call asked for stays in the tokenizer; it is not what it knows.
    del words["truncation"], words["padding"]
    digest.update(json.dumps(words, sort_keys=True).encode())
    for column in ("text", "label"):
        for value in rows[column]:
            digest.update(str(value).encode() + b"\0")
    return digest.hexdigest()[:32]


def tokenise(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Tokenised:
    """Tokenise the column `text`, cutting at `max_length` tokens.

    The result is kept in the datasets cache under a hash of the texts, the tokenizer
    and the length, so that later runs and sweeps read it.
    """
    unknown_id, special = tokenizer.unk_token_id, set(tokenizer.all_special_ids)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        whole = tokenizer(batch["text"], return_attention_mask=False, verbose=False)["input_ids"]
        cut = tokenizer(
            batch["text"], truncation=True, max_length=max_length, return_attention_mask=False
        )["input_ids"]
        return {
            "input_ids": cut,
            "length": [len(ids) for ids in cut],
            "truncated": [len(ids) > max_length for ids in whole],
            "words": [sum(i == unknown_id or i not in special for i in ids) for ids in whole],
            "unknown": [sum(i == unknown_id for i in ids) for ids in whole],
        }

    name = _fingerprint(rows, tokenizer, max_length)
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "pruneloop"
    cache.mkdir(parents=True, exist_ok=True)
    table = rows.map(
        encode,
        batched=True,
        desc="tokenising",
        remove_columns=["text"],
        cache_file_name=str(cache / f"{name}.arrow"),
        new_fingerprint=name,
    )
    words = sum(table["words"])
    return Tokenised(
        table.select_columns(["input_ids", "label", "length"]),
        truncated=sum(table["truncated"]),
        unknown=sum(table["unknown"]) / max(words, 1),
        fingerprint=name,
    )


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
