"""The experiment: prune, measure the shock, fine-tune, measure; round after round."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pruneloop.checkpointer import Checkpointer, Live
from pruneloop.engine import Engine
from pruneloop.errors import EmptyMatrix
from pruneloop.plan import Plan
from pruneloop.recorder import Recorder
from pruneloop.run_state import RunState, Stage
from pruneloop.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loop:
    """A run's rounds, from wherever its live parts are to where its plan has enough.

    The run can be stopped between any two steps of a stage; what was saved then goes on with
    the very next step, bit for bit. Between rounds the model is that of the kept round.
    `keep` is told every round that is kept, before it is saved.
    """

    plan: Plan
    engine: Engine
    live: Live
    checkpointer: Checkpointer
    recorder: Recorder
    keep: Callable[[RunState], None] | None = None

    @property
    def watch(self) -> Watch:
        """What looks after the stages."""
        return Watch(self.plan, self.engine, self.live, self.checkpointer, self.recorder)

    def run(self) -> None:
        """Go on to the end.

        Raises:
            Preempted: a signal asked to stop; the state is saved.
            InvariantError: a number that must hold does not.
        """
        state = self.live.state
        self.recorder.begin(state)
        while state.stage is not Stage.DONE:
            self.watch.look()
            if state.stage is Stage.PRUNE:
                self.prune()
            elif state.stage is Stage.SHOCK:
                state.draft.shock_accuracy = self.watch.validate().accuracy
                state.stage = Stage.TRAIN
            elif state.stage is Stage.TRAIN:
                self.train()
                state.stage = Stage.MEASURE
            else:
                recipe = self.plan.recipe(state.round)
                self.close_round()
                if self.keep is not None and state.records[-1].kept:
                    self.keep(state)
                # The state first: it holds the records too, and what it holds is never lost.
                self.checkpointer.save(self.live)
                self.recorder.end_round(state, recipe)

    def prune(self) -> None:
        """Take exactly the planned units, the same ones on every process.

        What would empty a matrix is not taken: the run ends before it, or tries half.
        """
        state, pruned = self.live.state, self.live.pruned
        if state.round == 1:
            self.watch.teach()
        method = self.plan.method(state.round)
        recipe = self.plan.recipe(state.round)
        drops = self.plan.drops(state.round, state.factor, pruned.masks)
        evidence = self.live.moved or self.engine.evidence(
            method.needs, state.round, recipe, self.watch.look, sum(drops)
        )
        try:
            pruned.prune(method, drops, evidence)
        except EmptyMatrix as error:
            self.narrow(error)
            return
        self.engine.check_equal(pruned.masks)
        if self.plan.rewind.weights:
            self.checkpointer.rewind(self.live)
        state.take(drops)

    def narrow(self, error: EmptyMatrix) -> None:
        """Have the round try half with a budget; without one, end as if it were not planned."""
        state = self.live.state
        state.factor /= 2
        if self.plan.budget.max_drop is None or self.plan.enough(
            state.round, state.factor, self.live.pruned.masks
        ):
            log.warning(f"warning: the run ends before round {state.round}: {error}")
            state.stage = Stage.DONE
            self.checkpointer.save(self.live)

    def train(self) -> None:
        """Fine-tune with the round's recipe."""
        live, state = self.live, self.live.state
        if live.tuning is None:
            live.moved = self.engine.unmoved() if self.plan.watches_movement else None
            recipe = self.plan.recipe(state.round)
            live.tuning = self.engine.fine_tuning(state.round, recipe, live.taught, live.moved)
        tuning = live.tuning
        self.watch.seal(tuning)  # a stop may have come right before
        with self.recorder.training(state, tuning.steps, tuning.step) as bar:
            for progress in tuning:
                self.recorder.step(state, progress, bar)
                self.checkpointer.after_step(progress.step, live)
                self.watch.seal(tuning)
        if self.plan.finetune.keep_best and tuning.steps:
            best = state.draft.best_epoch(self.plan.budget.metric.name)
            self.checkpointer.go_back(live, best)
        state.draft.train_loss = tuning.recent_loss if tuning.steps else None
        state.draft.steps = tuning.steps
        live.tuning = None

    def close_round(self) -> None:
        """Measure the round, put it on record, and keep it or undo it."""
        state, pruned = self.live.state, self.live.pruned
        pruned.check()
        validation, test = self.watch.measure()
        record = state.record(pruned, validation, test, self.plan.accepts)
        if record.kept:
            state.predict(test)
            if state.round == 0:
                self.checkpointer.archive_dense(self.live)
            elif self.plan.budget.max_drop is not None:
                self.checkpointer.archive_kept(self.live)
        else:
            self.checkpointer.undo(self.live)
            state.left = self.plan.method(1).units(pruned.masks)
            state.factor /= 2
        state.next_round()
        if self.plan.enough(state.round, state.factor, pruned.masks):
            state.stage = Stage.DONE
