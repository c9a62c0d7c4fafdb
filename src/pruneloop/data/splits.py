"""Train, validation and test: stratified, seeded, with one label map."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy
from datasets import ClassLabel, Dataset, Features, Value

from pruneloop.data.labels import in_order, spelled_twice
from pruneloop.data.rows import Corpus, Rows
from pruneloop.errors import InputError, listed, shortened
from pruneloop.records import RejectedRow, Text


@dataclass(frozen=True)
class Splits:
    """The three splits, and what happened to rows.

    Their columns are `text` and `label`, and `text_pair` where pairs are classified.

    `labels` are the names that the model gets for the `values` that stand in the files.
    """

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    labels: list[str]
    counts: dict[str, int]
    values: list[str] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)

    def in_order_of(self, known: Sequence[str], whose: str) -> "Splits":
        """Return the same rows with their labels numbered as a model numbers its own, by name.

        Raises:
            InputError: the model lacks one of them; `whose` names it.
        """
        if strangers := [label for label in self.labels if label not in known]:
            raise InputError(
                f"{whose}: its labels ({listed(known)}) are not the data's "
                f"({listed(self.labels)}): it has no {listed(strangers)}; name the data's labels "
                "as the model's, in the order of their values, such as "
                f"data.label_names=[{','.join(known[:2])}]"
            )
        places = [known.index(label) for label in self.labels]
        values = dict(zip(places, self.values, strict=True))
        return replace(
            self,
            train=_renumbered(self.train, places, known),
            validation=_renumbered(self.validation, places, known),
            test=_renumbered(self.test, places, known),
            labels=list(known),
            values=[values.get(place, label) for place, label in enumerate(known)],
        )

    def missing(self) -> dict[str, str]:
        """Return the labels that a split has no row of, by its name; none where it has all."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        found = {name: _missing(rows, self.labels) for name, rows in parts.items()}
        return {name: labels for name, labels in found.items() if labels}

    def balanced_weights(self) -> list[float]:
        """Return what makes all labels weigh alike: rows / (labels * rows of the label).

        The mean over the training rows is 1 (scikit-learn's `class_weight="balanced"`).
        """
        counts = Counter(self.train["label"][:])
        each = len(self.train) / len(self.labels)
        return [each / counts[index] if counts[index] else 1.0 for index in range(len(self.labels))]

    def majority(self) -> dict[str, float]:
        """Return the accuracy of always saying the most frequent label of train, by split."""
        counts = Counter(self.train["label"][:])
        most = max(sorted(counts), key=lambda label: counts[label])
        parts = {"validation": self.validation, "test": self.test}
        return {name: rows["label"][:].count(most) / len(rows) for name, rows in parts.items()}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """A hash of the texts, labels and label names of every split."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: _fingerprint(rows, self.labels) for name, rows in parts.items()}


def _fingerprint(rows: Dataset, labels: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(list(labels)).encode())
    # Sliced, here and everywhere: a column that is iterated over is read row by row.
    for text, label in zip(texts_of(rows), rows["label"][:], strict=True):
        digest.update(json.dumps([text, label]).encode())
    return digest.hexdigest()[:32]


def texts_of(rows: Dataset) -> Sequence[Text]:
    """Return the texts of a split's rows, or the pairs of them."""
    texts: list[str] = rows["text"][:]
    if "text_pair" not in rows.column_names:
        return texts
    return list(zip(texts, rows["text_pair"][:], strict=True))


def split(
    corpus: Corpus,
    validation: float,
    test_share: float,
    seed: int,
    drop_overlap: bool,
    label_names: Sequence[str] = (),
    min_rows_per_label: int = 1,
    max_train_rows: int | None = None,
    max_test_rows: int | None = None,
) -> Splits:
    """Hold validation rows out of train (and test rows, where the corpus has none).

    The label map is the sorted labels of train (by number, if they are numbers), under
    the names given for them. Rows of train whose text also stands in test are counted, and
    dropped on request. Of train and test at most so many rows are taken, of each label its
    share; validation comes out of those of train.

    Raises:
        InputError: fewer than two labels, another number of them than of names, one with too
            few rows or in two spellings, a test label that train lacks, or too few rows to
            divide.
    """
    labels = in_order(set(corpus.train.labels))
    _check_labels(corpus, labels, label_names, min_rows_per_label)
    train, test = _train_and_test(corpus, labels, test_share, seed)
    whole = len(train) + len(test)
    train = _at_most(train, max_train_rows, max(2, min_rows_per_label), seed, "train")
    test = _at_most(test, max_test_rows, 1, seed, "test")
    left_out = whole - len(train) - len(test)
    train, overlap = _overlap(train, test, drop_overlap)
    if gone := _missing(train, labels):
        raise InputError(f"data.drop_overlap=true: leaves no training row with the label {gone}")
    train, held_out = _hold_out(train, validation, seed)
    counts = _counts(corpus) | {
        "left_out": left_out,
        "train_rows_also_in_test": overlap,
        "dropped_overlap": overlap if drop_overlap else 0,
        "repeated": len(train) + len(held_out) - len({*texts_of(train), *texts_of(held_out)}),
        "train": len(train),
        "validation": len(held_out),
        "test": len(test),
    }
    names, rejected = (
        _named(labels, label_names),
        [row for rows in corpus.parts for row in rows.rejected],
    )
    return Splits(corpus.name, train, held_out, test, names, counts, labels, rejected)


def _train_and_test(
    corpus: Corpus, labels: list[str], test_share: float, seed: int
) -> tuple[Dataset, Dataset]:
    train = _dataset(corpus.train, labels)
    if corpus.test:
        return train, _dataset(corpus.test, labels)
    return _hold_out(train, test_share, seed)


def _overlap(train: Dataset, test: Dataset, drop: bool) -> tuple[Dataset, int]:
    """Return the training rows, and how many of them stand in test, which may be dropped."""
    in_test = set(texts_of(test))
    shared = [text in in_test for text in texts_of(train)]
    if drop:
        train = train.select([row for row, twice in enumerate(shared) if not twice])
    return train, sum(shared)


def _counts(corpus: Corpus) -> dict[str, int]:
    """Return what happened to the rows on the way in."""
    return {
        "read": sum(rows.read for rows in corpus.parts),
        "empty": sum(rows.empty for rows in corpus.parts),
        "rejected": sum(len(rows.rejected) for rows in corpus.parts),
        "normalized": sum(rows.normalized for rows in corpus.parts),
    }


def undivided(rows: Rows, label_names: Sequence[str] = ()) -> list[str]:
    """Return every row's label, under the names given for the sorted labels.

    Raises:
        InputError: there is another number of labels than of names.
    """
    labels = in_order(set(rows.labels))
    names = dict(zip(labels, _named(labels, label_names), strict=True))
    return [names[label] for label in rows.labels]


def _named(labels: list[str], names: Sequence[str]) -> list[str]:
    if names and len(names) != len(labels):
        raise InputError(
            f"data.label_names has {len(names)} names for {len(labels)} labels: {', '.join(labels)}"
        )
    return list(names) or labels


def _check_labels(
    corpus: Corpus, labels: list[str], label_names: Sequence[str], least: int
) -> None:
    """Make sure that the labels can be told apart, and that each can be learnt."""
    places = (corpus.test.places if corpus.test else {}) | corpus.train.places
    in_test = set(corpus.test.labels) if corpus.test else set()
    if twice := spelled_twice({*labels, *in_test}):
        one, other = (f"{label!r} ({places.get(label, 'a row')})" for label in twice)
        raise InputError(
            f"labels that are one number in two spellings: {one} and {other}; write them alike"
        )
    if len(labels) < 2:
        raise InputError(f"only one label ({labels[0]}) in the training rows; two are needed")
    if unseen := in_order(in_test - set(labels)):
        raise InputError(f"labels of the test split that train lacks: {', '.join(unseen)}")
    _named(labels, label_names)
    counts = Counter(corpus.train.labels)
    if rare := [label for label in labels if counts[label] < least]:
        said = ", ".join(f"{label} has {counts[label]}" for label in rare)
        first = places.get(rare[0])
        raise InputError(
            f"data.min_rows_per_label={least}: the training rows of some labels are fewer: "
            f"{shortened(said, 400)}{f' (the first: {first})' if first else ''}; mend the rows, "
            "or set a smaller number"
        )


def _at_most(rows: Dataset, most: int | None, least: int, seed: int, part: str) -> Dataset:
    """Return so many rows in their order: of each label its share, and a few at least.

    Raises:
        InputError: so many rows are fewer than what each label needs.
    """
    if most is None or len(rows) <= most:
        return rows
    by_label: dict[int, list[int]] = {}
    for row, label in enumerate(rows["label"][:]):
        by_label.setdefault(label, []).append(row)
    taken = _shares({label: len(numbers) for label, numbers in by_label.items()}, most, least)
    if sum(taken.values()) > most:
        raise InputError(
            f"data.max_{part}_rows={most}: fewer than {least} for each of {len(taken)} labels"
        )
    generator = numpy.random.default_rng(seed)
    kept = [
        numbers[index]
        for label, numbers in sorted(by_label.items())
        for index in generator.permutation(len(numbers))[: taken[label]]
    ]
    return rows.select(sorted(kept))


def _shares(sizes: dict[int, int], most: int, least: int) -> dict[int, int]:
    """Divide a number among labels by their sizes; each has a few, even if it is then more."""
    rows = sum(sizes.values())
    floors = {label: min(size, least) for label, size in sizes.items()}
    taken = {label: max(floors[label], size * most // rows) for label, size in sizes.items()}

    def lacks(label: int) -> tuple[int, int]:
        return sizes[label] * most - taken[label] * rows, -label

    while sum(taken.values()) < most:
        taken[max((label for label in sizes if taken[label] < sizes[label]), key=lacks)] += 1
    while sum(taken.values()) > most:
        above = [label for label in sizes if taken[label] > floors[label]]
        if not above:
            break
        taken[min(above, key=lacks)] -= 1
    return taken


def _renumbered(rows: Dataset, places: Sequence[int], names: Sequence[str]) -> Dataset:
    table = {name: rows[name][:] for name in rows.column_names}
    table["label"] = [places[label] for label in table["label"]]
    kinds = {name: Value("string") for name in table}
    return Dataset.from_dict(table, Features(kinds | {"label": ClassLabel(names=list(names))}))


def _dataset(rows: Rows, labels: list[str]) -> Dataset:
    ids = {label: index for index, label in enumerate(labels)}
    pairs = {"text_pair": rows.pairs} if rows.pairs else {}
    kinds = {name: Value("string") for name in ("text", *pairs)}
    return Dataset.from_dict(
        {"text": rows.texts, **pairs, "label": [ids[label] for label in rows.labels]},
        features=Features({**kinds, "label": ClassLabel(names=labels)}),
    )


def _hold_out(rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return what stays, and what is held out: the share of every label, rounded.

    Rows with the same text go the same way, under the label of the first of them. A label
    has at least one text on either side, if it has two.

    Raises:
        InputError: no label has two texts.
    """
    by_text: dict[Text, list[int]] = {}
    for row, text in enumerate(texts_of(rows)):
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
