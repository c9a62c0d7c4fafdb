"""What is run where there is a GPU, and what goes with it: at a toy size, on a CPU."""

import csv
import gzip
import io
import json
import lzma
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import script, wait_until

CHECK = script("gpu_check")


def place(folder: Path) -> object:
    return CHECK.Place(folder, folder / "work", "cpu")


# -- how parts are done ----------------------------------------------------------------------


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A part of two steps, whose second one fails the first time."""
    done: list[str] = []

    def second() -> dict:
        done.append("second")
        if done.count("second") == 1:
            raise RuntimeError("no luck")
        return {"figure": 2}

    def steps(where: object) -> Iterator:
        yield "first", lambda: done.append("first") or {"figure": 1}
        yield "second", second
        yield "third", lambda: done.append("third") or {"figure": 3}

    monkeypatch.setitem(CHECK.PARTS, "9", steps)
    return done


def test_what_is_done_is_written_at_once_and_not_done_again(
    two_steps: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "part_9.json"
    assert not CHECK.do_part("9", place(tmp_path), path)
    found = json.loads(path.read_text())
    assert [*found["steps"]] == ["first", "third"], "a step that fails must not take the others"
    assert found["failed"] == {"second": "RuntimeError: no luck"}
    assert found["machine"]["device"] == "cpu"
    assert CHECK.do_part("9", place(tmp_path), path)
    found = json.loads(path.read_text())
    assert found["steps"]["second"]["figure"] == 2 and not found["failed"]
    assert two_steps == ["first", "second", "third", "second"]
    assert CHECK.do_part("9", place(tmp_path), path) and len(two_steps) == 4


def test_time_that_is_over_leaves_the_rest_for_the_next_start(
    two_steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CHECK, "LIMIT", -1.0)
    assert not CHECK.do_part("9", place(tmp_path), tmp_path / "part_9.json")
    assert two_steps == []


def test_figures_of_two_machines_are_not_mixed(two_steps: list[str], tmp_path: Path) -> None:
    path = tmp_path / "part_9.json"
    path.write_text(json.dumps({"machine": {"card": "another"}, "steps": {}}))
    with pytest.raises(SystemExit, match="another machine"):
        CHECK.do_part("9", place(tmp_path), path)


def test_masks_that_differ_fail_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECK, "masks_agree", lambda *_: {"magnitude, global": False})
    (_, work), *_ = CHECK.part_1(place(tmp_path))
    with pytest.raises(RuntimeError, match="other masks"):
        work()


def test_packages_beside_the_checkout_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "carried.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "site")
    elsewhere = "import os, subprocess, sys; os.chdir('/')"
    place(tmp_path).call(
        "-c",
        f"{elsewhere}; subprocess.check_call([sys.executable, '-c', 'import carried, pruneloop'])",
    )


def test_time_that_is_over_ends_what_was_started_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grandchild would go on holding the GPU, and the pipe that is waited for."""
    monkeypatch.setattr(CHECK.Place, "real", True)
    where = CHECK.Place(tmp_path, tmp_path, "cuda", deadline=time.monotonic() + 1)
    mark = tmp_path / "pid"
    inner = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(CHECK, "ROOT", tmp_path)
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="time was over"):
        where.call("-c", outer)
    assert time.monotonic() - begun < 20
    state = Path(f"/proc/{mark.read_text()}/stat")

    def gone() -> bool:
        try:
            return state.read_text().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(gone, lambda: time.monotonic() - begun > 30)
    assert gone()


def test_one_side_and_both_are_summed_up() -> None:
    def side(seconds: float) -> dict:
        return {"cpu_seconds": seconds, "wall_seconds": 2 * seconds, "test_accuracy": 0.8}

    summary = script("bench_run").summary
    pairs = [{"ours": side(ours), "trainer": side(8.0)} for ours in (2.0, 4.0, 6.0)]
    found = summary(pairs)
    assert found["ours"]["cpu_seconds"] == 4.0 and found["ratio_of_wall_seconds"] == 0.5
    assert [*summary([{"ours": side(2.0)}])] == ["ours"]


def test_a_table_is_of_five_pairs_of_both_sides(tmp_path: Path) -> None:
    bench = script("bench_run")

    def written(pairs: int, other: str = "trainer") -> Path:
        def side(score: float) -> dict:
            return {"cpu_seconds": 2.0, "wall_seconds": 3.0, "test_accuracy": score}

        both = [{"ours": side(0.7 + n / 100), other: side(0.8)} for n in range(pairs)]
        asked = {"layers": "2", "hidden": "64", "precision": "fp32", "sampling": "random"}
        found = {"options": asked, "median": bench.summary(both), "pairs": both}
        path = tmp_path / "found.json"
        path.write_text(json.dumps(found))
        return path

    line = bench.table([written(5)]).splitlines()[-1]
    # 2.776 * 0.0158 / sqrt(5)
    assert line.endswith("| 2.0 s | 2.0 s | 1.00 | 0.720 ± 0.020 | 0.800 ± 0.000 |")
    for other in ((4, "trainer"), (5, "sweep")):
        with pytest.raises(SystemExit, match="needs five pairs of both sides"):
            bench.table([written(*other)])


def test_all_parts_fit_into_eight_files() -> None:
    assert len(CHECK.PARTS) <= 8
    assert CHECK.LIMIT <= 8 * 60


# -- every part at a toy size ----------------------------------------------------------------


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the corpora, with made-up rows and a SentencePiece model of them."""
    from sentencepiece import SentencePieceTrainer

    from pruneloop.data.sample import generate
    from pruneloop.model.tokenizers import KOBERT_FILE

    folder = tmp_path_factory.mktemp("corpora")
    for name in ("nsmc", "nsmc_raw", "kobert_tokenizer"):
        (folder / name).mkdir()
    rows = generate(200, seed=0)
    for split in ("train", "test"):
        with gzip.open(folder / "nsmc" / f"ratings_{split}.txt.gz", "wt", newline="") as file:
            table = csv.writer(file, delimiter="\t")
            table.writerow(("id", "document", "label"))
            table.writerows(
                (n, text, int(label == "positive")) for n, (text, label) in enumerate(rows)
            )
    lines = ["id\tdocument\trating", *(f"{n}\t{text}\t9" for n, (text, _) in enumerate(rows))]
    (folder / "nsmc_raw" / "raw.tsv.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(text for text, _ in rows),
        model_writer=model,
        vocab_size=600,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "kobert_tokenizer" / KOBERT_FILE).write_bytes(model.getvalue())
    return folder


@pytest.mark.more
@pytest.mark.parametrize("parts", ["1", "2", "3", "3b", "4a", "4b,4c"])
def test_every_part_does_its_work(corpora: Path, tmp_path: Path, parts: str) -> None:
    work = tmp_path / "work"
    where = CHECK.Place(corpora, work, "cpu")
    work.mkdir()
    for name in parts.split(","):
        path = tmp_path / f"part_{name}.json"
        assert CHECK.do_part(name, where, path), path.read_text()
        assert json.loads(path.read_text())["steps"]


def test_a_lever_is_measured() -> None:
    """The run's own step, so that the script stays in step with the code."""
    levers = script("gpu_levers")
    found = levers.measure("as it is", "cpu", 1, 16, 4, 1)
    assert found["rows_a_second"] > 0 and 0 < found["padding"] < 1
    assert {"compiled", "no padding", "evaluation"} <= {*levers.LEVERS}


def test_lengths_are_spread_as_they_are_said_to_be() -> None:
    found = sorted(script("gpu_levers").lengths(4000))
    assert abs(found[2000] - 19) <= 1 and abs(found[3600] - 47) <= 3 and found[-1] <= 128


def test_pretraining_sees_every_row_once_an_epoch() -> None:
    pretrain = script("pretrain")
    lengths = [5, 9, 5, 7, 9, 9, 5]
    one, other = (pretrain.batches_by_length(lengths, 3, seed) for seed in (0, 1))
    assert sorted(row for batch in one for row in batch) == list(range(7))
    assert one != other


# -- the wheels ------------------------------------------------------------------------------


def test_wheels_that_are_missing_or_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = script("collect_wheels")
    monkeypatch.setattr(wheels, "WHEELS", ("hydra-core>=1.3.8,<1.4", "dill<0.4.2"))
    for name in ("hydra_core-1.3.8", "dill-0.4.1"):
        (tmp_path / f"{name}-py3-none-any.whl").write_bytes(b"1234")
    with pytest.raises(SystemExit, match="no wheel of antlr4"):
        wheels.size_of(tmp_path)
    (tmp_path / "antlr4_python3_runtime-4.9.3-py3-none-any.whl").write_bytes(b"1234")
    assert wheels.size_of(tmp_path) == 12
    monkeypatch.setattr(wheels, "LIMIT", 11)
    with pytest.raises(SystemExit, match="more than"):
        wheels.size_of(tmp_path)


def test_pip_finds_its_index_by_itself() -> None:
    words = [word for line in script("collect_wheels").commands(Path("wheels")) for word in line]
    assert not any("index" in word or "://" in word for word in words)
