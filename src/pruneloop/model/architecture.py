"""What config.json says a model is, and what of it is refused: code, kernels, quantisers."""

import json
import logging
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig
from transformers.utils.hub import cached_file

from pruneloop.errors import InputError

log = logging.getLogger(__name__)

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_KERNEL_KEYS = ("attn_implementation", "_attn_implementation", "experts_implementation")


def label_names(config: PretrainedConfig) -> list[str]:
    """Return the labels of a classifier, in the order of its outputs."""
    return [str(label) for _, label in sorted((config.id2label or {}).items())]


def read_config(
    name: str, revision: str | None = None, key: str = "model.name="
) -> PretrainedConfig:
    """Read a model's config, without its code, and refuse what could not be read as it is.

    Args:
        key: what an error puts before the name.

    Raises:
        InputError: the model needs code of its own, a kernel of the hub, a quantiser or an
            adapter, or its index names a file outside its folder.
        Exception: whatever transformers says of a file that it cannot read.
    """
    raw, _ = PretrainedConfig.get_config_dict(name, revision=revision)
    kind = raw.get("model_type")
    if "auto_map" in raw and kind not in CONFIG_MAPPING:
        raise InputError(
            f"{key}{name}: its model_type {kind} needs the code that comes with it "
            "(auto_map), which is never run; take a model of a type that transformers knows"
        )
    if "quantization_config" in raw or "compression_config" in raw:
        raise InputError(
            f"{key}{name}: it is quantised (quantization_config), and no quantiser is run; "
            "take the model that it was made from"
        )
    for setting, value in _kernels(raw):
        raise InputError(
            f"{key}{name}: its config.json names a kernel ({setting}={value}), whose code is "
            "never run; take that key out"
        )
    if _file(name, revision, "adapter_config.json") is not None:
        raise InputError(
            f"{key}{name}: it has an adapter (adapter_config.json); merge it into its "
            "model and save that"
        )
    _check_index(name, revision, key)
    return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)


def _kernels(raw: dict[str, Any], named: bool = False) -> list[tuple[str, object]]:
    """Return what in a config, and in the configs inside it, names an attention of the hub."""
    found: list[tuple[str, object]] = []
    for key, value in raw.items():
        here = named or key in _KERNEL_KEYS
        if isinstance(value, dict):
            found += _kernels(value, here)
        elif here and isinstance(value, str) and ("/" in value or ":" in value):
            found.append((key, value))
    return found


def _file(name: str, revision: str | None, file: str) -> Path | None:
    path = cached_file(
        name,
        file,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else Path(path)


def _check_index(name: str, revision: str | None, key: str) -> None:
    """Make sure that the shards an index names are plain files of its own folder."""
    for index in _INDEXES:
        path = _file(name, revision, index)
        if path is None:
            continue
        shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        for shard in shards:
            if Path(shard).name != shard or "\\" in shard:
                raise InputError(f"{key}{name}: {index} names a file outside the folder ({shard})")


def fit_config(config: PretrainedConfig, names: dict[int, str], pad_id: int) -> None:
    """Set a config for one label a text, the labels' names and the tokenizer's padding id."""
    if config.problem_type not in (None, "single_label_classification"):
        log.info(f"the model's problem_type {config.problem_type} becomes single-label")
    config.id2label = names
    config.label2id = {label: index for index, label in names.items()}
    config.problem_type = "single_label_classification"
    if config.pad_token_id != pad_id:
        log.info(f"the model's padding id {config.pad_token_id} becomes the tokenizer's, {pad_id}")
        config.pad_token_id = pad_id
    if getattr(config, "attention_type", None) == "block_sparse":
        # On short batches it falls back to full attention by itself, and then stays there:
        # what a row scores would depend on what came before.
        log.info("attention_type block_sparse becomes original_full: the same for every length")
        config.attention_type = "original_full"
    config.return_dict = True
    if hasattr(config, "auto_map"):
        del config.auto_map  # code that was not run here is none of the export's
