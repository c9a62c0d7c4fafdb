"""Trackers told for real, offline: every number arrives, also when a run is killed."""

import functools
import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from support import EVALUATION, SMALL, Life, before_call, composed, die_at, read_rounds

from pruneloop import tracking
from pruneloop.errors import EnvironmentFault
from pruneloop.pipeline import check_before_loading
from pruneloop.tracking import check_tracker

RUN = (*SMALL, "finetune.dense_epochs=2", "finetune.batch_size=4", "hydra.run.dir=run")
# 216 training rows: 54 steps an epoch, two epochs in round 0 and one in each other.
STEPS = [108, 54, 54]
Series = dict[str, list[tuple[int, float]]]


def environment(folder: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")


def killed_and_finished(folder: Path, tracker: str) -> list[dict]:
    """Run with a tracker, kill it after round 1's shock, and let it go on."""

    def live(kill: bool) -> Life:
        before = functools.partial(prepare, folder, kill)
        return Life(folder, *RUN, f"tracker={tracker}", before=before)

    life = live(kill=True)
    assert life.wait() == -signal.SIGKILL, life.errors
    life = live(kill=False)
    assert life.wait() == 0, life.errors
    return read_rounds(folder / "run")


def prepare(folder: Path, kill: bool) -> None:
    environment(folder)
    if kill:
        # trackio sends what it is told within a second or two.
        before_call(EVALUATION, 2, functools.partial(time.sleep, 3))
        die_at(EVALUATION, 3)


def tensorboard(folder: Path) -> Series:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "run/tensorboard")).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def mlflow(folder: Path) -> Series:
    with sqlite3.connect(folder / "mlflow.db") as database:
        (runs,) = database.execute("select count(*) from runs").fetchone()
        assert runs == 1  # the run that went on is the same one
        settings = dict(database.execute("select key, value from params").fetchall())
        rows = database.execute("select key, step, value from metrics order by step").fetchall()
    assert settings["finetune.batch_size"] == "4" and settings["prune.scope"] == "['encoder']"
    return {key: [(s, v) for k, s, v in rows if k == key] for key, _, _ in rows}


def trackio(folder: Path) -> Series:
    (path,) = (folder / "trackio").glob("pruneloop*.db")
    with sqlite3.connect(path) as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
    (name,) = {name for name, _, _ in rows}
    assert name.startswith(f"{folder.name}/run-")
    series: Series = {}
    for _, step, metrics in rows:
        for key, value in json.loads(metrics).items():
            series.setdefault(key, []).append((step, value))
    return series


@pytest.mark.parametrize(
    "tracker",
    [
        pytest.param(tensorboard, marks=pytest.mark.more),
        pytest.param(mlflow, marks=pytest.mark.more),
        pytest.param(trackio, marks=pytest.mark.more),
    ],
)
def test_a_tracker_is_told_everything(tmp_path: Path, tracker) -> None:
    rounds = killed_and_finished(tmp_path, tracker.__name__)
    series = tracker(tmp_path)
    ends = [sum(STEPS[: number + 1]) for number in range(3)]
    assert [r["steps"] for r in rounds] == STEPS
    for name in ("accuracy", "loss", "sparsity", "model_sparsity", "test_accuracy"):
        expected = [pytest.approx(r[name], rel=1e-6) for r in rounds]
        assert sorted(series[f"by_step/{name}"]) == list(zip(ends, expected, strict=True))
        assert sorted(series[f"by_round/{name}"]) == list(zip(range(3), expected, strict=True))
    shocks = [(r["round"], pytest.approx(r["shock_accuracy"], rel=1e-6)) for r in rounds[1:]]
    assert sorted(series["by_round/shock_accuracy"]) == shocks
    steps = sorted({step for step, _ in series["training/loss"]})
    assert steps == [25, 50, 75, 100, 108, 133, 158, 162, 187, 212, 216]
    finetune = composed().finetune
    told = [finetune.dense_learning_rate, finetune.learning_rate, finetune.learning_rate]
    assert sorted(series["by_round/learning_rate"]) == [
        (number, pytest.approx(rate)) for number, rate in enumerate(told)
    ]
    rates = dict(series["training/learning_rate"])
    assert rates[25] > rates[100] > rates[108] >= 0


def nowhere() -> None:
    os.environ.update(MLFLOW_TRACKING_URI="sqlite:////dev/null/mlflow.db")


@pytest.mark.more
def test_a_tracker_that_cannot_be_opened_is_exit_5(tmp_path: Path) -> None:
    life = Life(tmp_path, *RUN, "tracker=mlflow", before=nowhere)
    assert life.wait() == 5, life.errors
    assert "pruneloop: tracker=mlflow: cannot be opened (" in life.errors
    assert "Traceback" not in life.errors


@pytest.mark.more
@pytest.mark.filterwarnings("ignore")  # of the libraries below MLflow
def test_a_deleted_experiment_is_said_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "it's mine")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        check_tracker("mlflow")  # it is not there yet, and its quote is no mistake
        mlflow.delete_experiment(mlflow.create_experiment("it's mine"))
        with pytest.raises(EnvironmentFault, match=r"'it's mine' was deleted|\"it's mine\" was"):
            check_tracker("mlflow")
    finally:
        mlflow.set_tracking_uri(before)


def test_an_extra_of_another_version_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ['tensorboard>=2.18; extra == "tensorboard"', "torch>=2"]
    monkeypatch.setattr(tracking, "requires", lambda _: needs)
    monkeypatch.setattr(tracking, "version", lambda _: "2.1")
    with pytest.raises(EnvironmentFault, match=r"needs tensorboard>=2\.18, and 2\.1 is installed"):
        check_tracker("tensorboard")
    monkeypatch.setattr(tracking, "version", lambda _: "2.20")
    check_tracker("tensorboard")


def deaf() -> None:
    """Make the tracker fail from the second call on."""
    from accelerate.tracking import TensorBoardTracker

    real, calls = TensorBoardTracker.log, []

    def log(self, *args, **options):
        calls.append(1)
        if len(calls) > 1:
            raise ConnectionError("the server is gone")
        return real(self, *args, **options)

    TensorBoardTracker.log = log


@pytest.mark.more
def test_a_tracker_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    life = Life(tmp_path, *RUN, "tracker=tensorboard", before=deaf)
    assert life.wait() == 0, life.errors
    assert life.output.count("going on without it") == 1


def test_a_tracker_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match=r'pip install "pruneloop\[wandb9\]"'):
        check_tracker("wandb9")
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r'pip install "pruneloop\[wandb\]"'):
        check_before_loading(composed("tracker=wandb"))
