"""Whether the hub answers is asked once, and shortly."""

import os
import socket
import time
from pathlib import Path
from typing import NoReturn

import pytest

from pruneloop import offline
from pruneloop.offline import keep_to_cache_without_hub

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def undecided(socket_enabled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "restored afterwards")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(offline, "getproxies", dict)


def test_a_hub_that_does_not_answer_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    keep_to_cache_without_hub(["monologg/kobert"])
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "127.0.0.1 does not answer" in caplog.text


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        keep_to_cache_without_hub(["monologg/kobert"])
    assert "HF_HUB_OFFLINE" not in os.environ


@pytest.mark.parametrize("why", ["a folder", "said already", "a proxy"])
def test_what_needs_no_answer_does_not_wait_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    before = {"said already": "0"}.get(why)
    if before:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    if why == "a proxy":
        monkeypatch.setattr(offline, "getproxies", lambda: {"http": "http://proxy:3128"})
    keep_to_cache_without_hub([str(tmp_path) if why == "a folder" else "monologg/kobert"])
    assert os.environ.get("HF_HUB_OFFLINE") == before


def test_names_that_take_minutes_to_resolve_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(*_: object, **__: object) -> NoReturn:
        time.sleep(2)
        raise OSError

    monkeypatch.setattr(offline, "PATIENCE", 0.05)
    monkeypatch.setattr(socket, "create_connection", resolve)
    begun = time.monotonic()
    keep_to_cache_without_hub(["monologg/kobert"])
    assert time.monotonic() - begun < 1 and os.environ["HF_HUB_OFFLINE"] == "1"
