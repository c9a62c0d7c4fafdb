"""experiment=smallest: rungs as ordinary runs, judged as int8, and the smallest one kept."""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from signal import SIGTERM
from types import SimpleNamespace

import pytest
from support import (
    BUDGET,
    SMALL,
    Life,
    composed,
    die_at,
    experiment,
    read_rounds,
    read_status,
    signal_at,
)
from transformers import AutoModelForSequenceClassification

from pruneloop import pipeline
from pruneloop.command.run import check_command
from pruneloop.command.verbs import evaluate, report
from pruneloop.config import Config, Criterion, PretrainedModel, UnitPruneConfig
from pruneloop.errors import CheckpointError, ConfigError, EnvironmentFault, InputError
from pruneloop.exports import onnx_files
from pruneloop.ladder import climbing
from pruneloop.ladder.climbing import climb
from pruneloop.ladder.judging import Judge, Worth
from pruneloop.ladder.outcome import Attempt, Outcome
from pruneloop.ladder.rungs import RUNGS, Start, first_run, run_from

SMALLEST = "experiment=smallest"
SHORT = [word for word in SMALL if word != "rounds=2"]


def config_of(*words: str) -> Config:
    return composed(*SHORT, "model.layers=4", SMALLEST, *words)


# -- which rungs are tried, and which one is kept ------------------------------------------------

SIZES = {"rounds": 100, "ffn2": 80, "ffn4": 70, "layers2-ffn2": 50, "layers2-ffn4": 40}

Climb = Callable[..., tuple[Outcome, dict[str, Config]]]


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as if `deploy` were installed: nothing of it is used here."""
    monkeypatch.setattr(climbing, "check_installed", lambda _: None)


@pytest.fixture
def noted(tmp_path: Path, extra: None, monkeypatch: pytest.MonkeyPatch) -> Climb:
    """Climb with runs that are only noted, and int8 files of a made-up worth; all else has 0.9."""

    def start(layers: int = 4, **worth: float) -> tuple[Outcome, dict[str, Config]]:
        runs: dict[str, Config] = {}

        def run(config: Config, path: Path, _: list[str], accepted: Callable[[], None]) -> None:
            runs[path.name] = config
            accepted()

        def int8(_: Judge, checkpoint: Path) -> Worth:
            name = checkpoint.parent.name
            size = SIZES.get(name.removesuffix("-again"), 30)
            return Worth(worth.get(name.replace("-", "_"), 0.9), 0.8, 10, size)

        loading = SimpleNamespace(from_pretrained=lambda _, **__: None)
        monkeypatch.setattr(pipeline, "run", run)
        monkeypatch.setattr(Judge, "int8", int8)
        monkeypatch.setattr(Judge, "float32", lambda *_: Worth(0.9, 0.8))
        monkeypatch.setattr(climbing, "AutoConfig", loading)
        monkeypatch.setattr(climbing, "layers_that_can_go", lambda _: layers - 1)
        monkeypatch.setattr(climbing.Ladder, "_hand_over", lambda *_: None)
        return climb(config_of(), tmp_path, []), runs

    return start


def best(outcome: Outcome) -> str:
    assert outcome.best is not None
    return outcome.best.checkpoint


def test_all_rungs_are_tried_and_the_smallest_is_kept(noted: Climb, tmp_path: Path) -> None:
    outcome, runs = noted()
    assert list(runs) == [rung.name for rung in RUNGS]
    assert [found.rung for found in outcome.tries] == ["int8", *runs]
    assert best(outcome) == "layers4-ffn2/checkpoint"
    with (tmp_path / "ladder.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kept"] for row in rows] == ["False"] * 5 + ["True"]
    written = json.loads((tmp_path / "ladder.json").read_text(encoding="utf-8"))
    assert written["dense"] == 0.9 and len(written["tries"]) == 6
    assert read_status(tmp_path)["state"] == "done"


def test_a_rung_that_fails_twice_ends_its_branch(noted: Climb) -> None:
    """Width fails; depth goes on, but for the rung that is as narrow as the one that failed."""
    outcome, runs = noted(ffn4=0.88, ffn4_again=0.889)
    assert list(runs) == ["ffn2", "ffn4", "ffn4-again", "layers2-ffn2", "layers4-ffn2"]
    assert [found.within for found in outcome.tries] == [True, True, False, False, True, True]
    assert runs["ffn4-again"].finetune.epochs == 2 * runs["ffn4"].finetune.epochs


def test_depth_fails_and_width_is_kept(noted: Climb) -> None:
    outcome, runs = noted(layers2_ffn2=0.5, layers2_ffn2_again=0.5)
    assert list(runs) == ["ffn2", "ffn4", "layers2-ffn2", "layers2-ffn2-again"]
    assert best(outcome) == "ffn4/checkpoint"


def test_a_retry_that_holds_is_what_the_others_start_from(noted: Climb) -> None:
    outcome, runs = noted(ffn2=0.8, layers4_ffn2=0.8, layers4_ffn2_again=0.8)
    model = runs["ffn4"].model
    assert isinstance(model, PretrainedModel)
    assert model.name.endswith("rungs/ffn2-again/checkpoint")
    assert runs["ffn2-again"].start_from is not None
    assert runs["ffn2-again"].start_from.endswith("rungs/ffn2")
    assert best(outcome) == "layers2-ffn4/checkpoint"


def test_int8_alone_may_be_all_that_is_left(noted: Climb) -> None:
    outcome, runs = noted(ffn2=0.8, ffn2_again=0.8)
    assert list(runs) == ["ffn2", "ffn2-again"] and best(outcome) == "ffn2/rounds/00"


def test_nothing_within_the_budget_is_nothing(noted: Climb) -> None:
    outcome, _ = noted(rounds=0.85, ffn2=0.8, ffn2_again=0.8)
    assert outcome.best is None
    assert [line.endswith("0.8000") for line in outcome.table()] == [False, True, True, True]


def test_what_has_one_layer_loses_none(noted: Climb) -> None:
    _, runs = noted(layers=1)
    assert list(runs) == ["ffn2", "ffn4"]


def test_of_equally_small_files_the_better_is_kept() -> None:
    def attempt(name: str, lost: float) -> Attempt:
        numbers = {"parameters": 1, "int8_bytes": 5, "validation": 0.9 - lost, "test": 0.9}
        return Attempt(
            rung=name, model=name, epochs=1, lost=lost, within=True, checkpoint=name, **numbers
        )

    assert best(Outcome([attempt("a", 0.01), attempt("b", 0.0)], 0.9, 0.01)) == "b"


# -- what a rung runs ----------------------------------------------------------------------------


def test_the_first_rung_trains_round_0_and_keeps_it() -> None:
    config = first_run(config_of("finetune.epochs=3", "start_from=/other"), None)
    assert config.keep_rounds and config.budget.max_drop is None and not config.ladder
    assert config.finetune.dense_epochs == 1 and config.start_from == "/other"
    assert config.distill.teacher is None and config.finetune.epochs == 3


def test_the_others_prune_a_checkpoint_and_follow_round_0() -> None:
    start = Start(Path("/a/checkpoint"), Path("/a/dense"))
    by_name = {rung.name: rung for rung in RUNGS}
    words = ("prune.units=[ffn,heads]", "prune.criterion=taylor", "start_from=/other")
    whole = config_of(*words)
    config = run_from(whole, by_name["layers2-ffn2"], start, again=True)
    assert isinstance(config.prune, UnitPruneConfig) and config.prune.units == ["layers"]
    assert config.prune.criterion == Criterion.magnitude  # taylor does not rank layers
    assert config.finetune.dense_epochs == 0 and config.finetune.epochs == 2
    assert config.distill.teacher == "/a/dense" and config.start_from is None
    assert isinstance(config.model, PretrainedModel) and config.model.name == "/a/checkpoint"
    assert config.model.max_length == whole.model.max_length
    config = run_from(whole, by_name["ffn4"], start, again=False)
    assert isinstance(config.prune, UnitPruneConfig) and config.prune.units == ["ffn", "heads"]
    assert config.prune.criterion == Criterion.taylor and config.finetune.epochs == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rounds=2"], "rounds=2: excludes ladder=true; a rung is one round that takes half"),
        (["prune.amount=0.3"], r"prune\.amount=0\.3: excludes ladder=true"),
        (["control=true"], "control=True: excludes ladder=true"),
        (["rewind=weights"], r"rewind\.weights=True: excludes ladder=true"),
        (["budget.max_drop=null"], r"budget\.max_drop=null: must say what a rung may lose"),
        (["prune.units=[layers]"], r"ladder=true: needs prune=units"),
        (["prune=global_l1"], r"ladder=true: needs prune=units"),
    ],
)
def test_what_a_ladder_excludes(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_command(config_of(*words), swept=False)


def test_the_extra_is_asked_for_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None)
    said = r'experiment=smallest: .* missing; pip install "pruneloop\[deploy\]"'
    with pytest.raises(EnvironmentFault, match=said):
        climb(config_of(), tmp_path / "run", [])
    assert not (tmp_path / "run").exists()


@pytest.mark.more
def test_a_ladder_is_no_point_of_a_sweep(tmp_path: Path) -> None:
    life = Life(tmp_path, "-m", *SHORT, SMALLEST, "seed=0,1")
    assert life.wait() == 2
    assert life.errors.count("ladder=true: is many runs, and no point of a sweep") == 2


def test_one_process_climbs(tmp_path: Path, extra: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="in one process"):
        climb(config_of(), tmp_path / "run", [])


def test_the_report_of_a_ladder_is_that_of_a_rung(tmp_path: Path) -> None:
    (tmp_path / "rungs").mkdir()
    with pytest.raises(InputError, match="it is a ladder: name one of its rungs/"):
        report([str(tmp_path)])


def test_a_ladder_and_a_run_do_not_share_a_folder(tmp_path: Path, extra: None) -> None:
    (tmp_path / "rungs").mkdir()
    with pytest.raises(CheckpointError, match="holds the rungs of a ladder"):
        experiment(composed(*SMALL), tmp_path, [])
    (tmp_path / "rounds.jsonl").touch()
    with pytest.raises(CheckpointError, match="holds a run that is no ladder"):
        climb(config_of(), tmp_path, [])


# -- end to end ----------------------------------------------------------------------------------

LEARNS = [word for word in BUDGET if not word.startswith(("prune", "rounds", "budget"))]
REAL = (*LEARNS, "rounds=1", "model.layers=2", SMALLEST, "finetune.learning_rate=1e-3")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "rungs").iterdir())


@pytest.mark.more
def test_a_killed_ladder_goes_on_and_leaves_the_smallest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed while it judges the third checkpoint: two rungs are done, and not run again."""
    line = (*REAL, "budget.max_drop=0.3", "hydra.run.dir=run")
    place = ("pruneloop.ladder.judging", "judge_int8")
    life = Life(tmp_path, *line, before=partial(die_at, place, 3))
    assert life.wait(300) == -9, life.errors
    folder = tmp_path / "run"
    assert names(folder) == ["ffn2", "ffn4"]
    records = [folder / "rungs" / name / "rounds.csv" for name in names(folder)]
    before = [file.stat().st_mtime_ns for file in records]
    life = Life(tmp_path, *line)
    assert life.wait(300) == 0, life.errors
    assert [file.stat().st_mtime_ns for file in records] == before
    outcome = json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    assert outcome["dense"] == pytest.approx(read_rounds(folder / "rungs/ffn2")[0]["accuracy"])
    within = [found for found in outcome["tries"] if found["within"]]
    smallest = min(within, key=lambda found: found["int8_bytes"])
    (kept,) = [found for found in outcome["tries"] if found["kept"]]
    assert kept == smallest and kept["int8_bytes"] < outcome["tries"][0]["int8_bytes"]
    assert (folder / "deploy/model.int8.onnx").stat().st_size == kept["int8_bytes"]
    deployed = json.loads((folder / "deploy/deploy.json").read_text(encoding="utf-8"))
    assert deployed["model"] == "model.int8.onnx"
    model = AutoModelForSequenceClassification.from_pretrained(folder / "checkpoint")
    assert model.num_parameters() == kept["parameters"]
    assert model.config.pruneloop_dense["width"] == 32
    assert "## Ladder" in (folder / "checkpoint/README.md").read_text(encoding="utf-8")
    evaluate([str(folder / "deploy"), "--json"])
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(kept["test"])
    for said in ("int8 alone", "half the feed-forward", "within"):
        assert said in life.output
    # A third time, all is there: nothing is written again.
    files = [folder / "deploy/deploy.json", folder / "checkpoint/config.json"]
    times = [file.stat().st_mtime_ns for file in files]
    life = Life(tmp_path, *line)
    assert life.wait(300) == 0, life.errors
    assert [file.stat().st_mtime_ns for file in files] == times
    # Another budget is judged by what was measured, and only deploy/ is written again.
    other = climb(composed(*REAL, "budget.max_drop=0.29"), folder, [])
    assert [file.stat().st_mtime_ns for file in records] == before
    assert other.max_drop == 0.29 and other.best is not None
    deployed = json.loads((folder / "deploy/deploy.json").read_text(encoding="utf-8"))
    assert deployed["max_drop"] == 0.29 and deployed["model"] == "model.int8.onnx"


@pytest.mark.more
def test_a_signal_while_a_rung_is_judged_stops_the_ladder(tmp_path: Path) -> None:
    before = partial(signal_at, ("pruneloop.ladder.judging", "judge_int8"), 1, SIGTERM)
    life = Life(tmp_path, *REAL, "hydra.run.dir=run", before=before)
    assert life.wait(300) == 75, life.errors
    assert read_status(tmp_path / "run")["state"] == "preempted"
    assert read_status(tmp_path / "run/rungs/ffn2")["state"] == "done"


@pytest.mark.more
def test_without_any_room_round_0_itself_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge is made one that finds every int8 file bad; float32 is then served."""
    config = composed(*REAL, "budget.max_drop=0.0")
    monkeypatch.setattr(Judge, "int8", lambda *_: Worth(0.5, 0.5, 10, 10))
    monkeypatch.setattr("pruneloop.deployment.making.choose", lambda *_: None)
    outcome = climb(config, tmp_path, [])
    assert outcome.best is None and names(tmp_path) == ["ffn2", "ffn2-again"]
    deployed = json.loads((tmp_path / "deploy/deploy.json").read_text(encoding="utf-8"))
    assert deployed["model"] == "model.onnx"
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint")
    assert model.config.intermediate_size == 32 and model.config.num_hidden_layers == 2
