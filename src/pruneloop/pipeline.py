"""A whole run: the only place that sees the whole configuration."""

import logging
import os
import platform
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm.contrib.logging import logging_redirect_tqdm

from pruneloop import __version__
from pruneloop.checkpoint import SavedState, StateFolder
from pruneloop.config import Config, FinetuneConfig, HubData, PretrainedModel, flat
from pruneloop.data.batches import (
    TrainingBatches,
    evaluation_loader,
    padding,
    shortest_first,
)
from pruneloop.data.splits import Splits
from pruneloop.ending import status, stop_requests
from pruneloop.evaluation import ClassificationScores
from pruneloop.export import export
from pruneloop.hub import push
from pruneloop.model.build import Classifier, build
from pruneloop.planning import Drops, method_for, plan_drops, planned_zeros
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
from pruneloop.report.table import plan_table
from pruneloop.resuming import find_saved, identity, is_finished, steps_taken
from pruneloop.rounds import Rounds, Setting
from pruneloop.tracking import Tracking
from pruneloop.training import Recipe

log = logging.getLogger(__name__)


def run(config: Config, path: Path, overrides: list[str]) -> list[RoundRecord]:
    """Run all rounds in a folder, or go on where an earlier run stopped in it.

    Leaves the records and the permanent, verified checkpoint there; returns the records.

    Args:
        overrides: what the command line changed of conf/, for the record.
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
            status(folder, main),
            stop_requests() as stop_requested,
            logging_redirect_tqdm(),
        ):
            material = _load(config, accelerator)
            records = _run_rounds(config, overrides, folder, states, material, stop_requested)
        # The run is done, also if the hub refuses it.
        if main and config.push_to_hub is not None:
            message = f"{records[-1].sparsity:.2%} sparse"
            log.info(f"uploaded:   {push(folder.checkpoint, config.push_to_hub, message)}")
        return records
    finally:
        stop_accelerator(accelerator)


@dataclass(frozen=True)
class _Material:
    """What a run works with: rows, model, and the weights to prune with the plan for them."""

    accelerator: Accelerator
    split: Splits
    data: Data
    classifier: Classifier
    weights: dict[str, torch.nn.Parameter]
    masks: Masks
    drops: Drops


def _load(config: Config, accelerator: Accelerator) -> _Material:
    """Read the data, build the model, and plan what each round prunes."""
    with accelerator.main_process_first():
        split = load_splits(config.data)
        classifier = build(config.model, split.labels, split.train["text"], config.seed)
        data = tokenise_splits(split, classifier)
    accelerator.wait_for_everyone()
    prune = config.prune
    weights = prunable_weights(classifier.model, prune.scope, prune.include, prune.exclude)
    masks = Masks.from_zeros(weights)
    drops = plan_drops(prune, config.rounds, masks)
    return _Material(accelerator, split, data, classifier, weights, masks, drops)


def _run_rounds(
    config: Config,
    overrides: list[str],
    folder: RunFolder,
    states: StateFolder,
    material: _Material,
    stop_requested: Callable[[], bool],
) -> list[RoundRecord]:
    """Find out where to begin, run the rounds, export what they leave, and report."""
    main = material.accelerator.is_main_process
    fingerprints = material.data.facts["fingerprints"]
    own = identity(flat(config), material.accelerator, fingerprints)
    saved = find_saved(folder, states, own)
    finished = saved is not None and is_finished(saved, folder, config.rounds)
    if saved is not None:
        log.info(
            f"{folder.path}: this run is finished already"
            if finished
            else f"going on in {folder.path} from round {saved.position['at']['round']}"
        )
    if main:
        if not finished:
            folder.write_status("running", pid=os.getpid(), host=platform.node())
        facts = _facts(config, overrides, material)
        _announce(facts, len(material.masks))
        folder.write_facts(facts)
    setting = _setting(config, folder, states, material, own, saved)
    device = material.accelerator.device
    rounds = Rounds(
        setting,
        Masks({name: mask.to(device) for name, mask in material.masks.items()}),
        stop_requested,
    )
    if saved is not None:
        rounds.resume(saved)
    try:
        rounds.run()
    finally:
        setting.tracking.close()
    if main and not finished:
        _export(folder, material, setting, rounds)
    if main:
        _say_where(folder, rounds.records)
    material.accelerator.wait_for_everyone()
    return rounds.records


def _setting(
    config: Config,
    folder: RunFolder,
    states: StateFolder,
    material: _Material,
    own: dict[str, Any],
    saved: SavedState | None,
) -> Setting:
    """Put together what stays the same from round to round."""
    accelerator, data = material.accelerator, material.data
    tokenizer = material.classifier.tokenizer
    collator = padding(tokenizer, accelerator.device.type == "cuda")
    size = config.finetune.batch_size
    model, validation, test = accelerator.prepare(
        material.classifier.model,
        # Without gradients there is room for four times the rows.
        evaluation_loader(data.validation.rows, collator, 4 * size),
        evaluation_loader(data.test.rows, collator, 4 * size),
    )
    rank, world = accelerator.process_index, accelerator.num_processes
    batches = TrainingBatches(data.train.rows, collator, size, config.seed, rank, world)
    return Setting(
        accelerator=accelerator,
        tracking=Tracking(accelerator, folder.path, flat(config), steps_taken(saved)),
        model=model,
        weights=material.weights,
        batches=batches,
        validation=validation,
        test=test,
        rows=(len(data.validation.rows), len(data.test.rows)),
        metric=ClassificationScores(states.path / "scores"),
        folder=folder,
        states=states,
        identity=own,
        seed=config.seed,
        drops=material.drops,
        method=partial(method_for, config.prune, config.seed),
        recipe=partial(_recipe, config.finetune),
        every_steps=config.checkpoint.every_steps,
        every_minutes=config.checkpoint.every_minutes,
    )


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


def _export(folder: RunFolder, material: _Material, setting: Setting, rounds: Rounds) -> None:
    """Write the permanent checkpoint with its card, the predictions, and the report."""
    # matplotlib takes half a second to load, which only the end of a run should pay.
    from pruneloop.report.run import write_report

    model = material.accelerator.unwrap_model(setting.model, keep_fp32_wrapper=False)
    texts = material.split.validation["text"][:32]
    card = model_card(folder.read_facts(), rounds.records)
    tokenizer = material.classifier.tokenizer
    export(model, tokenizer, rounds.masks, folder.checkpoint, texts, card)
    rows = _predictions(material.split, material.data, rounds.predictions)
    folder.write_predictions(rows)
    write_report(folder)


def _predictions(
    split: Splits, data: Data, predictions: Mapping[str, torch.Tensor]
) -> list[PredictionRecord]:
    """Return what both models say of every test row, in the split's order."""
    position = {row: index for index, row in enumerate(shortest_first(data.test.rows))}
    said = {name: labels.tolist() for name, labels in predictions.items()}
    return [
        PredictionRecord(
            label=split.labels[label],
            dense=split.labels[said["dense"][position[row]]],
            pruned=split.labels[said["pruned"][position[row]]],
            text=text,
        )
        for row, (text, label) in enumerate(
            zip(split.test["text"], split.test["label"], strict=True)
        )
    ]


# -- words -----------------------------------------------------------------------------


def _announce(facts: Mapping[str, Any], matrices: int) -> None:
    """Say what is about to happen."""
    zeros = facts["planned_zeros"]
    log.info(
        f"model: {facts['parameters']:,} parameters, {facts['prunable']:,} of them prunable in "
        f"{matrices} matrices; {facts['processes']} process(es) on {facts['device']} "
        f"({facts['hardware']}), {facts['precision']}"
    )
    if zeros[0]:
        log.info(f"{zeros[0]:,} prunable weights are zero already and stay so")
    log.info(f"plan:\n{plan_table(zeros, facts['prunable'])}")


def _facts(config: Config, overrides: list[str], material: _Material) -> dict[str, Any]:
    """Return what run.json records: what was run, on what data, where, and the plan."""
    name = config.model.name if isinstance(config.model, PretrainedModel) else None
    hub_data = config.data.name if isinstance(config.data, HubData) else None
    cuda = {"cuda": torch.version.cuda} if material.accelerator.device.type == "cuda" else {}
    accelerator = material.accelerator
    libraries = ("torch", "transformers", "datasets", "accelerate", "evaluate")
    return {
        "command": _command(overrides, accelerator.num_processes),
        "overrides": overrides,
        "model": name or "tiny",
        "base_model": _on_hub(name),
        "data": material.data.facts | {"hub_name": _on_hub(hub_data)},
        "parameters": sum(p.numel() for p in material.classifier.model.parameters()),
        "prunable": material.masks.prunable,
        "planned_zeros": planned_zeros(config.prune, material.masks, material.drops),
        "device": accelerator.device.type,
        "hardware": _hardware(accelerator),
        "processes": accelerator.num_processes,
        "precision": config.finetune.precision.name,
        "config": flat(config),
        "versions": {"pruneloop": __version__, "python": platform.python_version()}
        | {name: version(name) for name in libraries}
        | cuda,
    }


def _command(overrides: list[str], processes: int) -> str:
    """Return what repeats the run, in a folder of its own."""
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    launcher = ["torchrun", "--nproc_per_node", local] if processes > 1 else ["python"]
    if processes > int(local):
        launcher[1:1] = ["--nnodes", str(processes // int(local))]
    return shlex.join([*launcher, "train.py", *overrides])


def _on_hub(name: str | None) -> str | None:
    """Return a name of the hub; None for a folder here."""
    return None if name is None or Path(name).expanduser().exists() else name


def _hardware(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    cpu = platform.processor() or platform.machine()
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found.group(1) if found else cpu
    return f"{cpu}, {os.cpu_count()} cores"


def _say_where(folder: RunFolder, records: list[RoundRecord]) -> None:
    last = records[-1]
    log.info(
        f"done: {last.sparsity:.2%} of the prunable weights are zero, test accuracy "
        f"{last.test_accuracy:.4f} (dense {records[0].test_accuracy:.4f})"
    )
    log.info(f"checkpoint: {folder.checkpoint} (verified; loads in plain transformers)")
    log.info(f"report:     {folder.report}")
    log.info(f"records:    {folder.rounds_csv} and {folder.layers_csv}")
