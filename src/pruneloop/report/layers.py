"""Where in the model the zeros are: by layer and by kind of matrix."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pruneloop.records import LayerRecord


@dataclass(frozen=True)
class Grid:
    """Sparsities with a row a layer and a column a kind; None where there is no matrix."""

    rows: list[str]
    kinds: list[str]
    cells: list[list[float | None]]


def _row_of(name: str) -> str:
    """Return the layer that a parameter is in by its name; `-` for none of them."""
    found = re.search(r"\blayers?\.(\d+)\.", name)
    return found.group(1) if found else "-"


def by_layer_and_kind(layers: Sequence[LayerRecord]) -> Grid:
    """Add up the matrices of one round that share a layer and a kind."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for record in layers:
        cell = sums[_row_of(record.name), record.kind]
        cell[0] += record.zeros
        cell[1] += record.size
    rows = list(dict.fromkeys(row for row, _ in sums))
    kinds = list(dict.fromkeys(kind for _, kind in sums))
    cells = [
        [sums[row, kind][0] / sums[row, kind][1] if (row, kind) in sums else None for kind in kinds]
        for row in rows
    ]
    return Grid(rows, kinds, cells)


@dataclass(frozen=True)
class Kind:
    """What pruning did to all matrices of a kind: sparsities by round, round 0 first."""

    name: str
    matrices: int
    size: int
    zeros: int
    sparsities: list[float]


def by_kind(layers: Sequence[LayerRecord]) -> list[Kind]:
    """Add up the matrices of each kind, over all rounds."""
    found = []
    for name in dict.fromkeys(record.kind for record in layers):
        rounds: dict[int, list[LayerRecord]] = defaultdict(list)
        for record in layers:
            if record.kind == name:
                rounds[record.round].append(record)
        size = sum(record.size for record in rounds[max(rounds)])
        zeros = [sum(record.zeros for record in rounds[number]) for number in sorted(rounds)]
        matrices = len(rounds[max(rounds)])
        found.append(Kind(name, matrices, size, zeros[-1], [n / size for n in zeros]))
    return found
