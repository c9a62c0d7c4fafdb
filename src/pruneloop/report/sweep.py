"""What a sweep found: its points side by side, as a table, a page and a picture."""

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from pruneloop.durable import write_atomically
from pruneloop.errors import CheckpointError, InputError, Preempted
from pruneloop.records import RoundRecord, RunFolder, is_of_last_command
from pruneloop.report.figures import Tips, new_axes, save_png, styled, to_svg
from pruneloop.report.page import render

_MOST_IN_LEGEND = 10


@dataclass(frozen=True)
class Point:
    """One run of a sweep; `settings` are the overrides that not all points share."""

    name: str
    settings: dict[str, str]
    seed: str | None
    state: str
    exit_code: int
    message: str
    of_last_command: bool
    rounds: list[RoundRecord]

    @property
    def label(self) -> str:
        """The settings in one line."""
        return ", ".join(f"{key}={value}" for key, value in self.settings.items()) or "all seeds"


@dataclass(frozen=True)
class Mean:
    """Points that differ in their seed only, after one round: `seeds` out of `members`.

    Deviations are those of the sample; None for a single point. `pareto` says that no
    other mean of the sweep is both at least as sparse and at least as accurate; means that
    lack some of their seeds are not compared.
    """

    label: str
    round: int
    seeds: int
    members: int
    sparsity: float
    model_sparsity: float
    accuracy: float
    accuracy_deviation: float | None
    test_accuracy: float
    test_deviation: float | None
    pareto: bool = False


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder has it."""

    path: Path
    shared: list[str]
    points: list[Point]
    means: dict[str, list[Mean]]

    @property
    def exit_code(self) -> int:
        """The largest exit code of a point of the last command: 0 if all are done."""
        return max((point.exit_code for point in self.points if point.of_last_command), default=0)

    @property
    def unfinished(self) -> list[Point]:
        """The points that failed, were refused, stopped or killed."""
        return [point for point in self.points if point.exit_code]

    @property
    def by_model(self) -> bool:
        """Whether the points prune different matrices: then only the whole model compares."""
        return len({point.rounds[0].prunable for point in self.points if point.rounds}) > 1

    @property
    def last(self) -> list[Mean]:
        """The means after the last rounds that all their seeds have."""
        return [
            max(means, key=lambda mean: (mean.seeds, mean.round)) for means in self.means.values()
        ]

    @property
    def front(self) -> list[Mean]:
        """The Pareto front, sparsest last."""
        found = [mean for means in self.means.values() for mean in means if mean.pareto]
        return sorted(found, key=lambda mean: mean.model_sparsity)


def read_sweep(path: Path) -> Sweep:
    """Read the records of all points in a sweep's folder.

    Raises:
        InputError: there is no point in it.
    """
    folders = [hydra.parent for hydra in sorted(path.glob("*/.hydra"))]
    if not folders:
        raise InputError(f"{path}: holds no run and no sweep")
    overrides = [_overrides(RunFolder(folder)) for folder in folders]
    shared = set(overrides[0].items()).intersection(*(each.items() for each in overrides))
    points = [
        _read_point(RunFolder(folder), {k: v for k, v in mine.items() if (k, v) not in shared})
        for folder, mine in zip(folders, overrides, strict=True)
    ]
    points.sort(key=_in_order)
    return Sweep(path, sorted(f"{k}={v}" for k, v in shared), points, _means(points))


def _overrides(folder: RunFolder) -> dict[str, str]:
    """Return a point's overrides: those it ran with, or those that Hydra wrote for it."""
    written = folder.path / ".hydra" / "overrides.yaml"
    try:
        lines = folder.read_facts().get("overrides")
        if lines is None:
            lines = yaml.safe_load(written.read_text(encoding="utf-8")) or []
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    pairs = (str(line).lstrip("+").partition("=") for line in lines)
    return {key: value for key, _, value in pairs}


def _read_point(folder: RunFolder, settings: dict[str, str]) -> Point:
    seed, name = settings.pop("seed", None), folder.path.name
    last = is_of_last_command(folder.path)
    try:
        status, rounds = folder.read_status(), folder.read_rounds()
    except (OSError, ValueError, TypeError) as error:
        code = CheckpointError.exit_code
        return Point(name, settings, seed, "unreadable", code, repr(error), last, [])
    state = status.get("state", "not started")
    # What is neither done nor says why it ended was killed: the same command goes on.
    code = status.get("exit_code", 0 if state == "done" else Preempted.exit_code)
    message = status.get("message", "")
    if "refused" in status:
        code, message = status["refused"]["exit_code"], status["refused"]["message"]
        state = "refused"
    return Point(name, settings, seed, state, code, message, last, rounds)


def _in_order(point: Point) -> list[tuple[float, str]]:
    """Return what sorts points by their values, numbers as numbers."""

    def key(value: str) -> tuple[float, str]:
        try:
            return float(value), ""
        except ValueError:
            return float("inf"), value

    return [key(value) for value in (*point.settings.values(), point.seed or "")]


def _means(points: Sequence[Point]) -> dict[str, list[Mean]]:
    groups: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        if point.rounds:
            groups[point.label].append(point)
    means = {label: _means_of(label, members) for label, members in groups.items()}
    every = [mean for of_one in means.values() for mean in of_one]
    return {
        label: [replace(mean, pareto=_undominated(mean, every)) for mean in of_one]
        for label, of_one in means.items()
    }


def _means_of(label: str, members: Sequence[Point]) -> list[Mean]:
    rounds: dict[int, list[RoundRecord]] = defaultdict(list)
    for point in members:
        for record in point.rounds:
            rounds[record.round].append(record)
    return [
        Mean(
            label=label,
            round=number,
            seeds=len(records),
            members=len(members),
            sparsity=statistics.fmean(r.sparsity for r in records),
            model_sparsity=statistics.fmean(r.model_sparsity for r in records),
            accuracy=statistics.fmean(r.accuracy for r in records),
            accuracy_deviation=_deviation([r.accuracy for r in records]),
            test_accuracy=statistics.fmean(r.test_accuracy for r in records),
            test_deviation=_deviation([r.test_accuracy for r in records]),
        )
        for number, records in sorted(rounds.items())
    ]


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _undominated(mean: Mean, others: Sequence[Mean]) -> bool:
    here = (mean.model_sparsity, mean.accuracy)
    return mean.seeds == mean.members and not any(
        there != here and there[0] >= here[0] and there[1] >= here[1]
        for there in (
            (other.model_sparsity, other.accuracy)
            for other in others
            if other.seeds == other.members
        )
    )


# -- written ----------------------------------------------------------------------------


def write_sweep(sweep: Sweep) -> str:
    """Write sweep.csv, sweep.html and sweep.png; return the summary to print."""
    write_atomically(sweep.path / "sweep.csv", _csv(sweep))
    figure, tips = _figure(sweep)
    page = render("sweep.html", sweep=sweep, curve=to_svg(figure, tips))
    write_atomically(sweep.path / "sweep.html", page.encode())
    save_png(figure, sweep.path / "sweep.png")
    return _summary(sweep)


def _csv(sweep: Sweep) -> bytes:
    """One row a point and round; a point without a round has one row all the same."""
    settings = list(dict.fromkeys(key for point in sweep.points for key in point.settings))
    numbers = [field.name for field in fields(RoundRecord)]
    buffer = io.StringIO()
    columns = ["point", "state", "exit_code", "message", *settings, "seed", *numbers, "pareto"]
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for point in sweep.points:
        common = {
            "point": point.name,
            "state": point.state,
            "exit_code": point.exit_code,
            "message": point.message,
            "seed": point.seed,
            **point.settings,
        }
        means = {mean.round: mean for mean in sweep.means.get(point.label, [])}
        rows: list[dict[str, Any]] = [
            {**asdict(record), "pareto": means[record.round].pareto} for record in point.rounds
        ]
        # A swept key may be called as a number is, such as `amount`: the number's own wins.
        writer.writerows({**common, **row} for row in rows or [{}])
    return buffer.getvalue().encode()


@styled
def _figure(sweep: Sweep) -> tuple[Figure, Tips]:
    what = "model sparsity (%)" if sweep.by_model else "sparsity of the prunable weights (%)"
    figure, axes = new_axes(6, 4, what, "validation accuracy")

    def x(record: RoundRecord | Mean) -> float:
        return 100 * (record.model_sparsity if sweep.by_model else record.sparsity)

    tips = {}
    colors = cycle([f"C{number}" for number in range(10)])
    for index, (label, means) in enumerate(sweep.means.items()):
        color, gid = next(colors), f"group-{index}"
        for point in sweep.points:
            if point.label == label and len(means) and means[0].seeds > 1:
                ys = [r.accuracy for r in point.rounds]
                axes.plot([x(r) for r in point.rounds], ys, "-", color=color, alpha=0.25, lw=1)
        xs, ys = [x(mean) for mean in means], [mean.accuracy for mean in means]
        spread = [mean.accuracy_deviation or 0.0 for mean in means]
        axes.errorbar(xs, ys, spread, fmt="none", ecolor=color, capsize=3, lw=1)
        axes.plot(xs, ys, "o-", color=color, markersize=5, label=label, gid=gid)
        tips[gid] = [_tip(mean) for mean in means]
    front = sweep.front
    axes.plot(
        [x(mean) for mean in front],
        [mean.accuracy for mean in front],
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor="black",
        label="Pareto front",
    )
    if len(sweep.means) <= _MOST_IN_LEGEND:
        axes.legend(fontsize=8)
    return figure, tips


def _tip(mean: Mean) -> str:
    return (
        f"{mean.label}, round {mean.round}: {mean.sparsity:.2%} sparse, accuracy "
        f"{_spread(mean.accuracy, mean.accuracy_deviation)}"
    )


def _seeds(mean: Mean) -> str:
    return f"{mean.seeds} of {mean.members}" if mean.seeds < mean.members else str(mean.seeds)


def _spread(value: float, deviation: float | None) -> str:
    return f"{value:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def _summary(sweep: Sweep) -> str:
    done = len(sweep.points) - len(sweep.unfinished)
    rows = [["", "seeds", "sparsity", "model sparsity", "accuracy", "test accuracy"]]
    rows += [
        [
            mean.label,
            _seeds(mean),
            f"{mean.sparsity:.2%}",
            f"{mean.model_sparsity:.2%}",
            _spread(mean.accuracy, mean.accuracy_deviation),
            _spread(mean.test_accuracy, mean.test_deviation),
        ]
        for mean in sweep.last
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"sweep: {len(sweep.points)} points, {done} done; after their last rounds:"]
    for first, *others in rows:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    lines += [
        f"{point.state}: {point.name} (exit code {point.exit_code}) {point.message}".rstrip()
        for point in sweep.unfinished
    ]
    lines += [f"summary: {sweep.path / 'sweep.html'}", f"records: {sweep.path / 'sweep.csv'}"]
    return "\n".join(lines)
