"""What a ladder's rungs are, and the ordinary run that each of them is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pruneloop.config import Config, Criterion, PretrainedModel, Tokenizer, UnitPruneConfig
from pruneloop.ranges import refused

FIRST = "ffn2"
"""The rung whose run trains round 0."""


@dataclass(frozen=True)
class Rung:
    """A model that is half of another one: half its width, or half its layers.

    `needs` are the rungs that must be within the budget for this one to be tried; it starts
    from the first of them, and without any from round 0.
    """

    name: str
    needs: tuple[str, ...]
    width: str
    layers: str = ""
    halves_layers: bool = False

    def said(self, config: Config) -> str:
        """Return what it is, in words."""
        assert isinstance(config.prune, UnitPruneConfig)
        what = "feed-forward and heads" if "heads" in config.prune.units else "feed-forward"
        return f"{self.layers}{self.width} the {what}"


RUNGS = (
    Rung(FIRST, (), "half"),
    Rung("ffn4", (FIRST,), "a quarter of"),
    Rung("layers2-ffn2", (FIRST,), "half", "half the layers, ", halves_layers=True),
    Rung("layers2-ffn4", ("layers2-ffn2", "ffn4"), "a quarter of", "half the layers, "),
    Rung(
        "layers4-ffn2", ("layers2-ffn2",), "half", "a quarter of the layers, ", halves_layers=True
    ),
)
"""From the first one on two branches, width and depth; the last but one needs both."""


@dataclass(frozen=True)
class Start:
    """What a rung starts from: the checkpoint of another one, and that of round 0."""

    checkpoint: Path
    dense: Path


def check_ladder(config: Config) -> None:
    """Make sure that every rung is half of another one, and that a budget judges it.

    Raises:
        ConfigError: it is not so.
    """
    prune = config.prune
    if not isinstance(prune, UnitPruneConfig) or prune.prunes_layers:
        what = "needs prune=units with prune.units=[ffn] or [ffn,heads]; layers it adds"
        raise refused("ladder", "true", what, "try experiment=smallest")
    for key, value, wanted in (
        ("rounds", config.rounds, 1),
        ("prune.amount", prune.amount, 0.5),
        ("control", config.control, False),
        ("rewind.weights", config.rewind.weights, False),
    ):
        if value != wanted:
            hint = f"a rung is one round that takes half; leave it at {wanted}"
            raise refused(key, value, "excludes ladder=true", hint)
    if config.budget.max_drop is None:
        hint = "try budget.max_drop=0.01"
        raise refused("budget.max_drop", "null", "must say what a rung may lose", hint)


def first_run(config: Config, earlier: Path | None) -> Config:
    """Return the run of the first rung, which trains round 0 and keeps its checkpoint.

    Args:
        earlier: the first rung's run where this one tries again; its round 0 is taken over.
    """
    changed: dict[str, Any] = {}
    if earlier is not None:
        changed["start_from"] = str(earlier.absolute())
    return replace(_longer(_alone(config), earlier is not None), keep_rounds=True, **changed)


def run_from(config: Config, rung: Rung, start: Start, again: bool) -> Config:
    """Return the run of another rung: it prunes a checkpoint, and follows round 0.

    Args:
        again: train twice the epochs.
    """
    prune, distill = config.prune, config.distill
    assert isinstance(prune, UnitPruneConfig)
    if rung.halves_layers:
        by_chance = prune.criterion == Criterion.random
        criterion = Criterion.random if by_chance else Criterion.magnitude
        prune = replace(prune, units=["layers"], scope=[], criterion=criterion)
    if distill.alpha > 0 and distill.teacher is None:
        distill = replace(distill, teacher=str(start.dense.absolute()))
    model = PretrainedModel(
        name=str(start.checkpoint.absolute()),
        revision=None,
        tokenizer=Tokenizer.auto,
        max_length=config.model.max_length,
    )
    whole = _longer(_alone(config), again)
    finetune = replace(whole.finetune, dense_epochs=0)
    changed: dict[str, Any] = {"model": model, "prune": prune, "distill": distill}
    return replace(whole, start_from=None, keep_rounds=False, finetune=finetune, **changed)


def _alone(config: Config) -> Config:
    """Return a run that is no ladder: the rungs are judged by it, not by themselves."""
    budget = replace(config.budget, max_drop=None)
    return replace(config, ladder=False, push_to_hub=None, budget=budget)


def _longer(config: Config, twice: bool) -> Config:
    epochs = (1 + twice) * config.finetune.epochs
    return replace(config, finetune=replace(config.finetune, epochs=epochs))
