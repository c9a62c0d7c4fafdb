"""The command as users run it: in a process of its own, good and bad input."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import zipfile
from pathlib import Path

import pytest
import torch
from support import (
    PROGRAM,
    ROOT,
    SHORT,
    SMALL,
    SMALL_DATA,
    SMALL_MODEL,
    Command,
    Environment,
    Life,
    judged_wrongly,
    lived_line,
    one_line,
)


@pytest.mark.more
def test_relative_paths_are_meant_from_where_they_were_typed(tmp_path: Path) -> None:
    """Also where Hydra has led the job into its own folder."""
    lines = [f"이 영화는 {'나쁘다' if n % 2 else '좋다'} {n},{n % 2}" for n in range(100)]
    (tmp_path / "a.csv").write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    words = ("data=files", "data.train=a.csv", "hydra.job.chdir=true", "hydra.run.dir=run")
    life = Life(tmp_path, *SMALL_MODEL, *SHORT, "rounds=1", *words)
    assert life.wait() == 0, life.errors
    assert (tmp_path / "run/checkpoint").is_dir() and not (tmp_path / "run/run").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["prune.amount=1.5"], ["prune.amount=1.5", "between 0 and 1", "try"]),
        (["rounds=2.5"], ["rounds=2.5", "Integer"]),
        (["prune.amout=0.3"], ["prune.amout", "unknown key", "prune.amount"]),
        (["data=nsmcc"], ["data=nsmcc", "no such option", "nsmc", "ynat"]),
        (["data=files"], ["data.train", "missing"]),
        (["data=nsmc", "data.path=/자료/리뷰"], ["data.path", "quotes"]),
    ],
)
def test_bad_configuration_is_exit_2(command: Command, overrides: list[str], words: list[str]):
    """Each form of it once, in a process of its own: of range, type, key, option and grammar."""
    line = one_line(command(*overrides), 2)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["prune.amount=-0.1"], ["prune.amount=-0.1", "between 0 and 1"]),
        (["prune.amount=nan"], ["prune.amount=nan", "between 0 and 1"]),
        (["prune.amount=abc"], ["prune.amount=abc", "Float"]),
        (["prune.amount=1"], ["prune.amount=1.0", "between 0 and 1"]),
        (["prune.amount=0"], ["prune.amount=0.0", "between 0 and 1"]),
        (["rounds=0"], ["rounds=0", "from 1"]),
        (["rounds=-1"], ["rounds=-1", "from 1"]),
        (["+prune.amout=0.3"], ["prune.amout", "unknown key", "prune.amount"]),
        (["+foo=1"], ["foo", "unknown key"]),
        (["+prune.n=1"], ["prune.n", "prune=structured_ln"]),
        (["model.name=x"], ["model.name", "model=kcbert|klue_bert"]),
        (["device=tpu"], ["device=tpu", "auto, cpu, cuda"]),
        (["prune.amount=0.2", "prune.target_sparsity=0.5"], ["prune.target_sparsity", "excludes"]),
    ],
)
def test_more_bad_configurations(tmp_path: Path, overrides: list[str], words: list[str]):
    line = lived_line(tmp_path, 2, *overrides)
    assert "Traceback" not in line and all(word in line for word in words), line


def test_a_scope_that_does_not_exist_is_said_before_loading(tmp_path: Path):
    assert "qkv, attention" in lived_line(tmp_path, 2, "prune.scope=qvk")
    assert "data:" not in (tmp_path / "stdout.txt").read_text()


def test_a_pattern_that_matches_nothing_is_exit_2(tmp_path: Path):
    line = lived_line(tmp_path, 2, *SMALL, 'prune.exclude=["*nothing*"]')
    assert "prune.exclude=*nothing*" in line and "a name looks like bert." in line


def test_a_missing_folder_is_no_hub_id(tmp_path: Path):
    line = lived_line(tmp_path, 3, "model=pretrained", "model.name=/no/such/folder")
    assert "no such folder" in line and "hub" not in line


def test_a_quoted_hangul_path_is_read(tmp_path: Path):
    line = lived_line(tmp_path, 3, "data=nsmc", 'data.path="/자료/리뷰"')
    assert "data.path=/자료/리뷰: no such folder" in line


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        (["rounds=0"], 2),
        pytest.param(["prune.scope=qvk"], 2, marks=pytest.mark.more),
        pytest.param(["push_to_hub=you/sparse"], 5, marks=pytest.mark.more),
    ],
)
def test_a_rejected_command_leaves_no_folder(tmp_path: Path, overrides: list[str], code: int):
    """Also one whose folder is several deep, and none that was there before."""
    (tmp_path / "mine").mkdir()
    for folder in ((), ("hydra.run.dir=a/b/c",), ("hydra.run.dir=mine",)):
        before = Environment(HF_TOKEN="")
        lived_line(tmp_path, code, *overrides, *folder, before=before)
    made = {path.name for path in tmp_path.iterdir()} - {"stdout.txt", "stderr.txt"}
    assert made == {"mine"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_where_there_is_none_is_exit_5(tmp_path: Path):
    assert "CUDA" in lived_line(tmp_path, 5, "device=cuda")


def test_an_unreachable_hub_is_exit_5(tmp_path: Path):
    line = lived_line(tmp_path, 5, *SMALL_DATA, "model=klue_bert", "device=cpu")
    assert "klue/bert-base" in line and "offline" in line


def test_a_folder_that_cannot_be_written_is_exit_5(command: Command):
    assert "/dev/null/run" in one_line(command("hydra.run.dir=/dev/null/run"), 5)


def without_plugins() -> None:
    """Hide Hydra's plugins, as where no extra is installed."""
    with contextlib.suppress(ImportError):  # where none is, in truth
        import hydra_plugins

        hydra_plugins.__path__ = []


@pytest.mark.parametrize(
    ("choice", "extra"),
    [
        ("hydra/launcher=slurm", "slurm"),
        ("hydra/launcher=local", "slurm"),
        ("hydra/launcher=joblib", "joblib"),
        ("hydra/launcher=ray", "ray"),
        ("experiment=search", "optuna"),
    ],
)
def test_what_needs_an_extra_names_it(tmp_path: Path, choice: str, extra: str):
    line = lived_line(tmp_path, 2, "-m", choice, before=without_plugins)
    assert f'needs pip install "pruneloop[{extra}]"' in line


def test_a_failed_try_replaces_what_the_status_said(tmp_path: Path):
    """A preempted run whose next try cannot even begin is no longer preempted."""
    (tmp_path / "run").mkdir()
    status = tmp_path / "run/STATUS.json"
    status.write_text('{"state": "preempted", "exit_code": 75}')
    lived_line(tmp_path, 2, "prune.scope=qvk", "hydra.run.dir=run")
    assert json.loads(status.read_text())["state"] == "failed"
    status.write_text('{"state": "done"}')
    lived_line(tmp_path, 2, "prune.scope=qvk", "hydra.run.dir=run")
    after = json.loads(status.read_text())
    assert after["state"] == "done" and after["refused"]["exit_code"] == 2


def test_full_errors_on_request(command: Command):
    result = command("rounds=0", HYDRA_FULL_ERROR="1")
    assert result.returncode == 1 and "Traceback" in result.stderr


@pytest.mark.timeout(400)
def test_the_main_job_on_its_defaults(command: Command, tmp_path: Path):
    """`python train.py`: the sample, the tiny model, and what the README promises of them."""
    result = command("hydra.run.dir=run", "prune.amount=0.2", "rounds=5", timeout=380)
    assert result.returncode == 0, result.stderr
    assert "synthetic" in result.stdout and "zeros expected" in result.stdout
    rounds = [json.loads(line) for line in (tmp_path / "run/rounds.jsonl").read_text().splitlines()]
    assert [r["zeros"] for r in rounds] == [0, 19661, 35390, 47973, 58039, 66092]
    dense, last = rounds[0], rounds[-1]
    assert 0.9 < dense["test_accuracy"] < 0.97
    assert last["sparsity"] > 0.67
    assert last["test_accuracy"] > dense["test_accuracy"] - 0.01
    wrong = judged_wrongly(tmp_path / "run/checkpoint")
    assert len(wrong) <= 5, wrong
    table = [line for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert len(table) >= 12  # the plan and the rounds
    assert str(tmp_path / "run/checkpoint") in result.stdout
    assert result.stderr == ""  # no bars where standard error is no terminal
    status = json.loads((tmp_path / "run/STATUS.json").read_text())
    assert status["state"] == "done"


@pytest.mark.more
def test_a_terminal_has_bars_and_a_log_has_none(tmp_path: Path):
    """A bar with rate and remaining time; it vanishes, and the lines around it stay whole."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    line = [sys.executable, str(ROOT / "train.py"), *SMALL, "hydra.run.dir=run"]
    line += ["finetune.dense_epochs=20", "finetune.batch_size=8"]  # long enough for a rate
    shown = b""
    with subprocess.Popen(line, cwd=tmp_path, stdout=side, stderr=side, close_fds=True) as process:
        os.close(side)
        with contextlib.suppress(OSError):  # the terminal is gone when the process is
            while part := os.read(main, 4096):
                shown += part
    assert process.returncode == 0
    text = shown.decode()
    assert re.search(r"round 0/2 training: +\d+%\|.*\d+/540 \[\d\d:\d\d<\d\d:\d\d, .*it/s", text)
    assert re.search(r"round 1/2 validation and test: +\d+%", text)
    # What follows a bar's last carriage return on a line is what stays to be read.
    left = [piece.split("\r")[-1].strip() for piece in text.replace("\r\n", "\n").split("\n")]
    log = (tmp_path / "run/pruneloop.log").read_text()
    rounds = [row for row in left if re.match(r"[012] +\d+\.\d\d% +\d+\.\d\d% +(-|0\.\d{4}) ", row)]
    assert len(rounds) == 3 and all(row in log for row in rounds)
    assert "it/s" not in log and "\r" not in log


@pytest.mark.more
def test_the_wheel_carries_conf_and_runs(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "pruneloop/conf/config.yaml" in archive.namelist()
        assert "pruneloop/report/templates/run.html" in archive.namelist()
        archive.extractall(tmp_path / "site")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--cfg", "job"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rounds: 5" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["report"], 2, "pruneloop report: the following arguments are required: folder"),
        (["inspect", "a", "b"], 2, "unrecognized arguments: b; see pruneloop inspect --help"),
        (["inspect", "nothing"], 3, "nothing: holds neither model.safetensors"),
        (["report", "nothing"], 3, "nothing: holds no run"),
        (["reprot", "run"], 2, "reprot: no such command, and no KEY=VALUE"),
    ],
)
def test_verbs_fail_in_one_line_like_runs(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    assert words in lived_line(tmp_path, code, *arguments)
