"""A run's resumable state, and its archive: a crash at any instruction loses no run.

A saved state is a folder of safetensors and JSON files with a manifest of their hashes.
It is written under a temporary name, flushed, and renamed when it is complete; older
ones go only after that. Loading trusts nothing that the manifest does not vouch for.
"""

import contextlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pruneloop.durable import (
    check_folder,
    fresh_folder,
    publish_folder,
    remove_folder,
    saving,
    seal_folder,
    try_lock,
)
from pruneloop.errors import CheckpointError, FolderInUse

log = logging.getLogger(__name__)

STATE, ARCHIVE = "state", "archive"
"""Where in a run's folder its states are, and where in there its archive is."""

DENSE, EARLY = "dense", "early"
"""What the archive's entries of round 0 are called: its end, and what rewinding goes back to."""

_POSITION = "position.json"
_KEPT = 2


@dataclass(frozen=True)
class SavedState:
    """A sealed folder read back: where the run was, and its tensors when they are asked for."""

    folder: Path
    position: dict[str, Any]
    files: tuple[str, ...]

    def __contains__(self, name: str) -> bool:
        return f"{name}.safetensors" in self.files

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one of its files.

        Raises:
            CheckpointError: it has no such file, or not one of tensors.
        """
        try:
            return load_file(self.folder / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.folder / name}: {error}") from error


class StateFolder:
    """The folder `state/` of a run: its lock, and its saved states."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive = Archive(path / ARCHIVE)
        self._damaged: list[Path] = []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock dies with it.

        Raises:
            FolderInUse: another process holds it; the message names its pid and host.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            if not try_lock(file):
                file.seek(0)
                raise FolderInUse(
                    f"{self.path.parent}: another run is at work here ({file.read().strip()}); "
                    "wait for it, or use another hydra.run.dir"
                )
            file.seek(0)
            file.truncate()
            file.write(f"pid {os.getpid()} on {platform.node()}\n")
            file.flush()
            yield

    def names(self) -> list[Path]:
        """Return the saved states, newest first."""
        return sorted(self.path.glob("state-*"), reverse=True)

    @property
    def writing(self) -> Path:
        """Where the files of the next state are written, before they count."""
        return self.path / ".writing"

    def begin(self) -> None:
        """Make an empty folder to write a state into, and clear what a kill left behind."""
        for leftover in self.path.glob(".old-*"):
            shutil.rmtree(leftover)
        fresh_folder(self.writing)

    def publish(self, position: Mapping[str, Any]) -> Path:
        """Make what was written the newest state, then drop old ones."""
        folder = self.writing
        (folder / _POSITION).write_text(json.dumps(position), encoding="utf-8")
        seal_folder(folder)
        newest = self.names()
        number = int(newest[0].name.removeprefix("state-")) + 1 if newest else 0
        target = self.path / f"state-{number:08d}"
        publish_folder(folder, target)
        # A damaged one is nothing to fall back to, and must not push out what is.
        whole = [path for path in self.names() if path not in self._damaged]
        for old in (*whole[_KEPT:], *self._damaged):
            remove_folder(old)
        self._damaged.clear()
        return target

    def load(self) -> SavedState | None:
        """Read the newest state whose every file matches its manifest; None for none.

        Raises:
            CheckpointError: there are states, but none of them is whole.
        """
        names = self.names()
        for folder in names:
            try:
                return _read(folder)
            except CheckpointError as error:
                log.warning(f"warning: skipping the saved state {folder.name} ({error})")
                self._damaged.append(folder)
        if names:
            raise CheckpointError(
                f"{self.path}: none of the {len(names)} saved states is whole; start over in "
                "another hydra.run.dir, or delete this folder"
            )
        return None


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; tensors may live on any device."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def bytes_of(files: Mapping[str, Mapping[str, Tensor]]) -> int:
    """Return how many bytes the tensors of several files take."""
    return sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values())


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the generators that dropout draws from."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Put the generators back to what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _read(folder: Path) -> SavedState:
    names = check_folder(folder)
    if _POSITION not in names:
        raise CheckpointError(f"{_POSITION} is missing")
    try:
        position = json.loads((folder / _POSITION).read_text(encoding="utf-8"))
        for name in names:
            if name.endswith(".safetensors"):
                with safe_open(folder / name, framework="pt"):
                    pass  # its header is read; the tensors are when they are asked for
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{type(error).__name__}: {error}") from error
    return SavedState(folder, position, tuple(names))


class Archive:
    """Sealed weights of a run under a name, written once: what no state has to carry."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, name: str) -> bool:
        """Whether a whole entry of that name is there."""
        with contextlib.suppress(CheckpointError):
            check_folder(self.path / name)
            return True
        return False

    def write(
        self,
        name: str,
        tensors: Mapping[str, Mapping[str, Tensor]],
        position: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Write tensors by file name, unless a whole entry of that name is there already.

        Args:
            position: what else belongs to them, as JSON can hold it.

        Raises:
            EnvironmentFault: there is no space, or a write was refused.
        """
        if self.has(name):
            return
        self.path.mkdir(exist_ok=True)
        with saving(self.path, bytes_of(tensors)):
            temporary = fresh_folder(self.path / f".{name}.tmp")
            for file, group in tensors.items():
                save_tensors(temporary / f"{file}.safetensors", group)
            text = json.dumps(dict(position))
            (temporary / _POSITION).write_text(text, encoding="utf-8")
            seal_folder(temporary)
            publish_folder(temporary, self.path / name)

    def copy(self, other: "Archive", name: str) -> None:
        """Take over an entry of another archive, unless a whole one is there already.

        Raises:
            EnvironmentFault: there is no space, or a write was refused.
        """
        if self.has(name):
            return
        self.path.mkdir(exist_ok=True)
        source, temporary = other.path / name, self.path / f".{name}.tmp"
        with saving(self.path, sum(file.stat().st_size for file in source.iterdir())):
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(source, temporary)
            seal_folder(temporary)
            publish_folder(temporary, self.path / name)

    def read(self, name: str) -> SavedState:
        """Return an entry.

        Raises:
            CheckpointError: it is not there, or damaged.
        """
        try:
            return _read(self.path / name)
        except CheckpointError as error:
            raise CheckpointError(
                f"{self.path / name}: {error}; start over in another hydra.run.dir"
            ) from error

    def keep_only(self, *names: str) -> None:
        """Delete every other entry."""
        for folder in self.path.glob("[!.]*"):
            if folder.name not in names:
                remove_folder(folder)


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], may_change: Callable[[str, Any, Any], bool]
) -> list[str]:
    """Return the dotted keys whose values differ, unless they may."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        if was != now and not may_change(key, was, now):
            found.append(f"{key} (was {was}, is {now})")
    return found
