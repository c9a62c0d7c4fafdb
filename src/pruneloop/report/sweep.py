"""What a sweep found, for people: a table, a page and a picture."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

from matplotlib.figure import Figure

from pruneloop.durable import write_atomically
from pruneloop.errors import utf8
from pruneloop.records import ROUND_COLUMNS, RoundRecord, RunFolder, csv_of
from pruneloop.report.columns import aligned
from pruneloop.report.curve import limits, scale
from pruneloop.report.figures import INK, Tips, new_axes, save_png, styled, to_svg
from pruneloop.report.language import Translate, translate
from pruneloop.report.page import percent, render, spread
from pruneloop.report.points import Mean, Sweep

_MOST_IN_LEGEND = 10

WITHIN = 0.01
"""What the settings may lose where the sparsest of each are compared first."""


def write_sweep(sweep: Sweep, name: str = "sweep", language: str | None = None) -> str:
    """Write NAME.csv, NAME.html and NAME.png; return the summary to print."""
    facts = sweep.points[0].facts
    language = language or (facts.language if facts else "en")
    write_atomically(sweep.path / f"{name}.csv", _csv(sweep))
    save_png(_figure(sweep, str)[0], sweep.path / f"{name}.png")
    figure, tips = _figure(sweep, t := translate(language))
    picture = to_svg(figure, tips, t("Accuracy against sparsity"))
    links = {point.folder: _link(point.folder, sweep.path) for point in sweep.points}
    best = sweep.best(WITHIN)
    page = render("sweep.html", language, sweep=sweep, best=best, curve=picture, links=links)
    write_atomically(html := sweep.path / f"{name}.html", utf8(page))
    return "\n".join([*_summary(sweep), f"summary: {html}", f"records: {html.with_suffix('.csv')}"])


def _link(folder: Path, page: Path) -> str:
    """Return where a point's report is from a page's folder; empty where it has none."""
    report = RunFolder(folder).report
    return quote(os.path.relpath(report, page)) if report.exists() else ""


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
def _figure(sweep: Sweep, t: Translate) -> tuple[Figure, Tips]:
    what = t("model sparsity (%)") if sweep.by_model else t("prunable weights that are kept (%)")
    figure, axes = new_axes(8, 4, what, t("validation accuracy"))

    def x(record: RoundRecord | Mean) -> float:
        return 100 * (record.model_sparsity if sweep.by_model else 1 - record.sparsity)

    tips = {}
    colors = cycle([f"C{number}" for number in range(10)])
    for index, (label, means) in enumerate(sweep.means.items()):
        color, gid = next(colors), f"group-{index}"
        for point in sweep.points:
            if point.label == label and len(means) and means[0].seeds > 1:
                ys = [r.accuracy for r in point.rounds]
                axes.plot([x(r) for r in point.rounds], ys, "-", color=color, alpha=0.25, lw=1)
        xs, ys = [x(mean) for mean in means], [mean.accuracy for mean in means]
        below = [mean.accuracy_deviation or 0.0 for mean in means]
        above = [min(bar, 1.0 - y) for bar, y in zip(below, ys, strict=True)]
        axes.errorbar(xs, ys, (below, above), fmt="none", ecolor=color, capsize=3, lw=1)
        axes.plot(xs, ys, "o-", color=color, markersize=5, label=label, gid=gid)
        tips[gid] = [_tip(mean, t) for mean in means]
    front, every = sweep.front, [m for means in sweep.means.values() for m in means]
    axes.plot(
        [x(mean) for mean in front],
        [mean.accuracy for mean in front],
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=INK,
        label=t("Pareto front"),
    )
    if every:
        bars = [m.accuracy - (m.accuracy_deviation or 0.0) for m in every]
        seeds = [record.accuracy for point in sweep.points for record in point.rounds]
        axes.set_ylim(*limits([*bars, *seeds]))
        if not sweep.by_model:
            scale(axes, [x(mean) for mean in every])
    if len(sweep.means) <= _MOST_IN_LEGEND:
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure, tips


def _tip(mean: Mean, t: Translate) -> str:
    words = t("{label}, round {round}: {sparsity:.2%} sparse, accuracy {accuracy}")
    accuracy = spread(mean.accuracy, mean.accuracy_deviation)
    return words.format(
        label=mean.label, round=mean.round, sparsity=mean.sparsity, accuracy=accuracy
    )


def _summary(sweep: Sweep) -> list[str]:
    done = len(sweep.points) - len(sweep.unfinished)
    lines = [f"sweep: {len(sweep.points)} points, {done} done"]
    if best := sweep.best(WITHIN):
        lines.append(f"sparsest within {100 * WITHIN:g} point of dense on validation, by settings:")
        lines += _table(best)
    lines += ["after the last round of each:", *_table(sweep.last)]
    return lines + [
        f"{point.state}: {point.name} (exit code {point.exit_code}) {point.message}".rstrip()
        for point in sweep.unfinished
    ]


def _table(means: Sequence[Mean]) -> list[str]:
    rows = [("", "seeds", "round", "sparsity", "model sparsity", "accuracy", "test accuracy")]
    rows += [
        (
            mean.label,
            mean.counted,
            str(mean.round),
            percent(mean.sparsity),
            percent(mean.model_sparsity),
            spread(mean.accuracy, mean.accuracy_deviation),
            spread(mean.test_accuracy, mean.test_deviation),
        )
        for mean in means
    ]
    return aligned(rows)
