"""Uploading: to a server on this machine that answers as the hub does."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import SMALL, Command, Environment, Life, lived_line, one_line, read_status

from pruneloop.hub import licence_of

TOKEN = "hf_nobody_must_read_this"


class Hub(ThreadingHTTPServer):
    """What the hub's API answers to an upload; keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.tokens.add(self.headers.get("authorization"))
        here = f"{self.server.address}/you/sparse"
        if "/repos/create" in self.path:
            answer = {"url": here, "name": "you/sparse"}
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            answer = {"files": [{"path": name, **modes} for name in names]}
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            oid = "a" * 40
            answer = {"success": True, "commitOid": oid, "commitUrl": f"{here}/commit/{oid}"}
        else:
            answer = {"errors": [], "warnings": []}
        self.answer(answer)

    def do_GET(self) -> None:
        self.answer({})

    def answer(self, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(socket_enabled) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.more
def test_the_checkpoint_is_uploaded_with_its_card(command: Command, tmp_path: Path, hub) -> None:
    run = (*SMALL, "rounds=1", "hydra.run.dir=run", "push_to_hub=you/sparse")
    online = {"HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    result = command(*run, HF_ENDPOINT=hub.address, **online)
    assert result.returncode == 0, result.stderr
    assert f"uploaded:   {hub.address}/you/sparse" in result.stdout
    folder = tmp_path / "run/checkpoint"
    for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md"):
        assert hub.files[name] == (folder / name).read_bytes()
    assert f"Bearer {TOKEN}" in hub.tokens
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert TOKEN.encode() not in path.read_bytes(), path
    # The hub goes away: exit 5 in one line, and the run stays done.
    result = command(*run, HF_ENDPOINT="http://127.0.0.1:1", **online)
    assert f"the checkpoint is in {folder}" in one_line(result, 5)
    assert TOKEN not in result.stderr
    assert read_status(tmp_path / "run")["state"] == "done"


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [("you/sparse", 5, "set HF_TOKEN"), ("sparse", 2, "OWNER/NAME"), ("a/b/c", 2, "OWNER/NAME")]
    + [(name, 2, "as the hub takes it") for name in ("you/a--b", "you/.git", "you/" + "a" * 99)],
)
def test_what_cannot_be_uploaded_is_said_before_the_run(
    tmp_path: Path, name: str, code: int, says: str
) -> None:
    before = Environment(HF_TOKEN="")
    assert says in lived_line(tmp_path, code, f"push_to_hub={name}", before=before)
    assert "data:" not in (tmp_path / "stdout.txt").read_text()


def test_a_sweep_does_not_upload_its_points_over_each_other(tmp_path: Path) -> None:
    swept = ("-m", "seed=0,1", *SMALL, "push_to_hub=you/sparse")
    life = Life(tmp_path, *swept, before=Environment(HF_TOKEN=TOKEN))
    assert life.wait() == 2
    assert life.errors.count("would overwrite each other") == 2


def test_the_licence_is_that_of_the_models_own_card(tmp_path: Path) -> None:
    """None where there is no card, where it states none, and where the hub cannot be asked."""
    assert licence_of(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlanguage: ko\n---\n# KoBERT\n", encoding="utf-8")
    assert licence_of(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# KoBERT\n", encoding="utf-8")
    assert licence_of(str(tmp_path)) == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: [mit, gpl]\n---\n", encoding="utf-8")
    assert licence_of(str(tmp_path)) is None
    assert licence_of("monologg/kobert") is None
