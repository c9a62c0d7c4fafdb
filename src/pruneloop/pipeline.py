"""A whole run: the only place that sees the whole configuration."""

import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.contrib.logging import logging_redirect_tqdm

from pruneloop.checkpoint import SavedState, StateFolder, differences
from pruneloop.config import Config, FinetuneConfig, HubData, PretrainedModel
from pruneloop.data.batches import TrainingBatches, evaluation_loader, padding, shortest_first
from pruneloop.data.splits import Splits
from pruneloop.durable import check_folder
from pruneloop.errors import CheckpointError, EnvironmentFault, PeerLost, Preempted
from pruneloop.evaluation import ClassificationScores
from pruneloop.export import export
from pruneloop.hub import push
from pruneloop.model.build import Classifier, build
from pruneloop.planning import method_for, plan_drops, planned_zeros
from pruneloop.preparation import (
    Data,
    check_before_loading,
    load_splits,
    quiet_libraries,
    start_accelerator,
    stop_accelerator,
    tokenise_splits,
)
from pruneloop.pruning import Masks, prunable_weights
from pruneloop.records import PredictionRecord, RoundRecord, RunFolder
from pruneloop.report.card import model_card
from pruneloop.report.run import write_report
from pruneloop.report.table import plan_table
from pruneloop.rounds import Rounds, Setting, stop_requests
from pruneloop.tracking import Tracking
from pruneloop.training import Recipe

log = logging.getLogger(__name__)


def run(config: Config, path: Path, command: str) -> list[RoundRecord]:
    """Run all rounds in a folder, or go on where an earlier run stopped in it.

    Leaves the records and the permanent, verified checkpoint there; returns the records.

    Args:
        command: what repeats the run, for the record.
    """
    check_before_loading(config)
    quiet_libraries()
    accelerator = start_accelerator(config.device, config.finetune.precision, config.tracker, path)
    folder = RunFolder(Path(broadcast_object_list([str(path)])[0]))
    states = StateFolder(folder.path / "state")
    main = accelerator.is_main_process
    if not main:
        logging.getLogger().setLevel(logging.ERROR)
    try:
        with (
            states.locked() if main else nullcontext(),
            _status(folder, main),
            stop_requests() as stop_requested,
            logging_redirect_tqdm(),
        ):
            records = _run_rounds(config, command, folder, states, accelerator, stop_requested)
        # The run is done, also if the hub refuses it.
        if main and config.push_to_hub is not None:
            message = f"{records[-1].sparsity:.2%} sparse"
            log.info(f"uploaded:   {push(folder.checkpoint, config.push_to_hub, message)}")
        return records
    finally:
        stop_accelerator(accelerator)


@contextmanager
def _status(folder: RunFolder, main: bool) -> Iterator[None]:
    """Say in STATUS.json how the run ended, whatever happens but a kill.

    A process other than the `main` one says only what the machine refused to it alone.

    Raises:
        EnvironmentFault: the GPU's memory is full, or the system refused something.
    """
    try:
        with _machine_faults():
            yield
    except CheckpointError:
        raise  # the run in this folder is another one, and as it was
    except BaseException as error:
        state, code = "failed", getattr(error, "exit_code", 1)
        if isinstance(error, Preempted):
            state = "preempted"
        if isinstance(error, KeyboardInterrupt):
            state, code = "interrupted", 130
        message = f"{type(error).__name__}: {error}".rstrip(": ")
        with suppress(OSError):  # a full disk must not hide what went wrong
            if _may_write(folder.read_status().get("state"), main, error):
                folder.write_status(state, message=message, exit_code=code)
        raise
    if main:
        folder.write_status("done")


def _may_write(state: str | None, main: bool, error: BaseException) -> bool:
    """Whether an error is to replace the state that STATUS.json has."""
    if isinstance(error, PeerLost):
        return main and state != "failed"  # the other process has said why
    # A finished run stays finished if it is only refused to go on.
    return (main or isinstance(error, EnvironmentFault)) and state != "done"


@contextmanager
def _machine_faults() -> Iterator[None]:
    """Turn what the machine refuses into a line of advice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EnvironmentFault(
            "the GPU's memory is full; in a new hydra.run.dir, halve finetune.batch_size and "
            "double finetune.accumulation, which keeps the global batch"
        ) from error
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "closed by peer" in str(error)
        if not torch.distributed.is_initialized() or not lost:
            raise
        raise PeerLost("another process of this run has ended; see what it says") from error
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise EnvironmentFault(f"{place}{error.strerror or error}") from error


def _run_rounds(
    config: Config,
    command: str,
    folder: RunFolder,
    states: StateFolder,
    accelerator: Accelerator,
    stop_requested: Callable[[], bool],
) -> list[RoundRecord]:
    """Data and model, then the rounds, then the checkpoint and the picture."""
    with accelerator.main_process_first():
        split = load_splits(config.data)
        classifier = build(config.model, split.labels, split.train["text"], config.seed)
        data = tokenise_splits(split, classifier)
    weights = prunable_weights(
        classifier.model, config.prune.scope, config.prune.include, config.prune.exclude
    )
    accelerator.wait_for_everyone()
    identity = _identity(config, accelerator, data)
    saved = _find_saved(config, folder, states, identity)
    masks = Masks.from_zeros(weights)
    drops = plan_drops(config.prune, config.rounds, masks)
    collator = padding(classifier.tokenizer, accelerator.device.type == "cuda")
    size = config.finetune.batch_size
    model, validation, test = accelerator.prepare(
        classifier.model,
        # Without gradients there is room for four times the rows.
        evaluation_loader(data.validation.rows, collator, 4 * size),
        evaluation_loader(data.test.rows, collator, 4 * size),
    )
    masks = Masks({name: mask.to(accelerator.device) for name, mask in masks.items()})
    finished = saved is not None and _is_finished(saved, folder, config.rounds)
    if saved is not None:
        log.info(
            f"{folder.path}: this run is finished already"
            if finished
            else f"going on in {folder.path} from round {saved.position['at']['round']}"
        )
    if accelerator.is_main_process:
        if not finished:
            folder.write_status("running", pid=os.getpid(), host=platform.node())
        _announce(config, command, folder, accelerator, classifier, data, masks, drops)
    tracking = Tracking(
        accelerator, folder.path, _flat(config), _step_of(saved) if saved is not None else 0
    )
    setting = Setting(
        accelerator=accelerator,
        tracking=tracking,
        model=model,
        weights=weights,
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
        metric=ClassificationScores(states.path / "scores"),
        folder=folder,
        states=states,
        identity=identity,
        seed=config.seed,
        drops=drops,
        method=partial(method_for, config.prune, config.seed),
        recipe=partial(_recipe, config.finetune),
        every_steps=config.checkpoint.every_steps,
        every_minutes=config.checkpoint.every_minutes,
    )
    rounds = Rounds(setting, masks, stop_requested)
    if saved is not None:
        rounds.resume(saved)
    try:
        rounds.run()
    finally:
        tracking.close()
    if accelerator.is_main_process and not finished:
        plain = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        texts = split.validation["text"][:32]
        card = model_card(folder.read_facts(), rounds.records)
        export(plain, classifier.tokenizer, rounds.masks, folder.checkpoint, texts, card)
        folder.write_predictions(_predictions(split, data, rounds.predictions))
        write_report(folder)
    if accelerator.is_main_process:
        _say_where(folder, rounds.records)
    accelerator.wait_for_everyone()
    return rounds.records


def _recipe(config: FinetuneConfig, number: int) -> Recipe:
    assert config.dense_epochs is not None and config.dense_learning_rate is not None
    dense = number == 0
    return Recipe(
        epochs=config.dense_epochs if dense else config.epochs,
        learning_rate=config.dense_learning_rate if dense else config.learning_rate,
        accumulation=config.accumulation,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
    )


# -- going on where an earlier run stopped ----------------------------------------------


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return a config as dotted keys and plain values."""
    flat: dict[str, Any] = {}
    for field in fields(node):
        value, key = getattr(node, field.name), prefix + field.name
        if is_dataclass(value):
            flat |= _flat(value, key + ".")
        else:
            flat[key] = value.name if isinstance(value, Enum) else value
    return flat


def _identity(config: Config, accelerator: Accelerator, data: Data) -> dict[str, Any]:
    """Return all that must be equal for a run to go on bit for bit."""
    free = ("checkpoint.", "search.", "tracker", "push_to_hub")
    flat = {k: v for k, v in _flat(config).items() if not k.startswith(free)}
    facts = {f"rows of {name}": value for name, value in data.facts["fingerprints"].items()}
    flat |= facts | {"device": accelerator.device.type, "processes": accelerator.num_processes}
    return flat


def _find_saved(
    config: Config, folder: RunFolder, states: StateFolder, identity: dict[str, Any]
) -> SavedState | None:
    """Return the state to go on from, if the folder has one of this very run.

    Raises:
        CheckpointError: it has one of another run, a damaged one, or records without one;
            or the processes see different ones.
    """
    saved = states.load()
    if len(set(gather_object([saved.name if saved else "none"]))) > 1:
        raise CheckpointError(
            f"{folder.path}: the processes read different saved states; the folder must be "
            "one that all machines share"
        )
    if saved is None:
        if folder.rounds_jsonl.exists():
            raise CheckpointError(
                f"{folder.path}: has records of a run but no saved state to go on from; use "
                "another hydra.run.dir"
            )
        return None

    def may_change(key: str, was: Any, now: Any) -> bool:
        # More rounds at a fixed amount leave the earlier ones as they were.
        return key == "rounds" and now > was and config.prune.target_sparsity is None

    try:
        changed = differences(saved.position["identity"], identity, may_change)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{states.path / saved.name}: is not what this version of pruneloop writes; use "
            "another hydra.run.dir"
        ) from error
    if changed:
        raise CheckpointError(
            f"{folder.path}: holds a run with other settings: {'; '.join(changed)}; repeat "
            "its settings, or use another hydra.run.dir"
        )
    return saved


def _step_of(saved: SavedState) -> int:
    """Return how many optimiser steps a saved run has taken, over all rounds."""
    before = sum(record["steps"] for record in saved.position["records"])
    return int(before + saved.tensors.get("training", {}).get("step", torch.tensor(0)))


def _is_finished(saved: SavedState, folder: RunFolder, rounds: int) -> bool:
    """Whether all is done, and the exported checkpoint is still there and whole."""
    if saved.position["at"]["round"] <= rounds or not folder.is_done():
        return False
    try:
        check_folder(folder.checkpoint)
    except CheckpointError as error:
        log.warning(f"warning: {folder.checkpoint} is written anew ({error})")
        return False
    return True


# -- words -----------------------------------------------------------------------------


def _announce(
    config: Config,
    command: str,
    folder: RunFolder,
    accelerator: Accelerator,
    classifier: Classifier,
    data: Data,
    masks: Masks,
    drops: list[list[int]],
) -> None:
    """Say what is about to happen, and record it."""
    zeros = planned_zeros(config.prune, masks, drops)
    device = accelerator.device
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    parameters = sum(parameter.numel() for parameter in classifier.model.parameters())
    log.info(
        f"model: {parameters:,} parameters, {masks.prunable:,} of them prunable in "
        f"{len(masks)} matrices; {accelerator.num_processes} process(es) on {device.type} "
        f"({hardware}), {config.finetune.precision.name}"
    )
    if zeros[0]:
        log.info(f"{zeros[0]:,} prunable weights are zero already and stay so")
    log.info(f"plan:\n{plan_table(zeros, masks.prunable)}")
    name = config.model.name if isinstance(config.model, PretrainedModel) else None
    hub_data = config.data.name if isinstance(config.data, HubData) else None
    folder.write_facts(
        {
            "command": command,
            "model": name or "tiny",
            "base_model": None if name is None or Path(name).expanduser().exists() else name,
            "data": data.facts | {"hub_name": hub_data},
            "parameters": parameters,
            "prunable": masks.prunable,
            "planned_zeros": zeros,
            "device": device.type,
            "hardware": hardware,
            "processes": accelerator.num_processes,
            "config": _flat(config),
            "precision": config.finetune.precision.name,
            "versions": {
                name: version(name)
                for name in (
                    "pruneloop",
                    "torch",
                    "transformers",
                    "datasets",
                    "accelerate",
                    "evaluate",
                )
            },
        }
    )


def _predictions(
    split: Splits, data: Data, predictions: Mapping[str, torch.Tensor]
) -> list[PredictionRecord]:
    """Return what both models say of every test row, in the split's order."""
    rows = [-1] * len(split.test)
    for position, row in enumerate(shortest_first(data.test.rows)):
        rows[row] = position
    return [
        PredictionRecord(
            label=split.labels[label],
            dense=split.labels[int(predictions["dense"][position])],
            pruned=split.labels[int(predictions["pruned"][position])],
            text=text,
        )
        for text, label, position in zip(split.test["text"], split.test["label"], rows, strict=True)
    ]


def _say_where(folder: RunFolder, records: list[RoundRecord]) -> None:
    last = records[-1]
    log.info(
        f"done: {last.sparsity:.2%} of the prunable weights are zero, test accuracy "
        f"{last.test_accuracy:.4f} (dense {records[0].test_accuracy:.4f})"
    )
    log.info(f"checkpoint: {folder.checkpoint} (verified; loads in plain transformers)")
    log.info(f"report:     {folder.report}")
    log.info(f"records:    {folder.rounds_csv} and {folder.layers_csv}")
