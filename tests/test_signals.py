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
    REPORT,
    ROOT,
    RUN,
    SWEEP,
    TORCHRUN,
    Life,
    before_call,
    read_rounds,
    read_status,
    signal_at,
    states,
    wait_until,
)

from pruneloop import signals
from pruneloop.errors import EnvironmentFault, PeerLost
from pruneloop.machine import machine_faults

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


def test_signals_are_remembered_before_anything_takes_time() -> None:
    """Whatever a module of the command's first line imports, no signal is caught meanwhile."""
    line = "import sys, pruneloop.command; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    slow = {"torch", "numpy", "hydra", "omegaconf", "transformers", "datasets", "accelerate"}
    assert not slow & {*result.stdout.split()}


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


def twice_more() -> None:
    """Press Ctrl-C, and twice more while what it has led to is written down."""
    signal_at(("pruneloop.records.RunFolder", "write_stop"), 1, *[signal.SIGINT] * 2)
    signal_at(BACKWARD, 25, signal.SIGINT)


def test_the_third_ctrl_c_does_not_cut_the_end_short(tmp_path: Path) -> None:
    life = Life(tmp_path, *RUN, before=twice_more)
    assert life.wait() == 130, life.errors
    (line,) = life.errors.splitlines()
    assert "round 0 is saved at step" in line
    assert read_status(tmp_path / "run")["state"] == "interrupted"


@pytest.mark.more
def test_a_signal_in_the_report_ends_a_sweep_before_its_next_point(tmp_path: Path) -> None:
    swept = ("-m", "seed=0,1", *SWEEP)
    life = Life(tmp_path, *swept, before=functools.partial(signal_at, REPORT, 1, signal.SIGTERM))
    assert life.wait() == 75, life.errors
    assert read_status(tmp_path / "sweep/seed=0")["state"] == "done"
    assert not (tmp_path / "sweep/seed=1/run.json").exists()
    life = Life(tmp_path, *swept)
    assert life.wait() == 0, life.errors
    assert len(read_rounds(tmp_path / "sweep/seed=1")) == 2


SWALLOWED = """
import os, signal, time
from pruneloop import signals
signals.remember_signals()
signals.heed_signals()
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
try:
    Dying()
    time.sleep(5)
except signals.Interrupted:
    print("heard")
"""


def test_a_signal_where_python_lets_nothing_through_comes_again() -> None:
    result = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("heard\n", "")


def orphan_at(count: int) -> None:
    """Make the process see at its count-th batch that the one that started it is gone."""
    signals.watch_parent()
    before_call(BACKWARD, count, lambda: setattr(os, "getppid", lambda: 1))


def test_a_process_whose_launcher_is_gone_stops_saved(tmp_path: Path) -> None:
    life = Life(tmp_path, *RUN, before=functools.partial(orphan_at, 9))
    assert life.wait() == 75, life.errors
    assert "round 0 is saved at step 5" in life.errors
    assert read_status(tmp_path / "run")["state"] == "preempted"


@pytest.mark.more
def test_ranks_stop_saved_when_their_torchrun_is_killed(tmp_path: Path) -> None:
    line = [sys.executable, *TORCHRUN, str(ROOT / "train.py"), *RUN, "finetune.dense_epochs=500"]
    with (tmp_path / "output.txt").open("w") as output:
        launcher = subprocess.Popen(line, cwd=tmp_path, stdout=output, stderr=output)
    begun = tmp_path / "run/state/state-00000000"
    wait_until(begun.exists, lambda: launcher.poll() is not None)
    launcher.kill()
    launcher.wait()
    wait_until(lambda: read_status(tmp_path / "run")["state"] == "preempted", lambda: False)
    assert read_status(tmp_path / "run")["exit_code"] == 75


@pytest.mark.parametrize(
    "said",
    [
        "[pair.cc:534] Connection closed by peer [127.0.0.1]:1",
        "Read error [127.0.0.1]:1: Connection reset by peer",
        "writev [127.0.0.1]:1: Broken pipe",
    ],
)
def test_a_dead_peer_is_exit_5(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    with pytest.raises(PeerLost, match="another process of this run has ended"), machine_faults():
        raise RuntimeError(said)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[x] DefaultCPUAllocator: can't allocate memory: 1 TB")]
)
def test_too_little_memory_is_one_line(error: Exception) -> None:
    with pytest.raises(EnvironmentFault, match=r"memory is full; .* halve"), machine_faults():
        raise error
