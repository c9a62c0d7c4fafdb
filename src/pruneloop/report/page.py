"""Pages and cards out of templates: one file each, that needs no network to be read."""

import re
from functools import lru_cache
from math import log10
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pruneloop.errors import printable
from pruneloop.report.language import translate


def percent(share: float) -> str:
    """Write a fraction as a percentage."""
    return f"{share:.2%}"


def whole(share: float) -> str:
    """Write a fraction as a percentage without decimals."""
    return f"{share:.0%}"


def score(value: float | None) -> str:
    """Write an accuracy or the like; a dash for none."""
    return "-" if value is None else f"{value:.4f}"


def spread(value: float, deviation: float | None) -> str:
    """Write a mean, with its standard deviation if it has one."""
    return score(value) + ("" if deviation is None else f" ± {score(deviation)}")


def megabytes(size: float) -> str:
    """Write a size in bytes in millions of bytes, or in thousands where it is small."""
    return f"{size / 1e6:,.2f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def markdown(value: object) -> str:
    """Write what a file or a user named as text of Markdown: nothing of it is markup."""
    text = printable(" ".join(str(value).split()))
    text = re.sub(r"([\\`*_\[\]|~])|^([#+-]|\d+[.)])", r"\\\g<0>", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shade(level: float, color: tuple[int, int, int] = (8, 81, 156)) -> str:
    """Return the style of a cell: a colour of a strength from 0 to 1, and ink to read on it.

    The same in any scheme: what is written on it is black or white by its luminance.
    """
    level = min(max(level, 0.0), 1.0)
    mixed = [round(250 + (part - 250) * level) for part in color]
    red, green, blue = mixed
    ink = "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff"
    return f"background:rgb({red},{green},{blue});color:{ink}"


def kept_shade(sparsity: float) -> str:
    """Return the style of a cell by what is kept: each tenth of it a third of the colour."""
    return shade(1 + log10(max(1 - sparsity, 1e-9)) / 3)


def change_shade(change: int, largest: int, better: bool) -> str:
    """Return the style of a cell that has changed: blue for the better, orange for the worse."""
    return shade(abs(change) / max(largest, 1), (8, 81, 156) if better else (190, 90, 0))


@lru_cache
def _templates(language: str) -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    found.policies["ext.i18n.trimmed"] = True
    translated = translate(language)
    found.install_gettext_callables(  # type: ignore[attr-defined]
        translated,
        lambda one, many, count: translated(one if count == 1 else many),
        newstyle=True,
    )
    found.globals["language"] = language
    found.filters.update(
        change_shade=change_shade,
        kept_shade=kept_shade,
        markdown=markdown,
        megabytes=megabytes,
        percent=percent,
        score=score,
        shade=shade,
        spread=spread,
        svg=Markup,
        whole=whole,
    )
    return found


def render(template: str, language: str = "en", **values: Any) -> str:
    """Fill in a template of the folder `templates`; values are escaped in HTML."""
    return _templates(language).get_template(template).render(values)
