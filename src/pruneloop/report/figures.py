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
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names

from pruneloop.durable import write_atomically
from pruneloop.records import LayerRecord
from pruneloop.report.layers import by_layer_and_kind

INK, BLUE, PALE, ORANGE, GREY = "#1c2330", "#2f7fc6", "#6fa8dc", "#d9730d", "#8a8f98"
"""What is written with, then colours that also those tell apart who see no red or no green."""

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
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
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
    """Write a figure as a PNG file.

    Raises:
        OSError: it cannot be written; names the file.
    """
    buffer = io.BytesIO()
    with _any_letter():
        figure.savefig(buffer, format="png", dpi=200)
    write_atomically(path, buffer.getvalue())


@styled
def to_svg(figure: Figure, tips: Tips, name: str) -> str:
    """Return a figure as an SVG element for a page, in the page's own ink.

    Its markers carry `data-tip` and can be reached by keyboard; `name` is what a reader hears
    of the whole.
    """
    buffer = io.BytesIO()
    with _any_letter():
        known = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=known, transparent=True)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    # The page decides how wide it is.
    del root.attrib["width"], root.attrib["height"]
    for gid, texts in tips.items():
        line = root.find(f".//{{{_SVG}}}g[@id='{gid}']")
        assert line is not None
        markers = list(line.iter(f"{{{_SVG}}}use"))
        for marker, text in zip(markers, texts, strict=True):
            marker.attrib |= {"data-tip": text, "tabindex": "0", "role": "img", "aria-label": text}
    root.attrib |= {"role": "group", "aria-label": name}
    return ElementTree.tostring(root, encoding="unicode").replace(INK, "currentColor")


@styled
def heat_map(layers: Sequence[LayerRecord]) -> Figure:
    """Draw the weights that every matrix of one round has kept: layers down, kinds across."""
    grid = by_layer_and_kind(layers)
    height = 0.3 * len(grid.rows) + 1.5
    figure, axes = new_axes(0.8 * len(grid.kinds) + 2, height, "", "layer")
    values = [
        [100 * (1 - cell) if cell is not None else float("nan") for cell in row]
        for row in grid.cells
    ]
    image = axes.imshow(values, norm=LogNorm(0.1, 100, clip=True), cmap="Blues", aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(grid.kinds)), grid.kinds, rotation=30, ha="right")
    axes.set_yticks(range(len(grid.rows)), grid.rows)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value == value:
                color = "white" if value > 6 else "black"
                axes.text(x, y, f"{value:.3g}", ha="center", va="center", color=color, size=8)
    figure.colorbar(image, label="kept (%)", format="%g")
    return figure
