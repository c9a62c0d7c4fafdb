"""How far a run is: the only thing that changes while it runs, and all that is saved."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from typing import Any

from torch import Tensor

from pruneloop.evaluation import Scores
from pruneloop.pruning import PrunedModel, kind_of
from pruneloop.records import LayerRecord, RoundRecord


class Stage(Enum):
    """What of a round comes next. Round 0 begins with TRAIN."""

    PRUNE = "prune"
    SHOCK = "shock"
    TRAIN = "train"
    MEASURE = "measure"
    DONE = "done"


@dataclass
class Draft:
    """What is known so far of the round under way."""

    amount: float = 0.0
    shock_accuracy: float | None = None
    train_loss: float | None = None
    steps: int = 0
    seconds: float = 0.0
    epochs: list[dict[str, float]] = field(default_factory=list)

    def add_epoch(self, scores: Scores) -> None:
        """Put down what validation is after one more epoch of the round."""
        self.epochs.append(
            {
                "epoch": len(self.epochs) + 1,
                "accuracy": scores.accuracy,
                "macro_f1": scores.macro_f1,
                "loss": scores.loss,
            }
        )

    def best_epoch(self, metric: str) -> int:
        """Return the number of the epoch with the best score so far, the first of equal ones."""
        return 1 + max(range(len(self.epochs)), key=lambda index: self.epochs[index][metric])


@dataclass
class Predictions:
    """Labels of the test split's rows, as the dense model and the kept round's say them.

    Each is int32, and its confidences, the labels' probabilities, are float32.
    """

    dense: Tensor | None = None
    dense_confidence: Tensor | None = None
    pruned: Tensor | None = None
    pruned_confidence: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return those that there are, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class RunState:
    """A run between two instructions of its loop.

    `factor` is what a budget's failed tries have left of the planned drops, and `left` the
    units that every group of weights must still keep.
    """

    left: list[int]
    round: int = 0
    stage: Stage = Stage.TRAIN
    factor: float = 1.0
    draft: Draft = field(default_factory=Draft)
    records: list[RoundRecord] = field(default_factory=list)
    layers: list[LayerRecord] = field(default_factory=list)
    predictions: Predictions = field(default_factory=Predictions)

    def __post_init__(self) -> None:
        self._since = time.monotonic()

    def tick(self) -> None:
        """Add the time since the last tick to the round under way."""
        now = time.monotonic()
        self.draft.seconds += now - self._since
        self._since = now

    def take(self, drops: Sequence[int]) -> None:
        """Stand behind the round's prune, which took so many units of every group."""
        self.draft.amount = sum(drops) / max(sum(self.left), 1)
        self.left = [units - k for units, k in zip(self.left, drops, strict=True)]
        self.stage = Stage.SHOCK

    def record(
        self,
        pruned: PrunedModel,
        scores: Scores,
        test: Scores,
        accepts: Callable[[RoundRecord, RoundRecord], bool],
    ) -> RoundRecord:
        """Put the round under way on record, with a line for each of its matrices.

        Args:
            accepts: says of round 0 and of this one whether this one is kept.
        """
        self.tick()
        record = RoundRecord(
            round=self.round,
            **asdict(self.draft),
            **_counts(pruned),
            accuracy=scores.accuracy,
            macro_f1=scores.macro_f1,
            loss=scores.loss,
            test_accuracy=test.accuracy,
            test_macro_f1=test.macro_f1,
            kept=True,
        )
        record = replace(record, kept=accepts([*self.records, record][0], record))
        self._append(record, pruned)
        return record

    def take_over(self, record: Mapping[str, Any], pruned: PrunedModel) -> None:
        """Stand before round 1, with another run's record of round 0.

        Raises:
            KeyError, TypeError, ValueError: it was another version's.
        """
        self._append(RoundRecord(**(dict(record) | _counts(pruned))), pruned)
        self.next_round()

    def _append(self, record: RoundRecord, pruned: PrunedModel) -> None:
        self.records.append(record)
        by_name = pruned.masks.zeros_by_name()
        for name, mask in pruned.masks.items():
            size, lost = mask.numel(), by_name[name]
            share = lost / size
            self.layers.append(LayerRecord(self.round, name, kind_of(name), size, lost, share))

    def predict(self, test: Scores) -> None:
        """Take over what the round under way, which is kept, says of the test rows."""
        said = self.predictions
        if self.round == 0:
            said.dense, said.dense_confidence = test.predictions, test.confidences
        else:
            said.pruned, said.pruned_confidence = test.predictions, test.confidences

    def next_round(self) -> None:
        """Stand before the next round."""
        self.round, self.stage, self.draft = self.round + 1, Stage.PRUNE, Draft()
        self._since = time.monotonic()

    @property
    def steps(self) -> int:
        """The optimiser steps of all rounds on record."""
        return sum(record.steps for record in self.records)

    def position(self) -> dict[str, Any]:
        """Return all but the tensors, as JSON can hold it."""
        self.tick()
        return asdict(replace(self, predictions=Predictions())) | {"stage": self.stage.value}

    @classmethod
    def restored(cls, position: Mapping[str, Any], predictions: Mapping[str, Tensor]) -> "RunState":
        """Return what `position` wrote down.

        Raises:
            KeyError, TypeError, ValueError: it was another version's.
        """
        state = cls(**{each.name: position[each.name] for each in fields(cls)})
        state.stage, state.draft = Stage(state.stage), Draft(**position["draft"])
        state.records = [RoundRecord(**record) for record in position["records"]]
        state.layers = [LayerRecord(**record) for record in position["layers"]]
        state.predictions = Predictions(**predictions)
        return state


def _counts(pruned: PrunedModel) -> dict[str, Any]:
    """Return what a record says of a model's zeros."""
    prunable, zeros = pruned.masks.prunable, pruned.masks.zeros
    return {
        "prunable": prunable,
        "zeros": zeros,
        "sparsity": zeros / prunable,
        "model_sparsity": zeros / pruned.parameters,
    }
