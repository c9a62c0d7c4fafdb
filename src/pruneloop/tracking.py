"""Trackers: what TensorBoard, MLflow, trackio or Weights & Biases are told of a run.

accelerate speaks to them. A run that goes on is the same run there: it is known by its
folder.
"""

import hashlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator

from pruneloop.errors import EnvironmentFault
from pruneloop.records import RoundRecord

_PROJECT = "pruneloop"
_EVERY_STEPS = 25
_OF_A_ROUND = (
    *("sparsity", "model_sparsity", "shock_accuracy", "accuracy", "macro_f1", "loss"),
    *("test_accuracy", "test_macro_f1", "train_loss", "seconds"),
)


def check_tracker(name: str) -> None:
    """Make sure that a tracker is installed; accelerate would go without it.

    Raises:
        EnvironmentFault: it is not.
    """
    if find_spec(name) is None:
        raise EnvironmentFault(
            f'tracker={name}: is not installed; pip install "pruneloop[{name}]", or tracker=none'
        )


class Step(Protocol):
    """Where a round's training is after an optimiser step."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def loss(self) -> float | None: ...


class Tracking:
    """A run's line to its tracker, if `accelerator` has one; else it says nothing."""

    def __init__(
        self, accelerator: Accelerator, folder: Path, settings: Mapping[str, Any], step: int
    ) -> None:
        """Open it, at the optimiser step (counted over all rounds) that the run is at."""
        self._accelerator = accelerator
        # The other processes' trackers say nothing; here they are not even opened.
        main = accelerator.is_main_process
        names = [str(tracker) for tracker in accelerator.log_with] if main else []
        self._steps_only_grow = "wandb" in names
        if not names:
            return
        fresh = step == 0
        accelerator.init_trackers(
            # TensorBoard's files are in the run folder: there it is the folder's name.
            "tensorboard" if "tensorboard" in names else _PROJECT,
            {key: _scalar(value) for key, value in settings.items()} if fresh else None,
            {name: _same_run(name, folder, step) for name in names},
        )
        if self._steps_only_grow:
            run = accelerator.get_tracker("wandb", unwrap=True)
            run.define_metric("by_round/*", step_metric="round")

    def log_step(self, before: int, progress: Step) -> None:
        """Tell the mean loss of the round so far, and the rate, every so many steps.

        Args:
            before: the steps of all earlier rounds.
        """
        due = progress.step % _EVERY_STEPS == 0 or progress.step == progress.steps
        if due and progress.loss is not None:
            numbers = {
                "training/loss": progress.loss,
                "training/learning_rate": progress.learning_rate,
            }
            self._accelerator.log(numbers, step=before + progress.step)

    def log_round(self, step: int, record: RoundRecord) -> None:
        """Tell a round's numbers, once against the steps and once against the rounds."""
        numbers = {name: getattr(record, name) for name in _OF_A_ROUND}
        numbers = {name: value for name, value in numbers.items() if value is not None}
        by_step = {f"by_step/{name}": value for name, value in numbers.items()}
        by_round = {f"by_round/{name}": value for name, value in numbers.items()}
        self._accelerator.log(by_step | {"round": record.round}, step=step)
        self._accelerator.log(by_round, step=step if self._steps_only_grow else record.round)

    def close(self) -> None:
        """Close it; accelerate's own way would also end the process group."""
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
            return {"name": name, "resume": "allow"}
        case _:
            return {"name": name, "id": identity, "resume": "allow", "dir": place}


def _mlflow_id(identity: str) -> str | None:
    """Return the id of the run that MLflow has of a folder, if it has one."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    import mlflow

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)  # as accelerate goes by it
    experiments = mlflow.search_experiments(filter_string=f"name = '{name}'")
    if not experiments:
        return None
    runs = mlflow.search_runs(
        [experiment.experiment_id for experiment in experiments],
        filter_string=f"tags.folder_hash = '{identity}'",
        output_format="list",
    )
    return str(runs[0].info.run_id) if runs else None
