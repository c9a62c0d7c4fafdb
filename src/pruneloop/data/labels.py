"""Labels: their order, and those that are the same number in another spelling."""

import re
from collections.abc import Iterable
from decimal import Decimal

# What a typewriter for full-width or typographic signs puts in the place of a plain one.
_SIGNS = str.maketrans({"−": "-", "－": "-", "＋": "+", "．": "."})


def number_of(label: str) -> Decimal | None:
    """Return the number that a label spells, in the digits of any script; None for a word."""
    plain = label.translate(_SIGNS)
    # Without exponents of more than three digits, with which decimals cannot be compared.
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", plain):
        return None
    return Decimal(plain)


def in_order(labels: Iterable[str]) -> list[str]:
    """Return labels in the order of their numbers, if all are numbers, or of their letters."""
    numbers = {label: number_of(label) for label in labels}
    if any(number is None for number in numbers.values()):
        return sorted(numbers)
    return sorted(numbers, key=lambda label: (numbers[label] or Decimal(0), label))


def spelled_twice(labels: Iterable[str]) -> tuple[str, str] | None:
    """Return two labels that are one number, such as `01` and `1`; None if there are none."""
    seen: dict[Decimal, str] = {}
    for label in sorted(labels):
        number = number_of(label)
        if number is not None and seen.setdefault(number, label) != label:
            return seen[number], label
    return None
