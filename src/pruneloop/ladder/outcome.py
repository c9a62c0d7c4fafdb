"""What a ladder tells and leaves: its table, ladder.csv, and the checkpoint of the best rung."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from pruneloop.durable import (
    check_folder,
    fresh_folder,
    manifest,
    publish_folder,
    saving,
    seal_folder,
    write_atomically,
)
from pruneloop.errors import CheckpointError, utf8
from pruneloop.records import RunFolder, csv_of
from pruneloop.report.columns import aligned

_CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A rung as it was tried: a line of ladder.csv.

    `validation` and `test` are the budget's metric of the int8 file; `lost` is what that has
    lost on validation against round 0 in float32, on the same rows.
    """

    rung: str
    model: str
    epochs: int | None
    parameters: int
    int8_bytes: int
    validation: float
    test: float
    lost: float
    within: bool
    kept: bool = False
    checkpoint: str


@dataclass(frozen=True)
class Outcome:
    """All that was tried so far; `dense` is what round 0 has on validation, in float32."""

    tries: Sequence[Attempt]
    dense: float
    max_drop: float

    @property
    def best(self) -> Attempt | None:
        """The smallest file within the budget, of equal ones the better; None without any."""
        within = [found for found in self.tries if found.within]
        return min(within, key=lambda found: (found.int8_bytes, found.lost), default=None)

    def table(self) -> list[str]:
        """Return a line a try; the best one is marked."""
        rows = [["", "parameters", "int8 MB", "validation", "lost", "budget", "test"]]
        for found in self.tries:
            rows.append(
                [
                    found.model + (" *" if found is self.best else ""),
                    f"{found.parameters:,}",
                    f"{found.int8_bytes / 1e6:.2f}",
                    f"{found.validation:.4f}",
                    f"{found.lost:+.4f}",
                    "within" if found.within else "beyond",
                    f"{found.test:.4f}",
                ]
            )
        return aligned(rows)

    def write(self, folder: RunFolder) -> None:
        """Write ladder.json and ladder.csv."""
        tries = [asdict(replace(found, kept=found is self.best)) for found in self.tries]
        content = {"dense": self.dense, "max_drop": self.max_drop, "tries": tries}
        text = json.dumps(content, ensure_ascii=False, indent=1)
        with saving(folder.path, 0):
            write_atomically(folder.path / "ladder.json", utf8(text + "\n"))
            names = [each.name for each in fields(Attempt)]
            write_atomically(folder.path / "ladder.csv", csv_of(names, tries))

    def card(self) -> str:
        """Return what a checkpoint's card says of where it stands among the others."""
        table = "\n".join(self.table())
        return (
            "\n## Ladder\n\nFound by `experiment=smallest`. Rounds and figures above are those of "
            "the last step, which started from a larger model of the ladder. Round 0 has "
            f"{self.dense:.4f} on validation; each int8 file:\n\n```\n{table}\n```\n"
        )


def hand_over(source: Path, target: Path, card: str) -> None:
    """Make a sealed checkpoint also that of a folder, with more on its card; unless it is.

    Raises:
        EnvironmentFault: there is no space, or a write was refused.
    """
    text = utf8((source / _CARD).read_text(encoding="utf-8") + card)
    if _is_there(source, target, text):
        return
    temporary = target.with_name(f".{target.name}.tmp")
    with saving(target.parent, sum(file.stat().st_size for file in source.iterdir())):
        fresh_folder(temporary)
        for file in source.iterdir():
            shutil.copyfile(file, temporary / file.name)
        (temporary / _CARD).write_bytes(text)
        seal_folder(temporary)
        publish_folder(temporary, target)


def _is_there(source: Path, target: Path, card: bytes) -> bool:
    try:
        check_folder(target)
    except CheckpointError:
        return False
    known, found = manifest(source), manifest(target)
    same = known | {_CARD: ""} == found | {_CARD: ""}
    return same and (target / _CARD).read_bytes() == card
