"""Whether a folder holds this very run: what must be equal for it to go on bit for bit."""

import logging
from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from pruneloop.checkpoint import SavedState, StateFolder, differences
from pruneloop.durable import check_folder
from pruneloop.errors import CheckpointError
from pruneloop.records import RunFolder
from pruneloop.run_state import Stage

log = logging.getLogger(__name__)

# Settings that change nothing of what a run computes.
_FREE = ("checkpoint.", "tracker", "push_to_hub", "start_from", "control", "data.title")


def identity(
    settings: Mapping[str, Any], accelerator: Accelerator, rows: Mapping[str, str]
) -> dict[str, Any]:
    """Return all that must be equal for a run to go on bit for bit.

    Args:
        settings: the configuration by dotted keys.
        rows: a hash of the rows of each split.
    """
    bound = {key: value for key, value in settings.items() if not key.startswith(_FREE)}
    where = {"device": accelerator.device.type, "processes": accelerator.num_processes}
    return bound | {f"rows of {name}": value for name, value in rows.items()} | where


def find_saved(
    folder: RunFolder, states: StateFolder, identity: Mapping[str, Any]
) -> SavedState | None:
    """Return the state to go on from, if the folder has one of this very run.

    Raises:
        CheckpointError: it has one of another run, a damaged one, or records without one;
            or the processes see different ones.
    """
    saved = states.load()
    if len(set(gather_object([saved.folder.name if saved else "none"]))) > 1:
        raise CheckpointError(
            f"{folder.path}: the processes read different saved states; the folder must be "
            "one that all machines share"
        )
    if saved is None:
        if folder.rounds_jsonl.exists():
            raise CheckpointError(
                f"{folder.path}: has records of a run but no saved state to go on from; use "
                "another hydra.run.dir"
            )
        return None

    def may_change(key: str, was: Any, now: Any) -> bool:
        # More rounds at a fixed amount leave the earlier ones as they were.
        return key == "rounds" and now > was and identity["prune.target_sparsity"] is None

    try:
        # The tokens are compared where the run goes on: a finished one needs no tokenizer.
        before = {k: v for k, v in saved.position["identity"].items() if k != "tokens"}
        changed = differences(before, identity, may_change)
        int(saved.position["round"]), Stage(saved.position["stage"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise foreign(saved) from error
    if changed:
        raise CheckpointError(
            f"{folder.path}: holds a run with other settings: {'; '.join(changed)}; repeat "
            "its settings, or use another hydra.run.dir"
        )
    return saved


def is_finished(saved: SavedState, folder: RunFolder, rounds: int) -> bool:
    """Whether all is done, and the exported checkpoint is still there and whole."""
    position = saved.position
    over = position["round"] > rounds  # or its budget was used up before
    over = over or position["round"] <= position["identity"]["rounds"]
    if position["stage"] != Stage.DONE.value or not over or not folder.is_done():
        return False
    try:
        check_folder(folder.checkpoint)
    except CheckpointError as error:
        log.warning(f"warning: {folder.checkpoint} is written anew ({error})")
        return False
    return True


def foreign(saved: SavedState, why: str = "") -> CheckpointError:
    """Return the error of a state that this version did not write."""
    return CheckpointError(
        f"{saved.folder}: is not what this version of pruneloop writes{why}; use another "
        "hydra.run.dir"
    )
