"""What the command keeps in a run's folder: `.hydra/` and the log.

Hydra would write them before anyone could look whether the folder belongs to another run.
They are written here instead, once the run is accepted there: what a refused command asked
for must not stand beside the results of another one.
"""

import fcntl
import logging
import logging.handlers
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pruneloop.command.explain import explain
from pruneloop.durable import write_atomically
from pruneloop.errors import FolderInUse, PeerLost, Preempted, utf8
from pruneloop.records import RunFolder
from pruneloop.redaction import public, without_secrets

_LINES = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class JobFiles:
    """`.hydra/` and the log of a job; until `accept`, its lines wait in memory."""

    def __init__(self, composed: DictConfig) -> None:
        hydra = HydraConfig.get()
        self._folder = RunFolder(Path(hydra.runtime.output_dir))
        self._of_a_sweep = hydra.mode == RunMode.MULTIRUN
        self._texts = {
            "config.yaml": _yaml(composed),
            "hydra.yaml": _yaml(OmegaConf.create({"hydra": hydra})),
            "overrides.yaml": _yaml(hydra.overrides.task),
        }
        self._waiting = logging.handlers.MemoryHandler(sys.maxsize, 100, flushOnClose=False)
        logging.getLogger().addHandler(self._waiting)
        if self._of_a_sweep:
            cut_secrets(self._folder.path.parent)
        if self._of_a_sweep and self._is_free():
            self._write()  # a sweep knows its points by it, also those that are killed

    def accept(self) -> None:
        """Write them: the run in the folder is this one.

        Raises:
            EnvironmentFault: they cannot be written.
        """
        self._write()
        file = logging.FileHandler(
            self._folder.path / "pruneloop.log", encoding="utf-8", errors="backslashreplace"
        )
        file.setFormatter(_LINES)
        root = logging.getLogger()
        root.removeHandler(self._waiting)
        self._waiting.setTarget(file)
        self._waiting.flush()
        root.addHandler(file)

    def refuse(self) -> None:
        """Leave what another run has there; in a sweep, say that its last command had the point."""
        with suppress(OSError):  # what went wrong must be said all the same
            if self._is_free():
                self.accept()
            elif self._of_a_sweep:
                os.utime(self._folder.path / ".hydra" / "overrides.yaml")

    def note_stop(self, stop: Preempted) -> None:
        """Say in STATUS.json that a signal stopped the run, also before it could say so itself.

        Schedulers go by that, where a launcher makes 1 of every exit code.
        """
        with suppress(OSError, ValueError):
            if not (_is_locked(self._folder.path) or self._folder.is_done()):
                self._folder.write_stop(str(stop), stop.exit_code)

    def note_failure(self, error: Exception, made: Path | None) -> None:
        """Leave in STATUS.json why a command failed, also before its run could say so itself.

        Args:
            made: the outermost folder that the command has made, which goes while it is empty.
        """
        if isinstance(error, (FolderInUse, PeerLost)):
            return  # STATUS.json speaks of another process
        path = self._folder.path.resolve()
        if made is not None and remove_empty(path, made):
            return  # the command came to nothing, and nothing is there to speak of it
        known = explain(error)
        message, code = (
            (str(known), known.exit_code) if known else (without_secrets(repr(error)), 1)
        )
        with suppress(OSError, ValueError):  # a folder that is gone must not hide what went wrong
            self._folder.write_failure(message, code)
        self.refuse()

    def _is_free(self) -> bool:
        """Whether no run has begun in the folder yet."""
        there = (self._folder.path / ".hydra", self._folder.facts)
        return not any(path.exists() for path in there)

    def _write(self) -> None:
        place = self._folder.path / ".hydra"
        place.mkdir(parents=True, exist_ok=True)
        for name, text in self._texts.items():
            write_atomically(place / name, utf8(text))


def cut_secrets(sweep: Path) -> None:
    """Take secrets out of what Hydra has written of a sweep before its first point."""
    path = sweep / "multirun.yaml"
    with suppress(OSError):
        written = path.read_text(encoding="utf-8")
        if (cleaned := _yaml(OmegaConf.create(written))) != written:
            write_atomically(path, utf8(cleaned))


def _yaml(node: Any) -> str:
    plain = OmegaConf.to_container(node, enum_to_str=True)
    return OmegaConf.to_yaml(OmegaConf.create(public(plain)))


def _is_locked(folder: Path) -> bool:
    """Whether a run is at work in the folder."""
    with suppress(FileNotFoundError), (folder / "state" / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def first_missing(folder: Path) -> Path | None:
    """Return the outermost of a folder and its parents that is not there yet."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    return missing[-1] if missing else None


def remove_empty(folder: Path, outermost: Path) -> bool:
    """Remove a folder, and its parents up to one of them, where they are empty.

    Returns:
        Whether the folder is gone.
    """
    for path in (folder, *folder.parents):
        try:
            path.rmdir()
        except OSError:
            break
        if path == outermost:
            break
    return not folder.exists()
