"""What the rungs are worth as int8, on rows that are the same for all; each is asked once."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pruneloop.config import DataConfig
from pruneloop.data.loading import load_splits
from pruneloop.deployment.int8 import judge_checkpoint, judge_int8
from pruneloop.deployment.trial import ROWS, Judged, Rows
from pruneloop.durable import manifest, saving, write_atomically
from pruneloop.errors import utf8
from pruneloop.measurement import LabelledRows, Measurement


@dataclass(frozen=True)
class Worth:
    """What a checkpoint has on both splits; of its int8 file also the size."""

    validation: float
    test: float
    parameters: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Judge:
    """Asks models about the rows of some data, by one metric, and remembers what they said.

    `longest` is how many tokens the runs have read of a text.
    """

    data: DataConfig
    metric: str
    longest: Callable[[], int]

    def int8(self, checkpoint: Path) -> Worth:
        """Return what a checkpoint is worth as its int8 file."""

        def measure(done: Callable[[int], object]) -> Worth:
            found = judge_int8(checkpoint, self.rows, done)
            return self._worth(found.judged, found.parameters, found.bytes)

        return self._once(checkpoint, "int8", measure)

    def float32(self, checkpoint: Path) -> Worth:
        """Return what a checkpoint itself is worth."""

        def measure(done: Callable[[int], object]) -> Worth:
            return self._worth(judge_checkpoint(checkpoint, self.rows, done))

        return self._once(checkpoint, "float32", measure)

    @cached_property
    def rows(self) -> Rows:
        """The rows that are asked, text by text."""
        splits = load_splits(self.data)
        validation, test = (
            LabelledRows.of(splits, name).thinned(ROWS) for name in ("validation", "test")
        )
        return Rows(validation, test, self.longest())

    def _worth(self, judged: Judged, *size: int) -> Worth:
        return Worth(self._score(judged.validation), self._score(judged.test), *size)

    def _score(self, found: Measurement) -> float:
        return float(getattr(found.confusion, self.metric))

    def _once(
        self, checkpoint: Path, kind: str, measure: Callable[[Callable[[int], object]], Worth]
    ) -> Worth:
        """Return what is on record of this very checkpoint, else measure and write it down."""
        record = checkpoint.with_name(f"{checkpoint.name}.{kind}.{self.metric}.json")
        known = manifest(checkpoint)
        if record.is_file():
            found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
            if found["checkpoint"] == known:
                return Worth(**found["worth"])
        asked = len(self.rows.validation.texts) + len(self.rows.test.texts)
        with tqdm(total=asked, unit="row", leave=False, disable=None, delay=0.5) as bar:
            worth = measure(bar.update)
        with saving(record.parent, 0):
            text = json.dumps({"checkpoint": known, "worth": asdict(worth)})
            write_atomically(record, utf8(text + "\n"))
        return worth
