"""`pruneloop evaluate`: which checkpoint, on which rows, cut to which length."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from pruneloop.command.data_words import data_config
from pruneloop.data.loading import load_splits
from pruneloop.errors import ConfigError, InputError
from pruneloop.locating import find_checkpoint, find_run
from pruneloop.measurement import Measurement, measure
from pruneloop.prediction import load_classifier
from pruneloop.records import RunFacts


def evaluate(folder: Path, words: Sequence[str], split: str) -> Measurement:
    """Measure the checkpoint in a folder on a split: of its run's data, or of what words name.

    The texts are cut as its run has cut them, so that the run's own figures come out again.

    Raises:
        ConfigError: the words name no data, or cannot be composed.
        InputError: the folder, the data, or their labels do not fit.
    """
    checkpoint = find_checkpoint(folder)
    facts = _run_facts(folder)
    if facts is None and not any(word.startswith("data=") for word in words):
        raise ConfigError(
            f"{folder}: is no run's folder, so say which data, such as "
            "data=files data.test=test.csv data.text=review"
        )
    settings = facts.config if facts else {}
    own = {k.removeprefix("data."): v for k, v in settings.items() if k.startswith("data.")}
    config = data_config(words, own, test_only=split == "test")
    rows = load_splits(config)
    classifier = load_classifier(checkpoint)
    longest = facts.data.max_length if facts else None
    with tqdm(total=rows.counts[split], unit="row", leave=False, disable=None, delay=0.5) as bar:
        return measure(classifier, rows, split, longest, bar.update)


def _run_facts(folder: Path) -> RunFacts | None:
    run = find_run(folder)
    if run is None:
        return None
    try:
        return run.read_facts()
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{run.facts}: is not what this version of pruneloop writes") from error
