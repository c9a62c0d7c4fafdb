"""The scorecard of `scripts/torture.py`: whatever is done to a run, it keeps what is promised."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import script


@pytest.fixture
def torture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module by its name, which the lives know its functions by."""
    found = script("torture")
    monkeypatch.setitem(sys.modules, "torture", found)
    return found


@pytest.mark.more
@pytest.mark.timeout(180)
def test_some_of_every_harm(tmp_path: Path, torture: ModuleType) -> None:
    lines: list[str] = []
    fell_short = torture.scorecard(tmp_path, quick=True, say=lines.append)
    assert not fell_short, fell_short
    assert len(lines) == 11
