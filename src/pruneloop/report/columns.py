"""Text in columns, where Hangul takes twice the room of a Latin letter."""

import unicodedata
from collections.abc import Sequence


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Return a line a row: the columns of the given positions to the left, others to the right."""
    widest = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for position, (cell, room) in enumerate(zip(row, widest, strict=True)):
            blank = " " * (room - width(cell))
            cells.append(cell + blank if position in left else blank + cell)
        lines.append("  ".join(cells).rstrip())
    return lines
