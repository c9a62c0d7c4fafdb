"""The saved state: whole or not there, damage found, space and locks respected."""

import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import xxhash

from pruneloop import checkpoint
from pruneloop.checkpoint import (
    StateFolder,
    differences,
    random_state,
    restore_random_state,
    save_tensors,
)
from pruneloop.durable import seal_folder
from pruneloop.errors import CheckpointError, EnvironmentFault

TENSORS = {"w": torch.arange(6.0).view(2, 3), "mask": torch.tensor([True, False])}


def save(states: StateFolder, step: int) -> Path:
    states.begin()
    save_tensors(states.writing / "model.safetensors", TENSORS)
    return states.publish({"step": step})


@pytest.fixture
def states(tmp_path: Path) -> StateFolder:
    (tmp_path / "state").mkdir()
    return StateFolder(tmp_path / "state")


def test_a_file_system_without_locks_is_named_with_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(EnvironmentFault, match=r"state/lock: .*\(No locks available\).*run\.dir"),
        StateFolder(tmp_path / "state").locked(),
    ):
        pass


def test_what_was_saved_is_read(states: StateFolder) -> None:
    save(states, 3)
    saved = states.load()
    assert saved is not None and saved.position == {"step": 3}
    assert all(torch.equal(saved.tensors("model")[name], TENSORS[name]) for name in TENSORS)


def test_nothing_saved_is_none(states: StateFolder) -> None:
    assert states.load() is None


def test_the_newest_two_are_kept(states: StateFolder) -> None:
    for step in range(12):
        save(states, step)
    assert [path.name for path in states.names()] == ["state-00000011", "state-00000010"]
    assert not list(states.path.glob(".*"))
    saved = states.load()
    assert saved is not None and saved.position == {"step": 11}


def test_files_have_the_umasks_mode(states: StateFolder) -> None:
    umask = os.umask(0o022)
    try:
        folder = save(states, 0)
    finally:
        os.umask(umask)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o644"}


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "position.json", "manifest.json"])
@pytest.mark.parametrize("damage", [missing, empty, truncated, one_bit])
def test_damage_falls_back_to_the_older_one(states, name, damage, caplog) -> None:
    save(states, 0)
    newest = save(states, 1)
    damage(newest / name)
    saved = states.load()
    assert saved is not None and saved.position == {"step": 0}
    assert newest.name in caplog.text


def test_damage_everywhere_is_never_a_fresh_start(states: StateFolder) -> None:
    for step in range(2):
        one_bit(save(states, step) / "model.safetensors")
    with pytest.raises(CheckpointError, match="none of the 2"):
        states.load()


def test_a_damaged_state_does_not_push_out_a_good_one(states: StateFolder) -> None:
    good = save(states, 0)
    one_bit(save(states, 1) / "model.safetensors")
    assert states.load() is not None
    newest = save(states, 2)
    assert states.names() == [newest, good]
    one_bit(newest / "model.safetensors")
    saved = states.load()
    assert saved is not None and saved.position == {"step": 0}


@pytest.mark.parametrize("manifest", ["[]", "{}", "null", '{"model.safetensors": 1}', '"x"'])
def test_an_ill_formed_manifest_is_damage(states: StateFolder, manifest: str, caplog) -> None:
    folder = save(states, 0)
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(CheckpointError, match="none of the 1"):
        states.load()


def test_a_forged_manifest_around_a_broken_file_is_damage(states: StateFolder) -> None:
    folder = save(states, 0)
    (folder / "model.safetensors").write_bytes(b"not a tensor")
    (folder / "manifest.json").unlink()
    seal_folder(folder)
    with pytest.raises(CheckpointError, match="none of the 1"):
        states.load()


def save_and_die(states: StateFolder, count: int) -> bool:
    """Save in a process of its own that dies right before the count-th step of the recipe."""
    child = os.fork()
    if child == 0:
        calls = 0

        def deadly(real):
            def call(*args, **options):
                nonlocal calls
                calls += 1
                if calls == count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            return call

        checkpoint.save_file = deadly(checkpoint.save_file)
        Path.write_text = deadly(Path.write_text)
        os.fsync, os.rename = deadly(os.fsync), deadly(os.rename)
        shutil.rmtree = deadly(shutil.rmtree)
        save(states, 9)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_at_every_step_leaves_the_old_state_or_the_new_one(states: StateFolder) -> None:
    seen = []
    for count in range(1, 100):
        shutil.rmtree(states.path)
        states.path.mkdir()
        for step in range(2):
            save(states, step)
        killed = save_and_die(states, count)
        saved = states.load()
        assert saved is not None
        seen.append(saved.position["step"])
        save(states, 10)  # and what a kill left behind is in nobody's way
        assert not list(states.path.glob(".*")) and len(states.names()) == 2
        if not killed:
            break
    assert 10 < len(seen) < 99 and seen == sorted(seen) and set(seen) == {1, 9}


def test_an_unfinished_write_is_not_seen(states: StateFolder) -> None:
    save(states, 0)
    states.begin()
    save_tensors(states.writing / "model.safetensors", TENSORS)
    saved = states.load()
    assert saved is not None and saved.position == {"step": 0}


def test_everything_is_flushed_before_it_is_named_and_named_before_old_ones_go(
    states: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe's order: files, folder, rename, parent, and only then the old ones."""
    for step in range(2):
        save(states, step)
    log: list[str] = []
    real_fsync, real_rename, real_rmtree = os.fsync, os.rename, shutil.rmtree

    def fsync(descriptor: int) -> None:
        log.append("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        log.append(f"rename {source.name} {target.name}")
        real_rename(source, target)

    def rmtree(path: Path, **options: bool) -> None:
        log.append(f"rmtree {path.name}")
        real_rmtree(path, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    save(states, 2)
    assert log == [
        "fsync model.safetensors",
        "fsync position.json",
        "fsync manifest.json",
        "fsync .writing",
        "rename .writing state-00000002",
        "fsync state",
        "rename state-00000000 .old-state-00000000",
        "rmtree .old-state-00000000",
    ]


def test_a_kill_between_rename_and_delete_leaves_nothing_for_ever(states, monkeypatch) -> None:
    save(states, 0)
    (states.path / ".old-state-00000000").mkdir()
    save(states, 1)
    assert not list(states.path.glob(".*"))


def test_a_manifest_cannot_lead_outside(states: StateFolder, tmp_path: Path) -> None:
    folder = save(states, 0)
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["../../secret.json"] = xxhash.xxh3_128(b"{}").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="none of the 1"):
        states.load()


def test_a_held_folder_names_its_holder(states: StateFolder) -> None:
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]);"
        "from pruneloop.checkpoint import StateFolder;"
        "lock = StateFolder(pathlib.Path(sys.argv[2])).locked(); lock.__enter__();"
        "print('held', flush=True); input()"
    )
    source = str(Path(__file__).parents[1] / "src")
    holder = subprocess.Popen(
        [sys.executable, "-c", program, source, str(states.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with (
            pytest.raises(EnvironmentFault, match=f"pid {holder.pid} on {platform.node()}"),
            states.locked(),
        ):
            pass
        holder.kill()
    with states.locked():  # the lock died with its process
        pass


def test_random_states_come_back() -> None:
    device = torch.device("cpu")
    state = random_state(device)
    first = torch.rand(3)
    restore_random_state(state, device)
    assert torch.equal(torch.rand(3), first)


def test_differences_name_the_keys() -> None:
    old, new = {"seed": 1, "rounds": 3, "gone": 0}, {"seed": 2, "rounds": 5}
    found = differences(old, new, lambda key, was, now: key == "rounds" and now > was)
    assert found == ["gone (was 0, is None)", "seed (was 1, is 2)"]


def test_a_state_is_data_and_never_code(states: StateFolder) -> None:
    folder = save(states, 0)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    json.loads((folder / "manifest.json").read_text())


def test_a_write_error_leaves_the_last_state(states, monkeypatch) -> None:
    save(states, 0)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save(states, 1)
    monkeypatch.undo()
    saved = states.load()
    assert saved is not None and saved.position == {"step": 0}
