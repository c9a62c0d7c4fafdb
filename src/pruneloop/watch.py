"""What looks after a stage between its batches: its bar, saving when due, stopping when asked."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass

from pruneloop.checkpointer import Checkpointer, Live
from pruneloop.recorder import Recorder


@dataclass(frozen=True)
class Watch:
    """Shows how far a stage is, saves when it is time, and stops where a signal asks for it."""

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
