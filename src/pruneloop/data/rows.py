"""Texts with their labels, out of the rows of any source; and what was left out, and why."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pruneloop.config import BadRows, CorpusData, Normalization
from pruneloop.data.cells import BadCell, Row, is_blank, spelled, visible
from pruneloop.errors import InputError, printable
from pruneloop.records import RejectedRow, Text


@dataclass
class Rows:
    """Texts with their label names, and what was done to them on the way in.

    `pairs` holds the second text of every row, and is empty where rows have one text.
    `places` says where each label stands first.
    """

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)
    empty: int = 0
    normalized: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def whole(self) -> Sequence[Text]:
        """The texts, or the pairs of them."""
        return list(zip(self.texts, self.pairs, strict=True)) if self.pairs else self.texts

    @property
    def read(self) -> int:
        """How many rows the source has."""
        return len(self.texts) + self.empty + len(self.rejected)


@dataclass(frozen=True)
class Corpus:
    """A source's rows; `test` is None where the source has no test split."""

    train: Rows
    test: Rows | None
    name: str

    @property
    def parts(self) -> list[Rows]:
        """The rows of every split that there is."""
        return [self.train, self.test] if self.test else [self.train]


def collect(rows: Iterable[Row], config: CorpusData, name: str) -> Rows:
    """Return the texts and labels of rows, and count what is dropped or changed.

    Raises:
        InputError: there is no text; or a row cannot be read for certain, and is not to be
            left out; or too many of them are.
    """
    found, first = Rows(), ""
    for row in rows:
        try:
            _add(row, config, found)
        except BadCell as error:
            if config.bad_rows == BadRows.error:
                hint = "data.bad_rows=skip leaves such rows out"
                raise InputError(f"{row.place}: {error}; {hint}") from None
            first = first or f"{row.place}: {error}"
            found.rejected.append(_rejected(row, str(error), name))
    if len(found.rejected) > config.max_bad * found.read:
        raise InputError(
            f"{name}: {len(found.rejected)} of {found.read} rows cannot be read for certain, more "
            f"than data.max_bad={config.max_bad:g}; {first}"
        )
    if not found.texts:
        raise InputError(f"{name}: no row with a text; is the file empty?")
    return found


def _add(row: Row, config: CorpusData, found: Rows) -> None:
    if row.fault:
        raise BadCell(row.fault)
    texts = [_read(row, column, "text") or "" for column in config.texts]
    if any(is_blank(text) for text in texts):
        found.empty += 1
        return
    label = visible(_read(row, config.label, "label") or "")
    if not label:
        raise BadCell("the label is missing")
    if config.normalize == Normalization.NFC:
        joined = [unicodedata.normalize("NFC", text) for text in texts]
        found.normalized += joined != texts
        texts = joined
    found.texts.append(texts[0])
    found.pairs.extend(texts[1:])
    found.labels.append(label)
    found.places.setdefault(label, row.place)


def _read(row: Row, column: str, what: str) -> str | None:
    try:
        return spelled(row.cells[column])
    except BadCell as error:
        raise BadCell(f"the {what} {error}") from None


def _rejected(row: Row, why: str, name: str) -> RejectedRow:
    # A lone surrogate cannot be written, and would take the whole list with it.
    raw = row.raw or json.dumps(dict(row.cells), ensure_ascii=False, default=_readable)
    raw = raw.encode(errors="backslashreplace").decode()
    file = row.place.rpartition(",")[0] or name
    return RejectedRow(file=file, line=row.line, reason=printable(why), raw=raw)


def _readable(cell: object) -> str:
    return cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else str(cell)
