"""Killed at any moment, a run goes on and ends with the bits of an uninterrupted one."""

import contextlib
import functools
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support import (
    ARCHIVE,
    BACKWARD,
    BUDGET,
    EVALUATION,
    EXPORT,
    EXPORT_CHECK,
    EXPORT_RENAME,
    FOLDER_FLUSH,
    GATHER,
    LONG,
    READING,
    REPORT,
    ROOT,
    RUN,
    STATE_FILE,
    TORCHRUN,
    UNDO,
    ZEROING,
    Life,
    before_call,
    die_at,
    fill_the_gpu,
    line_on_rank_1,
    read_rounds,
    read_status,
    signal_at,
    states,
    wait_until,
)

from pruneloop.durable import seal_folder


def start(folder: Path, *overrides: str, before: Callable[[], None] | None = None) -> Life:
    return Life(folder, *RUN, *overrides, before=before)


def finish(folder: Path, *overrides: str) -> None:
    life = start(folder, *overrides)
    assert life.wait() == 0, life.errors


Outcome = tuple[dict[str, str], list[dict], str]


def outcome(folder: Path) -> Outcome:
    """Return the hashes of all that the checkpoint holds, the records, times aside, and layers."""
    files = sorted((folder / "run/checkpoint").iterdir())
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    records = read_rounds(folder / "run")
    for record in records:
        del record["seconds"]
    layers = (folder / "run/layers.csv").read_text()
    return hashes, records, layers


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(folder)
    return outcome(folder)


@pytest.mark.more
def test_ten_kills_at_random_moments(uninterrupted, tmp_path: Path) -> None:
    """SIGKILL, again and again in one run; each life gets a little further."""
    rng = random.Random(0)
    for _ in range(10):
        before = states(tmp_path)
        life = start(tmp_path)
        # It saves at least once more, then a random moment longer: progress is sure.
        wait_until(lambda before=before: states(tmp_path) != before, life.over)
        time.sleep(rng.uniform(0, 0.05))
        life.signal(signal.SIGKILL)
        assert life.wait() == -signal.SIGKILL, "it ended too early to be killed ten times"
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.more
@pytest.mark.parametrize(
    ("kind", "batch"),
    [
        (signal.SIGTERM, 25),  # in round 0
        (signal.SIGUSR1, 110),  # in round 1, when there are masks
    ],
)
def test_a_signal_saves_and_exits_75(
    uninterrupted, tmp_path: Path, kind: signal.Signals, batch: int
) -> None:
    begun = time.monotonic()
    life = start(
        tmp_path,
        "checkpoint.every_steps=5",
        before=functools.partial(signal_at, BACKWARD, batch, kind, kind),
    )
    assert life.wait() == 75, life.errors
    assert time.monotonic() - begun < 25
    assert len(states(tmp_path)) > 1
    assert len(life.errors.splitlines()) == 1 and "is saved" in life.errors
    assert read_status(tmp_path / "run")["state"] == "preempted"
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


def signal_at_every_flush() -> None:
    """Make every flush of a file send the process both of its signals."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if len(list(Path("run/state").glob("state-*"))) > 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR1)

    os.fsync = fsync


@pytest.mark.more
def test_signals_during_the_save_corrupt_nothing(uninterrupted, tmp_path: Path) -> None:
    life = start(tmp_path, before=signal_at_every_flush)
    assert life.wait() == 75, life.errors
    assert len(life.errors.splitlines()) == 1 and "is saved" in life.errors
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.more
def test_minutes_save_within_a_round(uninterrupted, tmp_path: Path) -> None:
    line = ("checkpoint.every_steps=null", "checkpoint.every_minutes=0.0001")
    life = start(tmp_path, *line, before=functools.partial(die_at, BACKWARD, 60))
    assert life.wait() == -signal.SIGKILL, life.errors
    assert len(states(tmp_path)) > 1
    assert not (tmp_path / "run/rounds.jsonl").exists()  # still in round 0
    finish(tmp_path, *line)
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.parametrize(
    "method",
    [
        ("prune=movement", "distill=logits", "rewind=weights", "rewind.epoch=0.7"),
        pytest.param(
            ("finetune.validate_every=epoch", "finetune.keep_best=true", "keep_rounds=true"),
            marks=pytest.mark.more,
        ),
        pytest.param(("prune=random",), marks=pytest.mark.more),
        pytest.param(("prune=wanda", "prune.evidence_batches=3"), marks=pytest.mark.more),
        pytest.param(("prune=2of4",), marks=pytest.mark.more),
        pytest.param(("prune=taylor", "prune.evidence_batches=3"), marks=pytest.mark.more),
        pytest.param(("prune=layer_l1", "prune.scope=[qkv,embeddings]"), marks=pytest.mark.more),
    ],
)
def test_every_method_goes_on_bit_for_bit(tmp_path: Path, method: tuple[str, ...]) -> None:
    """What a method depends on, such as the order of the matrices, comes back too."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    finish(tmp_path / "whole", *method)
    life = start(
        tmp_path / "killed",
        *method,
        before=functools.partial(die_at, EVALUATION, 4),
    )
    assert life.wait() == -signal.SIGKILL, life.errors
    finish(tmp_path / "killed", *method)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.more
def test_masks_that_are_not_the_planned_ones_are_exit_6(tmp_path: Path) -> None:
    """A state that vouches for itself, but whose masks have lost a round."""
    life = start(tmp_path, before=functools.partial(die_at, EXPORT, 1))
    assert life.wait() == -signal.SIGKILL, life.errors
    newest = tmp_path / "run/state" / states(tmp_path)[-1]
    masks = load_file(newest / "masks.safetensors")
    save_file({name: mask | True for name, mask in masks.items()}, newest / "masks.safetensors")
    (newest / "manifest.json").unlink()
    seal_folder(newest)
    life = start(tmp_path)
    assert life.wait() == 6, life.errors
    assert "its masks are not what its rounds have left" in life.errors


@pytest.mark.parametrize("content", ["[]", "{}", '{"identity": {}, "at": 3}'])
def test_a_state_of_another_version_is_exit_4(done: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(done / "run", tmp_path / "run")
    for name in states(tmp_path):
        folder = tmp_path / "run/state" / name
        (folder / "position.json").write_text(content)
        (folder / "manifest.json").unlink()
        seal_folder(folder)
    life = start(tmp_path)
    assert life.wait() == 4, life.errors
    assert len(life.errors.splitlines()) == 1


def two_threads_and_a_kill() -> None:
    import torch

    torch.set_num_threads(2)
    die_at(BACKWARD, 25)


@pytest.mark.more
def test_a_run_goes_on_with_the_threads_that_it_began_with(tmp_path: Path) -> None:
    """Other threads add up in another order: the same command would give other weights."""
    life = start(tmp_path, before=two_threads_and_a_kill)
    assert life.wait() == -signal.SIGKILL, life.errors
    life = start(tmp_path, before=functools.partial(die_at, BACKWARD, 25))
    life.wait()
    assert "threads: 2, as the run began, not 1" in life.output
    position = tmp_path / "run/state" / states(tmp_path)[-1] / "position.json"
    assert json.loads(position.read_text())["identity"]["threads"] == 2


def from_elsewhere() -> None:
    """Take this for another machine, with another torch."""
    import torch

    torch.__version__ = "9.9.0"
    torch.backends.cpu.get_cpu_capability = lambda: "ABACUS"
    die_at(BACKWARD, 1)


@pytest.mark.more
def test_what_else_changes_the_bits_is_said(tmp_path: Path) -> None:
    life = start(tmp_path, before=functools.partial(die_at, BACKWARD, 25))
    assert life.wait() == -signal.SIGKILL, life.errors
    life = start(tmp_path, before=from_elsewhere)
    life.wait()
    assert "going on with torch 9.9.0 (was " in life.output
    assert "going on with hardware ABACUS (was " in life.output


@pytest.mark.more
@pytest.mark.parametrize("some", [True, False])
def test_damage_to_any_file_of_a_run_goes_back_one_state(
    uninterrupted, tmp_path: Path, some: bool
) -> None:
    """Of the weights and the masks, which are all that is tried at first; then of any file."""
    life = start(tmp_path, before=functools.partial(die_at, BACKWARD, 25))
    assert life.wait() == -signal.SIGKILL, life.errors
    assert len(states(tmp_path)) > 1
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    newest = states(tmp_path)[-1]
    names = [path.name for path in (tmp_path / "run/state" / newest).iterdir()]
    assert {"model.safetensors", "masks.safetensors", "random-0.safetensors"} < set(names)
    for name in ["model.safetensors", "masks.safetensors"] if some else names:
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(tmp_path / "before", tmp_path / "run")
        (tmp_path / "run/state" / newest / name).write_bytes(b"")
        finish(tmp_path)
        assert outcome(tmp_path) == uninterrupted, name
        log = (tmp_path / "run/pruneloop.log").read_text()
        assert f"skipping the saved state {newest} (" in log


def test_no_whole_state_is_exit_4(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "run", tmp_path / "run")
    for name in states(tmp_path):
        (tmp_path / "run/state" / name / "model.safetensors").write_bytes(b"")
    life = start(tmp_path)
    assert life.wait() == 4, life.errors
    assert "none of the 2 saved states is whole" in life.errors


@pytest.mark.more
def test_a_lost_checkpoint_is_exported_again(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "run", tmp_path / "run")
    (tmp_path / "run/checkpoint/model.safetensors").write_bytes(b"")
    finish(tmp_path)
    assert outcome(tmp_path) == outcome(done)


@pytest.mark.more
def test_a_finished_folders_lost_files_are_written_again_byte_for_byte(
    done: Path, tmp_path: Path
) -> None:
    """Deleted, emptied, damaged in a byte: each is one of them."""
    shutil.copytree(done / "run", tmp_path / "run")
    ends = ["rounds.jsonl", "rounds.csv", "layers.csv", "predictions.csv", "run.json"]
    ends += ["report.html", "accuracy_vs_sparsity.png", "sparsity_by_layer.png"]
    before = {name: (done / "run" / name).read_bytes() for name in ends}
    for turn, name in enumerate(ends):
        path = tmp_path / "run" / name
        if turn % 3 == 0:
            path.unlink()
        else:
            path.write_bytes(b"" if turn % 3 == 1 else before[name][:-9] + b"x" + before[name][-8:])
    life = start(tmp_path)
    assert life.wait() == 0, life.errors
    assert all(name in life.output for name in ends), life.output
    after = {name: (tmp_path / "run" / name).read_bytes() for name in ends}
    assert [name for name in ends if after[name] != before[name]] == []
    assert start(tmp_path).wait() == 0
    assert "finished already" in (tmp_path / "stdout.txt").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "pruneloop.log",
        *(
            pytest.param(name, marks=pytest.mark.more)
            for name in ("STATUS.json", "run.json", "rounds.jsonl", "report.html")
        ),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_named(done: Path, tmp_path: Path, name: str) -> None:
    """So is a log that cannot be written, as on a disk that is read only."""
    shutil.copytree(done / "run", tmp_path / "run")
    path = tmp_path / "run" / name
    path.unlink()
    (path / "inside").mkdir(parents=True)
    life = start(tmp_path)
    assert life.wait() == 5, life.errors
    (line,) = life.errors.splitlines()
    assert f"{path}: " in line and "Is a directory" in line


def little_space() -> None:
    """Make the disk look almost full."""
    real = shutil.disk_usage
    shutil.disk_usage = lambda path: real(path)._replace(free=1000)


def test_too_little_space_is_exit_5_before_writing(tmp_path: Path) -> None:
    life = start(tmp_path, before=little_space)
    assert life.wait() == 5, life.errors
    needed = re.search(r"([\d,]+) bytes needed, 1,000 free", life.errors)
    assert needed is not None and int(needed.group(1).replace(",", "")) > 16_777_216 + 30_000
    assert states(tmp_path) == [] and not (tmp_path / "run/state/.writing").exists()


def signal_in_a_slow_load() -> None:
    """Make the reading of the data take a minute, and a signal come right at its start."""

    def slow() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(6000):
            time.sleep(0.01)

    before_call(READING, 1, slow)


@pytest.mark.more
def test_a_signal_while_loading_need_not_wait(uninterrupted, tmp_path: Path) -> None:
    life = start(tmp_path, before=signal_in_a_slow_load)
    assert life.wait(20) == 75, life.errors
    assert len(life.errors.splitlines()) == 1 and "before the first step" in life.errors
    assert read_status(tmp_path / "run")["state"] == "preempted"
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


def test_ctrl_c_is_130_and_goes_on(uninterrupted, tmp_path: Path) -> None:
    life = start(tmp_path, before=functools.partial(signal_at, BACKWARD, 25, signal.SIGINT))
    assert life.wait() == 130, life.errors
    assert len(states(tmp_path)) > 1
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


WINDOWS = [
    (BACKWARD, 14),  # between the two halves of a step
    (EXPORT_RENAME, 1),
]
MORE_WINDOWS = [
    (("os", "fsync"), 9),  # in the middle of a state's files
    (ZEROING, 2),  # between mask and weights
    (("os", "rename"), 4),  # a state gets its name, or an old one loses its
    (("os", "replace"), 5),  # a record gets its name
    (("shutil", "rmtree"), 6),
    (STATE_FILE, 5),
    (FOLDER_FLUSH, 6),
    (EVALUATION, 3),
    (GATHER, 3),
    (EXPORT, 1),
    (EXPORT_CHECK, 1),
    (REPORT, 1),
]


@pytest.mark.parametrize(
    ("place", "count"),
    [*WINDOWS, *(pytest.param(*window, marks=pytest.mark.more) for window in MORE_WINDOWS)],
    ids=lambda part: ".".join(part) if isinstance(part, tuple) else str(part),
)
def test_a_kill_in_every_window(uninterrupted, tmp_path: Path, place, count) -> None:
    life = start(tmp_path, before=functools.partial(die_at, place, count))
    assert life.wait() == -signal.SIGKILL, life.errors
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    finish(folder)
    return folder


def test_a_finished_run_says_so(done: Path) -> None:
    before = outcome(done)
    life = start(done)
    assert life.wait() == 0, life.errors
    assert "finished already" in life.output
    assert outcome(done) == before


@pytest.mark.parametrize(
    "override", ["seed=1", "prune.amount=0.3", "data.split_seed=5", "rounds=1"]
)
def test_other_settings_are_refused(done: Path, override: str) -> None:
    """And leave nothing in the folder that says that the run there had them."""
    said = [done / "run/pruneloop.log", *(done / "run/.hydra").iterdir()]
    before = {path: path.read_bytes() for path in said}
    assert len(before) == 4
    life = start(done, override)
    assert life.wait() == 4
    assert len(life.errors.splitlines()) == 1 and override.split("=")[0] in life.errors
    assert read_status(done / "run")["state"] == "done"
    assert {path: path.read_bytes() for path in said} == before


@pytest.mark.more
def test_other_data_is_refused(tmp_path: Path) -> None:
    """The same file with another word in one of its rows is another run."""
    rows = [f"{i % 2},{'좋은' if i % 2 else '나쁜'} 영화 {i}" for i in range(80)]
    more = ("data=files", "data.train=rows.csv")
    line = [part for part in RUN if not part.startswith("data.")]
    for last, code in (("영화", 0), ("영화였다", 4)):
        text = "\n".join(["label,text", *rows[:-1], rows[-1].replace("영화", last)])
        (tmp_path / "rows.csv").write_text(text + "\n")
        life = Life(tmp_path, *line, *more)
        assert life.wait() == code, life.errors
    assert "rows of " in life.errors and len(life.errors.splitlines()) == 1


@pytest.mark.more
def test_another_number_of_processes_is_refused(done: Path) -> None:
    line = [sys.executable, *TORCHRUN, str(ROOT / "train.py"), *RUN]
    result = subprocess.run(line, cwd=done, capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert "holds a run with other settings: processes (was 1, is 2)" in result.stderr


@pytest.mark.more
def test_runs_of_the_same_moment_have_folders_of_their_own(tmp_path: Path) -> None:
    # Those without a single row fail once their folder is theirs.
    (tmp_path / "empty.csv").write_text("text,label\n")
    lives = [Life(tmp_path, "data=files", "data.train=empty.csv") for _ in range(3)]
    assert [life.wait() for life in lives] == [3, 3, 3]
    folders = list(tmp_path.glob("outputs/*/*"))
    assert len(folders) == 3
    assert all((folder / ".hydra/overrides.yaml").exists() for folder in folders)


@pytest.mark.more
def test_more_rounds_go_on(done: Path, tmp_path: Path) -> None:
    """Three rounds at once, and two rounds and one more, are the same run."""
    finish(tmp_path, "rounds=3")
    finish(done, "rounds=3", "checkpoint.every_minutes=3")
    assert outcome(done) == outcome(tmp_path)


@pytest.mark.more
def test_a_second_live_run_is_refused(tmp_path: Path) -> None:
    # It holds still, and holds the folder.
    first = start(tmp_path, before=functools.partial(signal_at, BACKWARD, 25, signal.SIGSTOP))
    with first.held():
        (tmp_path / "second").mkdir()
        second = Life(tmp_path / "second", *LONG, "hydra.run.dir=../run")
        assert second.wait() == 5 and f"pid {first.pid}" in second.errors
    assert first.wait() == 0


def small_files() -> None:
    """Let no file grow beyond 40 kB: a disk that is full in the middle of a write."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


@pytest.mark.more
def test_a_full_disk_is_exit_5_and_loses_nothing(uninterrupted, tmp_path: Path) -> None:
    life = start(tmp_path, before=functools.partial(die_at, BACKWARD, 25))
    assert life.wait() == -signal.SIGKILL, life.errors
    limited = start(tmp_path, before=small_files)
    assert limited.wait() == 5, limited.errors
    assert "cannot save" in limited.errors and len(limited.errors.splitlines()) == 1
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


def sh(line: str) -> None:
    subprocess.run(line, shell=True, check=True, capture_output=True)


@contextlib.contextmanager
def read_only(run: Path) -> Iterator[Callable[[], None]]:
    """The state folder turns read-only: for root by a mount, since modes do not stop root."""
    state, root = run / "state", os.geteuid() == 0
    bind = f"mount --bind {state} {state} && mount -o remount,bind,ro {state}"
    try:
        yield lambda: sh(bind) if root else state.chmod(0o555)
    finally:
        sh(f"umount {state} || true") if root else state.chmod(0o755)


@contextlib.contextmanager
def unmounted(run: Path) -> Iterator[Callable[[], None]]:
    """The run's whole file system goes away; afterwards it is mounted again."""
    image = run.parent / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    sh(f"mkdir {run} && mkfs.ext4 -q {image} && mount -o loop {image} {run}")
    try:
        yield lambda: sh(f"umount --lazy {run}")
    finally:
        sh(f"umount {run} || true")
    sh(f"mount -o loop {image} {run}")


@contextlib.contextmanager
def moved(run: Path) -> Iterator[Callable[[], None]]:
    """The run folder is moved elsewhere; afterwards it is put back."""
    elsewhere = run.with_name("elsewhere")
    yield lambda: run.rename(elsewhere)
    shutil.rmtree(run, ignore_errors=True)
    elsewhere.rename(run)


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(read_only, marks=pytest.mark.more),
        pytest.param(unmounted, marks=pytest.mark.more),
        pytest.param(moved, marks=pytest.mark.more),
    ],
)
def test_a_folder_lost_in_the_run_is_exit_5(uninterrupted, tmp_path: Path, loss) -> None:
    with contextlib.ExitStack() as stack:
        try:
            with loss(tmp_path / "run") as lose:
                stop = functools.partial(signal_at, BACKWARD, 25, signal.SIGSTOP)
                life = start(tmp_path, before=stop)
                with life.held():
                    assert len(states(tmp_path)) > 1
                    lose()
                assert life.wait() == 5, life.errors
        except subprocess.CalledProcessError as error:
            pytest.skip(f"nothing can be mounted here: {error.stderr}")
        if loss is unmounted:
            stack.callback(sh, f"umount {tmp_path / 'run'}")
        assert len(life.errors.splitlines()) == 1 and "bytes needed" in life.errors
        finish(tmp_path)
        assert outcome(tmp_path) == uninterrupted


def poison(count: int) -> None:
    """Make the count-th optimiser step leave an infinite weight behind."""
    from torch.optim import AdamW

    real, calls = AdamW.step, 0

    def step(self, *args, **options):
        nonlocal calls
        calls += 1
        real(self, *args, **options)
        if calls == count:
            self.param_groups[0]["params"][0].data[-1, 0] = float("inf")

    AdamW.step = step


@pytest.mark.more
def test_a_bad_number_stops_the_run_and_the_last_good_state_stays(uninterrupted, tmp_path) -> None:
    life = start(tmp_path, "checkpoint.every_steps=1", before=functools.partial(poison, 7))
    assert life.wait() == 6, life.errors
    assert "at step 7 of round 0, learning rate" in life.errors
    assert read_status(tmp_path / "run")["state"] == "failed"
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


def test_a_full_gpu_is_exit_5_with_advice(tmp_path: Path) -> None:
    life = start(tmp_path, before=functools.partial(fill_the_gpu, 2))
    assert life.wait() == 5, life.errors
    assert len(life.errors.splitlines()) == 1
    assert "in a new hydra.run.dir, halve finetune.batch_size" in life.errors
    status = read_status(tmp_path / "run")
    assert (status["state"], status["exit_code"]) == ("failed", 5)


@pytest.mark.more
def test_two_processes_stop_together(tmp_path: Path) -> None:
    """SIGTERM to one rank stops both at the same step, and torchrun's next try goes on."""
    line = [sys.executable, *TORCHRUN, str(ROOT / "train.py"), *RUN]
    reference = tmp_path / "reference"
    reference.mkdir()
    subprocess.run(line, cwd=reference, check=True, capture_output=True, timeout=120)
    # A process has half of the 81 batches of round 0.
    setup = "signal_at(BACKWARD, 20, signal.SIGTERM);"
    setup += 'before_call(BACKWARD, 20, Path("signalled").touch)'
    stopped = line_on_rank_1(tmp_path, setup)
    result = subprocess.run(
        [*stopped, *RUN], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert time.time() - (tmp_path / "signalled").stat().st_mtime < 25
    assert result.returncode != 0 and "is saved" in result.stderr
    assert len(states(tmp_path)) > 1
    assert read_status(tmp_path / "run")["state"] == "preempted"
    subprocess.run(line, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert outcome(tmp_path) == outcome(reference)


@pytest.mark.more
def test_a_full_gpu_on_one_of_two_is_said(tmp_path: Path) -> None:
    line = [*line_on_rank_1(tmp_path, "fill_the_gpu(3)"), *RUN]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert result.stderr.count("pruneloop (process 1): the GPU's memory is full") == 1
    assert result.stderr.count("pruneloop: another process of this run has ended") == 1
    assert "GLHF" not in result.stderr
    status = read_status(tmp_path / "run")
    assert "memory is full" in status["message"]


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("budgeted")
    life = Life(folder, *BUDGET, "hydra.run.dir=run")
    assert life.wait() == 0, life.errors
    assert "false" in (folder / "run/rounds.jsonl").read_text(), "nothing was undone"
    return outcome(folder)


@pytest.mark.more
@pytest.mark.parametrize(
    ("place", "count"),
    [
        pytest.param(UNDO, 1, marks=pytest.mark.more),  # before anything is undone
        (("pruneloop.pruning.PrunedModel", "load"), 1),  # in the middle of it
        pytest.param(ARCHIVE, 2, marks=pytest.mark.more),  # before a kept round is sealed
        # Sealed or undone, not saved.
        pytest.param(("pruneloop.checkpoint.StateFolder", "publish"), 3, marks=pytest.mark.more),
    ],
)
def test_a_budget_killed_anywhere_ends_the_same(budgeted, tmp_path: Path, place, count) -> None:
    line = (*BUDGET, "hydra.run.dir=run")
    life = Life(tmp_path, *line, before=functools.partial(die_at, place, count))
    assert life.wait() == -signal.SIGKILL, life.errors
    life = Life(tmp_path, *line)
    assert life.wait() == 0, life.errors
    assert outcome(tmp_path) == budgeted
