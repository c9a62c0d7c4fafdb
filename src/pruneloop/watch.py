"""What looks after a stage: its bar, saving when due, stopping when asked, sealing weights."""

from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from pruneloop.checkpointer import Checkpointer, Live
from pruneloop.engine import Engine, Split
from pruneloop.evaluation import Scores
from pruneloop.plan import Plan
from pruneloop.recorder import Recorder
from pruneloop.training import FineTuning


@dataclass(frozen=True)
class Watch:
    """Shows how far a stage is, saves when it is time, and stops where a signal asks for it."""

    plan: Plan
    engine: Engine
    live: Live
    checkpointer: Checkpointer
    recorder: Recorder

    def look(self) -> None:
        """Save if it is time, and stop if a signal asked for it."""
        self.checkpointer.look(self.live)

    @contextmanager
    def over(self, what: str, batches: Sized) -> Iterator[Callable[[], None]]:
        """Show a progress bar; yield what to call before every batch."""
        with self.recorder.bar(self.live.state, what, len(batches)) as bar:

            def look() -> None:
                bar.update()
                self.look()

            yield look

    def validate(self) -> Scores:
        """Score the model on validation."""
        with self._over_rows(self.engine.held_out.validation) as look:
            return self.engine.validate(look)

    def measure(self) -> tuple[Scores, Scores]:
        """Score the model on validation, and on test."""
        with self._over_rows(self.engine.held_out.both) as look:
            return self.engine.measure(look)

    def _over_rows(self, split: Split) -> AbstractContextManager[Callable[[], None]]:
        return self.over(split.name, split.loader)

    def teach(self) -> None:
        """Have the teacher, where there is one, judge the training rows once."""
        with self.over("teacher", self.engine.batches) as look:
            self.live.taught = self.engine.teach(look)
        self.checkpointer.archive_taught(self.live)

    def seal(self, tuning: FineTuning) -> None:
        """Seal the weights that a later step goes back to: for rewinding, and the best epoch's."""
        draft = self.live.state.draft
        if self.plan.is_early(self.live.state.round, tuning.step, tuning.steps):
            self.checkpointer.archive_early(self.live)
        if not self.plan.every_epoch or len(draft.epochs) == tuning.epochs:
            return
        draft.add_epoch(self.validate())
        best = draft.best_epoch(self.plan.budget.metric.name)
        if self.plan.finetune.keep_best and best == len(draft.epochs):
            self.checkpointer.archive_epoch(self.live)
