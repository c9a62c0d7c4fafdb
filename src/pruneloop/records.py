"""The record of a run: what every round did and cost, on disk after each round.

Standard library only, so that a record can be read and drawn anywhere. The files are
rewritten whole and atomically: a few kilobytes a round, and never half a line.
"""

import csv
import io
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pruneloop.durable import write_atomically


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round; rates and shares are fractions, `seconds` is wall time."""

    round: int
    amount: float
    prunable: int
    zeros: int
    sparsity: float
    model_sparsity: float
    shock_accuracy: float | None
    accuracy: float
    macro_f1: float
    loss: float
    test_accuracy: float
    test_macro_f1: float
    train_loss: float
    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """One prunable matrix after one round."""

    round: int
    name: str
    kind: str
    size: int
    zeros: int
    sparsity: float


class RunFolder:
    """The names of everything that a run writes, and how the records are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rounds_jsonl = path / "rounds.jsonl"
        self.rounds_csv = path / "rounds.csv"
        self.layers_csv = path / "layers.csv"
        self.status = path / "STATUS.json"
        self.facts = path / "run.json"
        self.checkpoint = path / "checkpoint"
        self.curve = path / "accuracy_vs_sparsity.png"

    def write_rounds(self, rounds: Sequence[RoundRecord]) -> None:
        """Write rounds.jsonl and rounds.csv."""
        lines = "".join(json.dumps(asdict(record)) + "\n" for record in rounds)
        write_atomically(self.rounds_jsonl, lines.encode())
        write_atomically(self.rounds_csv, _csv(RoundRecord, rounds))

    def write_layers(self, layers: Sequence[LayerRecord]) -> None:
        """Write layers.csv."""
        write_atomically(self.layers_csv, _csv(LayerRecord, layers))

    def read_rounds(self) -> list[RoundRecord]:
        """Read rounds.jsonl; an absent file is an empty record."""
        if not self.rounds_jsonl.exists():
            return []
        lines = self.rounds_jsonl.read_text(encoding="utf-8").splitlines()
        return [RoundRecord(**json.loads(line)) for line in lines]

    def write_status(self, state: str, **facts: Any) -> None:
        """Write STATUS.json: `running`, `done`, `failed` or `preempted`, and when."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._write_json(self.status, {"state": state, "updated": now, **facts})

    def is_done(self) -> bool:
        """Return whether STATUS.json says that the run is finished."""
        if not self.status.exists():
            return False
        return bool(json.loads(self.status.read_text(encoding="utf-8"))["state"] == "done")

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Write run.json: what was run, on what data, where, and the plan."""
        self._write_json(self.facts, facts)

    @staticmethod
    def _write_json(path: Path, content: dict[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=False, indent=2)
        write_atomically(path, (text + "\n").encode())


def _csv(kind: type, rows: Iterable[Any]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return buffer.getvalue().encode()
