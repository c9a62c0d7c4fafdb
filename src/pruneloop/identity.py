"""Whether a folder holds this very run: what must be equal for it to go on bit for bit."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from pruneloop.checkpoint import SavedState, StateFolder, differences
from pruneloop.durable import check_folder
from pruneloop.errors import CheckpointError
from pruneloop.records import RunFolder
from pruneloop.run_state import Stage

log = logging.getLogger(__name__)

# The tokens where the run goes on, the rest by `same_arithmetic`.
_COMPARED_LATER = ("tokens", "threads", "torch", "hardware")
# Settings that change nothing of what a run computes.
_FREE = (
    "checkpoint.",
    "control",
    "data.title",
    "ladder",
    "push_to_hub",
    "report.",
    "start_from",
    "tracker",
)
# Where the rows are and how they are read: the rows themselves are compared.
_PLACES = {
    *("data.name", "data.path", "data.train", "data.test", "data.config", "data.revision"),
    *("data.format", "data.layout", "data.columns", "data.records", "data.delimiter"),
    *("data.quoting", "data.encoding", "data.text", "data.label", "data.max_bytes"),
}


def identity(
    settings: Mapping[str, Any], accelerator: Accelerator, rows: Mapping[str, str]
) -> dict[str, Any]:
    """Return all that must be equal for a run to go on bit for bit.

    Args:
        settings: the configuration by dotted keys.
        rows: a hash of the rows of each split.
    """
    free = {key for key in settings if key.startswith(_FREE)} | _PLACES
    bound = {key: value for key, value in settings.items() if key not in free}
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
        _check_empty(folder)
        return None

    def may_change(key: str, was: Any, now: Any) -> bool:
        # More rounds at a fixed amount leave the earlier ones as they were.
        return key == "rounds" and now > was and identity["prune.target_sparsity"] is None

    try:
        # A finished run needs no tokenizer to say so.
        before = {k: v for k, v in saved.position["identity"].items() if k not in _COMPARED_LATER}
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


def _check_empty(folder: RunFolder) -> None:
    """Make sure that a folder without a state holds nothing that a run would mix with its own."""
    if folder.rungs.exists():
        raise CheckpointError(
            f"{folder.path}: holds the rungs of a ladder (experiment=smallest); use another "
            "hydra.run.dir"
        )
    if folder.rounds_jsonl.exists():
        raise CheckpointError(
            f"{folder.path}: has records of a run but no saved state to go on from; use another "
            "hydra.run.dir"
        )


def same_arithmetic(saved: SavedState | None, device: torch.device) -> dict[str, Any]:
    """Compute with as many threads as the run did before; say what else rounds differently now.

    Returns:
        What of the machine decides the last bits, for the run's identity.
    """
    before = saved.position["identity"] if saved else {}
    threads, now = before.get("threads"), torch.get_num_threads()
    if device.type == "cpu" and isinstance(threads, int) and threads != now:
        torch.set_num_threads(threads)
        log.info(f"threads: {threads}, as the run began, not {now}: others would give other bits")
    on_gpu = device.type == "cuda"
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "hardware": torch.cuda.get_device_name(device)
        if on_gpu
        else torch.backends.cpu.get_cpu_capability(),
    }
    for key in ("torch", "hardware"):
        if before.get(key, found[key]) != found[key]:
            log.warning(
                f"warning: going on with {key} {found[key]} (was {before[key]}): the last bits "
                "of what follows may be others than there"
            )
    return found


def is_finished(saved: SavedState, folder: RunFolder, rounds: int) -> bool:
    """Whether all is done, and the checkpoint, records and report are there and whole."""
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
    if damaged := folder.damaged():
        log.warning(
            f"warning: {', '.join(damaged)} of {folder.path}: not as the run left it, and "
            "written anew"
        )
        return False
    return True


def foreign(saved: SavedState, why: str = "") -> CheckpointError:
    """Return the error of a state that this version did not write."""
    return CheckpointError(
        f"{saved.folder}: is not what this version of pruneloop writes{why}; use another "
        "hydra.run.dir"
    )
