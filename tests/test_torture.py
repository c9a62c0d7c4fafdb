"""The scorecard of `scripts/torture.py`: whatever is done to a run, it keeps what is promised."""

from pathlib import Path

import pytest
from support import script


@pytest.mark.timeout(180)
def test_some_of_every_harm(tmp_path: Path) -> None:
    lines: list[str] = []
    fell_short = script("torture").scorecard(tmp_path, quick=True, say=lines.append)
    assert not fell_short, fell_short
    assert len(lines) == 12


@pytest.mark.more
@pytest.mark.timeout(1200)
def test_every_harm(tmp_path: Path) -> None:
    lines: list[str] = []
    torture = script("torture")
    fell_short = torture.scorecard(tmp_path, quick=False, say=lines.append)
    assert not fell_short, fell_short
    assert len(lines) == 1 + len(torture.HARMS)
