"""In which language pages speak: a phrase in English is its own key."""

import os
from collections.abc import Callable

from pruneloop.report.korean import KOREAN

Translate = Callable[[str], str]
"""From an English phrase to that of the page."""


def spoken(language: str) -> str:
    """Return the language meant by `auto`: Korean where the locale is, else English."""
    if language != "auto":
        return language
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return "ko" if locale.lower().startswith("ko") else "en"


def translate(language: str) -> Translate:
    """Return what translates phrases into a language, `en` or `ko`."""
    return (lambda phrase: KOREAN[phrase]) if language == "ko" else str
