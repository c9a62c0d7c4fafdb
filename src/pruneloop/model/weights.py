"""A checkpoint's weights, read strictly: every key has its place, outside the classifier."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as their_logging

from pruneloop.errors import InputError, listed
from pruneloop.pruning import Masks
from pruneloop.pruning.scope import head
from pruneloop.pruning.torch_form import from_torch, to_torch

log = logging.getLogger(__name__)

_POOLER = re.compile(r"(^|\.)pooler\.")
# Buffers that older versions of transformers wrote, and that are computed today.
_COMPUTED = re.compile(r"\.(position_ids|token_type_ids|inv_freq)$")


@dataclass(frozen=True)
class _Found:
    """A model as a checkpoint's keys filled it, and the keys that did not fit."""

    model: PreTrainedModel
    missing: set[str]
    unexpected: set[str]
    mismatched: dict[str, tuple[int, ...]]


def load_weights(
    name: str, revision: str | None, config: PretrainedConfig, keep_head: bool = False
) -> tuple[PreTrainedModel, Masks | None]:
    """Load a classifier in float32, and the masks of `torch.nn.utils.prune` where it has some.

    Only the classifier may start from random weights, and a pooler that the file lacks;
    both are said.

    Args:
        keep_head: nothing may start from random weights.

    Raises:
        InputError: the file lacks parameters, has others, or of another shape.
        Exception: whatever transformers and torch say of a file that they cannot read.
    """
    renamed: dict[str, str] = {}
    found = _read(name, revision, config, renamed)
    if any(key.startswith("module.") for key in found.unexpected):
        log.info("the weights were saved out of a parallel wrapper: `module.` is taken off")
        renamed = {r"^module\.": ""}
        found = _read(name, revision, config, renamed)
    masks = None
    if any(key.endswith("_orig") for key in found.unexpected):
        found, masks = _read_masked(name, revision, config, renamed, found.missing)
    _check(name, found)
    if keep_head and (new := found.missing | found.mismatched.keys()):
        raise InputError(
            f"model.name={name}: is no trained classifier, which finetune.dense_epochs=0 keeps as "
            f"it is: {listed(sorted(new), 3)} would start from random weights; train it first: "
            "finetune.dense_epochs=3"
        )
    _say_what_is_new(found)
    # A model remembers the names that it was read under, and would be saved under them again.
    model = _fresh(found.model) if renamed or masks is not None else found.model
    for parameter in model.parameters():
        # A converted file keeps the strides that it was written with.
        parameter.data = parameter.data.contiguous()
    return model, masks


def _fresh(model: PreTrainedModel) -> PreTrainedModel:
    """Return a new model with the same weights."""
    new: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        model.config, dtype=torch.float32, trust_remote_code=False
    )
    new.load_state_dict(model.state_dict())
    return new


def _read(
    name: str, revision: str | None, config: PretrainedConfig, renamed: dict[str, str]
) -> _Found:
    with quiet():
        model, report = AutoModelForSequenceClassification.from_pretrained(
            name,
            revision=revision,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # `_check` says which ones may
            key_mapping=renamed or None,
            output_loading_info=True,
        )
    if report.get("error_msgs"):
        raise InputError(f"model.name={name}: cannot be loaded ({report['error_msgs'][0]})")
    return _Found(
        model,
        set(report["missing_keys"]),
        set(report["unexpected_keys"]),
        {key: tuple(shape) for key, shape, _ in report["mismatched_keys"]},
    )


def _read_masked(
    name: str,
    revision: str | None,
    config: PretrainedConfig,
    renamed: dict[str, str],
    missing: set[str],
) -> tuple[_Found, Masks]:
    """Read `weight_orig` as the weights and `weight_mask` as their masks, and join the two."""
    found = _read(name, revision, config, {**renamed, r"_orig$": ""})
    kept = _read(name, revision, config, {**renamed, r"_mask$": ""})
    names = missing - found.missing - kept.missing - found.mismatched.keys()
    values = dict(kept.model.named_parameters())
    order = [key for key, _ in found.model.named_parameters() if key in names]
    to_torch(found.model, Masks({key: values[key].detach().bool() for key in order}))
    masks = from_torch(found.model)
    log.info(
        f"the checkpoint has the masks of torch.nn.utils.prune: {masks.zeros:,} weights of "
        f"{len(masks)} matrices are pruned"
    )
    fitting = {key for key in found.unexpected if not key.endswith("_mask")}
    return _Found(found.model, found.missing, fitting, found.mismatched), masks


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing its own report: what matters of it is said in a line."""
    before, bars = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity_error()
    their_logging.disable_progress_bar()
    try:
        yield
    finally:
        their_logging.set_verbosity(before)
        if bars:
            their_logging.enable_progress_bar()


def _check(name: str, found: _Found) -> None:
    """Reject keys outside the classifier that do not fit."""
    classifier = head(found.model)
    wrong = {
        "lacks": {k for k in found.missing - classifier if not _POOLER.search(k)},
        "has besides": {k for k in found.unexpected if _is_inside(k, found.model)},
        "has in another shape": found.mismatched.keys() - classifier,
    }
    said = [f"{what} {listed(sorted(keys), 3)}" for what, keys in wrong.items() if keys]
    if said:
        raise InputError(
            f"model.name={name}: its weights are not those of its config.json: the file "
            f"{'; '.join(said)}"
        )


def _is_inside(key: str, model: PreTrainedModel) -> bool:
    """Whether an unexpected key is one of the encoder's, and none of a head's of another task."""
    base = model.base_model
    prefix = f"{model.base_model_prefix}."
    part = key.removeprefix(prefix).split(".")[0]
    inside = key.startswith(prefix) or part in dict(base.named_children())
    return inside and not _POOLER.search(key) and not _COMPUTED.search(key)


def _say_what_is_new(found: _Found) -> None:
    labels = found.model.config.num_labels
    classifier = head(found.model)
    if found.mismatched:
        rows = next(iter(found.mismatched.values()))[0]
        log.info(
            f"the classifier is new for {labels} labels: the checkpoint's is for {rows} "
            f"({listed(sorted(found.mismatched), 3)})"
        )
    elif found.missing & classifier:
        log.info(
            f"the classifier is new for {labels} labels: the checkpoint has none "
            f"({listed(sorted(found.missing & classifier), 3)})"
        )
    if pooler := found.missing - classifier:
        log.info(f"the checkpoint has no pooler: it is new ({listed(sorted(pooler), 3)})")
