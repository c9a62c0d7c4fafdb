"""Rows of tables: delimited text, cut strictly, and whatever else has cells side by side."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pruneloop.config import FilesData, Format, Quoting
from pruneloop.data.cells import LONGEST, BadCell, Row, is_blank, spelled, visible
from pruneloop.errors import InputError, shortened

_DELIMITERS = {"\t": (r'"\t"', "tab"), ";": ('";"', "semicolon"), "|": ('"|"', "bar")}
_DELIMITERS |= {",": ('","', "comma")}
_PLAIN = "if quotes are plain characters in this file, say data.quoting=none"


@dataclass(frozen=True, slots=True)
class Cut:
    """A row as it was cut into cells; `fault` says why that is not certain."""

    line: int
    cells: Sequence[Any]
    raw: str
    lines: Sequence[str] = ()
    fault: str = ""


@dataclass
class Table:
    """A file's columns, where it has the same in every row, and its rows."""

    rows: Iterator[Row]
    columns: list[str] = field(default_factory=list)


def delimited(content: str, name: str, config: FilesData, kind: Format) -> Table:
    """Cut delimited text into rows.

    Raises:
        InputError: a column is missing, or the delimiter is another one.
    """
    text = _Text(content, config, kind)
    cuts, refused = text.cut(), set[int]()
    # Whether a quote swallows rows is told by the labels of the others: cut first, then look.
    while swallowing := _swallowing(cuts, text, config):
        refused |= swallowing
        cuts = text.cut(refused)
    return shaped(cuts, name, config, text)


class _Lines:
    """Lines that the csv reader takes, and that can be taken back when it went wrong."""

    def __init__(self, lines: Sequence[str], position: int) -> None:
        self._lines = lines
        self.position = position

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.position >= len(self._lines):
            raise StopIteration
        self.position += 1
        return self._lines[self.position - 1]


class _Text:
    """Delimited text: its lines, what stands between its cells, and how to cut it."""

    def __init__(self, content: str, config: FilesData, kind: Format) -> None:
        # It ends a line at \n, \r and \r\n, and nowhere else.
        self.lines = list(io.StringIO(content, newline=""))
        self._start = next((n for n, line in enumerate(self.lines) if not is_blank(line)), 0)
        said = re.fullmatch(r'"?sep=(.)"?\s*', self.lines[self._start]) if self.lines else None
        self._start += said is not None  # a spreadsheet's own line
        usual = said.group(1) if said else "\t" if kind == Format.tsv else ","
        self.delimiter = config.delimiter or usual
        self.given = config.delimiter is not None or said is not None or kind == Format.tsv
        self._needed = {column for _, column in config.columns_read}
        self._quotes = config.quoting != Quoting.none
        behind = re.escape(self.delimiter) + ' +"'
        self._blanks = self._quotes and re.search(behind, content) is not None

    def cut(self, refused: Collection[int] = ()) -> list[Cut]:
        """Return all rows; those that begin in the lines `refused` are taken as bad."""
        source = _Lines(self.lines, self._start)
        reader = csv.reader(
            source,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self._quotes else csv.QUOTE_NONE,
            skipinitialspace=self._blanks,
            strict=True,
        )
        csv.field_size_limit(LONGEST)
        cuts = []
        while (first := source.position) < len(self.lines):
            fault, cells = "", list[str]()
            try:
                cells = next(reader)
            except csv.Error as error:
                fault = _explained(error)
            if not fault and first + 1 in refused:
                swallowed = source.position - first - 1
                fault = f"a stray quote swallows the next {swallowed} row(s); {_PLAIN}"
            if fault:
                source.position = first + 1  # the lines behind it may be rows
            taken = self.lines[first : source.position]
            raw = "".join(taken).rstrip("\r\n")
            if fault or not is_blank(raw) or self.delimiter in raw or "\0" in raw:
                several = taken if len(taken) > 1 else ()
                cuts.append(Cut(first + 1, cells, raw, several, fault))
        return cuts

    def others(self) -> list[str]:
        """Return the delimiters besides this one that plainly cut the lines.

        The first line has both columns between them, or every line has equally many.
        """
        lines = [line for line in self.lines[self._start : self._start + 50] if not is_blank(line)]
        found = []
        for other in (sign for sign in _DELIMITERS if sign != self.delimiter and lines):
            counts = {line.count(other) for line in lines}
            names = {visible(cell.strip('"')) for cell in lines[0].split(other)}
            if self._needed <= names or (len(counts) == 1 and counts != {0}):
                found.append(other)
        return sorted(found, key=lambda other: -lines[0].count(other))


def _explained(error: csv.Error) -> str:
    if "field larger" in str(error):
        return f"a cell has more than 1 MiB, or its quote does not end; {_PLAIN}"
    return f"{error}; {_PLAIN}"


def _swallowing(cuts: list[Cut], text: _Text, config: FilesData) -> set[int]:
    """Return the lines where a quote begins that swallows whole rows.

    A quoted text may span lines, but not if each of them is a row with a label itself,
    unless other rows show that quotes are no plain characters in this file.
    """
    spread = [cut for cut in cuts if cut.lines and not cut.fault]
    header = config.columns or [visible(cell) for cell in cuts[0].cells] if cuts else []
    if not spread or config.label not in header:
        return set()
    at, width = header.index(config.label), len(header)
    rows = cuts if config.columns else cuts[1:]
    plain = (cut.cells for cut in rows if not cut.lines and len(cut.cells) == width)
    labels = {visible(cells[at]) for cells in plain}
    digits = max(map(len, labels), default=1) if all(map(str.isdecimal, labels)) else 0

    def is_label(value: str) -> bool:
        # A price's 12,000 ends in no label where the labels are 0 and 1.
        number = value.isdecimal() and len(value) <= digits and not re.match("0.", value)
        return value in labels or number

    found = set()
    for cut in spread:
        alone = [line.rstrip("\r\n").split(text.delimiter) for line in cut.lines]
        if all(len(cells) == width and is_label(visible(cells[at])) for cells in alone):
            found.add(cut.line)
    return set() if _quotes_well(cuts, text.delimiter) else found


def _quotes_well(cuts: list[Cut], delimiter: str) -> bool:
    """Return whether rows of one line have cells that needed quotes, and none has bare ones."""
    quoted = [cut for cut in cuts if not cut.lines and not cut.fault and '"' in cut.raw]
    bare = any('"' in cell and '""' not in cut.raw for cut in quoted for cell in cut.cells)
    needed = any(delimiter in cell or '"' in cell for cut in quoted for cell in cut.cells[:50])
    # A row that is quoted as a whole is of another hand.
    return needed and not bare and all(len(cut.cells) > 1 for cut in quoted)


# -- cells under the names of their columns ------------------------------------------


def shaped(cuts: list[Cut], name: str, config: FilesData, text: _Text | None = None) -> Table:
    """Put cells under the names of their columns: data.columns, or those of the first row.

    Raises:
        InputError: a column is missing or there twice, the first row cannot be read, or no
            row has as many cells as there are columns.
    """
    header, body = list(config.columns), cuts
    place = f"{name}, {'line' if text else 'row'}"
    if not header and cuts:
        if cuts[0].fault:
            raise InputError(f"{place} {cuts[0].line}: {cuts[0].fault}")
        header, body = [visible(_as_text(cell)) for cell in cuts[0].cells], cuts[1:]
        _check_header(header, cuts, f"{place} {cuts[0].line}", config, text)
    named = len(header)
    while header and not header[-1]:  # trailing commas
        header.pop()
    surplus = max(named - len(header), _surplus(len(header), body))
    label = header.index(config.label) if header else 0
    sign = text.delimiter if text else ""
    shape = _Shape(header, surplus if text else None, sign, place, label)
    if config.columns:
        _check_width(shape, cuts, name, text)
    return Table((shape.row(cut) for cut in body), header)


def _as_text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    try:
        return spelled(cell) or ""
    except BadCell:
        return str(cell)


def _surplus(width: int, body: list[Cut]) -> int:
    """Return how many empty cells most rows have behind the columns."""
    rows = [cut.cells for cut in body if not cut.fault]
    counts = Counter(len(cells) for cells in rows)
    usual = max(counts, key=lambda count: (counts[count], -count), default=0)
    trailing = [cells[width:] for cells in rows if len(cells) == usual > width]
    empty = sum(all(is_blank(_as_text(cell)) for cell in cells) for cells in trailing)
    return usual - width if empty > len(trailing) / 2 else 0


@dataclass(frozen=True)
class _Shape:
    """What a row must look like; behind its columns it may have `surplus` empty cells."""

    header: list[str]
    surplus: int | None
    delimiter: str
    place: str
    label: int

    def row(self, cut: Cut) -> Row:
        """Return a row with its cells under their columns, or with what is wrong with it."""
        fault = cut.fault or self._fault(cut)
        cells = dict.fromkeys(self.header) | dict(zip(self.header, cut.cells, strict=False))
        raw = cut.raw or (_shown(cut.cells) if fault else "")
        return Row(f"{self.place} {cut.line}", cut.line, {} if fault else cells, raw, fault)

    def fits(self, cut: Cut) -> bool:
        """Return whether a row has a cell for each column, and nothing behind them."""
        width, cells = len(self.header), cut.cells
        most = len(cells) if self.surplus is None else width + self.surplus
        # A row of which nothing is seen may have any width.
        rest = cells[width:] if width <= len(cells) <= most else cells
        return all(is_blank(_as_text(cell)) for cell in rest)

    def _is_header(self, cut: Cut) -> bool:
        cells = [_as_text(cell) for cell in cut.cells[: len(self.header)]]
        if len(cells) < len(self.header) or visible(cells[self.label]) != self.header[self.label]:
            return False
        return [visible(cell) for cell in cells] == self.header

    def _fault(self, cut: Cut) -> str:
        if "\0" in cut.raw:
            return "has NUL bytes; a file of UTF-16 needs data.encoding=utf-16"
        if self._is_header(cut):
            return "is a header line, and no row"
        if self.fits(cut):
            return ""
        count, wanted = len(cut.cells), len(self.header)
        if count == 1 and self.delimiter and self.delimiter in str(cut.cells[0]):
            return "is quoted as a whole, as spreadsheets do with a row in one cell"
        return (
            f"{count} columns instead of {wanted}; quote the text, "
            "or set data.delimiter or data.quoting"
        )


def _check_header(
    header: list[str], cuts: list[Cut], place: str, config: FilesData, text: _Text | None
) -> None:
    for key, column in config.columns_read:
        if header.count(column) > 1:
            raise InputError(f"{place}: a column stands there twice: {', '.join(header)}")
        if column not in header:
            found = shortened(", ".join(_as_text(cell).strip() for cell in cuts[0].cells), 200)
            raise InputError(
                f"{place}: no column {column!r} (data.{key}={column}); found: {found}; "
                f"{_other_delimiter(cuts, text)}{_first_rows(cuts)}; if there is no header line, "
                "name the columns as data.columns=[label,text]"
            )


def _check_width(shape: _Shape, cuts: list[Cut], name: str, text: _Text | None) -> None:
    """Make sure that the columns of data.columns are those of a file without a header."""
    listed = f"data.columns=[{','.join(shape.header)}]"
    sound = [cut for cut in cuts if not cut.fault]
    fitting = sum(shape.fits(cut) for cut in sound)
    signs = len(shape.header) - 1
    others = [
        other
        for other in (text.others() if text else ())
        if signs and all(cut.raw.count(other) == signs for cut in sound)
    ]
    if sound and (not fitting or (others and fitting < len(sound))):
        raise InputError(
            f"{name}: the rows do not have the {len(shape.header)} columns of {listed}; "
            f"{_other_delimiter(cuts, text)}{_first_rows(cuts)}"
        )
    if text is not None and others and not text.given:
        ways = [f"data.delimiter={_DELIMITERS[sign][0]}" for sign in [text.delimiter, *others]]
        raise InputError(
            f"{name}: its lines can be cut into the columns of {listed} in more than one way; "
            f"say {' or '.join(ways)}"
        )


def _other_delimiter(cuts: list[Cut], text: _Text | None) -> str:
    """Return what to set where the lines are plainly cut by something else; else nothing."""
    if text is None:
        return ""
    if len(cuts[0].cells) == 1 and text.delimiter in str(cuts[0].cells[0]):
        return "the lines are quoted as a whole, as spreadsheets do with a row in one cell; "
    for other in text.others():
        key, called = _DELIMITERS[other]
        count = cuts[0].raw.count(other)
        return f"every line has {count} {called}{'s'[: count > 1]}: data.delimiter={key}; "
    return ""


def _first_rows(cuts: list[Cut]) -> str:
    """Return the first two rows as they were cut."""
    rows = [[shortened(_as_text(cell), 60) for cell in cut.cells[:12]] for cut in cuts[:2]]
    return f"the first rows as cut: {' and '.join(map(_shown, rows))}"


def _shown(cells: Sequence[Any]) -> str:
    return json.dumps([_as_text(cell) for cell in cells], ensure_ascii=False)
