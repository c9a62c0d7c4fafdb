"""Round 0 shared between runs: the same dense fine-tune is trained once."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from pruneloop.checkpoint import ARCHIVE, DENSE, EARLY, STATE, Archive, SavedState, differences
from pruneloop.durable import try_lock
from pruneloop.errors import CheckpointError
from pruneloop.plan import Plan
from pruneloop.pruning import Masks

log = logging.getLogger(__name__)

# What round 0 does not depend on.
_LATER = (
    *("rounds", "keep_rounds", "prune.", "budget.", "distill.", "rewind."),
    *("finetune.epochs", "finetune.learning_rate"),
)


def dense_identity(own: Mapping[str, Any], plan: Plan, masks: Masks) -> dict[str, Any]:
    """Return what must be equal for a run's round 0 to be this one's, bit for bit.

    Args:
        own: the run's identity, tokens included.
        masks: those that the run starts with.
    """
    bound = {key: value for key, value in own.items() if not key.startswith(_LATER)}
    return bound | {
        "zeros at the start": masks.digest() if masks.zeros else "none",
        "movement is watched": plan.watches_movement,
        "weights are kept from epoch": plan.rewind.epoch if plan.rewind.weights else None,
    }


class DenseRound:
    """A run's round 0: what it depends on, where it may lie, and where it is left.

    The runs of a sweep leave it for each other in `shared`. Whoever comes first trains
    it, holding a lock that dies with the process; the others wait, and take over what it
    leaves, or train it in turn if it leaves nothing.
    """

    def __init__(
        self, identity: Mapping[str, Any], start_from: Path | None, shared: Path | None
    ) -> None:
        self.identity = identity
        self._start_from = start_from
        text = json.dumps(identity, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._folder = None if shared is None else shared / name
        self._lock: IO[str] | None = None

    def find(self, main: bool) -> SavedState | None:
        """Return a round 0 to take over; None if this run is to train it.

        Args:
            main: whether this is the run's main process, which goes first, and waits.

        Raises:
            CheckpointError: the run to start from has none, or it was trained differently.
        """
        if self._start_from is not None:
            return self._read(Archive(self._start_from / STATE / ARCHIVE))
        if self._folder is None:
            return None
        lock = self._wait_for_lock(self._folder) if main else None
        found = Archive(self._folder)
        if not found.has(DENSE):
            self._lock = lock
            return None
        if lock is not None:
            lock.close()
        return self._read(found)

    def _read(self, source: Archive) -> SavedState:
        entry = source.read(DENSE)
        other = entry.position.get("identity", {})
        if changed := differences(other, self.identity, lambda *_: False):
            raise CheckpointError(
                f"start_from={self._start_from}: its round 0 was trained differently: "
                f"{'; '.join(changed)}; repeat its settings, or leave start_from out"
            )
        return entry

    def _wait_for_lock(self, folder: Path) -> IO[str]:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _try_lock(folder)
        if lock is None:
            log.info("round 0: another run of the sweep trains it; waiting ...")
        while lock is None:
            time.sleep(0.5)
            lock = _try_lock(folder)
        return lock

    def leave(self, own: Archive) -> None:
        """Let the others have what a run's archive now holds of round 0."""
        if self._folder is None:
            return
        self._lock = self._lock or _try_lock(self._folder)  # a resumed run holds none yet
        if self._lock is None:
            return  # another one will leave its own
        for name in (EARLY, DENSE):  # the last one says that all are there
            if own.has(name):
                Archive(self._folder).copy(own, name)
        self.close()

    def close(self) -> None:
        """Let another run train it, if this one has not."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _try_lock(folder: Path) -> IO[str] | None:
    """Lock a folder of the shared ones; None if another process holds it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    lock = os.fdopen(os.open(folder / "lock", flags, 0o666), "r+")
    if try_lock(lock):
        return lock
    lock.close()
    return None
