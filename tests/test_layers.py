"""Whole layers go: skipped while the model trains, and gone from the checkpoint."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import (
    LONG,
    SMALL,
    STEP,
    TORCHRUN,
    Command,
    Life,
    composed,
    die_at,
    experiment,
    read_facts,
    read_rounds,
    small_classifier,
)
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pruneloop import engine
from pruneloop.data import sample
from pruneloop.deployment.trial import dense_model
from pruneloop.errors import ConfigError, InputError, InvariantError
from pruneloop.evaluation import mean_loss
from pruneloop.evidence import turns
from pruneloop.exports import smaller
from pruneloop.exports.smaller import size
from pruneloop.model.tokenizers import train_wordpiece
from pruneloop.plan import Plan
from pruneloop.pruning import (
    Absence,
    LayerGroups,
    Masks,
    PrunedModel,
    Random,
    UnitMethod,
    prunable_weights,
)
from pruneloop.shrinking import encoder_layers, without_layers

FAMILIES = ["Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "DebertaV2", "ModernBert"]

UNITS = ("prune=units", "prune.units=[layers]", "prune.amount=0.5")
LAYERS = (*SMALL, "model.layers=4", *UNITS)


def run(folder: Path, *overrides: str) -> Path:
    experiment(composed(*overrides), folder, [])
    return folder


def loaded(folder: Path) -> PreTrainedModel:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder / "checkpoint", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


def logits(model: PreTrainedModel) -> Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(24).view(2, 12)).logits


def pruned_model(family: str, layers: int = 4) -> PrunedModel:
    model = small_classifier(family, num_hidden_layers=layers)
    weights = prunable_weights(model)
    return PrunedModel(model, weights, Masks.dense(weights), encoder_layers(model))


# -- the method --------------------------------------------------------------------------------


def names(number: int) -> list[str]:
    return [f"a.layer.{number}.output.dense.weight", f"a.layer.{number}.intermediate.dense.weight"]


def by_turns(*given: float) -> dict[str, Tensor]:
    return {name: torch.tensor(turn) for number, turn in enumerate(given) for name in names(number)}


def test_four_layers_by_hand() -> None:
    masks = Masks.dense({name: torch.ones(2, 3) for n in range(4) for name in names(n)})
    method = UnitMethod(Absence(), LayerGroups(), 2)
    assert method.units(masks) == [4] and method.room(masks) == [3]
    assert method.zeros(masks, [2]) == (24, 24)
    left = method.prune(masks, masks, [2], by_turns(3.0, 1.0, 4.0, 2.0))
    assert [bool(left[names(n)[0]].all()) for n in range(4)] == [True, False, True, False]
    assert [bool(left[names(n)[1]].any()) for n in range(4)] == [True, False, True, False]
    assert method.units(left) == [2] and method.room(left) == [1]
    with pytest.raises(ValueError, match="cannot take 2 out of 1"):
        method.prune(masks, left, [2], by_turns(1.0, 0.0, 2.0, 0.0))


def test_a_first_layer_that_differs_stays() -> None:
    masks = Masks.dense({name: torch.ones(2, 3) for n in range(3) for name in names(n)})
    for criterion in (Absence(), Random(0), Random(1), Random(2)):
        method = UnitMethod(criterion, LayerGroups(first_stays=True), 2)
        left = method.prune(masks, masks, [2], by_turns(1.0, 3.0, 2.0))
        assert bool(left[names(0)[0]].all()) and method.units(left) == [1]


def test_the_one_that_is_missed_least_goes_first() -> None:
    """And then the one that is missed least without it, too; of equal ones the first."""
    pruned = pruned_model("Bert")
    assert pruned.layers is not None
    first = [f"bert.encoder.layer.{number}." for number in range(4)]
    losses = {(1,): 0.1, (3,): 0.2, (1, 3): 0.9, (0, 1): 0.5, (1, 2): 0.5}
    asked = []

    def loss() -> float:
        layers = pruned.model.bert.encoder.layer
        skipped = tuple(n for n in range(4) if "forward" in vars(layers[n]))
        asked.append(skipped)
        return losses.get(skipped, 1.0)

    found = turns(pruned.layers, pruned.masks, 2, loss)
    assert asked == [(0,), (1,), (2,), (3,), (0, 1), (1, 2), (1, 3)]
    assert [float(found[name + "output.dense.weight"]) for name in first] == [2, 1, 3, 3]
    assert pruned.layers.kept == [0, 1, 2, 3]  # all work again
    pruned.prune(UnitMethod(Absence(), LayerGroups(), 2), [2], found)
    assert pruned.layers.kept == [2, 3]
    found = turns(pruned.layers, pruned.masks, 1, lambda: 1.0)
    assert [float(found[name + "output.dense.weight"]) for name in first] == [0, 0, 1, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pruned_layer_is_one_that_is_not_there(family: str) -> None:
    pruned = pruned_model(family)
    layers = pruned.layers
    assert layers is not None and layers.first_stays == (family == "ModernBert")
    method = UnitMethod(Absence(), LayerGroups(layers.first_stays), 2)
    dense = pruned.state()
    dense = {key: {n: t.clone() for n, t in value.items()} for key, value in dense.items()}
    before = logits(pruned.model)
    asked = len(layers.asked)  # the last one is missed least, then the one before it
    losses = iter([*range(asked, 0, -1), *range(asked - 1, 0, -1)])
    evidence = turns(layers, pruned.masks, 2, lambda: float(next(losses)))
    assert next(losses, None) is None
    pruned.prune(method, [2], evidence)
    assert layers.kept == [0, 1]
    shorter = without_layers(pruned.model, layers.kept)
    assert torch.equal(logits(pruned.model), logits(shorter))
    assert not torch.equal(logits(pruned.model), before)
    # Zeros everywhere else would not have been enough, and gradients of 0 reach all of it.
    pruned.model(input_ids=torch.arange(24).view(2, 12)).logits.sum().backward()
    for name, parameter in pruned.model.named_parameters():
        if ".2." in name or ".3." in name:
            assert parameter.grad is not None and not parameter.grad.any()
    pruned.load(dense["model"], dense["masks"])
    assert layers.kept == [0, 1, 2, 3] and torch.equal(logits(pruned.model), before)


# -- runs --------------------------------------------------------------------------------------


def test_the_checkpoint_has_fewer_layers(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *LAYERS)
    rounds = read_rounds(folder)
    one = 4 * 16 * 16 + 2 * 16 * 32
    assert [r["zeros"] for r in rounds] == [0, 2 * one, 3 * one]
    assert [r["zeros"] for r in rounds] == read_facts(folder)["planned_zeros"]
    assert [r["sparsity"] for r in rounds] == [0, 0.5, 0.75]
    model = loaded(folder)
    assert model.config.num_hidden_layers == 1
    weights = load_file(folder / "checkpoint/model.safetensors")
    assert all(bool((w != 0).all()) for name, w in weights.items() if "dense.weight" in name)
    dense = dense_model(model)
    assert dense is not None and size(dense) == model.config.pruneloop_dense["parameters"]
    card = (folder / "checkpoint/README.md").read_text(encoding="utf-8")
    assert "feed-forward width 32 of 32, 1 of 4 layers" in card and f"{size(model):,} of " in card
    assert (folder / "layers.csv").read_text().count(",1.0\n") == 6 * (2 + 3)
    assert (folder / "report.html").exists()


def gone(folder: Path, number: int) -> list[int]:
    """Return the numbers of the layers that a round's lines in layers.csv say are gone."""
    lines = (folder / "layers.csv").read_text().splitlines()
    found = [
        int(line.split(".layer.")[1].split(".")[0])
        for line in lines
        if line.startswith(f"{number},") and line.endswith(",1.0")
    ]
    assert all(found.count(layer) == 6 for layer in found)
    return sorted({*found})


def test_the_validation_loss_says_which_layer_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def loss(*given: Tensor) -> float:
        said.append(mean_loss(*given))
        return said[-1]

    monkeypatch.setattr(engine, "mean_loss", loss)
    folder = run(tmp_path / "run", *LAYERS, "prune.amount=0.25", "rounds=1")
    assert len({*said}) == 4
    assert gone(folder, 1) == [said.index(min(said))]


def test_a_checkpoint_with_other_layers_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run hands over is made by `without_layers`, and compared with what it trained."""

    def others(model: PreTrainedModel, kept: list[int]) -> PreTrainedModel:
        assert len(kept) == 2
        return without_layers(model, [n for n in range(4) if n not in kept])

    monkeypatch.setattr(smaller, "without_layers", others)
    with pytest.raises(InvariantError, match="logits differ by"):
        run(tmp_path / "run", *LAYERS, "rounds=1")
    assert not (tmp_path / "run/checkpoint").exists()


def test_control_takes_random_ones(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *LAYERS, "prune.criterion=random", "rounds=1", "seed=3")
    assert len(gone(folder, 1)) == 2 and loaded(folder).config.num_hidden_layers == 2


def test_a_target_counts_layers(tmp_path: Path) -> None:
    words = ("prune.amount=null", "prune.target_sparsity=0.5")
    assert loaded(run(tmp_path / "run", *LAYERS, *words)).config.num_hidden_layers == 2


@pytest.mark.more
def test_a_run_that_goes_on_is_the_run_that_did_not_stop(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight", *LAYERS)
    run(tmp_path / "twice", *LAYERS, "rounds=1")
    twice = run(tmp_path / "twice", *LAYERS)
    assert_same(straight, twice)


def assert_same(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        there = [(folder / "checkpoint" / name).read_bytes() for folder in (one, other)]
        assert there[0] == there[1]
    assert gone(one, 1) == gone(other, 1)


@pytest.mark.more
def test_killed_amid_a_round_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    line = (*LONG, "model.layers=4", *UNITS, "distill=logits", "hydra.run.dir=run")
    for name, before in (("straight", None), ("killed", partial(die_at, STEP, 50))):
        (tmp_path / name).mkdir()
        life = Life(tmp_path / name, *line, before=before)
        assert life.wait() == (0 if before is None else -9), life.errors
    assert len(read_rounds(tmp_path / "killed/run")) == 1  # within round 1: 42 steps are round 0's
    life = Life(tmp_path / "killed", *line)
    assert life.wait() == 0, life.errors
    assert_same(tmp_path / "straight/run", tmp_path / "killed/run")


@pytest.mark.more
def test_two_processes_skip_the_same_layers(command: Command, tmp_path: Path) -> None:
    """Each waits for the gradients of the others, those of skipped layers too."""
    line = (*LAYERS, "hydra.run.dir=run", "device=auto")
    result = command(*line, launcher=TORCHRUN, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 0, result.stderr
    assert loaded(tmp_path / "run").config.num_hidden_layers == 1


def test_a_round_that_loses_too_much_gets_its_layers_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget's undo; then half of the amount is tried, which here is one layer."""
    verdicts = iter([True, False, True])
    monkeypatch.setattr(Plan, "accepts", lambda *_: next(verdicts))
    folder = run(tmp_path / "run", *LAYERS, "budget.max_drop=0.5")
    assert [r["kept"] for r in read_rounds(folder)] == [True, False, True]
    assert len(gone(folder, 1)) == 2 and len(gone(folder, 2)) == 1
    assert loaded(folder).config.num_hidden_layers == 3


SHARED = [word for word in SMALL if not word.startswith("model.")]


def from_checkpoint(folder: Path) -> list[str]:
    return [*SHARED, "model=pretrained", "finetune=tiny", f"model.name={folder}", "rounds=1"]


@pytest.mark.more
def test_layers_of_a_narrower_model(tmp_path: Path) -> None:
    """First half the feed-forward, then half the layers: the dense model is the first one."""
    narrow = ("prune=units", "prune.amount=0.5", "rounds=1")
    first = run(tmp_path / "first", *SMALL, "model.layers=4", *narrow)
    last = run(tmp_path / "last", *from_checkpoint(first / "checkpoint"), *UNITS)
    model = loaded(last)
    assert model.config.num_hidden_layers == 2 and model.config.intermediate_size == 16
    one = 4 * 16 * 16 + 2 * 16 * 16
    assert [r["zeros"] for r in read_rounds(last)] == [0, 2 * one]
    sizes = model.config.pruneloop_dense
    assert sizes["width"] == 32 and sizes["layers"] == 4
    assert size(dense_model(model)) == sizes["parameters"]


@pytest.mark.more
def test_layers_of_a_sparse_model(tmp_path: Path) -> None:
    """Zeros that were pruned before stay, and are counted once."""
    first = run(tmp_path / "first", *SMALL, "model.layers=4", "rounds=1", "prune.amount=0.5")
    last = run(tmp_path / "last", *from_checkpoint(first / "checkpoint"), *UNITS)
    rounds, model = read_rounds(last), loaded(last)
    assert rounds[0]["zeros"] == read_rounds(first)[-1]["zeros"] > 0
    left = Masks.from_zeros(prunable_weights(model))
    assert left.prunable == rounds[1]["prunable"] // 2
    assert rounds[1]["zeros"] == left.prunable + left.zeros


def given_model(folder: Path, family: str, empty: bool = False) -> list[str]:
    """Save a small classifier of four layers; return the words of a run of it."""
    texts = [text for text, _ in sample.generate(200, seed=0)]
    tokenizer = train_wordpiece(texts, vocab_size=300, max_length=64)
    model = small_classifier(family, vocab_size=len(tokenizer), num_hidden_layers=4)
    if empty:
        with torch.no_grad():
            for name, weight in prunable_weights(model).items():
                weight.mul_(".1." not in name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return from_checkpoint(folder)


def test_modernbert_keeps_its_first_layer_and_its_types(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *given_model(tmp_path / "given", "ModernBert"), *UNITS)
    config = loaded(folder).config
    assert config.num_hidden_layers == len(config.layer_types) == 2
    lines = (folder / "layers.csv").read_text().splitlines()
    assert not any(".layers.0." in line and line.endswith(",1.0") for line in lines)
    assert len(config.pruneloop_dense["types"]) == 4


@pytest.mark.parametrize(
    ("family", "more", "words"),
    [
        ("Albert", [], "model type albert: its layers are one and the same"),
        ("BigBird", [], "model type big_bird: its units cannot be removed"),
        ("Bert", ["prune.amount=0.9"], "leaves nothing of a group"),
        ("Bert", ["prune.amount=0.1"], "round 1 would take none of the 4"),
    ],
)
def test_what_cannot_lose_layers(tmp_path: Path, family: str, more: list[str], words: str) -> None:
    """Refused before anything trains."""
    line = given_model(tmp_path / "given", family)
    with pytest.raises(ConfigError, match=words):
        run(tmp_path / "run", *line, *UNITS, *more)
    assert not (tmp_path / "run/rounds.jsonl").exists()


def test_a_layer_of_zeros_is_not_taken_for_one_that_is_gone(tmp_path: Path) -> None:
    line = given_model(tmp_path / "given", "Bert", empty=True)
    with pytest.raises(InputError, match=r"as a whole already: bert\.encoder\.layer\.1"):
        run(tmp_path / "run", *line, *UNITS, "prune.keep_zeros=true")
