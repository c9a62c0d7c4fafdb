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
from pruneloop.config import Config, PretrainedModel, Tracker, flat
from pruneloop.control import control_of, quietly
from pruneloop.dense import DenseRound, dense_identity
from pruneloop.exports.handover import report, write_checkpoint, write_pages
from pruneloop.facts import announcement, run_facts
from pruneloop.hub import check_upload, push
from pruneloop.identity import find_saved, identity, is_finished, same_arithmetic
from pruneloop.launcher import program
from pruneloop.loop import Loop
from pruneloop.machine import (
    check_batches,
    check_compiler,
    check_machine,
    check_same,
    chosen_precision,
    processes,
)
from pruneloop.model.build import check_name
from pruneloop.pruning import check_scope
from pruneloop.recorder import Recorder, status, write_running
from pruneloop.records import RoundRecord, RunFolder, last_kept
from pruneloop.report.summary import summary
from pruneloop.run_state import RunState, Stage
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
    precision = chosen_precision(config.device, config.finetune.precision)
    config = replace(config, finetune=replace(config.finetune, precision=precision))
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
            said = f"{last_kept(records).sparsity:.2%} sparse"
            log.info(f"uploaded:   {push(folder.checkpoint, config.push_to_hub, said)}")
    if config.control:
        with quietly():
            run(control_of(config, folder), folder.control, overrides)
        if main:
            report(folder)
    if main:
        log.info("\n".join(summary(folder, program())))
    return records


def check_before_loading(config: Config) -> None:
    """Check all that can be told wrong before data and model are loaded.

    Raises:
        ConfigError, InputError, EnvironmentFault: it is wrong.
    """
    check_machine(config.device, config.finetune.precision, config.finetune.accumulation)
    if config.finetune.compile:
        check_compiler(config.device)
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
    _leave(folder.checkpoint, folder, parts, live.state)
    if main:
        write_pages(folder, split, parts.data.test.rows, live.state.predictions)
    accelerator.wait_for_everyone()
    return live.state.records


def _write_facts(config: Config, overrides: list[str], folder: RunFolder, parts: Parts) -> None:
    """Say and write what is about to happen."""
    pruned, zeros, accelerator = parts.pruned, parts.plan.zeros, parts.engine.accelerator
    facts = run_facts(config, overrides, parts.split, parts.data, pruned, zeros, accelerator)
    log.info(announcement(facts, zeros, len(pruned.masks)))
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
    _leave(folder.rounds / f"{state.records[-1].round:02d}", folder, parts, state)


def _leave(target: Path, folder: RunFolder, parts: Parts, state: RunState) -> None:
    """Leave the model as it is now; the other processes wait for the main one."""
    if parts.engine.accelerator.is_main_process:
        target.parent.mkdir(exist_ok=True)
        lines = parts.plan.method(1).takes_lines
        with parts.engine.plain():
            write_checkpoint(
                target, folder, parts.split, parts.classifier, parts.pruned, state.records, lines
            )
    parts.engine.accelerator.wait_for_everyone()
