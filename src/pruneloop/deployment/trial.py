"""A deployed model beside its checkpoint: what both say of labelled rows, and how long it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, pipeline

from pruneloop.deployed import Classifier, OnnxClassifier, Reading, open_model
from pruneloop.deployment.timing import RUNS, medians, one_thread, text_of
from pruneloop.deployment.writing import reading_of, write_model, write_words
from pruneloop.measurement import LabelledRows, Measurement, judge
from pruneloop.model.build import DENSE_SIZES
from pruneloop.prediction import TextClassifier
from pruneloop.records import Text
from pruneloop.shrinking import Shape, Shrunk

CHECKPOINT, DENSE = "checkpoint", "dense model"

ROWS = 4_000
"""So many rows of a split are asked at most: int8 has to be asked text by text."""

LENGTHS = (32, 64)
"""Texts of so many tokens are timed."""


_COMPARED = 32
"""So many texts are read, and judged, as the checkpoint does before a file is believed."""


@dataclass(frozen=True)
class Rows:
    """The rows to measure on, and how many tokens the run has read of a text."""

    validation: LabelledRows
    test: LabelledRows
    longest: int | None


@dataclass(frozen=True)
class Judged:
    """What a model is worth on both splits, and the labels that it gives the test rows."""

    validation: Measurement
    test: Measurement
    labels: Tensor

    @property
    def accuracy(self) -> float:
        """The accuracy that decides: on validation."""
        return self.validation.confusion.accuracy

    def changed(self, before: "Judged") -> float:
        """Return the share of the test rows that have another label than before."""
        return float((self.labels != before.labels).double().mean())


@dataclass(frozen=True)
class Trial:
    """A folder with models, the checkpoint that they come from, and the rows to try them on.

    `done` is told the rows of each batch.
    """

    folder: Path
    words: str
    checkpoint: TextClassifier
    reading: Reading
    rows: Rows
    done: Callable[[int], object]

    def open(self, name: str, threads: int = 0) -> OnnxClassifier:
        """Open one of the models."""
        return open_model(
            self.folder / name, self.words, self.checkpoint.labels, self.reading, threads
        )

    def judge(self, name: str | None = None) -> Judged:
        """Ask one of the models about both splits; without a name, the checkpoint."""
        model: Classifier = self.checkpoint if name is None else self.open(name)
        longest = self.rows.longest
        quiet = name is not None
        validation, _ = judge(model, self.rows.validation, longest, self.done, quiet)
        test, labels = judge(model, self.rows.test, longest, self.done, quiet=True)
        return Judged(validation, test, labels)

    def milliseconds(self, names: list[str], runs: int = RUNS) -> dict[str, dict[str, float]]:
        """Return how long one text takes in one thread, by model and tokens.

        The checkpoint, and the dense model where that was larger, are asked as transformers'
        pipeline asks them.
        """
        dense = dense_model(self.checkpoint.model)
        torchs = {} if dense is None else {DENSE: self._pipeline(dense)}
        torchs[CHECKPOINT] = self._pipeline(self.checkpoint.model)
        models = {name: self.open(name, threads=1) for name in names}
        found: dict[str, dict[str, float]] = {name: {} for name in (*torchs, *models)}
        with one_thread():
            for tokens in sorted({min(length, self.reading.longest) for length in LENGTHS}):
                text = self._text(tokens)
                asked = text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
                calls: dict[str, Callable[[], object]] = {
                    name: partial(serve, asked, truncation=True) for name, serve in torchs.items()
                }
                calls |= {name: partial(_answer, model, text) for name, model in models.items()}
                for name, seconds in medians(calls, runs).items():
                    found[name][str(tokens)] = seconds * 1000
        return found

    def _pipeline(self, model: PreTrainedModel) -> Callable[..., object]:
        tokenizer: Any = self.checkpoint.tokenizer  # its classes are more than pipeline declares
        return pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")

    def _text(self, tokens: int) -> Text:
        tokenizer, texts = self.checkpoint.tokenizer, self.rows.validation.texts
        if not self.checkpoint.pairs:
            return text_of(tokenizer, texts, tokens)
        half = text_of(tokenizer, texts, tokens // 2 + 1)
        return half, half


def put_on_trial(
    classifier: TextClassifier, folder: Path, rows: Rows, done: Callable[[int], object]
) -> tuple[Trial, Shrunk, float]:
    """Write tokenizer, labels and model.onnx of a classifier into a folder.

    Returns:
        The folder on trial, what was superfluous and left out, and how far logits differ.

    Raises:
        InputError: the family does not go through torch's exporter.
        InvariantError: what was written does not say what the checkpoint says.
    """
    texts = list(rows.validation.texts[:_COMPARED])
    words = write_words(classifier, folder, texts)
    shrunk, off = write_model(classifier, folder, words, texts)
    return Trial(folder, words, classifier, reading_of(classifier), rows, done), shrunk, off


def dense_model(model: PreTrainedModel) -> PreTrainedModel | None:
    """Return a model as large as the one that a checkpoint lost units of; None where it lost none.

    Its weights are random: it can be timed and weighed.
    """
    sizes = getattr(model.config, DENSE_SIZES, None)
    if not isinstance(sizes, dict):
        return None
    layers = sizes.get("layers", model.config.num_hidden_layers)
    return Shape(sizes["width"], layers, sizes.get("types")).of_kind(model)


def _answer(model: OnnxClassifier, text: Text) -> Tensor:
    return model.logits(model.encode([text]))
