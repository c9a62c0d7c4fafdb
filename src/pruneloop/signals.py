"""What a signal asks of a run: to save and stop.

Signals belong to the process, and so does what is known of them: one that comes while no
one can act on it is remembered, and heeded at the next place where the run can stop.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from pruneloop.errors import Interrupted, Preempted

_EARLY = "asked to stop before the first step; run the same command in the same folder to go on"
_AT_ONCE = "stopped at once, unsaved since the last save; run the same command to go on from there"
# These stop a run whatever was set before. SIGUSR2 is how submitit says that the time is up.
_ALWAYS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# A fault of the program's own, or what does not end a process.
_LEFT = {
    *(signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT),
    *(signal.SIGTRAP, signal.SIGSYS, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG),
    *(signal.SIGWINCH, signal.SIGPIPE, signal.SIGXFSZ),
}


@dataclass
class _Asked:
    """The signal that came first, how often Ctrl-C did, and whether one raises at once.

    `parent` is the process whose end is as good as a signal.
    """

    first: int | None = None
    parent: int | None = None
    ctrl_c: int = 0
    raises: bool = False
    ending: bool = False


_asked = _Asked()


def remember_signals() -> None:
    """Begin to catch every signal that would end the process, and remember it.

    What the user had ignored, as nohup does, stays ignored.
    """
    sys.unraisablehook = _not_swallowed
    for kind in signal.valid_signals() - _LEFT:
        if kind in _ALWAYS or signal.getsignal(kind) in (
            signal.SIG_DFL,
            signal.default_int_handler,
        ):
            signal.signal(kind, _handle)


def _not_swallowed(lost: "sys.UnraisableHookArgs") -> None:
    """Send a signal again whose exception came where Python lets none through."""
    if not isinstance(lost.exc_value, Preempted):
        sys.__unraisablehook__(lost)
    elif (kind := _asked.first) is not None:
        _asked.first = None
        _asked.ctrl_c -= kind == signal.SIGINT
        # A little later: the place that lets none through must be left before.
        again = threading.Timer(0.01, os.kill, (os.getpid(), kind))
        again.daemon = True
        again.start()


def watch_parent() -> None:
    """From now on, take the end of the process that started this one for a signal.

    For the processes of a launcher: without it, nobody would ever stop them.
    """
    _asked.parent = os.getppid()


def heed_signals() -> None:
    """From now on, let a signal raise at once, until a run looks at them itself.

    Raises:
        Preempted: one has come already.
    """
    _asked.raises, _asked.ending = True, False
    if _asked.first is not None:
        raise stopped(_EARLY)


def finish_undisturbed() -> None:
    """From now on, only remember signals: what is under way is the end."""
    _asked.raises, _asked.ending = False, True


def stopped(message: str) -> Preempted:
    """Return what to raise: Ctrl-C has an exit code of its own."""
    kind = Interrupted if _asked.first == signal.SIGINT else Preempted
    return kind(message)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn signals into a flag; yield the function that reads it.

    Until it is read for the first time there is nothing to save: a signal then raises
    `Preempted` at once. Once one has come, later ones change nothing, so that they
    cannot cut the end short; only the third Ctrl-C does.

    Raises:
        Preempted: one came before, or comes too early.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread can receive signals
        return
    previous = [(kind, signal.signal(kind, _handle)) for kind in _ALWAYS]

    def was_requested() -> bool:
        _asked.raises = False
        orphaned = _asked.parent not in (None, os.getppid())
        return orphaned or _asked.first is not None

    try:
        heed_signals()
        yield was_requested
        _asked.raises = True
    finally:
        for kind, handler in previous:
            # A launcher's own handlers come back in any case.
            if _asked.first is None or callable(handler):
                signal.signal(kind, handler)


def _handle(kind: int, _: FrameType | None) -> None:
    # No threading.Event: a second signal inside its set() would wait for its lock forever.
    first = _asked.first is None
    if first:
        _asked.first = kind
    _asked.ctrl_c += kind == signal.SIGINT
    if first and _asked.raises:
        raise stopped(_EARLY)
    if _asked.ctrl_c == 3 and kind == signal.SIGINT and not _asked.ending:
        raise Interrupted(_AT_ONCE)
