"""The control of a run: the same plan with random weights, which tells what the criterion gains."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pruneloop.config import Config, Criterion, Tracker
from pruneloop.records import RunFolder

log = logging.getLogger(__name__)


def control_of(config: Config, folder: RunFolder) -> Config:
    """Return the control of the run in a folder, whose round 0 it takes over."""
    return replace(
        config,
        control=False,
        prune=replace(config.prune, criterion=Criterion.random),
        budget=replace(config.budget, max_drop=None),
        tracker=Tracker.none,
        push_to_hub=None,
        start_from=str(folder.path),
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Say that the control runs, and keep its lines, which would be taken for the run's own."""
    log.info("control: the same plan with random weights ...")
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
