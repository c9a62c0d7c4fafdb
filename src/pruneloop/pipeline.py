"""A whole run: the only place that sees the whole configuration."""

import logging
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.contrib.logging import logging_redirect_tqdm

from pruneloop.assembly import Parts, assemble, read_rows
from pruneloop.checkpoint import STATE, StateFolder
from pruneloop.checkpointer import Checkpointer, Live, resume, take_over
from pruneloop.config import Config, Criterion, Precision, PretrainedModel, Tracker, flat
from pruneloop.dense import DenseRound, dense_identity
from pruneloop.exports.handover import report, write_checkpoint, write_pages
from pruneloop.facts import run_facts
from pruneloop.hub import check_upload, push
from pruneloop.identity import find_saved, identity, is_finished, same_arithmetic
from pruneloop.launcher import program
from pruneloop.loop import Loop
from pruneloop.machine import (
    check_batches,
    check_machine,
    check_same,
    chosen_precision,
    processes,
)
from pruneloop.model.build import check_name
from pruneloop.plan import Plan
from pruneloop.pruning import Lines, UnitMethod, check_scope
from pruneloop.recorder import Recorder, status, write_running
from pruneloop.records import RoundRecord, RunFacts, RunFolder, last_kept
from pruneloop.report.summary import summary
from pruneloop.report.table import plan_table
from pruneloop.run_state import RunState, Stage
from pruneloop.shrinking import is_known
from pruneloop.signals import stop_requests
from pruneloop.tracking import Tracking, check_tracker

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
    # Before anything is compared or written: a run goes on in the precision that it began in.
    config, precision = _with_precision(config)
    _log_once()
    check_before_loading(config)
    with processes(config.device, precision, config.tracker, path) as accelerator:
        # The main process's: the others have folders of their own, which nobody looks into.
        path, shared = broadcast_object_list([path, shared])
        folder = RunFolder(path)
        states = StateFolder(folder.path / STATE)
        if not (main := accelerator.is_main_process):
            logging.getLogger().setLevel(logging.ERROR)
        log.info(f"run: {folder.path}")
        with (
            states.locked() if main else nullcontext(),
            status(folder, main),
            stop_requests() as stop_requested,
            logging_redirect_tqdm(),
        ):
            place = _Place(folder, states, accelerator, stop_requested, shared, accepted)
            records = _go_on(config, overrides, place)
        if main and config.push_to_hub is not None:  # the run is done, also if this is refused
            _upload(folder, config.push_to_hub, last_kept(records))
    if config.control:
        _run_control(config, folder, overrides, main)
    if main:
        log.info("\n".join(summary(folder, program())))
    return records


def _log_once() -> None:
    """Leave the libraries' lines to the log: their own handlers would say each a second time."""
    for name in ("datasets", "huggingface_hub"):
        logging.getLogger(name).handlers.clear()


def _with_precision(config: Config) -> tuple[Config, Precision]:
    """Return a configuration with the precision that is meant by `auto`, and that."""
    chosen = chosen_precision(config.device, config.finetune.precision)
    return replace(config, finetune=replace(config.finetune, precision=chosen)), chosen


def _upload(folder: RunFolder, name: str, kept: RoundRecord) -> None:
    log.info(f"uploaded:   {push(folder.checkpoint, name, f'{kept.sparsity:.2%} sparse')}")


def _run_control(config: Config, folder: RunFolder, overrides: list[str], main: bool) -> None:
    """Run the same plan with random weights, a run of its own within the run's folder."""
    log.info("control: the same plan with random weights ...")
    prune = replace(config.prune, criterion=Criterion.random)
    budget = replace(config.budget, max_drop=None)
    control = replace(config, prune=prune, budget=budget, control=False)
    control.tracker, control.push_to_hub = Tracker.none, None
    control.start_from = str(folder.path)
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.WARNING)  # its lines would be taken for the run's own
    try:
        run(control, folder.control, overrides)
    finally:
        logger.setLevel(level)
    if main:
        report(folder)


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


@dataclass(frozen=True)
class _Place:
    """Where a run takes place, and what of the world around it has a say."""

    folder: RunFolder
    states: StateFolder
    accelerator: Accelerator
    stop_requested: Callable[[], bool]
    shared: Path | None
    accepted: Callable[[], None] | None


def _go_on(config: Config, overrides: list[str], place: _Place) -> list[RoundRecord]:
    """Find out where to begin, run the rounds, and hand over what they leave."""
    folder, states, accelerator = place.folder, place.states, place.accelerator
    main = accelerator.is_main_process
    with accelerator.main_process_first():
        split = read_rows(config)
    own = identity(flat(config), accelerator, split.fingerprints)
    check_same(own | {"labels": split.labels, "counts": split.counts})
    saved = find_saved(folder, states, own)
    if main and place.accepted is not None:
        place.accepted()
    if saved is not None and is_finished(saved, folder, config.rounds):
        log.info(f"{folder.path}: this run is finished already")
        return folder.read_rounds()
    own |= same_arithmetic(saved, accelerator.device)
    if main:
        write_running(folder)
    parts = assemble(config, split, accelerator, states.path / "scores")
    own["tokens"] = parts.data.fingerprint
    _check_processes(parts)
    if main:
        _write_facts(config, overrides, folder, parts)
    start_from = Path(config.start_from).expanduser() if config.start_from else None
    round_0 = dense_identity(own, parts.plan, parts.pruned.masks)
    with closing(DenseRound(round_0, start_from, place.shared)) as dense:
        saver = Checkpointer(
            states, accelerator, own, config.checkpoint, place.stop_requested, dense
        )
        if saved is None:
            live = _begin(dense, states, parts, saver)
        else:
            log.info(f"going on in {folder.path} from round {saved.position['round']}")
            live = resume(saved, own, states, parts.plan, parts.engine)
        _run_rounds(config, folder, parts, live, saver)
    if main:
        with parts.engine.plain():
            _leave(folder.checkpoint, folder, parts, live.state)
        write_pages(folder, split, parts.data.test.rows, live.state.predictions)
    accelerator.wait_for_everyone()
    return live.state.records


def _write_facts(config: Config, overrides: list[str], folder: RunFolder, parts: Parts) -> None:
    """Say and write what is about to happen."""
    facts = run_facts(
        config,
        overrides,
        parts.split,
        parts.data,
        parts.pruned,
        parts.plan.zeros,
        parts.engine.accelerator,
    )
    _announce(facts, parts.plan, len(parts.pruned.masks))
    folder.write_facts(facts)
    folder.write_rejected(parts.split.rejected)


def _check_processes(parts: Parts) -> None:
    """Make sure that all processes have the same tokens, and divide the rows."""
    check_same({"tokens": parts.data.fingerprint})
    order = gather_object([parts.engine.batches.order(0, 0)])
    check_batches(order, len(parts.data.train.rows))


def _begin(dense: DenseRound, states: StateFolder, parts: Parts, saver: Checkpointer) -> Live:
    """Begin a run: with round 0, or behind it, where another run has left one."""
    accelerator = parts.engine.accelerator
    with accelerator.main_process_first():
        entry = dense.find(accelerator.is_main_process)
    if entry is None:
        left = parts.plan.method(1).units(parts.pruned.masks)
        return Live(RunState(left=left), parts.pruned)
    log.info(f"round 0: taken over from {entry.folder}")
    live = take_over(entry, states, parts.plan, parts.engine)
    saver.save(live)  # records are never without a state to go on from
    return live


def _run_rounds(
    config: Config, folder: RunFolder, parts: Parts, live: Live, saver: Checkpointer
) -> None:
    """Run what is left of the rounds, telling the tracker and the records."""
    accelerator = parts.engine.accelerator
    steps = live.state.steps + (live.tuning.step if live.tuning else 0)
    keep = partial(_leave_round, folder, parts) if config.keep_rounds else None
    if keep is not None and live.state.round == 1 and live.state.stage is Stage.PRUNE:
        keep(live.state)  # a round 0 that was taken over is none that the loop has closed
    with closing(Tracking(accelerator, folder.path, flat(config), steps)) as tracking:
        epochs = [parts.plan.recipe(number).epochs for number in range(config.rounds + 1)]
        recorder = Recorder(folder, tracking, epochs, accelerator.is_main_process)
        Loop(parts.plan, parts.engine, live, saver, recorder, keep).run()


def _leave_round(folder: RunFolder, parts: Parts, state: RunState) -> None:
    """Leave the checkpoint of the round that has just been kept in rounds/NN/."""
    if parts.engine.accelerator.is_main_process:
        folder.rounds.mkdir(exist_ok=True)
        with parts.engine.plain():
            _leave(folder.rounds / f"{state.records[-1].round:02d}", folder, parts, state)
    parts.engine.accelerator.wait_for_everyone()


def _leave(target: Path, folder: RunFolder, parts: Parts, state: RunState) -> None:
    pruned, method = parts.pruned, parts.plan.method(1)
    lines = isinstance(method, UnitMethod) or isinstance(method.groups.units, Lines)
    units = lines and is_known(parts.classifier.model)
    layers = pruned.layers.kept if pruned.layers else None
    write_checkpoint(
        target, folder, parts.split, parts.classifier, pruned.masks, state.records, units, layers
    )


# -- words -----------------------------------------------------------------------------


def _announce(facts: RunFacts, plan: Plan, matrices: int) -> None:
    """Say what is about to happen."""
    log.info(
        f"model: {facts.parameters:,} parameters, {facts.prunable:,} of them prunable in "
        f"{matrices} matrices; {facts.processes} process(es) on {facts.device} "
        f"({facts.hardware}), {facts.precision}"
    )
    log.info(f"plan:\n{plan_table(plan.zeros, facts.prunable, facts.parameters)}")
