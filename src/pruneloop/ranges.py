"""Ranges of configuration keys, each beside its field: checked, said and documented from there."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from pruneloop.errors import ConfigError

_MISSING = "???"  # what OmegaConf calls a value that conf/ must give


@dataclass(frozen=True)
class Range:
    """The numbers that a key may have, written as an interval: `[` and `]` are within."""

    low: float
    high: float
    ends: str = "[]"
    meaning: str = ""
    hint: str = ""

    def __contains__(self, value: float) -> bool:
        # Written positively, so that a nan is in no range.
        above = self.low < value if self.ends[0] == "(" else self.low <= value
        below = value < self.high if self.ends[1] == ")" else value <= self.high
        return above and below

    def __str__(self) -> str:
        low, high = f"{self.low:.10g}", f"{self.high:.10g}"
        if self.high == math.inf:
            return f"above {low}" if self.ends[0] == "(" else f"at least {low}"
        return {
            "()": f"between {low} and {high}",
            "[]": f"from {low} to {high}",
            "[)": f"from {low} to less than {high}",
            "(]": f"above {low} and at most {high}",
        }[self.ends]


def number(
    low: float, high: float = math.inf, ends: str = "[]", meaning: str = "", hint: str = ""
) -> Any:
    """Return a field whose value must lie in a range."""
    return field(default=_MISSING, metadata={"range": Range(low, high, ends, meaning, hint)})


def refused(key: str, value: object, allowed: str, hint: str = "") -> ConfigError:
    """Return the error line of a value: what is allowed, and what to try."""
    return ConfigError(f"{key}={value}: {allowed}" + (f"; {hint}" if hint else ""))


@dataclass(kw_only=True, slots=True)
class Checked:
    """A part of the configuration that holds its own ranges."""

    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for key in fields(self):
            value, allowed = getattr(self, key.name), key.metadata.get("range")
            if isinstance(value, str) and not value.strip() and not key.metadata.get("blank"):
                hint = "null is none" if "None" in str(key.type) else ""
                raise refused(self.prefix + key.name, repr(value), "must not be empty", hint)
            if allowed is not None and value is not None and value not in allowed:
                text = f"must be {allowed}"
                text += f" ({allowed.meaning})" if allowed.meaning else ""
                raise refused(self.prefix + key.name, value, text, allowed.hint)
