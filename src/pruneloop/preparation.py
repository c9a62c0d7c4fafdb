"""What a run needs before its first round: the machine, the data, the early checks."""

import atexit
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from pruneloop.config import (
    Config,
    CorpusData,
    DataConfig,
    Device,
    Precision,
    PretrainedModel,
    Tracker,
)
from pruneloop.data import sources, splits, tokenising
from pruneloop.errors import ConfigError, EnvironmentFault
from pruneloop.hub import check_upload
from pruneloop.model.build import Classifier, check_name
from pruneloop.pruning import check_scope
from pruneloop.tracking import check_tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The tokenised splits, and what to say about them."""

    train: tokenising.Tokenised
    validation: tokenising.Tokenised
    test: tokenising.Tokenised
    facts: dict[str, Any]


def check_before_loading(config: Config) -> None:
    """Check all that can be told wrong before data and model are loaded.

    Raises:
        ConfigError, InputError, EnvironmentFault: it is wrong.
    """
    gpu = torch.cuda.is_available()
    if config.device == Device.cuda and not gpu:
        raise EnvironmentFault(
            "device=cuda: this machine has no usable CUDA GPU; use device=cpu or device=auto"
        )
    gpu = gpu and config.device != Device.cpu
    precision = config.finetune.precision
    if precision == Precision.fp16 and not gpu:
        raise ConfigError("finetune.precision=fp16: needs a GPU; use bf16 or fp32 on a CPU")
    if precision == Precision.bf16 and gpu and not torch.cuda.is_bf16_supported():
        raise EnvironmentFault("finetune.precision=bf16: this GPU has no bf16; use fp16")
    check_scope(config.prune.scope)
    if config.tracker != Tracker.none:
        check_tracker(config.tracker.name)
    if config.push_to_hub is not None:
        check_upload(config.push_to_hub)
    if isinstance(config.model, PretrainedModel):
        check_name(config.model.name)


def quiet_libraries() -> None:
    """Show the libraries' progress bars on a terminal only, and none for small things."""
    transformers.utils.logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


def start_accelerator(
    device: Device, precision: Precision, tracker: Tracker, folder: Path
) -> Accelerator:
    """Set up the processes, the device, and a tracker that may write into the run folder."""
    accelerator = Accelerator(
        log_with=None if tracker == Tracker.none else tracker.name,
        project_dir=folder,
        cpu=device == Device.cpu,
        mixed_precision="no" if precision == Precision.fp32 else precision.name,
    )
    torch.use_deterministic_algorithms(accelerator.device.type == "cpu")
    atexit.unregister(_leave_process_group)
    atexit.register(_leave_process_group)
    return accelerator


def _leave_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def stop_accelerator(accelerator: Accelerator) -> None:
    """Forget accelerate's process-wide state, so that a sweep's next job starts clean.

    The process group stays: a second one cannot meet in the same store.
    """
    accelerator.free_memory()
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def load_splits(config: DataConfig) -> splits.Splits:
    """Read the rows and divide them, saying what was read, dropped and changed."""
    corpus = sources.load(config)
    result = splits.split(
        corpus,
        config.validation,
        config.test_share if isinstance(config, CorpusData) else 0.0,
        config.split_seed,
        config.drop_overlap,
        config.label_names if isinstance(config, CorpusData) else (),
    )
    log.info(f"data: {result.name}")
    counts = ", ".join(f"{key.replace('_', ' ')} {n:,}" for key, n in result.counts.items())
    log.info(f"rows: {counts}; labels: {', '.join(result.labels)}")
    return result


def tokenise_splits(split: splits.Splits, classifier: Classifier) -> Data:
    """Tokenise all splits, saying what was cut and what the tokenizer did not know."""
    parts = {
        name: tokenising.tokenise(rows, classifier.tokenizer, classifier.max_length)
        for name, rows in (
            ("train", split.train),
            ("validation", split.validation),
            ("test", split.test),
        )
    }
    truncated = sum(part.truncated for part in parts.values())
    unknown = parts["train"].unknown
    warning = tokenising.check_unknown(unknown)
    if warning:
        log.warning(f"warning: {warning}")
    log.info(
        f"tokens: at most {classifier.max_length} a row, {truncated:,} rows truncated, "
        f"{unknown:.2%} unknown"
    )
    facts = {
        "name": split.name,
        "labels": split.labels,
        "rows": split.counts,
        "truncated": truncated,
        "unknown_tokens": unknown,
        "max_length": classifier.max_length,
        # A hash of texts, labels, tokenizer and length of each split.
        "fingerprints": {name: part.fingerprint for name, part in parts.items()},
    }
    return Data(**parts, facts=facts)
