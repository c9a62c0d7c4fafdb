"""Secrets in URLs and in the environment: used where they must be, and never written down."""

import base64
import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest
from support import (
    EXPERIMENT,
    SMALL,
    Environment,
    Life,
    before_call,
    composed,
    lived_line,
    read_status,
)

from pruneloop.command.output import check_tokens, guard_output
from pruneloop.config import flat, point_name
from pruneloop.data.unpacking import locate
from pruneloop.errors import EnvironmentFault, InputError
from pruneloop.recorder import status
from pruneloop.records import RejectedRow, RunFolder
from pruneloop.redaction import public, was_cut, without_secrets

TOKEN = "hf_aTokenThatIsNone0123"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pw@host/a.csv?token=abc", "https://host/a.csv"),
        ("see https://user@host/a.csv (404)", "see https://host/a.csv (404)"),
        ("https://user:p/w@h:8080/a.csv", "https://h:8080/a.csv"),
        ("https://user:p@w@host/a", "https://host/a"),
        ("https://host:8080/a@b.csv", "https://host:8080/a@b.csv"),
        ("https://host/a.csv#access_token=abc", "https://host/a.csv"),
        ("data.train=[https://h/a?x=1,https://h/b?y=2]", "data.train=[https://h/a,https://h/b"),
        ("ftp://user:pw@host/a", "ftp://host/a"),
        ("https://host/a.csv", "https://host/a.csv"),
        ("is it? yes@home", "is it? yes@home"),
    ],
)
def test_user_password_and_query_are_cut_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert str(InputError(text)) == shown


def test_what_was_cut_is_known_by_a_hash() -> None:
    one, other = (public(f"https://h/a.csv?part={n}") for n in "12")
    assert one.startswith("https://h/a.csv#cut-") and one != other
    assert public(one) == one and was_cut([one]) and not was_cut("https://h/a.csv")
    config = composed("data=files", "data.path='https://u:pw@h/d'", "data.train='a.csv?k=1'")
    assert "pw" not in str(flat(config)) and flat(config)["data.path"].startswith("https://h/d#cut")
    names = [point_name(f"data.path=https://u:pw{n}@h/d,seed=1") for n in "12"]
    assert names[0] != names[1] and "pw" not in "".join(names)


def test_a_token_of_the_environment_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert TOKEN not in str(EnvironmentFault(f"Illegal header value b'Bearer {TOKEN}'"))
    factory = logging.getLogRecordFactory()
    try:
        guard_output()
        logging.getLogger("library").warning("sent %s to %s", TOKEN, "http://u:p@h/?k=1")
        logging.getLogger("library").warning("a\x1b[31m\nb\t\u202e%")
    finally:
        logging.setLogRecordFactory(factory)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "sent <HF_TOKEN> to http://h/"
    assert second == "a\\x1b[31m\nb\\t\\u202e%"


def test_a_token_is_stripped_and_one_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    check_tokens()
    assert os.environ["HF_TOKEN"] == TOKEN
    monkeypatch.setenv("WANDB_API_KEY", f"{TOKEN}\nmore")
    with pytest.raises(EnvironmentFault, match="WANDB_API_KEY: holds a space, a line end") as told:
        check_tokens()
    assert TOKEN not in str(told.value)


def test_a_token_that_is_none_ends_a_command_before_it_is_used(tmp_path: Path) -> None:
    wrong = Environment(WANDB_API_KEY=f"{TOKEN}\nmore")
    line = lived_line(tmp_path, 5, *SMALL, before=wrong)
    assert "WANDB_API_KEY: holds a space, a line end" in line and TOKEN not in line


def leak() -> None:
    """Make a library fail with the token in what it says."""
    os.environ["HF_TOKEN"] = TOKEN

    def fail() -> NoReturn:
        raise RuntimeError(f"Illegal header value b'Bearer {TOKEN}'")

    before_call(EXPERIMENT, 1, fail)


def test_a_bug_shows_no_token(tmp_path: Path) -> None:
    """Neither in its traceback, nor in what STATUS.json says of it."""
    (tmp_path / "run").mkdir()  # an empty one of its own would go again
    life = Life(tmp_path, *SMALL, "hydra.run.dir=run", before=leak)
    assert life.wait() == 1 and "Traceback" in life.errors
    assert "Bearer <HF_TOKEN>" in read_status(tmp_path / "run")["message"]
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert TOKEN.encode() not in path.read_bytes(), path


def test_a_failure_within_the_run_shows_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(RuntimeError), status(RunFolder(tmp_path), main=True):
        raise RuntimeError(f"sent {TOKEN}")
    assert read_status(tmp_path)["message"] == "RuntimeError('sent <HF_TOKEN>')"


def test_rows_that_are_left_out_name_their_file_without_its_secrets(tmp_path: Path) -> None:
    folder, url = RunFolder(tmp_path), "https://user:pw@host/a.csv?token=abc"
    folder.write_rejected([RejectedRow(file=url, line=1, reason="short", raw="x")])
    (row,) = folder.rejected_csv.read_text(encoding="utf-8-sig").splitlines()[1:]
    assert row.startswith('"https://host/a.csv","1"')


def test_the_query_of_a_folder_follows_the_file() -> None:
    assert locate("https://h/d?k=1", "a b.csv") == "https://h/d/a b.csv?k=1"
    assert locate("https://h/d/", "a.csv?k=2") == "https://h/d/a.csv?k=2"
    assert locate("https://h/d", "a.csv") == "https://h/d/a.csv"


class Protected(BaseHTTPRequestHandler):
    """Has one file for who knows user, password and token."""

    def __init__(self, rows: bytes, *args: object) -> None:
        self._rows = rows
        super().__init__(*args)

    def do_GET(self) -> None:
        secret = base64.b64encode(b"user:pass word").decode()
        known = self.headers["Authorization"] == f"Basic {secret}"
        found = known and self.path == "/rows.csv?token=abc123"
        self.send_response(200 if found else 403)
        self.end_headers()
        self.wfile.write(self._rows if found else b"")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(rows: bytes) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Protected, rows)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def online() -> None:
    import huggingface_hub

    huggingface_hub.constants.HF_HUB_OFFLINE = False


@pytest.mark.more
@pytest.mark.usefixtures("socket_enabled")
def test_a_run_uses_a_protected_file_and_writes_no_secret(tmp_path: Path) -> None:
    rows = "text,label\n" + "".join(f"좋은 영화 {i},{i % 2}\n" for i in range(80))
    with served(rows.encode()) as host:
        # The query is what makes the kind of the file hard to see.
        url = f"http://user:pass%20word@{host}/rows.csv?token=abc123"
        words = (*SMALL[2:], "data=files", f"data.train='{url}'", "hydra.run.dir=run", "rounds=1")
        for _ in range(2):
            life = Life(tmp_path, *words, before=online)
            assert life.wait() == 0, life.errors
        assert "finished already" in life.output
        wrong = Life(tmp_path, *words[:-2], f"data.train='{url}4'", before=online)
        assert wrong.wait() == 5 and "/rows.csv (HTTP Error 403" in wrong.errors
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not any(part in content for part in (b"abc123", b"pass%20", b"user:")), path
    again = Life(tmp_path, "evaluate", "run")
    assert again.wait() == 2 and "was secret and is not on record" in again.errors


@pytest.mark.more
def test_a_sweep_writes_no_secret(tmp_path: Path) -> None:
    """Hydra writes the whole command into the sweep's folder before its first point."""
    url = "data.train='http://user:passw0rd@127.0.0.1:9/a.csv?token=s3cret'"
    life = Life(tmp_path, "-m", "seed=0,1", "data=files", url, "hydra.sweep.dir=sweep")
    assert life.wait() == 5, life.errors
    assert (tmp_path / "sweep/multirun.yaml").exists()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert not any(part in path.read_bytes() for part in (b"passw0rd", b"s3cret")), path
