"""Pages and cards out of templates: one file each, that needs no network to be read."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pruneloop.errors import printable

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def percent(share: float) -> str:
    """Write a fraction as a percentage."""
    return f"{share:.2%}"


def score(value: float | None) -> str:
    """Write an accuracy or the like; a dash for none."""
    return "-" if value is None else f"{value:.4f}"


def spread(value: float, deviation: float | None) -> str:
    """Write a mean, with its standard deviation if it has one."""
    return score(value) + ("" if deviation is None else f" ± {score(deviation)}")


def megabytes(size: float) -> str:
    """Write a size in bytes in millions of bytes."""
    return f"{size / 1e6:,.2f} MB"


def markdown(value: object) -> str:
    """Write what a file or a user named as text of Markdown: nothing of it is markup."""
    text = printable(" ".join(str(value).split()))
    text = re.sub(r"([\\`*_\[\]|~])|^([#+-]|\d+[.)])", r"\\\g<0>", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_TEMPLATES.filters.update(
    markdown=markdown, percent=percent, score=score, spread=spread, megabytes=megabytes, svg=Markup
)


def render(template: str, **values: Any) -> str:
    """Fill in a template of the folder `templates`; values are escaped in HTML."""
    return _TEMPLATES.get_template(template).render(values)
