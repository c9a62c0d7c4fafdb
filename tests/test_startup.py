"""Loading torch: without collecting garbage, once, and with the collector as it was."""

import gc
import sys

import pytest

from pruneloop.command.loading import loading


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if k != "torch"})
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    frozen.clear()


frozen: list[bool] = []


def test_nothing_is_collected_while_torch_is_loaded(unloaded: None) -> None:
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled() and frozen == [True]


def test_the_collector_is_back_where_loading_fails(unloaded: None) -> None:
    with pytest.raises(ZeroDivisionError), loading():
        raise ZeroDivisionError
    assert gc.isenabled() and not frozen


def test_a_sweeps_later_runs_freeze_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run has left would never be freed."""
    assert "torch" in sys.modules or pytest.importorskip("torch")
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    frozen.clear()
    with loading():
        assert gc.isenabled()
    assert not frozen
