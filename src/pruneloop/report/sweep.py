"""What a sweep found, for people: a table, a page and a picture."""

from dataclasses import asdict
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure

from pruneloop.durable import write_atomically
from pruneloop.errors import utf8
from pruneloop.records import ROUND_COLUMNS, RoundRecord, csv_of
from pruneloop.report.figures import Tips, new_axes, save_png, styled, to_svg
from pruneloop.report.page import percent, render, spread
from pruneloop.report.points import Mean, Sweep

_MOST_IN_LEGEND = 10


def write_sweep(sweep: Sweep) -> str:
    """Write sweep.csv, sweep.html and sweep.png; return the summary to print."""
    write_atomically(sweep.path / "sweep.csv", _csv(sweep))
    figure, tips = _figure(sweep)
    page = render("sweep.html", sweep=sweep, curve=to_svg(figure, tips))
    write_atomically(sweep.path / "sweep.html", utf8(page))
    save_png(figure, sweep.path / "sweep.png")
    return _summary(sweep)


def _csv(sweep: Sweep) -> bytes:
    """One row a point and round; a point without a round has one row all the same."""
    settings = list(dict.fromkeys(key for point in sweep.points for key in point.settings))
    columns = [
        "point",
        "state",
        "exit_code",
        "message",
        *settings,
        "seed",
        *ROUND_COLUMNS,
        "pareto",
    ]
    table: list[dict[str, Any]] = []
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
        table += [{**common, **row} for row in rows or [{}]]
    return csv_of([*columns, *ROUND_COLUMNS, "pareto"], table)


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
        bars = [mean.accuracy_deviation or 0.0 for mean in means]
        axes.errorbar(xs, ys, bars, fmt="none", ecolor=color, capsize=3, lw=1)
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
        f"{spread(mean.accuracy, mean.accuracy_deviation)}"
    )


def _summary(sweep: Sweep) -> str:
    done = len(sweep.points) - len(sweep.unfinished)
    rows = [["", "seeds", "sparsity", "model sparsity", "accuracy", "test accuracy"]]
    rows += [
        [
            mean.label,
            mean.counted,
            percent(mean.sparsity),
            percent(mean.model_sparsity),
            spread(mean.accuracy, mean.accuracy_deviation),
            spread(mean.test_accuracy, mean.test_deviation),
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
