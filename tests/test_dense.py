"""Round 0 of another run: taken over bit for bit, shared by a sweep, refused where it differs."""

import hashlib
import threading
from pathlib import Path

import pytest
from support import SMALL, composed, experiment, read_rounds

from pruneloop.dense import DenseRound
from pruneloop.errors import CheckpointError, InvariantError

TAUGHT = ("distill=logits", "rewind=weights", "rewind.epoch=0.5")


def run(folder: Path, *overrides: str, shared: Path | None = None) -> Path:
    experiment(composed(*SMALL, *overrides), folder, [], shared)
    return folder


def outcome(folder: Path) -> tuple[dict[str, str], list[dict], str]:
    """Return the hashes of the checkpoint's files, the records without times, and layers."""
    files = sorted((folder / "checkpoint").iterdir())
    records = [{k: v for k, v in r.items() if k != "seconds"} for r in read_rounds(folder)]
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return hashes, records, (folder / "layers.csv").read_text()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained round 0 itself."""
    return run(tmp_path_factory.mktemp("dense") / "alone", *TAUGHT)


def test_a_run_that_starts_from_another_ends_as_if_it_had_trained_round_0(
    alone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    other = run(tmp_path / "other", "prune=random", "rounds=1", *TAUGHT)
    caplog.clear()
    again = run(tmp_path / "again", *TAUGHT, "keep_rounds=true", f"start_from={other}")
    assert "round 0: taken over from" in caplog.text
    assert {path.name for path in (again / "rounds").iterdir()} == {"00", "01", "02"}
    assert outcome(again) == outcome(alone)
    assert (again / "report.html").exists()


@pytest.mark.more
def test_another_scope_counts_its_own_matrices(tmp_path: Path) -> None:
    other = run(tmp_path / "other", "rounds=1")
    taken = run(tmp_path / "taken", "prune.scope=qkv", "rounds=1", f"start_from={other}")
    own = run(tmp_path / "own", "prune.scope=qkv", "rounds=1")
    assert outcome(taken) == outcome(own)


@pytest.mark.more
def test_a_sweep_trains_round_0_once(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "round0"
    run(tmp_path / "first", "prune=random", *TAUGHT, shared=shared)
    trained: list[int] = []
    from pruneloop.engine import Engine

    fine_tuning = Engine.fine_tuning

    def noted(self: Engine, number: int, *rest: object) -> object:
        trained.append(number)
        return fine_tuning(self, number, *rest)

    monkeypatch.setattr(Engine, "fine_tuning", noted)
    second = run(tmp_path / "second", *TAUGHT, shared=shared)
    assert trained == [1, 2]
    assert outcome(second) == outcome(alone)
    third = run(tmp_path / "third", *TAUGHT, "seed=7", "rounds=1", shared=shared)
    assert trained == [1, 2, 0, 1]
    assert read_rounds(third)[0] != read_rounds(second)[0]
    assert len(list(shared.glob("*/dense"))) == 2


def test_what_was_trained_differently_is_refused_with_its_key(alone: Path, tmp_path: Path) -> None:
    for changed in ("finetune.dense_learning_rate=0.1", "data.train_rows=250", "seed=7"):
        key = changed.split("=")[0]
        with pytest.raises(CheckpointError, match=rf"trained differently: .*{key}"):
            run(tmp_path / "other", *TAUGHT, changed, f"start_from={alone}")
        assert not (tmp_path / "other/rounds.jsonl").exists()


def test_a_folder_without_a_round_0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="dense"):
        run(tmp_path / "other", f"start_from={tmp_path / 'nothing'}")


@pytest.mark.more
def test_a_point_that_fails_lets_the_next_one_train(tmp_path: Path) -> None:
    """A lock that outlives its run would make the next point wait for ever."""
    shared = tmp_path / "round0"
    with pytest.raises(InvariantError):
        run(tmp_path / "first", "finetune.dense_learning_rate=1e30", shared=shared)
    other = run(tmp_path / "second", "finetune.dense_learning_rate=1e-3", shared=shared)
    assert len(read_rounds(other)) == 3
    with pytest.raises(InvariantError):
        run(tmp_path / "third", "finetune.dense_learning_rate=1e30", shared=shared)


def test_who_comes_second_waits_for_the_first(tmp_path: Path) -> None:
    first, second = (DenseRound({"seed": 1}, None, tmp_path) for _ in range(2))
    other = DenseRound({"seed": 2}, None, tmp_path)
    assert first.find(main=True) is None
    assert other.find(main=True) is None  # another round 0: nothing to wait for
    waiting = threading.Thread(target=second.find, args=(True,))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    first.close()  # as a process does that dies
    waiting.join(5)
    assert not waiting.is_alive()
    second.close()
    other.close()
