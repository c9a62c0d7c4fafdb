"""Files and folders that are either wholly there or not there at all, also after a crash."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import xxhash
from safetensors import SafetensorError

from pruneloop.errors import CheckpointError, EnvironmentFault

_MANIFEST = "manifest.json"

# Room for the small files, and for what a file system needs beside the bytes themselves.
_SPARE_BYTES = 16 << 20


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (names, renames, deletions) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed or the process dies; False if another has it.

    Raises:
        EnvironmentFault: the file system has no locks, as some network ones.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise EnvironmentFault(
            f"{file.name}: this file system cannot lock files ({error.strerror}), so that two runs "
            "could write there; choose a hydra.run.dir on another one, and copy it afterwards"
        ) from error
    return True


def flush_file(path: Path) -> None:
    """Flush a file to the disk, with the umask's mode (safetensors writes 0600)."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`: readers see the old one or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "wb", opener=_new_file) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        # Of a full disk, the system does not say where; of a rename, not what is in its way.
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _new_file(path: str, flags: int) -> int:
    """Open a file that was not there before; a link that was put in its place is not followed."""
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def fresh_folder(path: Path) -> Path:
    """Make an empty folder at `path`, in place of what an earlier try left there."""
    remove_anything(path)
    path.mkdir()
    return path


def remove_anything(path: Path) -> None:
    """Remove a folder, a file or a link, whatever a path is, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def seal_folder(folder: Path) -> None:
    """Flush and hash every file of a folder; write the hashes into a new manifest, last."""
    hashes = {}
    (folder / _MANIFEST).unlink(missing_ok=True)
    for path in sorted(folder.iterdir()):
        flush_file(path)
        hashes[path.name] = hash_file(path)
    (folder / _MANIFEST).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
    flush_file(folder / _MANIFEST)


def is_sealed(folder: Path) -> bool:
    """Whether a folder has a manifest."""
    return (folder / _MANIFEST).is_file()


def check_folder(folder: Path) -> list[str]:
    """Return the names of the files that the manifest vouches for.

    Raises:
        CheckpointError: there is no manifest, or a file is not as it says.
    """
    try:
        hashes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(hashes, dict):
            raise CheckpointError(f"{_MANIFEST} is no list of files")
        for name, expected in hashes.items():
            if Path(name).name != name:
                raise CheckpointError(f"{name!r} is outside the folder")
            if hash_file(folder / name) != expected:
                raise CheckpointError(f"{name} is damaged")
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{type(error).__name__}: {error}") from error
    return list(hashes)


def manifest(folder: Path) -> dict[str, str]:
    """Return the hashes that a folder was sealed with, unchecked; none where it is not sealed."""
    if not is_sealed(folder):
        return {}
    return dict(json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))


def hash_file(path: Path) -> str:
    """Return a hash of what a file holds."""
    # Against damage, not forgery: ten times as fast as SHA-256, which would take as long
    # as the writing itself where the processor has no instruction for it.
    with open(path, "rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def publish_folder(temporary: Path, target: Path) -> None:
    """Give a sealed folder its name, in place of what had it before.

    Both must be on one file system. The old folder goes only when the new one is there.
    """
    sync_folder(temporary)
    old = target.with_name(f".old-{target.name}")
    if target.exists():
        remove_anything(old)
        os.rename(target, old)
    os.rename(temporary, target)
    sync_folder(target.parent)
    remove_anything(old)


def remove_folder(folder: Path) -> None:
    """Delete a folder, by rename first: under its name it is never seen in part."""
    doomed = folder.with_name(f".old-{folder.name}")
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


@contextlib.contextmanager
def saving(place: Path, needed: int) -> Iterator[None]:
    """Save about `needed` bytes under `place`: check the space first, explain a failure.

    Raises:
        EnvironmentFault: there is too little space, or the system refused a write (full,
            read-only, gone); says what was needed and what is free.
    """
    try:
        if shutil.disk_usage(place).free < needed + _SPARE_BYTES:
            raise EnvironmentFault(f"{place}: no space to save; {_space(place, needed)}")
        yield
    except (OSError, SafetensorError) as error:  # safetensors wraps the system's errors
        reason = getattr(error, "strerror", None) or error
        where = getattr(error, "filename", None) or place
        raise EnvironmentFault(
            f"{where}: cannot save ({reason}); {_space(place, needed)}; what was saved before "
            "is untouched"
        ) from error


def _space(place: Path, needed: int) -> str:
    try:
        free = f"{shutil.disk_usage(place).free:,} free"
    except OSError:
        free = "the folder is gone"
    return f"{needed + _SPARE_BYTES:,} bytes needed, {free}"
