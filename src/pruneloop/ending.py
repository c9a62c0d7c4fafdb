"""How a run ends: at a signal, by a fault of the machine, and what STATUS.json says then."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch

from pruneloop.errors import EnvironmentFault, PeerLost, Preempted, PruneloopError
from pruneloop.records import RunFolder


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


@contextmanager
def status(folder: RunFolder, main: bool) -> Iterator[None]:
    """Say in STATUS.json how the run ended, whatever happens but a kill.

    A process other than the `main` one says only what the machine refused to it alone.

    Raises:
        EnvironmentFault: the GPU's memory is full, or the system refused something.
    """
    try:
        with _machine_faults():
            yield
    except BaseException as error:
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
            folder.write_failure(str(error) if known else repr(error), code)
    elif main and not folder.is_done():
        preempted = isinstance(error, Preempted)
        folder.write_status(
            "preempted" if preempted else "interrupted",
            message=str(error),
            exit_code=code if preempted else 130,
        )


@contextmanager
def _machine_faults() -> Iterator[None]:
    """Turn what the machine refuses into a line of advice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EnvironmentFault(
            "the GPU's memory is full; in a new hydra.run.dir, halve finetune.batch_size and "
            "double finetune.accumulation, which keeps the global batch"
        ) from error
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "closed by peer" in str(error)
        if not torch.distributed.is_initialized() or not lost:
            raise
        raise PeerLost("another process of this run has ended; see what it says") from error
    except OSError as error:
        raise EnvironmentFault.of(error) from error
