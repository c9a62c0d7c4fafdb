"""The rounds: the only place that sees the whole configuration."""

import logging
import math
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils.tqdm import tqdm
from torch import nn
from torch.utils.data import DataLoader
from tqdm.contrib.logging import logging_redirect_tqdm

from pruneloop import report
from pruneloop.config import (
    Config,
    CorpusData,
    Device,
    FinetuneConfig,
    Method,
    Precision,
    PretrainedModel,
    PruneConfig,
    StructuredPruneConfig,
)
from pruneloop.data import sources, splits, tokenising
from pruneloop.data.batches import TrainingBatches, evaluation_loader, padding
from pruneloop.errors import ConfigError, EnvironmentFault, InvariantError
from pruneloop.evaluation import ClassificationScores, Scores, evaluate_model
from pruneloop.export import export
from pruneloop.model.build import Classifier, build, check_name
from pruneloop.pruning import (
    GlobalL1,
    LayerL1,
    Masks,
    RandomGlobal,
    StructuredLn,
    check_scope,
    drops_by_amount,
    drops_to_target,
    kind_of,
    prunable_weights,
)
from pruneloop.pruning import Method as PruningMethod
from pruneloop.records import LayerRecord, RoundRecord, RunFolder
from pruneloop.training import Recipe, fine_tune, steps_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Data:
    """The tokenised splits, and what to say about them."""

    train: tokenising.Tokenised
    validation: tokenising.Tokenised
    test: tokenising.Tokenised
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Loop:
    """What stays the same from round to round."""

    accelerator: Accelerator
    model: nn.Module
    plain: nn.Module
    weights: dict[str, nn.Parameter]
    parameters: int
    batches: TrainingBatches
    validation: DataLoader[Any]
    test: DataLoader[Any]
    rows: tuple[int, int]
    metric: ClassificationScores
    seed: int
    rounds: int

    def scores(self) -> Scores:
        return evaluate_model(
            self.model, self.validation, self.accelerator, self.rows[0], self.metric
        )

    def test_scores(self) -> Scores:
        return evaluate_model(self.model, self.test, self.accelerator, self.rows[1], self.metric)


def run(config: Config, path: Path) -> None:
    """Run all rounds, leaving the records and the permanent checkpoint in a folder."""
    _check_before_loading(config)
    accelerator = _start_accelerator(config)
    folder = RunFolder(Path(broadcast_object_list([str(path)])[0]))
    main = accelerator.is_main_process
    if not main:
        logging.getLogger().setLevel(logging.ERROR)
    try:
        if main:
            folder.write_status("running", pid=os.getpid(), host=platform.node())
        with logging_redirect_tqdm(), tempfile.TemporaryDirectory() as scratch:
            _run_rounds(config, folder, accelerator, Path(scratch))
        if main:
            folder.write_status("done", rounds=config.rounds)
    except BaseException as error:
        if main:
            message = f"{type(error).__name__}: {error}"
            folder.write_status("failed", message=message)
        raise
    finally:
        _stop_accelerator(accelerator)


def _run_rounds(config: Config, folder: RunFolder, accelerator: Accelerator, scratch: Path) -> None:
    """Data and model, then round 0, then prune and fine-tune, then the checkpoint."""
    with accelerator.main_process_first():
        split = _load_splits(config)
        classifier = build(config.model, split.labels, split.train["text"], config.seed)
        data = _tokenise(split, classifier)
    loop = _prepare(config, accelerator, classifier, data, scratch)
    masks = Masks.from_zeros(loop.weights)
    drops = _plan(config, masks)
    if accelerator.is_main_process:
        _announce(config, folder, loop, data, masks, drops)

    records: list[RoundRecord] = []
    layers: list[LayerRecord] = []
    log.info(report.TABLE_HEADER)
    for number, drop in enumerate([[], *drops]):
        masks, record = _round(config, loop, number, masks, drop)
        records.append(record)
        layers += _layer_records(number, masks)
        log.info(report.table_line(record, records[0].accuracy))
        if accelerator.is_main_process:
            folder.write_rounds(records)
            folder.write_layers(layers)
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(loop.model, keep_fp32_wrapper=False)
        export(model, classifier.tokenizer, masks, folder.checkpoint, split.validation["text"][:32])
        report.draw_curve(records, folder.curve)
        _say_where(folder, records)
    accelerator.wait_for_everyone()


def _round(
    config: Config, loop: _Loop, number: int, masks: Masks, drops: list[int]
) -> tuple[Masks, RoundRecord]:
    """Prune (but not in round 0), measure the shock, fine-tune, measure again."""
    started = time.monotonic()
    before, shock, amount = masks, None, 0.0
    if number > 0:
        method = _method(config.prune, config.seed, number)
        kept = method.units(masks)
        masks = method.prune(loop.weights, masks, drops)
        masks.zero_weights(loop.weights)
        _check_masks(loop, method, masks, kept, drops)
        amount = sum(drops) / max(sum(kept), 1)
        shock = loop.scores().accuracy
    recipe = _recipe(config.finetune, dense=number == 0)
    train_loss = _train(loop, masks, recipe, number)
    masks.check(loop.weights, before)
    scores, test = loop.scores(), loop.test_scores()
    zeros = masks.zeros
    return masks, RoundRecord(
        round=number,
        amount=amount,
        prunable=masks.prunable,
        zeros=zeros,
        sparsity=zeros / masks.prunable,
        model_sparsity=zeros / loop.parameters,
        shock_accuracy=shock,
        accuracy=scores.accuracy,
        macro_f1=scores.macro_f1,
        loss=scores.loss,
        test_accuracy=test.accuracy,
        test_macro_f1=test.macro_f1,
        train_loss=train_loss,
        steps=steps_of(recipe, loop.batches),
        seconds=time.monotonic() - started,
    )


def _train(loop: _Loop, masks: Masks, recipe: Recipe, number: int) -> float:
    """Fine-tune for one round under a progress bar; return the mean training loss."""
    steps = steps_of(recipe, loop.batches)
    loss = math.nan
    # disable=None: no bar where standard error is no terminal, so none in a log file.
    with tqdm(total=steps, desc=f"round {number}/{loop.rounds}", leave=False, disable=None) as bar:
        for progress in fine_tune(
            loop.model,
            loop.batches,
            loop.accelerator,
            masks,
            loop.weights,
            recipe,
            loop.seed,
            number,
        ):
            bar.update()
            if progress.loss is not None:
                loss = progress.loss
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
    return loss


# -- checks and preparation -----------------------------------------------------------


def _check_before_loading(config: Config) -> None:
    """Everything that can be told wrong before data and model are loaded."""
    if config.device == Device.cuda and not torch.cuda.is_available():
        raise EnvironmentFault(
            "device=cuda: this machine has no usable CUDA GPU; use device=cpu or device=auto"
        )
    on_gpu = config.device != Device.cpu and torch.cuda.is_available()
    if config.finetune.precision == Precision.fp16 and not on_gpu:
        raise ConfigError("finetune.precision=fp16: needs a GPU; use bf16 or fp32 on a CPU")
    if (
        config.finetune.precision == Precision.bf16
        and on_gpu
        and not torch.cuda.is_bf16_supported()
    ):
        raise EnvironmentFault("finetune.precision=bf16: this GPU has no bf16; use fp16")
    check_scope(config.prune.scope)
    if isinstance(config.model, PretrainedModel):
        check_name(config.model.name)


def _start_accelerator(config: Config) -> Accelerator:
    precision = config.finetune.precision.name
    accelerator = Accelerator(
        cpu=config.device == Device.cpu,
        mixed_precision="no" if precision == "fp32" else precision,
    )
    torch.use_deterministic_algorithms(accelerator.device.type == "cpu")
    return accelerator


def _stop_accelerator(accelerator: Accelerator) -> None:
    """Forget accelerate's process-wide state, so that a sweep's next job starts clean."""
    accelerator.free_memory()
    if accelerator.num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    else:
        accelerator.end_training()


def _load_splits(config: Config) -> splits.Splits:
    corpus = sources.load(config.data)
    test_share = config.data.test_share if isinstance(config.data, CorpusData) else 0.0
    result = splits.split(
        corpus, config.data.validation, test_share, config.data.split_seed, config.data.drop_overlap
    )
    log.info(f"data: {corpus.name}")
    counts = ", ".join(f"{key.replace('_', ' ')} {n:,}" for key, n in result.counts.items())
    log.info(f"rows: {counts}; labels: {', '.join(result.labels)}")
    return result


def _tokenise(split: splits.Splits, classifier: Classifier) -> _Data:
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
        "labels": split.labels,
        "rows": split.counts,
        "truncated": truncated,
        "unknown_tokens": unknown,
        "max_length": classifier.max_length,
    }
    return _Data(**parts, facts=facts)


def _prepare(
    config: Config, accelerator: Accelerator, classifier: Classifier, data: _Data, scratch: Path
) -> _Loop:
    """Put model and data where they are computed on; prepared once for all rounds."""
    plain = classifier.model
    weights = prunable_weights(
        plain, config.prune.scope, config.prune.include, config.prune.exclude
    )
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    collator = padding(classifier.tokenizer, accelerator.device.type == "cuda")
    size = config.finetune.batch_size
    model, validation, test = accelerator.prepare(
        plain,
        # Without gradients there is room for four times the rows.
        evaluation_loader(data.validation.rows, collator, 4 * size),
        evaluation_loader(data.test.rows, collator, 4 * size),
    )
    return _Loop(
        accelerator=accelerator,
        model=model,
        plain=plain,
        # Moving a model to a device keeps its Parameter objects, so these stay true.
        weights=weights,
        parameters=parameters,
        batches=TrainingBatches(
            data.train.rows,
            collator,
            size,
            config.seed,
            accelerator.process_index,
            accelerator.num_processes,
        ),
        validation=validation,
        test=test,
        rows=(len(data.validation.rows), len(data.test.rows)),
        metric=ClassificationScores(scratch),
        seed=config.seed,
        rounds=config.rounds,
    )


def _recipe(config: FinetuneConfig, dense: bool) -> Recipe:
    assert config.dense_epochs is not None and config.dense_learning_rate is not None
    return Recipe(
        epochs=config.dense_epochs if dense else config.epochs,
        learning_rate=config.dense_learning_rate if dense else config.learning_rate,
        accumulation=config.accumulation,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
    )


# -- pruning ---------------------------------------------------------------------------


def _method(config: PruneConfig, seed: int, number: int) -> PruningMethod:
    match config.method:
        case Method.global_l1:
            return GlobalL1(config.max_layer_sparsity)
        case Method.layer_l1:
            return LayerL1()
        case Method.random:
            return RandomGlobal(seed * 1_000_003 + number)
        case Method.structured_ln:
            assert isinstance(config, StructuredPruneConfig)
            return StructuredLn(config.n, config.dim)


def _plan(config: Config, masks: Masks) -> list[list[int]]:
    """Return how many units each group loses in every round."""
    method = _method(config.prune, config.seed, 1)
    kept = method.units(masks)
    if config.prune.target_sparsity is None:
        assert config.prune.amount is not None
        drops = drops_by_amount(kept, config.rounds, config.prune.amount)
    else:
        total = method.units(Masks.dense(masks))
        try:
            drops = drops_to_target(
                total, kept, config.rounds, config.prune.target_sparsity, config.prune.schedule.name
            )
        except ValueError as error:
            raise ConfigError(
                f"prune.target_sparsity={config.prune.target_sparsity}: {error}"
            ) from None
    for group, units in enumerate(kept):
        if units <= sum(drop[group] for drop in drops):
            raise ConfigError(
                "prune: the plan leaves nothing of a group of weights; prune less or fewer rounds"
            )
    return drops


def _planned_zeros(config: Config, masks: Masks, drops: list[list[int]]) -> list[int]:
    """Return the zeros expected after every round, round 0 first."""
    sizes = _method(config.prune, config.seed, 1).unit_sizes(masks)
    zeros = [masks.zeros]
    for drop in drops:
        zeros.append(zeros[-1] + sum(n * size for n, size in zip(drop, sizes, strict=True)))
    return zeros


def _check_masks(
    loop: _Loop, method: PruningMethod, masks: Masks, kept: Sequence[int], drops: Sequence[int]
) -> None:
    """Assert the exact counts, and that all processes pruned the same weights."""
    expected = [units - lost for units, lost in zip(kept, drops, strict=True)]
    if method.units(masks) != expected:
        raise InvariantError("the prune did not take exactly the planned number")
    if len(set(gather_object([masks.digest()]))) != 1:
        raise InvariantError("the processes pruned different weights")


def _layer_records(number: int, masks: Masks) -> list[LayerRecord]:
    return [
        LayerRecord(
            round=number,
            name=name,
            kind=kind_of(name),
            size=masks[name].numel(),
            zeros=zeros,
            sparsity=zeros / masks[name].numel(),
        )
        for name, zeros in masks.zeros_by_name().items()
    ]


# -- words -----------------------------------------------------------------------------


def _announce(
    config: Config,
    folder: RunFolder,
    loop: _Loop,
    data: _Data,
    masks: Masks,
    drops: list[list[int]],
) -> None:
    """Say what is about to happen, and record it."""
    zeros = _planned_zeros(config, masks, drops)
    device = loop.accelerator.device
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    log.info(
        f"model: {loop.parameters:,} parameters, {masks.prunable:,} of them prunable in "
        f"{len(masks)} matrices; {loop.accelerator.num_processes} process(es) on {device.type} "
        f"({hardware}), {config.finetune.precision.name}"
    )
    if zeros[0]:
        log.info(f"{zeros[0]:,} prunable weights are zero already and stay so")
    log.info(f"plan:\n{report.plan_table(zeros, masks.prunable)}")
    folder.write_facts(
        {
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "model": getattr(config.model, "name", "tiny"),
            "data": data.facts,
            "parameters": loop.parameters,
            "prunable": masks.prunable,
            "planned_zeros": zeros,
            "device": device.type,
            "hardware": hardware,
            "processes": loop.accelerator.num_processes,
            "precision": config.finetune.precision.name,
            "versions": {
                name: version(name)
                for name in ("torch", "transformers", "datasets", "accelerate", "evaluate")
            },
        }
    )


def _say_where(folder: RunFolder, records: Sequence[RoundRecord]) -> None:
    last = records[-1]
    log.info(
        f"done: {last.sparsity:.2%} of the prunable weights are zero, test accuracy "
        f"{last.test_accuracy:.4f} (dense {records[0].test_accuracy:.4f})"
    )
    log.info(f"checkpoint: {folder.checkpoint} (verified; loads in plain transformers)")
    log.info(f"picture:    {folder.curve}")
    log.info(f"records:    {folder.rounds_csv} and {folder.layers_csv}")
