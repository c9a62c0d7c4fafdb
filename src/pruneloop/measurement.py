"""What a checkpoint is worth on labelled rows: its scores on one split, as a table or as JSON."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pruneloop.data.splits import Splits, texts_of
from pruneloop.data.tokenising import check_unknown
from pruneloop.deployed import Classifier
from pruneloop.errors import InputError, listed
from pruneloop.records import Text
from pruneloop.report.columns import aligned
from pruneloop.scores import Confusion, wilson_interval

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledRows:
    """The texts of a split of some data, each with the name of its label."""

    data: str
    split: str
    texts: Sequence[Text]
    labels: list[str]

    @classmethod
    def of(cls, data: Splits, split: str) -> "LabelledRows":
        """Return the split `train`, `validation` or `test`."""
        rows = {"train": data.train, "validation": data.validation, "test": data.test}[split]
        # Sliced: a column that is iterated over is read row by row.
        labels = [data.labels[label] for label in rows["label"][:]]
        return cls(data.name, split, texts_of(rows), labels)

    def thinned(self, most: int) -> "LabelledRows":
        """Return at most so many of the rows, evenly spaced."""
        count = len(self.texts)
        taken = range(count) if count <= most else [i * count // most for i in range(most)]
        texts, labels = self.texts, self.labels
        return replace(self, texts=[texts[i] for i in taken], labels=[labels[i] for i in taken])


@dataclass(frozen=True)
class Measurement:
    """The counts of a checkpoint on a split of some data, and the length rows were cut to."""

    data: str
    split: str
    longest: int
    confusion: Confusion

    @property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy on more rows of this kind lies, in 95 % of the cases."""
        return wilson_interval(self.confusion.hits, self.confusion.rows)

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        counted = self.confusion
        return {
            "data": self.data,
            "split": self.split,
            "rows": counted.rows,
            "max_length": self.longest,
            "accuracy": counted.accuracy,
            "accuracy_95": list(self.interval),
            "macro_f1": counted.macro_f1,
            "labels": {
                score.label: {
                    "precision": score.precision,
                    "recall": score.recall,
                    "f1": score.f1,
                    "rows": score.support,
                }
                for score in counted.scores()
            },
            "confusion": counted.counts,
        }

    def table(self) -> str:
        """Return all of it to read."""
        counted, (low, high) = self.confusion, self.interval
        by_label = [["", "precision", "recall", "F1", "rows"]]
        for score in counted.scores():
            shares = (f"{share:.4f}" for share in (score.precision, score.recall, score.f1))
            by_label.append([score.label, *shares, f"{score.support:,}"])
        matrix = [["", *counted.labels]]
        for label, counts in zip(counted.labels, counted.counts, strict=True):
            matrix.append([label, *(f"{count:,}" for count in counts)])
        return "\n".join(
            [
                f"{self.data}: {counted.rows:,} {self.split} rows, cut at {self.longest} tokens",
                f"accuracy  {counted.accuracy:.4f}  (95 % interval {low:.4f} to {high:.4f})",
                f"macro-F1  {counted.macro_f1:.4f}",
                "",
                *aligned(by_label),
                "",
                "rows by their label (down) and the predicted label (across):",
                *aligned(matrix),
            ]
        )


def measure(
    classifier: Classifier,
    rows: LabelledRows,
    longest: int | None = None,
    done: Callable[[int], object] = lambda rows: None,
) -> Measurement:
    """Measure a classifier on labelled rows.

    Args:
        longest: cut texts at so many tokens, if the classifier could read more.
        done: is told the rows of each batch.

    Raises:
        InputError: a row has a label that the checkpoint lacks, or the texts are mostly
            unknown to the tokenizer.
    """
    return judge(classifier, rows, longest, done)[0]


def judge(
    classifier: Classifier,
    rows: LabelledRows,
    longest: int | None,
    done: Callable[[int], object],
    quiet: bool = False,
) -> tuple[Measurement, Tensor]:
    """Measure a classifier as `measure` does; return the label of every row, too.

    `quiet` says nothing of tokens that are unknown, as when it has been said before.
    """
    places = _places(classifier.labels, sorted(set(rows.labels)))
    classifier = replace(classifier, longest=min(longest or classifier.longest, classifier.longest))
    encoded = classifier.encode(rows.texts)
    warning = check_unknown(classifier.unknown(encoded))
    if warning and not quiet:
        log.warning(f"warning: {warning}")
    predicted = classifier.logits(encoded, done).argmax(-1)
    true = [places[label] for label in rows.labels]
    confusion = Confusion.of(classifier.labels, true, predicted.numpy())
    return Measurement(rows.data, rows.split, classifier.longest, confusion), predicted


def _places(known: Sequence[str], labels: Sequence[str]) -> dict[str, int]:
    """Return where the checkpoint has each of the data's labels."""
    if strangers := [label for label in labels if label not in known]:
        raise InputError(
            f"the data's labels ({listed(labels)}) are not the checkpoint's "
            f"({listed(known)}): it has no {listed(strangers)}; name them in the order of "
            f"their values, such as data.label_names=[{','.join(known[:2])}]"
        )
    return {label: known.index(label) for label in labels}
