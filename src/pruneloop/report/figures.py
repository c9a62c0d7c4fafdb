"""The pictures: as PNG files for papers, and as SVG with values to point at for pages."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names

from pruneloop.records import LayerRecord, RoundRecord
from pruneloop.report.layers import by_layer_and_kind

_SVG = "http://www.w3.org/2000/svg"
# matplotlib's own font has no Hangul: the first of these that is installed helps out. A
# browser needs none of them for a page; in a PNG, boxes stand where there is none.
_KOREAN_FONTS = (
    *("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic"),
    *("Apple SD Gothic Neo", "AppleGothic"),
)
_FOUND = [font for font in _KOREAN_FONTS if font in get_font_names()][:1]
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", *_FOUND],
    "font.size": 10,
    "text.parse_math": False,  # a $ is a $
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",  # letters stay letters: small, and searchable
    "svg.hashsalt": "pruneloop",  # the same picture is the same file
}

styled = matplotlib.rc_context(_STYLE)
"""Decorates what draws: matplotlib looks its style up again and again."""

Tips = Mapping[str, Sequence[str]]
"""For the markers of a line, by its gid: what to say when one is pointed at."""


def new_axes(width: float, height: float, x: str, y: str) -> tuple[Figure, Axes]:
    """Return a figure of so many inches with labelled axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot(xlabel=x, ylabel=y)


@contextmanager
def _any_letter() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


@styled
def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file."""
    with _any_letter():
        figure.savefig(path, dpi=200)


@styled
def to_svg(figure: Figure, tips: Tips) -> str:
    """Return a figure as an SVG element for a page, its markers carrying `data-tip`."""
    buffer = io.BytesIO()
    with _any_letter():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    # The page decides how wide it is.
    del root.attrib["width"], root.attrib["height"]
    for name, texts in tips.items():
        line = root.find(f".//{{{_SVG}}}g[@id='{name}']")
        assert line is not None
        markers = list(line.iter(f"{{{_SVG}}}use"))
        for marker, text in zip(markers, texts, strict=True):
            marker.set("data-tip", text)
    return ElementTree.tostring(root, encoding="unicode")


@styled
def accuracy_curve(
    rounds: Sequence[RoundRecord], control: Sequence[RoundRecord] = ()
) -> tuple[Figure, Tips]:
    """Draw accuracy against sparsity: validation, test, right after the prune, and dense.

    Args:
        control: rounds of the same plan with random weights, on validation.
    """
    figure, axes = new_axes(6, 4, "sparsity of the prunable weights (%)", "accuracy")
    axes.axhline(rounds[0].accuracy, color="0.6", linewidth=1, linestyle="--", label="dense")
    shocks = [(r, r.shock_accuracy) for r in rounds if r.shock_accuracy is not None]
    lines: list[tuple[str, str, str, str, list[tuple[RoundRecord, float]]]] = [
        ("control", "random weights", "o-", "0.6", [(r, r.accuracy) for r in control]),
        ("shock", "right after the prune (shock)", "x:", "tab:red", shocks),
        ("test", "test", "s-", "tab:green", [(r, r.test_accuracy) for r in rounds]),
        ("validation", "validation", "o-", "tab:blue", [(r, r.accuracy) for r in rounds]),
    ]
    tips = {}
    for gid, label, style, color, points in lines:
        if not points:
            continue  # the dense round alone has no shock, and most runs no control
        xs, ys = [100 * r.sparsity for r, _ in points], [y for _, y in points]
        axes.plot(xs, ys, style, color=color, label=label, markersize=5, gid=gid)
        tips[gid] = [f"round {r.round}: {r.sparsity:.2%} sparse, {gid} {y:.4f}" for r, y in points]
    axes.legend()
    return figure, tips


@styled
def heat_map(layers: Sequence[LayerRecord]) -> Figure:
    """Draw the sparsity of every matrix of one round: layers down, kinds across."""
    grid = by_layer_and_kind(layers)
    height = 0.3 * len(grid.rows) + 1.5
    figure, axes = new_axes(0.8 * len(grid.kinds) + 2, height, "", "layer")
    values = [
        [100 * cell if cell is not None else float("nan") for cell in row] for row in grid.cells
    ]
    image = axes.imshow(values, vmin=0, vmax=100, cmap="Blues", aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(grid.kinds)), grid.kinds, rotation=30, ha="right")
    axes.set_yticks(range(len(grid.rows)), grid.rows)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value == value:
                color = "white" if value > 60 else "black"
                axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=color, size=8)
    figure.colorbar(image, label="sparsity (%)")
    return figure
