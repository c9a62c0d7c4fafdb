"""The loop itself: prune, fine-tune, measure, record; saved and resumable at any point."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from accelerate.utils.tqdm import tqdm
from torch import nn
from torch.utils.data import DataLoader

from pruneloop.checkpoint import (
    SavedState,
    StateFolder,
    random_state,
    restore_random_state,
    save_tensors,
)
from pruneloop.data.batches import TrainingBatches
from pruneloop.durable import saving
from pruneloop.errors import CheckpointError, InvariantError, Preempted
from pruneloop.evaluation import ClassificationScores, Scores, evaluate_model
from pruneloop.pruning import Masks, Method, kind_of
from pruneloop.records import LayerRecord, RoundRecord, RunFolder
from pruneloop.report.table import TABLE_HEADER, table_line
from pruneloop.tracking import Tracking
from pruneloop.training import LOOK_EVERY, FineTuning, Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What stays the same from round to round."""

    accelerator: Accelerator
    tracking: Tracking
    model: nn.Module
    weights: dict[str, nn.Parameter]
    batches: TrainingBatches
    validation: DataLoader[Any]
    test: DataLoader[Any]
    rows: tuple[int, int]
    metric: ClassificationScores
    folder: RunFolder
    states: StateFolder
    identity: dict[str, Any]
    seed: int
    drops: list[list[int]]
    method: Callable[[int], Method]
    recipe: Callable[[int], Recipe]
    every_steps: int | None
    every_minutes: float

    @property
    def plain(self) -> nn.Module:
        """The model without its distributed wrapper: the same parameters."""
        return getattr(self.model, "module", self.model)


@dataclass(frozen=True)
class Position:
    """How far a run is: the round, and what of it is done."""

    round: int = 0
    pruned: bool = True
    amount: float = 0.0
    shock: float | None = None
    seconds: float = 0.0


class Rounds:
    """All rounds of a run, from wherever it is to the last one."""

    def __init__(self, setting: Setting, masks: Masks, stop_requested: Callable[[], bool]) -> None:
        self._set = setting
        self._stop_requested = stop_requested
        self.masks = masks
        self._first_units = setting.method(1).units(masks)
        # Agreeing on a signal must not wait for a GPU: a group of its own on the CPUs.
        many = setting.accelerator.num_processes > 1
        self._agreement = torch.distributed.new_group(backend="gloo") if many else None
        self.records: list[RoundRecord] = []
        self.layers: list[LayerRecord] = []
        self.predictions: dict[str, torch.Tensor] = {}
        """Of the test split's rows, by the `dense` model and by the one `pruned` so far."""
        self._at = Position()
        self._tuning: FineTuning | None = None
        self._saved_training: Mapping[str, torch.Tensor] | None = None
        self._saved_random: Mapping[str, torch.Tensor] | None = None
        self._clock = time.monotonic()
        self._last_save = time.monotonic()

    def resume(self, saved: SavedState) -> None:
        """Take over a saved state.

        Raises:
            CheckpointError: it lacks something, or was written by another version.
        """
        position, device = saved.position, self._set.accelerator.device
        rank = self._set.accelerator.process_index
        try:
            self._at = Position(**position["at"])
            self.records = [RoundRecord(**record) for record in position["records"]]
            self.layers = [LayerRecord(**record) for record in position["layers"]]
            with torch.no_grad():
                for name, value in _kept_tensors(self._set.plain).items():
                    value.copy_(saved.tensors["model"][name])
            # In the order of the scope, which files do not keep and methods depend on.
            masks = saved.tensors["masks"]
            self.masks = Masks({name: masks[name].to(device) for name in self._set.weights})
            if self.records:
                self.predictions = saved.tensors["predictions"]
            self._saved_training = saved.tensors.get("training")
            self._saved_random = saved.tensors[f"random-{rank}"]
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{self._set.states.path / saved.name}: is not what this version of pruneloop "
                f"writes ({type(error).__name__}: {error}); use another hydra.run.dir"
            ) from error
        self._check_plan(self._at.round if self._at.pruned else self._at.round - 1)

    def run(self) -> None:
        """Go on to the end of the last round.

        Raises:
            Preempted: a signal asked to stop; the state is saved.
            InvariantError: a number that must hold does not.
        """
        log.info(TABLE_HEADER)
        for record in self.records:
            log.info(table_line(record, self.records[0].accuracy))
        if self.records:
            self._write_records()
        while self._at.round <= len(self._set.drops):
            self._one_round()

    def _one_round(self) -> None:
        """Prune (but not in round 0), measure the shock, fine-tune, measure again."""
        number = self._at.round
        self._clock = time.monotonic() - self._at.seconds
        self._look()
        if not self._at.pruned:
            self._prune(number)
        if number > 0 and self._at.shock is None:
            self._at = replace(self._at, shock=self._scores().accuracy)
        train_loss, steps = self._train(number)
        self.masks.check(self._set.weights, self.masks)
        self._record(number, train_loss, steps)
        rate = self._set.recipe(number).learning_rate
        self._set.tracking.log_round(self._steps_taken(), self.records[-1], rate)
        self._tuning = None
        self._at = Position(round=number + 1, pruned=False)
        # The state first: it holds the records too, and what it holds is never lost.
        self._save()
        self._write_records()
        log.info(table_line(self.records[-1], self.records[0].accuracy))

    def _steps_taken(self) -> int:
        """Return the optimiser steps of all rounds on record."""
        return sum(record.steps for record in self.records)

    def _write_records(self) -> None:
        if self._set.accelerator.is_main_process:
            with saving(self._set.folder.path, 0):
                self._set.folder.write_rounds(self.records)
                self._set.folder.write_layers(self.layers)

    def _prune(self, number: int) -> None:
        method, drops = self._set.method(number), self._set.drops[number - 1]
        before, kept = self.masks, sum(method.units(self.masks))
        self.masks = method.prune(self._set.weights, before, drops)
        self.masks.zero_weights(self._set.weights)
        self.masks.check(self._set.weights, before)
        self._check_plan(number)
        if len(set(gather_object([self.masks.digest()]))) != 1:
            raise InvariantError("the processes pruned different weights")
        self._at = replace(self._at, pruned=True, amount=sum(drops) / max(kept, 1))
        self._look()

    def _check_plan(self, number: int) -> None:
        """Make sure that exactly what rounds 1 to `number` take is gone, in every group.

        Raises:
            InvariantError: more or less is gone.
        """
        if number < 1:
            return
        gone = [sum(drops) for drops in zip(*self._set.drops[:number], strict=True)]
        left = [n - lost for n, lost in zip(self._first_units, gone, strict=True)]
        if self._set.method(1).units(self.masks) != left:
            raise InvariantError(f"the masks are not what {number} planned rounds leave")

    def _train(self, number: int) -> tuple[float, int]:
        """Fine-tune under a progress bar; return the mean training loss and the steps."""
        accelerator = self._set.accelerator
        self._tuning = tuning = FineTuning(
            self._set.model,
            self._set.batches,
            accelerator,
            self.masks,
            self._set.weights,
            self._set.recipe(number),
            self._set.seed,
            number,
        )
        if self._saved_training is not None:
            tuning.load_state(self._saved_training)
        if self._saved_random is not None:
            restore_random_state(self._saved_random, accelerator.device)
        self._saved_training = self._saved_random = None
        steps_before = self._steps_taken()
        with self._bar("training", total=tuning.steps, initial=tuning.step) as bar:
            for progress in tuning:
                bar.update()
                if progress.loss is not None:
                    bar.set_postfix(loss=f"{progress.loss:.4f}", refresh=False)
                told = progress.step % LOOK_EVERY == 0 or progress.step == progress.steps
                if told and progress.loss is not None:
                    step = steps_before + progress.step
                    self._set.tracking.log_step(step, progress.loss, progress.learning_rate)
                every = self._set.every_steps
                if every is not None and progress.step % every == 0:
                    self._save()
                self._look(training=True)
        return tuning.mean_loss, tuning.steps

    def _record(self, number: int, train_loss: float, steps: int) -> None:
        scores = self._scores()
        test = self._evaluate("test", self._set.test, self._set.rows[1])
        self.predictions["pruned" if number else "dense"] = test.predictions
        by_name = self.masks.zeros_by_name()
        zeros = sum(by_name.values())
        parameters = sum(parameter.numel() for parameter in self._set.plain.parameters())
        self.records.append(
            RoundRecord(
                round=number,
                amount=self._at.amount,
                prunable=self.masks.prunable,
                zeros=zeros,
                sparsity=zeros / self.masks.prunable,
                model_sparsity=zeros / parameters,
                shock_accuracy=self._at.shock,
                accuracy=scores.accuracy,
                macro_f1=scores.macro_f1,
                loss=scores.loss,
                test_accuracy=test.accuracy,
                test_macro_f1=test.macro_f1,
                train_loss=train_loss,
                steps=steps,
                seconds=time.monotonic() - self._clock,
            )
        )
        self.layers += [
            LayerRecord(
                round=number,
                name=name,
                kind=kind_of(name),
                size=mask.numel(),
                zeros=by_name[name],
                sparsity=by_name[name] / mask.numel(),
            )
            for name, mask in self.masks.items()
        ]

    def _scores(self) -> Scores:
        return self._evaluate("validation", self._set.validation, self._set.rows[0])

    def _evaluate(self, split: str, loader: DataLoader[Any], rows: int) -> Scores:
        """Score the model on a split under a progress bar."""
        with self._bar(split, total=len(loader)) as bar:

            def look() -> None:
                bar.update()
                self._look()

            return evaluate_model(
                self._set.model, loader, self._set.accelerator, rows, self._set.metric, look
            )

    def _bar(self, what: str, **numbers: int) -> Any:
        """Return a progress bar; none where standard error is no terminal, as a log file."""
        return tqdm(
            desc=f"round {self._at.round}/{len(self._set.drops)} {what}",
            leave=False,
            disable=not sys.stderr.isatty(),
            **numbers,
        )

    # -- saving and stopping -------------------------------------------------------

    def _look(self, training: bool = False) -> None:
        """Save if it is time, and stop if a signal asked for it; all processes agree."""
        due = training and time.monotonic() - self._last_save > 60 * self._set.every_minutes
        stop, due = self._agree(self._stop_requested(), due)
        if stop or due:
            self._save()
        if stop:
            raise Preempted(
                f"asked to stop; round {self._at.round} is saved"
                + (f" at step {self._tuning.step}" if self._tuning else "")
                + "; run the same command in the same folder to go on: "
                f"hydra.run.dir={self._set.folder.path}"
            )

    def _agree(self, *flags: bool) -> tuple[bool, ...]:
        """Return flags that are set on any process."""
        if self._agreement is None:
            return flags
        shared = torch.tensor(flags, dtype=torch.int32)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, self._agreement)
        return tuple(bool(flag) for flag in shared.tolist())

    def _save(self) -> None:
        """Write the present state; every process its own random state."""
        accelerator, states = self._set.accelerator, self._set.states
        self._at = replace(self._at, seconds=self._seconds())
        tensors = {"model": _kept_tensors(self._set.plain), "masks": dict(self.masks)}
        training = self._saved_training or (self._tuning.state() if self._tuning else None)
        if training:
            tensors["training"] = dict(training)
        if self.predictions:
            tensors["predictions"] = self.predictions
        if self._tuning is not None:
            self._tuning.check()  # what is not finite must not replace what is
        needed = sum(t.nbytes for group in tensors.values() for t in group.values())
        with saving(states.path, needed):
            if accelerator.is_main_process:
                states.begin()
            accelerator.wait_for_everyone()
            save_tensors(
                states.writing / f"random-{accelerator.process_index}.safetensors",
                self._saved_random or random_state(accelerator.device),
            )
            if accelerator.is_main_process:
                for name, group in tensors.items():
                    save_tensors(states.writing / f"{name}.safetensors", group)
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                states.publish(self._position())
            accelerator.wait_for_everyone()
        self._last_save = time.monotonic()

    def _seconds(self) -> float:
        begun = self._at.pruned or self._tuning is not None
        return time.monotonic() - self._clock if begun else 0.0

    def _position(self) -> dict[str, Any]:
        return {
            "identity": self._set.identity,
            "at": asdict(self._at),
            "records": [asdict(record) for record in self.records],
            "layers": [asdict(record) for record in self.layers],
        }


def _kept_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by name, tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
