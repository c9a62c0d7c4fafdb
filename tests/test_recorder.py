"""What a run tells while it trains: once a minute, how far it is and how long it will take."""

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from support import SMALL, composed, experiment

from pruneloop import recorder
from pruneloop.recorder import Pace, Recorder
from pruneloop.records import RunFolder
from pruneloop.run_state import RunState
from pruneloop.tracking import Tracking
from pruneloop.training import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_it_is_time_once_a_minute(clock: list[float]) -> None:
    pace, told = Pace(0), []
    for seconds in (30, 29, 1, 1, 58, 1):
        clock[0] += seconds
        told.append(pace.is_time())
    assert told == [False, False, True, False, False, True]


def test_the_time_left_is_that_of_this_round_and_of_those_to_come(clock: list[float]) -> None:
    """Ten steps in 20 s, from step 40 on; 50 are left here, and 1.5 rounds of 100 behind it."""
    pace = Pace(40)
    clock[0] += 20
    progress = Progress(step=50, steps=100, learning_rate=0.1, loss=0.5)
    assert pace.left(progress, 1.5) == pytest.approx(2 * (50 + 150))


def test_what_is_measured_within_a_round_leaves_its_pace_alone(
    tmp_path: Path, clock: list[float]
) -> None:
    """Validation after every epoch has a bar of its own; 10 of 40 steps took 120 s with it."""
    folder = RunFolder(tmp_path)
    recorder = Recorder(folder, cast(Tracking, SimpleNamespace(log_step=print)), [2, 1], True)
    state = RunState(left=[])
    with recorder.training(state, 40, 0) as bar:
        clock[0] += 100
        with recorder.bar(state, "validation", 3):
            clock[0] += 20
        recorder.step(state, Progress(step=10, steps=40, learning_rate=0.1, loss=0.5), bar)
    assert folder.read_status()["minutes_left"] == 12 * (30 + 20) / 60


def test_a_log_has_a_line_a_minute_and_so_has_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "TELL_EVERY", 0.0)
    seen = []
    write = RunFolder.write_status

    def note(folder: RunFolder, state: str, **facts: object) -> None:
        seen.append(facts)
        write(folder, state, **facts)

    monkeypatch.setattr(RunFolder, "write_status", note)
    (tmp_path / "run").mkdir()
    with caplog.at_level("INFO"):
        experiment(composed(*SMALL), tmp_path / "run", [])
    told = [facts for facts in seen if "step" in facts]
    assert {facts["round"] for facts in told} == {0, 1, 2} and told[0]["rounds"] == 2
    assert all({"pid", "host", "steps", "loss", "learning_rate"} <= facts.keys() for facts in told)
    lines = re.findall(r"round 1/2: step \d+ of \d+, loss \d\.\d{4}, learning rate", caplog.text)
    assert lines and "min of training left" in caplog.text
