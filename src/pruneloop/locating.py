"""Where a checkpoint is, from the folder that a user names: in a run's folder, or there itself."""

from pathlib import Path

from pruneloop.errors import InputError
from pruneloop.records import RunFolder

DEPLOYED = "deploy.json"
"""The file that makes a folder one that `pruneloop deploy` has written."""


def find_run(folder: Path) -> RunFolder | None:
    """Return the run that a folder is, or whose checkpoint or deploy/ it is; None for others."""
    for path in (folder, folder.absolute().parent):
        run = RunFolder(path)
        of_the_run = folder.name in (run.checkpoint.name, run.deploy.name)
        if run.facts.is_file() and (path == folder or of_the_run):
            return run
    return None


def find_checkpoint(folder: Path) -> Path:
    """Return the folder with the checkpoint: a run's, or the folder itself, also a deploy/.

    Raises:
        InputError: there is none.
    """
    if any((folder / name).is_file() for name in ("config.json", DEPLOYED)):
        return folder
    run = RunFolder(folder)
    if (run.checkpoint / "config.json").is_file():
        return run.checkpoint
    if run.status.is_file():
        raise InputError(
            f"{folder}: the run has no checkpoint, which its end writes; STATUS.json calls it "
            f"{_state(run)}; the same command in the same folder goes on with it"
        )
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    points = sorted(path.parent.name for path in folder.glob("*/checkpoint"))
    which = f"; name one of its runs: {', '.join(points[:4])}" if points else ""
    raise InputError(
        f"{folder}: is neither a checkpoint (no config.json) nor a run's folder "
        f"(no checkpoint/){which}"
    )


def _state(run: RunFolder) -> str:
    try:
        return str(run.read_status()["state"])
    except (ValueError, TypeError, KeyError):
        return "nothing that can be read"
