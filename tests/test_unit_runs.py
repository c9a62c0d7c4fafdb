"""Runs that prune whole units: planned to the unit, smaller in the end, and gone on with."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import BUDGET, SMALL, composed, experiment, read_rounds, small_bert, small_classifier
from transformers import AutoModelForSequenceClassification

from pruneloop.command.verbs import evaluate, inspect
from pruneloop.config import UnitPruneConfig
from pruneloop.data import sample
from pruneloop.errors import ConfigError, InvariantError
from pruneloop.exports import smaller
from pruneloop.exports.smaller import size, without_units
from pruneloop.model.tokenizers import train_wordpiece
from pruneloop.pruning import Masks, prunable_weights
from pruneloop.shrinking import shrink

UNITS = (*SMALL, "model.layers=2", "prune=units", "prune.amount=0.5")


def run(folder: Path, *overrides: str) -> Path:
    experiment(composed(*overrides), folder, [])
    return folder


def loaded(folder: Path) -> torch.nn.Module:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder / "checkpoint", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


def test_the_checkpoint_is_smaller_and_says_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path / "run", *UNITS)
    rounds = read_rounds(folder)
    # Two layers of 32 neurons of 2 * 16 weights; half of them, then half of the rest.
    assert [r["zeros"] for r in rounds] == [0, 2 * 16 * 32, 2 * 24 * 32]
    model = loaded(folder)
    assert model.config.intermediate_size == 8
    dense = small_bert(vocab_size=model.config.vocab_size, num_hidden_layers=2)
    assert size(model) < size(dense)
    weights = load_file(folder / "checkpoint/model.safetensors")
    assert all(bool((w != 0).all()) for name, w in weights.items() if ".intermediate." in name)
    evaluate([str(folder), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(rounds[-1]["test_accuracy"])
    card = (folder / "checkpoint/README.md").read_text(encoding="utf-8")
    assert f"{size(model):,} of " in card and "feed-forward width 8 of 32" in card


def test_heads_stay_as_zero_blocks(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *UNITS, "prune.units=[ffn,heads]", "rounds=1")
    model = loaded(folder)
    assert model.config.intermediate_size == 16 and model.config.num_attention_heads == 2
    assert shrink(model, heads=True).heads == 2  # one of two, in each layer
    card = (folder / "checkpoint/README.md").read_text(encoding="utf-8")
    assert "2 heads are zero blocks" in card
    assert "2 heads are zero blocks" in (folder / "report.html").read_text(encoding="utf-8")


def test_ranked_over_all_layers_the_widest_decides(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *UNITS, "prune.group=global", "rounds=1")
    model = loaded(folder)
    assert 16 <= model.config.intermediate_size <= 31
    assert read_rounds(folder)[-1]["zeros"] == 32 * 32


def test_a_target_counts_units(tmp_path: Path) -> None:
    words = ("prune.amount=null", "prune.target_sparsity=0.75", "prune.criterion=taylor")
    assert loaded(run(tmp_path / "run", *UNITS, *words)).config.intermediate_size == 8


@pytest.mark.more
def test_a_run_that_goes_on_is_the_run_that_did_not_stop(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight", *UNITS, "prune.criterion=random")
    run(tmp_path / "twice", *UNITS, "prune.criterion=random", "rounds=1")
    twice = run(tmp_path / "twice", *UNITS, "prune.criterion=random")
    for name in ("model.safetensors", "config.json"):
        assert (straight / "checkpoint" / name).read_bytes() == (
            twice / "checkpoint" / name
        ).read_bytes()


@pytest.mark.more
def test_units_of_a_sparse_model_and_weights_of_a_smaller_one(tmp_path: Path) -> None:
    """First the one, then the other, counted right."""
    given = ("model=pretrained", "finetune=tiny")
    small = [word for word in SMALL if not word.startswith("model.")]
    first = run(tmp_path / "first", *SMALL, "prune.scope=ffn", "rounds=1", "prune.amount=0.5")
    name = f"model.name={first / 'checkpoint'}"
    units = run(tmp_path / "units", *small, *given, name, "prune=units", "rounds=1")
    before, after = read_rounds(first)[-1], read_rounds(units)
    assert after[0]["zeros"] == before["zeros"] == 512
    assert after[1]["zeros"] > before["zeros"]
    model = loaded(units)
    assert model.config.intermediate_size == 32 - round(0.2 * 32)
    left = Masks.from_zeros(prunable_weights(model, ["ffn"]))
    assert left.prunable - left.zeros <= 1024 - after[1]["zeros"]

    name = f"model.name={units / 'checkpoint'}"
    last = run(tmp_path / "last", *small, *given, name, "prune.scope=ffn", "rounds=1")
    rounds = read_rounds(last)
    kept = left.prunable - left.zeros
    assert rounds[0]["zeros"] == left.zeros
    assert rounds[1]["zeros"] == left.zeros + round(0.2 * kept)
    assert loaded(last).config.pruneloop_dense["width"] == 32


@pytest.mark.parametrize("dim", [0, 1])
def test_whole_rows_or_columns_make_the_checkpoint_smaller_too(tmp_path: Path, dim: int) -> None:
    """Columns of the output leave neurons dead; rows of the input leave them constant."""
    words = ("prune=structured_ln", f"prune.dim={dim}", "prune.amount=0.5", "rounds=1")
    folder = run(tmp_path / "run", *SMALL, *words)
    model = loaded(folder)
    assert model.config.intermediate_size == 16
    assert read_rounds(folder)[-1]["zeros"] == 16 * 16 * 4 // 2 + 2 * 16 * 32 // 2
    assert "feed-forward width 16 of 32" in (folder / "checkpoint/README.md").read_text("utf-8")


@pytest.mark.more
def test_the_narrowest_within_a_budget_is_searched_for(tmp_path: Path) -> None:
    """Half, half, ...: what loses too much is undone; the width is that of what is kept."""
    words = [word for word in BUDGET if not word.startswith("prune")]
    words += ["prune=units", "prune.amount=0.5", "distill=logits", "finetune.learning_rate=1e-3"]
    folder = run(tmp_path / "run", *words, "rounds=3", "budget.max_drop=0.2")
    rounds = read_rounds(folder)
    kept = [r for r in rounds if r["kept"]]
    assert all(r["accuracy"] >= rounds[0]["accuracy"] - 0.2 - 1e-9 for r in kept)
    width = loaded(folder).config.intermediate_size
    assert width < 32 and kept[-1]["zeros"] == (32 - width) * 32


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune.units=[rows]"], r"prune\.units=\['rows'\]: must be some of ffn, heads, layers"),
        (
            ["prune.units=[layers,ffn]"],
            r"prune\.units=.*: has layers beside others; prune",
        ),
        (["prune.units=[layers]", "prune.criterion=taylor"], "taylor: does not rank layers"),
        (["prune.units=[]"], "must be some of"),
        (["prune.scope=qkv"], r"prune\.scope=\['qkv'\]: excludes prune\.units"),
        (['prune.exclude=["*.0.*"]'], r"prune\.exclude=.* excludes prune\.units"),
        (["prune.max_layer_sparsity=0.9"], r"prune\.max_layer_sparsity=0\.9: excludes"),
        (["prune.criterion=wanda"], r"prune\.criterion=wanda: does not rank units"),
        (["prune.criterion=movement"], r"prune\.criterion=movement: does not rank units"),
    ],
)
def test_what_units_exclude(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        composed("prune=units", *words)


def test_units_say_what_is_pruned() -> None:
    prune = composed("prune=units", "prune.units=[heads,ffn]").prune
    assert isinstance(prune, UnitPruneConfig) and prune.scope == ["ffn", "attention"]


def test_more_than_there_is_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leaves nothing of a group"):
        run(tmp_path / "run", *UNITS, "prune.units=[heads]", "prune.amount=0.9", "rounds=1")


def test_another_family_is_refused(tmp_path: Path) -> None:
    texts = [text for text, _ in sample.generate(200, seed=0)]
    tokenizer = train_wordpiece(texts, vocab_size=300, max_length=64)
    small_classifier("BigBird", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "big")
    tokenizer.save_pretrained(tmp_path / "big")
    small = [word for word in SMALL if not word.startswith("model.")]
    given = ("model=pretrained", "finetune=tiny", f"model.name={tmp_path / 'big'}")
    with pytest.raises(ConfigError, match="model type big_bird: its units cannot be removed"):
        run(tmp_path / "run", *small, *given, "prune=units")


def test_a_smaller_checkpoint_that_says_something_else_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = train_wordpiece(["정말 재미있는 영화"], vocab_size=100, max_length=64)
    model = small_classifier("Bert", vocab_size=len(tokenizer))
    masks = Masks.dense(prunable_weights(model, ["ffn"]))

    def damaged(*given: object, **more: object):
        found = shrink(*given, **more)
        with torch.no_grad():
            found.model.classifier.bias += 1e-3
        return found

    monkeypatch.setattr(smaller, "shrink", damaged)
    with pytest.raises(InvariantError, match="logits differ by"):
        without_units(model, tokenizer, masks, ["영화", "정말"])


def test_inspect_sees_the_smaller_matrices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect([str(run(tmp_path / "run", *UNITS, "rounds=1") / "checkpoint")])
    assert "ffn_in (2)" in capsys.readouterr().out
