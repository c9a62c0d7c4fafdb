"""Sweeps: the records of their points, side by side; and the command's own."""

import csv
import functools
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from support import (
    BACKWARD,
    FACTS,
    READING,
    SHORT,
    SMALL_MODEL,
    SWEEP,
    Command,
    Life,
    before_call,
    lived_line,
    read_rounds,
    read_status,
    record,
    signal_at,
)

from pruneloop.command.verbs import compare
from pruneloop.errors import ConfigError, InputError
from pruneloop.records import RoundRecord, RunFolder, mark_start
from pruneloop.report import figures
from pruneloop.report.points import Sweep, read_runs, read_sweep
from pruneloop.report.sweep import _figure, write_sweep


def point(folder: Path, overrides: list[str], rounds: list[RoundRecord], **status: object) -> None:
    folder.mkdir(parents=True)
    (folder / ".hydra").mkdir()
    (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides))
    run = RunFolder(folder)
    if rounds:
        run.write_rounds(rounds)
    if status:
        run.write_status(**status)


def scored(number: int, sparsity: float, accuracy: float, prunable: int = 1000) -> RoundRecord:
    return replace(
        record(number, None),
        prunable=prunable,
        sparsity=sparsity,
        model_sparsity=sparsity / 2,
        accuracy=accuracy,
        test_accuracy=accuracy - 0.1,
    )


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two amounts with two seeds each, one of them stopped, and one that failed."""
    for amount, seed, last in (("0.1", 0, 0.9), ("0.1", 1, 0.8), ("0.04", 0, 0.7)):
        point(
            tmp_path / f"prune.amount={amount},seed={seed}",
            [f"prune.amount={amount}", f"seed={seed}", "rounds=1"],
            [scored(0, 0.0, 0.95), scored(1, 0.1 if amount == "0.1" else 0.04, last)],
            state="done",
        )
    point(tmp_path / "killed", ["prune.amount=0.04", "seed=1", "rounds=1"], [scored(0, 0.0, 0.93)])
    point(
        tmp_path / "bad",
        ["prune.amount=2", "seed=0", "rounds=1"],
        [],
        state="failed",
        exit_code=2,
        message="prune.amount=2: 너무 크다",
    )
    return read_sweep(tmp_path)


def test_points_are_named_by_what_they_do_not_share(sweep: Sweep) -> None:
    assert sweep.shared == ["rounds=1"]
    assert [(p.settings["prune.amount"], p.seed) for p in sweep.points] == [
        ("0.04", "0"),
        ("0.04", "1"),
        ("0.1", "0"),
        ("0.1", "1"),
        ("2", "0"),
    ]
    assert [p.name for p in sweep.unfinished] == ["killed", "bad"]
    assert sweep.exit_code == 75  # of the killed one, which can go on


def test_seeds_are_averaged(sweep: Sweep) -> None:
    dense, pruned = sweep.means["prune.amount=0.1"]
    assert (pruned.seeds, pruned.sparsity) == (2, 0.1)
    assert pruned.accuracy == pytest.approx(0.85)
    assert pruned.accuracy_deviation == pytest.approx(0.0707, abs=1e-4)
    assert pruned.test_accuracy == pytest.approx(0.75)
    assert dense.accuracy_deviation == 0.0
    # Round 1 of the other amount exists once: no deviation.
    assert sweep.means["prune.amount=0.04"][1].accuracy_deviation is None


def test_the_pareto_front_is_what_nothing_beats(sweep: Sweep) -> None:
    """0.04 is less sparse and less accurate than 0.1; of the dense ones the better counts."""
    assert [(m.label, m.round) for m in sweep.front] == [
        ("prune.amount=0.1", 0),
        ("prune.amount=0.1", 1),
    ]


def test_the_best_within_a_point_is_the_sparsest_by_the_mean_of_its_seeds(tmp_path: Path) -> None:
    """Seeds 0 and 1 lose 0.4 and 1.2 points: 0.8 on average; round 2 loses more."""
    for seed, second in ((0, 0.896), (1, 0.888)):
        rounds = [scored(0, 0.0, 0.9), scored(1, 0.5, second), scored(2, 0.8, 0.8)]
        point(tmp_path / f"a{seed}", ["prune=a", f"seed={seed}"], rounds, state="done")
    point(
        tmp_path / "b",
        ["prune=b", "seed=0"],
        [scored(0, 0, 0.9), scored(1, 0.6, 0.85)],
        state="done",
    )
    sweep = read_sweep(tmp_path)
    assert [(m.label, m.round) for m in sweep.best(0.01)] == [("prune=a", 1), ("prune=b", 0)]
    assert sweep.best(0.01)[0].lost == pytest.approx(0.008)
    assert sweep.levels == [0.2, 0.5, 0.67, 0.8]
    found = sweep.at(0.5)
    assert (found["prune=a"].round, found["prune=b"].sparsity) == (1, 0.6)
    assert sweep.at(0.67)["prune=b"] is None


def test_other_data_shares_no_front(tmp_path: Path) -> None:
    for name, accuracy in (("a", 0.9), ("b", 0.8)):
        point(tmp_path / name, [f"data={name}"], [scored(0, 0.0, accuracy)], state="done")
        data = replace(FACTS.data, fingerprints={"test": name})
        RunFolder(tmp_path / name).write_facts(
            replace(FACTS, data=data, overrides=[f"data={name}"])
        )
    assert [m.label for m in read_sweep(tmp_path).front] == ["data=a", "data=b"]


def test_runs_are_compared_wherever_they_are(tmp_path: Path, capsys) -> None:
    for name, place in (("a", "x"), ("b", "y/z")):
        rounds = [scored(0, 0.0, 0.9), scored(1, 0.5, 0.89)]
        point(tmp_path / place / name, ["rounds=1", f"prune={name}"], rounds, state="done")
        (tmp_path / place / name / "report.html").touch()
    runs = [str(tmp_path / "x/a"), str(tmp_path / "y/z/b")]
    compare([*runs, "--out", str(tmp_path / "out")])
    page = (tmp_path / "out/compare.html").read_text(encoding="utf-8")
    assert 'href="../x/a/report.html"' in page and "prune=b" in page
    assert "sparsest within 1 point of dense" in capsys.readouterr().out
    with pytest.raises(InputError, match="no round of a run"):
        compare([runs[0], str(tmp_path)])
    for same in (runs[:1], [runs[0], str(tmp_path / "y/../x/a")]):
        with pytest.raises(ConfigError, match="name two or more"):
            compare(same)


def test_runs_of_one_command_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        point(tmp_path / name, ["rounds=1"], [scored(0, 0.0, 0.9)], state="done")
    found = read_runs([tmp_path / "a", tmp_path / "b"], tmp_path)
    assert [*found.means] == ["run=a", "run=b"]


def test_no_seed_and_no_bar_falls_off_the_axis(tmp_path: Path) -> None:
    for seed, accuracy in (("0", 0.9), ("1", 0.7)):
        rounds = [scored(0, 0.0, 0.95), scored(1, 0.2, accuracy)]
        point(tmp_path / seed, ["prune=a", f"seed={seed}"], rounds, state="done")
    figure, _ = _figure(read_runs([tmp_path / "0", tmp_path / "1"], tmp_path), str)
    assert figure.axes[0].get_ylim()[0] < 0.8 - 0.2 / 2**0.5  # the mean less the deviation


def test_whose_round_0_was_taken_is_no_setting(tmp_path: Path) -> None:
    for name, words in (("a", []), ("b", ["prune=random", f"start_from={tmp_path}/a"])):
        point(tmp_path / name, words, [scored(0, 0.0, 0.9)], state="done")
    found = read_runs([tmp_path / "a", tmp_path / "b"], tmp_path)
    assert [*found.means] == ["prune=(default)", "prune=random"]


def test_runs_of_one_name_are_told_apart_by_their_places(tmp_path: Path) -> None:
    """Two folders of the same time on other days: no seeds of one setting, and two reports."""
    for day in ("1", "2"):
        point(tmp_path / day / "10-00", ["rounds=1"], [scored(0, 0.0, 0.9)], state="done")
        (tmp_path / day / "10-00/report.html").touch()
    found = read_runs([tmp_path / "1/10-00", tmp_path / "2/10-00"], tmp_path)
    assert [*found.means] == [f"run={tmp_path}/{day}/10-00" for day in ("1", "2")]
    write_sweep(found, "compare")
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert 'href="1/10-00/report.html"' in page and 'href="2/10-00/report.html"' in page


def test_other_matrices_are_compared_by_the_whole_model(tmp_path: Path) -> None:
    for scope, prunable in (("qkv", 500), ("encoder", 1000)):
        rounds = [scored(0, 0.0, 0.9, prunable), scored(1, 0.2, 0.8, prunable)]
        point(tmp_path / scope, [f"prune.scope={scope}"], rounds, state="done")
    sweep = read_sweep(tmp_path)
    assert sweep.by_model and sweep.exit_code == 0
    write_sweep(sweep)
    assert "model sparsity (%)" in (tmp_path / "sweep.html").read_text()


def test_the_files_hold_every_point(sweep: Sweep) -> None:
    (sweep.path / "prune.amount=0.1,seed=0/report.html").touch()
    summary = write_sweep(sweep)
    rows = list(csv.DictReader((sweep.path / "sweep.csv").read_text().splitlines()))
    assert len(rows) == 3 * 2 + 1 + 1
    assert {row["point"] for row in rows} == {p.name for p in sweep.points}
    bad = next(row for row in rows if row["point"] == "bad")
    assert (bad["exit_code"], bad["round"], bad["prune.amount"]) == ("2", "", "2")
    page = (sweep.path / "sweep.html").read_text(encoding="utf-8")
    assert "너무 크다" in page and "0.8500 ± 0.0707" in page
    assert 'href="prune.amount%3D0.1%2Cseed%3D0/report.html"' in page
    tips = re.findall(r'data-tip="([^"]*)"', page)
    assert "prune.amount=0.1, round 1: 10.00% sparse, accuracy 0.8500 ± 0.0707" in tips
    assert (sweep.path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "5 points, 3 done" in summary and "failed: bad (exit code 2)" in summary


def test_hangul_and_signs_in_settings_are_drawn(tmp_path: Path, monkeypatch) -> None:
    """Also where no font has Hangul: a glyph that is missing would be a warning, an error."""
    for name, value in (("a", "data.path='/자료/a&b<c>'"), ("b", "data.path=$x_1$")):
        point(tmp_path / name, [value], [scored(0, 0.0, 0.9), scored(1, 0.2, 0.8)], state="done")
    monkeypatch.setitem(figures._STYLE, "font.family", ["DejaVu Sans"])
    write_sweep(read_sweep(tmp_path))
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    tips = re.findall(r'data-tip="([^"]*)"', page)
    assert "data.path='/자료/a&amp;b&lt;c&gt;', round 1: 20.00% sparse, accuracy 0.8000" in tips
    assert page.count("자료") > 4  # in the legend too


def test_a_seed_that_fell_behind_is_no_survivor_of_the_front(tmp_path: Path) -> None:
    whole = [scored(0, 0.0, 0.9), scored(1, 0.2, 0.85)]
    point(tmp_path / "a", ["seed=0"], [*whole, scored(2, 0.4, 0.95)], state="done")
    point(tmp_path / "b", ["seed=1"], whole, state="failed", exit_code=6, message="lost")
    sweep = read_sweep(tmp_path)
    ((last,),) = [sweep.last]
    assert (last.round, last.seeds, last.members) == (1, 2, 2)
    assert [mean.round for mean in sweep.front] == [0, 1]
    survivor = sweep.means["all seeds"][2]
    assert (survivor.seeds, survivor.members, survivor.pareto) == (1, 2, False)


def test_odd_folders_do_not_hide_the_others(tmp_path: Path) -> None:
    point(tmp_path / "good", ["seed=0", "~finetune"], [scored(0, 0.0, 0.9)], state="done")
    point(tmp_path / "empty", [], [], state="done")
    (tmp_path / "empty/.hydra/overrides.yaml").write_text("")
    point(tmp_path / "cut", ["seed=1"], [scored(0, 0.0, 0.9)], state="done")
    (tmp_path / "cut/STATUS.json").write_text('{"state": "do')
    point(tmp_path / "old", ["seed=2"], [scored(0, 0.0, 0.9)], state="done")
    (tmp_path / "old/rounds.jsonl").write_text('{"round": 0}\n')
    sweep = read_sweep(tmp_path)
    assert {p.name: p.state for p in sweep.points} == {
        "good": "done",
        "empty": "done",
        "cut": "unreadable",
        "old": "unreadable",
    }
    assert "4 points, 2 done" in write_sweep(sweep)


def test_only_points_of_the_last_command_decide_the_exit_code(sweep: Sweep) -> None:
    for name in ("killed", "bad"):
        os.utime(sweep.path / name / ".hydra/overrides.yaml", (1, 1))
    mark_start(sweep.path)
    for folder in sweep.path.glob("prune.*"):
        (folder / ".hydra/overrides.yaml").touch()
    again = read_sweep(sweep.path)
    assert again.exit_code == 0 and len(again.unfinished) == 2


def test_no_points_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sweep"):
        read_sweep(tmp_path)


# -- the command ---------------------------------------------------------------------------


def test_a_sweep_is_run_summarised_and_skipped_when_repeated(tmp_path: Path) -> None:
    """One bad point, a swept precision, and a value that is no good folder name."""
    swept = ("-m", "prune.amount=0.2,1.5", "finetune.precision=fp32,bf16", *SWEEP)
    life = Life(tmp_path, *swept, 'prune.include=["*.layer.0.*.key.weight"]')
    assert life.wait() == 2, life.errors
    assert life.errors.count("pruneloop: prune.amount=1.5") == 2
    folder = tmp_path / "sweep"
    points = sorted(path.name for path in folder.glob("finetune*"))
    assert points == [
        f"finetune.precision={precision},prune.amount={amount}"
        for precision in ("bf16", "fp32")
        for amount in ("0.2", "1.5")
    ]
    assert {"sweep.csv", "sweep.html", "sweep.png"} < {path.name for path in folder.iterdir()}
    assert "4 points, 2 done" in life.output
    before = read_rounds(folder / points[0])
    life = Life(tmp_path, *swept, 'prune.include=["*.layer.0.*.key.weight"]')
    assert life.wait() == 2
    assert life.output.count("this run is finished already") == 2
    assert read_rounds(folder / points[0]) == before  # seconds too: nothing ran again


@pytest.mark.more
def test_a_refused_point_keeps_its_numbers_and_is_said(command: Command, tmp_path: Path) -> None:
    """Other settings in the folder of a finished sweep: the old numbers stay the old ones'.

    By joblib, so that the word of the points reaches the command through their folders only.
    """
    swept = ("-m", "seed=0,1", "hydra/launcher=joblib", *SWEEP)
    assert command(*swept).returncode == 0
    result = command(*swept, "finetune.epochs=3")
    assert result.returncode == 4, result.stderr
    page = (tmp_path / "sweep/sweep.html").read_text()
    assert "finetune.epochs (was 1, is 3)" in page and "finetune.epochs=3" not in page
    assert "2 points, 0 done" in result.stdout
    result = command(*swept)
    assert result.returncode == 0 and "2 points, 2 done" in result.stdout


def break_seed_1() -> None:
    """Plant a bug of ours, which only the second point meets."""

    def bug() -> NoReturn:
        raise ZeroDivisionError("a bug")

    before_call(READING, 2, bug)


@pytest.mark.more
def test_a_bug_in_one_point_does_not_stop_the_others(tmp_path: Path) -> None:
    life = Life(tmp_path, "-m", "seed=0,1", *SWEEP, before=break_seed_1)
    assert life.wait() == 1
    assert "ZeroDivisionError: a bug" in life.errors and "Traceback" in life.errors
    assert "2 points, 1 done" in life.output
    status = read_status(tmp_path / "sweep/seed=1")
    assert (status["state"], status["exit_code"]) == ("failed", 1)


@pytest.mark.more
def test_a_stopped_sweep_goes_on(tmp_path: Path) -> None:
    """A signal stops the whole sweep, not only its point; the same command resumes it."""
    swept = ("-m", "seed=0,1", *SWEEP)
    first, second = tmp_path / "sweep/seed=0", tmp_path / "sweep/seed=1"
    life = Life(tmp_path, *swept, before=functools.partial(signal_at, BACKWARD, 3, signal.SIGTERM))
    assert life.wait() == 75, life.errors
    assert first.exists() and not second.exists()
    life = Life(tmp_path, *swept)
    assert life.wait() == 0, life.errors
    assert [len(read_rounds(folder)) for folder in (first, second)] == [2, 2]


@pytest.mark.more
def test_point_names_are_flat(tmp_path: Path) -> None:
    names = ("a/b", "c/d")
    life = Life(tmp_path, "-m", f"model.name={','.join(names)}", *SWEEP, "model=pretrained")
    assert life.wait() == 2  # the tiny model's keys are none of a pretrained one
    life = Life(
        tmp_path,
        *("-m", "model=pretrained", f"model.name={','.join(names)}", "data.train_rows=240,250"),
        *("hydra.sweep.dir=sweep", "device=cpu"),
    )
    assert life.wait() == 5, life.errors
    folders = [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]
    assert len(folders) == 4 and all((path / "STATUS.json").exists() for path in folders)
    statuses = [read_status(path) for path in folders]
    assert {(status["state"], status["exit_code"]) for status in statuses} == {("failed", 5)}


def test_an_impossible_value_stops_a_sweep_before_it_starts(tmp_path: Path) -> None:
    assert "abc" in lived_line(tmp_path, 2, "-m", "prune.amount=0.2,abc", *SWEEP)
    assert not list(tmp_path.glob("sweep/*/"))


# -- searches and presets ---------------------------------------------------------------------


def easy(folder: Path) -> tuple[str, ...]:
    """Write rows that the smallest model learns; return a search on them."""
    lines = "".join(f"좋은 영화 {n},1\n싫은 영화 {n},0\n" for n in range(120))
    (folder / "easy.csv").write_text(f"text,label\n{lines}", encoding="utf-8")
    data = ("data=files", f"data.train={folder / 'easy.csv'}")
    learning = ("finetune.dense_epochs=12", "finetune.dense_learning_rate=1e-2")
    return (*data, *SMALL_MODEL, *SHORT, *learning, "rounds=1", "hydra.sweep.dir=sweep")


@pytest.mark.more
def test_a_search_does_not_score_a_model_at_chance(tmp_path: Path) -> None:
    """One epoch over 216 rows has learnt nothing."""
    life = Life(tmp_path, "experiment=search", "hydra.sweeper.n_trials=1", *SWEEP)
    assert life.wait() == 6, life.errors
    (line,) = [line for line in life.errors.splitlines() if line.startswith("pruneloop: ")]
    assert "its dense model is at chance, so the search does not score it" in line
    (run,) = (tmp_path / "sweep").glob("prune.*")
    assert (run / "checkpoint").is_dir() and read_status(run)["state"] == "done"


@pytest.mark.more
def test_a_search_finds_the_sparsest_and_skips_what_it_has_done(tmp_path: Path) -> None:
    search = ("experiment=search", "hydra.sweeper.n_trials=3", "budget.max_drop=0.99")
    search += easy(tmp_path)
    life = Life(tmp_path, *search)
    assert life.wait() == 0, life.errors
    best = yaml.safe_load((tmp_path / "sweep/optimization_results.yaml").read_text())
    found = [read_rounds(path)[-1]["sparsity"] for path in (tmp_path / "sweep").glob("prune.*")]
    assert len(found) == 3 and best["best_value"] == max(found)  # every drop is allowed
    life = Life(tmp_path, *search)
    assert life.wait() == 0, life.errors
    assert life.output.count("this run is finished already") == 3


@pytest.mark.more
def test_a_search_has_two_objectives_where_asked(tmp_path: Path) -> None:
    life = Life(tmp_path, "experiment=search_front", "hydra.sweeper.n_trials=2", *easy(tmp_path))
    assert life.wait() == 0, life.errors
    results = yaml.safe_load((tmp_path / "sweep/optimization_results.yaml").read_text())
    runs = [read_rounds(path)[-1] for path in (tmp_path / "sweep").glob("prune.*")]
    ends = [[run["sparsity"], run["accuracy"]] for run in runs]
    assert results["solutions"] and all(s["values"] in ends for s in results["solutions"])


@pytest.mark.parametrize(
    ("preset", "first", "last"),
    [
        pytest.param(
            *("sweep_amount", "prune.amount=0.1,seed=0", "prune.amount=0.4,seed=2"),
            marks=pytest.mark.more,
        ),
        pytest.param(
            *("sweep_scope", "prune.scope=qkv,seed=0", "prune.scope=encoder,seed=2"),
            marks=pytest.mark.more,
        ),
        pytest.param(
            *("sweep_method", "prune=global_l1,seed=0", "prune=random,seed=2"),
            marks=pytest.mark.more,
        ),
    ],
)
def test_a_preset_sweeps_what_it_says(tmp_path: Path, preset: str, first: str, last: str) -> None:
    """Nine points each; rounds=0 ends every point before it costs anything."""
    life = Life(tmp_path, f"experiment={preset}", *SWEEP, "rounds=0")
    assert life.wait() == 2
    points = {path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()}
    assert len(points) == 9 and {first, last} < points


@pytest.mark.parametrize(
    "words",
    [
        ("hydra.sweeper.params={a:1}",),
        pytest.param(("hydra/launcher=joblib", "hydra.launcher.n_jobs=0"), marks=pytest.mark.more),
        pytest.param(("experiment=search", "hydra.sweeper.direction=up"), marks=pytest.mark.more),
    ],
)
def test_what_starts_no_point_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    line = lived_line(tmp_path, 2, "-m", *words, *SWEEP, "seed=0,1")
    assert words[-1] in line and "cannot be started with" in line


@pytest.mark.more
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("data=nsmc", "data.path=/nowhere"), 3, "data.path=/nowhere: no such folder"),
        (("hydra.sweeper.storage=sqlite:////nowhere/x.db",), 5, "the search's storage: "),
    ],
)
def test_a_search_that_comes_to_nothing_has_no_traceback(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    search = ("experiment=search", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=sweep")
    life = Life(tmp_path, *search, "rounds=1", *words)
    assert life.wait() == code, life.errors
    assert said in life.errors and "Traceback" not in life.errors
