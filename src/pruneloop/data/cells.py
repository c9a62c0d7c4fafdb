"""What a cell of a file says: a text, a label, nothing, or something that is neither.

A file gives strings, or typed cells. None of them is turned into its Python spelling.
"""

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

LONGEST = 1 << 20
"""How many bytes a cell may have."""

# Letters and marks to Unicode, though nothing is seen of them: fillers and joiners.
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10))
}


class BadCell(ValueError):
    """A cell cannot be read for certain; says why."""


@dataclass(frozen=True)
class ErrorValue:
    """What a reader found in the place of a cell's value."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Row:
    """A row as its file has it: where it stands, its cells by column, and how it looks there.

    `fault` says why it cannot be read for certain; `raw` is empty where a file has no lines.
    """

    place: str
    line: int
    cells: Mapping[str, Any]
    raw: str = ""
    fault: str = ""


@lru_cache(maxsize=1 << 16)
def _blank(char: str) -> bool:
    invisible = {"Cc", "Cf", "Zl", "Zp", "Zs"}
    return char.isspace() or unicodedata.category(char) in invisible or char in _BLANK_LETTERS


def is_blank(text: str) -> bool:
    """Return whether nothing is seen of a text: blanks, controls, zero widths, fillers."""
    return all(_blank(char) for char in text)


@lru_cache(maxsize=1 << 12)
def visible(text: str) -> str:
    """Return a label or a column's name without what is not seen of it, and in NFC."""
    shown = (" " if char.isspace() else "" if _blank(char) else char for char in text)
    return unicodedata.normalize("NFC", "".join(shown).strip())


def spelled(cell: Any) -> str | None:
    """Return what a cell says; None where it is missing. Whole numbers have no decimals.

    Raises:
        BadCell: it is no text, number or truth value, or not one that can be read.
    """
    if isinstance(cell, str):
        return _checked(cell)
    if cell is None or cell != cell:  # a NaN
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int):
        return _digits(cell)
    if isinstance(cell, float | Decimal):
        return _decimal(cell)
    if isinstance(cell, bytes):
        return _decoded(cell)
    if isinstance(cell, ErrorValue):
        raise BadCell(cell.reason)
    kinds = {"list": "a list", "tuple": "a list", "dict": "an object"}
    kind = type(cell).__name__
    raise BadCell(f"is {kinds.get(kind, f'of the type {kind}')}, not a text")


def _checked(text: str) -> str:
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # as a byte is kept that the encoding lacks
            raise BadCell(
                f"has the byte 0x{code - 0xDC00:02x}, which is none of its encoding"
            ) from None
        raise BadCell(
            f"has half of a character (\\u{code:04x}), as of an emoji cut in two"
        ) from None
    if size > LONGEST:
        raise BadCell("has more than 1 MiB")
    if "\0" in text:
        raise BadCell("has NUL bytes")
    return text


def _digits(cell: int) -> str:
    if abs(cell) >= 10**300:
        raise BadCell("is a number of over 300 digits")
    return str(cell)


def _decimal(cell: float | Decimal) -> str:
    if not math.isfinite(cell):
        raise BadCell("is infinite")
    if cell == int(cell):
        return _digits(int(cell))
    return format(cell.normalize(), "f") if isinstance(cell, Decimal) else repr(cell)


def _decoded(cell: bytes) -> str:
    try:
        return _checked(cell.decode())
    except UnicodeDecodeError as error:
        raise BadCell(f"has the byte 0x{cell[error.start]:02x}, which is no UTF-8") from None
