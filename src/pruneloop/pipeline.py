"""A whole run: the only place that sees the whole configuration."""

import logging
import os
import platform
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.contrib.logging import logging_redirect_tqdm

from pruneloop.checkpoint import STATE, StateFolder
from pruneloop.checkpointer import Checkpointer, Live, resume, take_over
from pruneloop.config import (
    ClassWeights,
    Config,
    Criterion,
    DistillConfig,
    ModelConfig,
    Normalization,
    PretrainedModel,
    Tracker,
    flat,
)
from pruneloop.data.batches import TrainingBatches, evaluation_loader, padding, shortest_first
from pruneloop.data.loading import Data, load_splits, tokenise_splits
from pruneloop.data.splits import Splits, texts_of
from pruneloop.dense import DenseRound, dense_identity
from pruneloop.engine import Engine, Split
from pruneloop.errors import printable
from pruneloop.evaluation import ClassificationScores
from pruneloop.exports.checkpoint import export
from pruneloop.exports.predictions import prediction_rows
from pruneloop.facts import run_facts
from pruneloop.hub import check_upload, push
from pruneloop.identity import find_saved, identity, is_finished, same_arithmetic
from pruneloop.loop import Loop
from pruneloop.machine import check_batches, check_machine, check_same, processes
from pruneloop.model.build import Classifier, build, check_name, labels_of
from pruneloop.model.tokenizers import add_nfc
from pruneloop.model.values import check_finite, check_prunable
from pruneloop.plan import Plan, make_plan
from pruneloop.pruning import Masks, PrunedModel, check_scope, prunable_weights
from pruneloop.pruning.scope import what_is_left
from pruneloop.recorder import Recorder, status
from pruneloop.records import RoundRecord, RunFacts, RunFolder, last_kept
from pruneloop.report.answer import answer_table
from pruneloop.report.card import model_card
from pruneloop.report.predictions import most_lost
from pruneloop.report.table import plan_table
from pruneloop.rounding import check_takes
from pruneloop.run_state import RunState
from pruneloop.signals import stop_requests
from pruneloop.teacher import Itself, Teacher, given_teacher
from pruneloop.tracking import Tracking, check_tracker
from pruneloop.training import Batch, Distillation

log = logging.getLogger(__name__)


def run(
    config: Config,
    path: Path,
    overrides: list[str],
    shared: Path | None = None,
    accepted: Callable[[], None] | None = None,
) -> list[RoundRecord]:
    """Run all rounds in a folder, or go on where an earlier run stopped in it.

    Leaves the records and the permanent, verified checkpoint there; returns the records.

    Args:
        overrides: what the command line changed of conf/, for the record.
        shared: where the runs of a sweep leave round 0 for each other.
        accepted: called on the main process once the folder is known to be this run's.
    """
    check_before_loading(config)
    precision = config.finetune.precision
    with processes(config.device, precision, config.tracker, path) as accelerator:
        folder = RunFolder(Path(broadcast_object_list([str(path)])[0]))
        states = StateFolder(folder.path / STATE)
        main = accelerator.is_main_process
        if not main:
            logging.getLogger().setLevel(logging.ERROR)
        with (
            states.locked() if main else nullcontext(),
            status(folder, main),
            stop_requests() as stop_requested,
            logging_redirect_tqdm(),
        ):
            records = _go_on(
                config, overrides, folder, states, accelerator, stop_requested, shared, accepted
            )
        # The run is done, also if the hub refuses it.
        if main and config.push_to_hub is not None:
            message = f"{last_kept(records).sparsity:.2%} sparse"
            log.info(f"uploaded:   {push(folder.checkpoint, config.push_to_hub, message)}")
    if config.control:
        _run_control(config, folder, overrides, records, main)
    return records


def _run_control(
    config: Config, folder: RunFolder, overrides: list[str], records: list[RoundRecord], main: bool
) -> None:
    """Run the same plan with random weights, a run of its own within the run's folder."""
    from pruneloop.report.run import write_report

    log.info("control: the same plan with random weights ...")
    prune = replace(config.prune, criterion=Criterion.random)
    budget = replace(config.budget, max_drop=None)
    control = replace(config, prune=prune, budget=budget, control=False)
    control.tracker, control.push_to_hub = Tracker.none, None
    control.start_from = str(folder.path)
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.WARNING)  # its lines would be taken for the run's own
    try:
        chance = run(control, folder.control, overrides)[-1]
    finally:
        logger.setLevel(level)
    if main:
        write_report(folder)
    kept = last_kept(records)
    log.info(
        f"control:    random weights, {chance.sparsity:.2%} of them: test accuracy "
        f"{chance.test_accuracy:.4f} (this run {kept.test_accuracy:.4f} at {kept.sparsity:.2%})"
    )


def check_before_loading(config: Config) -> None:
    """Check all that can be told wrong before data and model are loaded.

    Raises:
        ConfigError, InputError, EnvironmentFault: it is wrong.
    """
    check_machine(config.device, config.finetune.precision, config.finetune.accumulation)
    check_scope(config.prune.scope)
    if config.tracker != Tracker.none:
        check_tracker(config.tracker.name)
    if config.push_to_hub is not None:
        check_upload(config.push_to_hub)
    if isinstance(config.model, PretrainedModel):
        check_name(config.model.name)


def _go_on(
    config: Config,
    overrides: list[str],
    folder: RunFolder,
    states: StateFolder,
    accelerator: Accelerator,
    stop_requested: Callable[[], bool],
    shared: Path | None,
    accepted: Callable[[], None] | None,
) -> list[RoundRecord]:
    """Find out where to begin, run the rounds, and export what they leave."""
    main = accelerator.is_main_process
    with accelerator.main_process_first():
        split = load_splits(config.data)
        if given := config.finetune.dense_epochs == 0:
            split = split.in_order_of(labels_of(config.model), _whose(config.model))
    own = identity(flat(config), accelerator, split.fingerprints)
    check_same(own | {"labels": split.labels, "counts": split.counts})
    saved = find_saved(folder, states, own)
    if main and accepted is not None:
        accepted()
    if saved is not None and is_finished(saved, folder, config.rounds):
        log.info(f"{folder.path}: this run is finished already")
        return _say_where(folder, folder.read_rounds())
    own |= same_arithmetic(saved, accelerator.device)
    if main:
        folder.write_status("running", pid=os.getpid(), host=platform.node())
    with accelerator.main_process_first():
        texts = texts_of(split.train)
        classifier = build(config.model, split.labels, texts, config.seed, keep_head=given)
        if getattr(config.data, "normalize", Normalization.NFC) == Normalization.NFC:
            add_nfc(classifier.tokenizer)
        data = tokenise_splits(split, classifier.tokenizer, classifier.max_length)
    pruned = _pruned_model(config, classifier)
    balanced = config.finetune.class_weights == ClassWeights.balanced
    plan = make_plan(config, pruned.masks, split.balanced_weights() if balanced else ())
    if warning := check_takes(plan, pruned.masks):
        log.warning(f"warning: {warning}")
    if main:
        facts = run_facts(config, overrides, split, data, pruned, plan.zeros, accelerator)
        _announce(facts, plan, len(pruned.masks))
        folder.write_facts(facts)
        folder.write_rejected(split.rejected)
    teacher = _given_teacher(config.distill, split)
    scores = states.path / "scores"
    engine = _engine(config, data, classifier, pruned, accelerator, scores, teacher)
    own["tokens"] = data.fingerprint
    check_same({"tokens": data.fingerprint})
    check_batches(gather_object([engine.batches.order(0, 0)]), len(data.train.rows))
    start_from = Path(config.start_from).expanduser() if config.start_from else None
    with closing(DenseRound(dense_identity(own, plan, pruned.masks), start_from, shared)) as dense:
        checkpointer = Checkpointer(
            states, accelerator, own, config.checkpoint, stop_requested, dense
        )
        if saved is None:
            live = _begin(dense, states, plan, engine, checkpointer)
        else:
            log.info(f"going on in {folder.path} from round {saved.position['round']}")
            live = resume(saved, own, states, plan, engine)
        steps = live.state.steps + (live.tuning.step if live.tuning else 0)
        with closing(Tracking(accelerator, folder.path, flat(config), steps)) as tracking:
            recorder = Recorder(folder, tracking, config.rounds, main)
            keep = partial(_export_round, folder, split, classifier, engine)
            Loop(
                plan, engine, live, checkpointer, recorder, keep if config.keep_rounds else None
            ).run()
    if main:
        records = live.state.records
        with engine.plain():
            _export(folder.checkpoint, folder, split, classifier, pruned.masks, records)
        _report(folder, split, data, live)
        _say_where(folder, records)
    accelerator.wait_for_everyone()
    return live.state.records


def _begin(
    dense: DenseRound, states: StateFolder, plan: Plan, engine: Engine, checkpointer: Checkpointer
) -> Live:
    """Begin a run: with round 0, or behind it, where another run has left one."""
    accelerator = engine.accelerator
    with accelerator.main_process_first():
        entry = dense.find(accelerator.is_main_process)
    if entry is None:
        return Live(RunState(left=plan.method(1).units(engine.pruned.masks)), engine.pruned)
    log.info(f"round 0: taken over from {entry.folder}")
    live = take_over(entry, states, plan, engine)
    checkpointer.save(live)  # records are never without a state to go on from
    return live


def _pruned_model(config: Config, classifier: Classifier) -> PrunedModel:
    """Return the model with the weights to prune, and masks of those that are pruned already."""
    prune = config.prune
    check_finite(classifier.model)
    weights = prunable_weights(classifier.model, prune.scope, prune.include, prune.exclude)
    for line in what_is_left(classifier.model, weights, prune.scope):
        log.warning(line)
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
    return PrunedModel(classifier.model, weights, masks)


def _engine(
    config: Config,
    data: Data,
    classifier: Classifier,
    pruned: PrunedModel,
    accelerator: Accelerator,
    scores: Path,
    teacher: Teacher | None,
) -> Engine:
    collator = padding(classifier.tokenizer, accelerator.device.type == "cuda")
    size = config.finetune.batch_size

    def loader(rows: Dataset) -> DataLoader[Batch]:
        # Without gradients there is room for four times the rows.
        prepared: DataLoader[Batch] = accelerator.prepare(
            evaluation_loader(rows, collator, 4 * size)
        )
        return prepared

    def split(name: str, rows: Dataset) -> Split:
        return Split(name, loader(rows), len(rows), metric)

    model = accelerator.prepare(classifier.model)
    pruned.place()
    if config.distill.alpha > 0 and teacher is None:
        rows = data.train.rows
        teacher = Itself(_distillation(config.distill), model, loader(rows), shortest_first(rows))
    rank, world = accelerator.process_index, accelerator.num_processes
    metric = ClassificationScores(scores)
    return Engine(
        accelerator=accelerator,
        model=model,
        pruned=pruned,
        batches=TrainingBatches(data.train.rows, collator, size, config.seed, rank, world),
        validation=split("validation", data.validation.rows),
        test=split("test", data.test.rows),
        evidence_batches=config.prune.evidence_batches,
        teacher=teacher,
    )


def _distillation(config: DistillConfig) -> Distillation:
    return Distillation(config.alpha, config.temperature)


def _given_teacher(config: DistillConfig, split: Splits) -> Teacher | None:
    """Return a teacher of the user's own; None where there is none."""
    if config.teacher is None:
        return None
    folder = Path(config.teacher).expanduser()
    return given_teacher(folder, split.labels, texts_of(split.train), _distillation(config))


def _whose(config: ModelConfig) -> str:
    assert isinstance(config, PretrainedModel)
    return f"model.name={config.name}"


def _export(
    target: Path,
    folder: RunFolder,
    split: Splits,
    classifier: Classifier,
    masks: Masks,
    records: list[RoundRecord],
) -> None:
    """Write the model as it is now, with the card that its records make."""
    facts = folder.read_facts()
    assert facts is not None
    texts = texts_of(split.validation)[:32]
    card = model_card(facts, records)
    export(classifier.model, classifier.tokenizer, masks, target, texts, card)


def _export_round(
    folder: RunFolder, split: Splits, classifier: Classifier, engine: Engine, state: RunState
) -> None:
    """Leave the checkpoint of the round that has just been kept in rounds/NN/."""
    if engine.accelerator.is_main_process:
        folder.rounds.mkdir(exist_ok=True)
        target = folder.rounds / f"{state.records[-1].round:02d}"
        with engine.plain():
            _export(target, folder, split, classifier, engine.pruned.masks, state.records)
    engine.accelerator.wait_for_everyone()


def _report(folder: RunFolder, split: Splits, data: Data, live: Live) -> None:
    """Write the predictions and the report."""
    # matplotlib takes half a second to load, which only the end of a run should pay.
    from pruneloop.report.run import write_report

    said = live.state.predictions
    assert said.dense is not None
    folder.write_predictions(prediction_rows(split, data.test.rows, said.dense, said.pruned))
    folder.seal(folder.records)
    write_report(folder)


# -- words -----------------------------------------------------------------------------


def _announce(facts: RunFacts, plan: Plan, matrices: int) -> None:
    """Say what is about to happen."""
    log.info(
        f"model: {facts.parameters:,} parameters, {facts.prunable:,} of them prunable in "
        f"{matrices} matrices; {facts.processes} process(es) on {facts.device} "
        f"({facts.hardware}), {facts.precision}"
    )
    log.info(f"plan:\n{plan_table(plan.zeros, facts.prunable)}")


def _say_where(folder: RunFolder, records: list[RoundRecord]) -> list[RoundRecord]:
    kept = last_kept(records)
    log.info(
        f"done: {kept.sparsity:.2%} of the prunable weights are zero, test accuracy "
        f"{kept.test_accuracy:.4f} (dense {records[0].test_accuracy:.4f})"
    )
    facts = folder.read_facts()
    if facts:
        log.info("\n".join(answer_table(records, facts)))
    if facts and (lost := most_lost(folder.read_predictions(), facts.data.labels)):
        log.info(
            printable(
                f"lost most:  the label {lost.label}, F1 {lost.dense:.4f} -> {lost.pruned:.4f}"
            )
        )
    log.info(f"checkpoint: {folder.checkpoint} (verified; loads in plain transformers)")
    log.info(f"report:     {folder.report}")
    log.info(f"records:    {folder.rounds_csv} and {folder.layers_csv}")
    return records
