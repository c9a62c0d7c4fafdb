"""What a run sets out to do: known before anything trains, and true to the number."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import (
    BUDGET,
    SHORT,
    SMALL,
    SMALL_DATA,
    composed,
    experiment,
    read_facts,
    read_rounds,
    record,
)
from torch import Tensor

from pruneloop import pipeline
from pruneloop.engine import Engine
from pruneloop.errors import ConfigError
from pruneloop.plan import make_plan
from pruneloop.pruning import Masks
from pruneloop.records import RunFolder, last_kept
from pruneloop.rounding import check_takes
from pruneloop.training import FineTuning, Recipe

WEIGHTS = {"a": torch.ones(20, 10), "b": torch.ones(10, 10)}


def plan(*overrides: str, masks: Masks | None = None):
    return make_plan(composed(*overrides), masks or Masks.dense(WEIGHTS))


# -- room ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        ("prune.max_layer_sparsity=0.5", "prune.target_sparsity=0.8"),
        ("prune.max_layer_sparsity=0.5", "prune.amount=0.5", "rounds=2"),
        ("prune=random", "prune.max_layer_sparsity=0.3", "rounds=5"),
        ("prune=layer_l1", "prune.max_layer_sparsity=0.3", "rounds=5"),
        ("prune=taylor", "prune.max_layer_sparsity=0.3", "rounds=5"),
        ("prune=structured_ln", "prune.max_layer_sparsity=0.3", "rounds=5"),
    ],
)
def test_what_the_cap_cannot_hold_is_known_before_training(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"prune\.max_layer_sparsity=0\.[35]: leaves room for"):
        plan(*overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("prune.amount=0.000001",), "round 1 would take none of the 300 that are left"),
        (("prune.amount=0.2", "rounds=40"), "would take none of the 2 that are left"),
        (("prune.target_sparsity=0.02", "rounds=9"), "try fewer rounds"),
    ],
)
def test_a_round_that_takes_nothing_is_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_takes(plan(*overrides), Masks.dense(WEIGHTS))


def test_groups_that_lose_no_more_are_named() -> None:
    rows = ("prune=structured_ln", "prune.dim=0", "prune.amount=0.04", "rounds=2")
    said = check_takes(plan(*rows), Masks.dense(WEIGHTS))
    assert said is not None and "rounds to 0 of what 1 groups" in said
    assert said.endswith("lose no more: b (from round 1)")
    for sound in (
        ("rounds=5",),
        ("prune.target_sparsity=0.5", "prune.schedule=oneshot"),
        ("prune=n_m", "prune.pattern=[1,2]", "rounds=3"),
    ):
        assert check_takes(plan(*sound), Masks.dense(WEIGHTS)) is None


def test_a_cap_that_just_holds_the_plan_is_taken() -> None:
    made = plan("prune.max_layer_sparsity=0.8", "prune.target_sparsity=0.8")
    assert made.zeros[-1] == (240, 240)


def test_a_matrix_keeps_its_last_weight_in_every_plan() -> None:
    tiny = Masks.dense({"a": torch.ones(1, 2), "b": torch.ones(1, 2)})
    with pytest.raises(ConfigError, match="3 to go, 2 can"):
        plan("prune.target_sparsity=0.75", "rounds=1", masks=tiny)


def test_an_impossible_plan_trains_nothing(tmp_path: Path) -> None:
    overrides = ("prune.max_layer_sparsity=0.5", "prune.target_sparsity=0.8")
    with pytest.raises(ConfigError, match="leaves room for"):
        experiment(composed(*SMALL, *overrides), tmp_path, [])
    assert not (tmp_path / "rounds.jsonl").exists()


# -- zeros --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A permanent checkpoint with unstructured zeros."""
    folder = tmp_path_factory.mktemp("plan") / "run"
    folder.mkdir()
    experiment(composed(*SMALL, "prune.amount=0.4"), folder, [])
    return folder / "checkpoint"


def further(folder: Path, model: Path, *overrides: str) -> list[dict]:
    folder.mkdir()
    start = ("model=pretrained", f"model.name={model}", *SMALL_DATA, *SHORT)
    experiment(composed(*start, *overrides), folder, list(overrides))
    return read_rounds(folder)


@pytest.mark.parametrize("dim", [0, 1])
def test_the_plan_over_unstructured_zeros_is_true(pruned: Path, tmp_path: Path, dim: int) -> None:
    """How many weights a row still has differs: the plan says at least and at most."""
    rounds = further(tmp_path / "run", pruned, "prune=structured_ln", f"prune.dim={dim}")
    facts = read_facts(tmp_path / "run")
    fewest, most = facts["planned_zeros_at_least"], facts["planned_zeros"]
    found = [r["zeros"] for r in rounds]
    assert all(a <= zeros <= b for a, zeros, b in zip(fewest, found, most, strict=True))
    assert fewest[0] == most[0] == found[0] and fewest[1] < most[1]


def unmarked(checkpoint: Path, target: Path) -> Path:
    """Return a copy whose config does not say that it was pruned, as of a quantised model."""
    shutil.copytree(checkpoint, target)
    config = target / "config.json"
    lines = config.read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if '"pruneloop"' in line)
    config.write_text("\n".join(lines[:begin] + lines[begin + 4 :]))
    return target


@pytest.mark.more
def test_zeros_that_nobody_pruned_train_like_the_others(pruned: Path, tmp_path: Path) -> None:
    quantised = unmarked(pruned, tmp_path / "quantised")
    rounds = further(tmp_path / "free", quantised, "rounds=1")
    assert rounds[0]["zeros"] == 0
    assert rounds[1]["zeros"] == round(0.2 * rounds[1]["prunable"])
    kept = further(tmp_path / "kept", quantised, "rounds=1", "prune.keep_zeros=true")
    marked = further(tmp_path / "marked", pruned, "rounds=1")
    assert kept[0]["zeros"] == marked[0]["zeros"] > 0


# -- finished -----------------------------------------------------------------------------


def test_a_finished_run_builds_nothing(
    pruned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a finished run needs none")

    for name in ("assemble", "Tracking", "Loop"):
        monkeypatch.setattr(pipeline, name, never)
    folder = pruned.parent
    records = pipeline.run(composed(*SMALL, "prune.amount=0.4"), folder, [])
    assert records == RunFolder(folder).read_rounds()


# -- budget -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "allowed"), [(-0.05, True), (0.0, True), (0.01, True), (0.0101, False)]
)
def test_a_budget_allows_exactly_its_drop(lost: float, allowed: bool) -> None:
    dense, other = record(0, None), record(1, 0.5)
    other = other.__class__(**{**other.__dict__, "accuracy": dense.accuracy - lost})
    assert plan("budget.max_drop=0.01").accepts(dense, other) == allowed


def test_a_budget_halves_what_a_round_takes() -> None:
    masks = Masks.dense(WEIGHTS)
    made = plan("budget.max_drop=0.01", "prune.amount=0.2")
    assert [made.drops(1, factor, masks) for factor in (1.0, 0.5, 0.25)] == [[60], [30], [15]]
    # 0.2 / 16 is below min_amount=0.02; 0.2 / 8 is not.
    assert not made.enough(3, 1 / 8, masks) and made.enough(3, 1 / 16, masks)
    scheduled = plan("budget.max_drop=0.01", "prune.target_sparsity=0.8", "prune.schedule=linear")
    assert [scheduled.drops(1, factor, masks) for factor in (1.0, 0.5)] == [[48], [24]]


def test_an_amount_below_the_budgets_smallest_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget\.min_amount=0\.02"):
        plan("budget.max_drop=0.01", "prune.amount=0.01")


def test_a_round_that_loses_too_much_is_undone(tmp_path: Path) -> None:
    """Records of all tries; the checkpoint is the kept round's, and so are its zeros."""
    experiment(composed(*BUDGET), tmp_path, [])
    folder = RunFolder(tmp_path)
    rounds = folder.read_rounds()
    assert [r.round for r in rounds] == list(range(len(rounds)))
    undone = [r for r in rounds if not r.kept]
    assert undone, "nothing was lost: this tests nothing"
    for r in rounds:
        assert r.kept == (rounds[0].accuracy - r.accuracy <= 0.02 + 1e-9)
        before = last_kept(rounds[: r.round]) if r.round else r
        failed = sum(not other.kept for other in rounds[: r.round])
        left = before.prunable - before.zeros
        assert r.round == 0 or r.zeros - before.zeros == round(0.5 / 2**failed * left)
    kept = last_kept(rounds)
    assert exported_zeros(tmp_path) == kept.zeros
    pruned_right = sum(row.pruned == row.label for row in folder.read_predictions())
    assert pruned_right / 60 == kept.test_accuracy


def exported_zeros(folder: Path) -> int:
    from transformers import AutoModelForSequenceClassification

    from pruneloop.pruning import prunable_weights

    model = AutoModelForSequenceClassification.from_pretrained(folder / "checkpoint")
    weights: dict[str, Tensor] = prunable_weights(model)
    return Masks.from_zeros(weights).zeros


# -- rewinding ------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 0.5, 1])
def test_kept_weights_go_back_to_the_early_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: float
) -> None:
    """At the first step of rounds 1 and 2: bit for bit, biases and head too, zeros aside."""
    starts: list[dict[str, Tensor]] = []
    real = Engine.fine_tuning

    def fine_tuning(self: Engine, number: int, recipe: Recipe, *rest: object) -> FineTuning:
        starts.append({name: t.clone() for name, t in self.pruned.tensors().items()})
        starts[-1] |= {f"mask {name}": mask for name, mask in self.pruned.masks.items()}
        return real(self, number, recipe, *rest)

    monkeypatch.setattr(Engine, "fine_tuning", fine_tuning)
    learning = ("finetune.dense_learning_rate=1e-2", "finetune.dense_epochs=2")
    experiment(composed(*SMALL, *learning, "rewind=weights", f"rewind.epoch={epoch}"), tmp_path, [])
    early = load_file(tmp_path / "state/archive/early/model.safetensors")
    dense, *rounds = starts
    assert all(torch.equal(early[name], dense[name]) for name in early) == (epoch == 0)
    assert len(rounds) == 2
    for start in rounds:
        for name, value in early.items():
            kept = start.get(f"mask {name}", torch.ones_like(value, dtype=torch.bool))
            assert torch.equal(start[name], value * kept)


def test_rewinding_to_behind_the_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rewind\.epoch=3\.0: is behind the end"):
        composed("rewind=weights", "rewind.epoch=3", "finetune.dense_epochs=2")


# -- the last weight of a matrix ------------------------------------------------------------


EMPTYING = (*SMALL, "prune.amount=0.77", "rounds=4")


def test_a_round_that_would_empty_a_matrix_ends_the_run_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment(composed(*EMPTYING), tmp_path, [])
    rounds = read_rounds(tmp_path)
    assert 1 < len(rounds) < 5 and all(r["kept"] for r in rounds)
    assert f"the run ends before round {len(rounds)}" in caplog.text
    assert "would lose its last weight" in caplog.text
    weights = load_file(tmp_path / "checkpoint/model.safetensors")
    zeros = sum(int((weights[name] == 0).sum()) for name in weights if "layer.0" in name)
    assert zeros >= rounds[-1]["zeros"]
    caplog.clear()
    before = read_rounds(tmp_path)
    experiment(composed(*EMPTYING), tmp_path, [])  # and it is finished
    assert "finished already" in caplog.text or read_rounds(tmp_path) == before


@pytest.mark.more
def test_a_budget_tries_half_of_what_would_empty_a_matrix(tmp_path: Path) -> None:
    """Nothing is lost from a model that has learnt nothing: only the last weight stops it."""
    alone = tmp_path / "alone"
    experiment(composed(*EMPTYING), alone, [])
    experiment(composed(*EMPTYING, "budget.max_drop=0.9"), tmp_path / "budget", [])
    found = read_rounds(tmp_path / "budget")
    assert found[-1]["zeros"] > read_rounds(alone)[-1]["zeros"]
    assert [r["round"] for r in found] == list(range(len(found)))
