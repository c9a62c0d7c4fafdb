"""Files and folders: whole or absent, and a failure explained in one line."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from pruneloop.durable import fresh_folder, publish_folder, remove_folder, saving, write_atomically
from pruneloop.errors import EnvironmentFault


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_a_published_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = folder(tmp_path / "target", "old")
    publish_folder(folder(tmp_path / "new", "new"), target)
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_the_old_folder_goes_after_the_new_one_is_there(tmp_path: Path, monkeypatch) -> None:
    target = folder(tmp_path / "target", "old")
    new, seen, real = folder(tmp_path / "new", "new"), [], shutil.rmtree

    def rmtree(path: Path, **options: bool) -> None:
        seen.append((path.name, (target / "file").read_text()))
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    publish_folder(new, target)
    assert seen[-1] == (".old-target", "new")


def test_a_removed_folder_is_renamed_first(tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(OSError, match="killed here"):
        remove_folder(folder(tmp_path / "gone", "x"))
    assert [path.name for path in tmp_path.iterdir()] == [".old-gone"]


def test_readers_see_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="killed here"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(EnvironmentFault, match="needed, 10 free"), saving(tmp_path, 1000):
        pytest.fail("it must not come to writing")


@pytest.mark.parametrize(
    "error", [OSError(30, "Read-only file system"), SafetensorError("Read-only file system")]
)
def test_a_refused_write_says_what_was_needed_and_free(tmp_path: Path, error) -> None:
    says = r"Read-only file system\); 16,777,217 bytes needed, [\d,]+ free; what was saved before"
    with pytest.raises(EnvironmentFault, match=says), saving(tmp_path, 1):
        raise error


def test_a_refused_write_says_which_file_it_was(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/run/rounds.csv")
    with (
        pytest.raises(EnvironmentFault, match=r"^/run/rounds\.csv: cannot save \(No space left"),
        saving(tmp_path, 1),
    ):
        raise full


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentFault, match="bytes needed, the folder is gone"),
        saving(tmp_path / "unmounted", 1),
    ):
        pytest.fail("it must not come to writing")


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".a.json.tmp").symlink_to(victim)
    write_atomically(tmp_path / "a.json", b"new")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/kept").write_text("mine")
    (tmp_path / ".b.tmp").symlink_to(tmp_path / "folder")
    fresh_folder(tmp_path / ".b.tmp")
    assert victim.read_text() == "mine" and (tmp_path / "folder/kept").exists()
    assert (tmp_path / "a.json").read_bytes() == b"new" and not (tmp_path / "a.json").is_symlink()


def test_a_link_that_is_planted_at_the_last_moment_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After what an earlier try left there was removed, before the file is opened."""
    victim, real = tmp_path / "victim", Path.unlink
    victim.write_text("mine")

    def plant(path: Path, missing_ok: bool = False) -> None:
        real(path, missing_ok)
        path.symlink_to(victim)

    monkeypatch.setattr(Path, "unlink", plant)
    with pytest.raises(OSError, match="File exists"):
        write_atomically(tmp_path / "a.json", b"new")
    assert victim.read_text() == "mine" and not (tmp_path / "a.json").exists()


def test_a_refused_write_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match="Is a directory") as caught:
        write_atomically(tmp_path / "a.json", b"new")
    assert str(EnvironmentFault.of(caught.value)) == f"{tmp_path / 'a.json'}: Is a directory"


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "a.json", b"new")
    assert str(tmp_path / "a.json") in str(EnvironmentFault.of(caught.value))
