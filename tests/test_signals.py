"""A signal at any moment: remembered or heeded, said in STATUS.json, and never a traceback."""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import (
    BACKWARD,
    COMMAND_LINE,
    LONG,
    REPORT,
    SWEEP,
    Life,
    read_rounds,
    read_status,
    signal_at,
    states,
)

RUN = (*LONG, "hydra.run.dir=run")

EVERY = """
import os, signal
from pruneloop import signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signals.remember_signals()
assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signals.remember_signals()
for kind in ("HUP", "INT", "QUIT", "TERM", "ALRM", "XCPU", "PROF", "IO", "PWR", "RTMIN", "RTMAX"):
    os.kill(os.getpid(), getattr(signal, "SIG" + kind))
    assert signals._asked.first == signal.SIGHUP
try:
    signals.heed_signals()
except signals.Preempted as stop:
    assert stop.exit_code == 75
else:
    raise AssertionError
"""


def test_every_signal_that_would_end_the_process_is_caught() -> None:
    """And what the user ignores, as nohup does, stays ignored."""
    result = subprocess.run([sys.executable, "-c", EVERY], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_before_the_imports_is_not_lost(tmp_path: Path, kind: int, code: int) -> None:
    """A scheduler under torchrun has only STATUS.json to go by."""
    life = Life(tmp_path, *RUN, before=functools.partial(signal_at, COMMAND_LINE, 1, kind))
    assert life.wait() == code, life.errors
    (line,) = life.errors.splitlines()
    assert "before the first step" in line
    status = read_status(tmp_path / "run")
    assert status["state"] == ("preempted" if code == 75 else "interrupted")
    assert not states(tmp_path)


def test_a_closed_terminal_saves(tmp_path: Path) -> None:
    """What is printed then is lost, and the exit code is not."""

    life = Life(tmp_path, *RUN, before=hang_up)
    assert life.wait() == 75
    assert len(states(tmp_path)) > 1 and read_status(tmp_path / "run")["state"] == "preempted"


def hang_up() -> None:
    """Make both outputs fail, and the signal come that a closed terminal sends."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.dup2(full, 2)
    signal_at(BACKWARD, 25, signal.SIGHUP)


def test_ctrl_c_says_where_to_go_on(tmp_path: Path) -> None:
    life = Life(tmp_path, *RUN, before=functools.partial(signal_at, BACKWARD, 25, signal.SIGINT))
    assert life.wait() == 130, life.errors
    (line,) = life.errors.splitlines()
    assert "round 0 is saved at step" in line and "hydra.run.dir=" in line
    assert read_status(tmp_path / "run")["state"] == "interrupted"


def test_the_third_ctrl_c_does_not_wait_for_the_save(tmp_path: Path) -> None:
    thrice = functools.partial(signal_at, BACKWARD, 25, *[signal.SIGINT] * 3)
    life = Life(tmp_path, *RUN, before=thrice)
    assert life.wait() == 130, life.errors
    (line,) = life.errors.splitlines()
    assert "stopped at once" in line
    assert read_status(tmp_path / "run")["state"] == "interrupted"


def test_a_signal_in_the_report_ends_a_sweep_before_its_next_point(tmp_path: Path) -> None:
    swept = ("-m", "seed=0,1", *SWEEP)
    life = Life(tmp_path, *swept, before=functools.partial(signal_at, REPORT, 1, signal.SIGTERM))
    assert life.wait() == 75, life.errors
    assert read_status(tmp_path / "sweep/seed=0")["state"] == "done"
    assert not (tmp_path / "sweep/seed=1/run.json").exists()
    life = Life(tmp_path, *swept)
    assert life.wait() == 0, life.errors
    assert len(read_rounds(tmp_path / "sweep/seed=1")) == 2
