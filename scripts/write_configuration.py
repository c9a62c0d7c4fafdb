"""Write docs/configuration.md: every key with its type, range, default and meaning.

    python scripts/write_configuration.py

Types and ranges come from the classes in config.py, defaults and meanings from the values
and comments in conf/. A test compares the page with what this writes.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pruneloop.command.keys import described

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
HEAD = """# Every key

Written by `scripts/write_configuration.py` from the types and ranges in `config.py` and the
values and comments in `conf/`. A key is set as `KEY=VALUE` on the command line, and
`pruneloop help GROUP` prints the same.

| key | value | default | meaning |
|---|---|---|---|
"""


def rows() -> Iterator[str]:
    """Yield the table's lines."""
    for key in described():
        default = "must be given" if key.default is None else f"`{key.default}`"
        allowed = key.allowed
        if re.fullmatch(r"\w+(, \w+)+", allowed):  # the names of an enum
            allowed = ", ".join(f"`{name}`" for name in allowed.split(", "))
        comment = key.meaning.replace("|", r"\|")
        yield f"| `{key.name}` | {allowed} | {default} | {comment} |"


def page() -> str:
    """Return the page."""
    return HEAD + "\n".join(rows()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
