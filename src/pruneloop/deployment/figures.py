"""What deployed models are worth beside their checkpoint, and which of them to serve."""

from collections.abc import Sequence
from dataclasses import dataclass

from pruneloop.measurement import Measurement
from pruneloop.report.columns import aligned

_ROUNDING = 1e-9
_NONE = "-"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A share of `rows` rows, and where it lies on more of them, in 95 % of the cases."""

    rows: int
    accuracy: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Measurement) -> "Accuracy":
        """Take over what was measured."""
        low, high = found.interval
        counted = found.confusion
        return cls(rows=counted.rows, accuracy=counted.accuracy, low=low, high=high)

    def __str__(self) -> str:
        return f"{self.accuracy:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One file's; `milliseconds` of one text by its tokens, `changed` of the test predictions.

    The dense model that a smaller checkpoint comes from is not there to be asked.
    """

    file: str
    parameters: int
    bytes: int
    milliseconds: dict[str, float]
    validation: Accuracy | None = None
    test: Accuracy | None = None
    changed: float | None = None


def choose(before: float, within: float, tried: Sequence[tuple[str, float]]) -> str | None:
    """Return the first of (name, accuracy) that loses no more than allowed; None for none."""
    return next((name for name, after in tried if before - after <= within + _ROUNDING), None)


def table(figures: Sequence[Figures], opened: str) -> list[str]:
    """Return a line a file, with ratios to the first one; `opened` is marked."""
    first = figures[0]
    times = [f"ms at {tokens}" for tokens in first.milliseconds]
    head = ["", "parameters", "MB", "ratio", *times, "validation", "test", "changed"]
    rows = [head]
    for found in figures:
        speeds = [
            f"{ms:.{1 if ms >= 10 else 2}f} ({first.milliseconds[tokens] / ms:.2f}x)"
            for tokens, ms in found.milliseconds.items()
        ]
        rows.append(
            [
                found.file + (" *" if found.file == opened else ""),
                f"{found.parameters:,}",
                f"{found.bytes / 1e6:.1f}",
                f"{found.bytes / first.bytes:.3f}",
                *speeds,
                str(found.validation or _NONE),
                str(found.test or _NONE),
                _NONE if found.changed is None else f"{found.changed:.2%}",
            ]
        )
    return aligned(rows)
