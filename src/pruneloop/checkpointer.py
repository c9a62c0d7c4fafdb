"""When a run is saved, and how it goes on."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor

from pruneloop.checkpoint import (
    DENSE,
    EARLY,
    Archive,
    SavedState,
    StateFolder,
    bytes_of,
    random_state,
    restore_random_state,
    save_tensors,
)
from pruneloop.config import CheckpointConfig
from pruneloop.dense import DenseRound
from pruneloop.durable import saving
from pruneloop.engine import Engine
from pruneloop.errors import CheckpointError, InvariantError
from pruneloop.identity import foreign
from pruneloop.plan import Plan
from pruneloop.pruning import PrunedModel
from pruneloop.records import last_kept
from pruneloop.run_state import Predictions, RunState, Stage
from pruneloop.signals import stopped
from pruneloop.training import FineTuning


@dataclass
class Live:
    """The parts of a run that change: what a saved state is made of.

    `taught` are the teacher's logits, which the archive holds, and no state; `moved` is
    the movement evidence of the round that trains, or has trained last.
    """

    state: RunState
    pruned: PrunedModel
    tuning: FineTuning | None = None
    taught: Tensor | None = None
    moved: dict[str, Tensor] | None = None

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return what the next round is pruned from, by name."""
        return self.pruned.state() | ({_MOVED: self.moved} if self.moved else {})


class Checkpointer:
    """Saves a run's live parts: after every round, by its policy, and when it is to stop."""

    def __init__(
        self,
        states: StateFolder,
        accelerator: Accelerator,
        identity: Mapping[str, Any],
        policy: CheckpointConfig,
        stop_requested: Callable[[], bool],
        dense: DenseRound,
    ) -> None:
        self._states = states
        self._accelerator = accelerator
        self._identity = identity
        self._policy = policy
        self._stop_requested = stop_requested
        self._dense = dense
        # Agreeing on a signal must not wait for a GPU: a group of its own on the CPUs.
        many = accelerator.num_processes > 1
        self._agreement = torch.distributed.new_group(backend="gloo") if many else None
        self._last_save = time.monotonic()

    def after_step(self, step: int, live: Live) -> None:
        """Save if the steps or the minutes say so, and stop if a signal asked for it."""
        every = self._policy.every_steps
        if every is not None and step % every == 0:
            self.save(live)
        self.look(live, time.monotonic() - self._last_save > 60 * self._policy.every_minutes)

    def look(self, live: Live, due: bool = False) -> None:
        """Stop if a signal asked for it, saved; save if it is `due`; all processes agree.

        Raises:
            Preempted: a signal asked to stop.
        """
        stop, due = self._agree(self._stop_requested(), due)
        if stop or due:
            self.save(live)
        if stop:
            step = f" at step {live.tuning.step}" if live.tuning else ""
            raise stopped(
                f"asked to stop; round {live.state.round} is saved{step}; run the same command "
                f"in the same folder to go on: hydra.run.dir={self._states.path.parent}"
            )

    def _agree(self, *flags: bool) -> tuple[bool, ...]:
        """Return flags that are set on any process."""
        if self._agreement is None:
            return flags
        shared = torch.tensor(flags, dtype=torch.int32)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, self._agreement)
        return tuple(bool(flag) for flag in shared.tolist())

    def save(self, live: Live) -> None:
        """Write the present state; every process its own random state.

        Raises:
            InvariantError: a number is not finite: that must not replace what is.
            EnvironmentFault: there is no space, or a write was refused.
        """
        tensors = live.tensors()
        if live.tuning is not None:
            live.tuning.check()
            tensors["training"] = live.tuning.state()
        if predictions := live.state.predictions.tensors():
            tensors["predictions"] = predictions
        accelerator, states = self._accelerator, self._states
        with saving(states.path, bytes_of(tensors)):
            if accelerator.is_main_process:
                states.begin()
            accelerator.wait_for_everyone()
            save_tensors(
                states.writing / f"random-{accelerator.process_index}.safetensors",
                random_state(accelerator.device),
            )
            if accelerator.is_main_process:
                for name, group in tensors.items():
                    save_tensors(states.writing / f"{name}.safetensors", group)
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                states.publish({"identity": self._identity, **live.state.position()})
                self._states.archive.keep_only(*_needed(live.state))
            accelerator.wait_for_everyone()
        self._last_save = time.monotonic()

    def archive_kept(self, live: Live) -> None:
        """Seal the weights of the round that has just been kept, for a later one to go back to."""
        self._write(_archived(live.state.round), live.tensors())

    def archive_dense(self, live: Live) -> None:
        """Seal round 0, with all that a run needs that takes it over."""
        tensors = live.tensors() | {"predictions": live.state.predictions.tensors()}
        record = asdict(live.state.records[0])
        self._write(DENSE, tensors, {"identity": self._dense.identity, "record": record})
        if self._accelerator.is_main_process:
            self._dense.leave(self._states.archive)

    def archive_early(self, live: Live) -> None:
        """Seal the weights that rewinding goes back to."""
        self._write(EARLY, live.pruned.state())

    def archive_epoch(self, live: Live) -> None:
        """Seal the weights of the epoch that has just been the best of its round."""
        state = live.state
        self._write(_epoch(state.round, len(state.draft.epochs)), live.pruned.state())

    def go_back(self, live: Live, epoch: int) -> None:
        """Put the weights of an epoch of the round under way back.

        Raises:
            CheckpointError: the archive has lost them.
        """
        _put_back(live.pruned, self._states.archive, _epoch(live.state.round, epoch))

    def archive_taught(self, live: Live) -> None:
        """Seal the teacher's logits."""
        if live.taught is not None:
            self._write(_TAUGHT, {_TAUGHT: {_TAUGHT: live.taught}})

    def _write(
        self,
        name: str,
        tensors: Mapping[str, Mapping[str, Tensor]],
        position: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if self._accelerator.is_main_process:
            self._states.archive.write(name, tensors, position)
        self._accelerator.wait_for_everyone()

    def rewind(self, live: Live) -> None:
        """Set every parameter back to the early weights; what is pruned stays 0.

        Raises:
            CheckpointError: the archive has lost them.
        """
        pruned = live.pruned
        pruned.load(self._states.archive.read(EARLY).tensors("model"), pruned.masks)
        pruned.masks.zero_weights(pruned.weights)

    def undo(self, live: Live) -> None:
        """Put the weights of the kept round back.

        Raises:
            CheckpointError: the archive has lost them.
        """
        kept = _archived(last_kept(live.state.records).round)
        entry = _put_back(live.pruned, self._states.archive, kept)
        if live.moved:
            live.moved = entry.tensors(_MOVED)


_TAUGHT, _MOVED = "taught", "moved"


def _put_back(pruned: PrunedModel, archive: Archive, name: str) -> SavedState:
    entry = archive.read(name)
    pruned.load(entry.tensors("model"), entry.tensors("masks"))
    return entry


def _archived(number: int) -> str:
    """Return what a round's weights are called in the archive."""
    return f"kept-{number}" if number else DENSE


def _epoch(number: int, epoch: int) -> str:
    """Return what the weights after an epoch of a round are called in the archive."""
    return f"epoch-{number}-{epoch}"


def _needed(state: RunState) -> set[str]:
    """Return the archive's entries that this state, or the one before it, can still ask for.

    A round's best epoch is one of those that are over, and an earlier state finds it again.
    """
    kept = [record.round for record in state.records if record.kept]
    epochs = {_epoch(state.round, number + 1) for number in range(len(state.draft.epochs))}
    return {DENSE, EARLY, _TAUGHT, *map(_archived, kept[-2:]), *epochs}


# -- going on ------------------------------------------------------------------------------


def take_over(entry: SavedState, states: StateFolder, plan: Plan, engine: Engine) -> Live:
    """Stand before round 1, with another run's round 0; its matrices are counted anew.

    Raises:
        CheckpointError: it lacks something, or was written by another version.
    """
    source, pruned = Archive(entry.folder.parent), engine.pruned
    try:
        pruned.load(entry.tensors("model"), pruned.masks)
        live = Live(RunState(left=plan.method(1).units(pruned.masks)), pruned)
        live.state.take_over(entry.position["record"], pruned)
        live.state.predictions = Predictions(**entry.tensors("predictions"))
        if _MOVED in entry:
            live.moved = send_to_device(entry.tensors(_MOVED), engine.accelerator.device)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise foreign(entry, f" ({type(error).__name__}: {error})") from error
    if engine.accelerator.is_main_process:
        for name in (EARLY, DENSE):
            if source.has(name):
                states.archive.copy(source, name)
    return live


def resume(
    saved: SavedState, own: Mapping[str, Any], states: StateFolder, plan: Plan, engine: Engine
) -> Live:
    """Take over a saved state, with its weights, masks, moments and random numbers.

    Args:
        own: the run's identity, tokens included.

    Raises:
        CheckpointError: it lacks something, or was written by another version.
        InvariantError: its masks are not what its rounds have left.
    """
    if saved.position["identity"].get("tokens") != own["tokens"]:
        raise CheckpointError(
            f"{saved.folder}: holds a run whose tokenizer gave other tokens; use another "
            "hydra.run.dir"
        )
    rank, device = engine.accelerator.process_index, engine.accelerator.device
    try:
        predictions = saved.tensors("predictions") if "predictions" in saved else {}
        live = Live(RunState.restored(saved.position, predictions), engine.pruned)
        state, pruned = live.state, live.pruned
        pruned.load(saved.tensors("model"), saved.tensors("masks"))
        if engine.teacher is not None and (state.round > 1 or state.stage is not Stage.PRUNE):
            taught = states.archive.read(_TAUGHT)
            live.taught = taught.tensors(_TAUGHT)[_TAUGHT]
        if _MOVED in saved:
            live.moved = send_to_device(saved.tensors(_MOVED), device)
        if "training" in saved:
            recipe = plan.recipe(state.round)
            live.tuning = engine.fine_tuning(state.round, recipe, live.taught, live.moved)
            live.tuning.load_state(saved.tensors("training"))
            restore_random_state(saved.tensors(f"random-{rank}"), device)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise foreign(saved, f" ({type(error).__name__}: {error})") from error
    if plan.method(1).units(pruned.masks) != state.left:
        raise InvariantError(f"{saved.folder}: its masks are not what its rounds have left")
    if state.stage is Stage.DONE and not plan.enough(state.round, state.factor, pruned.masks):
        state.stage = Stage.PRUNE  # more rounds are wanted now
    return live
