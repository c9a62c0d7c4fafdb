"""From a configuration to the parts of a run: rows, model, plan, and the engine that has them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader

from pruneloop.config import (
    ClassWeights,
    Config,
    DistillConfig,
    Normalization,
    PretrainedModel,
    UnitPruneConfig,
)
from pruneloop.data.batches import (
    TrainingBatches,
    evaluation_loader,
    evaluation_size,
    padding,
    shortest_first,
)
from pruneloop.data.loading import Data, load_splits, tokenise_splits
from pruneloop.data.splits import Splits, texts_of
from pruneloop.engine import Engine, HeldOut, Split
from pruneloop.model.build import Classifier, build, labels_of
from pruneloop.model.tokenizers import add_nfc
from pruneloop.model.values import check_finite, check_prunable
from pruneloop.plan import Plan, make_plan
from pruneloop.pruning import Masks, PrunedModel, prunable_weights
from pruneloop.pruning.scope import what_is_left
from pruneloop.rounding import check_takes
from pruneloop.shrinking import check_known, encoder_layers
from pruneloop.teacher import Itself, Teacher, given_teacher
from pruneloop.training import Batch, Distillation, Quick, Shortcut

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a run is made of; `split` has its rows as texts, `data` as tokens."""

    split: Splits
    data: Data
    classifier: Classifier
    pruned: PrunedModel
    plan: Plan
    engine: Engine


def read_rows(config: Config) -> Splits:
    """Read and divide the rows; a given classifier's labels keep their order.

    Raises:
        InputError: they cannot be read, or have labels that the classifier lacks.
    """
    split = load_splits(config.data)
    if config.finetune.dense_epochs > 0:
        return split
    assert isinstance(config.model, PretrainedModel)
    return split.in_order_of(labels_of(config.model), f"model.name={config.model.name}")


def assemble(config: Config, split: Splits, accelerator: Accelerator, scores: Path) -> Parts:
    """Build or load the model, tokenise the rows, plan the rounds.

    Args:
        scores: a folder for what scores keep while they are counted.

    Raises:
        ConfigError, InputError, EnvironmentFault: something does not fit.
    """
    with accelerator.main_process_first():
        texts, given = texts_of(split.train), config.finetune.dense_epochs == 0
        classifier = build(config.model, split.labels, texts, config.seed, keep_head=given)
        if getattr(config.data, "normalize", Normalization.NFC) == Normalization.NFC:
            add_nfc(classifier.tokenizer)
        data = tokenise_splits(split, classifier.tokenizer, classifier.max_length)
    pruned = _pruned_model(config, classifier)
    balanced = config.finetune.class_weights == ClassWeights.balanced
    heads = getattr(classifier.model.config, "num_attention_heads", 1)
    weights = split.balanced_weights() if balanced else ()
    first_stays = pruned.layers is not None and pruned.layers.first_stays
    plan = make_plan(config, pruned.masks, weights, heads, first_stays)
    if warning := check_takes(plan, pruned.masks):
        log.warning(f"warning: {warning}")
    teacher = _given_teacher(config.distill, split)
    engine = _engine(config, data, classifier, pruned, accelerator, scores, teacher)
    return Parts(split, data, classifier, pruned, plan, engine)


def _pruned_model(config: Config, classifier: Classifier) -> PrunedModel:
    """Return the model with the weights to prune, and masks of those that are pruned already."""
    prune = config.prune
    check_finite(classifier.model)
    layers = None
    if isinstance(prune, UnitPruneConfig):
        check_known(classifier.model)
        layers = encoder_layers(classifier.model) if prune.prunes_layers else None
    weights = prunable_weights(classifier.model, prune.scope, prune.include, prune.exclude)
    for line in what_is_left(classifier.model, weights, prune.scope):
        log.log(logging.WARNING if line.startswith("warning") else logging.INFO, line)
    masks = Masks.from_zeros(weights)
    if masks.zeros and (classifier.pruned or prune.keep_zeros):
        log.info(f"{masks.zeros:,} prunable weights are zero already and stay so")
    elif masks.zeros:
        log.info(
            f"{masks.zeros:,} prunable weights are zero, and nothing says that they were pruned: "
            "they train like the others (prune.keep_zeros=true keeps them zero)"
        )
        masks = Masks.dense(weights)
    if warning := check_prunable(weights, masks):
        log.warning(f"warning: {warning}")
    return PrunedModel(classifier.model, weights, masks, layers)


def _engine(
    config: Config,
    data: Data,
    classifier: Classifier,
    pruned: PrunedModel,
    accelerator: Accelerator,
    scores: Path,
    teacher: Teacher | None,
) -> Engine:
    on_gpu = accelerator.device.type == "cuda"
    collator = padding(classifier.tokenizer, on_gpu)
    size = config.finetune.batch_size

    def loader(rows: Dataset) -> DataLoader[Batch]:
        prepared: DataLoader[Batch] = accelerator.prepare(
            evaluation_loader(rows, collator, evaluation_size(size, on_gpu))
        )
        return prepared

    # Proven in float32, before anything is wrapped.
    short = Shortcut(classifier.model, skips=pruned.layers is not None)
    model = accelerator.prepare(classifier.model)
    pruned.place()
    if config.distill.alpha > 0 and teacher is None:
        rows = data.train.rows
        teacher = Itself(_distillation(config.distill), model, loader(rows), shortest_first(rows))
    rank, world = accelerator.process_index, accelerator.num_processes
    batches = config.prune.evidence_batches
    return Engine(
        accelerator=accelerator,
        model=model,
        pruned=pruned,
        batches=TrainingBatches(data.train.rows, collator, size, config.seed, rank, world),
        held_out=_held_out(data, loader, scores, most=batches * size),
        evidence_batches=batches,
        teacher=teacher,
        quick=Quick(classifier.model, short, config.finetune.compile),
    )


def _held_out(
    data: Data,
    loader: Callable[[Dataset], DataLoader[Batch]],
    scores: Path,
    most: int,
) -> HeldOut:
    """Return what is measured on; of validation also a sample of so many rows at most."""

    def split(name: str, rows: Dataset) -> Split:
        return Split(name, loader(rows), len(rows))

    rows = data.validation.rows
    both = concatenate_datasets([rows, data.test.rows])
    # Stable: each split's own rows stand in the order that they have alone.
    order = shortest_first(both)
    return HeldOut(
        validation=split("validation", rows),
        both=split("validation and test", both),
        of_test=torch.tensor(order) >= len(rows),
        labels=torch.tensor(both["label"][:])[order],
        # From all over the split.
        sample=split("sample", rows.select(range(0, len(rows), -(-len(rows) // most)))),
        cache=scores,
    )


def _distillation(config: DistillConfig) -> Distillation:
    return Distillation(config.alpha, config.temperature)


def _given_teacher(config: DistillConfig, split: Splits) -> Teacher | None:
    """Return a teacher of the user's own; None where there is none."""
    if config.teacher is None:
        return None
    folder = Path(config.teacher).expanduser()
    return given_teacher(folder, split.labels, texts_of(split.train), _distillation(config))
