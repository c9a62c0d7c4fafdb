"""A folder that `pruneloop deploy` has written, asked as a checkpoint is."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import torch
from tokenizers import Tokenizer
from torch import Tensor

from pruneloop.errors import EnvironmentFault, InputError, InvariantError, reason
from pruneloop.locating import DEPLOYED
from pruneloop.prediction import Encoded, TextClassifier, check_files, check_texts, load_classifier
from pruneloop.records import Text

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LABELS, TOKENIZER = "labels.json", "tokenizer.json"


@dataclass(frozen=True)
class Reading:
    """What tokenizer.json does not say of texts: kept in deploy.json.

    `longest` is how many tokens are read of a text; `pairs` whether it was trained on pairs.
    """

    inputs: list[str]
    longest: int
    pairs: bool | None
    unknown_id: int | None
    special_ids: list[int]


@dataclass(frozen=True)
class OnnxClassifier:
    """A classifier in onnxruntime; `labels` in the order of its outputs.

    Texts are asked one by one, as the runner does: in int8, what stands beside a text in a
    batch would change its result.
    """

    session: "InferenceSession"
    words: str
    labels: list[str]
    reading: Reading
    longest: int

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.words)
        tokenizer.enable_truncation(self.longest)
        return tokenizer

    def encode(self, texts: Sequence[Text]) -> Encoded:
        """Tokenise texts, or pairs of them, cut to what is read of a text.

        Raises:
            InputError: a text holds half a character, or is none of the kind it was trained on.
        """
        check_texts(texts, self.reading.pairs)
        read = self._tokenizer.encode_batch(list(texts))
        columns = {
            "input_ids": [row.ids for row in read],
            "attention_mask": [row.attention_mask for row in read],
            "token_type_ids": [row.type_ids for row in read],
        }
        return Encoded({name: columns[name] for name in self.reading.inputs})

    def unknown(self, encoded: Encoded) -> float:
        """Return the share of the tokens that the tokenizer does not know."""
        return encoded.unknown(self.reading.unknown_id, self.reading.special_ids)

    def logits(self, encoded: Encoded, done: Callable[[int], object] = lambda rows: None) -> Tensor:
        """Return every text's logits, in the order of the texts; `done` is told of each.

        Raises:
            InvariantError: the model gives a number that is none.
        """
        found = torch.empty(len(encoded), len(self.labels))
        for number in range(len(encoded)):
            found[number] = torch.from_numpy(self.ask(encoded.row(number)))
            done(1)
        if not bool(found.isfinite().all()):
            raise InvariantError("the model's logits are not finite: it was trained so")
        return found

    def ask(self, row: dict[str, list[int]]) -> Any:
        """Return the logits of one text, as numpy's array."""
        feeds = {name: numpy.array([column], numpy.int64) for name, column in row.items()}
        return self.session.run(["logits"], feeds)[0][0]


Classifier = TextClassifier | OnnxClassifier


def load(path: Path) -> Classifier:
    """Load a checkpoint, or a folder that `pruneloop deploy` has written.

    Raises:
        InputError: it holds no classifier that can be loaded.
        CheckpointError: its files are not what its manifest says.
        EnvironmentFault: it needs onnxruntime, which is not installed.
    """
    if not (path / DEPLOYED).is_file():
        return load_classifier(path)
    check_files(path)
    try:
        facts = json.loads((path / DEPLOYED).read_text(encoding="utf-8"))
        model, reading = path / str(facts["model"]), Reading(**facts["reading"])
        labels = [str(label) for label in json.loads((path / LABELS).read_text(encoding="utf-8"))]
        words = (path / TOKENIZER).read_text(encoding="utf-8")
        Tokenizer.from_str(words)
    # The tokenizers library raises plain Exceptions.
    except Exception as error:
        raise InputError(
            f"{path}: is not what pruneloop deploy has written ({reason(error)})"
        ) from error
    return open_model(model, words, labels, reading)


def open_model(
    model: Path, words: str, labels: list[str], reading: Reading, threads: int = 0
) -> OnnxClassifier:
    """Open an ONNX file of a classifier; `words` is its tokenizer.json, 0 threads are all cores.

    Raises:
        InputError: it is damaged, or of another kind of model.
        EnvironmentFault: onnxruntime is not installed.
    """
    if find_spec("onnxruntime") is None:
        raise EnvironmentFault(f'{model}: needs onnxruntime; pip install "pruneloop[deploy]"')
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # warnings say what our own checks say better
    if not model.is_file():
        raise InputError(f"{model}: is not there")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # onnxruntime has a class of its own for everything that may be wrong with a file.
    except Exception as error:
        raise InputError(f"{model}: is no ONNX model that can be read ({reason(error)})") from error
    _check_shape(model, session, labels, reading)
    return OnnxClassifier(session, words, labels, reading, reading.longest)


def _check_shape(
    model: Path, session: "InferenceSession", labels: list[str], reading: Reading
) -> None:
    """Make sure that a model takes what is fed, and gives a number for each label."""
    inputs = sorted(value.name for value in session.get_inputs())
    outputs = {value.name: value.shape for value in session.get_outputs()}
    if inputs != sorted(reading.inputs) or outputs.get("logits", [0])[-1] != len(labels):
        raise InputError(
            f"{model}: is the ONNX file of another model; it takes {', '.join(inputs)} and gives "
            f"{', '.join(f'{name} {shape}' for name, shape in outputs.items())}"
        )
