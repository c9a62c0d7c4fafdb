"""The record of a run: what every round did and cost, on disk after each round.

Standard library only, so that a record can be read and drawn anywhere. The files are
rewritten whole and atomically: a few kilobytes a round, and never half a line.
"""

import codecs
import csv
import io
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pruneloop.durable import hash_file, manifest, write_atomically
from pruneloop.errors import utf8
from pruneloop.redaction import without_secrets

Text = str | tuple[str, str]
"""What is classified: one text, or a pair of them."""


def parts_of(text: Text) -> tuple[str, ...]:
    """Return the one text, or the two of a pair."""
    return (text,) if isinstance(text, str) else text


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round; rates and shares are fractions, `seconds` is wall time.

    `kept` is false for a round that lost more than the budget and was undone; `train_loss`
    is None where nothing trained. `epochs` holds what validation was after every epoch, if
    that was asked for.
    """

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
    train_loss: float | None
    steps: int
    seconds: float
    kept: bool
    epochs: list[dict[str, float]] = field(default_factory=list)


def last_kept(rounds: Sequence[RoundRecord]) -> RoundRecord:
    """Return the round whose weights are exported."""
    return next(record for record in reversed(rounds) if record.kept)


@dataclass(frozen=True)
class LayerRecord:
    """One prunable matrix after one round."""

    round: int
    name: str
    kind: str
    size: int
    zeros: int
    sparsity: float


@dataclass(frozen=True, kw_only=True)
class PredictionRecord:
    """One row of the test split: its label, and what the model says dense and at the end.

    `text_pair` is the second text, where pairs are classified; `row` counts from 0. A
    confidence is the probability of the label that the model says.
    """

    label: str
    dense: str
    pruned: str
    text: str
    text_pair: str = ""
    row: int
    dense_confidence: float
    pruned_confidence: float


@dataclass(frozen=True, kw_only=True)
class RejectedRow:
    """A row of a data file that was left out: where it stands, why, and as it stands there.

    `line` is that of its first line, or its number where a file has no lines.
    """

    file: str
    line: int
    reason: str
    raw: str


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What the rows were; `fingerprints` are hashes of every split's texts and labels.

    `majority` is the accuracy of always saying the most frequent label of train, by split.
    """

    name: str
    hub_name: str | None
    labels: list[str]
    rows: dict[str, int]
    majority: dict[str, float]
    truncated: int
    unknown_tokens: float
    max_length: int
    fingerprints: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What run.json holds: what was run, on what data, where, and the plan.

    `planned_zeros` are those after every round, round 0 first; where rows or columns of
    unequal density go as a whole they are the most, and `planned_zeros_at_least` fewer.
    `language` is that of the pages, `en` or `ko`.
    """

    command: str
    overrides: list[str]
    model: str
    base_model: str | None
    licence: str | None
    data: DataFacts
    parameters: int
    prunable: int
    planned_zeros: list[int]
    planned_zeros_at_least: list[int]
    device: str
    hardware: str
    processes: int
    precision: str
    language: str
    config: dict[str, Any]
    versions: dict[str, str]

    @property
    def pairs(self) -> bool:
        """Whether pairs of texts are classified."""
        return isinstance(self.config.get("data.text"), list)


ROUND_COLUMNS = tuple(each.name for each in fields(RoundRecord) if each.name != "epochs")
"""A round's columns in tables; its epochs have a table of their own."""

_MARK = ".started"
_Record = TypeVar("_Record", LayerRecord, PredictionRecord)


class RunFolder:
    """The names of everything that a run writes, and how the records are written.

    Files with texts begin with a byte order mark: without it, spreadsheets garble Hangul.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rounds_jsonl = path / "rounds.jsonl"
        self.rounds_csv = path / "rounds.csv"
        self.epochs_csv = path / "epochs.csv"
        self.layers_csv = path / "layers.csv"
        self.predictions_csv = path / "predictions.csv"
        self.rejected_csv = path / "rejected.csv"
        self.status = path / "STATUS.json"
        self.facts = path / "run.json"
        self.checkpoint = path / "checkpoint"
        self.rounds = path / "rounds"
        self.control = path / "control"
        self.rungs = path / "rungs"
        self.deploy = path / "deploy"
        self.deployed = self.deploy / "deploy.json"
        self.report = path / "report.html"
        self.curve = path / "accuracy_vs_sparsity.png"
        self.heat_map = path / "sparsity_by_layer.png"
        self._seal = path / "state" / "sealed.json"

    def write_rounds(self, rounds: Sequence[RoundRecord]) -> None:
        """Write rounds.jsonl and rounds.csv, and epochs.csv where every epoch was measured."""
        lines = "".join(json.dumps(asdict(record)) + "\n" for record in rounds)
        write_atomically(self.rounds_jsonl, lines.encode())
        write_atomically(self.rounds_csv, csv_of(ROUND_COLUMNS, map(asdict, rounds)))
        epochs = [{"round": record.round, **epoch} for record in rounds for epoch in record.epochs]
        if epochs:
            write_atomically(self.epochs_csv, csv_of(list(epochs[0]), epochs))

    def write_layers(self, layers: Sequence[LayerRecord]) -> None:
        """Write layers.csv."""
        write_atomically(self.layers_csv, _csv(LayerRecord, layers))

    def write_predictions(self, rows: Iterable[PredictionRecord]) -> None:
        """Write predictions.csv."""
        rows = list(rows)
        without = () if any(row.text_pair for row in rows) else ("text_pair",)
        # All quoted: a text may hold anything, also a lone carriage return.
        content = _csv(PredictionRecord, rows, csv.QUOTE_ALL, without)
        write_atomically(self.predictions_csv, codecs.BOM_UTF8 + content)

    def write_rejected(self, rows: Sequence[RejectedRow]) -> None:
        """Write rejected.csv where rows were left out; without any, there is no such file."""
        if rows:
            named = [replace(row, file=without_secrets(row.file)) for row in rows]
            content = _csv(RejectedRow, named, csv.QUOTE_ALL)
            write_atomically(self.rejected_csv, codecs.BOM_UTF8 + content)
        else:
            self.rejected_csv.unlink(missing_ok=True)

    def read_rounds(self) -> list[RoundRecord]:
        """Read rounds.jsonl; an absent file is an empty record."""
        if not self.rounds_jsonl.exists():
            return []
        lines = self.rounds_jsonl.read_text(encoding="utf-8").splitlines()
        return [RoundRecord(**json.loads(line)) for line in lines]

    def read_layers(self) -> list[LayerRecord]:
        """Read layers.csv; an absent file is an empty record."""
        return _read_csv(self.layers_csv, LayerRecord)

    def read_predictions(self) -> list[PredictionRecord]:
        """Read predictions.csv; an absent file is an empty record."""
        return _read_csv(self.predictions_csv, PredictionRecord)

    def write_status(self, state: str, **facts: Any) -> None:
        """Write STATUS.json: `running`, `done`, `failed`, `preempted` or `interrupted`."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        _write_json(self.status, {"state": state, "updated": now, **facts})

    def write_failure(self, message: str, exit_code: int) -> None:
        """Write into STATUS.json why a command failed.

        A finished run stays `done`; that a later command could not go on with it is added.
        """
        failure = {"message": message, "exit_code": exit_code}
        if self.is_done():
            _write_json(self.status, self.read_status() | {"refused": failure})
        else:
            self.write_status("failed", **failure)

    def write_stop(self, message: str, exit_code: int) -> None:
        """Write into STATUS.json that a signal stopped the run: `preempted`, to be started again.

        By Ctrl-C it is `interrupted`, and a scheduler leaves it alone.
        """
        state = "interrupted" if exit_code == 130 else "preempted"
        self.write_status(state, message=message, exit_code=exit_code)

    def read_status(self) -> dict[str, Any]:
        """Read STATUS.json; one that is absent, or not what a run writes, is empty."""
        with suppress(ValueError):
            return _read_json(self.status)
        return {}

    def is_done(self) -> bool:
        """Return whether STATUS.json says that the run is finished."""
        return bool(self.read_status().get("state") == "done")

    def seal(self, files: Iterable[Path]) -> None:
        """Remember what files of a finished run hold, beside those that are remembered already."""
        if not self._seal.parent.is_dir():
            return  # a copy without the state cannot go on, and needs no seal
        hashes = {file.name: hash_file(file) for file in files if file.is_file()}
        with suppress(ValueError):  # a damaged one is written anew
            hashes = _read_json(self._seal) | hashes
        _write_json(self._seal, hashes)

    def damaged(self) -> list[str]:
        """Return the names of the files that are gone, or hold other than what was sealed."""
        try:
            sealed = _read_json(self._seal)
        except ValueError:
            return [self._seal.name]
        files = {name: self.path / name for name in sealed}
        return [
            name
            for name, file in files.items()
            if not file.is_file() or hash_file(file) != sealed[name]
        ]

    @property
    def records(self) -> list[Path]:
        """The files that a run's state is enough to write again."""
        return [
            *(self.facts, self.rounds_jsonl, self.rounds_csv, self.layers_csv),
            *(self.epochs_csv, self.predictions_csv, self.rejected_csv),
        ]

    def write_facts(self, facts: RunFacts) -> None:
        """Write run.json."""
        _write_json(self.facts, asdict(facts))

    def read_facts(self) -> RunFacts | None:
        """Read run.json; None where it is absent.

        Raises:
            ValueError, TypeError, KeyError: it is not what this version writes.
        """
        found = _read_json(self.facts)
        return RunFacts(**(found | {"data": DataFacts(**found["data"])})) if found else None


def read_deployed(folder: RunFolder) -> dict[str, Any]:
    """Return what `pruneloop deploy` has measured of a run's checkpoint; empty where it has not."""
    found = _read_json(folder.deployed)
    return found if found.get("checkpoint") == manifest(folder.checkpoint) else {}


def mark_start(sweep: Path) -> None:
    """Mark in a sweep's folder that a command begins: what Hydra writes later is of it."""
    (sweep / _MARK).touch()


def is_of_last_command(point: Path) -> bool:
    """Whether the last command in a sweep's folder had this point; without a mark, it had."""
    mark = point.parent / _MARK
    written = point / ".hydra" / "overrides.yaml"
    if not mark.exists() or not written.exists():
        return True
    return written.stat().st_mtime_ns >= mark.stat().st_mtime_ns


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=2)
    write_atomically(path, utf8(text + "\n"))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _read_csv(path: Path, kind: type[_Record]) -> list[_Record]:
    if not path.exists():
        return []
    types: dict[str, Any] = {each.name: each.type for each in fields(kind)}
    csv.field_size_limit(1 << 30)  # a text may be long
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        return [kind(**{k: types[k](v) for k, v in row.items()}) for row in rows]


def _csv(
    kind: type,
    rows: Iterable[Any],
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL,
    without: Sequence[str] = (),
) -> bytes:
    names = [each.name for each in fields(kind) if each.name not in without]
    return csv_of(names, (asdict(row) for row in rows), quoting)


def csv_of(
    names: Sequence[str],
    rows: Iterable[dict[str, Any]],
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL,
) -> bytes:
    """Return a csv with these columns; a row may lack some, and have others."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, "", "ignore", lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return utf8(buffer.getvalue())
