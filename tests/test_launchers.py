"""Sweeps by the launchers, for real: fresh processes, joblib, Ray, and Slurm."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import LONG, ROOT, SWEEP, Command, read_status, script

pytestmark = pytest.mark.more


@pytest.mark.parametrize("launcher", ["local", "joblib", "ray"])
def test_a_sweep_in_processes_of_its_own(command: Command, tmp_path: Path, launcher: str) -> None:
    """From a bare clone: what a launcher starts must find the code too. One point is bad."""
    line = ["-m", f"hydra/launcher={launcher}", "prune.amount=0.2,1.5", *SWEEP]
    if launcher == "ray":
        line += ["+hydra.launcher.ray.init.num_cpus=1"]
        line += ["+hydra.launcher.ray.init.include_dashboard=false"]
    result = command(*line, PYTHONPATH="", timeout=200)
    assert result.returncode == 2, result.stderr
    assert read_status(tmp_path / "sweep/prune.amount=0.2")["state"] == "done"
    assert read_status(tmp_path / "sweep/prune.amount=1.5")["state"] == "failed"
    assert "2 points, 1 done" in result.stdout
    assert (tmp_path / "sweep/sweep.html").exists()


def test_a_preempted_job_comes_back_and_goes_on(command: Command, tmp_path: Path) -> None:
    """SIGTERM to a job's process: it saves, and submitit starts it again."""
    assert command(*LONG, "seed=0", "hydra.run.dir=alone").returncode == 0
    sweep = [sys.executable, str(ROOT / "train.py"), "-m", "hydra/launcher=local", "seed=0,1"]
    sweep += [*LONG, "finetune.dense_epochs=3", "hydra.sweep.dir=sweep"]
    point = tmp_path / "sweep/seed=0"
    with subprocess.Popen(sweep, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        while not list(point.glob("state/state-*")):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(int((point / "state/lock").read_text().split()[1]), signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "2 points, 2 done" in output
    log = (point / "pruneloop.log").read_text()
    assert log.count("going on in") == 1
    name = "checkpoint/model.safetensors"
    assert (point / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_worker_of_joblib_stops_saved_when_its_command_dies(tmp_path: Path) -> None:
    """A kill -9 of the command alone: its worker would go on to the end as an orphan."""
    sweep = [sys.executable, str(ROOT / "train.py"), "-m", "hydra/launcher=joblib", "seed=0,1"]
    sweep += [*LONG, "finetune.dense_epochs=50", "checkpoint.every_steps=1"]
    point = tmp_path / "sweep/seed=0"
    with subprocess.Popen(
        [*sweep, "hydra.sweep.dir=sweep"], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        while not list(point.glob("state/state-*")):
            assert process.poll() is None
            time.sleep(0.01)
        worker = read_status(point)["pid"]
        assert worker != process.pid
        process.kill()
    for _ in range(600):  # the process itself may stay: nobody here buries it
        if read_status(point)["state"] != "running":
            break
        time.sleep(0.1)
    status = read_status(point)
    assert (status["state"], status["exit_code"]) == ("preempted", 75)
    assert not (point / "checkpoint").exists()


@pytest.mark.timeout(600)
def test_a_job_preempted_on_slurm_comes_back_and_goes_on() -> None:
    trial = script("slurm_trial")
    if trial.missing():
        pytest.skip(f"there is no Slurm to try: {', '.join(trial.missing())} missing")
    line = [sys.executable, str(ROOT / "scripts/slurm_trial.py"), "sweep"]
    result = subprocess.run(line, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the preempted point is bit for bit that of a run left alone" in result.stdout
