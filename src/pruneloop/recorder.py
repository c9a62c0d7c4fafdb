"""What a run tells: its records, lines and bars, its tracker, and STATUS.json."""

import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from accelerate.utils.tqdm import tqdm

from pruneloop.durable import saving
from pruneloop.errors import EnvironmentFault, Interrupted, PeerLost, Preempted, PruneloopError
from pruneloop.machine import machine_faults
from pruneloop.records import RunFolder
from pruneloop.redaction import without_secrets
from pruneloop.report.table import TABLE_HEADER, table_line
from pruneloop.run_state import RunState
from pruneloop.signals import finish_undisturbed
from pruneloop.tracking import Tracking
from pruneloop.training import LOOK_EVERY, Progress, Recipe

log = logging.getLogger(__name__)

TELL_EVERY = 60.0
"""Seconds between two words on how far a round is."""


def write_running(folder: RunFolder, **facts: Any) -> None:
    """Write into STATUS.json which process runs, and how far it is."""
    folder.write_status("running", pid=os.getpid(), host=platform.node(), **facts)


class Pace:
    """How fast a round trains in this process; `first` is the step that it goes on from."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._since = self._told = time.monotonic()

    def is_time(self) -> bool:
        """Return whether a minute is over, once."""
        over = time.monotonic() - self._told >= TELL_EVERY
        if over:
            self._told = time.monotonic()
        return over

    def left(self, progress: Progress, rounds: float) -> float:
        """Return the seconds of training that are left, with as many more rounds of this length."""
        a_step = (time.monotonic() - self._since) / max(progress.step - self._first, 1)
        return a_step * (progress.steps - progress.step + rounds * progress.steps)


class Recorder:
    """Tells what a run does; writes nothing on a process other than the `main` one.

    `epochs` are those of every round, round 0 first.
    """

    def __init__(
        self, folder: RunFolder, tracking: Tracking, epochs: Sequence[int], main: bool
    ) -> None:
        self._folder = folder
        self._tracking = tracking
        self._epochs = epochs
        self._main = main
        self._pace = Pace(0)

    def begin(self, state: RunState) -> None:
        """Tell what is on record already."""
        log.info(TABLE_HEADER)
        for record in state.records:
            log.info(table_line(record, state.records[0].accuracy))
        if state.records:
            self._write(state)

    def bar(self, state: RunState, what: str, total: int, initial: int = 0) -> Any:
        """Return a progress bar; none where standard error is no terminal, as a log file."""
        return tqdm(
            desc=f"round {state.round}/{len(self._epochs) - 1} {what}",
            total=total,
            initial=initial,
            leave=False,
            disable=not sys.stderr.isatty(),
        )

    def training(self, state: RunState, steps: int, step: int) -> Any:
        """Return the progress bar of a round's training, which begins or goes on at a step."""
        self._pace = Pace(step)
        return self.bar(state, "training", steps, step)

    def step(self, state: RunState, progress: Progress, bar: Any) -> None:
        """Tell an optimiser step: to the bar, and every so often to tracker, log, STATUS.json."""
        bar.update()
        if progress.loss is None:
            return
        bar.set_postfix(loss=f"{progress.loss:.4f}", refresh=False)
        if progress.step % LOOK_EVERY == 0 or progress.step == progress.steps:
            step = state.steps + progress.step
            self._tracking.log_step(step, progress.loss, progress.learning_rate)
        if self._main and self._pace.is_time():
            self._tell(state.round, progress)

    def _tell(self, number: int, progress: Progress) -> None:
        """Say where the training is; where a bar says so, only in STATUS.json."""
        epochs = self._epochs[number:]
        minutes = self._pace.left(progress, sum(epochs[1:]) / epochs[0]) / 60
        write_running(
            self._folder,
            **asdict(progress),
            round=number,
            rounds=len(self._epochs) - 1,
            minutes_left=round(minutes, 1),
        )
        if not sys.stderr.isatty():
            log.info(
                f"round {number}/{len(self._epochs) - 1}: step {progress.step:,} of "
                f"{progress.steps:,}, loss {progress.loss:.4f}, learning rate "
                f"{progress.learning_rate:.2g}, about {minutes:.0f} min of training left"
            )

    def end_round(self, state: RunState, recipe: Recipe) -> None:
        """Tell the round that has just been saved."""
        self._write(state)
        self._tracking.log_round(state.steps, state.records[-1], recipe.learning_rate)
        log.info(table_line(state.records[-1], state.records[0].accuracy))

    def _write(self, state: RunState) -> None:
        if self._main:
            with saving(self._folder.path, 0):
                self._folder.write_rounds(state.records)
                self._folder.write_layers(state.layers)


@contextmanager
def status(folder: RunFolder, main: bool) -> Iterator[None]:
    """Say in STATUS.json how the run ended, whatever happens but a kill.

    A process other than the `main` one says only what the machine refused to it alone.

    Raises:
        EnvironmentFault: the GPU's memory is full, or the system refused something.
    """
    try:
        with machine_faults():
            yield
    except BaseException as error:
        finish_undisturbed()
        with suppress(OSError, ValueError):  # a full disk must not hide what went wrong
            _note(folder, main, error)
        raise
    if main:
        folder.write_status("done")


def _note(folder: RunFolder, main: bool, error: BaseException) -> None:
    code = getattr(error, "exit_code", 1)
    if isinstance(error, PeerLost):
        if main and folder.read_status().get("state") != "failed":
            folder.write_failure(str(error), code)  # the other process has not said why
    elif isinstance(error, Exception):
        if main or isinstance(error, EnvironmentFault):
            known = isinstance(error, PruneloopError)
            folder.write_failure(str(error) if known else without_secrets(repr(error)), code)
    elif main and not folder.is_done():
        stop = error if isinstance(error, Preempted) else Interrupted(str(error))
        folder.write_stop(str(stop), stop.exit_code)
