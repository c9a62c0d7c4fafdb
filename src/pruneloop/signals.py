"""What a signal asks of a run: to save and stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pruneloop.errors import Preempted


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM, SIGUSR1 and SIGUSR2 into a flag; yield the function that reads it.

    Until it is read for the first time there is nothing to save: a signal then raises
    `Preempted` at once. Once one has come, later ones change nothing, so that they
    cannot cut the end short.
    """
    # No threading.Event: a second signal inside its set() would wait for its lock forever.
    requested = watched = False

    def request(*_: object) -> None:
        nonlocal requested
        first, requested = not requested, True
        if first and not watched:
            raise Preempted(
                "asked to stop before the first step; run the same command in the same "
                "folder to go on"
            )

    def was_requested() -> bool:
        nonlocal watched
        watched = True
        return requested

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread can receive signals
        return
    # SIGUSR2 is how submitit says that the time is up.
    kinds = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    previous = [signal.signal(kind, request) for kind in kinds]
    try:
        yield was_requested
    finally:
        for kind, handler in zip(kinds, previous, strict=True):
            # A launcher's own handlers come back in any case.
            if not requested or callable(handler):
                signal.signal(kind, handler)
