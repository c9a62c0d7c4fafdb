"""The picture of a run: accuracy over the weights that are kept, and what may be lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pruneloop.records import RoundRecord, RunFacts
from pruneloop.report.answer import Answer
from pruneloop.report.figures import BLUE, GREY, INK, ORANGE, PALE, Tips, new_axes, styled
from pruneloop.report.language import Translate
from pruneloop.scores import wilson_interval

_TICKS = [figure * 10.0**power for power in (2, 1, 0, -1, -2, -3) for figure in (1, 0.5, 0.2)]
_LEAST = 0.05  # of accuracy is always on the axis: noise must not look like a cliff
_APART = 0.06


@dataclass(frozen=True)
class _Line:
    gid: str
    label: str
    style: str
    color: str
    points: list[tuple[RoundRecord, float]]


@styled
def accuracy_curve(
    rounds: Sequence[RoundRecord],
    facts: RunFacts,
    answers: Sequence[Answer],
    control: Sequence[RoundRecord] = (),
    t: Translate = str,
) -> tuple[Figure, Tips]:
    """Draw validation (with its 95 % interval), test, shock and random over the kept weights.

    Args:
        answers: for each, a line at what may be lost and a ring around its round, as
            `budget-0`, `said-0` and `ring-0` and so on in the SVG.
        control: rounds of the same plan with random weights, on validation.
    """
    what = t("prunable weights that are kept (%)")
    figure, axes = new_axes(6.4, 4, what, t("accuracy"))
    lines = _lines(rounds, control, t)
    scale(axes, [kept(r) for line in lines for r, _ in line.points])
    axes.set_ylim(*limits([y for line in lines for _, y in line.points]))
    _draw_band(axes, rounds, facts.data.rows["validation"])
    tips = {}
    for line in lines:
        xs, ys = [kept(r) for r, _ in line.points], [y for _, y in line.points]
        axes.plot(xs, ys, line.style, color=line.color, markersize=5, gid=line.gid)
        tips[line.gid] = [_tip(r, line.label, y, t) for r, y in line.points]
    for index, answer in enumerate(answers):
        _draw_answer(axes, index, answer, rounds[0], t)
    _label(axes, lines)
    return figure, tips


def kept(record: RoundRecord) -> float:
    """Return the prunable weights that a round has left, in percent."""
    return 100 * (1 - record.sparsity)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis of accuracies: 5 points at least, never over 1."""
    low, high = min(values), max(values)
    span = 1.08 * max(high - low, _LEAST)
    top = min((low + high + span) / 2, 1.0)
    return max(top - span, 0.0), top


def _lines(
    rounds: Sequence[RoundRecord], control: Sequence[RoundRecord], t: Translate
) -> list[_Line]:
    shocks = [(r, r.shock_accuracy) for r in rounds if r.shock_accuracy is not None]
    found = [
        _Line("control", t("random weights"), "o-", GREY, [(r, r.accuracy) for r in control]),
        _Line("shock", t("right after the prune"), "x:", ORANGE, shocks),
        _Line("test", t("test"), "s--", PALE, [(r, r.test_accuracy) for r in rounds]),
        _Line("validation", t("validation"), "o-", BLUE, [(r, r.accuracy) for r in rounds]),
    ]
    # The dense round alone has no shock, and most runs no control.
    return [line for line in found if line.points]


def scale(axes: Axes, xs: Sequence[float]) -> None:
    """Have fewer and fewer kept weights to the right, each halving as wide as the one before."""
    axes.set_xscale("log")
    most, fewest = max(xs) * 1.06, min(xs) / 1.06
    axes.set_xlim(most, fewest)
    ticks = [tick for tick in _TICKS if fewest <= tick <= most]
    axes.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) > 1 else sorted(set(xs))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_band(axes: Axes, rounds: Sequence[RoundRecord], rows: int) -> None:
    ends = [wilson_interval(round(r.accuracy * rows), rows) for r in rounds]
    low, high = [end[0] for end in ends], [end[1] for end in ends]
    axes.fill_between([kept(r) for r in rounds], low, high, color=BLUE, alpha=0.15, lw=0)


def _draw_answer(axes: Axes, index: int, answer: Answer, dense: RoundRecord, t: Translate) -> None:
    """Draw what may be lost as a line, and a ring around the round that it allows."""
    least, record = dense.accuracy - answer.drop, answer.record
    axes.axhline(least, color=INK, lw=0.8, ls=(0, (4, 3)), gid=f"budget-{index}")
    words = t("{points:g} pt lost").format(points=100 * answer.drop)
    text = axes.annotate(
        words,
        (0.01, least),
        (0, -10),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        size=8,
    )
    text.set_gid(f"said-{index}")
    axes.plot(
        [kept(record)],
        [record.accuracy],
        "o",
        markersize=13,
        markerfacecolor="none",
        markeredgecolor=INK,
        gid=f"ring-{index}",
    )


def _label(axes: Axes, lines: Sequence[_Line]) -> None:
    """Write every line's name beside its end, apart from each other."""
    bottom, top = axes.get_ylim()
    ends = [(line.points[-1][1] - bottom) / (top - bottom) for line in lines]
    order = sorted(range(len(lines)), key=lambda index: ends[index])
    for before, after in pairwise(order):
        ends[after] = max(ends[after], ends[before] + _APART)
    for after, before in pairwise(reversed(order)):
        ends[after] = min(ends[after], 1.0)
        ends[before] = min(ends[before], ends[after] - _APART)
    for line, place in zip(lines, ends, strict=True):
        axes.annotate(
            line.label,
            (1.02, place),
            xycoords="axes fraction",
            annotation_clip=False,
            verticalalignment="center",
            color=line.color,
            size=9,
        )


def _tip(record: RoundRecord, label: str, value: float, t: Translate) -> str:
    words = t("round {round}: {sparsity:.2%} sparse, {label} {value:.4f}")
    return words.format(round=record.round, sparsity=record.sparsity, label=label, value=value)
