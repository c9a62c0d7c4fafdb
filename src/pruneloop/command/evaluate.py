"""`pruneloop evaluate`: which checkpoint, on which rows, cut to which length."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pruneloop.command.data_words import data_config
from pruneloop.config import DataConfig, FilesData, Precision
from pruneloop.data import sources
from pruneloop.data.loading import load_splits
from pruneloop.data.splits import undivided
from pruneloop.deployed import load
from pruneloop.errors import ConfigError, InputError
from pruneloop.locating import find_checkpoint, find_run
from pruneloop.measurement import LabelledRows, Measurement, measure
from pruneloop.records import RunFacts
from pruneloop.redaction import was_cut

log = logging.getLogger(__name__)


def evaluate(folder: Path, words: Sequence[str], split: str) -> Measurement:
    """Measure the checkpoint in a folder on a split: of its run's data, or of what words name.

    The texts are cut as its run has cut them, so that the run's own figures come out again.

    Raises:
        ConfigError: the words name no data, or cannot be composed.
        InputError: the folder, the data, or their labels do not fit.
    """
    checkpoint = find_checkpoint(folder)
    facts = run_facts(folder)
    if facts is None and not any(word.startswith("data=") for word in words):
        raise ConfigError(
            f"{folder}: is no run's folder, so say which data, such as "
            "data=files data.test=test.csv data.text=review"
        )
    rows = _rows(config_of(facts, words, test_only=split == "test"), split)
    if facts and facts.precision != Precision.fp32.name:
        log.warning(
            f"note: the run measured in {facts.precision}, this is in float32, as its checkpoint "
            "is served"
        )
    classifier = load(checkpoint)
    longest = facts.data.max_length if facts else None
    with tqdm(total=len(rows.texts), unit="row", leave=False, disable=None, delay=0.5) as bar:
        return measure(classifier, rows, longest, bar.update)


def config_of(
    facts: RunFacts | None, words: Sequence[str] = (), test_only: bool = False
) -> DataConfig:
    """Return the data that a run was trained on, as words change it.

    Raises:
        ConfigError: the words cannot be composed, or what was secret of a URL is not given.
    """
    settings = facts.config if facts else {}
    own = {k.removeprefix("data."): v for k, v in settings.items() if k.startswith("data.")}
    _check_whole(own, words)
    return data_config(words, own, test_only=test_only)


def _check_whole(own: Mapping[str, Any], words: Sequence[str]) -> None:
    """Make sure that the run's data can be found: what is secret of a URL is not on record."""
    given = {word.partition("=")[0] for word in words}
    for key, value in own.items():
        if was_cut(value) and not {"data", f"data.{key}"} & given:
            raise ConfigError(
                f"data.{key}={value}: what stands behind #cut was secret and is not on record; "
                f"give it again, as 'data.{key}=\"URL\"'"
            )


def _rows(config: DataConfig, split: str) -> LabelledRows:
    if not isinstance(config, FilesData) or (config.test, split) != (config.train, "test"):
        return LabelledRows.of(load_splits(config), split)
    # Test rows alone: nothing is held out of them, and they may lack some of the labels.
    corpus = sources.load(config)
    assert corpus.test is not None
    labels = undivided(corpus.test, config.label_names)
    return LabelledRows(corpus.name, split, corpus.test.whole, labels)


def run_facts(folder: Path) -> RunFacts | None:
    """Return what the run of a folder has recorded; None where it is none's.

    Raises:
        InputError: another version has recorded it.
    """
    run = find_run(folder)
    if run is None:
        return None
    try:
        return run.read_facts()
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{run.facts}: is not what this version of pruneloop writes") from error
