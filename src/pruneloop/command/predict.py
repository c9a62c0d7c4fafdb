"""`pruneloop predict`: where the texts come from, and where the predictions go."""

import csv
import io
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pruneloop.command.loading import loading
from pruneloop.durable import write_atomically
from pruneloop.errors import ConfigError, EnvironmentFault, InputError
from pruneloop.records import Text, parts_of
from pruneloop.report.columns import aligned

log = logging.getLogger(__name__)

_UNKNOWN_WARN = 0.30
_NO_TEXT = "-"
_COLUMNS = ("text", "text_pair")


@dataclass(frozen=True)
class Predictions:
    """What a checkpoint says of texts; a blank text has no probabilities."""

    labels: list[str]
    texts: Sequence[Text]
    probabilities: list[list[float] | None]

    def best(self) -> Iterator[tuple[Text, str | None, float | None]]:
        """Yield (text, label, probability) of every text."""
        for text, row in zip(self.texts, self.probabilities, strict=True):
            if row is None:
                yield text, None, None
            else:
                yield text, self.labels[row.index(max(row))], max(row)

    def lines(self) -> list[str]:
        """Return a line a text: label, probability and the text, in columns."""
        rows = [
            (label or _NO_TEXT, _NO_TEXT if share is None else f"{share:.4f}", _one_line(text))
            for text, label, share in self.best()
        ]
        return aligned(rows, left=(0, 2))

    def json_lines(self) -> Iterator[str]:
        """Yield a JSON object a text, with the probabilities of all labels."""
        for (text, label, share), row in zip(self.best(), self.probabilities, strict=True):
            each = None if row is None else dict(zip(self.labels, row, strict=True))
            known: dict[str, object] = dict(zip(_COLUMNS, parts_of(text), strict=False))
            found = known | {"label": label, "probability": share, "probabilities": each}
            yield json.dumps(found, ensure_ascii=False)

    def csv(self) -> bytes:
        """Return a csv with a byte order mark, without which spreadsheets garble Hangul."""
        buffer = io.StringIO()
        # Quoted: a text may hold anything, also a lone carriage return.
        writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        each = [f"probability_{label}" for label in self.labels]
        texts = _COLUMNS[: len(parts_of(self.texts[0]))]
        writer.writerow([*texts, "label", "probability", *each])
        for (text, *best), row in zip(self.best(), self.probabilities, strict=True):
            shares: Sequence[object] = row or [None] * len(self.labels)
            cells = (*parts_of(text), *best, *shares)
            writer.writerow(["" if cell is None else cell for cell in cells])
        return buffer.getvalue().encode("utf-8-sig")

    def summary(self) -> str:
        """Return how many texts have each label."""
        counts = Counter(label for _, label, _ in self.best())
        parts = [f"{label} {counts[label]:,}" for label in self.labels]
        blank = [f"without a text {counts[None]:,}"] if counts[None] else []
        return f"{len(self.texts):,} rows: {', '.join(parts + blank)}"


def _one_line(text: Text) -> str:
    return "  |  ".join(" ".join(part.split()) for part in parts_of(text))


def predict(checkpoint: Path, texts: Sequence[Text], source: str) -> Predictions:
    """Ask a checkpoint about texts, with a progress bar on a terminal.

    Raises:
        InputError: no text is more than blank, or the checkpoint does not load.
    """
    asked = [
        number for number, text in enumerate(texts) if all(part.strip() for part in parts_of(text))
    ]
    if not asked:
        raise InputError(f"{source}: holds no text")
    from tqdm import tqdm

    with loading():
        from pruneloop.deployed import load

    classifier = load(checkpoint)
    encoded = classifier.encode([texts[number] for number in asked])
    if (unknown := classifier.unknown(encoded)) > _UNKNOWN_WARN:
        log.warning(f"warning: {unknown:.0%} of the tokens are unknown to the tokenizer")
    with tqdm(total=len(asked), unit="row", leave=False, disable=None, delay=0.5) as bar:
        found = classifier.logits(encoded, bar.update).softmax(-1).tolist()
    rows: list[list[float] | None] = [None] * len(texts)
    for number, row in zip(asked, found, strict=True):
        rows[number] = [round(share, 6) for share in row]
    return Predictions(classifier.labels, list(texts), rows)


def read_file(file: str, column: str | None, words: Sequence[str]) -> list[Text]:
    """Return the texts of a csv, tsv, json or parquet file, read as `data=files` reads it.

    They are pairs where two columns are named.

    Raises:
        ConfigError, InputError, EnvironmentFault: it cannot be.
    """
    from pruneloop.command.data_words import data_config

    given = {"train": file} | ({} if column is None else {"text": _columns(column)})
    config = data_config(["data=files", *words], {}, given)
    from pruneloop.config import FilesData
    from pruneloop.data.sources import read_texts

    assert isinstance(config, FilesData)
    return read_texts(config)


def _columns(said: str) -> str | list[str]:
    """Return one column's name, or two of `premise,hypothesis`."""
    names = said.split(",")
    return names if len(names) == 2 else said


def in_pairs(texts: Sequence[str]) -> list[Text]:
    """Return texts two by two.

    Raises:
        ConfigError: one is left over.
    """
    if len(texts) % 2:
        raise ConfigError(f"--pair: takes texts two by two, and these are {len(texts)}")
    return list(zip(texts[::2], texts[1::2], strict=True))


def read_lines() -> list[str]:
    """Return the lines of standard input.

    Raises:
        ConfigError: it is a terminal, where nobody has been told to type.
        InputError: it is not UTF-8.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            'pruneloop predict: no sentence; give one in quotes, as in predict FOLDER "재미있다", '
            "or a --file, or pipe lines into it"
        )
    try:
        content = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("standard input: is not utf-8; convert it with iconv") from error
    lines = content.split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def check_writable(out: Path, file: str | None) -> None:
    """Make sure, before anything is computed, that a file can be written.

    Raises:
        ConfigError: it is the file that is read.
        EnvironmentFault: its folder is not there, or refuses it.
    """
    if file is not None and out.exists() and Path(file).exists() and out.samefile(file):
        raise ConfigError(f"--out {out}: is the file that is read; give another name")
    if out.exists() and not out.is_file():
        raise EnvironmentFault(f"--out {out}: is no file; without --out, lines are printed")
    if not out.parent.is_dir():
        raise EnvironmentFault(f"--out {out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK):
        raise EnvironmentFault(f"--out {out}: the folder {out.parent} cannot be written to")


def write_csv(predictions: Predictions, out: Path) -> str:
    """Write the predictions; return what there is to say of them."""
    write_atomically(out, predictions.csv())
    return f"{out}: {predictions.summary()}"
