"""Trackers: what TensorBoard, MLflow, trackio or Weights & Biases are told of a run.

accelerate speaks to them. A run that goes on is the same run there: it is known by its
folder.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from packaging.requirements import Requirement

from pruneloop.errors import EnvironmentFault, reason
from pruneloop.records import RoundRecord

log = logging.getLogger(__name__)

_PROJECT = "pruneloop"
_OF_A_ROUND = (
    *("sparsity", "model_sparsity", "shock_accuracy", "accuracy", "macro_f1", "loss"),
    *("test_accuracy", "test_macro_f1", "train_loss", "seconds"),
)


def check_tracker(name: str) -> None:
    """Make sure that a tracker is installed and takes runs; accelerate would go without it.

    Raises:
        EnvironmentFault: it does not.
    """
    if find_spec(name) is None:
        raise EnvironmentFault(
            f'tracker={name}: is not installed; pip install "pruneloop[{name}]", or tracker=none'
        )
    if outdated := _outdated(name):
        raise EnvironmentFault(f'tracker={name}: {outdated}; pip install "pruneloop[{name}]"')
    if name == "mlflow":
        try:
            _mlflow_experiment()
        except EnvironmentFault:
            raise
        except Exception as error:  # whatever its store raises, before anything trains
            raise EnvironmentFault(
                f"tracker=mlflow: cannot be opened ({reason(error)}); try tracker=none"
            ) from error


def _outdated(name: str) -> str | None:
    """Say of an installed extra that it is not of the versions that this package was tried with."""
    with suppress(PackageNotFoundError):  # in a clone that is not installed
        for line in requires("pruneloop") or []:
            needs = Requirement(line)
            asked = needs.marker is not None and needs.marker.evaluate({"extra": name})
            if asked and needs.name == name and not needs.specifier.contains(version(name)):
                return f"needs {needs.name}{needs.specifier}, and {version(name)} is installed"
    return None


class Tracking:
    """A run's line to its tracker, if `accelerator` has one; else it says nothing."""

    def __init__(
        self, accelerator: Accelerator, folder: Path, settings: Mapping[str, Any], step: int
    ) -> None:
        """Open it, at the optimiser step (counted over all rounds) that the run is at.

        Raises:
            EnvironmentFault: the tracker cannot be opened.
        """
        self._accelerator = accelerator
        # The other processes' trackers say nothing; here they are not even opened.
        names = [str(tracker) for tracker in accelerator.log_with]
        self._name = names[0] if names and accelerator.is_main_process else None
        if self._name is None:
            return
        try:
            self._open(self._name, folder, settings, step)
        except Exception as error:
            raise EnvironmentFault(
                f"tracker={self._name}: cannot be opened ({reason(error)}); try tracker=none"
            ) from error

    def _open(self, name: str, folder: Path, settings: Mapping[str, Any], step: int) -> None:
        options = _same_run(name, folder, step)
        known = step > 0 or options.get("run_id") is not None
        self._accelerator.init_trackers(
            # TensorBoard's files are in the run folder: there it is the folder's name.
            "tensorboard" if name == "tensorboard" else _PROJECT,
            None if known else {key: _scalar(value) for key, value in settings.items()},
            {name: options},
        )
        if name == "wandb":
            run = self._accelerator.get_tracker(name, unwrap=True)
            run.define_metric("by_round/*", step_metric="round")

    def log_step(self, step: int, loss: float, learning_rate: float) -> None:
        """Tell the mean loss of the last steps, and the rate."""
        numbers = {"training/loss": loss, "training/learning_rate": learning_rate}
        self._log(numbers, step)

    def log_round(self, step: int, record: RoundRecord, learning_rate: float) -> None:
        """Tell a round's numbers, once against the steps and once against the rounds.

        Args:
            learning_rate: the highest of the round.
        """
        numbers = {name: getattr(record, name) for name in _OF_A_ROUND}
        numbers["learning_rate"] = learning_rate
        numbers = {name: value for name, value in numbers.items() if value is not None}
        by_step = {f"by_step/{name}": value for name, value in numbers.items()}
        by_round = {f"by_round/{name}": value for name, value in numbers.items()}
        self._log(by_step | {"round": record.round}, step)
        # Weights & Biases takes no step back.
        self._log(by_round, step if self._name == "wandb" else record.round)

    def _log(self, numbers: dict[str, Any], step: int) -> None:
        if self._name is None:
            return
        try:
            self._accelerator.log(numbers, step=step)
        except Exception as error:  # a tracker that fails must not end hours of training
            log.warning(f"warning: tracker={self._name} fails ({error}); going on without it")
            self._name = None

    def close(self) -> None:
        """Close it; accelerate's own way would also end the process group."""
        with suppress(Exception):  # what it was told is on record here anyway
            for tracker in self._accelerator.trackers:
                tracker.finish()


def _scalar(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _same_run(tracker: str, folder: Path, step: int) -> dict[str, Any]:
    """Return what makes a tracker go on with the run of a folder, or begin it."""
    place = str(folder.resolve())
    identity = hashlib.sha256(place.encode()).hexdigest()[:16]
    name = "/".join(folder.resolve().parts[-2:])
    match tracker:
        case "tensorboard":
            # What a killed run has told beyond the state that it goes on from is void.
            return {"purge_step": step + 1}
        case "mlflow":
            tags = {"folder": place, "folder_hash": identity}
            return {"run_name": name, "tags": tags, "run_id": _mlflow_id(identity)}
        case "trackio":
            return {"name": f"{name}-{identity[:6]}", "resume": "allow"}
        case _:
            return {"name": name, "id": identity, "resume": "allow", "dir": place}


def _mlflow_experiment() -> str | None:
    """Return the id of the experiment that runs go into, if it is there already.

    Raises:
        EnvironmentFault: it was deleted, and takes none.
    """
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    import mlflow

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)  # as accelerate goes by it
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        return None
    if found.lifecycle_stage == "deleted":
        raise EnvironmentFault(
            f"tracker=mlflow: its experiment {name!r} was deleted; restore it with mlflow "
            f"experiments restore -x {found.experiment_id}, or set MLFLOW_EXPERIMENT_NAME"
        )
    return str(found.experiment_id)


def _mlflow_id(identity: str) -> str | None:
    """Return the id of the run that MLflow has of a folder, if it has one."""
    import mlflow

    experiment = _mlflow_experiment()
    if experiment is None:
        return None
    runs = mlflow.search_runs(
        [experiment],
        filter_string=f"tags.folder_hash = '{identity}'",
        output_format="list",
    )
    return str(runs[0].info.run_id) if runs else None
