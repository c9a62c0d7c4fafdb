"""Train, validation and test: stratified, seeded, with one label map."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """A hash of the texts, labels and label names of every split."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: _fingerprint(rows, self.labels) for name, rows in parts.items()}


def _fingerprint(rows: Dataset, labels: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(list(labels)).encode())
    for text, label in zip(rows["text"], rows["label"], strict=True):
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
            label that train lacks, or too few rows of a label to divide.
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
        train, test = _hold_out(train, test_share, seed, corpus.train.labels)
    in_test = set(test["text"])
    overlap = [text in in_test for text in train["text"]]
    counts["train_rows_also_in_test"] = sum(overlap)
    if drop_overlap:
        train = train.select([i for i, shared in enumerate(overlap) if not shared])
    counts["dropped_overlap"] = sum(overlap) if drop_overlap else 0
    if len(set(train["label"])) < len(labels):
        gone = [label for index, label in enumerate(labels) if index not in set(train["label"])]
        raise InputError(
            f"data.drop_overlap=true: leaves no training row with the label {', '.join(gone)}"
        )
    train, held_out = _hold_out(train, validation, seed, corpus.train.labels)
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


def _hold_out(rows: Dataset, share: float, seed: int, names: list[str]) -> tuple[Dataset, Dataset]:
    try:
        parts = rows.train_test_split(share, stratify_by_column="label", seed=seed)
    except ValueError as error:
        rarest, count = Counter(names).most_common()[-1]
        raise InputError(
            f"cannot hold out {share:g} of {len(rows)} rows with every label in both parts "
            f"(the rarest label, {rarest}, has {count}): {error}"
        ) from None
    return parts["train"], parts["test"]
