"""What is printed and written: nothing that acts on a terminal, in any encoding."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch
from support import SMALL, Command, Life, read_status

from pruneloop.command.output import say
from pruneloop.records import RejectedRow, RunFolder


def test_what_acts_on_a_terminal_is_printed_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say(["좋다\x1b[31m\n\u202e뒤"])
    assert capsys.readouterr().out == "좋다\\x1b[31m\n\\u202e뒤\n"
    texts = {"text": "좋다\x9b31m\u202e"}
    say([json.dumps(texts, ensure_ascii=False)], json=True)
    line = capsys.readouterr().out
    assert "\x9b" not in line and "좋다" in line and json.loads(line) == texts


def test_half_a_character_of_a_name_is_written_escaped(tmp_path: Path) -> None:
    """As Python has a file's name that is no UTF-8, and every name in an ASCII locale."""
    folder = RunFolder(tmp_path)
    folder.write_status("failed", message="a\udcff.csv")
    assert folder.read_status()["message"] == "a\udcff.csv"
    folder.write_rejected([RejectedRow(file="a\udcff.csv", line=1, reason="x", raw="y")])
    assert b"a\\udcff.csv" in folder.rejected_csv.read_bytes()


def ascii_terminal() -> None:
    """Make standard output one that has no Hangul, and says so."""
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(encoding="ascii", errors="strict")


def test_a_terminal_that_has_no_hangul_is_given_what_it_can_show(tmp_path: Path) -> None:
    torch.save({"가.weight": torch.eye(2)}, tmp_path / "a.bin")
    life = Life(tmp_path, "inspect", "a.bin", before=ascii_terminal)
    assert life.wait() == 0, life.errors
    assert "50.00%             2 / 4             \\uac00.weight" in life.output


@pytest.mark.more
@pytest.mark.parametrize("encoding", ["", "ascii"])
def test_hangul_in_an_ascii_locale(command: Command, tmp_path: Path, encoding: str) -> None:
    rows = "".join(f"{'긍정' if i % 2 else '부정'},좋은 영화 {i}\n" for i in range(80))
    (tmp_path / "자료.csv").write_text("label,text\n" + rows, encoding="utf-8")
    words = (*SMALL[2:], "rounds=1", "data=files", 'data.train="자료.csv"', "hydra.run.dir=run")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = command(*words, PYTHONIOENCODING=encoding, **plain)
    assert result.returncode == 0, result.stderr
    assert read_status(tmp_path / "run")["state"] == "done" and result.stderr == ""
    assert "labels: 긍정, 부정" in (tmp_path / "run/pruneloop.log").read_text(encoding="utf-8")
    assert "좋은 영화" in (tmp_path / "run/predictions.csv").read_text(encoding="utf-8-sig")
