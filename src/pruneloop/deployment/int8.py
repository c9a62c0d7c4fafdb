"""A checkpoint judged as its int8 file, which is written for that and not kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pruneloop.deployment.trial import Judged, Rows, Trial, put_on_trial
from pruneloop.deployment.writing import FP32, INT8, check_deployable, reading_of
from pruneloop.durable import fresh_folder, remove_folder, saving
from pruneloop.exports.onnx_files import write_int8
from pruneloop.exports.smaller import size
from pruneloop.prediction import load_classifier


@dataclass(frozen=True)
class Int8:
    """What the int8 file of a checkpoint is worth, with its bytes and the model's parameters."""

    parameters: int
    bytes: int
    judged: Judged


def judge_int8(
    checkpoint: Path, rows: Rows, done: Callable[[int], object] = lambda rows: None
) -> Int8:
    """Write a checkpoint as int8 beside it, ask that about the rows, and remove it.

    Args:
        done: is told the rows of each batch.

    Raises:
        InputError: the classifier cannot be served without torch and transformers.
        InvariantError: what was written does not say what the checkpoint says.
        EnvironmentFault: there is no space, or a write was refused.
    """
    classifier = load_classifier(checkpoint)
    nn.Module.to(classifier.model, "cpu")
    check_deployable(classifier)
    place = checkpoint.with_name(f".{checkpoint.name}.int8.tmp")
    with saving(checkpoint.parent, 2 * sum(f.stat().st_size for f in checkpoint.iterdir())):
        folder = fresh_folder(place)
        trial, shrunk, _ = put_on_trial(classifier, folder, rows, done)
        write_int8(folder / FP32, folder / INT8)
        found = Int8(size(shrunk.model), (folder / INT8).stat().st_size, trial.judge(INT8))
        remove_folder(folder)
    return found


def judge_checkpoint(
    checkpoint: Path, rows: Rows, done: Callable[[int], object] = lambda rows: None
) -> Judged:
    """Ask a checkpoint itself, in float32, about the same rows."""
    classifier = load_classifier(checkpoint)
    nn.Module.to(classifier.model, "cpu")
    return Trial(checkpoint, "", classifier, reading_of(classifier), rows, done).judge()
