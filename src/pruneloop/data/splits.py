"""Train, validation and test: stratified, seeded, with one label map."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy
from datasets import ClassLabel, Dataset, Features, Value

from pruneloop.data.sources import Corpus, Rows
from pruneloop.errors import InputError


@dataclass(frozen=True)
class Splits:
    """The three splits with the columns `text` and `label`, and what happened to rows."""

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    labels: list[str]
    counts: dict[str, int]

    def missing(self) -> dict[str, str]:
        """Return the labels that a split has no row of, by its name; none where it has all."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        found = {name: _missing(rows, self.labels) for name, rows in parts.items()}
        return {name: labels for name, labels in found.items() if labels}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """A hash of the texts, labels and label names of every split."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: _fingerprint(rows, self.labels) for name, rows in parts.items()}


def _fingerprint(rows: Dataset, labels: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(list(labels)).encode())
    # Sliced, here and everywhere: a column that is iterated over is read row by row.
    for text, label in zip(rows["text"][:], rows["label"][:], strict=True):
        digest.update(json.dumps([text, label]).encode())
    return digest.hexdigest()[:32]


def split(
    corpus: Corpus,
    validation: float,
    test_share: float,
    seed: int,
    drop_overlap: bool,
    label_names: Sequence[str] = (),
) -> Splits:
    """Hold validation rows out of train (and test rows, where the corpus has none).

    The label map is the sorted labels of train (by number, if they are numbers), under
    the names given for them. Rows of train whose text also
    stands in test are counted, and dropped on request.

    Raises:
        InputError: fewer than two labels, another number of them than of names, a test
            label that train lacks, or too few rows to divide.
    """
    labels = _sorted(set(corpus.train.labels))
    if len(labels) < 2:
        raise InputError(f"only one label ({labels[0]}) in the training rows; two are needed")
    if corpus.test:
        unseen = sorted(set(corpus.test.labels) - set(labels))
        if unseen:
            raise InputError(f"labels of the test split that train lacks: {', '.join(unseen)}")
    if label_names and len(label_names) != len(labels):
        raise InputError(
            f"data.label_names has {len(label_names)} names for {len(labels)} labels: "
            f"{', '.join(labels)}"
        )
    parts = [corpus.train, corpus.test] if corpus.test else [corpus.train]
    counts = {
        "read": sum(len(rows) + rows.empty for rows in parts),
        "empty": sum(rows.empty for rows in parts),
        "normalized": sum(rows.normalized for rows in parts),
    }
    train = _dataset(corpus.train, labels)
    if corpus.test:
        test = _dataset(corpus.test, labels)
    else:
        train, test = _hold_out(train, test_share, seed)
    in_test = set(test["text"][:])
    overlap = [text in in_test for text in train["text"][:]]
    counts["train_rows_also_in_test"] = sum(overlap)
    if drop_overlap:
        train = train.select([i for i, shared in enumerate(overlap) if not shared])
    counts["dropped_overlap"] = sum(overlap) if drop_overlap else 0
    if gone := _missing(train, labels):
        raise InputError(f"data.drop_overlap=true: leaves no training row with the label {gone}")
    train, held_out = _hold_out(train, validation, seed)
    counts["repeated"] = len(train) + len(held_out) - len({*train["text"][:], *held_out["text"][:]})
    sizes = {"train": len(train), "validation": len(held_out), "test": len(test)}
    return Splits(corpus.name, train, held_out, test, list(label_names) or labels, counts | sizes)


def _sorted(labels: set[str]) -> list[str]:
    numbers = all(label.isdecimal() for label in labels)
    return sorted(labels, key=int) if numbers else sorted(labels)


def _dataset(rows: Rows, labels: list[str]) -> Dataset:
    ids = {label: index for index, label in enumerate(labels)}
    return Dataset.from_dict(
        {"text": rows.texts, "label": [ids[label] for label in rows.labels]},
        features=Features({"text": Value("string"), "label": ClassLabel(names=labels)}),
    )


def _hold_out(rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return what stays, and what is held out: the share of every label, rounded.

    Rows with the same text go the same way, under the label of the first of them. A label
    has at least one text on either side, if it has two.

    Raises:
        InputError: no label has two texts.
    """
    by_text: dict[str, list[int]] = {}
    for row, text in enumerate(rows["text"][:]):
        by_text.setdefault(text, []).append(row)
    labels = rows["label"][:]
    by_label: dict[int, list[list[int]]] = {}
    for alike in by_text.values():
        by_label.setdefault(labels[alike[0]], []).append(alike)
    generator = numpy.random.default_rng(seed)
    held: set[int] = set()
    for _, texts in sorted(by_label.items()):
        shuffled = [texts[index] for index in generator.permutation(len(texts))[1:]]
        held.update(_up_to(max(1, round(share * sum(map(len, texts)))), shuffled))
    if not held:
        raise InputError(f"cannot hold out {share:g} of {len(rows)} rows: no label has two texts")
    stays = [row for row in range(len(rows)) if row not in held]
    return rows.select(stays), rows.select(sorted(held))


def _up_to(room: int, groups: list[list[int]]) -> list[int]:
    """Return the rows of the groups that there is room for, in order; one group at least."""
    found: list[int] = []
    for group in groups:
        if len(found) + len(group) <= room:
            found += group
    return found or min(groups, key=len, default=[])


def _missing(part: Dataset, labels: Sequence[str]) -> str:
    found = set(part["label"][:])
    return ", ".join(label for index, label in enumerate(labels) if index not in found)
